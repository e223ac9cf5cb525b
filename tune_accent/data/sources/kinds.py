"""From the config to the source that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tune_accent.config import speech
from tune_accent.data.hygiene import Hygiene
from tune_accent.data.sources import Source

DEMO_SEED = 0  # of the demo's speakers: like a real corpus, the demo is the same whatever the seed of the experiment


def source_of(cfg: speech.Data) -> Source | None:
    """The source of `data.source`; None for a folder that a person prepared."""
    if isinstance(cfg.source, speech.DemoSource):
        from tune_accent.data.sources.demo import Demo

        return Demo(cfg.source, DEMO_SEED)
    if isinstance(cfg.source, speech.CsvSource):
        from tune_accent.data.sources.csv_archive import CsvArchive
        from tune_accent.data.sources.in_parts import cores

        return CsvArchive(Path(cfg.source.path), hygiene_of(cfg), cfg.source.workers or cores())
    if isinstance(cfg.source, speech.CoraaMupe):
        from tune_accent.data.sources.coraa_mupe import CoraaMupe

        return CoraaMupe(cfg.source, hygiene_of(cfg))
    return None


def options_of(cfg: speech.Data) -> Mapping[str, Any]:
    """What decides the corpus and is known without its source, which may be on another disk by now."""
    if isinstance(cfg.source, speech.CoraaMupe):
        from tune_accent.data.sources.coraa_mupe import CoraaMupe

        return CoraaMupe(cfg.source, hygiene_of(cfg)).options
    if isinstance(cfg.source, speech.CsvSource):
        return {"source": "csv", "hygiene": asdict(hygiene_of(cfg))}
    source = source_of(cfg)
    return source.record if source else {}


def hygiene_of(cfg: speech.Data) -> Hygiene:
    """What is done to every recording that is imported."""
    return Hygiene(cfg.min_duration_s, cfg.max_duration_s, cfg.loudness_lufs, cfg.trim_silence)
