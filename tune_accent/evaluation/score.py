"""The one number that the sampler and ASHA see, and whether a trial keeps the limits behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tune_accent.config.schema import Score


@dataclass(frozen=True)
class Feasibility:
    """Whether a trial keeps every limit, and how far it is over each (0 where it is inside; in the limit's own unit)."""

    ok: bool
    excess: Mapping[str, float]
    penalty: float

    def __bool__(self) -> bool:
        return self.ok


def score(accent_f1: float, leakage: float, text_drop: float | None, val_loss: float, base_val_loss: float, cfg: Score) -> float:
    """J = F1 - a·[leakage - τ]₊ - b·[drop - limit]₊ - c·[val_loss - ratio · base]₊; NaN if any input is not finite.

    Args:
        accent_f1, leakage: of the last epoch.
        text_drop: None where it cannot be identified: no penalty.
        val_loss, base_val_loss: of the trial and of the base model.
        cfg: limits and penalties.
    """
    return accent_f1 - feasible(leakage, text_drop, val_loss, base_val_loss, cfg).penalty


def feasible(leakage: float, text_drop: float | None, val_loss: float, base_val_loss: float, cfg: Score) -> Feasibility:
    """Compare a trial with the limits of the score."""
    over = {"leakage": leakage - cfg.leakage_limit, "val_loss": val_loss - cfg.val_loss_ratio * base_val_loss}
    if text_drop is not None:
        over["text_drop"] = text_drop - cfg.drop_limit
    if not all(math.isfinite(value) for value in over.values()):
        return Feasibility(False, over, math.nan)
    excess = {name: max(0.0, value) for name, value in over.items()}
    weights = {"leakage": cfg.leakage_penalty, "val_loss": cfg.val_loss_penalty, "text_drop": cfg.drop_penalty}
    penalty = math.fsum(weights[name] * value for name, value in excess.items())
    return Feasibility(not any(excess.values()), excess, penalty)
