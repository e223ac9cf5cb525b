"""A full, read-only or broken disk ends a search with one message and exit code 2; nothing is lost, and the same command continues."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.disk import Disk, refusal
from tests.tuning.whole_search import Search, remember_study
from tune_accent.base.entry import guarded
from tune_accent.base.errors import DataError, StorageError
from tune_accent.base.files import append_line, folder_lock, read_json, remove, write_file, write_folder, write_json, write_text
from tune_accent.base.log import log_to

pytest.importorskip("torch")
PAGE = 4096
WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EIO: "input/output error",
    errno.EROFS: "read-only",
    errno.EACCES: "permission denied",
}


class Mount:
    """A file system of its own, with as many pages as one likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._do("mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder))

    def set(self, options: str) -> None:
        self._do("mount", "-o", f"remount,{options}", str(self.folder))

    def close(self) -> None:
        self._do("umount", str(self.folder))

    def used(self) -> int:
        facts = os.statvfs(self.folder)
        return (facts.f_blocks - facts.f_bfree) * facts.f_bsize

    def _do(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    try:
        made = Mount(tmp_path / "mount")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a file system here; the shim's refusals are tested all the same")
    yield made
    made.close()


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, own_logger: object) -> Callable[[Path], Search]:
    return lambda folder: Search(folder / "results", monkeypatch)


@pytest.fixture
def remembered_study(monkeypatch: pytest.MonkeyPatch) -> None:
    remember_study(monkeypatch)


def refused(launch: Callable[[], Any], capsys: pytest.CaptureFixture[str], words: str) -> str:
    """What an entry says and how it ends when the disk refuses."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended, guarded():
        launch()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("error: ") == 1 and words in said and "→" in said, said
    assert "Traceback" not in said and "Logging error" not in said
    return said


@pytest.mark.slow
@pytest.mark.usefixtures("remembered_study")
def test_a_disk_that_is_full_after_any_number_of_pages(
    tmp_path: Path, mount: Mount, search: Callable[[Path], Search], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = search(tmp_path / "whole")
    whole.launch()
    sizes, pages, finished = 0, 2, False
    while not finished:
        mount.set("size=64m")
        cut = search(mount.folder / f"cut{pages}")
        mount.set(f"size={mount.used() + pages * PAGE}")
        try:
            cut.launch()
            finished = True
        except StorageError:
            said = refused(cut.launch, capsys, "the disk is full")  # the same command, the disk still full
            assert str(mount.folder) in said and cut.torn() == []
            mount.set("size=64m")
            cut.launch()
        assert cut.result() == whole.result() and cut.leftovers() == []
        assert cut.trained <= whole.trained + 2, "two launches were cut: an epoch each"
        remove(cut.root.parent)
        sizes, pages = sizes + 1, pages + max(1, pages // 16)
    assert sizes > 15


def test_a_folder_that_turns_read_only(
    tmp_path: Path,
    mount: Mount,
    search: Callable[[Path], Search],
    capsys: pytest.CaptureFixture[str],
    own_logger: logging.Logger,
) -> None:
    whole, new, begun = search(tmp_path / "whole"), search(mount.folder / "new"), search(mount.folder / "begun")
    whole.launch()
    with Disk(begun.root.parent, 150, refusal(errno.EIO)).on(), pytest.raises(StorageError):
        begun.launch()
    for handler in own_logger.handlers:  # as at the end of a process: an open log keeps a file system busy
        handler.close()
    mount.set("ro")
    for asked in (new, begun):
        refused(asked.launch, capsys, "read-only")
    mount.set("rw")
    for asked in (new, begun):
        asked.launch()
        assert asked.result() == whole.result()


@pytest.mark.usefixtures("remembered_study")
@pytest.mark.parametrize("number", WORDS)
def test_a_disk_that_refuses_from_some_step_on(
    tmp_path: Path, search: Callable[[Path], Search], capsys: pytest.CaptureFixture[str], number: int
) -> None:
    whole = search(tmp_path / "whole")
    with Disk(tmp_path / "whole").on() as disk:
        whole.launch()
    for step in range(list(WORDS).index(number), len(disk.steps), len(disk.steps) // 9):
        cut = search(tmp_path / f"cut{number}-{step}")
        with Disk(cut.root.parent, step, refusal(number)).on():
            said = refused(cut.launch, capsys, WORDS[number])
        assert str(tmp_path) in said and cut.torn() == []
        cut.launch()
        assert cut.result() == whole.result() and cut.leftovers() == [] and cut.trained <= whole.trained + 1


@pytest.mark.parametrize("number", WORDS)
@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_text(path, "new"),
        lambda path: write_folder(path.with_name("folder"), lambda empty: write_text(empty / "x", "new")),
        lambda path: append_line(path.with_name("lines"), "new"),
        lambda path: remove(path.with_name("folder")),
    ],
    ids=["file", "folder", "line", "remove"],
)
def test_a_refused_write_leaves_the_old_content(tmp_path: Path, write: Callable[[Path], None], number: int) -> None:
    root = tmp_path / "root"
    path, lines, folder = root / "file", root / "lines", root / "folder"
    write_text(path, "old")
    append_line(lines, "old")
    write_folder(folder, lambda empty: write_text(empty / "x", "old"))
    with Disk(root).on() as disk:
        write(path)
    steps = len(disk.steps)
    for step in range(steps):
        write_text(path, "old")
        write_text(lines, "old\n")
        write_folder(folder, lambda empty: write_text(empty / "x", "old"))
        with Disk(root, step, refusal(number)).on(), pytest.raises(StorageError, match=WORDS[number]) as caught:
            write(path)
        assert caught.value.where and caught.value.where.startswith(str(root)) and caught.value.fix
        assert path.read_text() in ("old", "new") and lines.read_text().splitlines()[0] == "old"
        assert not folder.exists() or (folder / "x").read_text() in ("old", "new")


def test_one_refusal_is_enough_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """A refusal that passes: the clean-up works, and the old folder is back at once."""

    def full(empty: Path) -> None:
        write_text(empty / "x", "half")
        raise OSError(errno.ENOSPC, "No space left on device")

    write_folder(tmp_path / "a", lambda empty: write_text(empty / "x", "old"))
    for write in (write_folder, write_file):
        with pytest.raises(StorageError, match="the disk is full"):
            write(tmp_path / "a" if write is write_folder else tmp_path / "b", full if write is write_folder else _no_space)
    assert (tmp_path / "a" / "x").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["a"]


def _no_space(path: Path) -> None:
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")  # as safetensors says it


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for attempt in (
        lambda: write_json(tmp_path / "file" / "x.json", 1),
        lambda: log_to(tmp_path / "file" / "x.log"),
        lambda: read_json(tmp_path),
    ):
        with pytest.raises(StorageError, match="in the way") as caught:
            attempt()
        assert str(tmp_path) in str(caught.value)
    with pytest.raises(StorageError), folder_lock(tmp_path / "file"):
        pass
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent")


def test_what_is_wrong_inside_a_lock_is_not_explained_away(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mine") as caught, folder_lock(tmp_path):
        raise OSError(errno.EIO, "mine")
    assert not isinstance(caught.value, StorageError | DataError)


def test_a_worker_without_space_ends_the_search_and_no_trial(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from tests.tuning.simulated import SimulatedProgram
    from tune_accent.tuning.worker import EpochTrainable

    class Full(SimulatedProgram):
        def epoch(self, *_: Any) -> Any:
            raise StorageError("the disk is full", "ray_results/x", "free some")

    worker = EpochTrainable.__new__(EpochTrainable)
    worker._program, worker._timeout_s = Full({"root": str(tmp_path)}), 60.0
    answer = worker._answer({"params": {}, "key": "k"}, 1)
    assert answer["abort"]["user"] and answer["abort"]["what"] == "the disk is full" and "failure" not in answer
