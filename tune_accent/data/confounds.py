"""What else differs between the accents: an accent probe may be reading gender, source or tempo instead.

Accent × gender and accent × source block a search from Cramér's V = 0.3 up, unless `data.allow_confounds` says why not. Durations and
signal-to-noise ratios that differ are a limitation to report. Counts are of utterances, since that is what a probe sees; with few speakers read p as a description.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from tune_accent.base.errors import DataError, visible
from tune_accent.data.manifest import Manifest

BLOCKING_V = 0.3
SIGNIFICANT, LONG_S, NOISY_DB = 0.05, 1.0, 5.0
BLOCKS, LIMITATION, NONE = "blocks", "limitation", "none"
EFFECTS = {"cramers_v": (0.1, 0.3, 0.5), "epsilon_squared": (0.01, 0.08, 0.26)}  # from which on it is small, medium, large


def check(manifest: Manifest) -> dict[str, Any]:
    """Test every variable that may be confounded with accent.

    Returns:
        JSON: `gender` and `source` with test, statistic, p, cramers_v, blocks and counts by accent; `duration_s` and, where at least two
        accents have estimates, `snr_db` with test, statistic, p, epsilon_squared, medians by accent, their spread, and whether that is a
        limitation. Each with `utterances`, `effect` (negligible, small, medium, large) and `verdict` (blocks, limitation, none).
    """
    accents = [row.accent for row in manifest.rows]
    report = {
        "gender": _association(accents, [row.gender or "unknown" for row in manifest.rows]),
        "source": _association(accents, [row.source for row in manifest.rows]),
        "duration_s": _shift(accents, [row.duration_s for row in manifest.rows], LONG_S),
    }
    measured = [(row.accent, row.snr_db) for row in manifest.rows if row.snr_db is not None]
    if len({accent for accent, _ in measured}) > 1:
        report["snr_db"] = _shift([accent for accent, _ in measured], [level for _, level in measured], NOISY_DB)
    return report


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
    found = {"test": "chi-squared", "statistic": statistic, "p": p, "cramers_v": v, "blocks": v >= BLOCKING_V, "counts": counts}
    return found | _judged("cramers_v", v, len(values), BLOCKS if v >= BLOCKING_V else NONE)


def _shift(accents: Sequence[str], values: Sequence[float], limit: float) -> dict[str, Any]:
    """Kruskal-Wallis with epsilon² = H / (n - 1) (Tomczak & Tomczak 2014); a limitation where p and the spread of medians are over their limits."""
    groups: dict[str, list[float]] = defaultdict(list)
    for accent, value in zip(accents, values, strict=True):
        groups[accent].append(value)
    medians = {accent: float(np.median(group)) for accent, group in sorted(groups.items())}
    spread = max(medians.values()) - min(medians.values())
    statistic, p = 0.0, 1.0
    if len(groups) > 1 and len(set(values)) > 1:
        result = stats.kruskal(*groups.values())
        statistic, p = float(result.statistic), float(result.pvalue)
    limitation = p < SIGNIFICANT and spread > limit
    size = min(1.0, max(0.0, statistic / (len(values) - 1))) if len(values) > 1 else 0.0
    found = {
        "test": "Kruskal-Wallis",
        "statistic": statistic,
        "p": p,
        "spread": spread,
        "limitation": limitation,
        "medians": medians,
        "epsilon_squared": size,
    }
    return found | _judged("epsilon_squared", size, len(values), LIMITATION if limitation else NONE)


def _judged(measure: str, size: float, utterances: int, verdict: str) -> dict[str, Any]:
    names = ("negligible", "small", "medium", "large")
    return {"utterances": utterances, "effect": names[sum(size >= limit for limit in EFFECTS[measure])], "verdict": verdict}


def markdown(report: Mapping[str, Any]) -> str:
    """The report of `check` for people: a table of verdicts, and what each accent has of each variable."""
    lines = [
        "# Confounds with accent",
        "",
        f"Accent × gender and × source block a search from Cramér's V = {BLOCKING_V} up (`data.allow_confounds` accepts one with a reason). "
        f"Duration and SNR are a limitation where p < {SIGNIFICANT} and medians lie more than {LONG_S:g} s or {NOISY_DB:g} dB apart. "
        "Counts are of utterances, which are not independent within a speaker: read p as a description.",
        "",
        "| variable | test | statistic | p | effect size | effect | utterances | verdict |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(name, found) for name, found in report.items()),
    ]
    for name, found in report.items():
        lines += ["", f"## {name}", "", *_by_accent(found)]
    return "\n".join(lines) + "\n"


def _line(name: str, found: Mapping[str, Any]) -> str:
    measure = "cramers_v" if "cramers_v" in found else "epsilon_squared"
    size = f"{'V' if measure == 'cramers_v' else 'ε²'} = {found[measure]:.3f}"
    cells = (name, found["test"], f"{found['statistic']:.2f}", f"{found['p']:.3g}", size, found["effect"], found["utterances"])
    return f"| {' | '.join(map(str, cells))} | **{found['verdict']}** |"


def _by_accent(found: Mapping[str, Any]) -> list[str]:
    if "medians" in found:
        rows = [f"| {_cell(accent)} | {median:.2f} |" for accent, median in found["medians"].items()]
        return ["| accent | median |", "|---|---|", *rows, "", f"Largest difference of medians: {found['spread']:.2f}."]
    columns = sorted({value for counts in found["counts"].values() for value in counts})
    head = ["accent", *map(_cell, columns)]
    rows = [
        f"| {' | '.join([_cell(accent), *(str(counts[value]) for value in columns)])} |"
        for accent, counts in found["counts"].items()
    ]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]


def _cell(text: str) -> str:
    """A text of the corpus in a table of Markdown."""
    return visible(" ".join(text.split())).replace("\\", "\\\\").replace("|", "\\|")
