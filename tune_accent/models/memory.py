"""How much memory one trial needs, from shapes alone: what autograd keeps of each layer, counted tensor by tensor. No torch.

    weights       of the frozen model, in the precision of training
    adapter       LoRA and heads in float32: weight, gradient and Adam's two moments
    activations   what one forward keeps for its backward: by talker layer, codebook 0's log-probabilities, code predictor by frame, pooling
    transient     what lives beside them for a moment: gradients of the logits, the layer that is at work
    context       what CUDA, cuBLAS and the allocator's rounding take besides (an estimate, not counted on the CPU)

A frozen matrix keeps nothing of its input, one with LoRA keeps it once. `sdpa` keeps its probabilities where algorithms are deterministic: then it is PyTorch's
math kernel, in float32. tests/models/test_memory.py holds this against the allocator's own events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tune_accent.config.schema import Experiment, Precision
from tune_accent.models.shape import CODEBOOKS, Batch, Blocks, Shape

Attention = Literal["math", "eager", "fused"]
CONTEXT = 0.7 * 2**30  # bytes of a CUDA process beside its tensors
SHARES = (0.25, 0.5, 1.0)  # of a card that the forecast speaks about
GRADIENTS = {
    "fp32": 0.4,
    "bf16": 0.5,
    "fp16": 0.7,
}  # of a block, beside what it keeps, while it goes backward: measured share of that


@dataclass(frozen=True)
class Setting:
    """What decides how much a step keeps."""

    precision: Precision
    attention: Attention
    talker_checkpointing: bool
    predictor_checkpointing: bool
    rank: int
    target: tuple[str, ...]
    in_predictor: bool

    @property
    def half(self) -> bool:
        """Weights and products are half as wide as the adapter's."""
        return self.precision != "fp32"

    @property
    def width(self) -> int:
        """Bytes of a number that a frozen product gives."""
        return 2 if self.half else 4

    @property
    def stream(self) -> int:
        """Bytes of a number of the residual stream (`forward.stream_dtype`)."""
        return 2 if self.precision == "bf16" else 4


@dataclass(frozen=True)
class Estimate:
    """Bytes of one trial; `peak` is the larger of a training step's and an evaluation batch's."""

    weights: float
    adapter: float
    activations: float
    transient: float
    evaluation: float

    @property
    def peak(self) -> float:
        """Bytes of all tensors at the worst moment."""
        return self.weights + self.adapter + max(self.activations + self.transient, self.evaluation)


def setting_of(experiment: Experiment) -> Setting:
    """What the experiment trains with; attention as `training.deterministic` leaves it."""
    model, training = experiment.model, experiment.training
    fused: Attention = "math" if training.deterministic else "fused"
    kernels: dict[str, Attention] = {"sdpa": fused, "eager": "eager", "flash_attention_2": "fused"}
    return Setting(
        precision=training.precision,
        attention=kernels[model.attention],
        talker_checkpointing=training.gradient_checkpointing,
        predictor_checkpointing=training.predictor_checkpointing,
        rank=model.lora.rank if model.lora.enabled else 0,
        target=model.lora.target,
        in_predictor=model.lora.code_predictor,
    )


def estimate(shape: Shape, setting: Setting, batch: Batch, evaluated: Batch, heads: int = 0) -> Estimate:
    """Bytes that a trial holds at its worst moment, on a device where nothing else is counted.

    Args:
        shape: of the backbone.
        setting: precision, checkpointing, attention and adapter.
        batch: the largest that is trained on.
        evaluated: the largest that is evaluated.
        heads: trained weights beside the adapter.
    """
    trained = trained_weights(shape, setting) + heads
    activations, transient = step_bytes(shape, setting, batch)
    return Estimate(
        weights=shape.held * setting.width,
        adapter=16.0 * trained,
        activations=activations + (trained * 2 if setting.half else 0),
        transient=transient,
        evaluation=evaluation_bytes(shape, setting, evaluated),
    )


def trained_weights(shape: Shape, setting: Setting) -> int:
    """Weights of the adapter."""
    return shape.adapter(setting.rank, setting.target, setting.in_predictor)


def step_bytes(shape: Shape, setting: Setting, batch: Batch) -> tuple[float, float]:
    """What one forward keeps, and what comes on top of it in the backward at the worst moment.

    The moments: the loss of codebooks 1-15 with its gradients; the code predictor's last block; the talker's last block.
    """
    stream = setting.stream
    positions, inner = batch.rows * batch.positions, batch.chosen * CODEBOOKS
    talker = layer_bytes(shape.talker, setting, batch.positions, adapted=True) * positions
    predictor = layer_bytes(shape.predictor, setting, CODEBOOKS, adapted=setting.in_predictor) * inner
    kept_talker = shape.talker.count * (stream * shape.talker.hidden * positions if setting.talker_checkpointing else talker)
    kept_predictor = shape.predictor.count * (
        stream * shape.predictor.hidden * inner if setting.predictor_checkpointing else predictor
    )
    outer = 8 * shape.talker.hidden * positions + 4 * shape.talker.codes * (
        batch.frames + batch.rows
    )  # final norm, pooling; logits
    norm = 4 * shape.predictor.hidden * inner
    logits = 4.0 * shape.predictor.codes * (CODEBOOKS - 1) * batch.chosen
    share = GRADIENTS[setting.precision]
    activations = kept_talker + kept_predictor + outer + norm + logits
    again_predictor = predictor if setting.predictor_checkpointing else 0
    again_talker = talker if setting.talker_checkpointing else 0
    moments = (
        2 * logits,
        share * predictor + again_predictor - logits,
        share * talker + again_talker - logits - norm - kept_predictor,
    )
    return activations, max(moments)


def layer_bytes(layers: Blocks, setting: Setting, length: int, *, adapted: bool) -> float:
    """What one block keeps of one position for its backward.

    Args:
        layers: shape of the block.
        setting: precision, attention and adapter.
        length: positions that attention spans.
        adapted: the block carries LoRA.
    """
    width = setting.width
    norms = 4 * (2 * layers.hidden + layers.queries + layers.keys)  # RMSNorm in float32: two of the stream, one of q and of k
    attention = _attention_bytes(layers, setting, length)
    mlp = 3 * width * layers.ffn  # gate, its activation, up
    return norms + attention + mlp + (_lora_bytes(layers, setting) if adapted and setting.rank else 0)


def _attention_bytes(layers: Blocks, setting: Setting, length: int) -> float:
    width, scores = setting.width, layers.heads * length
    if setting.attention == "math":
        return 4 * (3 * layers.queries + scores)
    if setting.attention == "eager":
        return width * 3 * layers.queries + (6 if setting.half else 4) * scores
    return width * 2 * (layers.queries + layers.keys) + 4 * layers.heads


def _lora_bytes(layers: Blocks, setting: Setting) -> float:
    """Inputs of the A matrices (one copy each in half precision, else one for those that share it) and of the B matrices."""
    width, target = setting.width, set(setting.target)
    readers = [len(target & {"q", "k", "v"}), len(target & {"gate", "up"})]
    copies = sum(readers) if setting.half else sum(map(bool, readers))
    wide = layers.queries * ("o" in target) + layers.ffn * ("down" in target)
    return width * (copies * layers.hidden + wide + setting.rank * len(target))


def evaluation_bytes(shape: Shape, setting: Setting, batch: Batch) -> float:
    """What an evaluation batch holds at its worst moment: a block of either stack at work, or logits on their way to the loss."""
    stream, talker, predictor = setting.stream, shape.talker, shape.predictor
    states = stream * talker.hidden * batch.rows * batch.positions
    sequence = stream * predictor.hidden * batch.chosen * CODEBOOKS
    per_logit = 10 if setting.half else 8  # as the head gives it, in float32, and as a log-probability
    return 2 * states + max(
        batch.rows * batch.positions * passing_bytes(talker, setting, batch.positions),
        states + per_logit * talker.codes * (batch.frames + batch.rows),
        states + sequence + batch.chosen * CODEBOOKS * passing_bytes(predictor, setting, CODEBOOKS),
        states + sequence + per_logit * predictor.codes * (CODEBOOKS - 1) * batch.chosen,
    )


def passing_bytes(layers: Blocks, setting: Setting, length: int) -> float:
    """What one block holds of one position while it is at work and keeps nothing: the larger of attention and MLP, beside the stream."""
    width, scores = setting.width, layers.heads * length
    turned = (
        8 if setting.precision == "fp16" else width
    )  # rotary embedding; with half products on a wide stream in float32, and cast back
    rotary = turned * (layers.queries + layers.keys)
    given = width * (layers.queries + 2 * layers.keys)
    if setting.attention == "math":
        attention = given * (3 if setting.half else 1) + 16 * layers.queries + 8 * scores  # all of it in float32
    elif setting.attention == "eager":
        attention = given + width * 3 * layers.queries + (2 * width + 4) * scores
    else:
        attention = given + width * layers.queries
    mlp = width * (3 * layers.ffn + layers.hidden)
    return 2 * setting.stream * layers.hidden + max(attention + rotary, mlp)
