"""The cheap form of the control experiment, on hidden states: the codes, texts and S of real test utterances, and A swapped.

z is read off the speaker's own recorded frames. This tells whether A reaches the representation at all, and how far it overrides what was spoken; it never
stands for what is generated (control.py). Whoever calls this has opened the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tune_accent.base.errors import DataError
from tune_accent.base.progress import Progress, silent
from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import Figure
from tune_accent.evaluation.bootstrap import SHARE
from tune_accent.paper.accent_probe import AccentProbe, fit_accent_probe
from tune_accent.paper.speaker_means import SpeakerMeans
from tune_accent.training.checkpoint import load_checkpoint
from tune_accent.training.encode import Given, Representation, represent
from tune_accent.training.inputs import TrialData
from tune_accent.training.protocol import protocol
from tune_accent.training.seeding import configure_torch
from tune_accent.training.trial import Trial, build_trial, close_trial

SWAPPING = "swapping A"
KINDS = ("z", "h")


def hidden_control(
    spec: Experiment, data: TrialData, checkpoint: Path, *, seed: int, progress: Progress = silent
) -> dict[str, Figure]:
    """Restore a trained run, and measure it as `swapped`.

    Args:
        spec: the run's own experiment, as it was trained.
        data: its inputs; the backbone without adapter.
        checkpoint: folder of its last epoch.
        seed: of probes and resamples.
        progress: told about passes.

    Raises:
        DataError: the checkpoint is damaged, or of another run.
    """
    configure_torch(spec.training)  # in a paper run that is continued right here, nothing has trained in this process
    trial = build_trial(spec, data)
    try:
        load_checkpoint(checkpoint, trial, data.device)
        trial.train(data, False)
        return swapped(spec, data, trial, seed=seed, progress=progress)
    finally:
        close_trial(trial)


def swapped(spec: Experiment, data: TrialData, trial: Trial, *, seed: int, progress: Progress = silent) -> dict[str, Figure]:
    """Does the accent that is heard follow A? S is the mean voice throughout, as where z is measured.

    Args:
        spec, data, trial: restored, in evaluation mode.
        seed: of probes and resamples.
        progress: told about passes.

    Returns:
        `follows`: share of test utterances heard as the accent that A is set to, over every accent; chance 1/K. `follows_other`: the same
        for accents other than the speaker's own; its chance is what A = ∅ gives. `own_kept`: share still heard as the speaker's accent where A
        is another. `own_without`: share heard as the speaker's accent with A = ∅. These by a probe fitted on train z with A = ∅; with the
        suffix `_given` by one fitted on train z with the true A, a more favourable reading; with `_h` on the pooled hidden states.
    """
    place = {name: number for number, name in enumerate(data.accents)}
    gate = sorted(data.speech.gate_accents)
    true = np.array([place[name] for name in data.speech.table["accent"]], dtype=np.int64)
    asked: list[tuple[str, Given]] = [("train", Given()), ("train", Given(accents=true)), ("test", Given())]
    asked += [("test", Given(accents=np.full_like(true, place[name]))) for name in gate]
    found = []
    for done, (split, given) in enumerate(asked, start=1):
        found.append(represent(spec, data, trial.heads, splits=(split,), scored=None, given=given))
        progress(SWAPPING, done, len(asked))
    neutral, given_true, without, *with_accent = found
    figures: dict[str, Figure] = {}
    for kind in KINDS:
        for suffix, fitted in (("", neutral), ("_given", given_true)):
            probe = _probe(spec, data, fitted, without, kind, seed)
            heard = [probe.hear(values(one, kind)) for one in (without, *with_accent)]
            table = data.speech.table.iloc[without.rows]
            own = shares(table, gate, heard[0], heard[1:], spec.evaluation.bootstrap, derive_seed(seed, "hidden resamples"))
            figures |= {f"{name}{'' if kind == 'z' else '_h'}{suffix}": figure for name, figure in own.items()}
    return figures


def values(one: Representation, kind: str) -> np.ndarray:
    """z or h, (N, D)."""
    found = one.h if kind == "h" else one.z
    if found is None or not np.isfinite(found).all():
        raise DataError(f"the {kind} of this run is not finite", "hidden control", "the run diverged: choose another")
    return found


def _probe(
    spec: Experiment, data: TrialData, fitted: Representation, scored: Representation, kind: str, seed: int
) -> AccentProbe:
    speech = data.speech
    rows = np.concatenate([fitted.rows, scored.rows])
    table = speech.table.iloc[rows].reset_index(drop=True)
    how = protocol(spec, speech.gate_accents, speech.held_fold, score_split="test", intervals=False)
    both = np.concatenate([values(fitted, kind), values(scored, kind)])
    return fit_accent_probe(both, table, how, derive_seed(seed, "hidden probe"))


def shares(
    table: pd.DataFrame,
    accents: Sequence[str],
    without: Sequence[str],
    with_accent: Sequence[Sequence[str]],
    resamples: int,
    seed: int,
) -> dict[str, Figure]:
    """`follows`, `follows_other`, `own_kept`, `own_without` of utterances that are heard once without A, and once with each accent.

    Args:
        table: N rows with `speaker` and `accent`; those of other accents are left out.
        accents: that A was set to, in the order of `with_accent`.
        without: (N,) heard with A = ∅.
        with_accent: for each accent (N,) heard.
        resamples: of speakers.
        seed: of the resamples.
    """
    speakers, own = table["speaker"].tolist(), table["accent"].tolist()
    counted = [row for row, name in enumerate(own) if name in accents]
    accent_of: Mapping[str, str] = {speakers[row]: own[row] for row in counted}
    means = SpeakerMeans(accent_of, resamples, seed)
    follows, other, kept = [], [], []
    for accent, heard in zip(accents, with_accent, strict=True):
        for row in counted:
            follows.append((speakers[row], float(heard[row] == accent)))
            if own[row] != accent:
                other.append((speakers[row], float(heard[row] == accent)))
                kept.append((speakers[row], float(heard[row] == own[row])))
    chance = 1.0 / len(accents)
    own_without = means.figure(((speakers[row], float(without[row] == own[row])) for row in counted), chance, SHARE)
    by_chance = (1.0 - (own_without.value or 0.0)) / (len(accents) - 1)
    return {
        "follows": means.figure(follows, chance, SHARE),
        "follows_other": means.figure(other, by_chance, SHARE),
        "own_kept": means.figure(kept, chance, SHARE),
        "own_without": own_without,
    }
