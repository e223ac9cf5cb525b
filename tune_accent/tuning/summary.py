"""The closing words of a launch: the best trial, the verdict with the number that decided it, where the files are, what to do next."""

from __future__ import annotations

from tune_accent.reporting.demo import demo_note
from tune_accent.reporting.search_words import NO_BEST, best_words, luck_words, state_words, verdict_words
from tune_accent.tuning.driver import Outcome, Request, summary
from tune_accent.tuning.growth import change_words
from tune_accent.tuning.search_report import PLACE


def closing_words(request: Request, outcome: Outcome, command: str) -> str:
    """What a person reads last.

    Args:
        request: what was asked for.
        outcome: how it ended.
        command: the line that continues an unfinished search.
    """
    lines = ["", state_words(request.root.name, outcome.core.trials, request.run_cap, not outcome.stopped)]
    lines += change_words(outcome.earlier, outcome.core.trials, request.run_cap)
    if outcome.best is not None and outcome.verdict is not None:
        best = summary(request, outcome.core, outcome.best, outcome.verdict)
        lines += best_words(best, request.experiment.score.leakage_limit) + luck_words(best) + verdict_words(outcome.verdict)
    else:
        lines.append(NO_BEST)
    lines += _files(request, outcome)
    if outcome.stopped:
        lines += ["", f"Stopped by {outcome.stopped}; nothing finished is lost. To continue:", f"  {command}"]
    elif note := demo_note(request.experiment):
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _files(request: Request, outcome: Outcome) -> list[str]:
    root = request.root
    lines = ["", f"Report: {root}/{PLACE}, in any browser"]
    lines += [f"Files: {root}/trials.csv (every trial), {root}/epochs.jsonl (every figure), {root}/optuna.db"]
    if outcome.best is not None:
        lines += [
            f"       {root}/best.json, {root}/best/ (adapter)",
            f"Next:  tensorboard --logdir {root}/tensorboard (after `pip install tensorboard`); more trials: the same command with --trials {2 * request.run_cap}",
        ]
    return lines
