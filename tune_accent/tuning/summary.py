"""The closing words of a launch: the best trial, the verdict with the number that decided it, where the files are, what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tune_accent.reporting.demo import demo_note
from tune_accent.tuning.core import Core, Trial
from tune_accent.tuning.driver import Outcome, Request, chance_of_best, rule
from tune_accent.tuning.growth import change_words
from tune_accent.tuning.progress import number, states


def closing_words(request: Request, outcome: Outcome, command: str) -> str:
    """What a person reads last.

    Args:
        request: what was asked for.
        outcome: how it ended.
        command: the line that continues an unfinished search.
    """
    lines = ["", _state(request, outcome)]
    lines += change_words(outcome.earlier, outcome.core.trials, request.run_cap)
    if outcome.best is not None and outcome.verdict is not None:
        lines += _best(request, outcome.best) + _flattery(request, outcome.core, outcome.best) + _verdict(outcome)
    else:
        lines.append("No trial has run its full length, so there is no best one yet.")
    lines += _files(request, outcome)
    if outcome.stopped:
        lines += ["", f"Stopped by {outcome.stopped}; nothing finished is lost. To continue:", f"  {command}"]
    elif note := demo_note(request.experiment):
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _state(request: Request, outcome: Outcome) -> str:
    trials = outcome.core.trials
    ended = sum(trial.state != "RUNNING" for trial in trials)
    word = "unfinished" if outcome.stopped else "finished"
    return f"Search {request.root.name} {word}: {ended} of {request.run_cap} trials ended ({states(trials)})."


def _best(request: Request, best: Trial) -> list[str]:
    last = best.reports[-1]
    params = ", ".join(f"{name} {number(value)}" for name, value in best.params.items())
    lines = [
        f"Best trial: {best.number} ({rule(request)})",
        f"  {params}",
        f"  accent F1        {_figure(last, 'accent_f1')}   on speakers it never heard",
        f"  speaker leakage  {_figure(last, 'leakage')}   unseen {_value(last, 'speaker_leakage_unseen')}, seen {_value(last, 'speaker_leakage_seen')}",
        f"  score            {number(last['score'])}   val loss {last['val_loss']:.3f} (base model {last['base_val_loss']:.3f})",
    ]
    if not last["feasible"]:
        over = last["speaker_leakage"] - request.experiment.score.leakage_limit
        lines.append(
            "  no full trial kept every limit of the score" + (f"; this one is {over:.3f} over in leakage" if over > 0 else "")
        )
    return lines


def _flattery(request: Request, core: Core, best: Trial) -> list[str]:
    """What being the best of many does to a validation score."""
    told = chance_of_best(request, core, best)
    lucky = f"equally good ones, the best gains {told.optimism:.2f} in F1 by luck"
    return [
        f"  The best of {told.trials} trials is flattered by the choice: without any accent in them, the best would still reach F1 {told.null_maximum:.2f}; among",
        f"  {lucky}. A validation score is no result: new seeds and the test split decide.",
    ]


def _verdict(outcome: Outcome) -> list[str]:
    assert outcome.verdict is not None
    known = "" if outcome.verdict.decidable else " — not decidable"
    lines = [f"Verdict: {outcome.verdict.name}{known}: {outcome.verdict.deciding}"]
    return lines + [f"  {reason}" for reason in outcome.verdict.reasons]


def _files(request: Request, outcome: Outcome) -> list[str]:
    root = request.root
    lines = ["", f"Files: {root}/trials.csv (every trial), {root}/epochs.jsonl (every figure), {root}/optuna.db"]
    if outcome.best is not None:
        lines += [
            f"       {root}/best.json, {root}/best/ (adapter)",
            f"Next:  tensorboard --logdir {root}/tensorboard (after `pip install tensorboard`); more trials: the same command with --trials {2 * request.run_cap}",
        ]
    return lines


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
