"""A quiet Ray for one search: started when needed, one CPU thread per worker, everything it leaves behind removed.

Ray's own messages go to the log, not to the terminal. A first SIGINT or SIGTERM asks for a clean end, a second one ends everything at once.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil
import ray
from ray._private import ray_constants
from ray._private import utils as ray_utils
from ray._private.accelerators import NvidiaGPUAcceleratorManager

from tune_accent.base.entry import INTERRUPTED
from tune_accent.base.errors import StorageError, UserError
from tune_accent.base.files import remove, write_bytes
from tune_accent.base.storage import AGAIN, explained

logger = logging.getLogger(__name__)

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in workers
    "RAY_memory_monitor_refresh_ms": "0",  # Tune cannot tell its kill from a bug; the kernel's comes back as a lost worker
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # the memo remembers
    "TUNE_WARN_THRESHOLD_S": "60",
}
SESSIONS = "tune-accent-"
LONGEST_BASE = 12  # characters; Ray's sockets lie below, and their paths may have 107
ROOM_BYTES = 2**20  # Ray starts with 0.2 MB; with less it waits half a minute for its own processes, and then names no reason
OBJECT_STORE_BYTES = 128 * 2**20  # nothing large goes through it


@dataclass(frozen=True)
class Share:
    """What one worker holds: CPU cores (also its threads, at least one) and a fraction of a GPU."""

    cpu: float = 1.0
    gpu: float = 0.0

    @property
    def threads(self) -> int:
        """CPU threads of a worker."""
        return max(1, int(self.cpu))

    def on(self, resources: Mapping[str, float]) -> Share:
        """The same, without a GPU where the cluster has none."""
        return self if resources.get("GPU", 0) > 0 else Share(self.cpu, 0.0)

    def workers(self, resources: Mapping[str, float]) -> int:
        """How many such workers a node with these `resources` holds; a worker's GPU share lies on one device."""
        by_cpu = math.floor(resources.get("CPU", 0) / self.cpu + 1e-9)
        return by_cpu if self.gpu == 0 else min(by_cpu, int(resources.get("GPU", 0)) * math.floor(1 / self.gpu + 1e-9))


def places(share: Share) -> int:
    """How many such workers the nodes hold that are alive now."""
    return sum(share.workers(node["Resources"]) for node in ray.nodes() if node["Alive"])


def gpus_here() -> int:
    """GPUs that Ray would find on this machine."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found: int = NvidiaGPUAcceleratorManager.get_current_node_num_accelerators()
    return found if visible is None else min(found, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))


@contextmanager
def cluster(share: Share, workers: int, address: str | None) -> Iterator[dict[str, float]]:
    """The resources of a cluster to run in: one already joined, the one at `address`, or a fresh local one that ends with the block.

    A fresh one has as many CPUs as `workers` need, even where the machine has fewer.

    Raises:
        StorageError: the disk refuses what a fresh one must write.
    """
    if ray.is_initialized():
        yield ray.cluster_resources()
        return
    threads = dict.fromkeys(THREADS, str(share.threads))
    with ExitStack() as stack:
        stack.enter_context(_environment(threads))
        options: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            folder = stack.enter_context(scratch_folder())
            cores = max(os.cpu_count() or 1, math.ceil(share.cpu * workers))
            options |= {
                "include_dashboard": False,
                "num_cpus": cores,
                "_temp_dir": folder,
                "object_store_memory": OBJECT_STORE_BYTES,
            }
        else:
            _reach(address)
            options["runtime_env"] = {"env_vars": {**QUIET, **threads}}
        stack.callback(ray.shutdown)
        if address is None:
            _start(options, Path(folder))
        else:
            ray.init(**options)
        yield ray.cluster_resources()


def _start(options: Mapping[str, Any], folder: Path) -> None:
    """Start Ray in `folder`. On a full disk it mostly waits for its own processes and names no reason; so the disk is asked again."""
    try:
        with _scratch_trouble(folder.parent):
            ray.init(**options)
    except StorageError:
        raise
    except Exception:
        _check_room(folder)
        raise


def _reach(address: str) -> None:
    """Make sure that something listens at `address`; Ray itself would wait for minutes.

    Raises:
        UserError: nothing does.
    """
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        fix = "start the cluster (`ray start --head` prints its address), or leave the key out to search on this machine"
        raise UserError(f"no Ray cluster answers at {address} ({error})", "tuning.address", fix) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Ray's settings in the environment, its messages in our log."""
    with ExitStack() as stack:
        stack.enter_context(_environment(QUIET))
        for name in ("ray", "ray.tune"):
            stack.enter_context(_forwarded(logging.getLogger(name)))
        yield


class StopSignals:
    """Set by the first SIGINT or SIGTERM; the second ends this process and all that it started at once, as a kill does, which the memo survives.

    (Raising in the middle of Ray's start or end gave exit code 1 or a segmentation fault in one case out of ten.)
    A context manager, in which Ray gets no hold of SIGTERM (its Python handler exits with 1, its native one aborts three seconds after the
    signal). Outside the main thread signals stay as they are.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}
        self._rays = ExitStack()

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
        if threading.current_thread() is threading.main_thread():
            self._rays.enter_context(_replaced(ray_utils, "set_sigterm_handler", lambda handler: None))
            self._rays.enter_context(_replaced(ray_constants, "RAY_DISABLE_FAILURE_SIGNAL_HANDLER", True))
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._rays.close()
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():  # SIGUSR1, because Tune takes it and keeps it
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            _end_at_once()
        self.asked = True


def _end_at_once() -> NoReturn:
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a live table hides it
    os.write(2, f"{show_cursor}\nended at once; nothing finished is lost, and the same command continues\n".encode())
    os._exit(INTERRUPTED)


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A temporary folder for Ray, removed afterwards; those that killed searches left behind are removed too.

    Its path is short, because Ray's sockets are in it.

    Raises:
        StorageError: it cannot be made, or not be written to; the message names TMPDIR as the way out.
    """
    base = _base()
    for old in base.glob(f"{SESSIONS}*-*"):
        owner = old.name.removeprefix(SESSIONS).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    with _scratch_trouble(base):
        folder = tempfile.mkdtemp(prefix=f"{SESSIONS}{os.getpid()}-", dir=base)
    try:
        _check_room(Path(folder))
        yield folder
    finally:
        for _ in range(20):  # Ray's last processes may still be writing
            shutil.rmtree(folder, ignore_errors=True)
            if not Path(folder).exists():
                break
            time.sleep(0.1)


def _base() -> Path:
    """The system's temporary folder (TMPDIR, or what `tempfile` takes instead), or /tmp where its path is too long."""
    try:
        base = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise _unusable(Path("/tmp"), str(error.strerror)) from error
    base = base if len(str(base)) <= LONGEST_BASE else Path("/tmp")
    if not base.is_dir():
        raise _unusable(base, "there is no such folder")
    return base


def _check_room(folder: Path) -> None:
    """Write what Ray needs to start, and remove it."""
    with _scratch_trouble(folder.parent):
        write_bytes(folder / "room", bytes(ROOM_BYTES))
        remove(folder / "room")


@contextmanager
def _scratch_trouble(base: Path) -> Iterator[None]:
    """What the disk refuses inside the block is a `StorageError` that names `base`, and TMPDIR as the way out."""
    try:
        with explained(base):
            yield
    except StorageError as error:
        raise _unusable(base, error.what) from error


def _unusable(base: Path, why: str) -> StorageError:
    asked = os.environ.get("TMPDIR", "")
    long = f" (TMPDIR={asked} is longer, and left out)" if len(asked) > LONGEST_BASE else ""
    return StorageError(
        f"Ray cannot keep its temporary files here: {why}",
        str(base),
        f"make room or give access there, or set TMPDIR to another folder, of at most {LONGEST_BASE} characters{long}; {AGAIN}",
    )


class _Forward(logging.Handler):
    """Ray's messages as ours, one level below what reaches the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.info("%s: %s", record.name, record.getMessage(), exc_info=record.exc_info)


@contextmanager
def _forwarded(source: logging.Logger) -> Iterator[None]:
    handlers, propagate = list(source.handlers), source.propagate
    source.handlers, source.propagate = [_Forward()], False
    try:
        yield
    finally:
        source.handlers, source.propagate = handlers, propagate
