"""What two searches must share before their figures may stand side by side, and the refusal where they do not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tune_accent.base.differences import differences
from tune_accent.base.errors import UserError
from tune_accent.comparing.record import PARTS, Campaign, Identity
from tune_accent.config.keys import full_key
from tune_accent.tracking.provenance import decisive

FIXED = ("model", "objective", "training")
DATA = ("manifest", "splits", "cache", "backbone")


def identity_of(
    experiment: Mapping[str, Any] | None,
    parameters: Mapping[str, Any] | None,
    metric: tuple[str, str] | None,
    data: Mapping[str, Any] | None,
    environment: Mapping[str, Any] | None,
) -> Identity:
    """The identity of a search from what is known of it; None stands for what is not.

    Args:
        experiment: as JSON; of any trial of the search.
        parameters: `Space.to_dict()` of the searched parameters.
        metric: name and goal.
        data: hashes.
        environment: as `tracking.provenance.environment` makes it.
    """
    space = None if experiment is None or parameters is None else _space(experiment, parameters)
    measured = None
    if experiment is not None and metric is not None:
        measured = {"name": metric[0], "goal": metric[1], "score": experiment["score"], "evaluation": experiment["evaluation"]}
    hashes = None if data is None else {name: data.get(name) for name in DATA}
    return Identity(space, measured, hashes, None if environment is None else _code(environment))


def refuse_others(campaigns: Sequence[Campaign], ignore: Collection[str]) -> tuple[str, ...]:
    """Refuse campaigns that are not of the first one's space, metric, data and code.

    Args:
        campaigns: the first is what the others are set beside.
        ignore: parts that may differ.

    Returns:
        What was ignored and did differ, a sentence each: they belong under every figure and table.

    Raises:
        UserError: a part differs, or is not known of one of them, that was not to be ignored.
    """
    first, found = campaigns[0], dict[str, set[str]]()
    for other in campaigns[1:]:
        for part in PARTS:
            if _differs(first, other, part):
                if part not in ignore:
                    raise _refusal(first, other, part)
                found.setdefault(part, set()).add(other.name)
    return tuple(
        f"The {part} of {', '.join(sorted(found[part]))} is not that of {first.name}, or not known; told to ignore it."
        for part in PARTS
        if part in found
    )


def _differs(first: Campaign, other: Campaign, part: str) -> bool:
    one, two = first.identity.hashes()[part], other.identity.hashes()[part]
    return one is None or one != two


def _refusal(first: Campaign, other: Campaign, part: str) -> UserError:
    was, now = first.identity.part(part), other.identity.part(part)
    unknown = first.name if was is None else other.name if now is None else None
    if unknown is not None:
        what = f"the {part} of {unknown} is not recorded there, so nothing tells that both searched the same"
    else:
        what = "\n".join([f"its {part} is not that of {first.name}; there → here:", *differences(was, now)])
    return UserError(what, other.name, f"compare searches of the same {part}, or --ignore {part}: every figure then says so")


def _space(experiment: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    searched = {full_key(name) for name, entry in parameters.items()}
    if searched & {"model.lora.alpha", "model.lora.alpha_ratio"}:
        searched |= {"model.lora.alpha", "model.lora.alpha_ratio"}
    fixed = {name: _without(experiment[name], name, searched | {"training.repeat"}) for name in FIXED}
    return {"parameters": parameters, "fixed": fixed}


def _without(value: Any, path: str, searched: Collection[str]) -> Any:
    """`value` less the leaves whose dotted path is searched."""
    if not isinstance(value, Mapping):
        return value
    inner = {name: f"{path}.{name}" for name in value}
    return {name: _without(value[name], place, searched) for name, place in inner.items() if place not in searched}


def _code(environment: Mapping[str, Any]) -> dict[str, Any] | None:
    git = environment.get("git") or {}
    try:
        versions = decisive(environment)
    except (KeyError, TypeError, AttributeError):
        return None
    return {"commit": git.get("commit"), "changes": git.get("diff_sha256"), **versions}
