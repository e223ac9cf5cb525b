"""What an evaluation says: a figure is a value with its interval, its chance and its n, or no value and the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
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
        most: what a representation with all the information reaches.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    n: int | None = None
    p: float | None = None
    reason: str | None = None
    most: float = 1.0

    @property
    def corrected(self) -> float | None:
        """Chance-corrected value (v - c) / (most - c): 0 at chance, 1 with all the information."""
        if self.value is None or self.chance is None or self.chance >= self.most:
            return None
        return (self.value - self.chance) / (self.most - self.chance)

    def to_dict(self) -> dict[str, Any]:
        """{value, low, high, chance, n}, with corrected, p, and most (if not 1) where they exist; or {value: null, reason}."""
        if self.value is None:
            return {"value": None, "reason": self.reason}
        plain = {"value": self.value, "low": self.low, "high": self.high, "chance": self.chance, "n": self.n}
        more = {"corrected": self.corrected, "p": self.p, "most": None if self.most == 1.0 else self.most}
        return plain | {name: value for name, value in more.items() if value is not None}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Figure:
        """The inverse of `to_dict`."""
        return cls(**{name: value for name, value in plain.items() if name != "corrected"})


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

    recall: Figure
    leakage_unseen: Figure
    leakage_seen: Figure
    train_speakers: int
    scored_speakers: int

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> AccentDetail:
        """The inverse of `asdict`, with figures as `Figure.to_dict` gives them."""
        values: dict[str, Any] = {
            name: Figure.from_dict(value) if isinstance(value, Mapping) else value for name, value in plain.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class SecondaryDetail:
    """An accent that has too few speakers for the gate, reported apart; it enters no other figure.

    Attributes:
        predicted: its scored utterances that the probe of the gate accents gives to each of these, in the order of `gate_accents`.
        recall: in a further probe, fitted on all accents that have a train speaker.
        train_speakers, scored_speakers: how many it has.
    """

    predicted: tuple[int, ...]
    recall: Figure
    train_speakers: int
    scored_speakers: int


@dataclass(frozen=True)
class Speakers:
    """What each speaker contributes, by name: every interval, and every paired difference, can be computed from these again.

    Attributes:
        accent: position among `gate_accents`, of scored and train speakers of the gate.
        predicted: utterances that were given each gate accent; scored speakers.
        unseen, seen: (recall, draws): mean recall of the speaker over the draws that hold it, and their number.
        raw: recall among all unseen speakers at once.
        auc: AUC as the anchor; speakers without a pair are left out.
        texts: predictions with the texts allowed (mean over probes), and with the texts removed; empty where there is no text drop.
        number: place in the order in which speakers are resampled, which is that of their utterances and not of their names.
    """

    accent: Mapping[str, int] = field(default_factory=dict)
    predicted: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unseen: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    seen: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    raw: Mapping[str, float] = field(default_factory=dict)
    auc: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)
    number: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            field.name: {speaker: _thawed(row) for speaker, row in getattr(self, field.name).items()} for field in fields(self)
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Speakers:
        """The inverse of `to_dict`."""
        return cls(**{name: {speaker: _frozen(row) for speaker, row in rows.items()} for name, rows in plain.items()})


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
        secondary: by name, the secondary accents.
        speakers: what each speaker of the gate contributes.
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
    secondary: Mapping[str, SecondaryDetail] = field(default_factory=dict)
    speakers: Speakers = field(default_factory=Speakers)

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure by name."""
        return {name: getattr(self, name) for name in _FIGURES}

    @property
    def confusion_shares(self) -> tuple[tuple[float, ...], ...]:
        """`confusion` with rows that sum to 1; a row without utterances stays 0."""
        return tuple(tuple(count / (sum(row) or 1) for count in row) for row in self.confusion)

    @property
    def degenerate(self) -> dict[str, str]:
        """Gate accents that the probe never predicts, or predicts without ever being right: no F1 of theirs means anything."""
        found = {}
        for position, name in enumerate(self.gate_accents):
            if not any(row[position] for row in self.confusion):
                found[name] = "never predicted"
            elif not self.confusion[position][position]:
                found[name] = "never correct"
        return found

    @property
    def speakers_per_accent(self) -> int:
        """The fewest scored speakers of a gate accent: what decides whether a verdict is decidable."""
        return min(detail.scored_speakers for detail in self.per_accent.values())

    def gate(self, thresholds: Gate) -> Verdict:
        """The verdict under `thresholds`."""
        return verdict(self.figures, thresholds, self.speakers_per_accent)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `confusion_shares` and `degenerate` follow from the rest."""
        return {
            **{name: figure.to_dict() for name, figure in self.figures.items()},
            "per_accent": {name: _plain(detail) for name, detail in self.per_accent.items()},
            "confusion": [list(row) for row in self.confusion],
            "confusion_shares": [list(row) for row in self.confusion_shares],
            "degenerate": self.degenerate,
            "gate_accents": list(self.gate_accents),
            "secondary_accents": list(self.secondary_accents),
            "secondary": {
                name: _plain(detail) | {"predicted": list(detail.predicted)} for name, detail in self.secondary.items()
            },
            "used": asdict(self.used),
            "strength": self.strength,
            "protocol_version": self.protocol_version,
            "speakers": self.speakers.to_dict(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`."""
        return cls(
            **{name: Figure.from_dict(plain[name]) for name in _FIGURES},
            per_accent={name: AccentDetail.from_dict(detail) for name, detail in plain["per_accent"].items()},
            confusion=_frozen(plain["confusion"]),
            gate_accents=tuple(plain["gate_accents"]),
            secondary_accents=tuple(plain["secondary_accents"]),
            secondary={
                name: SecondaryDetail(
                    **(detail | {"predicted": tuple(detail["predicted"]), "recall": Figure.from_dict(detail["recall"])})
                )
                for name, detail in plain["secondary"].items()
            },
            used=Used(**plain["used"]),
            strength=plain["strength"],
            protocol_version=plain["protocol_version"],
            speakers=Speakers.from_dict(plain["speakers"]),
        )


_FIGURES = tuple(each.name for each in fields(Evaluation) if each.type == "Figure")


def _plain(detail: AccentDetail | SecondaryDetail) -> dict[str, Any]:
    values = {each.name: getattr(detail, each.name) for each in fields(detail)}
    return {name: value.to_dict() if isinstance(value, Figure) else value for name, value in values.items()}


def _thawed(value: Any) -> Any:
    """Tuples as lists, at any depth."""
    return [_thawed(each) for each in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    """Lists as tuples, at any depth."""
    return tuple(_frozen(each) for each in value) if isinstance(value, list | tuple) else value
