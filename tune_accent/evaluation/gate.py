"""Verdicts with names: GO, CONDITIONAL, ADJUST, NO-GO, each with the number that decided it. Thresholds come from the config only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tune_accent.config.schema import Gate, GateLimits

if TYPE_CHECKING:
    from tune_accent.evaluation.figures import Evaluation, Figure

Name = Literal["GO", "CONDITIONAL", "ADJUST", "NO-GO"]


@dataclass(frozen=True)
class Verdict:
    """A decision about one representation.

    Attributes:
        name: GO, CONDITIONAL, ADJUST or NO-GO.
        decidable: whether there are enough speakers per accent for the name to mean anything.
        deciding: the number that decided it, with its limit, in words.
        reasons: everything else that kept it from a better name, and what limits it.
    """

    name: Name
    decidable: bool
    deciding: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}{'' if self.decidable else ' (not decidable)'}: {self.deciding}"


def verdict(figures: Mapping[str, Figure] | Evaluation, gate: Gate, speakers_per_accent: int) -> Verdict:
    """Decide.

    GO: values inside the GO limits, and every 95 % bound inside the CONDITIONAL limits. CONDITIONAL: values inside the CONDITIONAL
    limits. NO-GO: F1 below `adjust_f1`, or leakage over the CONDITIONAL limit. ADJUST: the rest. A text drop that cannot be identified
    does not count.

    Args:
        figures: at least `accent_f1`, `leakage`, `text_drop`.
        gate: the thresholds.
        speakers_per_accent: the fewest scored speakers of a gate accent.
    """
    found = figures if isinstance(figures, Mapping) else figures.figures
    name, failures, notes = _decide(found["accent_f1"], found["leakage"], found["text_drop"], gate)
    decidable = speakers_per_accent >= gate.min_speakers
    if not decidable:
        notes.append(f"not decidable: {speakers_per_accent} speakers per accent, {gate.min_speakers} are needed")
    deciding = failures[0] if failures else _all_met(found, gate.go)
    return Verdict(name, decidable, deciding, (*failures[1:], *notes))


def _decide(f1: Figure, leakage: Figure, drop: Figure, gate: Gate) -> tuple[Name, list[str], list[str]]:
    notes = [] if drop.value is not None else [f"text drop is not identifiable: {drop.reason}"]
    unknown = [
        f"{label} is not identifiable: {x.reason}" for label, x in (("accent F1", f1), ("leakage", leakage)) if x.value is None
    ]
    if f1.value is None or leakage.value is None:
        return "NO-GO", unknown, notes
    stop = []
    if not f1.value >= gate.adjust_f1:
        stop.append(f"accent F1 {f1.value:.3f} is below {gate.adjust_f1:.3f}")
    if not leakage.value <= gate.conditional.leakage:
        stop.append(f"leakage {leakage.value:+.3f} is over {gate.conditional.leakage:+.3f}")
    if stop:
        return "NO-GO", stop, notes
    adjust = _values_outside(f1, leakage, drop, gate.conditional)
    if adjust:
        return "ADJUST", adjust, notes
    conditional = _values_outside(f1, leakage, drop, gate.go) + _bounds_outside(f1, leakage, drop, gate.conditional)
    return ("CONDITIONAL" if conditional else "GO"), conditional, notes


def _values_outside(f1: Figure, leakage: Figure, drop: Figure, limits: GateLimits) -> list[str]:
    found = []
    if f1.value is not None and not f1.value >= limits.accent_f1:
        found.append(f"accent F1 {f1.value:.3f} is below {limits.accent_f1:.3f}")
    for label, figure, limit in (("leakage", leakage, limits.leakage), ("text drop", drop, limits.text_drop)):
        if figure.value is not None and not figure.value <= limit:
            found.append(f"{label} {figure.value:+.3f} is over {limit:+.3f}")
    return found


def _bounds_outside(f1: Figure, leakage: Figure, drop: Figure, limits: GateLimits) -> list[str]:
    found = []
    for label, figure in (("accent F1", f1), ("leakage", leakage), ("text drop", drop)):
        if figure.value is not None and (figure.low is None or figure.high is None):
            found.append(f"{label} has no interval, which GO needs")
    if f1.low is not None and not f1.low >= limits.accent_f1:
        found.append(f"lower bound of accent F1 {f1.low:.3f} is below {limits.accent_f1:.3f}")
    for label, figure, limit in (("leakage", leakage, limits.leakage), ("text drop", drop, limits.text_drop)):
        if figure.high is not None and not figure.high <= limit:
            found.append(f"upper bound of {label} {figure.high:+.3f} is over {limit:+.3f}")
    return found


def _all_met(found: Mapping[str, Figure], limits: GateLimits) -> str:
    """For GO: the value that is nearest to its limit."""
    f1, leakage, drop = (found[name].value for name in ("accent_f1", "leakage", "text_drop"))
    margins = []
    if f1 is not None:
        margins.append((f1 - limits.accent_f1, f"accent F1 {f1:.3f} reaches {limits.accent_f1:.3f}"))
    if leakage is not None:
        margins.append((limits.leakage - leakage, f"leakage {leakage:+.3f} is within {limits.leakage:+.3f}"))
    if drop is not None:
        margins.append((limits.text_drop - drop, f"text drop {drop:+.3f} is within {limits.text_drop:+.3f}"))
    return min(margins)[1] + ", the narrowest of the margins"
