"""Every write goes through base/files.py; the few that do not are listed here, each with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tune_accent

PACKAGE = Path(tune_accent.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "base" / "files.py")
METHODS = {
    "write_text",
    "write_bytes",
    "rename",
    "unlink",
    "rmdir",
    "mkdir",
    "touch",
    "symlink_to",
    "hardlink_to",
    "chmod",
    "save_pretrained",
}
METHODS |= {"to_csv", "to_json", "to_parquet", "to_pickle", "tofile", "savefig"}
FUNCTIONS = {"os": None, "shutil": None, "tempfile": None, "pickle": None}  # None: all but the harmless ones
HARMLESS = {
    "os": {
        "cpu_count",
        "environ",
        "getpid",
        "getenv",
        "_exit",
        "kill",
        "path",
        "sched_getaffinity",
        "devnull",
        "O_WRONLY",
        "dup",
        "dup2",
        "close",
        "fspath",
        "fork",
        "waitpid",
        "waitstatus_to_exitcode",
    }
}
HARMLESS |= {"shutil": {"which", "get_terminal_size", "disk_usage"}, "tempfile": {"gettempdir"}, "pickle": set()}
BARE = {"save_file", "serialize_file", "memmap", "FileHandler", "NamedTemporaryFile", "SummaryWriter", "Tee"}
FILLS = {"write_file", "write_folder"}  # what is written inside their `fill` becomes visible whole or not at all

ALLOWED = {
    ("base/log.py", "FileHandler"): "a log is appended by `logging` and never read back",
    ("data/manifest.py", "to_json"): "a method of ours that returns a line",
    ("data/cached_table.py", "np.save"): "in functions that the fill of write_folder in data/prepared.py calls",
    ("data/cached_table.py", "open"): "in a class that the fill of write_folder in data/prepared.py uses",
    ("data/preparing.py", "np.save"): "in functions that the fill of write_folder in data/prepared.py calls",
    ("data/sources/espeak.py", "tempfile.TemporaryFile"): "the messages of a process, without a name on the disk",
    ("data/sources/espeak_worker.py", "open"): "a wave file in memory",
    ("data/sources/espeak_worker.py", "os.write"): "an answer to a pipe",
    ("models/qwen_import.py", "os.open"): "/dev/null in the place of stderr",
    ("models/tiny.py", "save_pretrained"): "in a function that its fill of write_folder calls",
    ("reporting/figures.py", "savefig"): "a picture in memory",
    ("tuning/ray_adapter.py", "shutil.rmtree"): "Ray's scratch",
    ("tuning/ray_session.py", "os.isatty"): "the terminal",
    ("tuning/ray_session.py", "os.write"): "a last line to the terminal, from a signal handler",
    ("tuning/ray_session.py", "shutil.rmtree"): "Ray's session folder, outside the results folder",
    ("tuning/ray_session.py", "tempfile.mkdtemp"): "Ray's session folder, outside the results folder",
}


def writes(path: Path) -> Iterator[tuple[str, int]]:
    """Name and line of every call in a module that can change the disk, but for those inside fills."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(call) for function in fills(tree) for call in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in inside and (name := changes_disk(node)):
            yield name, node.lineno
        if isinstance(node, ast.ClassDef):
            bases = (base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases)
            yield from ((base, node.lineno) for base in bases if base in BARE)


def fills(tree: ast.Module) -> Iterator[ast.AST]:
    """The functions and lambdas that are given to `write_file` or `write_folder`."""
    named = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FILLS:
            fill = node.args[1]
            yield named[fill.id] if isinstance(fill, ast.Name) else fill


def changes_disk(call: ast.Call) -> str | None:
    """What a call does to the disk, by name."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id if function.id in BARE or (function.id == "open" and _opens(call, 1)) else None
    if not isinstance(function, ast.Attribute):
        return None
    owner, name = function.value, function.attr
    if isinstance(owner, ast.Name) and owner.id in FUNCTIONS:
        return None if name in HARMLESS[owner.id] else f"{owner.id}.{name}"
    if name == "replace" and len(call.args) == 1 and not call.keywords and not _is_module(owner, "dataclasses"):
        return name
    if name == "open" and _opens(call, 0) and not _is_class(owner):
        return name
    if name == "save" and isinstance(owner, ast.Name) and owner.id in {"np", "torch"}:
        return f"{owner.id}.save"
    return name if name in METHODS | BARE else None


def _opens(call: ast.Call, place: int) -> bool:
    """Whether the mode of an `open` is one that writes, or cannot be told."""
    modes = [*call.args[place : place + 1], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    if not modes:
        return False
    mode = modes[0].value if isinstance(modes[0], ast.Constant) else None
    return not isinstance(mode, str) or bool(set(mode) & set("wax+"))


def _is_class(node: ast.expr) -> bool:
    """A class of ours whose `open` is a constructor; `Path` is none."""
    return isinstance(node, ast.Name) and node.id[:1].isupper() and node.id != "Path"


def _is_module(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_writes_through_files_only(path: Path) -> None:
    own = str(path.relative_to(PACKAGE))
    found = [f"{own}:{line}: {name}" for name, line in writes(path) if (own, name) not in ALLOWED]
    assert not found, "\n".join(["this goes round base/files.py; use it, or say here why not:", *found])


def test_every_exception_is_still_needed() -> None:
    used = {(str(path.relative_to(PACKAGE)), name) for path in MODULES for name, _ in writes(path)}
    assert not set(ALLOWED) - used, "remove these"


@pytest.mark.parametrize(
    "code",
    [
        "open('x', 'w')",
        "open('x', mode='ab')",
        "path.open('r+')",
        "path.open(mode)",
        "path.write_text('x')",
        "path.replace(other)",
        "Path('x').rename('y')",
        "os.replace('x', 'y')",
        "shutil.rmtree('x')",
        "shutil.copyfile('x', 'y')",
        "save_file({}, 'x')",
        "torch.save({}, 'x')",
        "np.save('x', y)",
        "class Log(logging.FileHandler): pass",
        "frame.to_csv('x')",
        "def other(): path.unlink()",
        "def fill(x): pass\nwrite_file(path, fill)\nsave_file({}, 'x')",
        "write_folder(path, lambda x: None)\npath.mkdir()",
    ],
)
def test_the_walk_sees_a_write(code: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(code)
    assert len(list(writes(tmp_path / "module.py"))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "open('x')",
        "path.open('rb')",
        "Codec.open(folder)",
        "text.replace('a', 'b')",
        "dataclasses.replace(x)",
        "os.getpid()",
        "def fill(x):\n    (x / 'y').write_text('z')\nwrite_folder(path, fill)",
        "write_file(path, lambda x: save_file({}, x))",
    ],
)
def test_the_walk_lets_pass_what_is_harmless(code: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(code)
    assert not list(writes(tmp_path / "module.py"))
