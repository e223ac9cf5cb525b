"""Ray Tune executes what the core grants; here it is only relayed. The one file that knows Tune's inside (a contract test watches it).

A search's trial is a Tune trial. It keeps its actor from epoch to epoch; where it must wait for its round while another trial waits for an
actor, it gives the actor up (a pause without Tune's checkpoint: the memo has it), and takes any free one later. Nothing is suggested
to Tune before there is an actor for it, so that at most `workers` actors live, and all of them stay for the whole search.

Retries are ours, not Tune's (which forgets a trial whose idle actor died): a lost trial comes back as a new Tune trial.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tune_accent.config.schema import Tuning
from tune_accent.tuning.core import Core, Grant
from tune_accent.tuning.ray_session import Share, StopSignals, cluster, gpus_here, places, quiet
from tune_accent.tuning.relay import OnEvent, Relay, Stops, WorkersCannotStart
from tune_accent.tuning.worker import EpochTrainable, MakeProgram, read_answer

logger = logging.getLogger(__name__)

CREATION_FAILED = "error raised in its creation task"  # Ray's words for an actor whose setup raised: no trial's fault
CLUSTER_LOST = ("its node has died", "is temporarily unavailable")  # Ray's words for an actor that went with its machine
LOOK_S = 1.0  # between looks at the cluster's nodes


def usable_workers(tuning: Tuning) -> tuple[int, dict[str, float]]:
    """How many workers to start, never more than slots, and what each of them gets: {"cpu", "gpu"}; gpu is 0 on a machine without a GPU.

    On another cluster (`tuning.address`) it is known only there what fits: see `run_with_ray`.
    """
    if tuning.address is not None:
        return min(tuning.workers or tuning.slots, tuning.slots), {"cpu": tuning.resources.cpu, "gpu": tuning.resources.gpu}
    resources = {"CPU": float(os.cpu_count() or 1), "GPU": float(gpus_here())}
    share = Share(tuning.resources.cpu, tuning.resources.gpu).on(resources)
    workers = min(tuning.workers or max(1, share.workers(resources)), tuning.slots)
    return workers, {"cpu": share.cpu, "gpu": share.gpu}


def run_with_ray(
    core: Core,
    make_program: MakeProgram,
    spec: Mapping[str, Any],
    *,
    workers: int,
    resources: Mapping[str, float],
    scratch: Path,
    on_event: OnEvent = lambda event: None,
    max_failures: int = 2,
    epoch_timeout_s: float = 3600.0,
    should_stop: Callable[[], bool] = lambda: False,
    address: str | None = None,
    reuse_actors: bool = True,
) -> bool:
    """Train what `core` grants until it is done, or until `should_stop` says so (then the epochs that run are still finished).

    Args:
        core: the search; it is advanced first, and Ray is not started when the memo has everything.
        make_program: called once in every worker with `spec`; a module-level function.
        spec: JSON.
        workers: processes at most; fewer where the cluster does not hold as many, and never more than the slots.
        resources: {"cpu", "gpu"} of a worker; gpu becomes 0 where the cluster has none.
        scratch: folder for Ray's storage; removed at the end.
        max_failures: times that an epoch whose worker crashed is tried again.
        epoch_timeout_s: after this time an epoch ends its trial as TIMEOUT.
        should_stop: asked several times a second.
        address: of a cluster to join; None starts a local one, unless this process has joined one.
        reuse_actors: False starts a process whenever a trial gets a worker; only to measure what that costs.

    Returns:
        Whether the search is done.

    Raises:
        KeyboardInterrupt: after a clean end, at SIGINT or SIGTERM; every finished epoch is in the memo.
        UserError: the program cannot be built in a worker because of a mistake that is the person's to mend; or nothing answers at `address`.
        WorkersCannotStart: it cannot be built because of a bug.
    """
    core.advance()
    if core.done or should_stop():
        return core.done
    share = Share(**resources)
    try:
        with StopSignals() as signals, quiet(), cluster(share, workers, address) as cluster_resources:
            share = share.on(cluster_resources)
            most = min(workers, core.settings.slots)

            def room() -> int:
                return max(1, min(most, places(share)))

            relay = Relay(
                core, room(), max_failures, on_event, Stops(should_stop, lambda: signals.asked), ray.util.get_node_ip_address()
            )
            factory = cloudpickle.dumps(make_program)
            trainable = tune.with_parameters(EpochTrainable, factory=factory, spec=dict(spec), timeout_s=epoch_timeout_s)
            _fit(relay, room, tune.with_resources(trainable, {"cpu": share.cpu, "gpu": share.gpu}), scratch, reuse_actors)
            if signals.asked and not core.done:
                raise KeyboardInterrupt
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return core.done


def _fit(relay: Relay, room: Callable[[], int], trainable: Any, scratch: Path, reuse_actors: bool) -> None:
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=CoreSearcher(relay),
            scheduler=CoreScheduler(relay, room),
            num_samples=-1,
            max_concurrent_trials=relay.core.settings.slots,
            reuse_actors=reuse_actors,
            trial_name_creator=str,
            trial_dirname_creator=lambda trial: f"{trial.config['trial']:05d}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch.resolve()),
            verbose=0,
            stop=CoreStopper(relay),
            callbacks=[ResultFiles()],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    try:
        tuner.fit()
    except Exception as error:
        if relay.error is None:
            raise
        logger.debug("Tune ended with %s", error)
    if relay.error is not None:
        raise relay.error


class CoreSearcher(Searcher):  # type: ignore[misc]  # ray is untyped
    """Names to Tune the granted trials that it does not have yet, when there is a worker for them."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next new trial; None for "later"; never the last word while something runs."""
        relay = self._relay
        if relay.over():
            return str(Searcher.FINISHED)
        if not relay.free():
            return None
        new = [grant for grant in relay.waiting() if grant.trial not in relay.live]
        return relay.hand_out(new[0]) if new else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler has heard it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the memo remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the memo remembers."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the memo remembers."""

    def get_state(self) -> dict[str, Any]:
        """Nothing: the memo remembers."""
        return {}


class CoreScheduler(FIFOScheduler):  # type: ignore[misc]  # ray is untyped
    """Passes answers to the core and moves trials between workers as it then grants.

    Args:
        relay: what is with which worker.
        room: how many workers the cluster holds now; asked now and then, because nodes come and go.
    """

    def __init__(self, relay: Relay, room: Callable[[], int]) -> None:
        super().__init__()
        self._relay, self._room = relay, room
        self._look_at = 0.0
        self._cache_is_set = False

    def on_trial_add(self, tune_controller: Any, trial: TuneTrial) -> None:
        """Note which Tune trial is which of ours; let Tune keep every idle actor."""
        self._relay.live[trial.config["trial"]] = trial
        if not self._cache_is_set:
            _inside(tune_controller)._actor_cache.increase_max(trial.placement_group_factory, self._relay.core.settings.slots)
            self._cache_is_set = True

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Stop, go on at once, wait on the actor, or give it to a trial that waits for one."""
        controller, number = _inside(tune_controller), trial.config["trial"]
        try:
            self._relay.take(read_answer(result))
            self._relay.held.add(number)
            self._move(controller, reporting=number)
            return self._place(controller, number)
        except Exception as error:
            self._relay.error = error
            return str(TrialScheduler.NOOP)

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:
        """A worker crashed; Tune drops the trial after this."""
        number = trial.config["trial"]
        self._relay.live.pop(number, None)
        self._relay.held.discard(number)
        text = _error_text(trial)
        if CREATION_FAILED in text:
            self._relay.error = WorkersCannotStart(text)
            return
        try:
            message = text.splitlines()[-1].strip() if text else "the worker was lost"
            self._relay.lose(number, message, blameless=any(words in text for words in CLUSTER_LOST))
            self._move(_inside(tune_controller), reporting=None)
        except Exception as error:
            self._relay.error = error

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        """Nothing: the core decided it."""

    def on_trial_remove(self, tune_controller: Any, trial: TuneTrial) -> None:
        """Nothing: the core decided it."""

    def choose_trial_to_run(self, tune_controller: Any) -> TuneTrial | None:
        """A paused trial that is granted, when there is a worker for it."""
        relay, controller = self._relay, _inside(tune_controller)
        self._follow_the_cluster(controller)
        waiting = [grant for grant in relay.waiting() if grant.trial in relay.live]
        if not waiting or not self._make_room(controller, waiting):
            return None
        trial = relay.live[waiting[0].trial]
        trial.set_config(relay.hand_out(waiting[0]))
        return trial

    def _follow_the_cluster(self, controller: Any) -> None:
        """Count on as many workers as there is room for. Where a node died, its trials take over the workers of those that only wait."""
        if time.monotonic() >= self._look_at:
            self._relay.workers, self._look_at = self._room(), time.monotonic() + LOOK_S
        for number in self._relay.overbooked():
            self._pause(controller, number)

    def _make_room(self, controller: Any, waiting: Sequence[Grant]) -> bool:
        """Whether the first of `waiting` can have a worker; one that must be alone gets the machine emptied first."""
        relay = self._relay
        if not waiting[0].alone:
            return relay.free()
        for number in sorted(relay.held):
            self._pause(controller, number)
        controller._cleanup_cached_actors(force_all=True)
        return not controller._actor_manager.num_total_actors and relay.gone()

    def _move(self, controller: Any, reporting: int | None) -> None:
        """Carry out what the core has decided about every Tune trial but the one that is reporting."""
        relay = self._relay
        ended = [number for number in relay.live if number != reporting and relay.core.trials[number].state != "RUNNING"]
        for number in ended:
            relay.held.discard(number)
            controller.stop_trial(relay.live.pop(number))
        for grant in relay.waiting():
            if grant.trial not in relay.held or grant.trial == reporting or grant.alone:
                continue
            if relay.gives_way(grant):
                self._pause(controller, grant.trial)
            else:
                relay.hand_out(grant)
                controller._schedule_trial_train(relay.live[grant.trial])

    def _place(self, controller: Any, number: int) -> str:
        """What becomes of the trial that has just reported, and of its actor."""
        relay = self._relay
        if relay.core.trials[number].state != "RUNNING":
            relay.held.discard(number)
            del relay.live[number]
            return str(TrialScheduler.STOP)
        waiting = relay.waiting()
        mine = next((grant for grant in waiting if grant.trial == number and not grant.alone), None)
        if mine is not None and not relay.gives_way(mine):
            relay.hand_out(mine)
            return str(TrialScheduler.CONTINUE)
        if waiting:
            self._pause(controller, number)
        return str(TrialScheduler.NOOP)

    def _pause(self, controller: Any, number: int) -> None:
        self._relay.held.discard(number)
        controller.pause_trial(self._relay.live[number], should_checkpoint=False)


class CoreStopper(tune.Stopper):  # type: ignore[misc]  # ray is untyped
    """Ends Tune's loop."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is over, or was interrupted."""
        return self._relay.over()


class ResultFiles(JsonLoggerCallback):  # type: ignore[misc]  # ray is untyped
    """Tune cannot end without its result files; here those of interrupted trials are closed as well."""

    def on_experiment_end(self, trials: list[TuneTrial], **info: Any) -> None:
        """Close what is still open."""
        for trial in trials:
            self.log_trial_end(trial)


def _inside(controller: Any) -> Any:
    """Tune's controller behind the wrapper that it shows to schedulers."""
    return getattr(controller, "_tune_controller", controller)


def _error_text(trial: TuneTrial) -> str:
    """What Ray says about a failed Tune trial."""
    path = trial.error_file
    text = Path(path).read_text(encoding="utf-8", errors="replace").strip() if path and Path(path).exists() else ""
    logger.info("trial %s failed: %s", trial.config["trial"], text)
    return text
