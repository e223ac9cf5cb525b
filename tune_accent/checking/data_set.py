"""The corpus of an experiment: is it there, who is in which split, what is confounded? And the sample of it that a smoke run trains on.

Writes what a search would write beside the manifest (splits, confounds). A demo corpus is made where it is not there; any other is not, since that takes hours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tune_accent.base.errors import DataError
from tune_accent.base.files import inside, sha256_json, write_bytes, write_folder
from tune_accent.base.progress import silent
from tune_accent.checking.finding import Finding
from tune_accent.config import speech
from tune_accent.config.schema import Experiment
from tune_accent.data import confounds
from tune_accent.data.corpus import keep_confounds, keep_splits, of_right_length, split_seed
from tune_accent.data.manifest import Manifest, Utterance, is_whole, read_manifest, write_manifest
from tune_accent.data.sources.kinds import options_of, source_of
from tune_accent.data.sources.making import make_corpus, read_corpus
from tune_accent.data.split_report import by_accent
from tune_accent.data.splits import Splits

WHOLE = 1_000  # utterances; a larger corpus is sampled for the smoke run
SPEAKERS = 8  # of each accent in a sample: a third of them trains
IN_FOLD = 2  # utterances of each speaker and fold in a sample
SAMPLE = ".doctor"
ALLOWED = ("gender: a small sample, for timing", "source: a small sample, for timing")


def read_data(spec: Experiment, config: Path) -> Manifest:
    """The manifest; a demo's corpus is made where it is not there.

    Args:
        spec: the experiment.
        config: its file, for the command that makes the corpus.

    Raises:
        UserError: the corpus is not there, broken, or another than the config asks for.
    """
    data, root = spec.data, Path(spec.data.root)
    source = source_of(data) if isinstance(data.source, speech.DemoSource) else None
    if source is not None:
        return of_right_length(make_corpus(root, source, silent), data)
    if not is_whole(root):
        raise DataError("there is no corpus yet", f"data.root: {data.root}", _how_to_make(spec, config))
    if isinstance(data.source, speech.PreparedSource):
        return of_right_length(read_manifest(root), data)
    return of_right_length(read_corpus(root, options_of(data)), data)


def _how_to_make(spec: Experiment, config: Path) -> str:
    source, root = spec.data.source, spec.data.root
    if isinstance(source, speech.CoraaMupe | speech.CsvSource):
        return f"python -m tune_accent.prepare {source.kind} --config {config}   (from data.source.path: {source.path})"
    return f"make it with `python -m tune_accent.prepare`, or correct data.root ({root})"


def data_finding(manifest: Manifest) -> Finding:
    """Size of a corpus, and whether its audio is there (a look at every 50th file)."""
    hours = sum(row.duration_s for row in manifest.rows) / 3600
    words = (
        f"{len(manifest.rows)} utterances of {len(manifest.speakers)} speakers, {len(manifest.accents)} accents, {hours:.1f} h"
    )
    looked = manifest.rows[:: max(1, len(manifest.rows) // 50)]
    gone = [row.audio_path for row in looked if not inside(manifest.root, row.audio_path).is_file()]
    if gone:
        fix = f"restore the files, or make the corpus again; python -m tune_accent.prepare --check compares them all ({manifest.root})"
        return Finding("data", "failed", f"{words}; audio is missing, {gone[0]} for one", fix)
    if len(manifest.accents) < 2:
        return Finding("data", "failed", words, "a search compares two accents or more: use another corpus")
    return Finding("data", "ok", words)


def check_splits(spec: Experiment, manifest: Manifest) -> Iterator[Finding]:
    """Which accents count in the gate, and whether a verdict on them can be decided.

    Raises:
        DataError: the corpus cannot be split.
    """
    drawn = keep_splits(manifest, spec.data.splits, split_seed(spec.seed))
    accents = by_accent(manifest, drawn, spec.data.splits.min_gate_speakers, spec.gate.min_speakers)
    small = [one.accent for one in accents if one.in_gate and not one.decidable]
    counts = ", ".join(
        f"{one.accent} {'/'.join(str(one.speakers(name)) for name in ('train', 'val', 'test'))}" for one in accents if one.in_gate
    )
    left_out = f"; left out of the gate: {', '.join(drawn.secondary_accents)}" if drawn.secondary_accents else ""
    words = f"in the gate (speakers in train/val/test): {counts or 'none'}{left_out}"
    if len(drawn.gate_accents) < 2:
        fix = f"two accents need {spec.data.splits.min_gate_speakers} speakers in val and in test each: add speakers"
        yield Finding("splits", "failed", words, fix)
    elif small:
        fix = f"a verdict wants {spec.gate.min_speakers} speakers of an accent in val and in test; without them it is marked not decidable"
        yield Finding("splits", "warning", f"{words}; too few speakers of {', '.join(small)}", fix)
    else:
        yield Finding("splits", "ok", words)


def check_confounds(spec: Experiment, manifest: Manifest) -> Iterator[Finding]:
    """What goes with accent in this corpus.

    Raises:
        DataError: something that blocks a search and is not allowed by the config.
    """
    report = keep_confounds(manifest)
    confounds.assert_no_confounds(report, spec.data.allow_confounds, spec.data.root)
    allowed = [name for name, found in report.items() if found.get("blocks")]
    limits = [f"{name} (medians {found['spread']:.1f} apart)" for name, found in report.items() if found.get("limitation")]
    if allowed or limits:
        told = [*(f"{name}, accepted by data.allow_confounds" for name in allowed), *limits]
        yield Finding(
            "confounds",
            "warning",
            f"accent goes with {', '.join(told)}",
            "report it as a limitation; see confounds.md beside the manifest",
        )
    else:
        yield Finding("confounds", "ok", f"none of {', '.join(report)}")


def sampled(spec: Experiment, manifest: Manifest) -> Experiment:
    """The experiment on a sample of its corpus, or itself where the corpus is small.

    The sample is a corpus of its own, `<data.root>/.doctor/<hash>`, with copies of the audio; test speakers are never in it. It stays, so that the next
    look is quick.
    """
    if len(manifest.rows) <= WHOLE:
        return spec
    drawn = keep_splits(manifest, spec.data.splits, split_seed(spec.seed))
    rows = sample_rows(manifest, drawn, spec.data.splits)
    folder = Path(spec.data.root) / SAMPLE / sha256_json([row.utt_id for row in rows] + [manifest.sha256])[:16]
    if not is_whole(folder):
        write_folder(folder, lambda empty: _copy(manifest.root, rows, empty))
    thirds = spec.data.splits.model_copy(update={"train": 1.0, "val": 1.0, "test": 1.0, "min_gate_speakers": 2, "seeds": ()})
    own = {"root": str(folder), "source": speech.PreparedSource(), "splits": thirds, "allow_confounds": ALLOWED}
    data = spec.data.model_copy(update=own)
    return spec.model_copy(update={"data": data})


def sample_rows(manifest: Manifest, drawn: Splits, cfg: speech.Splits) -> list[Utterance]:
    """Utterances of up to `SPEAKERS` train and val speakers of each accent, the longest-recorded ones, as many of each as its folds need."""
    needed = IN_FOLD * cfg.folds + cfg.gap * (cfg.folds - 1)
    own: dict[str, list[Utterance]] = defaultdict(list)
    for row in manifest.rows:
        if drawn.split[row.speaker] != "test":
            own[row.speaker].append(row)
    chosen: list[Utterance] = []
    for accent in manifest.accents:
        ranked = sorted((who for who in own if manifest.speakers[who] == accent), key=lambda who: (-len(own[who]), who))
        if len(ranked) >= 3:  # fewer cannot be split again
            chosen += [row for who in ranked[:SPEAKERS] for row in own[who][:needed]]
    return chosen


def _copy(root: Path, rows: list[Utterance], folder: Path) -> None:
    copied = []
    for number, row in enumerate(rows):
        source = inside(root, row.audio_path)
        target = Path("audio") / f"{number:05d}{source.suffix}"
        write_bytes(folder / target, source.read_bytes())
        copied.append(replace(row, audio_path=target.as_posix()))
    write_manifest(folder, copied)
