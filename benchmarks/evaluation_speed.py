"""How long one in-trial evaluation takes, beside the same probes by plain scikit-learn.

    python -m benchmarks.evaluation_speed [--sizes demo medium coraa coraa_balanced] [--plain demo medium] [--threads 1]

The protocol of a trial on simulated representations: z with text drop and intervals, raw h without. The variances of h fall as 1 / index along random
axes, as those of hidden states do; accent and speaker add random directions. `coraa` has CORAA-MUPE's census of speakers (N 30, NE 39, CO 3, SE 193, S 7) at
two thirds, 67 utterances each; `coraa_balanced` the same number of rows in five equal accents, which leaves more speakers per probe.

Plain is a loop of StandardScaler and LogisticRegression (lbfgs, tol 1e-4) over designs and strengths; all else is equal. At CORAA size it takes minutes.
`differs` is the largest difference of a figure.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.evaluation import Evaluation, Protocol, evaluate
from tune_accent.evaluation.probes import Design, Probe

CENSUS = {"N": (17, 3), "NE": (21, 4), "CO": (2, 1), "SE": (106, 20), "S": (4, 2)}


@dataclass(frozen=True)
class Size:
    """A data set: train and val speakers of each accent, utterances of each speaker, widths of z (None: not measured) and h."""

    speakers: dict[str, tuple[int, int]]
    utterances: int
    z: int | None
    h: int
    shared_texts: bool = False


SIZES = {
    "demo": Size(dict.fromkeys("abc", (10, 5)), 12, 32, 128, shared_texts=True),
    "medium": Size(dict.fromkeys("abcde", (12, 4)), 70, None, 512),
    "coraa": Size(CENSUS, 67, 256, 2048),
    "coraa_balanced": Size(dict.fromkeys("abcde", (30, 6)), 67, 256, 2048),
}


@dataclass(frozen=True)
class Run:
    """One evaluation: what it found, seconds of the clock and of the processor."""

    found: Evaluation
    wall: float
    cpu: float


def make_table(size: Size) -> pd.DataFrame:
    """Utterances in three folds."""
    rows = [
        (f"{accent}{speaker:03d}u{text:03d}", f"{accent}{speaker:03d}", accent, "train" if speaker < train else "val", text)
        for accent, (train, val) in size.speakers.items()
        for speaker in range(train + val)
        for text in range(size.utterances)
    ]
    table = pd.DataFrame(rows, columns=["utt_id", "speaker", "accent", "split", "text"])
    texts = table["text"].astype(str) if size.shared_texts else pd.Series(None, index=table.index, dtype=object)
    return table.assign(text_id=texts, fold=table["text"] % 3)


def make_hidden(table: pd.DataFrame, dims: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """(N, dims) with decaying spectrum and the scales and offsets that features have."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(len(table), dims))
    for column, amplitude in (("accent", 2.2), ("speaker", 5.0)):
        number, names = pd.factorize(table[column])
        z += amplitude * dims**-0.5 * generator.normal(size=(len(names), dims))[number]
    axes = np.linalg.qr(generator.normal(size=(dims, dims)))[0]
    z = (z * np.arange(1, dims + 1) ** -0.5) @ axes
    return np.asarray(z * np.exp(generator.normal(size=dims)) + generator.normal(size=dims), dtype=np.float32)


def plain_fit(designs: Sequence[Design], strengths: Sequence[float]) -> list[Probe]:
    """What `probes.fit` gives, as scikit-learn's users write it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def one(design: Design) -> Probe:
        present = np.unique(design.labels)
        weights = np.zeros((design.rows.shape[1], len(strengths), design.classes))
        bias = np.zeros((len(strengths), design.classes))
        for s, c in enumerate(strengths):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=c, class_weight="balanced", max_iter=1000))
            model.fit(design.own, design.labels)
            chosen = present if len(present) > 2 else present[1:]
            weights[:, s, chosen], bias[s, chosen] = model[-1].coef_.T, model[-1].intercept_
        return Probe(model[0].mean_, model[0].scale_, weights, bias, np.isin(np.arange(design.classes), present))

    return [one(design) for design in designs]


def plain_chosen(
    outer: Sequence[Design], inner: Sequence[Design], strengths: Sequence[float], pick: Callable[[Sequence[Probe]], Sequence[int]]
) -> tuple[list[int], list[Probe]]:
    """What `probes.fit_chosen` gives."""
    chosen = list(pick(plain_fit(inner, strengths)))
    probes = [plain_fit([design], strengths[c : c + 1])[0] for design, c in zip(outer, chosen, strict=True)]
    return chosen, [replace(probe, chosen=c) for probe, c in zip(probes, chosen, strict=True)]


def timed(z: npt.NDArray[np.float32], table: pd.DataFrame, raw: bool, plain: bool, threads: int) -> Run:
    """One evaluation with the protocol of a trial."""
    protocol = Protocol(held_fold=0, text_drop=not raw, intervals=not raw, permutations=0, secondary=False, threads=threads)
    with ExitStack() as stack:
        if plain:
            for room in ("accent", "leakage"):
                stack.enter_context(mock.patch(f"tune_accent.evaluation.{room}.fit_chosen", plain_chosen))
        wall, cpu = time.perf_counter(), time.process_time()
        found = evaluate(z, table, protocol, seed=1)
        return Run(found, time.perf_counter() - wall, time.process_time() - cpu)


def differs(one: Evaluation, other: Evaluation) -> float:
    """Largest difference of the values of two evaluations."""
    pairs = [(figure.value, other.figures[name].value) for name, figure in one.figures.items()]
    return max(abs(a - b) for a, b in pairs if a is not None and b is not None)


def row(name: str, size: Size, raw: bool, plain: bool, threads: int, repeats: int) -> str:
    """A line of the table; our time is the best of the repeats."""
    table = make_table(size)
    dims = size.h if raw else size.z
    assert dims is not None
    z = make_hidden(table, dims)
    ours = min((timed(z, table, raw, False, threads) for _ in range(repeats)), key=lambda run: run.wall)
    train = int((table["split"] == "train").sum())
    shape = f"{train:,} + {len(table) - train:,} × {dims:,}"
    line = f"{name:<16}{'h' if raw else 'z':<3}{shape:<24}{ours.wall:>8.2f}{ours.cpu:>9.2f}"
    if not plain:
        return line
    theirs = timed(z, table, raw, True, threads)
    return f"{line}{theirs.wall:>11.2f}{theirs.wall / ours.wall:>8.0f}×{differs(ours.found, theirs.found):>10.4f}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["demo", "medium", "coraa"])
    parser.add_argument("--plain", nargs="*", choices=SIZES, default=["demo", "medium"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    sys.stdout.write(
        f"{'size':<16}{'':<3}{'train + val rows':<24}{'seconds':>8}{'cpu s':>9}{'plain':>11}{'':>9}{'differs':>10}\n"
    )
    for name in arguments.sizes:
        for raw in (False, True) if SIZES[name].z else (True,):
            sys.stdout.write(row(name, SIZES[name], raw, name in arguments.plain, arguments.threads, arguments.repeats) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
