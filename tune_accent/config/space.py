"""A W&B sweep file → a checked search space. The same file goes to `wandb sweep` unchanged.

    space = load_space("search_spaces/lora.yaml")

`notes` are things that are allowed but read differently by W&B; print them as warnings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tune_accent.base.errors import ConfigError, Problem
from tune_accent.config.compose import join, shortened
from tune_accent.config.distributions import read_parameter
from tune_accent.config.document import Document, read_document
from tune_accent.config.grammar import read_settings
from tune_accent.config.keys import SHORT_NAMES, full_key, leaves, suggest, wants_whole
from tune_accent.config.parameters import Categorical, Constant, Integer, Parameter, Uniform, total

__all__ = ["Categorical", "Constant", "Integer", "LoadedSpace", "Parameter", "Space", "Uniform", "load_space", "read_space"]

SEARCHABLE = ("model.layer", "model.lora.", "objective.", "training.")
_FIXED = {
    "training.epochs": "it is the length of a full trial, which early termination counts on",
    "training.sub_frames": "it is part of the method, the same for all trials of a search",
    "training.deterministic": "it decides whether the search is exact",
    "training.threads": "results depend on it in the last digit",
}


@dataclass(frozen=True)
class Space:
    """What is searched, in the order of the file. The names are those of the file (`lora_rank`, `training.batch_size`)."""

    parameters: tuple[Parameter, ...]

    @property
    def searched(self) -> tuple[Parameter, ...]:
        """The parameters that vary."""
        return tuple(parameter for parameter in self.parameters if not isinstance(parameter, Constant))

    @property
    def constants(self) -> dict[str, Any]:
        """Name → value of the parameters that do not vary."""
        return {parameter.name: parameter.value for parameter in self.parameters if isinstance(parameter, Constant)}

    @property
    def grid_size(self) -> int | None:
        """Number of points of the grid; None where a parameter is continuous."""
        return total(self.parameters)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, equal for equal spaces: for hashes and diffs."""
        return {parameter.name: {"kind": type(parameter).__name__.lower(), **asdict(parameter)} for parameter in self.parameters}


@dataclass(frozen=True)
class LoadedSpace:
    """A space file.

    Attributes:
        run_cap: total number of trials; None where the file has none (a grid then has `space.grid_size`).
        min_iter: grace period of ASHA in epochs; None without early termination.
        eta: reduction factor.
        max_iter: length of a full trial, where the file says it; must then equal `training.epochs`.
        config_path: the experiment, relative to the current folder; None where the file names none.
        notes: what is allowed here but means something else to W&B, or nothing here.
    """

    space: Space
    document: Document
    method: Literal["bayes", "random", "grid"]
    metric: str
    goal: Literal["maximize", "minimize"]
    run_cap: int | None
    min_iter: int | None
    eta: int
    max_iter: int | None
    config_path: str | None
    name: str | None
    notes: tuple[Problem, ...]

    @property
    def path(self) -> Path:
        """The file, as it was given."""
        return Path(self.document.file)

    @property
    def text(self) -> str:
        """The file's text."""
        return self.document.text

    def to_dict(self) -> dict[str, Any]:
        """Everything that decides which trials are run, but not how many (`run_cap`): for hashes and diffs."""
        keys = ("method", "metric", "goal", "min_iter", "eta")
        return {**{key: getattr(self, key) for key in keys}, "parameters": self.space.to_dict()}


def space_from_dict(plain: Mapping[str, Any], file: str) -> LoadedSpace:
    """The space that `LoadedSpace.to_dict` and `run_cap` were written from.

    Args:
        plain: as read back from a results folder's spec.yaml.
        file: where it was read, for messages.

    Raises:
        KeyError, TypeError: it is no such thing.
    """
    kinds = {kind.__name__.lower(): kind for kind in (Categorical, Constant, Integer, Uniform)}
    found: list[Parameter] = []
    for entry in plain["parameters"].values():
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entry.items() if key != "kind"
        }
        found.append(kinds[entry["kind"]](**values))
    settings = {key: plain[key] for key in ("method", "metric", "goal", "min_iter", "eta", "run_cap")}
    unknown: dict[str, Any] = {"max_iter": None, "config_path": None, "name": None, "notes": ()}
    return LoadedSpace(space=Space(tuple(found)), document=Document(file, "", {}, {}), **settings, **unknown)


def load_space(path: str | Path) -> LoadedSpace:
    """Read a space file.

    Raises:
        ConfigError: every problem of the file.
    """
    space, problems = read_space(read_document(path))
    if space is None or problems:
        raise ConfigError(shortened(problems))
    return space


def read_space(document: Document) -> tuple[LoadedSpace | None, list[Problem]]:
    """The space of a parsed file and its problems; the space is None where there are any."""
    problems, notes = list(document.problems), _foreign(document)
    settings = read_settings(document, problems, notes)
    parameters, config_path = _parameters(document, problems, notes)
    space = Space(tuple(parameters))
    if settings.get("method") == "grid" and not problems:
        _countable(space, document, problems)
    if problems:
        return None, problems
    return LoadedSpace(space=space, document=document, config_path=config_path, notes=tuple(notes), **settings), []


def config_of(document: Document) -> str | None:
    """`parameters.config.value` where it is text, whatever else is wrong with the file."""
    parameters = document.data.get("parameters")
    config = parameters.get("config") if isinstance(parameters, dict) else None
    value = config.get("value") if isinstance(config, dict) else None
    return value if isinstance(value, str) and value else None


def _parameters(document: Document, problems: list[Problem], notes: list[Problem]) -> tuple[list[Parameter], str | None]:
    specs = document.data.get("parameters")
    if not isinstance(specs, dict) or not specs:
        problems.append(
            document.problem("parameters", "the file must say what to search", "add `parameters:` with `lr:` below it")
        )
        return [], None
    found: list[Parameter] = []
    for name, spec in specs.items():
        if name == "config":
            _check_config(document, spec, problems)
        elif _may_be_searched(name, document, problems):
            parameter = read_parameter(name, spec, _Reporter(document, name, problems))
            found += [] if parameter is None else [parameter]
    _no_key_twice(specs, document, problems)
    if not problems and not any(not isinstance(parameter, Constant) for parameter in found):
        problems.append(
            document.problem("parameters", "nothing varies", "give at least one parameter `values`, or `min` and `max`")
        )
    notes += [_whole_steps(document, parameter) for parameter in found if _looks_continuous(parameter, specs)]
    return found, config_of(document)


class _Reporter:
    """Puts the problems of one parameter at their lines."""

    def __init__(self, document: Document, name: str, problems: list[Problem]) -> None:
        self._document, self._key, self._problems = document, join("parameters", name), problems

    def __call__(self, part: str, message: str, hint: str | None) -> None:
        key = join(self._key, part) if part else self._key
        self._problems.append(self._document.problem(key, message, hint))


def _check_config(document: Document, spec: Any, problems: list[Problem]) -> None:
    if not isinstance(spec, dict) or set(spec) - {"value", "distribution"} or config_of(document) is None:
        message = "must name one experiment file: a search runs over one"
        problems.append(document.problem("parameters.config", message, "write `config: {value: configs/demo.yaml}`"))


def _may_be_searched(name: str, document: Document, problems: list[Problem]) -> bool:
    key, place = full_key(name), join("parameters", name)
    if key not in leaves():
        near = suggest(name)
        hint = f"did you mean `{near}`?" if near else f"use {', '.join(SHORT_NAMES)}, or a dotted key of the experiment"
        problems.append(document.problem(place, "the experiment has no such key", hint))
    elif key in _FIXED:
        problems.append(document.problem(place, f"cannot be searched: {_FIXED[key]}", "set it in the experiment's file"))
    elif not key.startswith(SEARCHABLE):
        message = "cannot be searched: it is the same for all trials of a search"
        problems.append(
            document.problem(
                place,
                message,
                "set it in the experiment's file; searchable are model.layer, model.lora.*, objective.*, training.*",
            )
        )
    else:
        return True
    return False


def _no_key_twice(specs: Mapping[str, Any], document: Document, problems: list[Problem]) -> None:
    seen: dict[str, str] = {}
    for name in specs:
        key = full_key(name).replace("alpha_ratio", "alpha")
        if key in seen:
            problems.append(document.problem(join("parameters", name), f"sets the same as `{seen[key]}`", "keep one of them"))
        seen.setdefault(key, name)


def _countable(space: Space, document: Document, problems: list[Problem]) -> None:
    for parameter in space.parameters:
        if parameter.grid is None:
            message = "`method: grid` needs values that can be counted"
            problems.append(
                document.problem(join("parameters", parameter.name), message, "write `values: [...]`, or use method random")
            )


def _looks_continuous(parameter: Parameter, specs: Mapping[str, Any]) -> bool:
    return (
        isinstance(parameter, Integer)
        and "distribution" not in specs[parameter.name]
        and not wants_whole(full_key(parameter.name))
    )


def _whole_steps(document: Document, parameter: Parameter) -> Problem:
    message = "whole min and max mean whole numbers only (int_uniform), as in W&B"
    return document.problem(
        join("parameters", parameter.name), message, "write `distribution: uniform` for all numbers between them"
    )


def _foreign(document: Document) -> list[Problem]:
    message = "W&B reads {} as another type than we do (YAML 1.1)"
    return [
        document.problem(
            key, message.format(f"`{text}`"), "write numbers with a point and a signed exponent (3.0e-4), text in quotes"
        )
        for key, text in document.foreign.items()
    ]
