"""One launch of a search: prepare the data, claim the folder, replay the memo, let Ray train what is left, write the results.

Whatever ends the launch (last trial, Ctrl-C, time limit, kill), the same command continues it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tune_accent.base.checksums import check_folder
from tune_accent.base.errors import DataError, UserError
from tune_accent.base.files import folder_lock, remove, remove_torn, set_aside, write_text
from tune_accent.base.log import log_to
from tune_accent.base.seeds import derive_seed
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.config.space import LoadedSpace
from tune_accent.evaluation import Evaluation, ExpectedMaximum, Verdict, null_of_best
from tune_accent.models.adapter_base import adapter_base
from tune_accent.tracking.tracker import Tracker
from tune_accent.training.preparation import PreparedRecord, ensure_prepared
from tune_accent.tuning.core import Core, Trial
from tune_accent.tuning.factory import make_speech_program
from tune_accent.tuning.folder import Spec, open_folder, trial_key
from tune_accent.tuning.growth import Earlier, note_change, read_earlier
from tune_accent.tuning.memo import FolderMemo, ReadOnlyMemo
from tune_accent.tuning.progress import view
from tune_accent.tuning.ray_adapter import run_with_ray, usable_workers
from tune_accent.tuning.ray_session import scratch_folder
from tune_accent.tuning.relay import EpochDone
from tune_accent.tuning.results import append_timing, holds_best, next_launch, trials_csv, write_best, write_tables
from tune_accent.tuning.search_report import write_search_report
from tune_accent.tuning.settings import search_settings, search_suggester
from tune_accent.tuning.shapes import draw_fault, report_fault
from tune_accent.tuning.study import export_study
from tune_accent.tuning.tracked import search_tracker
from tune_accent.tuning.watch import Watch

logger = logging.getLogger(__name__)

IN_USE = "wait for it, stop it, or use another --name"


@dataclass(frozen=True)
class Request:
    """What a person asked for.

    Attributes:
        experiment: the resolved experiment.
        space: the space file.
        run_cap: total number of trials.
        root: the results folder.
        fresh: move an existing folder aside.
        accept_environment: continue with other versions of libraries or of tune_accent; recorded.
        max_hours: stop after this many hours; None: no limit.
    """

    experiment: Experiment
    space: LoadedSpace
    run_cap: int
    root: Path
    fresh: bool = False
    accept_environment: bool = False
    max_hours: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How a launch ended.

    Attributes:
        core: the search as it stands.
        best: the best trial and its verdict, or None while no trial has run its full length.
        verdict: of the best trial.
        stopped: None, or why the search is not finished ("Ctrl-C", "--max-hours").
        earlier: the search before its number of trials was changed, if it was.
    """

    core: Core
    best: Trial | None
    verdict: Verdict | None
    stopped: str | None
    earlier: Earlier | None = None


def run_search(request: Request) -> Outcome:
    """Run or continue a search.

    Raises:
        UserError: data, config or folder do not allow it; nothing is lost.
    """
    data = ensure_prepared(request.experiment, show=True)
    if request.fresh and request.root.exists():
        with folder_lock(request.root, IN_USE):
            sys.stderr.write(f"{request.root} is now {set_aside(request.root)}\n")
    spec = make_spec(request, data)
    with folder_lock(request.root, IN_USE):
        _note_change(request, spec)
        open_folder(request.root, spec, accept_environment=request.accept_environment)
        remove_torn(request.root)
        with logged(request.root / "logs" / "search.log"):
            core = make_core(request, spec)
            if _best_is_lost(request, core):
                core = make_core(request, spec)
            with closing(_tracker(request, core)) as tracker:  # closed last: it sends `best/` as well
                stopped = _train(request, core, spec.data, tracker)
                outcome = _conclude(request, core, stopped, data)
            write_search_report(request.root)
            return replace(outcome, earlier=read_earlier(request.root, request.run_cap))


def _note_change(request: Request, spec: Spec) -> None:
    """Keep how far the trials have come, and say so, where the folder held another number of them."""

    def replay(run_cap: int) -> Sequence[Trial]:
        return make_core(replace(request, run_cap=run_cap), spec, search_memo(request, ReadOnlyMemo)).trials

    before = note_change(request.root, spec, replay)
    if before is not None:
        sys.stderr.write(f"{request.root} has held a search of {before} trials; it is now one of {request.run_cap}\n")


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Messages go to `file`; a bug leaves its traceback there as well, and says where."""
    log_to(file)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        logger.info("this ends with a bug", exc_info=True)
        error.add_note(f"What led to this is in {file}; the same command continues.")
        raise


def make_spec(request: Request, data: PreparedRecord) -> Spec:
    """The identity of this search."""
    experiment = request.experiment.model_dump(mode="json")
    return Spec(experiment, {"run_cap": request.run_cap, **request.space.to_dict()}, vars(data))


def make_core(request: Request, spec: Spec, memo: FolderMemo | None = None) -> Core:
    """A fresh core that has replayed everything the results folder knows.

    Raises:
        DataError: a file of the memo has the right checksum and the wrong shape.
    """
    settings = search_settings(request.experiment, request.space, request.run_cap)

    def key_of(params: Mapping[str, Any]) -> str:
        return trial_key(resolve(request.experiment, params).model_dump(mode="json"), spec.data)

    suggester = search_suggester(request.experiment, request.space, settings)
    core = Core(settings, suggester, key_of, memo or search_memo(request))
    core.advance()
    return core


def search_memo(request: Request, kind: type[FolderMemo] = FolderMemo) -> FolderMemo:
    """The memo in the results folder, which refuses what is no report or draw of this search."""
    return kind(request.root, report_fault, draw_fault(request.space))


def _best_is_lost(request: Request, core: Core) -> bool:
    """Whether the best trial's checkpoint is damaged, and `best/` does not hold it: then its last epoch is forgotten, to be trained again."""
    best = core.best()
    if best is None or holds_best(request.root, summary(request, core, best, judge(request.experiment, best))):
        return False
    return forget_if_damaged(FolderMemo(request.root), best)


def forget_if_damaged(memo: FolderMemo, trial: Trial) -> bool:
    """Whether the checkpoint of a trial's last epoch is lost or damaged: then that epoch is forgotten, to be trained again."""
    epoch = len(trial.reports)
    try:
        check_folder(memo.checkpoint(trial.key, epoch))
    except DataError as error:
        logger.warning("%s: %s; trial %d goes back to the epoch before", error.where, error.what, trial.number)
        memo.forget(trial.key, epoch)
        return True
    return False


def _train(request: Request, core: Core, data: Mapping[str, str], tracker: Tracker) -> str | None:
    """Let Ray train what the memo does not know; why it stopped early, if it did."""
    if core.done:
        return None
    remove(request.root / "optuna.db")  # a kill must not leave a study that is behind the records
    launch, shown = next_launch(request.root), view(core, request.root.name, rule(request))

    def on_epoch(event: EpochDone) -> None:
        append_timing(request.root, {"launch": launch, **event.timing_row()})
        tracker.epoch(event.trial, event.epoch, event.tracked())

    def on_decision() -> None:
        write_text(request.root / "trials.csv", trials_csv(request.experiment, request.space.space, core.trials))

    watch = Watch(shown, on_epoch, on_decision)
    try:
        execute(core, request.experiment, request.root, data, watch, deadline(request.max_hours))
    except KeyboardInterrupt:
        return "Ctrl-C"
    finally:
        write_tables(request.root, request.experiment, request.space.space, core.trials)
    return None if core.done else "--max-hours"


def execute(
    core: Core, experiment: Experiment, root: Path, data: Mapping[str, str], watch: Watch, should_stop: Callable[[], bool]
) -> None:
    """Let Ray train what `core` grants, with the program and the workers of a search, until it is done or `should_stop` says so.

    Args:
        core: its slots are the most workers there will be.
        experiment: that the trials' parameters are put into.
        root: the results folder, whose memo it is.
        data: hashes of the data.

    Raises:
        KeyboardInterrupt: at SIGINT or SIGTERM, after a clean end.
    """
    tuning = experiment.tuning.model_copy(update={"slots": core.settings.slots})
    workers, share = usable_workers(tuning)
    spec = {
        "experiment": experiment.model_dump_json(),
        "root": str(root.resolve()),
        "gpu": share["gpu"],
        "data": dict(data),
    }
    with scratch_folder() as scratch, watch.shown:
        run_with_ray(
            core,
            make_speech_program,
            spec,
            workers=workers,
            resources=share,
            scratch=Path(scratch) / "ray",
            on_event=watch.hear,
            max_failures=tuning.max_failures,
            epoch_timeout_s=tuning.epoch_timeout_s,
            should_stop=should_stop,
            address=tuning.address,
        )


def deadline(hours: float | None) -> Callable[[], bool]:
    """A question whose answer becomes yes after so many hours; None: never."""
    end = None if hours is None else time.monotonic() + 3600 * hours
    return lambda: end is not None and time.monotonic() > end


def _tracker(request: Request, core: Core) -> Tracker:
    return search_tracker(request.experiment, request.root, core)


def _conclude(request: Request, core: Core, stopped: str | None, data: PreparedRecord) -> Outcome:
    """Write everything that is derived from the records."""
    write_tables(request.root, request.experiment, request.space.space, core.trials)
    export_study(core, request.space.space, request.root / "optuna.db")
    best = core.best()
    if best is None:
        return Outcome(core, None, None, stopped)
    judged = judge(request.experiment, best)
    base = adapter_base(request.experiment, data.backbone)
    write_best(request.root, best, summary(request, core, best, judged), card(request, best, judged), base)
    return Outcome(core, best, judged, stopped)


def judge(experiment: Experiment, best: Trial) -> Verdict:
    """The gate's verdict on a trial's last epoch (validation speakers: it chooses, it is no result)."""
    return Evaluation.from_dict(best.reports[-1]["evaluation"]).gate(experiment.gate)


def chance_of_best(request: Request, core: Core, best: Trial) -> ExpectedMaximum:
    """What the best of as many trials would look like if there were nothing to find, or nothing to choose between."""
    compared = sum(bool(trial.reports) and trial.state != "DUPLICATE" for trial in core.trials)
    found = Evaluation.from_dict(best.reports[-1]["evaluation"])
    return null_of_best(found, compared, derive_seed(request.experiment.seed, "null of the best"))


def rule(request: Request) -> str:
    """How the best trial is chosen, in words."""
    limit, word = request.experiment.score.leakage_limit, "highest" if request.space.goal == "maximize" else "lowest"
    return f"{word} {request.space.metric} after the last epoch, leakage within {limit:g} first"


def summary(request: Request, core: Core, best: Trial, judged: Verdict) -> dict[str, Any]:
    """`best.json`."""
    return {
        "trial": best.number,
        "key": best.key,
        "rule": rule(request),
        "params": dict(best.params),
        "epoch": len(best.reports),
        "metrics": dict(best.reports[-1]),
        "verdict": asdict(judged),
        "multiplicity": asdict(chance_of_best(request, core, best)),
        "split": "val",
        "note": "chosen on validation speakers among all trials: biased upward; the paper run measures it on new seeds and the test split",
    }


def card(request: Request, best: Trial, judged: Verdict) -> str:
    """The adapter's README."""
    spec, last = request.experiment, best.reports[-1]
    params = "\n".join(f"- `{name}`: {value}" for name, value in best.params.items())
    demo = (
        "\nTrained on synthetic (espeak-ng) speech with a random-weight backbone: it speaks no language.\n"
        if spec.model.backbone == "tiny"
        else ""
    )
    return (
        f"# LoRA adapter: trial {best.number} of search {request.root.name}\n{demo}\n"
        f"Backbone `{spec.model.backbone}`, data `{spec.data.root}`, seed {spec.seed}, epoch {len(best.reports)}.\n\n{params}\n\n"
        f"On validation speakers: accent F1 {last['accent_f1']:.3f}, speaker leakage {last['speaker_leakage']:+.3f}; "
        f"verdict {judged.name} ({judged.deciding}).\n\n"
        "`adapter_model.safetensors` loads with `peft.PeftModel.from_pretrained`; `heads.safetensors` holds the accent table (`table.weight`; "
        "its metadata `accents` names the rows), z head, accent classifier and adversary; `base.json` says which backbone it belongs to. "
        "`python -m tune_accent.synthesize --adapter` with this folder speaks with it.\n"
    )
