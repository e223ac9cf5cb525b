"""FLOPs of a training step, and the bytes of weights that it cannot do without reading: the floors of its time. No torch.

One multiply-add counts as two FLOPs. Norms, activations, embeddings and the speaker encoder are left out (below 2 % together). The base is frozen, so a
backward pass computes gradients of activations only and costs as much as the forward; checkpointing adds a second forward.
The adapter is left out too: at rank 16 on q, k, v, o it is 1 to 2 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from tune_accent.models.shape import CODEBOOKS, Batch, Blocks, Shape


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


def forward_flops(shape: Shape, batch: Batch) -> Flops:
    """FLOPs of one forward with both losses."""
    talker, predictor = shape.talker, shape.predictor
    text = 2.0 * shape.text_projection * batch.text
    codes = 2.0 * talker.hidden * talker.codes * (batch.frames + batch.rows)
    answers = 2.0 * (CODEBOOKS - 1) * predictor.hidden * predictor.codes
    return Flops(
        talker=block_flops(talker, batch.rows, batch.positions) + text + codes,
        predictor=block_flops(predictor, batch.chosen, CODEBOOKS) + batch.chosen * (2.0 * CODEBOOKS * shape.bridge + answers),
    )


def block_flops(blocks: Blocks, rows: int, length: int) -> float:
    """Forward FLOPs of `rows` sequences of `length` positions; attention over the whole square, as the math kernel does it."""
    return rows * (2.0 * blocks.weights * length + 4.0 * blocks.count * blocks.queries * length**2)


def step_flops(shape: Shape, batch: Batch, *, talker_again: bool = False, predictor_again: bool = False) -> float:
    """FLOPs of one forward and backward through the frozen model.

    Args:
        shape: of the model.
        batch: of one step.
        talker_again, predictor_again: gradient checkpointing, which computes the forward of that part twice.
    """
    found = forward_flops(shape, batch)
    return found.talker * (2 + talker_again) + found.predictor * (2 + predictor_again)


def read_bytes(shape: Shape, width: int = 2) -> float:
    """Bytes of weights that one step reads at least: all that is used, in forward and backward. `width`: bytes per weight."""
    return 2.0 * width * shape.read_weights
