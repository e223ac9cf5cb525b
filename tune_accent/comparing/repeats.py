"""What repeats of two engines say about each other, and in plain words how much that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf, isinf

import numpy as np
import numpy.typing as npt

from tune_accent.base.seeds import generator

DRAWS, LEVEL, FEWEST = 10_000, 0.05, 6  # FEWEST: the smallest n whose sign-flip p-value, 2^(1-n), can be below .05
EXACT = 12  # pairs up to which all sign flips are counted


@dataclass(frozen=True)
class Difference:
    """An engine less another, in the score of paired repeats (more is better).

    Attributes:
        engine, other: labels.
        pairs: how many repeats have the same seed in both.
        mean: of the differences.
        low, high: 95 % percentile bootstrap over pairs; None below two pairs.
        p: two-sided sign-flip test, before correction; None below two pairs.
        p_holm: corrected for all comparisons (Holm 1979).
    """

    engine: str
    other: str
    pairs: int
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None


def quartiles(values: Sequence[float | None]) -> tuple[float | None, float | None, float | None]:
    """25 %, median and 75 %, linearly between values; a missing one is worse than all others, and a quartile that it enters is None."""
    ordered = sorted(-inf if value is None else value for value in values)
    return _quantile(ordered, 0.25), _quantile(ordered, 0.5), _quantile(ordered, 0.75)


def difference(engine: str, other: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> Difference:
    """`ours` less `theirs`, by seed; repeats without a partner do not count."""
    seeds = sorted(set(ours) & set(theirs))
    found = np.array([ours[seed] - theirs[seed] for seed in seeds], dtype=np.float64)
    if len(found) < 2:
        return Difference(engine, other, len(found), float(found[0]) if len(found) else None, None, None, None)
    draws = generator(0, "paired bootstrap", len(found)).integers(len(found), size=(DRAWS, len(found)))
    low, high = np.quantile(found[draws].mean(axis=1), [LEVEL / 2, 1 - LEVEL / 2])
    return Difference(engine, other, len(found), float(found.mean()), float(low), float(high), sign_flip(found))


def sign_flip(found: npt.NDArray[np.float64]) -> float:
    """Two-sided p-value of a mean of paired differences if every sign were by chance (Fisher 1935): all flips, or 10,000 drawn ones."""
    if len(found) <= EXACT:
        flips = np.array(list(product((1, -1), repeat=len(found))))
        return float(np.mean(np.abs(flips @ found) >= abs(found.sum()) - 1e-12))
    flips = generator(0, "sign flips", len(found)).choice((1, -1), size=(DRAWS, len(found)))
    return float((1 + np.sum(np.abs(flips @ found) >= abs(found.sum()) - 1e-12)) / (1 + DRAWS))


def holm(found: Sequence[Difference]) -> list[Difference]:
    """The same with `p_holm`, in the same order."""
    from dataclasses import replace

    tested = sorted((one.p, place) for place, one in enumerate(found) if one.p is not None)
    corrected, least = dict[int, float](), 0.0
    for rank, (p, place) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * p))
        corrected[place] = least
    return [replace(one, p_holm=corrected.get(place)) for place, one in enumerate(found)]


def conclusion(found: Difference, of: int) -> str:
    """What can and cannot be concluded, in one or two sentences.

    Args:
        found: the comparison.
        of: how many comparisons are made at once.
    """
    pair, n = f"{found.engine} and {found.other}", found.pairs
    if n == 0:
        return f"{pair}: no repeat of one has the seed of a repeat of the other; nothing can be concluded about the engines."
    if n == 1:
        return f"{pair}: one pair of searches tells which of these two found more, and nothing about the engines: another seed may turn it round."
    if n < FEWEST:
        chance = 2 ** (1 - n)
        return (
            f"{pair}: {n} repeats are too few to tell the engines apart. Even if every repeat pointed the same way, chance would do that in "
            f"{chance:.0%} of cases; at least {FEWEST} are needed, and the interval over {n} is too narrow."
        )
    assert found.mean is not None and found.p_holm is not None
    if found.p_holm >= LEVEL:
        return f"{pair}: {n} repeats do not tell them apart (p = {found.p_holm:.3f} after Holm's correction for {of}). That is no proof that they are equal."
    better = found.engine if found.mean > 0 else found.other
    return (
        f"{pair}: {better} is better on this space and budget (p = {found.p_holm:.3f} after Holm's correction for {of}, {n} repeats). Other data, "
        "spaces and budgets were not tried."
    )


def _quantile(ordered: Sequence[float], q: float) -> float | None:
    if not ordered:
        return None
    place = q * (len(ordered) - 1)
    low, share = int(place), place - int(place)
    if isinf(ordered[low]):
        return None
    return ordered[low] if not share else ordered[low] + share * (ordered[low + 1] - ordered[low])
