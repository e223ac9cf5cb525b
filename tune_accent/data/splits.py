"""Who is in train, val and test, and which utterances of a speaker belong to which fold.

Speakers are split within each accent, genders alternating as far as they go. Folds go by text where texts are read by several
speakers, else they are contiguous in time with a gap between them. Disjointness is asserted when splits are made and when they are read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, sha256_json, write_json
from tune_accent.config import speech
from tune_accent.data.manifest import Manifest, Utterance

NAMES = ("train", "val", "test")
FORMAT = 1


@dataclass(frozen=True)
class Splits:
    """A split of the speakers and the folds of the utterances.

    Attributes:
        split: speaker → "train", "val" or "test".
        fold: utt_id → 0 … folds - 1, or -1 for an utterance of a gap, which belongs to no fold.
        gate_accents: accents with enough speakers in val and in test to count in the gate, sorted.
        secondary_accents: the others, sorted.
        folds: number of folds.
        held_fold: the fold of train speakers that is kept out of training.
        seed: the seed that the splits were drawn with.
        sha256: of all the above and of the manifest they were made for.
    """

    split: Mapping[str, str]
    fold: Mapping[str, int]
    gate_accents: tuple[str, ...]
    secondary_accents: tuple[str, ...]
    folds: int
    held_fold: int
    seed: int
    sha256: str


def make_splits(manifest: Manifest, cfg: speech.Splits, seed: int) -> Splits:
    """Split a corpus; a pure function of its arguments.

    Raises:
        DataError: an accent has fewer than three speakers, or a speaker too few utterances for the folds.
    """
    draw_speakers, draw_folds = np.random.SeedSequence(seed).spawn(2)
    split = _split_speakers(manifest, cfg, np.random.default_rng(draw_speakers))
    if _is_read_speech(manifest.rows):
        fold = _folds_by_text(manifest.rows, cfg.folds, np.random.default_rng(draw_folds))
    else:
        fold = _folds_by_time(manifest.rows, cfg.folds, cfg.gap)
    gate = _gate_accents(manifest, split, cfg.min_gate_speakers)
    secondary = tuple(sorted(set(manifest.accents) - set(gate)))
    body = _body(split, fold, gate, secondary, cfg.folds, cfg.held_fold, seed)
    splits = Splits(split, fold, gate, secondary, cfg.folds, cfg.held_fold, seed, _hash(body, manifest))
    assert_sound(splits, manifest, "splits")
    return splits


def save(splits: Splits, path: Path, manifest: Manifest) -> None:
    """Write `splits` with the hash of the manifest that they belong to."""
    head = {"format": FORMAT, "sha256": splits.sha256, "manifest_sha256": manifest.sha256}
    write_json(path, head | _body_of(splits))


def load(path: Path, manifest: Manifest) -> Splits:
    """Read splits of `manifest`.

    Raises:
        DataError: the file belongs to another manifest, was edited, or a speaker or utterance is in two places or in none.
    """
    value = read_json(path)
    try:
        splits = Splits(
            split={str(key): str(item) for key, item in value["split"].items()},
            fold={str(key): int(item) for key, item in value["fold"].items()},
            gate_accents=tuple(value["gate_accents"]),
            secondary_accents=tuple(value["secondary_accents"]),
            folds=int(value["folds"]),
            held_fold=int(value["held_fold"]),
            seed=int(value["seed"]),
            sha256=str(value["sha256"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"not a file of splits ({error!r})", where=str(path), fix="remove it to have it made again") from error
    assert_sound(splits, manifest, str(path))
    if _hash(_body_of(splits), manifest) != splits.sha256:
        raise DataError(
            "the splits were edited, or belong to another manifest", where=str(path), fix="remove the file to have it made again"
        )
    return splits


def assert_sound(splits: Splits, manifest: Manifest, where: str) -> None:
    """Every speaker is in exactly one split, every utterance in one fold or gap, and no split is empty.

    Raises:
        DataError: they are not.
    """
    problem = _unsound(splits, manifest)
    if problem:
        raise DataError(problem, where=where, fix="remove the file to have it made again")


def _unsound(splits: Splits, manifest: Manifest) -> str | None:
    missing = sorted(set(manifest.speakers) ^ set(splits.split))
    if missing:
        return f"speaker {missing[0]!r} is in the manifest or in the splits, but not in both"
    if set(splits.split.values()) != set(NAMES):
        return f"splits must be {', '.join(NAMES)}, each with speakers, got {', '.join(sorted(set(splits.split.values())))}"
    strangers = sorted({row.utt_id for row in manifest.rows} ^ set(splits.fold))
    if strangers:
        return f"utterance {strangers[0]!r} is in the manifest or in the folds, but not in both"
    outside = sorted(utt_id for utt_id, fold in splits.fold.items() if not -1 <= fold < splits.folds)
    return f"utterance {outside[0]!r} is in fold {splits.fold[outside[0]]}, there are {splits.folds}" if outside else None


def _split_speakers(manifest: Manifest, cfg: speech.Splits, generator: np.random.Generator) -> dict[str, str]:
    genders = {row.speaker: row.gender or "" for row in manifest.rows}
    by_accent: dict[str, list[str]] = defaultdict(list)
    for speaker, accent in manifest.speakers.items():
        by_accent[accent].append(speaker)
    split: dict[str, str] = {}
    first = int(generator.integers(2))
    for position, (accent, speakers) in enumerate(sorted(by_accent.items())):
        counts = _counts(accent, len(speakers), cfg, manifest.root)
        order = _alternate(speakers, genders, first + position, generator)
        names = [name for name, count in zip(NAMES, counts, strict=True) for _ in range(count)]
        split.update(zip(order, names, strict=True))
    return dict(sorted(split.items()))


def _counts(accent: str, speakers: int, cfg: speech.Splits, root: Path) -> tuple[int, ...]:
    """Speakers of an accent per split: largest remainders of the shares, at least one each."""
    if speakers < len(NAMES):
        raise DataError(
            f"accent {accent!r} has {speakers} speaker{'s' if speakers != 1 else ''}; train, val and test need at least one each",
            where=str(root / "manifest.jsonl"),
            fix="add speakers of this accent or leave the accent out of the corpus",
        )
    shares = np.array([cfg.train, cfg.val, cfg.test])
    exact = shares / shares.sum() * speakers
    counts = np.maximum(np.floor(exact + 1e-9).astype(int), 1)
    while counts.sum() < speakers:
        counts[int(np.argmax(exact - counts))] += 1
    while counts.sum() > speakers:
        counts[int(np.argmax(np.where(counts > 1, counts - exact, -np.inf)))] -= 1
    return tuple(int(count) for count in counts)


def _alternate(speakers: Sequence[str], genders: Mapping[str, str], first: int, generator: np.random.Generator) -> list[str]:
    """Shuffle the speakers so that every stretch holds each gender in proportion; `first` rotates who leads."""
    groups: dict[str, list[str]] = defaultdict(list)
    for speaker in sorted(speakers):
        groups[genders[speaker]].append(speaker)
    places: list[tuple[float, int, str]] = []
    for index, (_, members) in enumerate(sorted(groups.items())):
        turn = (index + first) % len(groups)
        for rank, member in enumerate(generator.permutation(len(members))):
            places.append(((rank + 0.5) / len(members), turn, members[int(member)]))
    return [speaker for _, _, speaker in sorted(places)]


def _is_read_speech(rows: Sequence[Utterance]) -> bool:
    """Whether at least half of the utterances have a text that another speaker reads as well."""
    readers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.text_id is not None:
            readers[row.text_id].add(row.speaker)
    shared = sum(row.text_id is not None and len(readers[row.text_id]) > 1 for row in rows)
    return 2 * shared >= len(rows)


def _folds_by_text(rows: Sequence[Utterance], folds: int, generator: np.random.Generator) -> dict[str, int]:
    """A text is in the same fold for every speaker; an utterance without text id counts as a text of its own."""
    texts = sorted({row.text_id or f"\0{row.utt_id}" for row in rows})
    fold_of = {texts[int(text)]: place % folds for place, text in enumerate(generator.permutation(len(texts)))}
    fold = {row.utt_id: fold_of[row.text_id or f"\0{row.utt_id}"] for row in rows}
    filled: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        filled[row.speaker].add(fold[row.utt_id])
    for speaker, seen in sorted(filled.items()):
        if len(seen) < folds:
            raise _too_few(speaker, f"the texts of speaker {speaker!r} fill {len(seen)} of {folds} folds")
    return fold


def _folds_by_time(rows: Sequence[Utterance], folds: int, gap: int) -> dict[str, int]:
    """Blocks of equal size in order of session and start, with `gap` utterances left out (-1) between two blocks."""
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for row in rows:
        by_speaker[row.speaker].append(row)
    fold: dict[str, int] = {}
    for speaker, own in sorted(by_speaker.items()):
        kept = len(own) - gap * (folds - 1)
        if kept < folds:
            need = folds + gap * (folds - 1)
            raise _too_few(
                speaker, f"speaker {speaker!r} has {len(own)} utterances; {folds} folds with a gap of {gap} need {need}"
            )
        sizes = [kept // folds + (index < kept % folds) for index in range(folds)]
        labels = [label for index, size in enumerate(sizes) for label in [index] * size + [-1] * (gap * (index < folds - 1))]
        ordered = sorted(own, key=lambda row: (row.session or "", row.start_s, row.utt_id))
        fold.update({row.utt_id: label for row, label in zip(ordered, labels, strict=True)})
    return {row.utt_id: fold[row.utt_id] for row in rows}


def _too_few(speaker: str, what: str) -> DataError:
    return DataError(what, where=f"speaker {speaker}", fix="lower data.splits.folds or data.splits.gap, or leave the speaker out")


def _gate_accents(manifest: Manifest, split: Mapping[str, str], minimum: int) -> tuple[str, ...]:
    speakers = Counter((accent, split[speaker]) for speaker, accent in manifest.speakers.items())
    return tuple(accent for accent in manifest.accents if min(speakers[accent, "val"], speakers[accent, "test"]) >= minimum)


def _body(
    split: Mapping[str, str],
    fold: Mapping[str, int],
    gate: tuple[str, ...],
    secondary: tuple[str, ...],
    folds: int,
    held_fold: int,
    seed: int,
) -> dict[str, Any]:
    return {
        "seed": seed,
        "folds": folds,
        "held_fold": held_fold,
        "gate_accents": list(gate),
        "secondary_accents": list(secondary),
        "split": dict(split),
        "fold": dict(fold),
    }


def _body_of(splits: Splits) -> dict[str, Any]:
    return _body(
        splits.split, splits.fold, splits.gate_accents, splits.secondary_accents, splits.folds, splits.held_fold, splits.seed
    )


def _hash(body: Mapping[str, Any], manifest: Manifest) -> str:
    return sha256_json({"format": FORMAT, "manifest": manifest.sha256, **body})
