"""What else differs between the accents: an accent probe may be reading gender, source or tempo instead.

Accent × gender and accent × source block a search from Cramér's V = 0.3 up, unless `data.allow_confounds` says why not. Durations that
differ are a limitation to report. Counts are of utterances, since that is what a probe sees; with few speakers read p as a description.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from tune_accent.base.errors import DataError
from tune_accent.data.manifest import Manifest

BLOCKING_V = 0.3
SIGNIFICANT, LONG_S = 0.05, 1.0


def check(manifest: Manifest) -> dict[str, Any]:
    """Test every variable that may be confounded with accent.

    Returns:
        JSON: `gender` and `source` with test, statistic, p, cramers_v, blocks and counts by accent; `duration_s` with test, statistic, p,
        medians by accent, their spread, and whether that is a limitation.
    """
    accents = [row.accent for row in manifest.rows]
    return {
        "gender": _association(accents, [row.gender or "unknown" for row in manifest.rows]),
        "source": _association(accents, [row.source for row in manifest.rows]),
        "duration_s": _shift(accents, [row.duration_s for row in manifest.rows]),
    }


def assert_no_confounds(report: Mapping[str, Any], allow: Sequence[str], where: str) -> None:
    """Stop where a variable blocks and is not allowed.

    Args:
        report: from `check`.
        allow: `data.allow_confounds`: entries "variable: reason".
        where: the corpus, for the message.

    Raises:
        DataError: names every such variable and its V, or an entry without a reason or of an unknown variable.
    """
    reasons = {entry.partition(":")[0].strip(): entry.partition(":")[2].strip() for entry in allow}
    for variable, reason in reasons.items():
        if variable not in report or not reason:
            what = f"{variable!r} is not one of {', '.join(report)} followed by a colon and the reason"
            raise DataError(what, where="data.allow_confounds", fix="write for example 'gender: the corpus has no women from CO'")
    blocking = [key for key, entry in report.items() if entry.get("blocks") and key not in reasons]
    if blocking:
        found = ", ".join(f"{key} (Cramér's V {report[key]['cramers_v']:.2f}, limit {BLOCKING_V})" for key in blocking)
        raise DataError(
            f"accent is confounded with {found}",
            where=where,
            fix=f"balance the corpus, or accept it with data.allow_confounds: ['{blocking[0]}: why this is harmless']",
        )


def _association(accents: Sequence[str], values: Sequence[str]) -> dict[str, Any]:
    rows, columns = sorted(set(accents)), sorted(set(values))
    table = np.zeros((len(rows), len(columns)), dtype=np.int64)
    np.add.at(table, ([rows.index(accent) for accent in accents], [columns.index(value) for value in values]), 1)
    statistic, p, v = 0.0, 1.0, 0.0
    if min(table.shape) > 1:
        result = stats.chi2_contingency(table, correction=False)
        statistic, p = float(result.statistic), float(result.pvalue)
        v = float(np.sqrt(statistic / (table.sum() * (min(table.shape) - 1))))
    counts = {accent: dict(zip(columns, line, strict=True)) for accent, line in zip(rows, table.tolist(), strict=True)}
    return {"test": "chi-squared", "statistic": statistic, "p": p, "cramers_v": v, "blocks": v >= BLOCKING_V, "counts": counts}


def _shift(accents: Sequence[str], values: Sequence[float]) -> dict[str, Any]:
    groups: dict[str, list[float]] = defaultdict(list)
    for accent, value in zip(accents, values, strict=True):
        groups[accent].append(value)
    medians = {accent: float(np.median(group)) for accent, group in sorted(groups.items())}
    spread = max(medians.values()) - min(medians.values())
    statistic, p = 0.0, 1.0
    if len(groups) > 1 and len(set(values)) > 1:
        result = stats.kruskal(*groups.values())
        statistic, p = float(result.statistic), float(result.pvalue)
    limitation = p < SIGNIFICANT and spread > LONG_S
    return {
        "test": "Kruskal-Wallis",
        "statistic": statistic,
        "p": p,
        "spread": spread,
        "limitation": limitation,
        "medians": medians,
    }
