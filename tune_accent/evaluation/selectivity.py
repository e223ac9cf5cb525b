"""Selectivity (Hewitt & Liang 2019): would the probe say the same of accents that mean nothing?

Accent is a function of speaker, so a probe that only knows who speaks can name the accent of every speaker that it was fitted on. The control
task gives the same speakers the same accents at random; selectivity is the macro-F1 of true accents minus that of random ones, by the same
probe. On *unseen* speakers random accents must be at chance, and selectivity is the F1 above it. On *unseen utterances of known speakers*
they show how well the probe learns speakers by heart: there a code of speakers alone has a high F1 and no selectivity. A code of
accent alone does not bring random accents down to 1/K there: those who share an accent share some of the random ones.

Intervals cover the choice of speakers and of control tasks, with the probes held fixed; whether random accents could have done as well as
the true ones is what p says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.evaluation.accent import Confusions, accent_intervals, fit_accent, macro_f1
from tune_accent.evaluation.bootstrap import SHARE, Bounds, speaker_counts, speaker_interval
from tune_accent.evaluation.figures import Figure
from tune_accent.evaluation.leakage import eligible
from tune_accent.evaluation.probes import ROUGH, Design, blas_threads, fit
from tune_accent.evaluation.protocol import Protocol
from tune_accent.evaluation.table import Ints, Rows, read_rows

REPEATS = 20
Side = Sequence[tuple[Ints, Ints]]  # rows to fit on, rows to score: a probe each


@dataclass(frozen=True)
class Selective:
    """One side of the selectivity.

    Attributes:
        f1: macro-F1 of the true accents; its chance is the value of `control`.
        control: mean macro-F1 over the control tasks.
        selectivity: f1 - control, paired over speakers; p is the share of control tasks that reach f1, each with a probe of its own.
    """

    f1: Figure
    control: Figure
    selectivity: Figure


@dataclass(frozen=True)
class Selectivity:
    """Selectivity of one representation on unseen speakers, and on unseen utterances of known speakers.

    Attributes:
        unseen, known: the two sides.
        repeats: control tasks.
        strength: C of every probe, chosen for the true accents on train speakers.
    """

    unseen: Selective
    known: Selective
    repeats: int
    strength: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        sides = {"unseen": self.unseen, "known": self.known}
        plain = {name: {key: figure.to_dict() for key, figure in vars(side).items()} for name, side in sides.items()}
        return {**plain, "repeats": self.repeats, "strength": self.strength}


def selectivity(
    z: npt.NDArray[Any], table: pd.DataFrame, protocol: Protocol, seed: int = 0, repeats: int = REPEATS
) -> Selectivity:
    """Compare the accent probe with probes of random accents.

    Each control task permutes the accents across the gate speakers, train and scored speakers apart, so that every accent keeps its
    number of speakers. Known speakers are scored on the held fold of the protocol, or cross-fitted over all folds.

    Args:
        z: (N, D) float.
        table: N rows, as for `evaluate`.
        protocol: how to measure.
        seed: of the control tasks and the bootstrap.
        repeats: control tasks; the smallest possible p is 1/(repeats + 1). Each costs as much as a probe of the true accents or more.

    Raises:
        DataError: the input breaks a rule; the message names the speaker, accent or rows.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    rows = read_rows(z, table, protocol)
    sides: dict[str, Side] = {"unseen": [(rows.gate_rows(False), rows.gate_rows(True))], "known": _known(rows, protocol)}
    seeds = np.random.SeedSequence(seed).spawn(2)
    labellings = [_accents(rows), *_random_accents(rows, repeats, np.random.default_rng(seeds[0]))]
    with blas_threads(protocol.threads):
        strength = protocol.c_grid[fit_accent(rows, protocol, [])[1]]
        found = {
            name: _compare(_confusions(rows, side, labellings, strength), protocol, seeds[1]) for name, side in sides.items()
        }
    return Selectivity(**found, repeats=repeats, strength=strength)


def _known(rows: Rows, protocol: Protocol) -> Side:
    """Other folds and scored fold of the train speakers that have both."""
    able = np.concatenate(list(eligible(rows, protocol, scored=False).values()))
    at = rows.gate_rows(scored=False)
    at = at[(rows.fold[at] >= 0) & np.isin(rows.speaker[at], able)]
    folds = np.unique(rows.fold[at]) if protocol.held_fold is None else [protocol.held_fold]
    return [(at[rows.fold[at] != fold], at[rows.fold[at] == fold]) for fold in folds]


def _accents(rows: Rows) -> Ints:
    """Accent of each speaker (speakers,), as position among the gate accents; of no meaning for others."""
    return np.searchsorted(np.asarray(rows.gate), rows.speaker_accent)


def _random_accents(rows: Rows, repeats: int, generator: np.random.Generator) -> list[Ints]:
    """Control tasks: `_accents` permuted among the gate's train speakers and among its scored speakers."""
    groups = [np.unique(rows.speaker[rows.gate_rows(scored)]) for scored in (False, True)]
    tasks = []
    for _ in range(repeats):
        accents = _accents(rows)
        for speakers in groups:
            accents[speakers] = generator.permutation(accents[speakers])
        tasks.append(accents)
    return tasks


def _confusions(rows: Rows, side: Side, labellings: Sequence[Ints], strength: float) -> list[Confusions]:
    """Predictions by scored speaker for each labelling, by probes fitted with its labels: the true ones first and to the last digit, controls roughly."""
    classes = len(rows.gate)
    speakers = np.unique(rows.speaker[np.concatenate([scored for _, scored in side])])
    known = [rows.z[at] for at, _ in side]
    designs = [
        Design(z, labels[rows.speaker[at]], classes) for labels in labellings for z, (at, _) in zip(known, side, strict=True)
    ]
    probes = fit(designs[: len(side)], (strength,)) + fit(designs[len(side) :], (strength,), ROUGH)
    found = []
    for number, labels in enumerate(labellings):
        predicted = np.zeros((len(speakers), classes))
        own = probes[number * len(side) : (number + 1) * len(side)]
        for probe, (_, at) in zip(own, side, strict=True):
            np.add.at(predicted, (np.searchsorted(speakers, rows.speaker[at]), probe.predict(rows.z[at], 0)), 1.0)
        found.append(Confusions(predicted, labels[speakers]))
    return found


def _compare(found: Sequence[Confusions], protocol: Protocol, seed: np.random.SeedSequence) -> Selective:
    """True accents (the first) beside the control tasks (the rest), by one resample index over speakers."""
    truth, *controls = (float(macro_f1(each.matrix())[0]) for each in found)
    chance, n = float(np.mean(controls)), len(found[0].accent)
    p = (1 + sum(control >= truth - 1e-12 for control in controls)) / (len(controls) + 1)
    ours, theirs, gap = _intervals(found, protocol, seed)
    return Selective(
        Figure(truth, *ours, chance=chance, n=n),
        Figure(chance, *theirs, n=n),
        Figure(truth - chance, *gap, chance=0.0, n=n, p=p, most=1.0 - chance),
    )


def _intervals(found: Sequence[Confusions], protocol: Protocol, seed: np.random.SeedSequence) -> tuple[Bounds, Bounds, Bounds]:
    """Of the F1 of true accents, of the mean over control tasks, of their difference; control tasks are resampled as speakers are."""
    if not protocol.intervals:
        return (None, None), (None, None), (None, None)
    accents, seeds = found[0].accent, seed.spawn(2)
    counts = speaker_counts(accents, protocol.bootstrap, seeds[0])
    ours, *each = (macro_f1(labelled.matrix(counts)) for labelled in found)
    shares = speaker_counts(np.zeros(len(each), dtype=np.int64), protocol.bootstrap, seeds[1]) / len(each)
    theirs = np.asarray(np.einsum("tb,bt->b", np.stack(each), shares))
    return (
        accent_intervals(found[0], protocol, seeds[0])[0],
        speaker_interval(theirs, accents, SHARE),
        speaker_interval(ours - theirs, accents, (-1.0, 1.0)),
    )
