"""The closing words: the best trial, the verdict and what decided it, where the files are, what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tuning.small_search import core_of, evaluation, finished, request
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Outcome, Request, card, judge, summary
from tune_accent.tuning.summary import closing_words

COMMAND = "python -m tune_accent.search space.yaml"


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    return request(tmp_path)


def words(asked: Request, core: Core, stopped: str | None = None) -> str:
    best = core.best()
    return closing_words(asked, Outcome(core, best, judge(asked.experiment, best) if best else None, stopped), COMMAND)


def test_a_finished_search(asked: Request) -> None:
    core = finished(asked)
    best, text = core.best(), words(asked, core)
    assert best is not None
    last = best.reports[-1]
    assert "Search results finished: 5 of 5 trials ended (" in text
    assert f"Best trial: {best.number} (highest score after the last epoch, leakage within 0.07 first)" in text
    assert f"accent F1        {last['accent_f1']:+.3f} (95 % " in text and "over speakers, chance 0.50)" in text
    assert "unseen +0.050, seen +0.025" in text and "val loss 5.000 (base model 5.100)" in text
    assert "Verdict: " in text and "not decidable: 2 speakers per accent, 5 are needed" in text
    for name in ("trials.csv", "epochs.jsonl", "optuna.db", "best.json", "best/"):
        assert f"{asked.root}/{name}" in text
    assert "The best of 5 trials is flattered" in text and "A validation score is no result" in text
    assert "--trials 10" in text and "synthetic" in text and COMMAND not in text


def test_an_unfinished_search_says_how_to_continue(asked: Request) -> None:
    core = core_of(asked)
    core.advance()
    text = words(asked, core, "Ctrl-C")
    assert "Search results unfinished: 0 of 5 trials ended (4 running)" in text
    assert "there is no best one yet" in text and "best.json" not in text
    assert text.endswith(f"Stopped by Ctrl-C; nothing finished is lost. To continue:\n  {COMMAND}\n")


@pytest.mark.parametrize(("leakage", "said"), [(0.27, "; this one is 0.200 over in leakage\n"), (0.05, "limit of the score\n")])
def test_limits_that_no_trial_keeps_are_said(asked: Request, leakage: float, said: str) -> None:
    text = words(asked, finished(asked, feasible=False, speaker_leakage=leakage))
    assert "no full trial kept every limit of the score" in text and said in text


def test_figures_without_interval_or_value_are_told_as_such(asked: Request) -> None:
    plain: dict[str, Any] = evaluation(0.6, 0.1).to_dict()
    plain["accent_f1"] |= {"low": None, "high": None, "chance": None}
    text = words(asked, finished(asked, evaluation=plain, speaker_leakage_unseen=None))
    assert "accent F1        +0.600 (no interval)" in text and "unseen –, seen" in text
    plain["leakage"] = {"value": None, "reason": "one speaker per accent"}
    assert "speaker leakage  not identifiable (one speaker per accent)" in words(asked, finished(asked, evaluation=plain))


def test_the_card_and_best_json_say_how_it_was_chosen(asked: Request) -> None:
    core = finished(asked)
    best = core.best()
    assert best is not None
    judged = judge(asked.experiment, best)
    told = summary(asked, core, best, judged)
    assert told["multiplicity"]["trials"] == 5 and 0.5 < told["multiplicity"]["null_maximum"] <= 1.0
    assert (
        told["trial"] == best.number and told["epoch"] == 3 and told["split"] == "val" and told["verdict"]["name"] == judged.name
    )
    assert told["params"] == best.params and "biased upward" in told["note"]
    text = card(asked, best, judged)
    assert "random-weight" in text and f"verdict {judged.name}" in text and "`lora_rank`" in text
