"""A disk that is full after each of N bytes, one by one: one message and exit code 2, nothing finished is lost, and with room again the same folder.

The search is simulated on the fake clock; lock, memo, checkpoints, timing, tables and best are written by the real code. The whole driver
goes through a seeded sample of N.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.disk import Filling, State, content_of, quick_folder, state
from tests.support import small_experiment
from tests.tuning.simulated import Clock, make_core, metrics_of
from tests.tuning.whole_search import Search, remember_study
from tune_accent.base.checksums import check_folder, write_checksums
from tune_accent.base.entry import guarded
from tune_accent.base.errors import StorageError
from tune_accent.base.files import append_line, folder_lock, remove, remove_torn, write_folder, write_json
from tune_accent.config.space import Categorical, Space, Uniform
from tune_accent.models.adapter_base import adapter_base
from tune_accent.tuning.core import Grant
from tune_accent.tuning.memo import FolderMemo
from tune_accent.tuning.results import TIMING, append_timing, next_launch, write_best, write_tables

pytest.importorskip("torch")
PLENTY = 2**30
WORDS = {errno.ENOSPC: "the disk is full", errno.EIO: "input/output error", errno.EROFS: "read-only"}
EXPERIMENT = small_experiment(Path("data"))
SPACE = Space((Categorical("lora_rank", (2, 4)), Uniform("lr", 1e-3, 2e-2, log=True, q=1e-3)))


def figures(grant: Grant) -> dict[str, Any]:
    """Few and short ones: every byte of them is a search that is cut there."""
    return {
        "score": round(metrics_of({**grant.params, "leakage_weight": 1.0}, grant.key, grant.epoch)["score"], 2),
        "feasible": True,
    }


def weights(empty: Path) -> None:
    """As `save_checkpoint` fills a folder, with few bytes."""
    for name in ("adapter/adapter_model.safetensors", "heads.safetensors"):
        write_json(empty / name, "não")
    write_checksums(empty)


class NotingMemo(FolderMemo):
    """The memo in a folder, which also writes what a program and the driver write with an epoch, and notes what is finished."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.launch = next_launch(root)
        self.epochs: dict[tuple[str, int], Mapping[str, Any]] = {}
        self.draws: dict[int, Mapping[str, Any]] = {}

    def record(self, key: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        write_folder(self.checkpoint(key, epoch), weights)
        super().record(key, epoch, metrics)
        self.epochs[key, epoch] = metrics
        row = {"trial": 0, "epoch": epoch, "worker": "here:1", "started": 1.7e9, "seconds": 0.5, "peak_mb": 1.0}
        append_timing(self.root, {"launch": self.launch, **row})

    def record_suggestion(self, number: int, draw: Mapping[str, Any]) -> None:
        super().record_suggestion(number, draw)
        self.draws[number] = draw


def launched(root: Path, memo: list[NotingMemo]) -> None:
    """One launch of a search of two trials; its memo is noted even where it is cut short."""
    with folder_lock(root):
        remove_torn(root)
        memo.append(NotingMemo(root))
        core = make_core(memo[-1], SPACE, run_cap=2, slots=2, epochs=2, min_iter=1, eta=2)
        assert Clock(core, 2, outcome=figures).run()
        write_tables(root, EXPERIMENT, SPACE, core.trials)
        best = core.best()
        assert best is not None
        write_best(
            root, best, {"trial": best.number, "metrics": dict(best.reports[-1])}, "# Adaptação\n", adapter_base(EXPERIMENT, "b")
        )


def refused(launch: Callable[[], Any], root: Path, number: int) -> bool:
    """Launch as an entry does: False where nothing was refused; else one message with place and way out, and exit code 2."""
    said = io.StringIO()
    try:
        with redirect_stderr(said), guarded():
            launch()
    except SystemExit as ended:
        text = said.getvalue()
        text = text[text.index("error: ") :]
        assert ended.code == 2 and text.count("error: ") == 1 and text.startswith(f"error: {root}")
        assert f": {WORDS[number]}" in text.replace("the disk reports an ", "").replace("the file system is ", "")
        assert "\n  → " in text and "nothing is lost: the same command then continues" in text
        return True
    return False


def files(root: Path) -> dict[str, bytes]:
    """Every file by name, but for temporary ones and `timing.csv`, which tells of launches."""
    found = {}
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and name != "timing.csv":
                path = f"{folder}/{name}"
                found[path.removeprefix(f"{root}/")] = content_of(path)
    return found


def torn_lines(root: Path) -> int:
    """Lines of `timing.csv` that are not whole."""
    timing = root / "timing.csv"
    return sum(line.count(",") != len(TIMING) - 1 for line in timing.read_text().splitlines()) if timing.exists() else 0


def temporary(root: Path) -> list[str]:
    """What is being written, replaced or removed."""
    return [
        name for _, inside, names in os.walk(root) for name in (*inside, *names) if name.startswith(".") and name.endswith(".tmp")
    ]


@pytest.fixture
def quick() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


@pytest.fixture
def whole(quick: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, bytes], int]:
    """What an undisturbed search leaves, and how many bytes it writes."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # bytes are counted, and power stays on
    with Filling(quick, PLENTY).on() as disk:
        launched(quick / "whole", [])
    return files(quick / "whole"), disk.written


Known = dict[State, set[tuple[str, int]]]  # epochs that were trained to continue from what was left


def cut_after(room: int, root: Path, whole: dict[str, bytes], number: int, known: Known) -> bool:
    """A search on a disk with `room` bytes, looked at, and continued with plenty, once from the very same; whether it was refused."""
    memo: list[NotingMemo] = []
    with Filling(root, room, number).on():
        cut = refused(lambda: launched(root, memo), root, number)
    kept = FolderMemo(root)
    finished, draws = (memo[0].epochs, memo[0].draws) if memo else ({}, {})
    for (key, epoch), metrics in finished.items():
        assert kept.reports(key)[epoch - 1] == metrics
        check_folder(kept.checkpoint(key, epoch))
    assert all(kept.suggestion(trial) == draw for trial, draw in draws.items())
    assert files(root).items() <= whole.items() and torn_lines(root) <= (number == errno.EROFS)
    left = state(root)
    if left not in known:
        launched(root, memo)
        assert files(root) == whole and not temporary(root) and torn_lines(root) <= (number == errno.EROFS)
        known[left] = set(memo[-1].epochs)
    assert not finished.keys() & known[left], "what was finished is not trained again"
    shutil.rmtree(root)
    return cut


def test_the_disk_takes_what_fits_and_then_refuses(tmp_path: Path) -> None:
    lines, text = tmp_path / "root" / "lines", tmp_path / "root" / "text"
    with Filling(tmp_path / "root", 9).on() as disk:
        append_line(lines, "três")  # 6 bytes with the end of the line
        with pytest.raises(StorageError, match="the disk is full"):
            append_line(lines, "quatro")
        assert disk.written == 9 and lines.read_text() == "três\n", "what was written of the line is taken back"
        with pytest.raises(OSError, match="No space"):
            text.write_text("x")
        assert text.read_bytes() == b""
        (tmp_path / "elsewhere").write_text("x")
    half = Filling(tmp_path / "root", 3, errno.EROFS)
    with half.on(), pytest.raises(OSError, match="Read-only"):
        text.write_bytes(b"quatro")
    assert text.read_bytes() == b"qua"
    with half.on(), pytest.raises(StorageError, match="read-only"):
        remove(text)


@pytest.mark.parametrize("number", WORDS)
def test_a_disk_that_refuses_after_some_of_n_bytes(quick: Path, whole: tuple[dict[str, bytes], int], number: int) -> None:
    (content, total), known = whole, Known()
    rooms = np.random.default_rng(number).choice(total, 40, replace=False)
    for room in (0, 1, 2, *rooms.tolist(), total - 1):
        assert cut_after(room, quick / "cut", content, number, known), room
    assert not cut_after(total, quick / "cut", content, errno.ENOSPC, known), "there was room for everything"


@pytest.mark.slow
def test_a_disk_that_is_full_after_each_of_n_bytes(quick: Path, whole: tuple[dict[str, bytes], int]) -> None:
    (content, total), known = whole, Known()
    assert total > 2500
    for room in range(total):
        assert cut_after(room, quick / "cut", content, errno.ENOSPC, known), room


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_a_disk_that_breaks_after_many_of_n_bytes(quick: Path, whole: tuple[dict[str, bytes], int], number: int) -> None:
    (content, total), known = whole, Known()
    for room in range(number % 7, total, 7):
        assert cut_after(room, quick / "cut", content, number, known), room


@pytest.mark.parametrize("cuts", [3, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", WORDS)
def test_the_whole_driver_after_some_of_n_bytes(
    quick: Path, monkeypatch: pytest.MonkeyPatch, own_logger: object, number: int, cuts: int
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    remember_study(monkeypatch)
    whole = Search(quick / "whole" / "results", monkeypatch)
    with Filling(whole.root.parent, PLENTY).on() as disk:
        whole.launch()
    generator = np.random.default_rng([number, cuts])
    early = generator.integers(
        0, 60_000, cuts
    ).tolist()  # memo, checkpoints and specification; then the study, 114 KB in one file
    for room in [*early, *generator.integers(0, disk.written, cuts).tolist()]:
        cut = Search(quick / f"cut{room}" / "results", monkeypatch)
        with Filling(cut.root.parent, room, number).on():
            assert refused(cut.launch, cut.root, number)
        assert cut.torn() == []
        cut.launch()
        assert cut.result() == whole.result() and cut.leftovers() == [] and cut.trained <= whole.trained + 1
        shutil.rmtree(cut.root.parent)
