"""What one step minimises (DESIGN §5).

    A-batch   CE(codebook 0) + s·CE(codebooks 1-15)
    ∅-batch   the same + β·CE_balanced(accent | z) + λ·(a·alignment + b·gradient-reversed within-accent speaker CE)

Unconditionally (`objective.conditional: false`) both leakage terms take all speakers for one accent: the adversary tells every training speaker from every
other, divided by log of them all, and alignment pulls speaker means to the grand mean. Accent is a function of speaker, so that removes accent too.

The accent and leakage terms never see an A-batch: there the labels could be read off the input.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tune_accent.config.schema import Objective
from tune_accent.models.adversary import SpeakerAdversary, alignment, balanced_cross_entropy, reverse_gradient
from tune_accent.models.forward import Output
from tune_accent.training.heads import Heads


@dataclass(frozen=True)
class Labels:
    """Accent and speaker numbers of a ∅-batch.

    Attributes:
        accent: (B,) int64.
        speaker: (B,) int64, over all training speakers.
        group: (B,) int64, within which speakers are compared: the accent; one for all in the unconditional ablation (`objective.conditional`).
    """

    accent: Tensor
    speaker: Tensor
    group: Tensor


def speech_loss(output: Output, objective: Objective) -> Tensor:
    """Cross-entropy of the codes: codebook 0 plus the weighted mean over codebooks 1-15."""
    return output.loss_codebook0 + objective.subtalker_weight * output.loss_subtalker


def accent_loss(heads: Heads, z: Tensor, labels: Labels) -> Tensor:
    """CE(accent | z), every accent of the batch weighted alike."""
    return balanced_cross_entropy(heads.classifier(z), labels.accent)


def leakage_loss(adversary: SpeakerAdversary, z: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
    """The two leakage terms before their weights: mean alignment, and the adversary's CE with its gradient reversed on the way into z.

    The adversary's own weights must be frozen by the caller: they are stepped elsewhere, on detached z.
    """
    opposed = adversary.loss(reverse_gradient(z, 1.0), labels.speaker, labels.group)
    return alignment(z, labels.speaker, labels.group), opposed


def ramp(step: int, ramp_steps: int) -> float:
    """λ's share at optimizer step `step` (from 0): linear from 0 to 1 over `ramp_steps`, in absolute steps."""
    return min(1.0, (step + 1) / ramp_steps) if ramp_steps else 1.0
