"""W&B's runs as campaigns: a folder of offline runs, or a sweep on a server, whose snapshot is written with its hash before anything is computed.

Runs of our trial program name space, data, environment and experiment in their configuration; of others that is not known, and comparing them
has to be asked for. A run's score is that of its last epoch, not the best one that W&B's own tables show.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tune_accent.base.errors import DataError, UserError, visible
from tune_accent.base.files import read_json, sha256_json, write_json
from tune_accent.comparing.folder import seed_of
from tune_accent.comparing.identity import identity_of
from tune_accent.comparing.record import FAILED, Campaign, Execution, TrialRecord
from tune_accent.config.space import space_from_dict
from tune_accent.tracking.wandb_files import OfflineRun, read_runs

Run = Mapping[str, Any]  # id, name, state, group, config, summary, history
KNOWN = ("COMPLETE", "STOPPED", "RUNNING", "DUPLICATE", *FAILED)
ENDED = {
    "finished": "COMPLETE",
    "killed": "STOPPED",
    "running": "RUNNING",
    "pending": "RUNNING",
    "crashed": "CRASHED",
    "failed": "CRASHED",
}
FORMAT = 1
# Of a request, before a server is given up: whole seconds, and 2 attempts at least, since the client takes less for its own default.
TIMEOUT_S, ATTEMPTS = 20.0, 3
PAUSE_S, SERVICE_S = 2.0, 10.0  # between two attempts at most; for the client's service to start and to answer


def read_offline(folder: Path, like: Campaign) -> tuple[list[Campaign], list[DataError]]:
    """The searches among the offline runs below `folder`, by sweep or group, and what could not be read.

    Raises:
        DataError: there is no whole run.
    """
    runs, faults = read_runs(folder)
    if not runs:
        raise DataError("no run of W&B that can be read", str(folder), "give a folder with run-*.wandb files below it") from (
            faults[0] if faults else None
        )
    longest: dict[str, OfflineRun] = {}
    for run in runs:
        if run.id not in longest or len(run.history) >= len(longest[run.id].history):
            longest[run.id] = run
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in longest.values():
        groups[run.sweep or run.group or folder.name].append(_offline(run))
    lost = (f"{len(faults)} of its files could not be read, and their runs are missing here.",) if faults else ()
    return [campaign(f"{folder.name}/{name}", own, like, None, lost) for name, own in sorted(groups.items())], faults


def read_sweep(path: str, like: Campaign, snapshots: Path) -> Campaign:
    """The sweep `entity/project/id`, from its snapshot below `snapshots`, or fetched into one.

    Raises:
        UserError: W&B cannot be reached, or knows no such sweep. DataError: the snapshot was edited.
    """
    file = snapshots / f"{path.replace('/', '-')}.json"
    if not file.is_file():
        content = {"format": FORMAT, "sweep": path, **_finite(fetch(path))}
        write_json(file, {**content, "sha256": sha256_json(content)})
    found = read_json(file)
    try:
        sha256 = found.pop("sha256")
        if sha256 != sha256_json(found) or found["format"] != FORMAT:
            raise ValueError("its checksum does not match")
        note = (f"was read from the snapshot {file.name} (SHA-256 {sha256[:16]}); remove that file to fetch the sweep again.",)
        return campaign(path, found["runs"], like, found["config"], note)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"the snapshot was edited: {error}", str(file), "remove it, to fetch the sweep again") from error


def fetch(path: str) -> dict[str, Any]:
    """`config` and `runs` of a sweep, with their whole history (`scan_history`; `history` would sample).

    Raises:
        UserError: no network, no key, no such sweep, or a server that fails, hangs or goes away meanwhile.
    """
    try:
        sweep = public_api().sweep(path)
        runs = [
            {
                "id": run.id,
                "name": run.name,
                "state": run.state,
                "config": dict(run.config),
                "summary": dict(run.summary_metrics),
                "history": [dict(row) for row in run.scan_history(use_cache=False)],
            }
            for run in sweep.runs
        ]
        return {"config": dict(sweep.config), "runs": runs}
    except _client_errors() as error:
        reason = visible(" ".join(str(error).split()))[:200]
        fix = "check the network and `wandb login`; offline runs can be compared from their folder"
        raise UserError(f"W&B does not give this sweep: {reason}", path, fix) from error


def public_api() -> Any:
    """W&B's public API; its key is read by the library itself.

    While it scans a history it would wait for a server that fails or hangs without end, and elsewhere it would give up before its service can say
    why; so the service is told when to give up, and is waited for longer than that takes.
    """
    import wandb

    limits: dict[str, Any] = {}
    for kind in ("graphql", "file_transfer"):
        limits |= {f"x_{kind}_timeout_seconds": TIMEOUT_S, f"x_{kind}_retry_max": ATTEMPTS - 1}
        limits |= {f"x_{kind}_retry_wait_min_seconds": PAUSE_S / 2, f"x_{kind}_retry_wait_max_seconds": PAUSE_S}
    wandb.setup(wandb.Settings(silent=True, **limits))
    return wandb.Api(timeout=math.ceil(ATTEMPTS * (TIMEOUT_S + PAUSE_S) + SERVICE_S))


def campaign(
    name: str, runs: Sequence[Run], like: Campaign, sweep: Mapping[str, Any] | None, notes: tuple[str, ...] = ()
) -> Campaign:
    """The campaign of some runs.

    Args:
        name: where they are from.
        runs: in any order.
        like: what they are set beside; its metric is read.
        sweep: the sweep's file, where there is one.
    """
    ordered = sorted(runs, key=_begun)
    first = ordered[0]["config"] if ordered else {}
    parameters, metric, grace = _asked(first, sweep)
    experiment = first.get("experiment") if isinstance(first.get("experiment"), Mapping) else None
    length = int(experiment["training"]["epochs"]) if experiment is not None else like.length
    names = [] if parameters is None else [key for key, entry in parameters.items() if entry["kind"] != "constant"]
    identity = identity_of(experiment, parameters, metric, first.get("data"), first.get("environment"))
    trials = tuple(_trial(number, run, names or _names(like), like.metric, length) for number, run in enumerate(ordered))
    executed = tuple(one for number, run in enumerate(ordered) for one in _executions(number, run, like.metric))
    seed = None if experiment is None or sweep is not None else seed_of(experiment)
    return Campaign(
        name, _engine(first, sweep), seed, identity, like.metric, like.goal, length, grace, trials, executed, (), notes
    )


def _asked(
    config: Mapping[str, Any], sweep: Mapping[str, Any] | None
) -> tuple[dict[str, Any] | None, tuple[str, str] | None, int | None]:
    """Parameters as `Space.to_dict` has them, (metric, goal) and grace period."""
    if sweep is not None:
        return _read_sweep_file(sweep)
    space = config.get("space")
    if not isinstance(space, Mapping):
        return None, None, None
    try:
        read = space_from_dict({"run_cap": None, **space}, "space")
    except (KeyError, TypeError, ValueError):
        return None, None, None
    return read.space.to_dict(), (read.metric, read.goal), read.min_iter


def _read_sweep_file(sweep: Mapping[str, Any]) -> tuple[dict[str, Any] | None, tuple[str, str] | None, int | None]:
    import yaml

    from tune_accent.config.document import parse_document
    from tune_accent.config.space import read_space

    space, _ = read_space(parse_document(yaml.safe_dump(dict(sweep), sort_keys=False), "sweep"))
    return (None, None, None) if space is None else (space.space.to_dict(), (space.metric, space.goal), space.min_iter)


def _engine(config: Mapping[str, Any], sweep: Mapping[str, Any] | None) -> str:
    if sweep is not None:
        return f"W&B server, {sweep.get('method')}{' + hyperband' if sweep.get('early_terminate') else ''}"
    space = config.get("space")
    return "offline runs" if not isinstance(space, Mapping) else f"offline runs, {space.get('engine') or space.get('method')}"


def _offline(run: OfflineRun) -> Run:
    state = "running" if run.exit_code is None else "failed" if run.exit_code else "finished"
    return {
        **{key: value for key, value in asdict(run).items() if key in ("id", "name", "config", "summary", "history")},
        "state": state,
    }


def _trial(number: int, run: Run, names: Iterable[str], metric: str, length: int) -> TrialRecord:
    rows = tuple(_rows(run, metric))
    found = str(run["summary"].get("state", ""))
    state = found if found in KNOWN else ENDED.get(run["state"], "CRASHED")
    if any(not _number(row[metric]) for row in rows):
        rows, state = tuple(row for row in rows if _number(row[metric])), "DIVERGED"
    if found not in KNOWN and state == "COMPLETE" and len(rows) < length and not (rows and rows[-1].get("ended")):
        state = "STOPPED"
    config = run["config"]
    return TrialRecord(number, {name: config.get(name) for name in names}, state, rows)


def _executions(number: int, run: Run, metric: str) -> Iterator[Execution]:
    for epoch, row in enumerate((row for row in _rows(run, metric) if _number(row[metric])), 1):
        seconds, ended = row.get("seconds"), row.get("_timestamp")
        yield Execution(number, epoch, seconds if _number(seconds) else None, ended if _number(ended) else None)


def _rows(run: Run, metric: str) -> Iterator[Mapping[str, Any]]:
    """The rows of finished epochs, by step. A server gives rows without the metric, from its exported files, with None for it."""
    yield from sorted((row for row in run["history"] if row.get(metric) is not None), key=lambda row: row.get("_step", 0))


def _begun(run: Run) -> tuple[float, float, str]:
    number = run["config"].get("trial")
    times = [row["_timestamp"] for row in run["history"] if _number(row.get("_timestamp"))]
    return (float(number) if _number(number) else math.inf, min(times, default=math.inf), str(run["id"]))


def _names(like: Campaign) -> list[str]:
    return list(like.trials[0].params) if like.trials else []


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _finite(value: Any) -> Any:
    """JSON values: numbers that are not finite, and what is no JSON, as text."""
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _client_errors() -> tuple[type[Exception], ...]:
    import requests
    from wandb import errors
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    # the last is what a scan of a history raises, and no wandb.errors.Error
    return OSError, ValueError, errors.Error, requests.RequestException, WandbApiFailedError
