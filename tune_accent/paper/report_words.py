"""What the report, the checklist and the model card say in sentences; each of them follows from the records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tune_accent.base.hub import is_hub_id
from tune_accent.config.schema import Experiment
from tune_accent.config.speech import DemoSource
from tune_accent.evaluation import Figure, Verdict
from tune_accent.paper.arms import Measured
from tune_accent.paper.results import ControlResults, PaperResults
from tune_accent.reporting.tables import interval, number

OF_Z = (
    "The figures of z say what a linear probe can read off a representation of recorded speech. They do not show that setting A changes the accent "
    "of generated speech: that is what control.csv is about."
)
UNTESTED = (
    "Whether A controls the accent of generated speech was not tested in this run: nothing here supports that claim. "
    "`paper.control.enabled: true` tests it."
)
BESIDE = {
    "lift": "Share heard as the accent that was set, less the share heard so without A",
    "similarity_drop": "Cosine to the reference voice, A = ∅ less A set",
    "own_without": "Heard as the speaker's own accent with A = ∅",
}
DEMO = "The voices are synthetic (espeak-ng): these figures say nothing about people."
TINY = "The backbone is a tiny model with random weights: it speaks no language, and what it generates is noise."
ESPEAK = "espeak-ng (GPL-3) made the demo corpus in a process of its own; neither it nor its voices are part of this adapter."


def verdict_words(found: Verdict) -> str:
    """`NO-GO (not decidable): leakage +0.486 is over +0.120.`"""
    return f"{found}."


def control_words(control: ControlResults | None) -> tuple[str, ...]:
    """What the control experiment does and does not show; `UNTESTED` where there was none."""
    if control is None:
        return (UNTESTED,)
    probe = f"The audio probe hears accents of real test speech with macro-F1 {interval(control.probe)}, chance {number(control.probe.chance)}."
    if not _above(control.probe):
        deaf = "That is not shown to be above chance: the control experiment cannot decide whether A controls the accent."
        return (probe, deaf, *_follows(control.figures, "generated speech", decided=False), *_rest(control))
    return (probe, *_follows(control.figures, "generated speech", decided=True), *_rest(control))


def _rest(control: ControlResults) -> Iterator[str]:
    for name, words in BESIDE.items():
        if name in control.figures:
            yield f"{words}: {interval(control.figures[name], signed=name != 'own_without')}."
    yield from _follows(control.hidden, "hidden states (no audio is generated there)", decided=False)
    if control.note:
        yield control.note if control.note.endswith(".") else f"{control.note}."


def _follows(figures: Mapping[str, Figure], where: str, decided: bool) -> Iterator[str]:
    found = figures.get("follows")
    if found is None:
        return
    told = f"Of {where}, a share of {interval(found)} is heard as the accent that was set; chance is {number(found.chance)}"
    if not decided:
        yield f"{told}."
    elif _above(found):
        yield f"{told}: above chance, A moves what is heard."
    else:
        yield f"{told}: not shown to be above chance, so control of the accent by A is not shown."


def _above(figure: Figure) -> bool:
    """Whether the whole interval lies above chance."""
    return figure.low is not None and figure.chance is not None and figure.low > figure.chance


def limits(measured: Measured) -> tuple[str, ...]:
    """Everything that limits the test figures."""
    return tuple(_limits(measured))


def _limits(measured: Measured) -> Iterator[str]:
    results = measured.results
    yield from demo_notes(results.experiment)
    yield OF_Z
    if results.control is None:
        yield UNTESTED
    winner = measured.winner
    f1 = winner.figures["neutral"]["accent_f1"].figure
    if winner.runs:
        yield (
            f"{f1.n} test speakers, at least {winner.speakers_per_accent} of each accent, and {len(winner.runs)} training seeds. Few of either make the "
            "intervals wide; they are taken over speakers and seeds, and leave out the variation of the split and of the corpus."
        )
    yield "One split of the speakers: another split may move every figure by more than the seeds do."
    others = len(measured.others)
    if others > 1:
        yield f"{others} arms are set beside the winner without a correction for so many comparisons: single intervals that leave out 0 may do so by chance."
    for run in results.runs:
        if run.state != "COMPLETE":
            yield f"{run.arm}, seed {run.repeat}: {run.state} ({run.failure or 'no reason recorded'}); it is in no mean."
    drop = winner.figures["neutral"]["text_drop"].figure
    if drop.value is None:
        yield f"Text drop has no value ({drop.reason}): how much of the accent figure is text is not known."
    if winner.runs and winner.runs[0].neutral.secondary_accents:
        yield f"Accents with too few speakers, in no figure: {', '.join(winner.runs[0].neutral.secondary_accents)}."
    yield from results.notes


def demo_notes(experiment: Experiment) -> tuple[str, ...]:
    """What must be said wherever a number of the demo is shown."""
    notes = (DEMO,) if isinstance(experiment.data.source, DemoSource) else ()
    return (*notes, TINY) if experiment.model.backbone == "tiny" else notes


def backbone_name(experiment: Experiment) -> str:
    """The backbone without a path of this machine: "tiny", a Hub id, or the last part of a folder's name."""
    name = experiment.model.backbone
    return name if is_hub_id(name) or name == "tiny" else Path(name).name


def data_name(experiment: Experiment) -> str:
    """The data set's folder, without the path to it."""
    return Path(experiment.data.root).name


def licence_notes(experiment: Experiment) -> tuple[str, ...]:
    """Licences, as far as the configuration tells them."""
    name = backbone_name(experiment)
    if experiment.model.backbone == "tiny":
        weights = (
            "Backbone: random weights, made here; no third party's. Its classes are those of the package qwen-tts (Apache-2.0)."
        )
    else:
        weights = f"Backbone: {name}; its own licence applies to whatever is made with this adapter and is not recorded here. See its model card."
    if isinstance(experiment.data.source, DemoSource):
        return (weights, f"Data: {ESPEAK}")
    return (weights, "Data: the licence of the corpus is not recorded here, and limits what the adapter may be used for.")


def machine_words(environment: Mapping[str, Any]) -> str:
    """Processor, GPUs and versions of an environment record; what it does not hold is left out."""
    gpus = ", ".join(f"{gpu['name']} (driver {gpu['driver']})" for gpu in environment.get("gpus", ())) or "no GPU"
    torch = environment.get("torch", {})
    parts = [str(environment[name]) for name in ("processor", "platform") if name in environment]
    parts += [f"{environment['cores']} cores"] if "cores" in environment else []
    parts += [gpus]
    parts += [f"CUDA {torch['cuda']}, cuDNN {torch['cudnn']}"] if torch.get("cuda") else []
    return ", ".join(parts)


def version_words(environment: Mapping[str, Any]) -> str:
    """Versions that decide figures."""
    packages = environment.get("packages", {})
    named = [
        f"{name} {packages[name]}"
        for name in ("torch", "transformers", "peft", "numpy", "scikit-learn", "optuna")
        if name in packages
    ]
    own = [
        f"{words} {environment[name]}"
        for name, words in (("python", "Python"), ("tune_accent", "tune_accent"))
        if name in environment
    ]
    return ", ".join([*own, *named, f"{len(packages)} packages in environment.json"])


def code_words(environment: Mapping[str, Any]) -> str:
    """Commit, and whether there were uncommitted changes."""
    git = environment.get("git")
    if not git:
        return "no git checkout was recorded"
    return f"commit {git['commit']}" + (
        ", with uncommitted changes (their diff is in environment.json)" if git.get("dirty") else ", no uncommitted changes"
    )


def hours(results: PaperResults) -> dict[str, float]:
    """Hours by part of the run."""
    spent: dict[str, float] = {}
    for row in results.compute.rows:
        spent[str(row["part"])] = spent.get(str(row["part"]), 0.0) + float(row.get("hours") or 0.0)
    return spent
