"""An audit in words: the sentences and cells that the terminal and the report share."""

from __future__ import annotations

from tune_accent.auditing.decide import Recommendation, layer_score
from tune_accent.auditing.evaluated import SetResult
from tune_accent.auditing.run import Audit
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import Verdict
from tune_accent.reporting.demo import demo_note
from tune_accent.reporting.tables import Table, interval, number, to_text

RULE = (
    "Rule: of the layers that a search can read (S neutral, mean and standard deviation over frames, as in training), the best score J with the "
    "validation loss of the base model, layers within every limit of the score first. Layers whose paired difference of J from the best has a "
    "95 % speaker-bootstrap interval that holds 0 are tied with it. A tie goes to the layer with the lower unseen leakage, where the interval of that "
    "paired difference shows it; else the best J stays."
)
SELECTION = (
    "Choosing the best of {layers} layers on validation speakers is itself a selection: the figures of the chosen layer are biased upward, and "
    "are no result. The paper run measures it on test speakers."
)
DEPTH = (
    "k is the value of model.layer: it reads hidden_states[k], the output of decoder block k - 1, and for the last k the state after the final "
    "norm (pre_vocoder). A search cannot read the text, nor the last block before that norm."
)
FIGURE_NAMES = {
    "accent_f1": "accent macro-F1, unseen speakers",
    "accent_balanced_accuracy": "accent balanced accuracy, unseen speakers",
    "leakage": "speaker leakage given accent: the larger of unseen and seen",
    "leakage_unseen": "speaker leakage given accent, unseen speakers",
    "leakage_seen": "speaker leakage given accent, seen speakers",
    "leakage_auc": "same/different-speaker AUC within accent, unseen speakers",
    "leakage_raw": "raw Δ over all speakers, not conditional on accent (as in older reports)",
    "leakage_raw_ceiling": "raw Δ that a code of accent alone reaches, (K - 1)/N",
    "text_drop": "text drop: F1 with the scored texts in training minus F1 without",
}
RESULT_HEAD = ("features", "pooling", "S", "accent F1", "chance", "p", "leakage", "unseen", "seen", "text drop", "J", "verdict")


def set_name(one: SetResult) -> str:
    """`decoder_block_01 (k = 2)`."""
    return one.name if one.layer is None else f"{one.name} (k = {one.layer})"


def result_cells(one: SetResult, spec: Experiment) -> tuple[str, ...]:
    """One feature set as a row under `RESULT_HEAD`."""
    found, head = one.evaluation, (set_name(one), one.pooling, one.speaker or "")
    if found is None:
        return (*head, *[""] * 8, one.failed or "")
    return (
        *head,
        interval(found.accent_f1),
        number(found.accent_f1.chance),
        number(found.accent_f1.p),
        interval(found.leakage, signed=True),
        number(found.leakage_unseen.value, signed=True),
        number(found.leakage_seen.value, signed=True),
        interval(found.text_drop, signed=True),
        number(layer_score(found, spec.score), signed=True),
        found.gate(spec.gate).name,
    )


def verdict_words(found: Verdict) -> str:
    """`NO-GO (not decidable): leakage +0.486 is over +0.120`."""
    return f"{found.name}{'' if found.decidable else ' (not decidable)'}: {found.deciding}."


def layer_words(audit: Audit) -> str:
    """The recommended layer in a sentence or two."""
    found = audit.recommendation
    if found is None:
        return (
            "No layer can be recommended: audit.layers, audit.poolings and audit.speaker leave out what a search reads "
            "(a decoder block or pre_vocoder; mean+std; neutral)."
        )
    kept = "within every limit of the score" if found.feasible else "although no layer keeps every limit of the score"
    same = " The config has it already." if audit.request.experiment.model.layer == found.layer else ""
    tied = "" if found.name == found.best else f" It is tied with {found.best} and leaks less of unseen speakers."
    return f"Recommended layer: k = {found.layer}, the {_state(found)}; J {found.score:+.3f}, {kept}.{tied}{same}"


def _state(found: Recommendation) -> str:
    if found.name == "pre_vocoder":
        return "state after the final norm (pre_vocoder)"
    return f"output of decoder block {found.layer - 1} ({found.name})"


def config_lines(found: Recommendation) -> str:
    """What goes into the config of a search."""
    return f"model:\n  layer: {found.layer}"


def tie_words(found: Recommendation) -> list[str]:
    """Which layer has the best J, then the ones that cannot be told from it, a sentence each."""
    if not found.tied:
        return [f"{found.best} has the best J, {found.best_score:+.3f}, and no other layer is tied with it."]
    lines = [f"{found.best} has the best J, {found.best_score:+.3f}; tied with it by the paired difference of J:"]
    for tie in found.tied:
        behind, leakage = interval(tie.behind, signed=True), interval(tie.leakage, signed=True)
        lines.append(f"{tie.name} (k = {tie.layer}): {behind} behind; its unseen leakage differs by {leakage}.")
    return lines


def notes(audit: Audit) -> tuple[str, ...]:
    """Everything that limits the numbers."""
    note = demo_note(audit.request.experiment)
    demo = (note,) if note else ()
    return (*demo, *audit.limits, "All figures are of validation speakers: they serve to choose, and are no result.")


def _state_of(audit: Audit) -> str:
    done = "all read from its folder" if audit.computed == 0 else "complete"
    return f"Audit of {audit.request.experiment.name}: {len(audit.results)} feature sets, {done}."


def closing_words(audit: Audit, config: str) -> str:
    """What a person reads last.

    Args:
        audit: what was found.
        config: the config file, as it was given.
    """
    root = audit.request.root
    readable = [one for one in audit.results if one.is_candidate]
    head = ("layer", "accent F1", "leakage", "text drop", "J")
    rows = [tuple(result_cells(one, audit.request.experiment)[place] for place in (0, 3, 6, 9, 10)) for one in readable]
    chosen = frozenset(place for place, one in enumerate(readable) if one is audit.chosen)
    lines = ["", _state_of(audit), ""]
    if rows:
        lines += [
            to_text(Table(head, tuple(rows), marked=chosen)).rstrip("\n"),
            "  S neutral, mean and sd over frames; [95 % over speakers]",
            "",
        ]
    if audit.verdict is not None:
        lines += [f"Verdict: {verdict_words(audit.verdict)}", *(f"  {reason}" for reason in audit.verdict.reasons)]
    lines.append(layer_words(audit))
    if audit.recommendation is not None:
        lines += [f"  {line}" for line in tie_words(audit.recommendation)]
    lines += ["", *(f"Note: {note}" for note in notes(audit))]
    lines += ["", f"Files: {root}/report.html, {root}/report.md, {root}/metrics.csv (every figure), {root}/figures/"]
    if audit.recommendation is not None:
        k, search = audit.recommendation.layer, f"python -m tune_accent.search search_spaces/lora.yaml --config {config}"
        put = "" if audit.request.experiment.model.layer == k else f"put `model: {{layer: {k}}}` into {config}, then: "
        lines.append(f"Next:  {put}{search}")
    return "\n".join(lines) + "\n"
