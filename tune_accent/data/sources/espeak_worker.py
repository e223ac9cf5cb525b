"""The process that speaks: JSON lines in, JSON lines out, a fresh fork for every utterance.

    python -m tune_accent.data.sources.espeak_worker LIBRARY DATA

espeak-ng keeps state from one utterance to the next, so the same request gives the same bytes only in a fresh process; forking from this
slim parent (no numpy, no torch) costs a few milliseconds. espeak-ng is GPL-3: it is loaded here and nowhere else.

The first line out is {"engine": version}. A request is {"path", "voice", "text", "rate", "pitch", "range"}; its answer is
{"path", "samples", "sampling_rate", "sha256"} once the WAV file is written, or {"path", "error"}.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import sys
import wave
from pathlib import Path
from typing import Any

from tune_accent.base.errors import StorageError
from tune_accent.base.files import sha256_bytes, write_bytes

SYNCHRONOUS, DONT_EXIT, UTF8, BY_CHARACTER = 2, 0x8000, 1, 1
RATE, PITCH, RANGE = 1, 3, 4
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class EngineError(Exception):
    """espeak-ng refused a request."""


def speak(library: str, data: str, request: dict[str, Any]) -> tuple[bytes, int]:
    """Synthesise one request in this process, which must be fresh.

    Returns:
        16-bit mono samples in native byte order, and the sampling rate in Hz.

    Raises:
        EngineError: the engine refuses the voice, a parameter or the text, or says nothing.
    """
    engine = ctypes.CDLL(library)
    rate = engine.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), DONT_EXIT)
    if rate <= 0:
        raise EngineError("espeak-ng does not start")
    samples = bytearray()

    def collect(chunk: Any, count: int, _events: Any) -> int:
        if count:
            samples.extend(ctypes.string_at(chunk, 2 * count))
        return 0

    callback = CALLBACK(collect)
    engine.espeak_SetSynthCallback(callback)
    _check(engine.espeak_SetVoiceByName(request["voice"].encode()), f"voice {request['voice']!r} is refused")
    engine.espeak_ng_SetRandSeed(ctypes.c_long(1))
    for parameter, key in ((RATE, "rate"), (PITCH, "pitch"), (RANGE, "range")):
        _check(engine.espeak_SetParameter(parameter, int(request[key]), 0), f"{key} {request[key]} is refused")
    text = request["text"].encode() + b"\0"
    _check(engine.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, BY_CHARACTER, 0, UTF8, None, None), "the text is refused")
    _check(engine.espeak_Synchronize(), "the synthesis fails")
    if not samples:
        raise EngineError("the synthesis is empty")
    return bytes(samples), rate


def version(library: str) -> str:
    """The version of the engine, e.g. "1.52.0"."""
    info = ctypes.CDLL(library).espeak_Info
    info.restype = ctypes.c_char_p
    return str((info(None) or b"unknown").decode())


def serve(library: str, data: str) -> None:
    """Answer requests of stdin until it ends; no child outlives its request."""
    _answer({"engine": version(library)})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_child(library, data, request))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            _answer({"path": request["path"], "error": f"espeak-ng ended with status {status}"})


def _child(library: str, data: str, request: dict[str, Any]) -> int:
    """One request from start to end; an error is an answer, so that 0 always means that an answer was given."""
    try:
        samples, rate = speak(library, data, request)
        content = _wav(samples, rate)
        write_bytes(Path(request["path"]), content)
        answer = {"samples": len(samples) // 2, "sampling_rate": rate, "sha256": sha256_bytes(content)}
    except StorageError as error:
        answer = {"refused": [error.what, error.where, error.fix]}
    except (EngineError, OSError) as error:
        answer = {"error": str(error)}
    _answer({"path": request["path"], **answer})
    return 0


def _wav(samples: bytes, rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(samples)
    return buffer.getvalue()


def _check(code: int, message: str) -> None:
    if code != 0:
        raise EngineError(f"{message} (code {code})")


def _answer(value: dict[str, Any]) -> None:
    os.write(1, (json.dumps(value) + "\n").encode())


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
