"""Truncated files and flipped bits: the memo and the checkpoints are recovered to the same bits, or refused with the place; never silently different."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.tuning.whole_search import Search
from tune_accent.base.checksums import NAME, check_folder, write_checksums
from tune_accent.base.errors import DataError
from tune_accent.base.files import canonical_json, read_json, write_json
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.tuning.memo import FolderMemo

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData
    from tune_accent.training.trial import Trial

pytest.importorskip("torch")
FLIPS = 1000  # of the memo, and as many of checkpoints


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_logger: logging.Logger) -> Search:
    """A finished search."""
    made = Search(tmp_path / "results", monkeypatch)
    made.launch()
    return made


def best_files(search: Search) -> list[Path]:
    """Memo files and checkpoint files of the trial that ran its full length, newest epoch last."""
    folder = max((search.root / "trials").iterdir(), key=lambda folder: len(list(folder.glob("*.json"))))
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flipped(data: bytes, generator: np.random.Generator) -> bytes:
    bits = bytearray(data)
    bits[generator.integers(len(bits))] ^= 1 << int(generator.integers(8))
    return bytes(bits)


def test_every_truncation_of_the_newest_memo_file(search: Search, caplog: pytest.LogCaptureFixture) -> None:
    path = next(path for path in best_files(search) if path.name == "0003.json")
    memo, key = FolderMemo(search.root), path.parent.name
    whole, reports = path.read_bytes(), memo.reports(key)
    assert len(reports) == 3 and len(whole) < 10_000
    logging.getLogger("tune_accent").propagate = True
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        caplog.clear()
        found = memo.reports(key)
        if length == len(whole) - 1:  # only the newline at the end is gone
            assert found == reports
        else:
            assert found == reports[:2] and str(path) in caplog.text


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_search_with_a_truncated_newest_epoch_is_mended(
    search: Search, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    before, trained = search.result(), search.trained
    path = next(path for path in best_files(search) if path.name == "0003.json")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    search.launch()
    assert search.result() == before and search.trained == trained + 1 and f"{path} is damaged" in capsys.readouterr().err


def test_bit_flips_in_the_memo(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    memo, generator = FolderMemo(search.root), np.random.default_rng(11)
    files = [path for folder in ("trials", "suggestions") for path in sorted((search.root / folder).rglob("*.json"))]
    files = [path for path in files if path.parent.name == "suggestions" or path.parent.parent.name == "trials"]
    contents = {path: path.read_bytes() for path in files}
    keys = {path.parent.name for path in files if path.parent.name != "suggestions"}
    reports, draws = {key: list(memo.reports(key)) for key in keys}, [memo.suggestion(number) for number in range(3)]
    monkeypatch.setattr(logging.getLogger("tune_accent.tuning.memo"), "disabled", True)
    noticed = 0
    for _ in range(FLIPS):
        path = files[generator.integers(len(files))]
        path.write_bytes(flipped(contents[path], generator))
        if path.parent.name == "suggestions":
            found, known = memo.suggestion(int(path.stem)), draws[int(path.stem)]
            assert found in (None, known)
            noticed += found is None
        else:
            key, epoch = path.parent.name, int(path.stem)
            whole = canonical_json(memo.reports(key))
            assert whole in (canonical_json(reports[key]), canonical_json(reports[key][: epoch - 1]))
            noticed += whole != canonical_json(reports[key])
        path.write_bytes(contents[path])
    assert noticed > 0.5 * FLIPS, "most flips matter; the others are in the spaces of the JSON"


def test_bit_flips_anywhere_in_a_search_are_mended(search: Search) -> None:
    """The whole way, for some: memo, checkpoints and best/ at once, launched again."""
    before, generator = search.result(), np.random.default_rng(12)
    aside = search.root.with_name("aside")
    shutil.copytree(search.root, aside)
    for _ in range(8):
        folder = search.root / ["trials", "trials", "suggestions", "best"][generator.integers(4)]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = files[generator.integers(len(files))]
        path.write_bytes(flipped(path.read_bytes(), generator))
        if generator.random() < 0.5:  # the search had not ended yet: its newest epoch must be trained from what is left
            next(path for path in best_files(search) if path.name == "0003.json").unlink(missing_ok=True)
            shutil.rmtree(next(iter(search.root.glob("trials/*/0003"))))
        search.launch()
        search.launch()
        after = search.result()
        assert {name: text for name, text in after.items() if "trials/" not in name} == {
            name: text for name, text in before.items() if "trials/" not in name
        }
        shutil.rmtree(search.root)
        shutil.copytree(aside, search.root)


def test_a_checkpoint_without_its_report_is_written_again(search: Search) -> None:
    before, trained = search.result(), search.trained
    next(path for path in best_files(search) if path.name == "0003.json").unlink()
    search.launch()
    assert search.result() == before and search.trained == trained + 1


def test_a_folder_knows_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_json(folder / "deep" / "a.json", 1)
    write_json(folder / "b.json", 2)
    write_checksums(folder)
    check_folder(folder)
    for damage, words in (
        (lambda: (folder / "b.json").write_text("3"), r"b\.json is changed"),
        (lambda: (folder / "b.json").unlink(), r"b\.json is missing"),
        (lambda: (folder / "b.json").rename(folder / "c.json"), r"b\.json is missing"),
        (lambda: (folder / "d.json").write_text("2"), r"d\.json is new"),
        (lambda: (folder / NAME).write_text("[]"), r"checksums\.json is none"),
        (lambda: (folder / NAME).unlink(), "cannot be read"),
        (lambda: (folder / NAME).write_text("{"), "not a JSON file"),
        (lambda: shutil.rmtree(folder), "cannot be read"),
    ):
        shutil.copytree(folder, tmp_path / "aside")
        damage()
        with pytest.raises(DataError, match=words) as caught:
            check_folder(folder)
        assert str(folder) in str(caught.value) and caught.value.fix
        shutil.rmtree(folder, ignore_errors=True)
        (tmp_path / "aside").rename(folder)


@pytest.fixture(scope="module")
def checkpoint(small_spec: Experiment, small_data: TrialData, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real one, after a real epoch."""
    from tune_accent.training.checkpoint import save_checkpoint
    from tune_accent.training.trainer import train

    run = train(resolve(small_spec, {"lora_rank": 2}), small_data)
    report = next(run)
    folder = tmp_path_factory.mktemp("checkpoint") / "0001"
    save_checkpoint(folder, report.trial)
    run.close()
    yield folder


def test_bit_flips_in_a_checkpoint(checkpoint: Path, small_spec: Experiment, small_data: TrialData) -> None:
    """Every flip goes to the loader that training continues with: refused before the trial is touched, or loaded to the same bits."""
    from tune_accent.training.checkpoint import load_checkpoint
    from tune_accent.training.trial import build_trial, close_trial

    trial = build_trial(resolve(small_spec, {"lora_rank": 2}), small_data)
    untouched, generator = _state(trial), np.random.default_rng(13)
    load_checkpoint(checkpoint, trial, small_data.device)
    right = _state(trial)
    assert right != untouched and trial.epoch == 1
    close_trial(trial)
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    contents = {path: path.read_bytes() for path in files}
    trial = build_trial(resolve(small_spec, {"lora_rank": 2}), small_data)
    refused = 0
    for count in range(FLIPS):
        path = files[count % len(files)]
        path.write_bytes(flipped(contents[path], generator))
        try:
            load_checkpoint(checkpoint, trial, small_data.device)
            assert path.name == NAME, "only the spaces of the checksums themselves may change"
            assert _state(trial) == right
            close_trial(trial)
            trial = build_trial(resolve(small_spec, {"lora_rank": 2}), small_data)
        except DataError as error:
            assert str(checkpoint) in str(error) and error.fix
            assert _state(trial) == untouched
            refused += 1
        path.write_bytes(contents[path])
    assert refused > 0.9 * FLIPS
    close_trial(trial)


@pytest.mark.parametrize("name", ["epoch", "step", "best_score", "stale_epochs", "grad_norm"])
@pytest.mark.parametrize("value", [None, "1", -1, 1.5, True, [], {}, 10**400])
def test_counters_of_another_kind_are_refused(
    checkpoint: Path, small_spec: Experiment, small_data: TrialData, tmp_path: Path, name: str, value: object
) -> None:
    """With checksums that are right: another version's, or edited."""
    from tune_accent.training.checkpoint import load_checkpoint
    from tune_accent.training.trial import build_trial, close_trial

    right = name in ("best_score", "grad_norm") and (value is None or isinstance(value, float))
    folder = tmp_path / "0001"
    shutil.copytree(checkpoint, folder)
    write_json(folder / "state.json", {**read_json(folder / "state.json"), name: value})
    write_checksums(folder)
    trial = build_trial(resolve(small_spec, {"lora_rank": 2}), small_data)
    try:
        before = _state(trial)
        if right:
            load_checkpoint(folder, trial, small_data.device)
            assert getattr(trial, name) == value
        else:
            with pytest.raises(DataError, match=f"checkpoint cannot be read: {name} is") as caught:
                load_checkpoint(folder, trial, small_data.device)
            assert str(folder) in str(caught.value) and "continues from the one before" in str(caught.value)
            assert _state(trial) == before
    finally:
        close_trial(trial)


def _state(trial: Trial) -> dict[str, object]:
    """Weights, optimizer and counters."""
    from tune_accent.training.checkpoint import COUNTERS

    steps = {
        f"{name}.{index}.{key}": value.numpy().tobytes()
        for name, optimizer in (("main", trial.optimizer), ("adversary", trial.adversary_optimizer))
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    return {**_weights(trial), **steps, **{name: getattr(trial, name) for name in COUNTERS}}


def _weights(trial: Trial) -> dict[str, bytes]:
    from tune_accent.training.checkpoint import adapter_tensors

    heads = {name: value for name, module in trial.heads.modules().items() for name, value in module.state_dict().items()}
    return {name: value.numpy().tobytes() for name, value in {**adapter_tensors(trial), **heads}.items()}
