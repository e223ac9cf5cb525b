"""What the seeds of an arm come to on test speakers: mean, standard deviation, and a 95 % interval over seeds and speakers.

measured = measure(results)
measured.arms["winner"].figures["neutral"]["accent_f1"].figure
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import COMPARABLE, Evaluation, Figure, Verdict, hierarchical_interval, paired_difference, verdict
from tune_accent.evaluation.comparison import hierarchical_difference
from tune_accent.paper.results import WINNER, Arm, PaperResults, TestedRun, TrainedRun

REPRESENTATIONS: Mapping[str, str] = {"neutral": "z, S = mean voice", "given": "z, own S given", "raw": "raw h, S = mean voice"}
NO_SEED = "no seed finished"


@dataclass(frozen=True)
class OverSeeds:
    """One figure of one arm.

    Attributes:
        values: per seed that finished.
        figure: their mean. The interval is over seeds and speakers where there are two seeds or more, over speakers alone where there is one;
            chance is the mean of the seeds' chances, p the largest of their p-values.
    """

    values: tuple[float, ...]
    figure: Figure

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds (n - 1); None where there are not two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class ArmFigures:
    """An arm on test speakers.

    Attributes:
        arm: which.
        runs: its tested runs, by seed.
        failed: its runs that did not finish.
        figures: by representation ("neutral", "given", "raw") and name of the figure.
        loss_ratio: cross-entropy on test rows, relative to the base model's.
        verdict: of the gate, on the neutral figures over seeds; None where no seed finished.
    """

    arm: Arm
    runs: tuple[TestedRun, ...]
    failed: tuple[TrainedRun, ...]
    figures: Mapping[str, Mapping[str, OverSeeds]]
    loss_ratio: OverSeeds
    verdict: Verdict | None

    @property
    def speakers_per_accent(self) -> int | None:
        """The fewest test speakers of a gate accent."""
        return self.runs[0].neutral.speakers_per_accent if self.runs else None


@dataclass(frozen=True)
class Measured:
    """The results and, by name, the arms that are reported: the winner first, then baselines, then ablations."""

    results: PaperResults
    arms: Mapping[str, ArmFigures]

    @property
    def winner(self) -> ArmFigures:
        """The chosen arm."""
        return self.arms[WINNER]

    @property
    def others(self) -> tuple[ArmFigures, ...]:
        """Baselines and ablations."""
        return tuple(one for name, one in self.arms.items() if name != WINNER)


def measure(results: PaperResults) -> Measured:
    """Every reported arm over its seeds. Candidates that were not chosen are no part of the test figures."""
    order = {"candidate": 0, "baseline": 1, "ablation": 2}
    reported = [arm for arm in results.arms if arm.kind != "candidate" or arm.name == WINNER]
    return Measured(results, {arm.name: arm_figures(results, arm) for arm in sorted(reported, key=lambda arm: order[arm.kind])})


def arm_figures(results: PaperResults, arm: Arm) -> ArmFigures:
    """One arm over its seeds."""
    runs = sorted(results.tested_of(arm.name), key=lambda run: run.repeat)
    failed = [run for run in results.runs if run.arm == arm.name and run.state != "COMPLETE"]
    figures = {
        which: {name: over_seeds(results.experiment, [getattr(run, which) for run in runs], name) for name in COMPARABLE}
        for which in REPRESENTATIONS
    }
    ratios = tuple(run.loss / run.base_loss for run in runs)
    ratio = Figure(_mean(ratios), chance=1.0) if ratios else Figure(None, reason=NO_SEED)
    judged = arm_verdict(results.experiment, [run.neutral for run in runs]) if runs else None
    judged = results.verdict if arm.name == WINNER else judged
    return ArmFigures(arm, tuple(runs), tuple(failed), figures, OverSeeds(ratios, ratio), judged)


def arm_verdict(experiment: Experiment, evaluations: Sequence[Evaluation]) -> Verdict:
    """The gate on the figures over seeds.

    Args:
        experiment: its thresholds, resamples and seed.
        evaluations: neutral ones of one arm, one per seed, one at least.
    """
    names = ("accent_f1", "leakage", "text_drop")
    figures = {name: over_seeds(experiment, evaluations, name).figure for name in names}
    return verdict(figures, experiment.gate, min(one.speakers_per_accent for one in evaluations))


def over_seeds(experiment: Experiment, evaluations: Sequence[Evaluation], name: str) -> OverSeeds:
    """Figure `name` of one representation over seeds.

    Raises:
        DataError: the evaluations are not of the same speakers.
    """
    figures = [evaluation.figures[name] for evaluation in evaluations]
    values = tuple(figure.value for figure in figures if figure.value is not None)
    if not figures:
        return OverSeeds((), Figure(None, reason=NO_SEED))
    if len(figures) == 1:
        return OverSeeds(values, figures[0])
    found = hierarchical_interval(evaluations, name, *resampling(experiment))
    known = [figure.p for figure in figures if figure.p is not None]
    p = max(known) if len(known) == len(figures) else None
    mean = Figure(found.value, found.low, found.high, found.chance, found.n, p, found.reason, found.most)
    return OverSeeds(values, mean)


def difference(experiment: Experiment, arm: ArmFigures, base: ArmFigures, name: str) -> OverSeeds:
    """Neutral figure `name` of `arm` minus that of `base`, paired by seed and by speaker; seeds that only one of them finished are left out."""
    sides = [{run.repeat: run.neutral for run in one.runs} for one in (arm, base)]
    repeats = sorted(sides[0].keys() & sides[1].keys())
    a, b = ([side[repeat] for repeat in repeats] for side in sides)
    if not repeats:
        return OverSeeds((), Figure(None, reason="no seed that both finished"))
    if len(repeats) == 1:
        found = paired_difference(a[0], b[0], name, *resampling(experiment))
        return OverSeeds(() if found.value is None else (found.value,), found)
    pairs = [(one.figures[name].value, other.figures[name].value) for one, other in zip(a, b, strict=True)]
    values = tuple(one - other for one, other in pairs if one is not None and other is not None)
    return OverSeeds(values, hierarchical_difference(a, b, name, *resampling(experiment)))


def resampling(experiment: Experiment) -> tuple[int, int]:
    """Resamples and seed of every interval over seeds."""
    return experiment.evaluation.bootstrap, derive_seed(experiment.seed, "intervals over seeds")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
