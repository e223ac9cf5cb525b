"""What a paper run knows when it writes: plain records that tables, figures, report and checklist read.

Arm            a configuration that is trained on several new seeds: candidate, baseline or ablation
TrainedRun     one arm on one seed, measured on validation speakers after every epoch
TestedRun      its last epoch on the test speakers, who are heard once
PaperResults   all of it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tune_accent.config.schema import Experiment
from tune_accent.config.space import Space
from tune_accent.evaluation import Evaluation, Figure, Verdict
from tune_accent.tuning.core import Trial

Kind = Literal["candidate", "baseline", "ablation"]
WINNER = "winner"  # name of the arm that the selection chose


@dataclass(frozen=True)
class Arm:
    """One configuration.

    Attributes:
        name: unique in the paper run: "winner", "candidate 7", "no_lora", "trunk_gradient=0.1".
        kind: what it is for.
        params: values by short name or dotted key; `resolve(experiment, params)` is the arm, `training.repeat` put in as its seed.
        note: what it is, or what it changes, in one sentence.
        trial: number of the search's trial that it repeats, if it does.
    """

    name: str
    kind: Kind
    params: Mapping[str, Any]
    note: str
    trial: int | None = None


@dataclass(frozen=True)
class TrainedRun:
    """One arm on one seed.

    Attributes:
        arm: its name.
        repeat: `training.repeat`, from 1.
        key: of the memo.
        state: COMPLETE, or the failure that ended it.
        reports: metrics of every epoch, as a trial reports them (validation speakers).
        failure: why it ended early.
    """

    arm: str
    repeat: int
    key: str
    state: str
    reports: Sequence[Mapping[str, Any]]
    failure: str | None = None


@dataclass(frozen=True)
class TestedRun:
    """The last epoch of one arm on one seed, on test speakers.

    Attributes:
        arm, repeat, key: whose.
        neutral: z with A = ∅ and S = mean: the reported figures.
        given: z with A = ∅ and the speaker's own S.
        raw: pooled h, A = ∅ and S = mean.
        wrong: probe fitted on neutral train z, applied to test z whose A is set, each accent in turn, to a wrong one: `heard_true` (share
            still heard as the speaker's accent), `heard_set` (share heard as the accent that was set), each with its interval over speakers; empty
            where it was not asked for.
        loss, base_loss: cross-entropy on test rows, of this run and of the base model.
    """

    __test__ = False  # no test class, whatever pytest thinks of the name

    arm: str
    repeat: int
    key: str
    neutral: Evaluation
    given: Evaluation
    raw: Evaluation
    wrong: Mapping[str, Figure]
    loss: float
    base_loss: float


@dataclass(frozen=True)
class Candidate:
    """One trial of the search beside its repetition on new seeds (validation speakers).

    Attributes:
        arm: name of its arm.
        trial: its number in the search.
        search_rank, search_score: in the search, best first; the score of its last epoch.
        scores, leakages: score and unseen leakage of the last epoch, per new seed; a failed seed is left out.
        rank: by mean score over seeds, ties by lower mean unseen leakage.
        chosen: whether it is the winner.
    """

    arm: str
    trial: int
    search_rank: int
    search_score: float
    scores: tuple[float, ...]
    leakages: tuple[float, ...]
    rank: int
    chosen: bool


@dataclass(frozen=True)
class Reproduction:
    """Twice from the spec in fresh processes, and beside the search's own trial.

    Attributes:
        same_twice: whether adapter, heads and metrics of the two runs are equal to the bit.
        same_as_search: the same against the search's trial; None where the search kept too little to tell.
        difference: in words: the first epoch and tensor or figure that differ; None where nothing does.
        cause: what may have caused it, from the two environment records.
        hashes: {"run 1" | "run 2" | "search": {"adapter" | "heads" | "metrics": SHA-256}}.
        device: what it ran on.
    """

    same_twice: bool
    same_as_search: bool | None
    difference: str | None
    cause: str | None
    hashes: Mapping[str, Mapping[str, str]]
    device: str


@dataclass(frozen=True)
class Opening:
    """One opening of the test split.

    Attributes:
        time: ISO 8601, UTC.
        identity: SHA-256 of what was opened for (winner, arms, seeds, data).
        reason: "first opening", or what `--reopen` was given.
    """

    time: str
    identity: str
    reason: str


@dataclass(frozen=True)
class ControlResults:
    """Does A control the accent of what is generated? Rows of `control.csv` and what they come to.

    Attributes:
        rows: one per utterance: text_id, speaker, accent (the speaker's own), setting ("A set" | "A none" | "no LoRA"), target (accent that
            was set, or ""), heard (by the probe on real audio features), similarity (cosine to the reference's embedding), further optional columns.
        accents: names, in the order of the matrix.
        matrix: target × heard shares, rows sum to 1.
        figures: `follows` (share heard as the target), `own_without` (share heard as the speaker's own accent without A), `similarity_drop`, …,
            each with an interval over speakers and its chance.
        hidden: the cheap form on hidden states: same text and S, A swapped; the same names of figures.
        probe: how well the audio probe hears accents of real test speech: its macro-F1 with interval.
        note: what limits this (e.g. the tiny model speaks noise).
    """

    rows: Sequence[Mapping[str, Any]]
    accents: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]
    figures: Mapping[str, Figure]
    hidden: Mapping[str, Figure]
    probe: Figure
    note: str


@dataclass(frozen=True)
class Compute:
    """What was spent: by part ("search", "paper") and state (COMPLETE, STOPPED, CRASHED, …): runs, epochs, hours of training; peak memory in MB."""

    rows: Sequence[Mapping[str, Any]]
    peak_mb: float | None


@dataclass(frozen=True)
class PaperResults:
    """Everything that the outputs are made from.

    Attributes:
        name: of the search's folder.
        experiment, space, method: of the search.
        run_cap: number of its trials.
        search: its trials, by number.
        search_best: number of the trial that the search ranked first.
        selection: of the candidates, by rank on new seeds.
        arms: what was trained, winner first.
        runs: every arm × seed.
        tested: those whose last epoch was measured on test speakers, in the order of `runs`.
        verdict: the gate on the winner's test figures over seeds.
        reproduction, control: None while they are not asked for.
        openings: of the test split, the first one first.
        compute: what was spent.
        environment: of this machine (`tracking.provenance.environment`, with the git diff, CUDA and cuDNN).
        hashes: SHA-256 of spec, manifest, splits, cache, backbone, taken before anything ran.
        commands: the exact command lines, search and paper run.
        notes: what was left out, in words.
        metric, goal: of the search.
    """

    name: str
    experiment: Experiment
    space: Space
    method: str
    run_cap: int
    search: Sequence[Trial]
    search_best: int
    selection: Sequence[Candidate]
    arms: Sequence[Arm]
    runs: Sequence[TrainedRun]
    tested: Sequence[TestedRun]
    verdict: Verdict
    reproduction: Reproduction | None
    control: ControlResults | None
    openings: Sequence[Opening]
    compute: Compute
    environment: Mapping[str, Any]
    hashes: Mapping[str, str]
    commands: Sequence[str]
    notes: Sequence[str] = field(default=())
    metric: str = "score"
    goal: Literal["maximize", "minimize"] = "maximize"

    def tested_of(self, arm: str) -> list[TestedRun]:
        """The tested runs of an arm, by seed."""
        return [run for run in self.tested if run.arm == arm]
