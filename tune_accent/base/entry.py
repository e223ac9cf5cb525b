"""How every entry ends: a user's mistake is one message and exit code 2, a failed trial 1, Ctrl-C and SIGTERM 130, a bug a traceback."""

from __future__ import annotations

import atexit
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from tune_accent.base.errors import TrialFailure, UserError

FAILED, INTERRUPTED = 1, 130


@contextmanager
def guarded() -> Iterator[None]:
    """Turn `UserError` into its message on stderr and exit code 2, `TrialFailure` 1, Ctrl-C and SIGTERM 130; everything else passes."""
    _take_sigterm()
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
    except TrialFailure as failure:
        sys.stderr.write(f"{failure.state}: {failure}\n")
        raise SystemExit(FAILED) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command starts again where it can\n")
        raise SystemExit(INTERRUPTED) from None
    finally:
        _leave()


def same_command(module: str, arguments: Sequence[str]) -> str:
    """The line that continues what `module` began with `arguments`: the same command, without the `--fresh` that would start it over."""
    kept = [argument for argument in arguments if argument != "--fresh"]
    python = Path(sys.executable)
    known = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else Path("python")
    return shlex.join([str(known), "-m", module, *kept])


def _take_sigterm() -> None:
    """SIGTERM raises `KeyboardInterrupt` from now on, as SIGINT does."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _leave() -> None:
    """Everything is done and said: signals that come while Python cleans up shall not make it look otherwise."""
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    atexit.unregister(_ignore_signals)
    atexit.register(_ignore_signals)  # the last to be registered is the first to be called


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
