"""Does A control the accent of what is generated? Fixed texts × test speakers × every accent, with A = ∅ and without LoRA, heard by ears that never saw z.

    control = measure_control(experiment, Path("ray_results/lora/paper/adapter"), Path("ray_results/lora"), seed=0)

The accent probe is fitted on acoustic features of real train speakers and scored on real test speakers: what it cannot hear there it cannot hear here. It
hears generated speech, which no codec or vocoder made it ready for; so every figure stands beside A = ∅ and the base model. Whoever calls this has
opened the test split.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.auditing.extract import Sources, acoustic
from tune_accent.auditing.store import FEATURES, Extraction, complete
from tune_accent.base.errors import ModelError
from tune_accent.base.progress import Progress, silent
from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Experiment
from tune_accent.data.prepared import waves
from tune_accent.evaluation import Figure
from tune_accent.paper.accent_probe import AccentProbe, fit_accent_probe
from tune_accent.paper.control_figures import control_figures, heard_matrix
from tune_accent.paper.control_hooks import Ear, ears_of
from tune_accent.paper.control_listen import RECORDS, Listener, references
from tune_accent.paper.control_plan import Plan, make_plan
from tune_accent.paper.control_speech import AUDIO, AdapterTalker, Said, Talker, forget_others, say
from tune_accent.paper.results import ControlResults
from tune_accent.training.protocol import protocol

if TYPE_CHECKING:
    import torch

CACHE = "features"  # below `data.root`, shared with the audit
SPEAKING, LISTENING = "generating speech", "listening"
NO_HIDDEN: Mapping[str, Figure] = {}


def measure_control(
    experiment: Experiment,
    adapter: Path,
    root: Path,
    *,
    seed: int,
    hidden: Mapping[str, Figure] = NO_HIDDEN,
    device: torch.device | None = None,
    base: str | None = None,
    talker: Talker | None = None,
    ears: Sequence[Ear] | None = None,
    progress: Progress = silent,
) -> ControlResults:
    """Generate, listen, and say what it comes to. An interrupted call continues, and gives the numbers of one that went through.

    Args:
        experiment: `paper.control` says how much; its data are prepared where they are not yet.
        adapter: folder of `export_adapter`.
        root: the results folder; the caller holds its lock.
        seed: of speakers, references, draws and resamples.
        hidden: figures of `hidden_control`, which are put beside.
        device: where models run; None: the first GPU, else the CPU.
        base: folder or Hub id of the adapter's base, where the recorded one is not here.
        talker, ears: other ones than the adapter's model, and than those that the config asks for.
        progress: told about batches and utterances.

    Raises:
        MissingDependency: an optional ear is asked for and not installed (before anything is generated).
        ModelError: no adapter, one without these accents, another base, or one that generates nothing. DataError: data or audio are broken.
    """
    options = experiment.paper.control
    where = _ready(experiment, device)
    sources = Sources(experiment, where, progress)
    ears = ears_of(options, experiment.model.language) if ears is None else ears
    plan = make_plan(options, sources.speech, sources.corpus.manifest.rows, seed)
    if talker is None:
        talker = _talker(adapter, where, base, plan.accents)
    probe = real_speech_probe(experiment, sources, derive_seed(seed, "control probe"), progress)
    spoken = _spoken(plan, root, talker, sources, options.max_seconds, progress)
    listener = _listener(experiment, plan, root, talker, ears, sources)
    rows = _rows(spoken, listener, probe, progress)
    figures = control_figures(rows, plan.accents, experiment.evaluation.bootstrap, derive_seed(seed, "control resamples"))
    note = limits(experiment, plan, probe, talker.noise, rows)
    return ControlResults(
        rows, plan.accents, heard_matrix(rows, plan.accents), {**figures, "probe_recall": probe.recall}, hidden, probe.f1, note
    )


def control_csv(control: ControlResults) -> str:
    """The rows as CSV; an empty cell where there is no value."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(control.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in control.rows)
    return out.getvalue()


def real_speech_probe(experiment: Experiment, sources: Sources, seed: int, progress: Progress = silent) -> AccentProbe:
    """A probe of the gate accents on acoustic features of real speech: fitted on train speakers, scored on test speakers.

    The features of train speakers are the audit's, from its cache.

    Args:
        experiment: strengths, resamples, permutations; audit.batch_size.
        sources: its data.
        seed: of bootstrap and permutations.
        progress: told about utterances.
    """
    test = Sources(experiment, "cpu", progress)
    test.rows = test.speech.rows_of("test")
    own = acoustic(sources)
    other = acoustic(test)
    other = replace(other, label="acoustic features of test speakers", request={**other.request, "split": "test"})
    features = [_features(source, extraction, progress) for source, extraction in ((sources, own), (test, other))]
    table = sources.speech.table.iloc[np.concatenate([sources.rows, test.rows])].reset_index(drop=True)
    speech = sources.speech
    how = protocol(
        experiment, speech.gate_accents, speech.held_fold, permutations=experiment.paper.permutations, score_split="test"
    )
    return fit_accent_probe(np.concatenate(features), pd.DataFrame(table), how, seed)


def limits(experiment: Experiment, plan: Plan, probe: AccentProbe, noise: bool, rows: Sequence[Mapping[str, Any]]) -> str:
    """What a reader must know beside the figures."""
    notes = []
    if noise:
        notes.append(
            "The base is the tiny model of the demo, with random weights: what it generates is noise in every setting, and these figures only show that "
            "the measurement runs."
        )
    if probe.f1.low is None or probe.f1.chance is None or probe.f1.low <= probe.f1.chance:
        notes.append(
            "The probe does not hear accents of real test speakers better than chance: nothing follows from what it hears here."
        )
    notes.append(
        "The probe was fitted on recorded speech; on generated speech it can be off to one accent, which A = ∅ and no LoRA show."
    )
    heard = sorted({row["heard"] for row in rows})
    if len(heard) == 1:
        notes.append(
            f"Every utterance was heard as {heard[0]}, whatever was set: the probe tells nothing apart here, and shares have no spread."
        )
    cut = sum(not row["ended"] for row in rows)
    if cut:
        notes.append(
            f"{cut} of {len(rows)} utterances had not ended after {experiment.paper.control.max_seconds:g} s and were cut there."
        )
    if any(voice.said for voice in plan.voices):
        notes.append("Some references say one of the texts that are generated: their speakers have no other utterance.")
    fewest = min(sum(voice.accent == accent for voice in plan.voices) for accent in plan.accents)
    if fewest < experiment.gate.min_speakers:
        notes.append(f"{fewest} speakers per accent are few: intervals are wide, and nothing is decided on them.")
    return " ".join(notes)


def _ready(experiment: Experiment, device: torch.device | None) -> torch.device:
    from tune_accent.training.device import default_device
    from tune_accent.training.seeding import configure_torch

    configure_torch(experiment.training)
    return device or default_device()


def _talker(adapter: Path, device: torch.device, base: str | None, accents: Sequence[str]) -> Talker:
    talker = AdapterTalker(adapter, device, base)
    unknown = [name for name in accents if name not in talker.accents]
    if unknown:
        known = ", ".join(talker.accents)
        raise ModelError(
            f"the adapter knows no accent {unknown[0]!r}", str(adapter), f"it knows {known}: give one trained on these data"
        )
    return talker


def _features(sources: Sources, extraction: Extraction, progress: Progress) -> npt.NDArray[np.float32]:
    """(rows, 38) of the cache, in the order of `sources.rows`; computed where they are not there."""
    cache = Path(sources.spec.data.root) / CACHE
    complete(cache, extraction, sources.chunks(sources.spec.audit.batch_size), progress)
    (name,) = extraction.names
    found: npt.NDArray[np.float32] = np.load(extraction.folder(cache, name) / FEATURES, allow_pickle=False)
    return found


def _spoken(plan: Plan, root: Path, talker: Talker, sources: Sources, seconds: float, progress: Progress) -> list[Said]:
    embeddings = sources.speech.speaker_embeddings
    spoken: list[Said] = []
    forget_others(root / "paper" / AUDIO, {batch.name for batch in plan.batches})
    for done, batch in enumerate(plan.batches, start=1):
        spoken += say(batch, root, talker, lambda voice: np.asarray(embeddings[voice.row], dtype=np.float32), seconds)
        progress(SPEAKING, done, len(plan.batches))
    forget_others(root / "paper" / RECORDS, {f"{said.name}.json" for said in spoken})
    return spoken


def _listener(experiment: Experiment, plan: Plan, root: Path, talker: Talker, ears: Sequence[Ear], sources: Sources) -> Listener:
    utterances = [sources.corpus.manifest.rows[voice.row] for voice in plan.voices]
    sounds = list(waves(sources.corpus, utterances, experiment.data, "", silent))
    embeddings, heard = references(plan.voices, sources.speech.speaker_embeddings, sounds)
    return Listener(root, talker, experiment.data.loudness_lufs, ears, embeddings, heard)


def _rows(spoken: Sequence[Said], listener: Listener, probe: AccentProbe, progress: Progress) -> list[dict[str, Any]]:
    found = []
    for done, said in enumerate(spoken, start=1):
        found.append(dict(listener.listen(said)))
        progress(LISTENING, done, len(spoken))
    heard = probe.hear(np.array([content.pop("features") for content in found]))
    return [
        {
            "text_id": said.batch.texts[said.place].text_id,
            "speaker": said.batch.voice.speaker,
            "accent": said.batch.voice.accent,
            "setting": said.batch.setting,
            "target": said.batch.target or "",
            "heard": name,
            **content,
            "ended": said.ended,
            "reference": said.batch.voice.utt_id,
            "audio": said.sha256,
        }
        for said, name, content in zip(spoken, heard, found, strict=True)
    ]
