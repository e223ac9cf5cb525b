"""From the records of a paper run to everything that its outputs are made of; nothing is trained, and nothing is heard.

The paper run calls this when all records are there; whoever verifies a folder calls it to make the tables again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import Verdict
from tune_accent.paper.arms import arm_verdict
from tune_accent.paper.compute import compute_used
from tune_accent.paper.final import tested_runs
from tune_accent.paper.opening import openings
from tune_accent.paper.plan import Plan, ablations, baselines, candidates, ranked
from tune_accent.paper.results import WINNER, Arm, Candidate, PaperResults, TestedRun, TrainedRun
from tune_accent.paper.selection import select, winner
from tune_accent.paper.stored import RunRecord, read_control, read_reproduction
from tune_accent.paper.train import known_runs
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Request as Search
from tune_accent.tuning.folder import Spec

FOLDER, BUNDLE = "paper", "paper.zip"
ENVIRONMENT, HASHES = "environment.json", "hashes.json"


@dataclass(frozen=True)
class Base:
    """A search, and what was asked of its paper run.

    Attributes:
        search, spec: as the folder records them.
        core: the search, replayed.
        experiment: of the search, with the sections of the paper run in place.
    """

    search: Search
    spec: Spec
    core: Core
    experiment: Experiment

    @property
    def root(self) -> Path:
        """The results folder."""
        return self.search.root

    @property
    def repeats(self) -> range:
        """Values of `training.repeat`: the new seeds."""
        return range(1, self.experiment.paper.seeds + 1)

    def candidates(self) -> Plan:
        """The trials of the search that are trained again."""
        return candidates(self.core.trials, self.search.space, self.experiment.paper.candidates)


@dataclass(frozen=True)
class Chosen:
    """The selection, and what follows from it.

    Attributes:
        selection: of the candidates, by rank.
        arms: winner first, then baselines and ablations.
        notes: what was left out, in words.
    """

    selection: tuple[Candidate, ...]
    arms: tuple[Arm, ...]
    notes: tuple[str, ...]

    @property
    def winner(self) -> Arm:
        """The arm that was selected."""
        return self.arms[0]


def choose(base: Base, runs: Sequence[TrainedRun]) -> Chosen:
    """Select among the candidates, and plan baselines and ablations of the winner.

    Args:
        base: the search.
        runs: of the candidates on every new seed.
    """
    tried = base.candidates()
    selection = select(tried.arms, runs, ranked(base.core.trials, base.search.space), base.search.space)
    best = winner(tried.arms, selection)
    beside = baselines(base.experiment, base.search.space, base.core.trials, best)
    without = ablations(base.experiment, best, beside.arms)
    return Chosen(selection, (best, *beside.arms, *without.arms), (*tried.notes, *beside.notes, *without.notes))


def opened_for(base: Base, chosen: Chosen) -> dict[str, Any]:
    """Everything that the test figures depend on."""
    return {"arms": {arm.name: dict(arm.params) for arm in chosen.arms}, **same_for_all(base)}


def same_for_all(base: Base) -> dict[str, Any]:
    """The part of `opened_for` that is known before anything is trained."""
    return {"seeds": list(base.repeats), "spec": base.spec.sha256(), "data": dict(base.spec.data)}


def wrong_arms(experiment: Experiment) -> tuple[str, ...]:
    """Names of the arms for which A is also given wrongly."""
    return (WINNER,) if "wrong_accent" in experiment.paper.ablations else ()


def assemble(base: Base, run: RunRecord) -> PaperResults:
    """The results of a paper run from what it has recorded.

    Raises:
        DataError: a record is missing, damaged or edited.
    """
    folder = base.root / FOLDER
    tried = known_runs(base.experiment, base.root, base.spec.data, base.candidates().arms, base.repeats)
    chosen = choose(base, tried)
    runs = known_runs(base.experiment, base.root, base.spec.data, chosen.arms, base.repeats)
    tested = tested_runs(base.experiment, base.root, runs, wrong=wrong_arms(base.experiment))
    first = ranked(base.core.trials, base.search.space)[0]
    return PaperResults(
        name=base.root.resolve().name,
        experiment=base.experiment,
        space=base.search.space.space,
        method=base.search.space.method,
        run_cap=base.search.run_cap,
        search=base.core.trials,
        search_best=first.number,
        selection=chosen.selection,
        arms=chosen.arms,
        runs=runs,
        tested=tested,
        verdict=judged(base.experiment, [one for one in tested if one.arm == WINNER]),
        reproduction=read_reproduction(folder),
        control=read_control(folder) if base.experiment.paper.control.enabled else None,
        openings=openings(base.root),
        compute=compute_used(base.root, base.core.trials, [*tried, *runs]),
        environment=_record(folder / ENVIRONMENT),
        hashes=_record(folder / HASHES),
        commands=run.commands,
        notes=chosen.notes,
        metric=base.search.space.metric,
        goal=base.search.space.goal,
    )


def judged(experiment: Experiment, tested: Sequence[TestedRun]) -> Verdict:
    """The gate on the test figures of one arm: mean over seeds, interval over seeds and speakers.

    Raises:
        DataError: fewer than two of its seeds were measured.
    """
    if len(tested) < 2:
        fix = "logs/ and trials/*/failure.json say why; remove failure.json to try the seed again"
        raise DataError(f"only {len(tested)} seeds of the winner could be measured", "paper run", fix)
    return arm_verdict(experiment, [one.neutral for one in tested])


def _record(path: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = read_json(path)
    except FileNotFoundError as error:
        raise DataError("the paper run has not written it", str(path), "the same command writes it") from error
    return content
