"""What is trained beside the adapter, and the leakage term: mean alignment within accent and a speaker adversary given accent.

Accent is a function of speaker, so a term that forgets the speaker altogether forgets the accent too. Both terms here compare
speakers of the same accent only. They are computed in float32 whatever autocast says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOOR = 1e-12  # of a batch variance, against division by zero


class _ScaledGradient(torch.autograd.Function):
    """Identity forward; the gradient times a factor backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def _scaled(x: Tensor, factor: float) -> Tensor:
    scaled: Tensor = _ScaledGradient.apply(x, factor)  # type: ignore[no-untyped-call]
    return scaled


def reverse_gradient(x: Tensor, scale: float) -> Tensor:
    """x itself, with its gradient times −`scale` (gradient reversal, Ganin & Lempitsky 2015)."""
    return _scaled(x, -scale)


def scale_gradient(x: Tensor, kappa: float) -> Tensor:
    """x itself, with its gradient times `kappa`; x untouched at 1."""
    return x if kappa == 1.0 else _scaled(x, kappa)


class AccentTable(nn.Module):
    """One embedding e_a per accent, all zero at step 0: added at the language-id position, it changes nothing yet.

    Args:
        accents: number of accents.
        dim: width of the talker's input embeddings.
    """

    def __init__(self, accents: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(accents, dim))

    def forward(self, accent: Tensor) -> Tensor:
        """accent: (B,) int64 → (B, dim) float32."""
        return F.embedding(accent, self.weight)


class ZHead(nn.Module):
    """z = Linear(LayerNorm([mean; std])) of pooled hidden states.

    Args:
        pooled: width of the pooled state, 2H.
        z_dim: width of z.
    """

    def __init__(self, pooled: int, z_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(pooled)
        self.linear = nn.Linear(pooled, z_dim)

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled: (B, 2H) → z: (B, z_dim)."""
        z: Tensor = self.linear(self.norm(pooled))
        return z


class AccentHead(nn.Module):
    """Linear accent classifier on z.

    Args:
        z_dim: width of z.
        accents: number of accents.
    """

    def __init__(self, z_dim: int, accents: int) -> None:
        super().__init__()
        self.linear = nn.Linear(z_dim, accents)

    def forward(self, z: Tensor) -> Tensor:
        """z: (B, z_dim) → logits (B, accents)."""
        logits: Tensor = self.linear(z)
        return logits


def balanced_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in which every class that is present weighs the same.

    Args:
        logits: (B, classes).
        target: (B,) int64.

    Returns:
        Scalar: the mean over the present classes of the mean CE of their rows; ln(classes) at chance.
    """
    with torch.autocast(logits.device.type, enabled=False):
        rows = F.cross_entropy(logits.float(), target, reduction="none")
        members = F.one_hot(target, logits.shape[1]).to(rows.dtype)
        counts = members.sum(0)
        weights = members @ (1.0 / counts.clamp_min(1.0))
        return (rows * weights).sum() / (counts > 0).sum()


class SpeakerAdversary(nn.Module):
    """CE(speaker | z, accent): who speaks, told among the training speakers of the row's own accent.

    Logits of other accents' speakers are masked, and the loss is divided by log(speakers of the accent), so that 1.0 is chance for every accent. Accents with
    one training speaker hold nothing to tell apart and are left out. LayerNorm in front: z cannot hide by shrinking. The last layer starts at zero, hence at chance.

    Args:
        z_dim: width of z.
        speakers_of_accent: accent number → numbers of its training speakers; a speaker has one accent.
        width: of the hidden layer.
    """

    def __init__(self, z_dim: int, speakers_of_accent: Mapping[int, Sequence[int]], width: int = 64) -> None:
        super().__init__()
        numbers = [speaker for group in speakers_of_accent.values() for speaker in group]
        if len(set(numbers)) != len(numbers):
            raise ValueError("a speaker belongs to two accents")
        own = torch.zeros(max(speakers_of_accent, default=-1) + 1, max(numbers, default=-1) + 1, dtype=torch.bool)
        for accent, group in speakers_of_accent.items():
            own[accent, list(group)] = len(group) > 1
        self.own: Tensor
        self.register_buffer("own", own, persistent=False)
        self.body = nn.Sequential(nn.LayerNorm(z_dim), nn.Linear(z_dim, width), nn.GELU())
        self.last = nn.Linear(width, own.shape[1])
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, z: Tensor, accent: Tensor) -> Tensor:
        """z: (B, z_dim), accent: (B,) int64 → logits (B, speakers); −inf for speakers of other accents."""
        logits: Tensor = self.last(self.body(z))
        return logits.float().masked_fill(~self.own[accent], -math.inf)

    def loss(self, z: Tensor, speaker: Tensor, accent: Tensor) -> Tensor:
        """Mean over rows of CE / log(speakers of the row's accent); 1.0 at chance, 0 where no row counts.

        Args:
            z: (B, z_dim).
            speaker: (B,) int64.
            accent: (B,) int64.
        """
        choices = self.own[accent].sum(1)
        kept = choices > 1
        if not bool(kept.any()):
            return z.sum() * 0.0
        rows = F.cross_entropy(self(z[kept], accent[kept]), speaker[kept], reduction="none")
        return (rows / choices[kept].log()).mean()


def _mean_matrix(groups: Tensor, count: int) -> Tensor:
    """(count, rows) float32 that averages the rows of each group; matrix products add in one fixed order."""
    members = F.one_hot(groups, count).T.float()
    return members / members.sum(1, keepdim=True)


def alignment(z: Tensor, speaker: Tensor, accent: Tensor) -> Tensor:
    """Distance of speaker means from their accent's mean, in live standard deviations: the between-speaker share of z's variance.

    Σ_s ‖(μ_s − μ_a)/σ‖² divided by (speakers × dims), so that λ means the same for every batch shape and width of z. μ_a is the mean of its speakers' means; σ is the
    batch's own standard deviation per dimension, and the gradient goes through it: the value does not change when z is scaled, so shrinking z does not satisfy it.

    Args:
        z: (B, z_dim).
        speaker: (B,) int64.
        accent: (B,) int64.

    Returns:
        Scalar ≥ 0, over the speakers of accents that have at least two speakers in the batch; 0 where there are none.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = z.float()
        names, of_row = torch.unique(speaker, return_inverse=True)
        accents, of_speaker = torch.unique(_first(accent, of_row, len(names)), return_inverse=True)
        speaker_means = _mean_matrix(of_row, len(names)) @ z
        accent_means = _mean_matrix(of_speaker, len(accents)) @ speaker_means
        variance = z.var(0, correction=0).clamp_min(FLOOR)
        distance = ((speaker_means - accent_means[of_speaker]).square() / variance).mean(1)
        kept = torch.bincount(of_speaker, minlength=len(accents))[of_speaker] > 1
        return (distance * kept).sum() / kept.sum().clamp_min(1)


def _first(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """The value that the rows of each group share. Raises ValueError where a group has two (a speaker with two accents)."""
    shared = values.new_empty(count)
    shared[groups] = values
    if not torch.equal(shared[groups], values):
        raise ValueError("a speaker has two accents in this batch")
    return shared
