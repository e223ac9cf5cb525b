"""One paper run, top to bottom. The same call computes only what is not there yet; every number of it is in a record before it is in a table.

select on new seeds → train baselines and ablations → train the winner twice again → open the test split → measure → generate → write
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError, UserError
from tune_accent.base.files import folder_lock, read_json, remove_torn, sha256_json, write_json
from tune_accent.base.progress import Progress, bars
from tune_accent.base.seeds import derive_seed
from tune_accent.config.load import load_experiment, resolve
from tune_accent.config.schema import Experiment
from tune_accent.models.adapter_base import AdapterBase, adapter_base
from tune_accent.paper.adapter import FOLDER as ADAPTER
from tune_accent.paper.adapter import export_adapter
from tune_accent.paper.assemble import (
    BUNDLE,
    ENVIRONMENT,
    FOLDER,
    HASHES,
    Base,
    Chosen,
    assemble,
    choose,
    opened_for,
    same_for_all,
    wrong_arms,
)
from tune_accent.paper.bundle import bundle
from tune_accent.paper.card import model_card
from tune_accent.paper.checksums import seal, verify_checksums
from tune_accent.paper.hashes import hashes_before
from tune_accent.paper.opening import open_test, refuse_other
from tune_accent.paper.outputs import write_outputs
from tune_accent.paper.recorded import recorded_search, replay
from tune_accent.paper.reproduce import reproduce
from tune_accent.paper.results import Arm, PaperResults, TrainedRun
from tune_accent.paper.signature import sign
from tune_accent.paper.stored import RunRecord, control_identity, read_run, write_control, write_run
from tune_accent.paper.train import known_runs, plan_run, train_arms
from tune_accent.paper.verify import verify_search
from tune_accent.training.preparation import PreparedRecord, ensure_prepared
from tune_accent.tuning.driver import deadline, logged
from tune_accent.tuning.memo import FolderMemo

IN_USE = "wait for it, or stop it"
ADAPTER_REPEAT = 1  # the seed whose adapter is given away: fixed beforehand, not the luckiest
SHOWN = 5  # faults that a refusal lists


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    Attributes:
        root: the results folder of a finished search.
        config: an experiment file whose sections `paper` and `record` are taken; None: the search's.
        reopen: why the test split is opened for something else than before; None: it is not.
        max_hours: stop training after this many hours; None: no limit.
        command: the line that continues.
    """

    root: Path
    config: Path | None = None
    reopen: str | None = None
    max_hours: float | None = None
    command: str = ""


def run_paper(request: Request) -> PaperResults:
    """Run or continue a paper run; a finished one is only read.

    Raises:
        UserError: the folder, the data or an earlier opening of the test split do not allow it; nothing is lost.
        KeyboardInterrupt, OutOfTime: the same call continues.
    """
    recorded_search(request.root)  # refuses what is no search before a lock is made in it
    with folder_lock(request.root, IN_USE):
        base, run = _begin(request)
        if _is_finished(request.root, run):
            return assemble(base, run)
        remove_torn(request.root)
        with logged(request.root / "logs" / "paper.log"):
            refuse_other(base.root, same_for_all(base), request.reopen)
            origin = _origin(base, ensure_prepared(base.experiment, show=True))
            should_stop = deadline(request.max_hours)
            chosen = _select(base, should_stop)
            refuse_other(base.root, opened_for(base, chosen), request.reopen)
            _note(base, run, origin)
            _trained(base, chosen.arms, should_stop)
            with bars() as progress:
                _measure(base, chosen, request.reopen, progress)
            results = assemble(base, run)
            _write(base, results)
            return results


def _begin(request: Request) -> tuple[Base, RunRecord]:
    """The search, and the sections that this run goes by: those of an earlier launch, unless a config is given."""
    search, spec = recorded_search(request.root)
    core = replay(search, spec)
    if not core.done:
        ended = sum(trial.state != "RUNNING" for trial in core.trials)
        fix = f"continue it, or make it smaller: the command of the search with --trials {max(1, ended)}"
        raise UserError(f"the search is not finished: {ended} of {search.run_cap} trials have ended", str(request.root), fix)
    before = read_run(request.root / FOLDER)
    asked = search.experiment if request.config is None else load_experiment(request.config).experiment
    commands = _commands(request) if before is None else before.commands
    if request.config is None and before is not None:
        asked = before.applied(asked)
    run = RunRecord(asked.paper, asked.record, commands)
    return Base(search, spec, core, run.applied(search.experiment)), run


def _commands(request: Request) -> tuple[str, ...]:
    """The command lines of search and paper run; the search's is the one of its last launch."""
    program, *arguments = map(str, read_json(request.root / "environment.json")["command"])
    module = program.removesuffix(".py")
    first = [program] if module == program else ["python", "-m", f"tune_accent.{module}"]
    return shlex.join([*first, *arguments]), request.command


def _is_finished(root: Path, run: RunRecord) -> bool:
    """Whether all outputs are there, whole, and of this very run."""
    return not verify_checksums(root / FOLDER) and read_run(root / FOLDER) == run and (root / BUNDLE).is_file()


@dataclass(frozen=True)
class Origin:
    """Hashes and environment, taken before anything runs."""

    hashes: Mapping[str, str]
    environment: Mapping[str, Any]


def _origin(base: Base, data: PreparedRecord) -> Origin:
    """Where this run starts from; the search must be as its own records tell."""
    from tune_accent.paper.environment import paper_environment

    faults = verify_search(base.root)
    if faults:
        told = "\n".join(f"    {fault}" for fault in faults[:SHOWN])
        fix = "the command of the search restores derived files"
        raise DataError(f"the search is not what its records tell:\n{told}", str(base.root), fix)
    return Origin(hashes_before(base.experiment, base.root, data), paper_environment(base.experiment.training))


def _note(base: Base, run: RunRecord, origin: Origin) -> None:
    """Write down what this run goes by; only once nothing forbids it, so that a refused one changes no finished paper."""
    folder = base.root / FOLDER
    write_json(folder / HASHES, dict(origin.hashes))
    write_json(folder / ENVIRONMENT, dict(origin.environment))
    write_run(folder, run)
    sign(base.root, [trial.key for trial in base.core.trials])


def _select(base: Base, should_stop: Callable[[], bool]) -> Chosen:
    """Candidates on new seeds, and what the selection asks for."""
    chosen = choose(base, _trained(base, base.candidates().arms, should_stop))
    for note in chosen.notes:
        sys.stderr.write(f"note: {note}\n")
    return chosen


def _trained(base: Base, arms: Sequence[Arm], should_stop: Callable[[], bool]) -> list[TrainedRun]:
    return train_arms(base.experiment, base.root, base.spec.data, arms, base.repeats, should_stop=should_stop)


def _measure(base: Base, chosen: Chosen, reopen: str | None, progress: Progress) -> None:
    """Everything that is measured once the arms are trained: the winner's reproduction, then the test speakers."""
    from tune_accent.paper.final import test_runs

    origin = next(trial for trial in base.core.trials if trial.number == chosen.winner.trial)
    reproduce(base.experiment, chosen.winner.params, base.root, origin, progress=progress)
    open_test(base.root, opened_for(base, chosen), reopen)
    runs = known_runs(base.experiment, base.root, base.spec.data, chosen.arms, base.repeats)
    test_runs(base.experiment, base.root, runs, chosen.arms, wrong=wrong_arms(base.experiment), progress=progress)
    if base.experiment.paper.control.enabled:
        _control(base, chosen, progress)


def _control(base: Base, chosen: Chosen, progress: Progress) -> None:
    """Does A control the accent? On hidden states first, then on generated speech."""
    from tune_accent.paper.control import measure_control
    from tune_accent.paper.hidden_control import hidden_control
    from tune_accent.training.device import default_device
    from tune_accent.training.preparation import open_inputs

    given, seed = _given_away(base, chosen), derive_seed(base.experiment.seed, "control")
    options = base.experiment.paper.control.model_dump(mode="json")
    identity = sha256_json({"key": given.key, "control": options, "seed": seed})
    if control_identity(base.root / FOLDER) == identity:
        return
    export_adapter(given.checkpoint, given.base, base.root / FOLDER / ADAPTER, "")
    hidden = hidden_control(given.spec, open_inputs(given.spec, default_device()), given.checkpoint, seed=seed, progress=progress)
    found = measure_control(base.experiment, base.root / FOLDER / ADAPTER, base.root, seed=seed, hidden=hidden, progress=progress)
    write_control(base.root / FOLDER, found, identity)


@dataclass(frozen=True)
class GivenAway:
    """The run whose adapter is in `paper/adapter/`: its resolved experiment, key and last checkpoint, and what it was trained on."""

    spec: Experiment
    key: str
    checkpoint: Path
    base: AdapterBase


def _given_away(base: Base, chosen: Chosen) -> GivenAway:
    planned = plan_run(base.experiment, base.spec.data, chosen.winner, ADAPTER_REPEAT)
    spec = resolve(base.experiment, planned.params)
    epochs = len(FolderMemo(base.root).reports(planned.key))
    checkpoint = FolderMemo(base.root).checkpoint(planned.key, epochs)
    return GivenAway(spec, planned.key, checkpoint, adapter_base(spec, base.spec.data["backbone"]))


def _write(base: Base, results: PaperResults) -> None:
    """Tables, figures, report, adapter with its card; sealed, and as one file."""
    folder = base.root / FOLDER
    write_outputs(results, folder)
    given = _given_away(base, Chosen(tuple(results.selection), tuple(results.arms), tuple(results.notes)))
    export_adapter(given.checkpoint, given.base, folder / ADAPTER, model_card(results))
    seal(folder)
    bundle(folder, base.root / BUNDLE)
