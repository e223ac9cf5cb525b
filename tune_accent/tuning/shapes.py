"""What reports and draws of a search look like, beyond the checksums of their files: a whole file can still be another version's, or edited.

Faults are words, None where there is none; the memo adds the place and refuses. Does not cover figures that are plausible and false.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tune_accent.base.files import canonical_json
from tune_accent.config.parameters import Categorical, Integer, Parameter, Scalar, Uniform
from tune_accent.config.space import LoadedSpace
from tune_accent.evaluation import Evaluation
from tune_accent.tuning.memo import Fault, names_fault

NUMBERS = frozenset(
    (
        "accent_f1",
        "accent_balanced_accuracy",
        "speaker_leakage",
        "speaker_leakage_unseen",
        "speaker_leakage_seen",
        "val_loss",
        "base_val_loss",
        "score",
    )
)
FLAGS = ("feasible", "ended")
_EVALUATION = TypeAdapter(Evaluation)


def report_fault(metrics: Mapping[str, Any]) -> str | None:
    """What is wrong with the report of an epoch of speech training (training/trainer.py).

    Required are the figures that the search and its words read; more of them (losses, `*_h`) are single values.
    """
    missing = sorted({*NUMBERS, *FLAGS, "text_drop", "evaluation"} - metrics.keys())
    if missing:
        return f"{missing[0]} is missing"
    for name, value in metrics.items():
        if name != "evaluation" and not _fits(name, value):
            return f"{name[:40]} is {_short(value)}"
    return _evaluation_fault(metrics["evaluation"])


def draw_fault(space: LoadedSpace) -> Fault:
    """What is wrong with a draw of the sampler from `space`."""
    grid = space.method == "grid"
    searched = {parameter.name: parameter for parameter in space.space.searched}
    choices = {name: _choices(parameter, grid) for name, parameter in searched.items()}

    def fault(draw: Mapping[str, Any]) -> str | None:
        why = names_fault(draw, searched)
        if why is not None:
            return why
        foreign = [name for name, value in draw.items() if not _drawn(searched[name], choices[name], value)]
        return f"{foreign[0]} is {_short(draw[foreign[0]])}, which the space does not hold" if foreign else None

    return fault


def _fits(name: str, value: Any) -> bool:
    if name in FLAGS:
        return isinstance(value, bool)
    if name in NUMBERS:
        return _number(value)
    return value is None or _number(value) or (isinstance(value, bool | str) and name != "text_drop")


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _evaluation_fault(plain: Any) -> str | None:
    try:
        found = Evaluation.from_dict(plain)
        _EVALUATION.validate_json(json.dumps(found, default=vars), strict=True)
        again = found.to_dict()
        same = again == plain or canonical_json(again) == canonical_json(plain)  # JSON has made lists of tuples
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, ('evaluation', *first['loc'])))[:80]}: {first['msg']}"
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return f"evaluation cannot be read ({type(error).__name__}: {error!s:.60})"
    if not same:
        return "evaluation holds more than an evaluation has"
    sizes = {len(found.confusion), *map(len, found.confusion)}
    if not found.per_accent or set(found.per_accent) != set(found.gate_accents) or sizes != {len(found.gate_accents)}:
        return "evaluation has other accents in its parts than gate_accents"
    half = [name for name, figure in found.figures.items() if (figure.low is None) != (figure.high is None)]
    return f"evaluation.{half[0]} has half an interval" if half else None


def _choices(parameter: Parameter, grid: bool) -> frozenset[tuple[type, Scalar]] | None:
    """What can be drawn, with types (1 is not True); None where it is a range."""
    values = parameter.grid if grid or isinstance(parameter, Categorical) else None
    return None if values is None else frozenset((type(value), value) for value in values)


def _drawn(parameter: Parameter, choices: frozenset[tuple[type, Scalar]] | None, value: Any) -> bool:
    if choices is not None:
        return isinstance(value, Scalar) and (type(value), value) in choices
    assert isinstance(parameter, Uniform | Integer)
    if not _number(value) or (isinstance(parameter, Integer) and not isinstance(value, int)):
        return False
    ends = parameter.low, parameter.high
    return ends[0] <= value <= ends[1] or any(math.isclose(value, end) for end in ends)  # exp(log(low)) may be an ulp below low


def _short(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
