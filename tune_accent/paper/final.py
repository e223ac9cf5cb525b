"""The last epoch of every trained run on test speakers. Whoever calls this has opened the test split.

    <root>/paper/tested/<key>.json    a checked record per configuration and seed: an interrupted call continues, a repeated one computes nothing

Checkpoints come from the search's memo; S and A are put in here, so nothing that trained is asked again. Runs in the calling process, on the first GPU where
there is one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tune_accent.base.errors import DataError
from tune_accent.base.files import sha256_json
from tune_accent.base.progress import Progress, silent
from tune_accent.base.records import load_record, save_record
from tune_accent.base.seeds import derive_seed
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import PROTOCOL_VERSION, Evaluation, Figure, evaluate
from tune_accent.paper.plan import REPEAT, with_values
from tune_accent.paper.results import Arm, TestedRun, TrainedRun
from tune_accent.paper.wrong import Turn, heard, other_accents
from tune_accent.training.protocol import protocol
from tune_accent.tuning.memo import FolderMemo

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from tune_accent.training.encode import Given, Representation
    from tune_accent.training.inputs import TrialData
    from tune_accent.training.trial import Trial

VERSION = 1  # raised whenever a record would hold something else
SPLITS = ("train", "test")
TESTING = "test speakers"


def test_runs(
    experiment: Experiment,
    root: Path,
    runs: Sequence[TrainedRun],
    arms: Sequence[Arm],
    *,
    wrong: Collection[str] = (),
    progress: Progress = silent,
) -> list[TestedRun]:
    """Measure the last epoch of every complete run on test speakers.

    Args:
        experiment: of the search.
        root: its results folder; the caller holds its lock.
        runs: what was trained; those that are not COMPLETE are left out.
        arms: configurations of the runs, by name.
        wrong: names of arms for which A is also given wrongly.
        progress: told of every run that is measured.

    Returns:
        The complete runs, in their order.

    Raises:
        DataError: a checkpoint is missing or damaged. Its epoch is forgotten then: the same command trains it again, and continues.
    """
    complete = [run for run in runs if run.state == "COMPLETE"]
    params = {arm.name: arm.params for arm in arms}
    mistaken = {run.key for run in complete if run.arm in wrong}
    specs = {run.key: resolve(experiment, with_values(params[run.arm], {REPEAT: run.repeat})) for run in complete}
    last = {run.key: len(run.reports) for run in complete}
    paths = {key: root / "paper" / "tested" / f"{key}.json" for key in last}
    names = {key: _record_key(experiment, key, last[key], key in mistaken) for key in last}
    found = {key: load_record(paths[key], names[key]) for key in last}
    missing = [key for key in last if found[key] is None]
    data = _inputs(experiment) if missing else None
    for done, key in enumerate(missing, start=1):
        assert data is not None
        with _restored(specs[key], data, FolderMemo(root), key, last[key]) as trial:
            content = _measured(specs[key], data, trial, experiment.paper.permutations, key in mistaken)
        save_record(paths[key], names[key], content)
        found[key] = content
        progress(TESTING, done, len(missing))
    return [_tested(run, found[run.key] or {}, run.arm in wrong) for run in complete]


test_runs.__test__ = False  # type: ignore[attr-defined]  # no test, whatever pytest thinks of the name


def tested_runs(
    experiment: Experiment, root: Path, runs: Sequence[TrainedRun], *, wrong: Collection[str] = ()
) -> list[TestedRun]:
    """What `test_runs` has recorded of the complete runs; nothing is measured.

    Raises:
        DataError: the record of a run is missing, damaged, or of other settings.
    """
    complete = [run for run in runs if run.state == "COMPLETE"]
    mistaken = {run.key for run in complete if run.arm in wrong}
    found = []
    for run in complete:
        path = root / "paper" / "tested" / f"{run.key}.json"
        content = load_record(path, _record_key(experiment, run.key, len(run.reports), run.key in mistaken))
        if content is None:
            raise DataError(
                "the figures of a run on test speakers are missing or damaged", str(path), "the same command measures it again"
            )
        found.append(_tested(run, content, run.arm in wrong))
    return found


def _record_key(experiment: Experiment, key: str, epoch: int, wrong: bool) -> str:
    """The memo's key stands for configuration, seeds and data."""
    how = {"permutations": experiment.paper.permutations, "wrong": wrong, "protocol": PROTOCOL_VERSION, "version": VERSION}
    return sha256_json({"run": key, "epoch": epoch, **how})


def _tested(run: TrainedRun, content: Mapping[str, Any], wrong: bool) -> TestedRun:
    return TestedRun(
        run.arm,
        run.repeat,
        run.key,
        **{name: Evaluation.from_dict(content[name]) for name in ("neutral", "given", "raw")},
        wrong={name: Figure.from_dict(figure) for name, figure in content["wrong"].items()} if wrong else {},
        loss=content["loss"],
        base_loss=content["base_loss"],
    )


def _inputs(experiment: Experiment) -> TrialData:
    from tune_accent.training.device import default_device
    from tune_accent.training.preparation import open_inputs
    from tune_accent.training.seeding import configure_torch

    configure_torch(experiment.training)
    return open_inputs(experiment, default_device())


@contextmanager
def _restored(spec: Experiment, data: TrialData, memo: FolderMemo, key: str, epoch: int) -> Iterator[Trial]:
    """The trial as its last checkpoint has it, its adapter on the backbone for the length of the block."""
    from tune_accent.training.trial import build_trial, close_trial

    trial = build_trial(spec, data)
    try:
        _load(memo, key, epoch, trial, data.device)
        trial.train(data, False)
        yield trial
    finally:
        close_trial(trial)


def _load(memo: FolderMemo, key: str, epoch: int, trial: Trial, device: torch.device) -> None:
    from tune_accent.training.checkpoint import load_checkpoint

    folder = memo.checkpoint(key, epoch)
    try:
        load_checkpoint(folder, trial, device)
        if trial.epoch != epoch:
            raise DataError(f"this is the checkpoint of epoch {trial.epoch}, not of {epoch}", str(folder))
    except DataError as error:
        memo.forget(key, epoch)
        fix = f"start the same command again: it trains epoch {epoch} of this run again, to the same bits, and continues"
        raise DataError(f"the test figures need this checkpoint: {error.what}", str(folder), fix) from error


def _measured(spec: Experiment, data: TrialData, trial: Trial, permutations: int, wrong: bool) -> dict[str, Any]:
    """The content of a record: JSON values."""
    from tune_accent.training.encode import NEUTRAL, Given, represent
    from tune_accent.training.measure import base_loss

    speech, seed = data.speech, derive_seed(spec.training_seed, "probes")
    how = protocol(spec, speech.gate_accents, speech.held_fold, permutations=permutations, score_split="test")

    def encoded(given: Given, scored: str | None) -> Representation:
        return represent(spec, data, trial.heads, splits=SPLITS, scored=scored, given=given)

    neutral = encoded(NEUTRAL, "test")
    own_voice = encoded(Given(voices=_voices(spec, data)), None)
    table = speech.table.iloc[neutral.rows].reset_index(drop=True)
    sets = {"neutral": neutral.z, "given": own_voice.z, "raw": neutral.h}
    found: dict[str, Any] = {name: evaluate(_known(z), table, how, seed).to_dict() for name, z in sets.items()}
    figures = heard(_known(neutral.z), table, _turns(spec, data, trial), how, seed) if wrong else {}
    weight = spec.objective.subtalker_weight
    return found | {
        "wrong": {name: figure.to_dict() for name, figure in figures.items()},
        "loss": neutral.loss.total(weight),
        "base_loss": base_loss(spec, data, trial, "test").total(weight),
    }


def _voices(spec: Experiment, data: TrialData) -> np.ndarray:
    """For each row that is encoded another row of its speaker; -1 elsewhere."""
    from tune_accent.training.voices import other_rows

    table = data.speech.table
    rows = np.flatnonzero(table["split"].isin(SPLITS).to_numpy())
    voices = np.full(len(table), -1, dtype=np.int64)
    voices[rows] = other_rows(table, rows, spec.training_seed, "voices of the test")
    return voices


def _turns(spec: Experiment, data: TrialData, trial: Trial) -> list[Turn]:
    """Test rows of the gate accents with A set to each other gate accent in turn; S = mean."""
    from tune_accent.training.encode import Given, represent

    speech, number = data.speech, {name: i for i, name in enumerate(data.accents)}
    turns = []
    for names in other_accents(speech.table["accent"].tolist(), speech.gate_accents):
        accents = np.array([number[name] for name in names], dtype=np.int64)
        seen = represent(spec, data, trial.heads, splits=("test",), scored=None, given=Given(accents=accents))
        chosen = speech.table.iloc[seen.rows]
        kept = chosen["accent"].isin(speech.gate_accents).to_numpy()
        own, speaker = chosen["accent"][kept].tolist(), chosen["speaker"][kept].tolist()
        turns.append(Turn(_known(seen.z)[kept], speaker, own, [names[row] for row in seen.rows[kept]]))
    return turns


def _known(values: np.ndarray | None) -> np.ndarray:
    assert values is not None
    return values
