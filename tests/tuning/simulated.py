"""A search without speech: a known surface over rank, lr and leakage weight, learnt epoch by epoch, with faults on demand.

Programs built by `make_simulated` run in real Ray workers; `Clock` runs the same core on a fake clock.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tune_accent.base.errors import Diverged, OutOfMemory, UserError
from tune_accent.base.files import sha256_json, write_text
from tune_accent.config.space import Categorical, Constant, Space, Uniform
from tune_accent.tuning.core import Core, Grant, Settings
from tune_accent.tuning.memo import Failure, FolderMemo, Memo
from tune_accent.tuning.suggest import make_suggester

SPACE = Space(
    (
        Categorical("lora_rank", (2, 4, 8, 16, 32)),
        Uniform("lr", 3e-4, 2e-2, log=True),
        Uniform("leakage_weight", 0.03, 10.0, log=True, q=0.1),
        Constant("training.batch_size", 18),
    )
)


def key_of(params: Mapping[str, Any]) -> str:
    """What the search remembers a trial by."""
    return sha256_json(dict(params))[:16]


def metrics_of(params: Mapping[str, Any], key: str, epoch: int) -> dict[str, Any]:
    """The report of an epoch: depends on parameters and epoch only, with seeded noise."""
    noise = np.random.default_rng([int(key[:8], 16), epoch]).normal(0, 0.02)
    peak = 0.8 - 0.1 * abs(math.log10(params["lr"] / 5e-3)) - 0.02 * abs(math.log2(params["lora_rank"] / 8))
    leakage = 0.4 / (1 + params["leakage_weight"])
    f1 = 0.33 + (peak - 0.33) * (1 - math.exp(-epoch / 3)) + float(noise)
    return {"accent_f1": f1, "speaker_leakage": leakage, "score": f1 - 3 * max(0.0, leakage - 0.3), "feasible": leakage <= 0.3}


def make_core(memo: Memo, space: Space = SPACE, method: str = "bayes", **settings: Any) -> Core:
    """A small search over `space`."""
    chosen = Settings(**{"run_cap": 12, "slots": 4, "epochs": 9, "min_iter": 3, "seed": 7, **settings})
    return Core(chosen, make_suggester(space, chosen, method=method), key_of, memo)  # type: ignore[arg-type]


def table(core: Core) -> str:
    """The trial table: everything that must not depend on time or machine."""
    rows = [[t.number, t.state, dict(t.params), t.key, list(t.reports), t.duplicate_of] for t in core.trials]
    return json.dumps(rows, sort_keys=True)


class Clock:
    """Runs a core on a fake clock with `workers` workers.

    Args:
        seconds: of a granted epoch; the order of arrival follows from it.
        outcome: metrics or failure of a granted epoch; finished epochs go to the memo, as a program does it.
        kill_after: results after which the process dies; None: never.
    """

    def __init__(
        self,
        core: Core,
        workers: int,
        seconds: Callable[[Grant], float] = lambda grant: 1.0,
        outcome: Callable[[Grant], Mapping[str, Any] | Failure] = lambda grant: metrics_of(grant.params, grant.key, grant.epoch),
        kill_after: int | None = None,
    ) -> None:
        self.core, self.workers, self.seconds, self.outcome, self.left = core, workers, seconds, outcome, kill_after
        self.now = 0.0
        self.trained: list[tuple[str, int]] = []
        self._running: list[tuple[float, int, Grant]] = []

    def run(self) -> bool:
        """Until the search is done (True) or the process is killed (False)."""
        self.core.advance()
        while not self.core.done:
            self._start()
            self.now, _, grant = heapq.heappop(self._running)
            if self.left == 0:
                return False
            self.left = None if self.left is None else self.left - 1
            self._arrive(grant)
        return True

    def _start(self) -> None:
        running = {grant.trial for _, _, grant in self._running}
        for grant in self.core.grants():
            if len(self._running) < self.workers and grant.trial not in running:
                assert not (grant.alone and self._running), "an epoch that must be alone is not"
                heapq.heappush(self._running, (self.now + self.seconds(grant), grant.trial, grant))
        assert self._running, "the search is not done, but nothing is granted"

    def _arrive(self, grant: Grant) -> None:
        result = self.outcome(grant)
        self.trained.append((grant.key, grant.epoch))
        if isinstance(result, Failure):
            self.core.fail(grant.trial, grant.epoch, result)
        else:
            if all(math.isfinite(value) for value in result.values() if isinstance(value, float)):
                self.core.memo.record(grant.key, grant.epoch, result)
            self.core.report(grant.trial, grant.epoch, result)


class SimulatedProgram:
    """Trains by sleeping. `spec`: {"root", "seconds", "faults": {"<trial key>:<epoch>": name}}; faults happen once unless they are "always…".

    Every epoch that begins leaves a file `begun/<trial key>-<epoch>-<process>`. Once there is a file `doomed`, a list of processes, the
    first of them that is about to finish an epoch kills them all, in that order: a machine that dies while it trains.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.memo = FolderMemo(Path(spec["root"]))
        self._spec = spec

    def epoch(self, params: Mapping[str, Any], key: str, epoch: int) -> Mapping[str, Any]:
        """One epoch, or its fault."""
        assert len(self.memo.reports(key)) >= epoch - 1, "the epoch before is not in the memo"
        write_text(Path(self._spec["root"]) / "begun" / f"{key}-{epoch}-{os.getpid()}", "")
        time.sleep(self._spec.get("seconds", 0.0))
        self._die_with_the_machine()
        self._fault(self._spec.get("faults", {}).get(f"{key}:{epoch}"), f"{key}-{epoch}")
        metrics = metrics_of(params, key, epoch)
        self.memo.record(key, epoch, metrics)
        return {**metrics, "timing": {"peak_mb": 1.0}}

    def close(self) -> None:
        """Nothing is held."""

    def _die_with_the_machine(self) -> None:
        doomed = Path(self._spec["root"]) / "doomed"
        if doomed.exists() and os.getpid() in (processes := json.loads(doomed.read_text())):
            for process in sorted(processes, key=os.getpid().__eq__):  # itself last
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def _fault(self, name: str | None, place: str) -> None:
        flag = Path(self._spec["root"]) / "faults" / place
        if name is None or (flag.exists() and not name.startswith("always")):
            return
        write_text(flag, f"{os.getpid()} {name}\n")
        match name.removeprefix("always "):
            case "nan":
                raise Diverged("loss", 12, 3.5)
            case "oom":
                raise OutOfMemory("simulated")
            case "host oom":
                raise MemoryError
            case "crash":
                raise ZeroDivisionError("simulated crash")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)


def make_simulated(spec: Mapping[str, Any]) -> SimulatedProgram:
    """The factory that a worker calls."""
    return SimulatedProgram(spec)


def make_unmendable(spec: Mapping[str, Any]) -> SimulatedProgram:
    """A factory that finds a mistake of the person's."""
    raise UserError("no such checkpoint", "model.backbone", "download it")


def make_broken(spec: Mapping[str, Any]) -> SimulatedProgram:
    """A factory with a bug."""
    raise ZeroDivisionError
