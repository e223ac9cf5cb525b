"""The factory that travels to the workers; importing it brings neither torch nor the model into the driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune_accent.tuning.program import SpeechProgram


def make_speech_program(spec: Mapping[str, Any]) -> SpeechProgram:
    """Build the program of a worker; called there, once.

    Args:
        spec: {"experiment": JSON of the experiment, "root": the results folder, "gpu": the worker's share of a GPU,
            "data": hashes of the data that the search was started with}.
    """
    from tune_accent.tuning.program import build_program

    return build_program(spec["experiment"], spec["root"], spec["gpu"], spec["data"])
