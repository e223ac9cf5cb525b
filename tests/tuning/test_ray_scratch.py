"""Ray's temporary files on a disk that refuses: one message that names the folder and TMPDIR, exit code 2, and the same command goes on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.tuning.simulated import make_core, make_simulated
from tune_accent.base.entry import guarded
from tune_accent.base.errors import StorageError
from tune_accent.tuning import ray_session
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.ray_adapter import run_with_ray
from tune_accent.tuning.ray_session import LONGEST_BASE, ROOM_BYTES, Share, cluster, scratch_folder

pytestmark = pytest.mark.ray

REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "quota",
    errno.EACCES: "permission denied",
    errno.EROFS: "read-only",
    errno.EIO: "input/output error",
}


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of our own with a short path, which TMPDIR names."""
    folder = Path(f"/tmp/{os.getpid() % 10**6}")
    folder.mkdir()
    assert len(str(folder)) <= LONGEST_BASE
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    folder.rmdir()


@pytest.fixture
def small_disk(base: Path) -> Iterator[Path]:
    """The same, on a file system of 64 KB, with which Ray cannot start."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(base)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("no right to mount a file system here; refusals of every kind are tested all the same")
    yield base
    subprocess.run(["umount", str(base)], check=True)


def raising(error: BaseException) -> Any:
    def act(*_: Any, **__: Any) -> None:
        raise error

    return act


def start(root: Path) -> bool:
    """A small search with a Ray of its own."""
    core = make_core(FolderMemo(root), run_cap=2, slots=2, epochs=1, min_iter=None)
    spec = {"root": str(root), "seconds": 0.0}
    return run_with_ray(core, make_simulated, spec, workers=1, resources={"cpu": 1, "gpu": 0}, scratch=root / "scratch")


def refused(root: Path, base: Path, words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the entry says: one message with the folder, the reason and the way out; nothing is left behind."""
    with pytest.raises(SystemExit) as ended, guarded():
        start(root)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("error: ") == 1 and "Traceback" not in said
    assert said.startswith(f"error: {base}: Ray cannot keep its temporary files here: ") and words in said
    assert (
        f"set TMPDIR to another folder, of at most {LONGEST_BASE} characters" in said
        and "the same command then continues" in said
    )
    assert not ray.is_initialized() and not list(base.glob(f"{ray_session.SESSIONS}{os.getpid()}-*"))
    return said


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("step", ["mkdtemp", "write", "init"])
def test_whatever_the_disk_refuses_is_said(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, step: str
) -> None:
    error = OSError(number, os.strerror(number), str(base / "session"))
    with monkeypatch.context() as patched:
        module, name = {"mkdtemp": (tempfile, "mkdtemp"), "write": (os, "fsync"), "init": (ray, "init")}[step]
        patched.setattr(module, name, raising(error))
        core_files = FolderMemo(tmp_path)
        if step == "write":  # the search's own files go through the same call: they are there already
            patched.undo()
            make_core(core_files, run_cap=2, slots=2, epochs=1, min_iter=None).advance()
            patched.setattr(module, name, raising(error))
        refused(tmp_path, base, REFUSALS[number], capsys)


def test_a_ray_that_gives_no_reason_has_its_disk_looked_at(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is on a disk that fills up while Ray starts; where the disk is sound, Ray's own error stays."""
    silent = RuntimeError("Timed out waiting for file gcs_server_port")
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="Timed out"):
        patched.setattr(ray, "init", raising(silent))
        start(tmp_path)
    writes = iter([lambda *_: None, raising(StorageError("the disk is full", "x", "y"))])
    monkeypatch.setattr(ray_session, "write_bytes", lambda *given: next(writes)(*given))
    monkeypatch.setattr(ray, "init", raising(silent))
    refused(tmp_path, base, "the disk is full", capsys)


def test_no_temporary_folder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A single full disk, say: then `tempfile` finds no place."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "file"), str(tmp_path / "absent")])
    refused(tmp_path, Path("/tmp"), "No usable temporary directory found", capsys)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path)[:LONGEST_BASE] + "-")
    monkeypatch.setattr(Path, "is_dir", lambda path: path != Path("/tmp"))
    with pytest.raises(StorageError, match="there is no such folder"), scratch_folder():
        pass


@pytest.mark.parametrize("kind", ["absent", "file", "long"])
def test_a_tmpdir_that_cannot_be_used_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "long").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / kind))
    with scratch_folder() as folder:
        assert len(str(Path(folder).parent)) <= LONGEST_BASE and not list(Path(folder).iterdir())
    assert not Path(folder).exists()
    monkeypatch.setattr(tempfile, "mkdtemp", raising(PermissionError(errno.EACCES, "x")))
    with pytest.raises(StorageError) as caught, scratch_folder():
        pass
    assert f"(TMPDIR={tmp_path / kind} is longer, and left out)" in str(caught.value)


def test_a_disk_without_room_for_ray(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Really full, and found before Ray has waited for itself."""
    monkeypatch.setattr(ray, "init", raising(AssertionError("too late")))
    refused(tmp_path, small_disk, "the disk is full", capsys)


@pytest.mark.slow
def test_ray_starts_with_the_room_that_is_asked_for(tmp_path: Path, small_disk: Path) -> None:
    size = f"remount,size={ROOM_BYTES + 4 * 4096}"
    subprocess.run(["mount", "-o", size, str(small_disk)], check=True, capture_output=True)
    code = "import sys; from pathlib import Path; from tests.tuning.test_ray_scratch import start; sys.exit(not start(Path(sys.argv[1])))"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_cluster_that_was_joined_needs_no_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    monkeypatch.setattr(tempfile, "mkdtemp", raising(AssertionError("nothing is to be made")))
    with cluster(Share(), 1, None) as resources:
        assert resources == {"CPU": 4.0}
