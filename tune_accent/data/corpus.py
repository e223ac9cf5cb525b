"""The corpus of an experiment: made from its source when it is not there yet, else read; always checked, split and tested for confounds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, write_json, write_text
from tune_accent.base.progress import Progress
from tune_accent.base.seeds import derive_seed
from tune_accent.config import speech
from tune_accent.data import confounds, splits
from tune_accent.data.manifest import Manifest, is_whole, read_manifest
from tune_accent.data.sources.kinds import options_of, source_of
from tune_accent.data.sources.making import make_corpus, read_corpus
from tune_accent.data.splits import Splits

SPLITS, CONFOUNDS, PAGE = "splits.json", "confounds.json", "confounds.md"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """A checked corpus with its splits and its report on confounds (the content of confounds.json)."""

    manifest: Manifest
    splits: Splits
    confounds: Mapping[str, Any]

    @property
    def root(self) -> Path:
        """The folder of the corpus."""
        return self.manifest.root


def ensure_corpus(cfg: speech.Data, seed: int, progress: Progress) -> Corpus:
    """Make or read the corpus of `cfg`, and write `splits.json` and `confounds.json` beside it where they are not there or differ.

    Args:
        cfg: the section `data`; `root` is relative to the current folder.
        seed: of the splits, where `cfg.splits.seed` gives none. The corpus itself does not depend on it.
        progress: told about the making of the corpus.

    Raises:
        DataError: the corpus is not there, breaks a rule, cannot be split, is confounded, or is another than the config asks for.
        MissingDependency: the corpus is to be made and the extra that this needs is not installed.
    """
    manifest = of_right_length(_manifest(cfg, progress), cfg)
    if len(manifest.accents) < 2:
        raise DataError(
            f"the corpus has only the accent {manifest.accents[0]!r}", where=cfg.root, fix="use a corpus of two or more"
        )
    drawn = keep_splits(manifest, cfg.splits, seed)
    report = keep_confounds(manifest)
    confounds.assert_no_confounds(report, cfg.allow_confounds, where=cfg.root)
    return Corpus(manifest, drawn, report)


def _manifest(cfg: speech.Data, progress: Progress) -> Manifest:
    root = Path(cfg.root)
    source = source_of(cfg)
    if source is not None:
        made = not isinstance(cfg.source, speech.DemoSource) and is_whole(root)
        return read_corpus(root, options_of(cfg)) if made else make_corpus(root, source, progress)
    if not root.is_dir():
        raise DataError(
            "the folder of the corpus is not there",
            where=f"data.root: {cfg.root}",
            fix="correct data.root, or make the corpus with `python -m tune_accent.prepare`",
        )
    return read_manifest(root)


def of_right_length(manifest: Manifest, cfg: speech.Data) -> Manifest:
    """The manifest without utterances that are shorter or longer than the config wants.

    Raises:
        DataError: none is left.
    """
    rows = tuple(row for row in manifest.rows if cfg.min_duration_s <= row.duration_s <= cfg.max_duration_s)
    if not rows:
        what = f"no utterance lasts from {cfg.min_duration_s} to {cfg.max_duration_s} s"
        raise DataError(what, where=cfg.root, fix="change data.min_duration_s and data.max_duration_s")
    if len(rows) < len(manifest.rows):
        log.info("%d of %d utterances have the right length", len(rows), len(manifest.rows))
        return Manifest(manifest.root, rows)
    return manifest


def keep_splits(manifest: Manifest, cfg: speech.Splits, seed: int) -> Splits:
    """Draw the splits of a corpus, and record them beside it: `splits.json`, and `splits-<seed>.json` for each of `cfg.seeds`.

    Raises:
        DataError: the corpus cannot be split, or a record was edited.
    """
    for repeat in cfg.seeds:
        _keep_splits(splits.make_splits(manifest, cfg, split_seed(repeat)), manifest, f"splits-{repeat}.json")
    drawn = splits.make_splits(manifest, cfg, seed if cfg.seed is None else split_seed(cfg.seed))
    _keep_splits(drawn, manifest, SPLITS)
    return drawn


def split_seed(seed: int) -> int:
    """The seed that an experiment with `seed` draws its splits with."""
    return derive_seed(seed, "data")


def _keep_splits(drawn: Splits, manifest: Manifest, name: str) -> None:
    """Splits are a pure function of manifest, config and seed: the file is a record of them, rewritten when one of these changed."""
    path = manifest.root / name
    found = read_json(path) if path.exists() else None
    if isinstance(found, dict) and found.get("sha256") == drawn.sha256:
        splits.load(path, manifest)
        return
    splits.save(drawn, path, manifest)


def keep_confounds(manifest: Manifest) -> dict[str, Any]:
    """Test a corpus for confounds, and record what was found in `confounds.json`, for people in `confounds.md`."""
    report, path = confounds.check(manifest), manifest.root / CONFOUNDS
    if not path.exists() or read_json(path) != report:
        write_json(path, report)
    text, page = confounds.markdown(report), manifest.root / PAGE
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        write_text(page, text)
    return report
