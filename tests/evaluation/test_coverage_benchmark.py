"""The coverage benchmark at a small size."""

from __future__ import annotations

import pytest

from benchmarks.coverage import FIGURES, HEADER, measure, rows


@pytest.mark.parametrize(("kind", "level"), [("features", 0.6), ("counts", 0.6)])
def test_intervals_over_speakers_hold_more_than_intervals_over_utterances(kind: str, level: float) -> None:
    results = measure(kind, 5, level, 0.4, 24)
    assert tuple(results) == FIGURES
    for one in results.values():
        assert one.held[0] > one.held[1]
        assert one.width[0] > one.width[1]
    lines = list(rows(kind, 5, results))
    assert {len(line) for line in lines} == {len(HEADER)}
