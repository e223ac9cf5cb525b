"""W&B's grammar of one parameter → a frozen object.

Without `distribution`: `values` is categorical, `value` constant, whole `min` and `max` int_uniform, others uniform (as in W&B).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from pydantic import ValidationError

from tune_accent.config.explain import rule_broken
from tune_accent.config.keys import check_value, full_key, wants_whole
from tune_accent.config.parameters import Categorical, Constant, Integer, Parameter, Uniform
from tune_accent.config.words import did_you_mean, nearest, shown

Report: TypeAlias = Callable[[str, str, str | None], None]  # (part of the parameter or "", message, hint)

MAX_STEPS = 1e12  # multiples of q between 0 and a bound
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "constant": ("value",),
    "categorical": ("values",),
    "int_uniform": ("min", "max"),
    "uniform": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
    "log_uniform_values": ("min", "max"),
    "q_log_uniform_values": ("min", "max", "q"),
}
_KEYS = ("distribution", "value", "values", "min", "max", "q")
_ELSEWHERE = {"parameters", "probabilities", "mu", "sigma", "a", "b"}  # W&B's, not supported
_UNSUPPORTED = {
    *("normal", "q_normal", "log_normal", "q_log_normal", "beta", "q_beta", "inv_log_uniform", "inv_log_uniform_values"),
    "categorical_w_probabilities",
}


def read_parameter(name: str, spec: Any, report: Report) -> Parameter | None:
    """The parameter that `spec` (the YAML below its name) describes; None when a problem was reported.

    Args:
        name: short name or dotted key, one that the experiment has.
        spec: plain data.
        report: takes every problem.
    """
    if not isinstance(spec, dict):
        report("", f"must be a section with `value`, `values`, or `min` and `max`, got {shown(spec)}", _spec_hint(spec))
        return None
    kind = _kind(spec, report)
    if kind is None or not _has_its_keys(kind, spec, report):
        return None
    if kind == "constant":
        return _constant(name, spec["value"], report)
    if kind == "categorical":
        return _categorical(name, spec["values"], report)
    return _range(name, kind, spec, report)


def _spec_hint(spec: Any) -> str:
    return "write `values: [...]`" if isinstance(spec, list) else "write `value: ...` below the name"


def _kind(spec: Mapping[str, Any], report: Report) -> str | None:
    if "distribution" in spec:
        return _named_kind(spec, report)
    if "value" in spec and "values" in spec:
        report("", "has both `value` and `values`", "keep `value` for a constant, or `values` for a choice")
        return None
    if "parameters" in spec:
        report("parameters", "nested parameters are not supported", "write a dotted name, e.g. `training.batch_size:`")
        return None
    if "values" in spec or "value" in spec:
        return "categorical" if "values" in spec else "constant"
    if "min" in spec or "max" in spec:
        whole = all(isinstance(spec.get(bound), int) for bound in ("min", "max"))
        return ("int_uniform" if whole else "uniform") if "q" not in spec else "q_uniform"
    near = next((f"did you mean `{found}`?" for key in spec if (found := nearest(key, _KEYS))), None)
    report("", "says nothing to search", near or "write `values: [...]`, or `min:` and `max:`")
    return None


def _named_kind(spec: Mapping[str, Any], report: Report) -> str | None:
    kind = spec["distribution"]
    if kind in ("log_uniform", "q_log_uniform"):
        report(
            "distribution", f"`{kind}` takes exponents for bounds, which are easily mistaken for values", _values_hint(kind, spec)
        )
    elif isinstance(kind, str) and kind in _UNSUPPORTED:
        report("distribution", f"`{kind}` is W&B's, but not supported here", f"use one of {', '.join(ALLOWED)}")
    elif not isinstance(kind, str) or kind not in ALLOWED:
        report("distribution", f"unknown distribution {shown(kind)}", did_you_mean(str(kind), ALLOWED, "use one of"))
    else:
        return kind
    return None


def _values_hint(kind: str, spec: Mapping[str, Any]) -> str:
    bounds: list[Any] = [spec.get("min"), spec.get("max")]
    if all(_is_number(bound) and abs(bound) < 300 for bound in bounds):
        low, high = (math.exp(bound) for bound in bounds)
        return f"write `distribution: {kind}_values` with min: {low:.4g} and max: {high:.4g}, the values themselves"
    return f"write `distribution: {kind}_values`, with the values themselves as bounds"


def _has_its_keys(kind: str, spec: Mapping[str, Any], report: Report) -> bool:
    allowed = ALLOWED[kind]
    missing = [key for key in allowed if key not in spec and key != "q"]
    for key in missing:
        report("", f"needs `{key}` ({kind})", f"add `{key}: ...`")
    wrong = [key for key in spec if key not in allowed and key != "distribution"]
    for key in wrong:
        known = key in _KEYS or key in _ELSEWHERE
        message = f"has no place in `{kind}`" if known else "unknown key"
        report(key, message, f"{kind} takes {', '.join(allowed)}" if known else did_you_mean(key, _KEYS, "the keys here are"))
    return not missing and not wrong


def _constant(name: str, value: Any, report: Report) -> Constant | None:
    if isinstance(value, (list, dict)):
        report("value", f"must be a single value, got {shown(value)}", "lists belong into the experiment's file")
        return None
    checked = _fits(name, value, "value", report)
    return None if checked is _BAD else Constant(name, checked)


def _categorical(name: str, values: Any, report: Report) -> Categorical | None:
    if not isinstance(values, list) or not values:
        report("values", f"must be a list with at least one value, got {shown(values)}", "write `values: [1, 2, 4]`")
        return None
    found: list[Any] = []
    for index, value in enumerate(values):
        part = f"values[{index}]"
        if isinstance(value, (list, dict)):
            report(part, f"must be a single value, got {shown(value)}", None)
        elif (checked := _fits(name, value, part, report)) is not _BAD and checked in found:
            report(part, f"{shown(value)} is given twice", "keep one of them")
        else:
            found.append(checked)
            continue
        found.append(_BAD)
    return None if _BAD in found else Categorical(name, tuple(found))


def _range(name: str, kind: str, spec: Mapping[str, Any], report: Report) -> Parameter | None:
    numbers = {key: spec.get(key, 1.0) for key in ALLOWED[kind]}
    faults = [(key, message) for key, value in numbers.items() if (message := _bad_bound(kind, key, value))]
    for key, message in faults:
        report(key, message, _bound_hint(kind, key, numbers[key]))
    if faults:
        return None
    low, high, q = numbers["min"], numbers["max"], numbers.get("q")
    if low > high:
        report("min", f"must not be above max ({shown(high)}), got {shown(low)}", "swap min and max?")
        return None
    if kind == "int_uniform":
        return _checked(Integer(name, low, high), report)
    if q is not None and max(abs(low), abs(high)) / q > MAX_STEPS:
        report("q", f"must not be that small beside the bounds, got {shown(q)}", None)
        return None
    if wants_whole(full_key(name)) and (q is None or not float(q).is_integer()):
        report(
            "", f"`{full_key(name)}` takes whole numbers only", "write whole numbers for min and max, or q_uniform with a whole q"
        )
        return None
    return _checked(Uniform(name, float(low), float(high), "log" in kind, None if q is None else float(q)), report)


def _checked(parameter: Uniform | Integer, report: Report) -> Parameter | None:
    bounds = zip(("min", "max"), parameter.edges, strict=True)
    good = [_fits(parameter.name, value, bound, report) is not _BAD for bound, value in bounds]
    return parameter if all(good) else None


def _bad_bound(kind: str, key: str, value: Any) -> str | None:
    if kind == "int_uniform" and (not isinstance(value, int) or isinstance(value, bool)):
        return f"must be a whole number, got {shown(value)}"
    if not _is_number(value):
        return f"must be a finite number, got {shown(value)}"
    if value <= 0 and (key == "q" or (key == "min" and "log" in kind)):
        return f"must be above 0{' on a log scale' if key == 'min' else ''}, got {shown(value)}"
    return None


def _bound_hint(kind: str, key: str, value: Any) -> str | None:
    if key == "min" and "log" in kind and value == 0:
        return "a log scale never reaches 0: to include 0, write `values: [0, 0.1, 1, 10]`"
    if kind == "int_uniform" and isinstance(value, float):
        return "or write `distribution: uniform`"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_BAD: Any = object()


def _fits(name: str, value: Any, part: str, report: Report) -> Any:
    """`value` as the experiment holds it, or `_BAD` when the schema refuses it."""
    try:
        return check_value(full_key(name), value)
    except ValidationError as error:
        dotted = f" (this is {full_key(name)})" if full_key(name) != name else ""
        report(part, rule_broken(error) + dotted, None)
        return _BAD
