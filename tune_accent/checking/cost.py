"""What a full trial and a search will take: an estimate from two timed steps, or from FLOPs where nothing could be timed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tune_accent.checking.file_system import gib
from tune_accent.checking.finding import Finding
from tune_accent.checking.smoke import Smoke
from tune_accent.config.schema import Experiment
from tune_accent.config.space import LoadedSpace
from tune_accent.data.codec import FRAME_RATE
from tune_accent.models.flops import forward_flops, step_flops
from tune_accent.models.memory import setting_of, trained_weights
from tune_accent.models.shape import Batch, Shape

SPACES = Path("search_spaces")
TRIALS = 16  # where no space file belongs to the config
REACHED = 20e12  # FLOP/s in training that a 24 GB card is assumed to reach: 30 % of the 71 TFLOP/s (bf16, dense) of an RTX 3090
PROBES_S = 1.5e-3  # seconds of an epoch's probes for each utterance that is evaluated: z of 32 and raw h of 2,048, one CPU core (benchmarks/LOG.md)


@dataclass(frozen=True)
class Corpus:
    """Sizes of a corpus as a trial sees it.

    Attributes:
        training: utterances that train.
        evaluated: utterances that an evaluation encodes.
        seconds: mean duration.
    """

    training: int
    evaluated: int
    seconds: float


@dataclass(frozen=True)
class Search:
    """Trials and epochs of a search, fewest and most, and bytes of its checkpoints."""

    file: str | None
    trials: int
    epochs: tuple[int, int]
    disk: float


def search_of(spec: Experiment, config: Path, shape: Shape | None) -> Search:
    """What the space file that names this config asks for; 16 full trials where there is none."""
    from tune_accent.tuning.forecast import disk_bytes, epochs_expected

    space = space_of(config)
    if space is None:
        weights = trained_weights(shape, setting_of(spec)) if shape else 0
        return Search(None, TRIALS, (TRIALS * spec.training.epochs,) * 2, TRIALS * 2 * (12.0 * weights + 2**18))
    trials = space.run_cap or space.space.grid_size or TRIALS
    return Search(str(space.path), trials, epochs_expected(space, spec, trials), float(disk_bytes(space, spec, trials)))


def space_of(config: Path) -> LoadedSpace | None:
    """The first file of `search_spaces/` that names `config`."""
    from tune_accent.config.space import load_space

    for file in sorted(SPACES.glob("*.yaml")):
        space = load_space(file)
        if space.config_path and Path(space.config_path).resolve() == config.resolve():
            return space
    return None


def pairs_per_epoch(spec: Experiment, corpus: Corpus) -> int:
    """Pairs of an A-batch and a ∅-batch in an epoch."""
    return spec.training.steps_per_epoch or -(-corpus.training // spec.training.batch_size)


def epoch_seconds(spec: Experiment, corpus: Corpus, took: Smoke) -> float:
    """Of a full epoch: steps as timed, the evaluation in proportion to the utterances."""
    return pairs_per_epoch(spec, corpus) * took.step_s + took.evaluation_s * corpus.evaluated / took.evaluated


def pair_flops(spec: Experiment, shape: Shape, seconds: float, accents: int) -> float:
    """FLOPs of an A-batch and a ∅-batch of utterances of so many seconds."""
    null, training = spec.training.null_batch, spec.training
    rows = (training.batch_size, (null.accents or accents) * null.speakers * null.utterances)
    frames = max(1, round(seconds * FRAME_RATE))
    again = {"talker_again": training.gradient_checkpointing, "predictor_again": training.predictor_checkpointing}
    return sum(step_flops(shape, Batch.equal(count, frames, sub_frames=training.sub_frames), **again) for count in rows)


def evaluation_flops(spec: Experiment, shape: Shape, corpus: Corpus) -> float:
    """FLOPs of an evaluation: every utterance up to the layer that is read, those of val (a third) with both losses."""
    rows, frames = spec.evaluation.batch_size, max(1, round(corpus.seconds * FRAME_RATE))
    found = forward_flops(shape, Batch.equal(rows, frames, sub_frames=spec.training.sub_frames))
    read = found.talker * min(1.0, spec.model.layer / shape.talker.count)
    return corpus.evaluated / rows * (2 * read + found.forward) / 3


def timed_cost(spec: Experiment, corpus: Corpus, took: Smoke, search: Search) -> Iterator[Finding]:
    """A trial and a search from the two timed steps."""
    yield _trial(spec, epoch_seconds(spec, corpus, took), "from the two timed steps")
    yield _search(spec, epoch_seconds(spec, corpus, took), search, took.device)


def flops_cost(spec: Experiment, corpus: Corpus, shape: Shape, accents: int, search: Search) -> Iterator[Finding]:
    """A trial and a search from FLOPs alone, for a GPU of 24 GB."""
    training = pairs_per_epoch(spec, corpus) * pair_flops(spec, shape, corpus.seconds, accents)
    epoch = (training + evaluation_flops(spec, shape, corpus)) / REACHED + PROBES_S * corpus.evaluated
    yield _trial(spec, epoch, f"from FLOPs, for a 24 GB GPU that reaches {REACHED / 1e12:.0f} TFLOP/s in training")
    yield _search(spec, epoch, search, "cuda")


def _trial(spec: Experiment, epoch: float, how: str) -> Finding:
    epochs = spec.training.epochs
    return Finding("a full trial", "ok", f"estimate {how}: {duration(epoch * epochs)} ({epochs} epochs of {duration(epoch)})")


def _search(spec: Experiment, epoch: float, search: Search, device: str) -> Finding:
    low, high = search.epochs
    of = search.file or "no space file names this config: without early stopping"
    workers = _workers(spec, device)
    shared = (
        f"; {workers} workers side by side shorten that, at most {workers}-fold, by what one leaves idle" if workers > 1 else ""
    )
    words = (
        f"estimate: {search.trials} trials, {low} to {high} epochs as early stopping decides ({of}): {duration(low * epoch)} to "
        f"{duration(high * epoch)} one trial at a time{shared}; {gib(search.disk)} of checkpoints"
    )
    return Finding("a search", "ok", words)


def _workers(spec: Experiment, device: str) -> int:
    resources, slots = spec.tuning.resources, spec.tuning.workers or spec.tuning.slots
    most = 1 / resources.gpu if device == "cuda" and resources.gpu else (os.cpu_count() or 1) / resources.cpu
    return max(1, min(slots, int(most)))


def duration(seconds: float) -> str:
    """Rounded as an estimate should be: `40 s`, `12 min`, `7.5 h`, `3.2 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
