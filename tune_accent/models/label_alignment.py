"""Are labels and positions of the forward those that a trained model was made with? A check that only a model which knows something can answer.

A stock checkpoint predicts the next frame far better than the one after, and codebook i + 1 from head i far better than codebook i + 2. Where labels are shifted
once too often, as in the official fine-tuning script, both turn around. Reported for the stock model: 6.05 against 11.03 nats, and 7.24 against 10.03.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tune_accent.base.errors import DataError
from tune_accent.models.backbone import Backbone
from tune_accent.models.forward import CODEBOOKS, Inputs, codebook0_logits, embed, subtalker_logits, trunk

MARGIN = 1.0  # nats: "far below"; an aligned stock model has 2.8 or more, an untrained one next to none


@dataclass(frozen=True)
class AlignmentReport:
    """Mean cross-entropies in nats, over the same positions in each pair.

    Attributes:
        next_frame: of codebook 0 of frame j + 1, from the state that has read frame j.
        after_next: of codebook 0 of frame j + 2, from that same state.
        subtalker: of codebook i + 1 of a frame, from head i of the code predictor (i = 0-13).
        subtalker_shifted: of codebook i + 2 of that frame, from that same head.
        margin: by which the first of each pair has to lie below the second.
    """

    next_frame: float
    after_next: float
    subtalker: float
    subtalker_shifted: float
    margin: float = MARGIN

    @property
    def ok(self) -> bool:
        """Both pairs are as they are where training and generation agree."""
        return self.after_next - self.next_frame > self.margin and self.subtalker_shifted - self.subtalker > self.margin

    @property
    def words(self) -> str:
        """The four figures and what follows from them."""
        figures = (
            f"codebook 0: {self.next_frame:.2f} nats on the next frame, {self.after_next:.2f} on the one after; "
            f"codebooks 1-15: {self.subtalker:.2f} as they are, {self.subtalker_shifted:.2f} shifted by one"
        )
        if self.ok:
            return f"labels and positions agree with the weights ({figures})"
        return f"labels and positions do NOT agree with the weights, or the weights are untrained ({figures}; {self.margin:g} nats apart needed)"


@torch.no_grad()
def alignment(backbone: Backbone, inputs: Inputs, speaker: Tensor | None = None) -> AlignmentReport:
    """Cross-entropy of real codes on the labels as they are and one further.

    Args:
        backbone: with trained weights, in evaluation mode.
        inputs: a batch of real speech on the backbone's device, every row with at least two frames.
        speaker: (B, H) S of each row; None leaves the speaker position empty, which costs every figure a little.

    Raises:
        DataError: no row has two frames.
    """
    given = speaker if speaker is not None else torch.zeros(inputs.rows, backbone.hidden, device=backbone.device)
    last, _ = trunk(backbone, embed(backbone, inputs, given, None), backbone.layers, whole=True)
    follows = torch.zeros_like(inputs.frame_at, dtype=torch.bool)
    follows[:-1] = inputs.frame_at[1:] == inputs.frame_at[:-1] + 1  # frames whose successor is in the same row
    if not follows.any():
        raise DataError("alignment needs utterances of two frames or more")
    first = codebook0_logits(backbone, inputs, last).float()[_of_frames(inputs)]
    code = inputs.codes[:, 0]
    heads = subtalker_logits(backbone, inputs, last, None).float()[:, : CODEBOOKS - 2]
    return AlignmentReport(
        next_frame=float(F.cross_entropy(first[follows], code[follows])),
        after_next=float(F.cross_entropy(first[follows], code[1:][follows[:-1]])),
        subtalker=float(F.cross_entropy(heads.flatten(0, 1), inputs.codes[:, 1:-1].flatten())),
        subtalker_shifted=float(F.cross_entropy(heads.flatten(0, 1), inputs.codes[:, 2:].flatten())),
    )


def _of_frames(inputs: Inputs) -> Tensor:
    """(N,) which of `label_at` predict a frame (the others predict EOS), in the order of frames."""
    place = {at: number for number, at in enumerate(inputs.label_at.tolist())}
    return torch.tensor([place[at - 1] for at in inputs.frame_at.tolist()], device=inputs.label_at.device)
