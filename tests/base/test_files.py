"""Files are whole or absent, paths stay inside, one process per folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tune_accent.base.errors import DataError, FolderInUse
from tune_accent.base.files import (
    append_line,
    canonical_json,
    folder_lock,
    inside,
    read_json,
    remove,
    remove_torn,
    sha256_bytes,
    sha256_file,
    sha256_json,
    write_bytes,
    write_file,
    write_folder,
    write_json,
    write_link,
    write_text,
)


class Torn(Exception):
    """Stands for whatever interrupts a writer."""


def tear(temporary: Path) -> None:
    """Half of the content, then the end."""
    target = temporary / "part" if temporary.is_dir() else temporary
    target.write_text("half")
    raise Torn


def test_equal_values_have_equal_hashes() -> None:
    assert canonical_json({"b": 1e-3, "a": ["é", None]}) == '{"a":["é",null],"b":0.001}'
    assert sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1}) != sha256_json({"a": 2, "b": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"loss": float("nan")})


def test_a_file_is_written_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": 1})
    assert read_json(path) == {"x": 1}
    write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode() and path.stat().st_mode & 0o777 == 0o644
    assert sha256_file(path) == sha256_bytes("é\n".encode())
    assert [entry.name for entry in path.parent.iterdir()] == ["b.json"]


def test_a_torn_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_bytes(path, b"old")
    with pytest.raises(Torn):
        write_file(path, tear)
    assert path.read_bytes() == b"old" and [entry.name for entry in tmp_path.iterdir()] == ["x"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("inf"))
    assert path.read_bytes() == b"old"


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "best"
    with pytest.raises(Torn):
        write_folder(path, tear)
    assert not list(tmp_path.iterdir())

    def fill(target: Path) -> None:
        (target / "deep").mkdir()
        (target / "deep" / "x").write_text("new")

    def fill_again(target: Path) -> None:
        (target / "y").write_text("newer")

    write_folder(path, fill)
    with pytest.raises(Torn):
        write_folder(path, tear)
    assert (path / "deep" / "x").read_text() == "new"
    write_folder(path, fill_again)
    assert [entry.name for entry in path.iterdir()] == ["y"] and [entry.name for entry in tmp_path.iterdir()] == ["best"]


def test_a_killed_writer_leaves_only_what_can_be_swept_away(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom tune_accent.base.files import write_file, write_folder\n"
        "def end(target):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "(write_file if sys.argv[1] == 'file' else write_folder)(Path(sys.argv[2]), end)\n"
    )
    for kind in ("file", "folder"):
        done = subprocess.run(
            [sys.executable, "-c", code, kind, str(tmp_path / kind)], check=False, cwd=Path(__file__).parents[2]
        )
        assert done.returncode == -signal.SIGKILL
    (tmp_path / "kept.tmp").write_text("not ours")
    assert len(list(tmp_path.iterdir())) == 3 and not (tmp_path / "file").exists() and not (tmp_path / "folder").exists()
    remove_torn(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.tmp"]


def test_lines_are_appended(tmp_path: Path) -> None:
    append_line(tmp_path / "logs" / "x.csv", "a")
    append_line(tmp_path / "logs" / "x.csv", "b\n")
    assert (tmp_path / "logs" / "x.csv").read_text() == "a\nb\n"


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": \xff}', b"\x00\x01"])
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a JSON file") as refused:
        read_json(path)
    assert refused.value.where == str(path) and refused.value.fix


def test_paths_stay_inside_their_folder(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/../b.wav") == (tmp_path / "b.wav").resolve()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    for path in ("../x", "/etc/passwd", "link/x", "a/../../x"):
        with pytest.raises(DataError, match="leaves its folder"):
            inside(tmp_path / "root", path)


def test_a_folder_has_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    code = (
        "import sys\nfrom pathlib import Path\nfrom tune_accent.base.files import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(FolderInUse, match=f"process {holder.pid} is working") as refused, folder_lock(folder, "or --name"):
            pass
        assert refused.value.where == str(folder) and "--name" in str(refused.value)
        os.kill(holder.pid, signal.SIGKILL)
    with folder_lock(folder):  # the kernel gave it back
        assert json.loads((folder / ".lock").read_text()) == os.getpid()
    with folder_lock(folder):
        pass


def test_a_link_is_replaced_and_never_missing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_text(tmp_path / "run" / name / "x", name)
        write_link(tmp_path / "run" / "latest", name)
        assert (tmp_path / "run" / "latest").readlink() == Path(name)
        assert (tmp_path / "run" / "latest" / "x").read_text() == name
    remove(tmp_path / "run" / "latest")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["one", "two"]
    write_link(tmp_path / "run" / "latest", "nowhere")
    remove(tmp_path / "run" / "latest")
    (tmp_path / "run" / ".latest.link.tmp").symlink_to("one")  # what a killed writer leaves
    remove_torn(tmp_path)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["one", "two"]
    assert (tmp_path / "run" / "one" / "x").is_file(), "what a link led to is not removed with it"
