"""The peak memory of one worker, from the experiment alone, and what part of a card it fits: the memory line of `--dry-run`. No torch.

Batches are taken at their largest: every utterance as long as `data.max_duration_s` allows. The counting is in models/memory.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from tune_accent.config.schema import Experiment
from tune_accent.config.speech import CoraaMupe, DemoSource
from tune_accent.models.memory import CONTEXT, SHARES, Estimate, estimate, setting_of
from tune_accent.models.shape import Batch, shape_of
from tune_accent.tracking.provenance import gpus

PROCESS_BYTES = 0.8 * 2**30  # main memory of a worker with torch and qwen_tts imported, before any weight
FRAME_RATE = 12.5  # codec frames a second
TOKENS = {"tiny": 15, "other": 6}  # text tokens a second: bytes, and the byte pairs of the real tokenizer (an estimate)
ACCENTS = 5  # where the corpus has to be opened to count them
CARD_MIB = 24_576  # of the card that is spoken about where there is none


def peak_of(experiment: Experiment) -> Estimate | None:
    """Bytes of one trial at its worst moment; None where the backbone's shape is not known."""
    shape = shape_of(experiment)
    if shape is None:
        return None
    null = experiment.training.null_batch
    rows = max(experiment.training.batch_size, (null.accents or _accents(experiment)) * null.speakers * null.utterances)
    heads = 2 * shape.talker.hidden * experiment.objective.z_dim
    trained, evaluated = (_batch(experiment, count) for count in (rows, experiment.evaluation.batch_size))
    return estimate(shape, setting_of(experiment), trained, evaluated, heads)


def _batch(experiment: Experiment, rows: int) -> Batch:
    seconds = experiment.data.max_duration_s
    frames = -(-round(seconds * FRAME_RATE * 10) // 10)
    tokens = round(seconds * TOKENS["tiny" if experiment.model.backbone == "tiny" else "other"])
    return Batch.equal(rows, frames, tokens, experiment.training.sub_frames)


def _accents(experiment: Experiment) -> int:
    source = experiment.data.source
    if isinstance(source, DemoSource):
        return 3 if source.preset == "EN3" else 2
    return len(source.regions) if isinstance(source, CoraaMupe) else ACCENTS


@dataclass(frozen=True)
class Forecast:
    """What one worker needs at its peak, in words; and whether what the config gives it is enough, None where the backbone's shape is not known."""

    words: str
    fits: bool | None


def memory(experiment: Experiment) -> str:
    """The words of `memory_forecast`."""
    return memory_forecast(experiment).words


def memory_forecast(experiment: Experiment) -> Forecast:
    """What one worker needs at its peak, of what, and whether it fits: in the share that the config asks for, and in others."""
    found = peak_of(experiment)
    if found is None:
        return Forecast(f"unknown: the shape of {experiment.model.backbone} is not on this machine", None)
    cards = gpus()
    share = experiment.tuning.resources.gpu
    on_card = share > 0 and (bool(cards) or experiment.model.backbone != "tiny")
    need = found.peak + (CONTEXT if on_card else PROCESS_BYTES)
    parts = f"weights {size(found.weights)}, adapter and optimizer {size(found.adapter)}, activations {size(found.activations)}"
    parts += f", gradients on the way {size(found.transient)}; evaluation {size(found.evaluation)}"
    head = f"about {size(need)} per worker at the peak ({parts}), with utterances of {experiment.data.max_duration_s:g} s"
    if not on_card:
        room = psutil.virtual_memory().available / (experiment.tuning.workers or experiment.tuning.slots)
        return Forecast(f"{head}; {size(room)} of main memory per worker: {_fits(need, room)}", need < room)
    name, whole = (cards[0]["name"], float(cards[0]["memory"].split()[0])) if cards else ("a 24 GB card", float(CARD_MIB))
    shares = sorted({share, *SHARES})
    parts = ", ".join(
        f"gpu {one:g} of {name} is {size(one * whole * 2**20)}: {_fits(need, one * whole * 2**20)}" for one in shares
    )
    return Forecast(f"{head}; {parts}", need < share * whole * 2**20)


def _fits(need: float, room: float) -> str:
    return "fits" if need < room else "DOES NOT FIT"


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a number of 1 or more."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
