"""The winner again, twice, from its spec and its own seed, in fresh processes; to the bit beside each other and beside the search's own trial.

<root>/paper/reproduction/run-1, run-2    records and states (repeated.py); a killed paper run continues there
<root>/paper/reproduction.json            the verdict
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tune_accent.base.errors import UserError
from tune_accent.base.files import remove, sha256_json, write_json
from tune_accent.base.progress import Progress, silent
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.paper.bits import compare, run_of, search_of
from tune_accent.paper.hashes import search_spec
from tune_accent.paper.repeated import Job, failure, records, train_in_process
from tune_accent.paper.results import Reproduction
from tune_accent.tracking.provenance import gpus
from tune_accent.tuning.core import Trial
from tune_accent.tuning.folder import trial_key

RUNS = (1, 2)


def reproduce(
    experiment: Experiment,
    params: Mapping[str, Any],
    root: Path,
    trial: Trial,
    *,
    device: str | None = None,
    progress: Progress = silent,
) -> Reproduction:
    """Train the winner twice at the search's own seed, and compare; what is on the disk already is not trained again.

    Args:
        experiment: of the search.
        params: of the winner; `training.repeat` is 0 here whatever they say.
        root: the results folder; the caller holds its lock.
        trial: the search's own.
        device: of torch; None: the first GPU where the search may use one and there is one, else the CPU.
        progress: told the epochs of each run.

    Raises:
        DataError: data or backbone are not the search's. OutOfMemory: the same command tries again.
    """
    spec = resolve(experiment, {**params, "training.repeat": 0})
    noted = search_spec(root)
    chosen = "cpu" if device is None and experiment.tuning.resources.gpu == 0 else device
    key = trial_key(spec.model_dump(mode="json"), noted.data)
    jobs = [Job(spec.model_dump_json(), key, noted.data, str(run_folder(root, number)), chosen) for number in RUNS]
    _finish(jobs, spec, progress)
    runs = [run_of(f"run {number}", Path(job.folder), key) for number, job in zip(RUNS, jobs, strict=True)]
    found = compare(runs[0], runs[1], search_of(root, trial), spec)
    content = asdict(found)
    write_json(root / "paper" / "reproduction.json", {**content, "sha256": sha256_json(content)})
    return found


def run_folder(root: Path, number: int) -> Path:
    """Where run 1 or 2 is."""
    return root / "paper" / "reproduction" / f"run-{number}"


def _finish(jobs: Sequence[Job], spec: Experiment, progress: Progress) -> None:
    """Train what is missing: together where every run has a core and none needs a GPU, else one after the other."""
    for job in jobs:
        _clear_others(Path(job.folder), job.key)
    left = [job for job in jobs if not _finished(job)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    together = len(left) * spec.training.threads <= cores and (jobs[0].device == "cpu" or not gpus())
    for group in [left] if together and left else [[job] for job in left]:
        _run(group, spec.training.epochs, progress)


def _clear_others(folder: Path, key: str) -> None:
    """Records of another winner, or of another seed, make room."""
    if folder.is_dir() and not records(folder, key) and failure(folder, key) is None and any(folder.glob("[!.]*")):
        remove(folder)


def _finished(job: Job) -> bool:
    known = records(Path(job.folder), job.key)
    return bool(known and known[-1]["metrics"]["ended"]) or failure(Path(job.folder), job.key) is not None


def _run(jobs: Sequence[Job], epochs: int, progress: Progress) -> None:
    """One fresh process for each job; whatever ends this ends them."""
    fresh = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = []
    names: dict[Connection, str] = {}
    try:
        for job in jobs:
            here, there = fresh.Pipe(duplex=False)
            process = fresh.Process(target=train_in_process, args=(job, there))
            process.start()
            there.close()
            processes.append(process)
            names[here] = f"reproduction, {Path(job.folder).name}"
        _listen(names, epochs, progress)
        _join(processes)
    finally:
        for started in processes:
            started.terminate()
        _join(processes)
    died = [process.exitcode for process in processes if process.exitcode]
    if died:
        raise UserError(
            f"a process of the reproduction was killed (exit code {died[0]})",
            str(Path(jobs[0].folder).parent),
            "see whether the machine has the memory for it; the same command continues",
        )


def _join(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.join()


def _listen(names: dict[Connection, str], epochs: int, progress: Progress) -> None:
    """Until every process has said its last word.

    Raises:
        UserError, TrialFailure: as the process met them. RuntimeError: a bug there.
    """
    waiting = dict(names)
    while waiting:
        for here in wait(list(waiting)):
            assert isinstance(here, Connection)
            try:
                kind, value = here.recv()
            except EOFError:
                del waiting[here]
                continue
            if kind == "error":
                raise value
            if kind == "bug":
                raise RuntimeError(f"{names[here]}: {value}")
            progress(names[here], value, epochs)
