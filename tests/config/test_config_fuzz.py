"""Twenty thousand broken YAML files, and hostile ones: each is read or refused with a `ConfigError`, never anything else, in bounded time and memory.

The documents are made by a seeded mutator, so a failing number can be run again: `document(1234)`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tune_accent.base.errors import ConfigError
from tune_accent.config.check import load_search
from tune_accent.config.document import MAX_BYTES
from tune_accent.config.load import load_experiment

REPOSITORY = Path(__file__).parents[2]
SHIPPED = sorted([*(REPOSITORY / "configs").rglob("*.yaml"), *(REPOSITORY / "search_spaces").rglob("*.yaml")])
SPACES = {path for path in SHIPPED if path.parent.name == "search_spaces"}
PIECES = (
    "1e-3", "1e400", "-.inf", ".nan", "0", "-1", "1_0", "9" * 45, "null", "~", "true", "off", "''", '""', '"\\u0000"', '"\\ud83d"', "ä", "\u2028",
    "\ufeff", "[]", "{}", "[1, 2", "{a: 1", "&a", "*a", "<<: *a", "!!python/object/apply:os.system [id]", "!!binary aGk=", "!!int 3", "!x", "? a\n: b",
    "---\n", "...\n", "- ", "|\n", ">-\n", "%YAML 1.1\n", "%TAG ! x\n", "# ", "\t", "\n", "\r", "\n\n  ", "    ", ": ", ":", ",", "'", '"', "\x00", "\x1b[31m",
    "method: grid", "method: bayes\n", "min: 1\nmax: 0\n", "distribution: q_uniform", "distribution: log_uniform", "value: x", "values: []", "q: 0",
    "parameters:", "lora_rank:", "lr: {min: 0, max: 1}", "config: {value: nowhere.yaml}", "run_cap: 0", "seed: x", "data:\n  root: ../..", "a.b.c: 1",
    "early_terminate: {type: hyperband, min_iter: 99}", "__class__", "${env}", "%s%n", "../../etc/passwd",
)  # fmt: skip


def document(number: int) -> tuple[Path, bytes]:
    """The shipped file that document `number` was made from, and its bytes."""
    chance = random.Random(number)
    source = chance.choice(SHIPPED)
    kind = chance.random()
    if kind < 0.1:
        return source, generated(chance)
    text = source.read_bytes()
    for _ in range(chance.randint(1, 5)):
        text = by_value(chance, text) if kind < 0.5 else by_bytes(chance, text)
    return source, text


def generated(chance: random.Random) -> bytes:
    """Something that was never a config: noise, or a random tree of plain values."""
    if chance.random() < 0.4:
        return chance.randbytes(chance.randint(0, 300))
    return str(yaml.safe_dump(tree(chance, 4), allow_unicode=True)).encode()


def tree(chance: random.Random, depth: int) -> Any:
    """A random value, nested up to `depth`."""
    kind = chance.randrange(4 if depth else 2)
    if kind == 2:
        return [tree(chance, depth - 1) for _ in range(chance.randrange(4))]
    if kind == 3:
        names = ["parameters", "lr", "method", "values", "min", "max", "q", "data", "model", "seed", "x", "metric", "lora_rank"]
        return {chance.choice(names): tree(chance, depth - 1) for _ in range(chance.randrange(5))}
    return chance.choice([None, True, 0, -1, 10**30, 0.5, float("nan"), float("inf"), "grid", "bayes", "", "ü", "1e-3"])


def by_value(chance: random.Random, text: bytes) -> bytes:
    """Another value, key or indentation in one line; or a line gone, doubled or moved."""
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    key, colon, _ = lines[at].partition(":")
    match chance.randrange(7):
        case 0 | 1:
            lines[at] = f"{key}: {chance.choice(PIECES)}" if colon else chance.choice(PIECES)
        case 2:
            lines[at] = lines[at].replace(key.strip(), chance.choice(PIECES), 1) if key.strip() else chance.choice(PIECES)
        case 3:
            del lines[at]
        case 4:
            lines.insert(other, lines[at])
        case 5:
            lines[at] = " " * chance.randrange(5) + lines[at].lstrip(" ")
        case 6:
            lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def by_bytes(chance: random.Random, text: bytes) -> bytes:
    """A piece cut out, doubled, or replaced; or a bit flipped."""
    start = chance.randint(0, len(text))
    end = min(len(text), start + chance.randint(0, 40))
    if chance.random() < 0.3 and text:
        place = min(start, len(text) - 1)
        return text[:place] + bytes([text[place] ^ (1 << chance.randrange(8))]) + text[place + 1 :]
    piece = chance.choice([b"", text[start:end] * 2, chance.choice(PIECES).encode("utf-8", "surrogatepass"), chance.randbytes(3)])
    return text[:start] + piece + text[end:]


def outcome(read: Callable[[Path], Any], file: Path) -> str:
    """`read`, or the refusal; every problem of it must say where it is and what it is."""
    try:
        read(file)
    except ConfigError as error:
        assert error.problems and error.exit_code == 2
        for problem in error.problems:
            assert problem.file and problem.message and (problem.line is None or problem.line >= 1)
        message = str(error)
        message.encode()  # can be shown on a terminal
        assert message.replace("\n", "").isprintable(), repr(message)
        assert len(message) < 100_000
        return message
    return "read"


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], tuple[str, float]]:
    """Read document `number` as the entries do; what came of it, and the seconds."""
    monkeypatch.chdir(REPOSITORY)

    def read(number: int) -> tuple[str, float]:
        source, data = document(number)
        file = tmp_path / source.name
        file.write_bytes(data)
        started = time.perf_counter()
        found = outcome(load_search if source in SPACES else load_experiment, file)
        return found, time.perf_counter() - started

    return read


def sweep(check: Callable[[int], tuple[str, float]], numbers: range) -> None:
    assert len(SHIPPED) >= 2 and SPACES
    longest, refused, located = 0.0, 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in numbers:
            try:
                found, seconds = check(number)
            except Exception as error:
                error.add_note(f"document({number})")
                raise
            longest, refused = max(longest, seconds), refused + (found != "read")
            located += any(f"{path.name}:" in found for path in SHIPPED)
    assert longest < 5.0
    assert 0.3 < refused / len(numbers) < 0.99, "mutations break files, and not every one"
    assert located > 0.9 * refused, "refusals name the file, and mostly the line"


def test_five_hundred_broken_files(check: Callable[[int], tuple[str, float]]) -> None:
    sweep(check, range(500))


@pytest.mark.slow
def test_twenty_thousand_broken_files(check: Callable[[int], tuple[str, float]]) -> None:
    sweep(check, range(500, 20_500))


def hostile() -> Iterator[tuple[str, bytes, str]]:
    """Name, bytes, and words of the refusal."""
    levels = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 300))
    yield "alias bomb", f"a0: &a0 [x, x]\n{levels}\n".encode(), "YAML a"
    yield "recursive alias", b"a: &a\n  b: *a\n", "YAML a"
    yield "merge bomb", b"a: &a {x: 1}\n" + b"".join(b"b%d: &b%d {<<: [*a, *a]}\n" % (i, i) for i in range(900)), "YAML a"
    yield "deep lists", b"a: " + b"[" * 400_000, "nested deeper"
    yield "deep maps", b"{a: " * 200_000, "nested deeper"
    yield "deep blocks", b"".join(b" " * i + b"a:\n" for i in range(1300)), "nested deeper"
    yield "duplicate keys", b"seed: 1\n" * 2900, "given twice"
    yield "python object", b"seed: !!python/object/apply:os.system ['touch pwned']\n", "tags"
    yield "python name", b"? !!python/name:os.system\n: 1\n", "tags"
    yield "python tuple as key", b"? !!python/tuple [1, 2]\n: 1\n", "plain name"
    yield "too large", b"# x\n" * (MAX_BYTES // 4 + 1), "larger than 1 MB"
    yield "many values", b"a: [" + b"1," * 400_000 + b"1]", "more than"
    yield "one long line", b"a: " + b"x" * 990_000, "a"
    yield "one long key", b"x" * 990_000 + b": 1", "not YAML"
    yield "long number", b"seed: " + b"9" * 900_000, "more than 40 characters"
    yield "many documents", b"---\n" * 200_000, "second document"
    yield "many anchors", b"".join(b"a%d: &x%d 1\n" % (i, i) for i in range(2900)), "anchors"
    yield "many spaces", b" " * 990_000 + b"\na: 1\n", "a"
    yield "many comments", b"#\n" * 490_000, "empty"
    yield "open quote", b'a: "' + b"x\n " * 300_000, "not YAML"
    yield "folded text", b"a: >\n" + b"  x\n\n" * 190_000, "a"
    yield "flow of commas", b"a: [" + b"," * 990_000, "not YAML"
    yield "tag directives", b"%TAG !e! tag:x,2000:\n" * 40_000 + b"---\na: 1\n", "not YAML"
    yield "colons", b"a" + b": a" * 300_000, "not YAML"
    yield "question marks", b"? " * 490_000, "plain name"
    yield "minus signs", b"- " * 490_000, "nested deeper"


HOSTILE = {name: (data, words) for name, data, words in hostile()}
MEASURE = """
import json, os, pathlib, resource, sys, time
from tune_accent.base.errors import ConfigError
from tune_accent.config.{module} import {name} as read

def measure(file):
    started = time.perf_counter()
    try:
        read(file)
    except ConfigError:
        pass
    seconds = time.perf_counter() - started
    status = pathlib.Path("/proc/self/status")  # ru_maxrss outlives exec: it would tell the memory of the test's own process
    if status.exists():
        return seconds, int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (20 if sys.platform == "darwin" else 10)

for file in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        print(json.dumps(measure(file)), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(file)
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, words = HOSTILE[name]
    file = tmp_path / "hostile.yaml"
    file.write_bytes(data)
    for read in (load_experiment, load_search):
        started = time.perf_counter()
        message = outcome(read, file)
        assert message != "read" and words in message and "hostile.yaml" in message
        assert time.perf_counter() - started < 5.0
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.yaml"], "nothing was executed"


@pytest.mark.slow
@pytest.mark.parametrize(("module", "read"), [("load", "load_experiment"), ("check", "load_search")])
def test_hostile_files_cost_little(tmp_path: Path, module: str, read: str) -> None:
    """Each in a process of its own, for the memory: the limits are 1 s and 200 MB; the time is not asserted so tightly."""
    files = [tmp_path / f"{number}.yaml" for number in range(len(HOSTILE))]
    for file, (data, _) in zip(files, HOSTILE.values(), strict=True):
        file.write_bytes(data)
    command = [sys.executable, "-c", MEASURE.format(module=module, name=read), *map(str, files)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name, line in zip(HOSTILE, done.stdout.splitlines(), strict=True):
        seconds, peak = json.loads(line)
        assert seconds < 5.0 and 0 < peak < 200, f"{name}: {seconds:.2f} s, {peak:.0f} MB"
