"""Splits in words: who is where, which accents count in the gate and why, and whom to hold out where speakers are few.

Does not change the splits: `splits.json` stays the record that everything else reads.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tune_accent.base.files import write_text
from tune_accent.data.manifest import Manifest
from tune_accent.data.splits import NAMES, Splits

REPORT = "splits.md"
FEW = 5  # speakers of an accent; below, every one of them is held out once


@dataclass(frozen=True)
class AccentSplit:
    """One accent of a split corpus.

    Attributes:
        accent: its name.
        genders: split → gender ("?" where it is not known) → speakers.
        utterances: of all its speakers.
        hours: of speech.
        in_gate: whether it counts in the gate.
        why: what decided that.
        decidable: whether val and test have the speakers that a verdict wants.
    """

    accent: str
    genders: dict[str, dict[str, int]]
    utterances: int
    hours: float
    in_gate: bool
    why: str
    decidable: bool

    def speakers(self, split: str) -> int:
        """Speakers in a split."""
        return sum(self.genders[split].values())

    def row(self) -> list[str]:
        """The cells of a table."""
        genders = (" ".join(f"{count} {gender}" for gender, count in sorted(self.genders[name].items())) for name in NAMES)
        return [self.accent, *genders, str(self.utterances), f"{self.hours:.1f}", self.why]


HEADER = ["accent", *NAMES, "utterances", "hours", "in the gate"]


def by_accent(manifest: Manifest, splits: Splits, gate_speakers: int, verdict_speakers: int) -> list[AccentSplit]:
    """Every accent, sorted.

    Args:
        gate_speakers: `data.splits.min_gate_speakers`, in val and in test.
        verdict_speakers: `gate.min_speakers`, for a verdict to be decidable.
    """
    genders = {row.speaker: row.gender or "?" for row in manifest.rows}
    utterances = Counter(row.accent for row in manifest.rows)
    seconds: dict[str, float] = defaultdict(float)
    for row in manifest.rows:
        seconds[row.accent] += row.duration_s
    found = []
    for accent in manifest.accents:
        own = [speaker for speaker, other in manifest.speakers.items() if other == accent]
        split = {name: dict(Counter(genders[who] for who in own if splits.split[who] == name)) for name in NAMES}
        least = min(sum(split[name].values()) for name in ("val", "test"))
        in_gate, decidable = accent in splits.gate_accents, least >= verdict_speakers
        why = _why(in_gate, least, gate_speakers, verdict_speakers)
        found.append(AccentSplit(accent, split, utterances[accent], seconds[accent] / 3600, in_gate, why, decidable))
    return found


def _why(in_gate: bool, least: int, gate_speakers: int, verdict_speakers: int) -> str:
    has = f"{least} speaker{'s' if least != 1 else ''} in val or test"
    if not in_gate:
        return f"no: {has}, at least {gate_speakers} in each are wanted"
    if least < verdict_speakers:
        return f"yes, but no verdict can be decided: {has}, at least {verdict_speakers} are wanted"
    return f"yes: at least {least} speakers in val and in test"


def write_report(
    manifest: Manifest, splits: Splits, accents: Sequence[AccentSplit], repeats: Sequence[tuple[int, Splits]]
) -> Path:
    """Write `splits.md` beside the manifest.

    Args:
        repeats: further splits by seed, for robustness; a table says where each speaker of a small accent is in them.
    """
    parts = ["# Splits", _gate(splits), markdown(HEADER, [accent.row() for accent in accents]), _folds(splits)]
    small = [accent for accent in accents if sum(accent.speakers(name) for name in NAMES) < FEW]
    if small:
        parts += ["## Leave one speaker out", _few(), markdown(*_held_out(manifest, splits, small))]
    if repeats:
        parts += ["## Repeated splits", _repeated(), markdown(*_repeats(accents, manifest, repeats))]
    path = manifest.root / REPORT
    text = "\n\n".join(parts) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path


def _gate(splits: Splits) -> str:
    secondary = (
        f" Secondary, measured but left out of the gate: {', '.join(splits.secondary_accents)}."
        if splits.secondary_accents
        else ""
    )
    return f"Seed {splits.seed}. In the gate: {', '.join(splits.gate_accents) or 'none'}.{secondary}"


def _folds(splits: Splits) -> str:
    gaps = sum(fold == -1 for fold in splits.fold.values())
    sizes = Counter(fold for fold in splits.fold.values() if fold >= 0)
    counts = ", ".join(str(sizes[fold]) for fold in range(splits.folds))
    return f"Utterances by fold: {counts}; in the gaps between folds: {gaps}. Fold {splits.held_fold} of train speakers is held out of training."


def _few() -> str:
    return (
        f"Accents with fewer than {FEW} speakers: one split says little about them. Each line is a round that holds out one speaker and trains on the "
        "others of the accent."
    )


def _repeated() -> str:
    return "The same corpus split with other seeds (`splits-<seed>.json`; a search takes one with `data.splits.seed`): speakers in train / val / test."


def _held_out(manifest: Manifest, splits: Splits, small: Sequence[AccentSplit]) -> tuple[list[str], list[list[str]]]:
    genders = {row.speaker: row.gender or "?" for row in manifest.rows}
    utterances = Counter(row.speaker for row in manifest.rows)
    lines = []
    for accent in small:
        own = [speaker for speaker, other in manifest.speakers.items() if other == accent.accent]
        for number, speaker in enumerate(own, start=1):
            others = ", ".join(other for other in own if other != speaker)
            lines.append(
                [accent.accent, str(number), speaker, genders[speaker], str(utterances[speaker]), splits.split[speaker], others]
            )
    return ["accent", "round", "held out", "gender", "utterances", "here in", "trained on"], lines


def _repeats(
    accents: Sequence[AccentSplit], manifest: Manifest, repeats: Sequence[tuple[int, Splits]]
) -> tuple[list[str], list[list[str]]]:
    lines = []
    for seed, repeat in repeats:
        own = Counter((accent, repeat.split[speaker]) for speaker, accent in manifest.speakers.items())
        cells = [" / ".join(str(own[accent.accent, name]) for name in NAMES) for accent in accents]
        moved = ", ".join(
            f"{accent}: {_in(manifest, repeat, accent, 'test')}" for accent in manifest.accents if _small(manifest, accent)
        )
        lines.append([str(seed), *cells, moved or "-"])
    return ["seed", *(accent.accent for accent in accents), "test speakers of small accents"], lines


def _in(manifest: Manifest, splits: Splits, accent: str, name: str) -> str:
    return " ".join(who for who, other in manifest.speakers.items() if other == accent and splits.split[who] == name)


def _small(manifest: Manifest, accent: str) -> bool:
    return sum(other == accent for other in manifest.speakers.values()) < FEW


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    cells = [list(header), ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)
