"""Does the demo learn? A search over noise is no demo.

    python -m benchmarks.signal [--config configs/demo.yaml] [--arms baseline,lambda,lr,random] [--epochs N]

Trains the no-LoRA baseline, three leakage weights and three learning rates on three seeds, and 12 random configurations of the space on two seeds;
prints accent F1, leakage (unseen, seen) and score after the last epoch with their spread over seeds and a 95 % speaker interval, and how well two
seeds agree on the random configurations (Spearman). Data and splits are the config's; only the training seed changes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from tune_accent.config.check import load_search
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.training.preparation import ensure_prepared

SEEDS = (101, 102, 103)
MIDDLE = {"lora_rank": 16, "lora_alpha_ratio": 2.0, "lr": 5e-3, "leakage_weight": 1.0}
LAMBDAS = (0.0, 1.0, 10.0)
RATES = (1e-3, 5e-3, 2e-2)
RANDOM_CONFIGS = 12
FIGURES = ("accent_f1", "speaker_leakage_unseen", "speaker_leakage_seen", "score", "val_loss")


def arms(names: Iterable[str]) -> list[tuple[str, dict[str, Any], int]]:
    """(label, parameters, seed) of every run."""
    runs: list[tuple[str, dict[str, Any], int]] = []
    chosen = set(names)
    if "baseline" in chosen:
        runs += [("no LoRA", {**MIDDLE, "leakage_weight": 0.0, "model.lora.enabled": False}, seed) for seed in SEEDS]
    if "lambda" in chosen:
        runs += [(f"λ {weight:g}", {**MIDDLE, "leakage_weight": weight}, seed) for weight in LAMBDAS for seed in SEEDS]
    if "lr" in chosen:
        runs += [(f"lr {rate:g}", {**MIDDLE, "lr": rate}, seed) for rate in RATES if rate != MIDDLE["lr"] for seed in SEEDS]
    if "random" in chosen:
        runs += [(f"random {index}", params, seed) for index, params in enumerate(random_configs()) for seed in SEEDS[:2]]
    return runs


def random_configs() -> list[dict[str, Any]]:
    """Configurations drawn over the demo space."""
    rng = np.random.default_rng(0)
    return [
        {
            "lora_rank": int(rng.choice([2, 4, 8, 16, 32])),
            "lora_alpha_ratio": float(rng.choice([1.0, 2.0, 4.0])),
            "lr": float(np.exp(rng.uniform(np.log(3e-4), np.log(2e-2)))),
            "leakage_weight": float(rng.choice([0.0, 0.1, 0.3, 1.0, 3.0, 10.0])),
        }
        for _ in range(RANDOM_CONFIGS)
    ]


def run_one(config: str, extra: Mapping[str, Any], label: str, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Train one run to its end; the report of its last epoch."""
    from tune_accent.training.device import default_device
    from tune_accent.training.preparation import open_inputs
    from tune_accent.training.trainer import train

    experiment = _experiment(config, extra)
    spec = resolve(experiment, params).model_copy(update={"seed": seed})
    data = open_inputs(experiment, default_device())
    reports = list(train(spec, data))
    last = reports[-1].metrics
    curve = [{name: report.metrics[name] for name in ("accent_f1", "speaker_leakage", "score")} for report in reports]
    seconds = sum(report.seconds for report in reports) / len(reports)
    return {"label": label, "params": dict(params), "seed": seed, "seconds": seconds, "curve": curve, **last}


def _experiment(config: str, extra: Mapping[str, Any]) -> Experiment:
    _, loaded = load_search("search_spaces/lora.yaml", config, dict(extra))
    return loaded.experiment


def table(results: list[dict[str, Any]]) -> str:
    """Mean ± sd over seeds per arm, and the mean speaker interval."""
    lines = [
        f"{'arm':<12} {'n':>2} {'accent F1':>14} {'95 % (speakers)':>16} {'unseen':>14} {'95 % (speakers)':>16} {'seen':>14} {'score':>15}"
    ]
    labels = list(dict.fromkeys(row["label"] for row in results if not row["label"].startswith("random")))
    for label in labels:
        rows = [row for row in results if row["label"] == label]
        cells = [_spread(rows, name) for name in ("accent_f1", "speaker_leakage_unseen", "speaker_leakage_seen", "score")]
        bounds = [_interval(rows, name) for name in ("accent_f1", "leakage_unseen")]
        lines.append(
            f"{label:<12} {len(rows):>2} {cells[0]:>14} {bounds[0]:>16} {cells[1]:>14} {bounds[1]:>16} {cells[2]:>14} {cells[3]:>15}"
        )
    return "\n".join(lines)


def agreement(results: list[dict[str, Any]]) -> str:
    """Spearman correlation of the random configurations between two seeds, and of epoch 3 with the last."""
    rows = [row for row in results if row["label"].startswith("random")]
    if not rows:
        return ""
    sides = [sorted((row for row in rows if row["seed"] == seed), key=lambda row: row["label"]) for seed in SEEDS[:2]]
    lines = [f"\n{len(sides[0])} random configurations, seed against seed (Spearman):"]
    for name in ("accent_f1", "speaker_leakage", "score", "val_loss"):
        lines.append(f"  {name:<18} {spearmanr(*[[row[name] for row in side] for side in sides]).statistic:+.2f}")
    for name in ("accent_f1", "speaker_leakage", "score"):
        early = spearmanr([row["curve"][2][name] for row in rows], [row[name] for row in rows]).statistic
        lines.append(f"  {name:<18} {early:+.2f}   epoch 3 against the last")
    for first, second in zip(*sides, strict=True):
        params = " ".join(f"{key}={value:.3g}" for key, value in first["params"].items())
        pairs = "  ".join(f"{name} {first[name]:+.3f}/{second[name]:+.3f}" for name in ("accent_f1", "speaker_leakage", "score"))
        lines.append(f"  {params:<70} {pairs}")
    return "\n".join(lines)


def _spread(rows: list[dict[str, Any]], name: str) -> str:
    values = np.array([row[name] for row in rows])
    return f"{values.mean():+.3f} ± {values.std(ddof=1) if len(values) > 1 else 0:.3f}"


def _interval(rows: list[dict[str, Any]], name: str) -> str:
    found = [row["evaluation"][name] for row in rows]
    return f"{np.mean([f['low'] for f in found]):+.2f} … {np.mean([f['high'] for f in found]):+.2f}"


def main() -> None:
    """Run the arms on two processes and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/demo.yaml")
    parser.add_argument("--arms", default="baseline,lambda,lr,random")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="change a key of the config")
    parser.add_argument("--out", type=Path, help="JSON lines of every run")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    extra = {key: json.loads(value) for key, value in (item.split("=", 1) for item in arguments.set)}
    ensure_prepared(_experiment(arguments.config, extra), show=True)
    runs = arms(arguments.arms.split(","))
    results: list[dict[str, Any]] = []
    with ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(run_one, arguments.config, extra, *run) for run in runs]
        for future in futures:
            results.append(future.result())
            row = results[-1]
            sys.stderr.write(
                f"{row['label']:<12} seed {row['seed']} "
                + " ".join(f"{n} {row[n]:+.3f}" for n in FIGURES)
                + f" {row['seconds']:.1f} s/epoch\n"
            )
            if arguments.out:
                with arguments.out.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
    sys.stdout.write(table(results) + "\n" + agreement(results) + "\n")


if __name__ == "__main__":
    main()
