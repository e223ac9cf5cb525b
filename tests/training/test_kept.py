"""Checkpoints of one run: names, links and retention, exact continuation, and a kill before any single step on the disk."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.disk import Disk, Killed
from tune_accent.base.checksums import check_folder, write_checksums
from tune_accent.base.errors import SearchChanged
from tune_accent.base.files import write_folder
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.training.kept import Kept, open_kept
from tune_accent.training.preparation import PreparedRecord
from tune_accent.training.trainer import EpochReport, train
from tune_accent.training.trial import Trial

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

DATA = PreparedRecord("request", "manifest", "splits", "cache", "backbone")


@pytest.fixture(scope="module")
def live(small_spec: Experiment, small_data: TrialData) -> Trial:
    """A trial to save; its counters are set by hand."""
    run = train(small_spec, small_data)
    run.close()
    return run.trial


def finish(kept: Kept, live: Trial, scores: list[float]) -> None:
    """Save an epoch of every score, from the one after the latest on."""
    for epoch in range(_epoch(kept.latest()) + 1, len(scores) + 1):
        best = max(scores[:epoch])
        trial = replace(live, epoch=epoch, best_score=best, stale_epochs=epoch - 1 - scores.index(best))
        kept.save(EpochReport(epoch, {"val_loss": 2.0 + epoch / 7, "score": scores[epoch - 1]}, 0.0, 0.0, trial))


def _epoch(folder: Path | None) -> int:
    match = folder and re.search(r"_epoch(\d+)_", folder.name)
    return int(match[1]) if match else 0


def there(root: Path) -> list[int]:
    return sorted(_epoch(path) for path in root.iterdir() if "_epoch" in path.name and not path.name.startswith("."))


def link(root: Path, name: str) -> int:
    target = (root / name).readlink()
    assert not target.is_absolute() and len(target.parts) == 1
    check_folder(root / name)
    return _epoch(target)


def keeping(spec: Experiment, keep: int | None, **changes: Any) -> Experiment:
    return resolve(spec, {"checkpoints.keep": keep, **changes})


@pytest.mark.parametrize(
    ("keep", "scores", "kept_epochs", "best"),
    [
        (None, [0.1, 0.3, 0.3, 0.2], [1, 2, 3, 4], 2),
        (2, [0.1, 0.3, 0.3, 0.2, 0.1], [2, 4, 5], 2),
        (1, [0.5, 0.1, 0.2], [1, 3], 1),
        (1, [0.1, 0.2, 0.3], [3], 3),
    ],
)
def test_names_links_and_retention(
    small_spec: Experiment, live: Trial, tmp_path: Path, keep: int | None, scores: list[float], kept_epochs: list[int], best: int
) -> None:
    kept = open_kept(tmp_path / "run", keeping(small_spec, keep), DATA)
    assert kept.latest() is None and not kept.finished()
    finish(kept, live, scores)
    assert there(kept.root) == kept_epochs
    assert (link(kept.root, "best"), link(kept.root, "latest")) == (best, len(scores))
    latest = kept.root / f"small_epoch{len(scores)}_loss{2 + len(scores) / 7:.4f}"
    assert kept.latest() == latest
    assert {path.name for path in latest.iterdir()} >= {"heads.safetensors", "optimizer.safetensors", "state.json"}


def test_the_end_is_known_by_epochs_or_by_patience(small_spec: Experiment, live: Trial, tmp_path: Path) -> None:
    kept = open_kept(tmp_path / "epochs", small_spec, DATA)
    finish(kept, live, [0.1, 0.2])
    assert not kept.finished()
    finish(kept, live, [0.1, 0.2, 0.1])
    assert kept.finished()
    patient = open_kept(tmp_path / "patience", resolve(small_spec, {"training.patience": 1}), DATA)
    finish(patient, live, [0.2, 0.1])
    assert patient.finished()


def test_continuing_from_latest_is_exact(small_spec: Experiment, small_data: TrialData, tmp_path: Path) -> None:
    spec = keeping(small_spec, None, **{"training.steps_per_epoch": 2})
    whole, cut = (open_kept(tmp_path / name, spec, DATA) for name in ("whole", "cut"))
    for report in train(spec, small_data):
        whole.save(report)
    run = train(spec, small_data)
    cut.save(next(run))
    run.close()
    again = open_kept(tmp_path / "cut", spec, DATA)
    for report in train(spec, small_data, again.latest()):
        again.save(report)
    assert whole.finished() and again.finished()
    assert contents(whole.root) == contents(again.root)


def contents(root: Path) -> dict[str, bytes | str]:
    """Every visible file and link below `root`."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def test_another_run_is_refused(small_spec: Experiment, tmp_path: Path) -> None:
    root = tmp_path / "run"
    open_kept(root, small_spec, DATA)
    open_kept(root, keeping(small_spec, 7, **{"tuning.slots": 3, "data.source.workers": 1}), DATA)
    with pytest.raises(SearchChanged, match=r"training\.lr: 0\.005 → 0\.01") as refused:
        open_kept(root, resolve(small_spec, {"lr": 0.01}), DATA)
    assert refused.value.fix is not None and "--out NEW" in refused.value.fix
    with pytest.raises(SearchChanged, match=r"cache: \"cache\" → \"new\""):
        open_kept(root, small_spec, replace(DATA, cache="new"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(SearchChanged, match=r"holds thesis\.txt"):
        open_kept(tmp_path / "other", small_spec, DATA)


@pytest.mark.parametrize("harm", ["damaged", "removed"])
def test_a_lost_latest_falls_back_to_the_one_before(
    small_spec: Experiment, live: Trial, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec, scores = keeping(small_spec, 2), [0.3, 0.1, 0.4]
    kept = open_kept(tmp_path / "run", spec, DATA)
    finish(kept, live, scores)
    whole = contents(kept.root)
    latest = kept.latest()
    assert latest is not None
    if harm == "removed":
        shutil.rmtree(latest)
    else:
        (latest / "state.json").write_text("{}")
    with caplog.at_level(logging.WARNING, "tune_accent"):
        again = open_kept(tmp_path / "run", spec, DATA)
    assert ("state.json is changed" in caplog.text) == (harm == "damaged")
    assert link(again.root, "latest") == 2 and not (again.root / "best").exists(), "epoch 1 was given up for epoch 3"
    finish(again, live, scores)
    assert contents(again.root) == whole


def test_a_kill_at_any_step_leaves_a_usable_folder(
    small_spec: Experiment, live: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint holds its counters alone here: the fewer files, the fewer steps."""
    spec, scores = keeping(small_spec, 1), [0.2, 0.3, 0.1]
    monkeypatch.setattr("tune_accent.training.checkpoint.save_checkpoint", counters_only)

    def work(root: Path) -> None:
        finish(open_kept(root, spec, DATA), live, scores)

    with Disk(tmp_path / "whole").on() as disk:
        work(tmp_path / "whole")
    assert len(disk.steps) > 60 and any("latest" in step for step in disk.steps)
    for number in range(len(disk.steps)):
        root = tmp_path / f"cut{number}"
        with Disk(root, number).on(), pytest.raises(Killed):
            work(root)
        _usable(root)
        work(root)
        assert contents(root) == contents(tmp_path / "whole"), disk.steps[number]
        assert not [path for path in root.rglob(".*")]


def counters_only(folder: Path, trial: Trial) -> None:
    def fill(target: Path) -> None:
        (target / "state.json").write_text(json.dumps({"epoch": trial.epoch, "stale_epochs": trial.stale_epochs}))
        write_checksums(target)

    write_folder(folder, fill)


def _usable(root: Path) -> None:
    """Whatever is visible is whole, and no link leads nowhere."""
    for name in ("latest", "best"):
        assert not (root / name).is_symlink() or (root / name).is_dir()
    for path in root.glob("[!.]*_epoch*") if root.is_dir() else ():
        check_folder(path)
