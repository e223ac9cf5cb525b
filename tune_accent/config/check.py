"""A search is a space file and an experiment file: read both, check one against the other, and show all problems at once.

space, experiment = load_search("search_spaces/lora.yaml")
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_accent.base.errors import ConfigError, Problem
from tune_accent.config.compose import join, shortened
from tune_accent.config.document import read_document, similar_files
from tune_accent.config.keys import full_key
from tune_accent.config.load import LoadedExperiment, load_experiment, resolve
from tune_accent.config.space import LoadedSpace, config_of, read_space

DEFAULT_CONFIG = "configs/demo.yaml"


def load_search(
    space_path: str | Path, config: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[LoadedSpace, LoadedExperiment]:
    """Read and check the two files of a search.

    Args:
        space_path: a W&B sweep file.
        config: the experiment's file (`--config`); None: the space file's `parameters.config.value`, else `configs/demo.yaml`.
        overrides: as for `load_experiment`.

    Returns:
        The space, and the experiment with the space's constants in place.

    Raises:
        ConfigError: every problem of both files, and of the two together.
    """
    document = read_document(space_path)
    space, problems = read_space(document)
    named = config_of(document)
    path = Path(config or named or DEFAULT_CONFIG)
    if config is None and named and not path.exists():
        problems.append(document.problem("parameters.config.value", f"there is no file {path}", similar_files(path)))
        raise ConfigError(shortened(problems))
    try:
        loaded = load_experiment(path, overrides)
    except ConfigError as error:
        raise ConfigError([*shortened(problems), *error.problems]) from None
    if space is not None:
        loaded, problems = _with_constants(space, loaded)
        problems = problems or cross_check(space, loaded)
    if space is None or problems:
        raise ConfigError(shortened(problems))
    return space, loaded


def cross_check(space: LoadedSpace, loaded: LoadedExperiment) -> list[Problem]:
    """What is wrong with a space for this experiment: early termination against its epochs, and every edge of every parameter."""
    return [*_early_termination(space, loaded), *_edges(space, loaded)]


def _with_constants(space: LoadedSpace, loaded: LoadedExperiment) -> tuple[LoadedExperiment, list[Problem]]:
    try:
        experiment = resolve(loaded.experiment, space.space.constants)
    except ConfigError as error:
        return loaded, [
            space.document.problem("parameters", f"{fault.key}: {fault.message}", fault.hint) for fault in error.problems
        ]
    return LoadedExperiment(experiment, loaded.document), []


def _early_termination(space: LoadedSpace, loaded: LoadedExperiment) -> list[Problem]:
    if space.min_iter is None:
        return []
    epochs, place, found = loaded.experiment.training.epochs, loaded.path, []
    if space.min_iter >= epochs:
        message = f"must be below training.epochs ({epochs} in {place}), got {space.min_iter}: no trial would end early"
        found.append(
            space.document.problem(
                "early_terminate.min_iter", message, f"about a third of the epochs is usual: {max(1, epochs // 3)}"
            )
        )
    if space.max_iter not in (None, epochs):
        message = f"must equal training.epochs ({epochs} in {place}), got {space.max_iter}"
        found.append(space.document.problem("early_terminate.max_iter", message))
    return found


def _edges(space: LoadedSpace, loaded: LoadedExperiment) -> list[Problem]:
    """Each edge of each parameter in turn, the others at their first edge: finds what only breaks together."""
    start = {parameter.name: parameter.edges[0] for parameter in space.space.parameters}
    found: dict[tuple[str, str], Problem] = {}
    for parameter in space.space.parameters:
        for edge in parameter.edges:
            try:
                resolve(loaded.experiment, {**start, parameter.name: edge})
            except ConfigError as error:
                for fault in error.problems:
                    message = f"{edge!r} breaks {fault.key or full_key(parameter.name)} of {loaded.path}: {fault.message}"
                    found.setdefault(
                        (parameter.name, fault.message), space.document.problem(join("parameters", parameter.name), message)
                    )
    return list(found.values())
