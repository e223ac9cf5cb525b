"""Differences and averages from the stored rows alone: paired, crossed, and no narrower than the truth allows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from tests.evaluation.simulated_codes import make_code, make_table
from tune_accent.base.errors import DataError
from tune_accent.evaluation import (
    COMPARABLE,
    Evaluation,
    Figure,
    Protocol,
    Speakers,
    evaluate,
    hierarchical_interval,
    paired_difference,
    replicates,
)
from tune_accent.evaluation import comparison as comparing
from tune_accent.evaluation.bootstrap import posterior_interval, speaker_interval

PROTOCOL = Protocol(bootstrap=800, permutations=0)


def measured(speaker: float, seed: int = 0) -> Evaluation:
    table = make_table()
    return evaluate(make_code(table, accent=0.4, speaker=speaker, text=0.3, seed=seed), table, PROTOCOL)


def stored(evaluation: Evaluation) -> Evaluation:
    return Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict())))


def bounds(figure: Figure) -> tuple[float, float]:
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.high


@pytest.fixture(scope="module")
def some() -> Evaluation:
    return measured(0.5)


@pytest.fixture(scope="module")
def less() -> Evaluation:
    return measured(0.3)


@pytest.mark.parametrize("name", sorted(set(COMPARABLE) - {"leakage"}))
def test_rows_are_enough_to_compute_every_interval_again(some: Evaluation, name: str) -> None:
    """With the resamples that `evaluate` drew, value and bounds are the same to the last bits."""
    again = stored(some)
    speakers = comparing._Speakers([again], name, 1, 0, pseudo=True)
    drawn = speakers.draw(speakers.strata, PROTOCOL.bootstrap, np.random.SeedSequence(0).spawn(5)[2])
    speakers.counts = {name: drawn}
    found, value = speakers.replicates(again), some.figures[name].value
    assert value is not None
    interval = posterior_interval(found, value, 12.0) if speakers.pseudo else speaker_interval(found, speakers.strata)
    assert interval == pytest.approx(bounds(some.figures[name]))
    assert speakers.pseudo == (name in ("accent_f1", "accent_balanced_accuracy"))
    plain = comparing._Speakers([again], name, 1, 0)
    plain.counts = {name: np.ones((1, len(speakers.strata)))}
    assert plain.replicates(again) == pytest.approx(value)


@pytest.mark.parametrize("name", COMPARABLE)
def test_names_of_speakers_and_accents_make_no_difference(some: Evaluation, less: Evaluation, name: str) -> None:
    """Names whose alphabetical order is another; nor does the order in which a JSON file lists them."""
    renamed = {one: f"x{99 - place}" for place, one in enumerate(some.speakers.accent)}
    assert sorted(renamed.values()) != list(renamed.values())

    def other(found: Evaluation) -> Evaluation:
        plain = found.to_dict()
        plain["speakers"] = {part: {renamed[one]: row for one, row in rows.items()} for part, rows in plain["speakers"].items()}
        return Evaluation.from_dict(json.loads(json.dumps(plain, sort_keys=True)))

    assert paired_difference(other(some), other(less), name) == paired_difference(some, less, name)
    assert hierarchical_interval([other(some), other(less)], name) == hierarchical_interval([some, less], name)
    assert np.array_equal(replicates(other(some), name), replicates(some, name))


def test_seeds_that_agree_do_not_narrow_an_interval_near_the_ceiling(some: Evaluation) -> None:
    """Where no speaker has an error the speakers alone give no interval; the average of seeds is as unsure as one seed."""
    predicted = {one: tuple(12 if a == some.speakers.accent[one] else 0 for a in range(3)) for one in some.speakers.predicted}
    perfect = replace(some, accent_f1=Figure(1.0, chance=1 / 3), speakers=replace(some.speakers, predicted=predicted))
    low, high = bounds(hierarchical_interval([perfect] * 3, "accent_f1"))
    assert 0.75 < low < 0.92
    assert high == 1.0


@pytest.mark.parametrize("name", COMPARABLE)
def test_a_figure_does_not_differ_from_itself(some: Evaluation, name: str) -> None:
    found = paired_difference(some, stored(some), name)
    assert (found.value, found.low, found.high, found.chance) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", COMPARABLE)
def test_a_difference_is_signed_and_from_stored_rows(some: Evaluation, less: Evaluation, name: str) -> None:
    there, back = paired_difference(stored(some), stored(less), name), paired_difference(less, some, name)
    values = some.figures[name].value, less.figures[name].value
    assert values[0] is not None
    assert values[1] is not None
    assert there.value == pytest.approx(values[0] - values[1])
    assert there.value == -(back.value or 0.0)
    assert bounds(there) == pytest.approx((-bounds(back)[1], -bounds(back)[0]))
    assert there == paired_difference(some, less, name)


def test_less_speaker_in_the_code_is_found_and_pairing_narrows_the_interval(some: Evaluation, less: Evaluation) -> None:
    difference = paired_difference(some, less, "leakage_auc")
    low, high = bounds(difference)
    assert 0 < low < high
    apart = [np.diff(bounds(each.leakage_auc))[0] for each in (some, less)]
    assert high - low < np.hypot(*apart)


def test_equal_seeds_resample_alike(some: Evaluation, less: Evaluation) -> None:
    difference = replicates(some, "accent_f1", 300, 4) - replicates(less, "accent_f1", 300, 4)
    low, high = bounds(paired_difference(some, less, "accent_f1", 300, 4))
    assert (low, high) == pytest.approx(speaker_interval(difference, np.repeat(np.arange(3), 5)))


def test_what_cannot_be_compared_says_why(some: Evaluation) -> None:
    other = make_table(val=6)
    stranger = evaluate(make_code(other, accent=0.4), other, PROTOCOL)
    with pytest.raises(DataError, match=r"not of the same speakers: 'a0s15' is None in one and 'accent0' in another"):
        paired_difference(some, stranger, "accent_f1")
    with pytest.raises(ValueError, match="'strength' is not comparable"):
        paired_difference(some, some, "strength")
    with pytest.raises(ValueError, match="two seeds"):
        hierarchical_interval([some], "accent_f1")
    table = make_table()
    silent = evaluate(make_code(table), table.assign(text_id=None), PROTOCOL)
    assert paired_difference(some, silent, "text_drop") == Figure(None, reason="the utterances have no text_id")
    assert hierarchical_interval([silent, some], "text_drop") == Figure(None, reason="the utterances have no text_id")
    with pytest.raises(ValueError, match="no value: the utterances have no text_id"):
        replicates(silent, "text_drop")


def test_draws_that_hold_other_speakers_are_compared_over_all_of_them() -> None:
    table = make_table(val=8)
    code = make_code(table, accent=0.4, speaker=0.5)
    few = Protocol(speakers=3, draws=2, bootstrap=200, permutations=0, text_drop=False)
    first, second = (evaluate(code, table, few, seed) for seed in (0, 1))
    assert set(first.speakers.unseen) != set(second.speakers.unseen)
    difference = paired_difference(first, second, "leakage_unseen")
    assert difference.n == len(set(first.speakers.unseen) | set(second.speakers.unseen))
    low, high = bounds(difference)
    assert low < 0 < high  # the same code twice


def recognised(template: Evaluation, recall: np.ndarray) -> Evaluation:
    """An evaluation in which the unseen speakers have the given recalls (15,)."""
    rows = {name: (float(value), 1) for name, value in zip(template.speakers.unseen, recall, strict=True)}
    speakers = Speakers(accent=template.speakers.accent, unseen=rows)
    return replace(template, leakage_unseen=Figure(float(recall.mean()) - 0.2, chance=0.0, most=0.8), speakers=speakers)


def test_seeds_that_agree_leave_the_interval_over_speakers(some: Evaluation) -> None:
    recall = np.random.default_rng(0).uniform(size=15)
    one = recognised(some, recall)
    found = hierarchical_interval([one, one, one], "leakage_unseen", 4000)
    alone = speaker_interval(replicates(one, "leakage_unseen", 4000), np.repeat(np.arange(3), 5))
    assert found.value == one.leakage_unseen.value
    assert found.most == 0.8
    assert bounds(found) == pytest.approx(alone, abs=1e-12)


def test_two_seeds_far_apart_are_a_wide_interval(some: Evaluation) -> None:
    """The speakers are alike, so all that varies is two seeds, .2 from their mean: t of one degree of freedom, ± 12.7 · .2, leaves every value possible."""
    low, high = (recognised(some, np.full(15, level)) for level in (0.3, 0.7))
    assert bounds(hierarchical_interval([low, high], "leakage_unseen")) == pytest.approx((-0.2, 0.8))


def test_speakers_are_the_same_people_in_every_seed(some: Evaluation) -> None:
    """Crossed data, μ + seed + speaker + rest: intervals hold the mean in 95 % of trials or more (crossed resampling is conservative).

    Were speakers resampled apart in each of five seeds, their variance would count a fifth, and with sd .15 of speakers against .02 of seeds
    the intervals would hold the mean in about P(|N(0, 1)| < 1.96/√5) = 62 % of trials.
    """
    generator, trials, seeds = np.random.default_rng(0), 150, 5
    held = 0
    for trial in range(trials):
        speakers, shifts = 0.15 * generator.normal(size=15), 0.02 * generator.normal(size=seeds)
        recalls = 0.6 + shifts[:, None] + speakers + 0.03 * generator.normal(size=(seeds, 15))
        found = hierarchical_interval([recognised(some, recall) for recall in recalls], "leakage_unseen", 500, trial)
        low, high = bounds(found)
        held += low <= 0.4 <= high
    assert held >= binom.ppf(0.001, trials, 0.95)


def test_variation_of_seeds_counts(some: Evaluation) -> None:
    """Where seeds are all that varies, an interval over speakers alone has no width; this one holds the mean in 95 % of trials."""
    generator, trials, seeds = np.random.default_rng(1), 150, 3
    held = 0
    for trial in range(trials):
        levels = 0.6 + 0.02 * generator.normal(size=seeds)
        found = hierarchical_interval([recognised(some, np.full(15, level)) for level in levels], "leakage_unseen", 500, trial)
        low, high = bounds(found)
        held += low <= 0.4 <= high
    assert held >= binom.ppf(0.001, trials, 0.95)
