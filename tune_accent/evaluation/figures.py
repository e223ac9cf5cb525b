"""What an evaluation says: a figure is a value with its interval, its chance and its n, or no value and the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tune_accent.config.schema import Gate
from tune_accent.evaluation.gate import Verdict, verdict


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        value: the number, or None where it cannot be identified.
        low, high: 95 % interval over speakers, or None where none was asked for or none exists.
        chance: what a representation without the information reaches.
        n: speakers behind the value.
        p: p-value of the permutation null, where there is one.
        reason: why there is no value.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    n: int | None = None
    p: float | None = None
    reason: str | None = None

    @property
    def corrected(self) -> float | None:
        """Chance-corrected value (v - c) / (1 - c)."""
        if self.value is None or self.chance is None or self.chance >= 1:
            return None
        return (self.value - self.chance) / (1 - self.chance)

    def to_dict(self) -> dict[str, Any]:
        """{value, low, high, chance, n} or {value: null, reason}; p where there is one."""
        if self.value is None:
            return {"value": None, "reason": self.reason}
        plain = {"value": self.value, "low": self.low, "high": self.high, "chance": self.chance, "n": self.n}
        return plain if self.p is None else {**plain, "p": self.p}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Figure:
        """The inverse of `to_dict`."""
        return cls(**plain)


@dataclass(frozen=True)
class Used:
    """What M, U and R came to: speakers per accent, utterances per speaker (fewest and most), draws that differ."""

    speakers: int
    utterances: int
    utterances_most: int
    draws: int


@dataclass(frozen=True)
class AccentDetail:
    """Figures of one gate accent: recall (unseen speakers), leakage unseen and seen, speakers in train and scored."""

    recall: float
    leakage_unseen: float
    leakage_seen: float
    train_speakers: int
    scored_speakers: int


@dataclass(frozen=True)
class Evaluation:
    """Accent and speaker leakage of one representation.

    Attributes:
        accent_f1, accent_balanced_accuracy: of unseen speakers over the gate accents.
        leakage_unseen, leakage_seen: mean over gate accents of (balanced accuracy of speaker within accent - 1/M).
        leakage: the larger of the two; its interval is (larger low, larger high).
        leakage_raw: balanced accuracy of speaker over all N unseen speakers - 1/N, *not* conditional on accent; a code of accent
            alone reaches `leakage_raw_ceiling` = (K - 1)/N.
        leakage_auc: same/different-speaker AUC within accent, unseen speakers; free of N, chance .5.
        text_drop: F1 with the scored texts in training minus F1 without them.
        per_accent: by name, gate accents only.
        confusion: utterance counts, true accent × predicted accent, in the order of `gate_accents`.
        gate_accents, secondary_accents: accents that count, and those with too few speakers.
        used: what M, U and R came to.
        strength: C that the accent probe chose.
    """

    accent_f1: Figure
    accent_balanced_accuracy: Figure
    leakage_unseen: Figure
    leakage_seen: Figure
    leakage: Figure
    leakage_raw: Figure
    leakage_raw_ceiling: Figure
    leakage_auc: Figure
    text_drop: Figure
    per_accent: Mapping[str, AccentDetail]
    confusion: tuple[tuple[int, ...], ...]
    gate_accents: tuple[str, ...]
    secondary_accents: tuple[str, ...]
    used: Used
    strength: float
    protocol_version: int

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if isinstance(getattr(self, field.name), Figure)}

    @property
    def speakers_per_accent(self) -> int:
        """The fewest scored speakers of a gate accent: what decides whether a verdict is decidable."""
        return min(detail.scored_speakers for detail in self.per_accent.values())

    def gate(self, thresholds: Gate) -> Verdict:
        """The verdict under `thresholds`."""
        return verdict(self.figures, thresholds, self.speakers_per_accent)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **{name: figure.to_dict() for name, figure in self.figures.items()},
            "per_accent": {name: asdict(detail) for name, detail in self.per_accent.items()},
            "confusion": [list(row) for row in self.confusion],
            "gate_accents": list(self.gate_accents),
            "secondary_accents": list(self.secondary_accents),
            "used": asdict(self.used),
            "strength": self.strength,
            "protocol_version": self.protocol_version,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`."""
        rest = ("per_accent", "confusion", "gate_accents", "secondary_accents", "used", "strength", "protocol_version")
        return cls(
            **{field.name: Figure.from_dict(plain[field.name]) for field in fields(cls) if field.name not in rest},
            per_accent={name: AccentDetail(**detail) for name, detail in plain["per_accent"].items()},
            confusion=tuple(tuple(row) for row in plain["confusion"]),
            gate_accents=tuple(plain["gate_accents"]),
            secondary_accents=tuple(plain["secondary_accents"]),
            used=Used(**plain["used"]),
            strength=plain["strength"],
            protocol_version=plain["protocol_version"],
        )
