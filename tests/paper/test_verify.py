"""A results folder that was moved still verifies, and every single number that is edited in it is found and named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tuning.whole_search import Search
from tune_accent.base.files import read_json, sha256_json, write_json
from tune_accent.paper.checksums import Fault, seal, verify_checksums
from tune_accent.paper.memo_faults import memo_faults
from tune_accent.paper.recorded import recorded_search, replay
from tune_accent.paper.signature import sign, signature_faults
from tune_accent.paper.table_faults import csv_faults, json_faults, jsonl_faults
from tune_accent.paper.verify import verify_search

NUMBER = re.compile(r"\d+")
SAMPLE = 8  # numbers of a file that are edited before the whole folder is verified


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search of three trials."""
    with pytest.MonkeyPatch.context() as patch:
        search = Search(tmp_path_factory.mktemp("verified") / "lora", patch)
        assert search.launch().core.done
    return search.root


@pytest.fixture
def moved(made: Path, tmp_path: Path) -> Path:
    """The same under another name, elsewhere: without its data, its config and its space file."""
    return Path(shutil.copytree(made, tmp_path / "elsewhere"))


@pytest.fixture
def signed(moved: Path) -> Path:
    """The same with a paper folder."""
    request, spec = recorded_search(moved)
    sign(moved, [trial.key for trial in replay(request, spec).trials])
    write_json(moved / "paper" / "table.json", {"accent_f1": 0.5125, "n": 12})
    seal(moved / "paper")
    return moved


def faults_of(root: Path) -> list[Fault]:
    """As `--verify` asks."""
    return [*verify_search(root), *verify_checksums(root / "paper")]


def edits(text: str, most: int | None = None) -> Iterator[str]:
    """`text` with the last digit of one number changed, for every number of it, or for about `most` that are spread over it."""
    found = list(NUMBER.finditer(text))
    for match in found[:: 1 if most is None else max(1, len(found) // most)]:
        last = match.end() - 1
        yield f"{text[:last]}{(int(text[last]) + 1) % 10}{text[last + 1 :]}"


def every_edit_is_found(file: Path, faults: Callable[[], list[Fault]], most: int = SAMPLE) -> int:
    """Edit each number of `file` in turn; how many there were."""
    whole, count = file.read_text(), 0
    for count, text in enumerate(edits(whole, most), 1):
        file.write_text(text)
        assert faults(), (
            f"{file.name}: {next(a + b for a, b in zip(whole, text, strict=True) if a != b)} at {count} was not found"
        )
    file.write_text(whole)
    assert not faults()
    return count


def test_a_moved_folder_verifies_and_is_left_as_it_was(moved: Path) -> None:
    before = {path: path.read_bytes() for path in moved.rglob("*") if path.is_file()}
    assert verify_search(moved) == []
    assert {path: path.read_bytes() for path in moved.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["trials.csv", "best.json", "epochs.jsonl", "spec.sha256", "spec.yaml"])
def test_edited_numbers_of_a_search_are_found(moved: Path, name: str) -> None:
    covered = r"^  (?:lr|batch_size|epochs|accent_weight|clip|seed): .*$"  # of spec.yaml: a part of the search's identity
    text = (moved / name).read_text()
    if name == "spec.yaml":
        part = re.search(covered, text, re.MULTILINE)
        assert part is not None
        (moved / name).write_text(text.replace(part[0], next(edits(part[0]))))
        assert verify_search(moved)
    else:
        assert every_edit_is_found(moved / name, lambda: verify_search(moved)) >= 5


@pytest.mark.parametrize(
    ("name", "compare", "least"),
    [("trials.csv", csv_faults, 60), ("best.json", json_faults, 80), ("epochs.jsonl", jsonl_faults, 200)],
)
def test_every_single_number_is_compared(
    made: Path, name: str, compare: Callable[[str, str, str], list[Fault]], least: int
) -> None:
    whole = (made / name).read_text()
    told = [compare(name, whole, text) for text in edits(whole)]
    assert len(told) >= least and all(told) and compare(name, whole, whole) == []
    assert all("should be" in faults[0].what and "edited" not in faults[0].what for faults in told), "the number is named"


def test_every_number_of_the_memo_is_under_its_checksum(made: Path, moved: Path) -> None:
    request, _ = recorded_search(made)
    files = [*sorted((moved / "trials").glob("*/0001.json")), moved / "suggestions" / "00001.json"]
    assert every_edit_is_found(files[0], lambda: memo_faults(moved, request.space), 30) >= 30
    assert every_edit_is_found(files[-1], lambda: memo_faults(moved, request.space), 100) >= 7
    files[-1].write_text(next(edits(files[-1].read_text())))
    assert [fault.file for fault in verify_search(moved)] == ["suggestions/00001.json"]


@pytest.mark.parametrize(
    "name", ["spec.yaml", "environment.json", "timing.csv", "trials.csv", "best/README.md", "best/base.json"]
)
def test_every_number_of_every_file_is_under_the_signature(signed: Path, name: str) -> None:
    assert every_edit_is_found(signed / name, lambda: signature_faults(signed) + verify_checksums(signed / "best"), 1000) >= 1
    (signed / name).write_text(next(edits((signed / name).read_text())))
    assert name in {fault.file for fault in faults_of(signed)}


@pytest.mark.parametrize("name", ["search.sha256.json", "table.json", "checksums.json"])
def test_every_number_of_the_paper_is_under_its_seal(signed: Path, name: str) -> None:
    assert every_edit_is_found(signed / "paper" / name, lambda: verify_checksums(signed / "paper"), 1000) >= 2


def test_row_line_and_key_are_named(moved: Path) -> None:
    rows = (moved / "trials.csv").read_text().splitlines(keepends=True)
    place = rows[0].split(",").index("accent_f1")
    cells = rows[2].split(",")
    was, cells[place] = cells[place], "0.99"
    (moved / "trials.csv").write_text("".join([*rows[:2], ",".join(cells), *rows[3:]]))
    assert verify_search(moved) == [Fault("trials.csv", f"line 3: trial 1: accent_f1: should be {was}, is 0.99")]


def test_a_line_of_epochs_and_a_key_of_best_are_named(moved: Path) -> None:
    lines = (moved / "epochs.jsonl").read_text().split("\n")
    lines[1] = lines[1].replace('"val_loss": 5.0', '"val_loss": 4.0')
    (moved / "epochs.jsonl").write_text("\n".join(lines))
    best = read_json(moved / "best.json")
    best["metrics"]["evaluation"]["used"]["draws"] = 9
    write_json(moved / "best.json", best)
    assert [str(fault) for fault in verify_search(moved)] == [
        "epochs.jsonl: line 2: trial 1, epoch 1: val_loss: should be 5.0, is 4.0",
        "best.json: metrics.evaluation.used.draws: should be 1, is 9",
    ]


def test_rows_that_are_missing_or_too_many_are_found(moved: Path) -> None:
    table, epochs = moved / "trials.csv", moved / "epochs.jsonl"
    table.write_text("\n".join(table.read_text().split("\n")[:-2]) + "\n")
    epochs.write_text(epochs.read_text() + epochs.read_text().split("\n")[0] + "\n")
    told = [str(fault) for fault in verify_search(moved)]
    assert told[0].startswith("trials.csv: line 4") and "should not be there" in told[-1]


def test_a_consistent_lie_in_the_memo_shows_in_what_is_derived(moved: Path) -> None:
    file = next(iter(sorted((moved / "trials").glob("*/0003.json"))))
    content = read_json(file)
    content["metrics"]["score"] = 0.75
    content["sha256"] = sha256_json({name: value for name, value in content.items() if name != "sha256"})
    write_json(file, content)
    assert any("score: should be 0.75" in fault.what for fault in verify_search(moved))


def test_another_text_for_the_same_number_is_an_edit(moved: Path) -> None:
    file = moved / "suggestions" / "00000.json"
    text = file.read_text()
    number = next(match[0] for match in re.finditer(r"\d\.\d+", text))
    file.write_text(text.replace(number, number + "0"))
    assert [fault.file for fault in verify_search(moved)] == ["suggestions/00000.json"]


def test_a_flipped_bit_of_weights_is_found(moved: Path) -> None:
    for file in [moved / "best" / "adapter_model.safetensors", *sorted((moved / "trials").glob("*/0003/heads.safetensors"))[:1]]:
        whole = file.read_bytes()
        file.write_bytes(bytes([*whole[:-3], whole[-3] ^ 1, *whole[-2:]]))
        assert next(fault.file for fault in verify_search(moved)) == file.relative_to(moved).as_posix()
        file.write_bytes(whole)
    assert not verify_search(moved)


def test_best_must_be_the_checkpoint_of_the_best_trial(moved: Path) -> None:
    from tune_accent.base.checksums import write_checksums

    (moved / "best" / "heads.safetensors").write_text('"others"')
    write_checksums(moved / "best")
    found = verify_search(moved)
    assert [fault.file for fault in found] == ["best/heads.safetensors"] and "is not that of the checkpoint trials/" in found[
        0
    ].what


@pytest.mark.parametrize(
    "name", ["spec.yaml", "spec.sha256", "environment.json", "trials.csv", "epochs.jsonl", "best.json", "best"]
)
def test_what_is_gone_is_missed(moved: Path, name: str) -> None:
    path = moved / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert verify_search(moved)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", '{"sha256": 1}'])
def test_files_that_make_no_sense_are_faults_and_no_tracebacks(signed: Path, text: str) -> None:
    names = ["spec.yaml", "spec.sha256", "environment.json", "best.json", "epochs.jsonl", "trials.csv", "timing.csv"]
    names += ["suggestions/00000.json", "best/checksums.json", "paper/search.sha256.json", "paper/checksums.json"]
    names += [
        str(next(iter(sorted((signed / "trials").glob(pattern)))).relative_to(signed))
        for pattern in ("*/0001.json", "*/0003/checksums.json")
    ]
    for name in names:
        whole = (signed / name).read_bytes()
        (signed / name).write_text(text)
        assert faults_of(signed), name
        (signed / name).write_bytes(whole)


def test_times_that_cannot_be_are_found_without_a_signature(moved: Path) -> None:
    file = moved / "timing.csv"
    whole = file.read_text()
    for change, why in (("nan", "seconds is 'nan'"), ("-1", "seconds is '-1'")):
        rows = whole.split("\n")
        cells = rows[1].split(",")
        cells[5] = change
        file.write_text("\n".join([rows[0], ",".join(cells), *rows[2:]]))
        assert verify_search(moved) == [Fault("timing.csv", f"line 2: {why}")]
    file.write_text(whole.replace("\n1,1,1,", "\n1,1,9,"))
    assert verify_search(moved) == [Fault("timing.csv", "line 3: epoch 9 is none of 1 … 3")]


def test_an_interrupted_search_verifies_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(tmp_path / "lora", monkeypatch)
    search.launch()
    (search.root / "best.json").unlink()
    shutil.rmtree(search.root / "best")
    last = recorded_search(search.root)
    best = replay(*last).best()
    assert best is not None
    shutil.rmtree(search.root / "trials" / best.key)
    told = {fault.file for fault in verify_search(search.root)}
    assert told >= {"trials.csv"}, "a lost trial shows in the table"
