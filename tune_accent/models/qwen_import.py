"""Import `qwen_tts` beside any torch.

It needs torchaudio, whose wheels are linked to CUDA torch and fail to load beside a CPU torch. Only the compiled extension fails, and qwen_tts uses
pure-Python parts (Kaldi features of its 25 Hz tokenizer), so we load torchaudio without its extension. Where torchaudio loads, nothing is changed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType
from typing import Any

from tune_accent.base.errors import ModelError

log = logging.getLogger(__name__)


def _no_op(*_: Any, **__: Any) -> None:
    return None


def _identity(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _extension_stub() -> ModuleType:
    """What torchaudio asks of `torchaudio._extension` when the compiled part is absent."""
    stub = ModuleType("torchaudio._extension")
    stub.__spec__ = importlib.machinery.ModuleSpec(stub.__name__, loader=None)
    vars(stub).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, _check_cuda_version=_no_op, fail_if_no_align=_identity
    )
    return stub


def _import_torchaudio() -> None:
    """Import torchaudio, without its compiled extension where that cannot be loaded."""
    try:
        importlib.import_module("torchaudio")
        return
    except (ImportError, OSError) as error:
        log.info("torchaudio's extension does not load here (%s); using its pure-Python parts", error)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]
    stub = _extension_stub()
    sys.modules[stub.__name__] = stub
    importlib.import_module("torchaudio")


@contextmanager
def _hushed() -> Iterator[None]:
    """Silence what qwen_tts prints while it is imported: that flash-attn and the `sox` program are absent (neither is used here).

    The shell that looks for `sox` writes to the process's standard error itself, hence the file descriptor.
    """
    sox = logging.getLogger("sox")
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    sox.addFilter(_drop)
    os.dup2(nowhere, 2)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
        sox.removeFilter(_drop)


def _drop(_: logging.LogRecord) -> bool:
    return False


@functools.cache
def import_qwen_tts() -> ModuleType:
    """The `qwen_tts` module.

    Raises:
        ModelError: qwen_tts is not installed, or something other than torchaudio's extension keeps it from loading.
    """
    try:
        with _hushed():
            _import_torchaudio()
            return importlib.import_module("qwen_tts")
    except (ImportError, OSError) as error:
        raise ModelError(f"qwen_tts cannot be imported: {error}", fix="install it: pip install qwen-tts==0.1.1") from error
