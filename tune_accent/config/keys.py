"""The dotted keys of an experiment, read off the schema, and the short names that a search uses for four of them."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter
from pydantic.fields import FieldInfo

from tune_accent.config.fields import Section
from tune_accent.config.schema import Experiment
from tune_accent.config.words import nearest

SHORT_NAMES: Mapping[str, str] = {
    "lora_rank": "model.lora.rank",
    "lora_alpha": "model.lora.alpha",
    "lora_alpha_ratio": "model.lora.alpha_ratio",
    "lr": "training.lr",
    "leakage_weight": "objective.leakage_weight",
}


def full_key(name: str) -> str:
    """The dotted key of a searched name: `lr` → `training.lr`; dotted keys are left as they are."""
    return SHORT_NAMES.get(name, name)


@cache
def leaves() -> Mapping[str, FieldInfo]:
    """Every key that holds a value, e.g. `training.lr`; those of each kind of `data.source` are all there."""
    return dict(_leaves(Experiment, ""))


def suggest(name: str) -> str | None:
    """The key or short name that `name` was most likely meant to be."""
    if name in _SYNONYMS:
        return _SYNONYMS[name]
    last = name.rpartition(".")[2]
    same = [key for key in leaves() if key.rpartition(".")[2] == last]
    return same[0] if len(same) == 1 else nearest(name, [*SHORT_NAMES, *leaves()])


def check_value(key: str, value: Any) -> Any:
    """`value` as the experiment holds it (1 → 1.0 for a number; 8.0 → 8 for a whole number).

    Args:
        key: one of `leaves()`.

    Raises:
        pydantic.ValidationError: the value breaks the rule of the key.
    """
    if isinstance(value, float) and value.is_integer() and wants_whole(key):
        value = int(value)
    return _adapter(key).validate_python(value)


@cache
def wants_whole(key: str) -> bool:
    """Whether the key takes whole numbers only."""
    plain = _plain_types(leaves()[key].annotation)
    return int in plain and float not in plain


def sections(annotation: Any) -> list[type[Section]]:
    """The section classes that a field of this annotation can hold."""
    return [kind for kind in _plain_types(annotation) if isinstance(kind, type) and issubclass(kind, Section)]


def locate(loc: Sequence[str | int]) -> tuple[list[type[Section]], list[str | int]]:
    """Follow a pydantic location through the schema, dropping the tags of unions that pydantic puts into it.

    Returns:
        The sections that can hold the last key, and the path as the file has it.
    """
    here: list[type[Section]] = [Experiment]
    holders, path = here, []
    for part in loc:
        tagged = [kind for kind in here if part in _tags(kind)] if len(here) > 1 else []
        if tagged:
            here = tagged
            continue
        holders = here
        path.append(part)
        fields = [kind.model_fields[part] for kind in here if isinstance(part, str) and part in kind.model_fields]
        here = sections(fields[0].annotation) if fields else []
    return holders, path


def _leaves(model: type[Section], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        inner = sections(info.annotation)
        for section in inner:
            yield from _leaves(section, f"{prefix}{name}.")
        if not inner:
            yield f"{prefix}{name}", info


@cache
def _adapter(key: str) -> TypeAdapter[Any]:
    info = leaves()[key]
    kind: Any = info.annotation
    if info.metadata:
        kind = Annotated[(kind, *info.metadata)]
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def _plain_types(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _plain_types(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [plain for part in get_args(annotation) for plain in _plain_types(part)]
    return [annotation]


def _tags(kind: type[Section]) -> set[Any]:
    return {kind.model_fields[name].default for name in ("kind", "name") if name in kind.model_fields}


_SYNONYMS = {
    "alpha": "lora_alpha",
    "lambda": "leakage_weight",
    "learning_rate": "lr",
    "lora_r": "lora_rank",
    "r": "lora_rank",
    "rank": "lora_rank",
}
