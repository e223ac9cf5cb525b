"""YAML → checked experiment, and back.

    loaded = load_experiment("configs/demo.yaml", {"lora_rank": 16})
    trial = resolve(loaded.experiment, {"lr": 3e-3, "leakage_weight": 1.0})

Every problem of the file and of the overrides is in one `ConfigError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tune_accent.base.errors import ConfigError, Problem
from tune_accent.base.files import sha256_json
from tune_accent.config.compose import FLOAT, parse_value, shortened
from tune_accent.config.document import Document, read_document
from tune_accent.config.explain import explain, rule_broken
from tune_accent.config.keys import SHORT_NAMES, check_value, full_key, leaves, suggest
from tune_accent.config.schema import NO_IDENTITY, Experiment

__all__ = ["LoadedExperiment", "dump_experiment", "experiment_hash", "load_experiment", "parse_value", "resolve"]

_ALPHA, _RATIO = SHORT_NAMES["lora_alpha"], SHORT_NAMES["lora_alpha_ratio"]


@dataclass(frozen=True)
class LoadedExperiment:
    """An experiment and the file it came from; `document.problem(key, ...)` names file and line in later checks."""

    experiment: Experiment
    document: Document

    @property
    def path(self) -> Path:
        """The file, as it was given."""
        return Path(self.document.file)

    @property
    def text(self) -> str:
        """The file's text."""
        return self.document.text


def load_experiment(path: str | Path, overrides: Mapping[str, Any] | None = None) -> LoadedExperiment:
    """Read an experiment.

    Args:
        path: a YAML file (`configs/*.yaml`).
        overrides: values by dotted key or short name (`lora_rank`), already parsed (`parse_value` parses text).

    Raises:
        ConfigError: every problem of the file and of the overrides.
    """
    changes, problems = _checked(overrides or {}, "command line")
    try:
        document = read_document(path)
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from None
    faults = list(document.problems)
    try:
        experiment = Experiment.model_validate(document.data)
    except ValidationError as error:
        faults += explain(error, document)
    if faults or problems:
        raise ConfigError(shortened([*faults, *problems]))
    return LoadedExperiment(_changed(experiment, changes, "command line"), document)


def resolve(experiment: Experiment, params: Mapping[str, Any], origin: str = "parameters") -> Experiment:
    """The experiment with searched values in place; `lora_alpha` and `lora_alpha_ratio` replace each other.

    Args:
        params: values by dotted key or short name. A whole float (8.0) is taken for a whole number where the key wants one.
        origin: named in place of the file in problems.

    Raises:
        ConfigError: unknown names, and values that break a rule of the schema, alone or together.
    """
    changes, problems = _checked(params, origin)
    if problems:
        raise ConfigError(problems)
    return _changed(experiment, changes, origin)


def experiment_hash(experiment: Experiment) -> str:
    """Hex SHA-256 of everything that can change a figure of a trial."""
    return sha256_json(experiment.model_dump(mode="json", exclude=set(NO_IDENTITY)))


def dump_experiment(experiment: Experiment) -> str:
    """YAML text with every key; `load_experiment` reads it back to an equal experiment."""
    return yaml.dump(experiment.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Quotes text that our reader would take for a number (`1e-3`), which YAML 1.1 leaves plain."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def _checked(params: Mapping[str, Any], origin: str) -> tuple[dict[str, Any], list[Problem]]:
    changes: dict[str, Any] = {}
    problems = []
    for name, value in params.items():
        key = full_key(name)
        if key not in leaves():
            near = suggest(name)
            problems.append(
                Problem(origin, None, name, "no such key in the experiment", f"did you mean `{near}`?" if near else None)
            )
        elif key in changes:
            problems.append(Problem(origin, None, name, f"`{key}` is given twice", "keep one of them"))
        else:
            try:
                changes[key] = check_value(key, value)
            except ValidationError as error:
                problems.append(Problem(origin, None, name, rule_broken(error)))
    return changes, problems


def _changed(experiment: Experiment, changes: Mapping[str, Any], origin: str) -> Experiment:
    if not changes:
        return experiment
    tree = experiment.model_dump()
    for key, value in _with_one_alpha(changes).items():
        *parents, last = key.split(".")
        section = tree
        for parent in parents:
            section = section[parent]
        section[last] = value
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, Document(origin, "", {}, {}))) from None


def _with_one_alpha(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A searched alpha takes the place of the file's alpha_ratio, and the other way round."""
    full = dict(changes)
    if changes.get(_ALPHA) is not None:
        full.setdefault(_RATIO, None)
    elif changes.get(_RATIO) is not None:
        full.setdefault(_ALPHA, None)
    return full
