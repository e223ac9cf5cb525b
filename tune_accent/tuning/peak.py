"""The peak memory of one worker, from the experiment alone, and what part of a card it fits: the memory line of `--dry-run`. No torch.

Batches are taken at their largest: every utterance as long as `data.max_duration_s` allows. The counting is in models/memory.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from tune_accent.base.files import read_json
from tune_accent.config.schema import CoraaMupe, DemoSource, Experiment
from tune_accent.models.memory import CONTEXT, SHARES, Batch, Estimate, Layers, Shape, estimate, setting_of
from tune_accent.models.published import PARAMETERS, published_config
from tune_accent.tracking.provenance import gpus

PROCESS_BYTES = 0.8 * 2**30  # main memory of a worker with torch and qwen_tts imported, before any weight
TINY_PARAMETERS = 1.0e6  # at hidden 64, the speech tokenizer included
SPEECH_TOKENIZER = 170e6  # weights of the 12 Hz tokenizer, which is loaded beside the talker (an estimate)
FRAME_RATE, PROMPT = 12.5, 11  # codec frames a second; positions before the first frame, beside the text
TOKENS = {"tiny": 15, "other": 6}  # text tokens a second: bytes, and the byte pairs of the real tokenizer (an estimate)
ACCENTS = 5  # where the corpus has to be opened to count them
CARD_MIB = 24_576  # of the card that is spoken about where there is none


def shape_of(experiment: Experiment) -> Shape | None:
    """The backbone's shape: of the tiny model, of a folder's config.json, or of a published checkpoint; None where neither is known."""
    name = experiment.model.backbone
    if name == "tiny":
        return _tiny_shape(experiment)
    path = Path(name) / "config.json"
    config = read_json(path) if path.is_file() else published_config(name)
    if config is None:
        return None
    files = sum(file.stat().st_size for file in Path(name).glob("*.safetensors")) // 2  # checkpoints are bf16
    weights = files or PARAMETERS.get(config["talker_config"]["hidden_size"], 0)
    return Shape(*_stacks(config["talker_config"]), weights=round(weights + SPEECH_TOKENIZER))


def _stacks(talker: Mapping[str, Any]) -> tuple[Layers, Layers]:
    known = published_config("0.6B")
    assert known is not None
    return Layers.of(talker), Layers.of(talker.get("code_predictor_config") or known["talker_config"]["code_predictor_config"])


def _tiny_shape(experiment: Experiment) -> Shape:
    """That of models/tiny.py, which imports torch."""
    hidden, codes = experiment.model.tiny.hidden, getattr(experiment.data.codec, "codewords", 2048)
    talker = Layers(experiment.model.tiny.layers, hidden, hidden, hidden // 2, 3 * hidden, hidden // 16, codes + 1024)
    inner = hidden // 32 * 16
    predictor = Layers(2, hidden // 2, inner, max(1, hidden // 64) * 16, hidden, hidden // 32, codes)
    return Shape(talker, predictor, round(TINY_PARAMETERS * (hidden / 64) ** 2))


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
    seconds, limit = experiment.data.max_duration_s, experiment.training.sub_frames
    frames = -(-round(seconds * FRAME_RATE * 10) // 10)
    tokens = round(seconds * TOKENS["tiny" if experiment.model.backbone == "tiny" else "other"])
    return Batch(rows, PROMPT + tokens + frames, rows * frames, min(limit or rows * frames, rows * frames))


def _accents(experiment: Experiment) -> int:
    source = experiment.data.source
    if isinstance(source, DemoSource):
        return 3 if source.preset == "EN3" else 2
    return len(source.regions) if isinstance(source, CoraaMupe) else ACCENTS


def memory(experiment: Experiment) -> str:
    """What one worker needs at its peak, of what, and whether it fits: in the share that the config asks for, and in others."""
    found = peak_of(experiment)
    if found is None:
        return f"unknown: the shape of {experiment.model.backbone} is not on this machine"
    cards = gpus()
    share = experiment.tuning.resources.gpu
    on_card = share > 0 and (bool(cards) or experiment.model.backbone != "tiny")
    need = found.peak + (CONTEXT if on_card else PROCESS_BYTES)
    parts = f"weights {size(found.weights)}, adapter and optimizer {size(found.adapter)}, activations {size(found.activations)}"
    parts += f", gradients on the way {size(found.transient)}; evaluation {size(found.evaluation)}"
    head = f"about {size(need)} per worker at the peak ({parts}), with utterances of {experiment.data.max_duration_s:g} s"
    if not on_card:
        room = psutil.virtual_memory().available / (experiment.tuning.workers or experiment.tuning.slots)
        return f"{head}; {size(room)} of main memory per worker: {_fits(need, room)}"
    name, whole = (cards[0]["name"], float(cards[0]["memory"].split()[0])) if cards else ("a 24 GB card", float(CARD_MIB))
    shares = sorted({share, *SHARES})
    return f"{head}; " + ", ".join(
        f"gpu {one:g} of {name} is {size(one * whole * 2**20)}: {_fits(need, one * whole * 2**20)}" for one in shares
    )


def _fits(need: float, room: float) -> str:
    return "fits" if need < room else "DOES NOT FIT"


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a number of 1 or more."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit in ("B", "KiB") else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
