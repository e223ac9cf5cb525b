"""The results folder's file system: its type from mountinfo text, real locks and writes, planted faults."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tune_accent.base import files
from tune_accent.base.errors import StorageError
from tune_accent.base.files import folder_lock
from tune_accent.checking import file_system
from tune_accent.checking.file_system import check_kind, check_locks, check_space, check_writes, mount_of
from tune_accent.checking.finding import Finding

MOUNTS = """\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
28 27 0:25 / /home/ana rw,relatime - nfs4 server:/home rw,vers=4.2
29 28 0:26 / /home/ana/my\\040disk rw,relatime master:3 - ext4 /dev/sdb1 rw
30 27 0:27 / /mnt/drive rw,nosuid - fuse.rclone gdrive: rw
31 27 0:28 / /dev/shm rw - tmpfs tmpfs rw
32 27 0:29 / /mnt/over rw - nfs server:/x rw
33 27 0:30 / /mnt/over rw - xfs /dev/sdc1 rw
34 27 0:31 / /box rw - overlay overlay rw
torn line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/ray_results", "ext4"),
        ("/home/ana/ray_results", "nfs4"),
        ("/home/anabel/ray_results", "ext4"),
        ("/home/ana/my disk/ray_results", "ext4"),
        ("/mnt/drive", "fuse.rclone"),
        ("/mnt/over/x", "xfs"),
    ],
)
def test_the_longest_mount_point_holds_the_folder(path: str, kind: str) -> None:
    mount = mount_of(Path(path), MOUNTS)
    assert mount is not None and mount.kind == kind


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/", "ok", "ext4"),
        ("/home/ana", "warning", "network"),
        ("/mnt/drive", "warning", "FUSE"),
        ("/dev/shm", "warning", "in memory"),
        ("/box", "warning", "container"),
    ],
)
def test_what_loses_locks_gets_a_warning(path: str, status: str, word: str) -> None:
    mount = mount_of(Path(path), MOUNTS)
    assert mount is not None
    found = file_system.judged_kind(mount)
    assert found.status == status and word in found.found and (found.fix is None) == (status == "ok")


def test_the_kind_is_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "mountinfo"
    info.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n28 27 0:25 / {tmp_path} rw - cifs //server/share rw\n")
    monkeypatch.setattr(file_system, "MOUNTS", info)
    (found,) = check_kind(tmp_path / "not" / "there" / "yet")
    assert (found.status, "cifs" in found.found) == ("warning", True)
    monkeypatch.setattr(file_system, "MOUNTS", tmp_path / "none")
    assert [one.status for one in check_kind(tmp_path)] == ["skipped"]


def test_locks_and_writes_hold_here_and_leave_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "ray_results"
    assert [one.status for one in check_locks(folder)] == ["ok"]
    assert {one.status for one in check_writes(folder)} <= {"ok", "warning"}
    assert list(folder.iterdir()) == []


def test_a_lock_that_keeps_nobody_out_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_claim", lambda *_: None)
    (found,) = check_locks(tmp_path)
    assert found.status == "failed" and "two processes hold the same lock" in found.found


def test_two_doctors_do_not_disturb_each_other(tmp_path: Path) -> None:
    with folder_lock(tmp_path / file_system.PROBE):
        assert [one.status for one in check_locks(tmp_path)] == ["skipped"]


def test_a_rename_that_changes_an_open_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_system, "write_text", lambda path, text: path.write_text(text))
    (found,) = check_writes(tmp_path)
    assert found.status == "failed" and "not atomic" in found.found


def test_a_folder_that_cannot_be_written_is_an_error_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "ray_results").write_text("a file")
    with pytest.raises(StorageError, match="in the way"):
        list(check_writes(tmp_path / "ray_results"))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that nobody can write to")
@pytest.mark.parametrize("check", [check_locks, check_writes])
def test_what_the_system_says_against_a_folder_is_no_bug_of_ours(check: Callable[[Path], Iterator[Finding]]) -> None:
    with pytest.raises(StorageError, match="cannot be written") as caught:
        list(check(Path("/proc/none/ray_results")))
    assert "--results" in str(caught.value.fix)


@pytest.mark.parametrize(("free", "status"), [(50, "failed"), (150, "warning"), (500, "ok")])
def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    (found,) = check_space(tmp_path / "new", 100.0, "checkpoints")
    assert found.status == status
