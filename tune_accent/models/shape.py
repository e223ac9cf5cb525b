"""Widths of a Qwen3-TTS, and the size of a batch: the one description from which weights, FLOPs (flops.py) and memory (memory.py) are told. No torch.

It is read from a checkpoint's config.json, from its published name, or from the settings of the tiny model; no weight has to be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.files import read_json
from tune_accent.config.schema import Experiment
from tune_accent.models.published import CODES, PARAMETERS, published_config

CODEBOOKS = 16  # of a frame, each a position of the code predictor
PROMPT = 11  # positions before the first frame, beside the text (models/forward.py)
SPEECH_TOKENIZER = 170e6  # weights of the 12 Hz tokenizer, which is loaded beside the talker (an estimate)
TINY_PARAMETERS = 1.0e6  # of the tiny model at hidden 64, with encoder and speech tokenizer (an estimate)
TINY_WORDS = 270  # 256 bytes, the 8 merges of "assistant", 6 special tokens


@dataclass(frozen=True)
class Blocks:
    """A stack of decoder blocks.

    Attributes:
        count: number of blocks.
        hidden: width of the residual stream.
        queries: width of all query heads.
        keys: width of all key heads, and of all value heads.
        ffn: width of the MLP.
        heads: number of query heads.
        codes: width of the logits.
    """

    count: int
    hidden: int
    queries: int
    keys: int
    ffn: int
    heads: int
    codes: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Blocks:
        """From `talker_config` or its `code_predictor_config`."""
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        head = int(config.get("head_dim") or hidden // heads)
        return cls(
            count=int(config["num_hidden_layers"]),
            hidden=hidden,
            queries=head * heads,
            keys=head * int(config["num_key_value_heads"]),
            ffn=int(config["intermediate_size"]),
            heads=heads,
            codes=int(config.get("vocab_size", 3072)),
        )

    @property
    def sides(self) -> dict[str, tuple[int, int]]:
        """Input and output width of each projection."""
        hidden, ffn = self.hidden, self.ffn
        attention = {"q": (hidden, self.queries), "k": (hidden, self.keys), "v": (hidden, self.keys), "o": (self.queries, hidden)}
        return attention | {"gate": (hidden, ffn), "up": (hidden, ffn), "down": (ffn, hidden)}

    @property
    def weights(self) -> int:
        """Of all projections of all blocks."""
        return self.count * sum(wide * long for wide, long in self.sides.values())

    def lora(self, rank: int, target: tuple[str, ...]) -> int:
        """Weights of an adapter on every block."""
        return rank * self.count * sum(sum(self.sides[name]) for name in target)


@dataclass(frozen=True)
class Shape:
    """A backbone.

    Attributes:
        talker, predictor: its two stacks.
        text_hidden: width of the text embedding.
        text_vocabulary: number of text tokens.
        held: weights that a trial has loaded: all of the checkpoint's, and the speech tokenizer's.
    """

    talker: Blocks
    predictor: Blocks
    text_hidden: int
    text_vocabulary: int
    held: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any], held: int = 0) -> Shape:
        """From a checkpoint's config.json; what it leaves out is as in the published ones.

        Raises:
            KeyError, TypeError: it is no such file.
        """
        talker, known = config["talker_config"], published_config("0.6B")
        assert known is not None
        predictor = talker.get("code_predictor_config") or known["talker_config"]["code_predictor_config"]
        width, words = (int(talker.get(name, known["talker_config"][name])) for name in ("text_hidden_size", "text_vocab_size"))
        return cls(Blocks.of(talker), Blocks.of(predictor), width, words, held)

    @property
    def bridge(self) -> int:
        """Weights of the projection from talker to code predictor; none where both are as wide."""
        return self.talker.hidden * self.predictor.hidden if self.talker.hidden != self.predictor.hidden else 0

    @property
    def text_projection(self) -> int:
        """Weights of the two layers from the text embedding to the talker."""
        return self.text_hidden * (self.text_hidden + self.talker.hidden)

    @property
    def read_weights(self) -> int:
        """That a forward pass reads whole: blocks, projections and heads, not the embedding tables."""
        heads = self.talker.hidden * self.talker.codes + (CODEBOOKS - 1) * self.predictor.hidden * self.predictor.codes
        return self.talker.weights + self.predictor.weights + self.bridge + self.text_projection + heads

    @property
    def weights(self) -> int:
        """All weights but those of the speaker encoder, the norms and the biases."""
        tables = self.talker.hidden * (self.talker.codes + (CODEBOOKS - 1) * self.predictor.codes)
        return self.read_weights + tables + self.text_vocabulary * self.text_hidden

    def adapter(self, rank: int, target: tuple[str, ...], in_predictor: bool) -> int:
        """Trained weights of LoRA on the talker, and on the code predictor if asked for."""
        return self.talker.lora(rank, target) + (self.predictor.lora(rank, target) if in_predictor else 0)


@dataclass(frozen=True)
class Batch:
    """One batch: `rows` utterances padded to `positions`, `frames` codec frames in all, `chosen` of them in the loss of codebooks 1-15."""

    rows: int
    positions: int
    frames: int
    chosen: int

    @classmethod
    def equal(cls, rows: int, frames: int, text: int = 25, sub_frames: int | None = None) -> Batch:
        """Of `rows` utterances of `frames` frames and `text` tokens each; `sub_frames` as in the config, None for all."""
        total = rows * frames
        return cls(rows, PROMPT + text + frames, total, min(total, sub_frames or total))

    @property
    def text(self) -> int:
        """Text tokens in all, with what pads them."""
        return self.rows * (self.positions - PROMPT) - self.frames


def shape_of(experiment: Experiment) -> Shape | None:
    """The backbone's shape: of the tiny model, of a folder's config.json, or of a published checkpoint; None where neither is known."""
    name = experiment.model.backbone
    if name == "tiny":
        return _tiny(experiment)
    path = Path(name) / "config.json"
    config = read_json(path) if path.is_file() else published_config(name)
    if not isinstance(config, dict) or "talker_config" not in config:
        return None
    files = sum(file.stat().st_size for file in Path(name).glob("*.safetensors")) // 2  # checkpoints are bf16
    weights = files or PARAMETERS.get(config["talker_config"]["hidden_size"], 0)
    return Shape.of(config, round(weights + SPEECH_TOKENIZER))


def _tiny(experiment: Experiment) -> Shape:
    """What models/tiny.py, which imports torch, builds of these settings (a test holds them together)."""
    tiny, codes = experiment.model.tiny, getattr(experiment.data.codec, "codewords", CODES)
    hidden, head = tiny.hidden, 16
    talker = Blocks(tiny.layers, hidden, hidden // 16 * head, hidden // 32 * head, 3 * hidden, hidden // 16, codes + 1024)
    keys, heads = max(1, hidden // 64) * head, hidden // 32
    predictor = Blocks(2, hidden // 2, heads * head, keys, hidden, heads, codes)
    return Shape(talker, predictor, hidden + 16, TINY_WORDS, round(TINY_PARAMETERS * (hidden / 64) ** 2))
