"""From a source to a checked corpus on disk, with everything that would keep a search from running on it said and none of it fatal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.progress import Progress
from tune_accent.config import schema, speech
from tune_accent.data import confounds
from tune_accent.data.corpus import keep_confounds, keep_splits, of_right_length, split_seed
from tune_accent.data.manifest import Manifest
from tune_accent.data.sources.census import Step, read_census
from tune_accent.data.sources.coraa_mupe import CENSUS
from tune_accent.data.sources.kinds import source_of
from tune_accent.data.sources.making import make_corpus
from tune_accent.data.split_report import AccentSplit, by_accent, write_report
from tune_accent.data.splits import Splits, make_splits


@dataclass(frozen=True)
class Imported:
    """A corpus on disk.

    Attributes:
        manifest: its utterances.
        census: what each filter of the source left; empty for a source without filters.
        splits: None where it cannot be split.
        accents: every accent of the splits.
        confounds: from `confounds.check`.
        obstacles: what keeps a search from running; the corpus is whole all the same.
    """

    manifest: Manifest
    census: tuple[Step, ...]
    splits: Splits | None
    accents: tuple[AccentSplit, ...]
    confounds: Mapping[str, Any]
    obstacles: tuple[str, ...]


def import_corpus(cfg: speech.Data, gate: schema.Gate, seed: int, progress: Progress) -> Imported:
    """Make the corpus of `cfg` in `cfg.root`, or read it where it is made, and write splits and confounds beside it, as JSON and in words.

    Args:
        seed: of the splits, where `cfg.splits.seed` gives none.

    Raises:
        UserError: the source cannot be read, nothing of it is left, or the folder holds something else.
    """
    source = source_of(cfg)
    assert source is not None, "a prepared folder has no source"
    manifest = of_right_length(make_corpus(Path(cfg.root), source, progress), cfg)
    obstacles = _one_accent(manifest)
    splits, accents = None, []
    try:
        splits = keep_splits(manifest, cfg.splits, seed)
        accents = by_accent(manifest, splits, cfg.splits.min_gate_speakers, gate.min_speakers)
        repeats = [(repeat, make_splits(manifest, cfg.splits, split_seed(repeat))) for repeat in cfg.splits.seeds]
        write_report(manifest, splits, accents, repeats)
        obstacles += _small_gate(splits, cfg.splits)
    except DataError as error:
        obstacles.append(str(error))
    report = keep_confounds(manifest)
    obstacles += _confounded(report, cfg)
    return Imported(manifest, _census(manifest.root), splits, tuple(accents), report, tuple(obstacles))


def _one_accent(manifest: Manifest) -> list[str]:
    few = len(manifest.accents) < 2
    return [f"there is only the accent {manifest.accents[0]!r}; a search compares two or more"] if few else []


def _small_gate(splits: Splits, cfg: speech.Splits) -> list[str]:
    if len(splits.gate_accents) >= 2:
        return []
    names = ", ".join(splits.gate_accents) or "none"
    return [f"accents in the gate: {names}; two or more need at least {cfg.min_gate_speakers} speakers in val and in test each"]


def _confounded(report: Mapping[str, Any], cfg: speech.Data) -> list[str]:
    try:
        confounds.assert_no_confounds(report, cfg.allow_confounds, cfg.root)
    except DataError as error:
        return [str(error)]
    return []


def _census(root: Path) -> tuple[Step, ...]:
    path = root / CENSUS
    return tuple(read_census(path.read_text(encoding="utf-8"))) if path.exists() else ()
