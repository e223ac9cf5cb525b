"""A search in words, as the terminal and the report say it: how far it has come, its best trial, what that is worth, the verdict.

All of it follows from `best.json`, so it can be said anew from the folder alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tune_accent.evaluation import Verdict
from tune_accent.reporting.search_view import states
from tune_accent.tracking.tracker import TrackedTrial

NO_BEST = "No trial has run its full length, so there is no best one yet."


def state_words(name: str, trials: Sequence[TrackedTrial], run_cap: int, finished: bool) -> str:
    """How far the search has come."""
    ended = sum(trial.state != "RUNNING" for trial in trials)
    word = "finished" if finished else "unfinished"
    return f"Search {name} {word}: {ended} of {run_cap} trials ended ({states(trials)})."


def best_words(best: Mapping[str, Any], leakage_limit: float) -> list[str]:
    """The best trial, its parameters and its figures; a line each.

    Args:
        best: content of `best.json`.
        leakage_limit: of the score.
    """
    last = best["metrics"]
    params = ", ".join(f"{name} {short(value)}" for name, value in best["params"].items())
    lines = [
        f"Best trial: {best['trial']} ({best['rule']})",
        f"  {params}",
        f"  accent F1        {_figure(last, 'accent_f1')}   on speakers it never heard",
        f"  speaker leakage  {_figure(last, 'leakage')}   unseen {_value(last, 'speaker_leakage_unseen')}, seen {_value(last, 'speaker_leakage_seen')}",
        f"  score            {short(last['score'])}   val loss {last['val_loss']:.3f} (base model {last['base_val_loss']:.3f})",
    ]
    if not last["feasible"]:
        over = last["speaker_leakage"] - leakage_limit
        lines.append(
            "  no full trial kept every limit of the score" + (f"; this one is {over:.3f} over in leakage" if over > 0 else "")
        )
    return lines


def luck_words(best: Mapping[str, Any]) -> list[str]:
    """What being the best of many does to a validation score."""
    told = best["multiplicity"]
    return [
        f"  The best of {told['trials']} trials is flattered by the choice: without any accent in them, the best would still reach F1 {told['null_maximum']:.2f}; among",
        f"  equally good ones, the best gains {told['optimism']:.2f} in F1 by luck. A validation score is no result: new seeds and the test split decide.",
    ]


def verdict_words(verdict: Verdict) -> list[str]:
    """The verdict with the number that decided it, and its reasons."""
    known = "" if verdict.decidable else " — not decidable"
    return [f"Verdict: {verdict.name}{known}: {verdict.deciding}", *(f"  {reason}" for reason in verdict.reasons)]


def recorded_verdict(best: Mapping[str, Any]) -> Verdict:
    """The verdict of `best.json`."""
    found = best["verdict"]
    return Verdict(found["name"], found["decidable"], found["deciding"], tuple(found["reasons"]))


def short(value: Any) -> str:
    """A value as people read it: three significant digits for floats."""
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _figure(last: Mapping[str, Any], name: str) -> str:
    figure = last["evaluation"][name]
    if figure["value"] is None:
        return f"not identifiable ({figure['reason']})"
    interval = f"95 % {figure['low']:+.2f} … {figure['high']:+.2f} over speakers" if figure["low"] is not None else "no interval"
    chance = f", chance {figure['chance']:.2f}" if figure["chance"] is not None else ""
    return f"{figure['value']:+.3f} ({interval}{chance})"


def _value(last: Mapping[str, Any], name: str) -> str:
    value = last[name]
    return "–" if value is None else f"{value:+.3f}"
