"""One run of the reproduction: a spec trained from its seed in a process of its own, with a record after every epoch.

    <folder>/NNNN/         the full state after epoch N; the newest two are kept
    <folder>/NNNN.json     {"key", "epoch", "metrics", "tensors", "facts", "device", "sha256"}: this file makes the epoch count
    <folder>/failure.json  {"key", "epoch", "message", "sha256"}: it diverged, for good

A killed run continues from its newest whole state, with the same result. Importing this brings no torch.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_accent.base.checksums import check_folder
from tune_accent.base.errors import DataError, Diverged, TrialFailure, UserError
from tune_accent.base.files import folder_lock, read_json, remove, remove_torn, sha256_bytes, sha256_json, write_json
from tune_accent.config.schema import Experiment
from tune_accent.paper.environment import facts, torch_state
from tune_accent.tracking.provenance import environment

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData
    from tune_accent.training.trainer import EpochReport, TrialRun

KEPT_STATES = 2  # the newest, and the one before it in case the newest is damaged
WEIGHTS = {"adapter": "adapter/adapter_model.safetensors", "heads": "heads.safetensors"}


@dataclass(frozen=True)
class Job:
    """What one process trains.

    Attributes:
        spec: JSON of the resolved experiment.
        key: of the memo: what is trained.
        data: hashes of the data and the backbone that it must be trained on.
        folder: for records and states.
        device: of torch; None: the first GPU where there is one.
    """

    spec: str
    key: str
    data: Mapping[str, str]
    folder: str
    device: str | None


def records(folder: Path, key: str) -> list[dict[str, Any]]:
    """Records of the finished epochs 1…n of `key`, without a gap; n ends before the first that is damaged or another's."""
    found: list[dict[str, Any]] = []
    while (content := _record(folder / f"{len(found) + 1:04d}.json", key)) is not None and content["epoch"] == len(found) + 1:
        found.append(content)
    return found


def failure(folder: Path, key: str) -> str | None:
    """Why the run ended early, if it did."""
    content = _record(folder / "failure.json", key)
    return None if content is None else f"epoch {content['epoch']}: {content['message']}"


def tensor_hashes(checkpoint: Path) -> dict[str, dict[str, str]]:
    """SHA-256 of every tensor (type, shape, bytes) of a checkpoint: {"adapter" | "heads": {name: digest}}; no adapter: the part is empty.

    Raises:
        DataError: a file is missing or is no safetensors file. Does not look at checksums.
    """
    import safetensors

    deserialize: Any = safetensors.deserialize
    found: dict[str, dict[str, str]] = {}
    for part, name in WEIGHTS.items():
        file = checkpoint / name
        try:
            tensors = deserialize(file.read_bytes()) if file.is_file() or part == "heads" else []
        except (OSError, safetensors.SafetensorError) as error:
            raise DataError(f"weights cannot be read: {error}", str(file), "remove the checkpoint") from error
        found[part] = {tensor: _digest(content) for tensor, content in sorted(tensors)}
    return found


def train_in_process(job: Job, told: Connection) -> None:
    """Train what `job` misses; tells `("epoch", n)` after each epoch, and `("error", exception)` or `("bug", traceback)` at an early end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        with folder_lock(Path(job.folder)):
            _train(job, told)
    except (UserError, TrialFailure) as error:
        told.send(("error", error))
    except Exception:
        told.send(("bug", traceback.format_exc()))


def _train(job: Job, told: Connection) -> None:
    spec, folder = Experiment.model_validate_json(job.spec), Path(job.folder)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(spec.training.threads)
    from tune_accent.training.checkpoint import save_checkpoint

    remove_torn(folder)
    data = _inputs(job, spec)
    place = {"facts": facts({**environment(), "torch": torch_state()}), "device": _device_words(data, spec)}
    run = _continued(spec, data, folder, len(records(folder, job.key)))
    try:
        for report in run:
            state = folder / f"{report.epoch:04d}"
            save_checkpoint(state, report.trial)
            _write_record(job, report, tensor_hashes(state), place)
            remove(folder / f"{report.epoch - KEPT_STATES:04d}")
            told.send(("epoch", report.epoch))
    except Diverged as error:
        _sign(folder / "failure.json", {"key": job.key, "epoch": run.trial.epoch + 1, "message": str(error)})
    finally:
        run.close()


def _inputs(job: Job, spec: Experiment) -> TrialData:
    """Backbone and data, where they are those of the search."""
    import torch

    from tune_accent.training.device import default_device
    from tune_accent.training.preparation import open_inputs
    from tune_accent.training.seeding import configure_torch

    configure_torch(spec.training)
    data = open_inputs(spec, default_device() if job.device is None else torch.device(job.device))
    found = {"cache": data.speech.key, "backbone": data.backbone.fingerprint}
    changed = [name for name, value in found.items() if job.data[name] != value]
    if changed:
        where = f"{spec.data.root}, {spec.model.backbone}"
        raise DataError(f"{' and '.join(changed)} changed since the search", where, "bring back what the search was made from")
    return data


def _continued(spec: Experiment, data: TrialData, folder: Path, finished: int) -> TrialRun:
    """From the newest whole state at or before epoch `finished`, or from the start."""
    from tune_accent.training.trainer import train

    for epoch in range(finished, 0, -1):
        state = folder / f"{epoch:04d}"
        try:
            check_folder(state)
            run = train(spec, data, state)
        except DataError:
            continue  # the epochs since the one before give the same bits again
        if run.trial.epoch == epoch:
            return run
        run.close()
    return train(spec, data)


def _write_record(job: Job, report: EpochReport, tensors: Mapping[str, Any], place: Mapping[str, Any]) -> None:
    content = {"key": job.key, "epoch": report.epoch, "metrics": dict(report.metrics), "tensors": tensors, **place}
    _sign(Path(job.folder) / f"{report.epoch:04d}.json", content)


def _sign(path: Path, content: Mapping[str, Any]) -> None:
    write_json(path, {**content, "sha256": sha256_json(content)})


def _record(path: Path, key: str) -> dict[str, Any] | None:
    """A record of `key`; None where it is absent, damaged or another's."""
    try:
        content: dict[str, Any] = read_json(path)
        whole = content.pop("sha256") == sha256_json(content)
        return content if whole and content["key"] == key else None
    except (FileNotFoundError, DataError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _digest(tensor: Mapping[str, Any]) -> str:
    return sha256_bytes(f"{tensor['dtype']} {tensor['shape']} ".encode() + bytes(tensor["data"]))


def _device_words(data: TrialData, spec: Experiment) -> str:
    import torch

    from tune_accent.tracking.provenance import processor

    if data.device.type == "cuda":
        return f"{data.device} ({torch.cuda.get_device_name(data.device)})"
    return f"{data.device} ({processor()}, {spec.training.threads} thread{'s' if spec.training.threads > 1 else ''})"


def _die_with_parent() -> None:
    """A killed parent leaves nobody who waits for this process."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
