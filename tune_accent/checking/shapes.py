"""Widths of a Qwen3-TTS, and what they cost: weights, and the FLOPs and bytes that a training step cannot do without.

One multiply-add counts as two FLOPs. Norms, activations, embeddings and the speaker encoder are left out (below 2 % together). The base is frozen, so a
backward pass computes gradients of activations only and costs as much as the forward; checkpointing adds a second forward.
The adapter is left out too: at rank 16 on q, k, v, o it is 1 to 2 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.files import read_json
from tune_accent.config.schema import Experiment, Lora
from tune_accent.models.published import published_config

CODEBOOKS = 16
PREFIX = 12  # positions of a prompt beside text and frames (models/forward.py), and the one that predicts EOS


@dataclass(frozen=True)
class Stack:
    """Decoder blocks of one width; `heads` and `key_values` are widths of the projections: heads × head_dim."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    key_values: int

    @property
    def sides(self) -> dict[str, tuple[int, int]]:
        """Input and output width of each projection."""
        hidden, ffn = self.hidden, self.ffn
        attention = {
            "q": (hidden, self.heads),
            "k": (hidden, self.key_values),
            "v": (hidden, self.key_values),
            "o": (self.heads, hidden),
        }
        return attention | {"gate": (hidden, ffn), "up": (hidden, ffn), "down": (ffn, hidden)}

    @property
    def weights(self) -> int:
        """Of all projections of all blocks."""
        return self.layers * sum(wide * long for wide, long in self.sides.values())

    def flops(self, rows: int, length: int) -> float:
        """Forward FLOPs of `rows` sequences of `length` positions; attention over the whole square, as the math kernel does it."""
        return rows * (2.0 * self.weights * length + 4.0 * self.layers * self.heads * length**2)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Stack:
        """From `talker_config` or its `code_predictor_config`."""
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        wide = (head * config["num_attention_heads"], head * config["num_key_value_heads"])
        return cls(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"], *wide)


@dataclass(frozen=True)
class Shape:
    """A whole model: talker, code predictor, sizes of vocabularies, width of the text embedding."""

    talker: Stack
    predictor: Stack
    vocabulary: int  # of the talker's codec head
    codebook: int
    text_hidden: int
    text_vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """From a checkpoint's config.json.

        Raises:
            KeyError, TypeError: it is no such file.
        """
        talker = config["talker_config"]
        predictor = talker["code_predictor_config"]
        sizes = (talker["vocab_size"], predictor["vocab_size"], talker["text_hidden_size"], talker["text_vocab_size"])
        return cls(Stack.of(talker), Stack.of(predictor), *sizes)

    @property
    def read_weights(self) -> int:
        """That a forward pass reads whole: blocks, projections and heads, not the embedding tables."""
        bridge = self.talker.hidden * self.predictor.hidden if self.talker.hidden != self.predictor.hidden else 0
        text = self.text_hidden * (self.text_hidden + self.talker.hidden)
        heads = self.talker.hidden * self.vocabulary + (CODEBOOKS - 1) * self.predictor.hidden * self.codebook
        return self.talker.weights + self.predictor.weights + bridge + text + heads

    @property
    def weights(self) -> int:
        """All weights but those of the speaker encoder, the norms and the biases."""
        tables = self.text_vocabulary * self.text_hidden + self.talker.hidden * (
            self.vocabulary + (CODEBOOKS - 1) * self.codebook
        )
        return self.read_weights + tables

    def adapter(self, lora: Lora) -> int:
        """Trained weights of an adapter on the talker (and on the code predictor if asked for)."""
        stacks = [self.talker, *([self.predictor] if lora.code_predictor else [])]
        return lora.rank * sum(stack.layers * sum(stack.sides[name]) for stack in stacks for name in lora.target)


@dataclass(frozen=True)
class Load:
    """One batch: rows, and frames and text tokens of each."""

    rows: int
    frames: int
    text: int = 25

    @property
    def length(self) -> int:
        """Positions of a row."""
        return PREFIX + self.text + self.frames


@dataclass(frozen=True)
class Flops:
    """Forward FLOPs of a batch, by part."""

    talker: float
    predictor: float

    @property
    def forward(self) -> float:
        """Of both."""
        return self.talker + self.predictor

    @property
    def predictor_share(self) -> float:
        """Of the code predictor."""
        return self.predictor / self.forward


def forward_flops(shape: Shape, load: Load, sub_frames: int | None = None) -> Flops:
    """FLOPs of one forward with both losses; `sub_frames`: how many frames of the batch enter the code predictor, None for all."""
    talker, predictor = shape.talker, shape.predictor
    text = 2.0 * shape.text_hidden * (shape.text_hidden + talker.hidden) * load.rows * load.text
    codes = 2.0 * talker.hidden * shape.vocabulary * load.rows * (load.frames + 1)
    frames = min(load.rows * load.frames, sub_frames or load.rows * load.frames)
    bridge = 2.0 * CODEBOOKS * talker.hidden * predictor.hidden if talker.hidden != predictor.hidden else 0.0
    answers = 2.0 * (CODEBOOKS - 1) * predictor.hidden * shape.codebook
    return Flops(
        talker.flops(load.rows, load.length) + text + codes, predictor.flops(frames, CODEBOOKS) + frames * (bridge + answers)
    )


def step_flops(
    shape: Shape, load: Load, *, sub_frames: int | None = None, talker_again: bool = False, predictor_again: bool = False
) -> float:
    """FLOPs of one forward and backward through the frozen model.

    Args:
        shape: of the model.
        load: the batch.
        sub_frames: as in `forward_flops`.
        talker_again, predictor_again: gradient checkpointing, which computes the forward of that part twice.
    """
    found = forward_flops(shape, load, sub_frames)
    return found.talker * (2 + talker_again) + found.predictor * (2 + predictor_again)


def step_bytes(shape: Shape, width: int = 2) -> float:
    """Bytes of weights that one step reads at least: all that is used, in forward and backward. `width`: bytes per weight."""
    return 2.0 * width * shape.read_weights


def shape_of(spec: Experiment) -> Shape | None:
    """The shape of the experiment's backbone without its weights: from a local config.json, else from its published name; None where neither says."""
    name = spec.model.backbone
    if name == "tiny":
        return _tiny(spec)
    config = Path(name) / "config.json"
    known = read_json(config) if config.is_file() else published_config(name)
    return None if known is None else Shape.of(known)


def _tiny(spec: Experiment) -> Shape:
    from tune_accent.models.tiny import LANGUAGES, SPECIAL, WORD, model_config

    words = [*map(str, range(256)), *(WORD[: end + 1] for end in range(1, len(WORD))), *SPECIAL]  # as many as its tokenizer has
    codewords = getattr(spec.data.codec, "codewords", 2048)
    return Shape.of(model_config(spec.model.tiny, codewords, {word: number for number, word in enumerate(words)}, LANGUAGES))
