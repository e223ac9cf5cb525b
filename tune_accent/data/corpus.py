"""The corpus of an experiment: made when it is the demo and not there yet, else read; always checked, split and tested for confounds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, write_json
from tune_accent.base.progress import Progress
from tune_accent.config import schema
from tune_accent.data import confounds, splits
from tune_accent.data.manifest import Manifest, read_manifest
from tune_accent.data.splits import Splits

SPLITS, CONFOUNDS = "splits.json", "confounds.json"
DEMO_SEED = 0  # of the demo's speakers: like a real corpus, the demo is the same whatever the seed of the experiment

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


def ensure_corpus(cfg: schema.Data, seed: int, progress: Progress) -> Corpus:
    """Make or read the corpus of `cfg`, and write `splits.json` and `confounds.json` beside it where they are not there or differ.

    Args:
        cfg: the section `data`; `root` is relative to the current folder.
        seed: of the splits. The demo's speakers do not depend on it.
        progress: told about the making of the demo.

    Raises:
        DataError: the corpus is not there, breaks a rule, cannot be split, is confounded, or is another than the config asks for.
        MissingDependency: the demo is to be made and its extra is not installed.
    """
    manifest = _of_right_length(_manifest(cfg, progress), cfg)
    if len(manifest.accents) < 2:
        raise DataError(
            f"the corpus has only the accent {manifest.accents[0]!r}", where=cfg.root, fix="use a corpus of two or more"
        )
    drawn = splits.make_splits(manifest, cfg.splits, seed)
    report = confounds.check(manifest)
    _keep_splits(drawn, manifest)
    _keep_confounds(report, manifest.root / CONFOUNDS)
    confounds.assert_no_confounds(report, cfg.allow_confounds, where=cfg.root)
    return Corpus(manifest, drawn, report)


def _manifest(cfg: schema.Data, progress: Progress) -> Manifest:
    root = Path(cfg.root)
    if isinstance(cfg.source, schema.DemoSource):
        from tune_accent.data.sources import demo

        return demo.ensure(root, cfg.source, DEMO_SEED, progress)
    if not root.is_dir():
        raise DataError(
            "the folder of the corpus is not there",
            where=f"data.root: {cfg.root}",
            fix="correct data.root, or make the corpus with `python -m tune_accent.prepare`",
        )
    return read_manifest(root)


def _of_right_length(manifest: Manifest, cfg: schema.Data) -> Manifest:
    rows = tuple(row for row in manifest.rows if cfg.min_duration_s <= row.duration_s <= cfg.max_duration_s)
    if not rows:
        what = f"no utterance lasts from {cfg.min_duration_s} to {cfg.max_duration_s} s"
        raise DataError(what, where=cfg.root, fix="change data.min_duration_s and data.max_duration_s")
    if len(rows) < len(manifest.rows):
        log.info("%d of %d utterances have the right length", len(rows), len(manifest.rows))
        return Manifest(manifest.root, rows)
    return manifest


def _keep_splits(drawn: Splits, manifest: Manifest) -> None:
    """Splits are a pure function of manifest, config and seed: the file is a record of them, rewritten when one of these changed."""
    path = manifest.root / SPLITS
    found = read_json(path) if path.exists() else None
    if isinstance(found, dict) and found.get("sha256") == drawn.sha256:
        splits.load(path, manifest)
        return
    splits.save(drawn, path, manifest)


def _keep_confounds(report: Mapping[str, Any], path: Path) -> None:
    if not path.exists() or read_json(path) != report:
        write_json(path, report)
