"""Do 95 % intervals hold the truth? Speakers resampled, beside utterances resampled, on nested data.

    python -m benchmarks.coverage [--speakers 5,10,20] [--repeats 400] [--rho 0.4]

Two kinds of simulated data, both with correlation rho within a speaker. `features`: z is a direction per accent, a random effect per speaker and
noise per utterance; the train speakers, and with them the accent probe, stay, each repeat draws new scored speakers and asks `evaluate` for its
intervals. `counts`: the predictions themselves are Dirichlet-multinomial, so that it is being right that has the correlation rho.
The truth is the figure over all speakers: F1, balanced accuracy and recall of the pooled confusion of all repeats, the mean of all leakages. Prints how many
of the intervals hold it, and how wide they are; the aim is 88 to 99 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.evaluation import Figure, Protocol, evaluate
from tune_accent.evaluation.accent import Confusions, accent_figures, macro_f1, recall_figures, recalls
from tune_accent.evaluation.leakage import Recalls

Floats = npt.NDArray[np.float64]

ACCENTS, TRAIN, UTTERANCES, FOLDS, DIMS = 3, 10, 12, 3, 6
FIGURES = ("accent_f1", "accent_balanced_accuracy", "accent_recall", "leakage_unseen")  # the recall is that of the first accent
RESAMPLES = 1000
PROTOCOL = Protocol(c_grid=(0.1,), bootstrap=RESAMPLES, permutations=0, text_drop=False)
RECALL = 0.4  # of speakers, where counts are simulated
LEVELS = {"features": (0.4, 0.8), "counts": (0.5, 0.8, 0.93, 0.97)}  # amplitude of the accent directions; recall


@dataclass(frozen=True)
class Sample:
    """What was found on one draw of speakers: figures by name, confusion (K, K), speaker recall (K,) over `heard` utterances each, chance of it."""

    figures: dict[str, Figure]
    confusion: Floats
    recall: Floats
    heard: int
    chance: float


@dataclass(frozen=True)
class Coverage:
    """Of one figure: the truth, and share of intervals that hold it and mean width, of speakers and of utterances."""

    truth: float
    held: tuple[float, float]
    width: tuple[float, float]


def make_table(speakers: int) -> pd.DataFrame:
    """Rows of TRAIN train and `speakers` scored speakers per accent."""
    rows = []
    for accent in range(ACCENTS):
        for speaker in range(TRAIN + speakers):
            name, split = f"a{accent}s{speaker:03d}", "train" if speaker < TRAIN else "val"
            rows += [(f"{name}u{u:02d}", name, f"accent{accent}", split, u % FOLDS) for u in range(UTTERANCES)]
    return pd.DataFrame(rows, columns=["utt_id", "speaker", "accent", "split", "fold"])


def effects(table: pd.DataFrame, rho: float, generator: np.random.Generator) -> Floats:
    """Speaker effect and noise, (rows, DIMS): variance 1, correlation rho within a speaker."""
    speaker = pd.factorize(table["speaker"])[0]
    own = generator.normal(size=(speaker.max() + 1, DIMS))[speaker]
    return np.asarray(np.sqrt(rho) * own + np.sqrt(1 - rho) * generator.normal(size=own.shape))


def features(speakers: int, amplitude: float, rho: float, repeats: int) -> Iterator[Sample]:
    """Evaluations of fresh scored speakers beside the same train speakers."""
    table = make_table(speakers)
    train = (table["split"] == "train").to_numpy()
    fixed = np.random.default_rng(0)
    directions = amplitude * fixed.normal(size=(ACCENTS, DIMS))[pd.factorize(table["accent"])[0]]
    code = directions + effects(table, rho, fixed)
    for repeat in range(repeats):
        fresh = directions + effects(table, rho, np.random.default_rng([1, repeat]))
        found = evaluate(np.where(train[:, None], code, fresh), table, PROTOCOL, seed=repeat)
        chance = 1.0 / found.used.speakers
        recall = np.asarray([detail.leakage_unseen.value for detail in found.per_accent.values()], dtype=np.float64) + chance
        heard = found.used.speakers * found.used.draws * UTTERANCES
        figures = found.figures | {"accent_recall": found.per_accent[found.gate_accents[0]].recall}
        yield Sample(figures, np.asarray(found.confusion, dtype=np.float64), recall, heard, chance)


def counts(speakers: int, recall: float, rho: float, repeats: int) -> Iterator[Sample]:
    """Predictions of fresh speakers, given right with a speaker's own probability; rho is the correlation of being right."""
    mean = np.full((ACCENTS, ACCENTS), (1.0 - recall) / (ACCENTS - 1))
    np.fill_diagonal(mean, recall)
    accent = np.repeat(np.arange(ACCENTS), speakers)
    for repeat in range(repeats):
        generator = np.random.default_rng([3, repeat])
        own = np.stack([generator.dirichlet((1.0 / rho - 1.0) * mean[a]) for a in accent])
        predicted = np.stack([generator.multinomial(UTTERANCES, row) for row in own]).astype(np.float64)
        known = generator.beta(RECALL * (1.0 / rho - 1.0), (1.0 - RECALL) * (1.0 / rho - 1.0), size=len(accent))
        right = generator.binomial(UTTERANCES, known)
        seeds = np.random.SeedSequence(repeat).spawn(2)
        given = Confusions(predicted, accent)
        f1, balanced = accent_figures(given, PROTOCOL, (seeds[0], seeds[1]))
        share = np.asarray(right / UTTERANCES, dtype=np.float64)
        recognised = Recalls(np.arange(len(accent)), share, np.ones(len(accent)), accent, speakers)
        found = {"accent_f1": f1, "accent_balanced_accuracy": balanced, "leakage_unseen": recognised.figure(PROTOCOL, seeds[0])}
        found["accent_recall"] = recall_figures(given, PROTOCOL, seeds[0])[0]
        by_accent = recognised.recall.reshape(ACCENTS, speakers).mean(axis=1)
        confusion = given.matrix()[0]
        yield Sample(found, confusion, by_accent, speakers * UTTERANCES, 1.0 / speakers)


def utterance_bounds(found: Sample, generator: np.random.Generator) -> dict[str, tuple[float, float]]:
    """The intervals of those who resample utterances within accents, whoever speaks them."""
    sizes = found.confusion.sum(axis=1).astype(np.int64)
    pairs = zip(sizes, found.confusion, strict=True)
    drawn = np.stack([generator.multinomial(n, row / n, size=RESAMPLES) for n, row in pairs], axis=1).astype(np.float64)
    heard = generator.binomial(found.heard, np.clip(found.recall, 0.0, 1.0), size=(RESAMPLES, ACCENTS))
    replicates = (
        macro_f1(drawn),
        recalls(drawn).mean(axis=-1),
        recalls(drawn)[:, 0],
        heard.mean(axis=1) / found.heard - found.chance,
    )
    low, high = np.quantile(replicates, [0.025, 0.975], axis=1)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(FIGURES)}


def measure(kind: str, speakers: int, level: float, rho: float, repeats: int) -> dict[str, Coverage]:
    """Coverage of every figure at one size."""
    generator = np.random.default_rng(2)
    found = list((features if kind == "features" else counts)(speakers, level, rho, repeats))
    pooled = np.sum([each.confusion for each in found], axis=0)
    leakage = np.mean([each.recall.mean() - each.chance for each in found])
    truths = dict(zip(FIGURES, map(float, (macro_f1(pooled), recalls(pooled).mean(), recalls(pooled)[0], leakage)), strict=True))
    utterances = [utterance_bounds(each, generator) for each in found]
    results = {}
    for name, truth in truths.items():
        sides = [[(each.figures[name].low, each.figures[name].high) for each in found], [each[name] for each in utterances]]
        bounds = np.asarray(sides, dtype=np.float64)
        held = ((bounds[..., 0] <= truth) & (truth <= bounds[..., 1])).mean(axis=1)
        width = (bounds[..., 1] - bounds[..., 0]).mean(axis=1)
        results[name] = Coverage(truth, (float(held[0]), float(held[1])), (float(width[0]), float(width[1])))
    return results


def rows(kind: str, speakers: int, results: dict[str, Coverage]) -> Iterator[str]:
    """One line per figure."""
    for name, one in results.items():
        shown = "  ".join(f"{100 * held:10.1f} % {width:6.3f}" for held, width in zip(one.held, one.width, strict=True))
        yield f"{kind:<8}  {speakers:>8}  {name:<25} {one.truth:6.3f}  {shown}"


HEADER = (
    f"{'data':<8}  {'n/accent':>8}  {'figure':<25} {'truth':>6}  {'speakers':>12}  {'width':>5}  {'utterances':>12}  {'width':>5}"
)


def main() -> None:
    """Measure every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speakers", default="5,10,20", help="scored speakers per accent")
    parser.add_argument("--rho", type=float, default=0.4)
    parser.add_argument("--repeats", type=int, default=400)
    arguments = parser.parse_args()
    sys.stdout.write(HEADER + "\n")
    for kind, levels in LEVELS.items():
        for level in levels:
            for speakers in map(int, arguments.speakers.split(",")):
                results = measure(kind, speakers, level, arguments.rho, arguments.repeats)
                sys.stdout.write("\n".join(rows(kind, speakers, results)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
