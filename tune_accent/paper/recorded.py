"""A search as its results folder tells it: no space file, no config file, no data needed.

request, spec = recorded_search(root)
core = replay(request, spec)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tune_accent.base.errors import DataError
from tune_accent.base.files import canonical_json
from tune_accent.config.schema import Experiment
from tune_accent.config.space import LoadedSpace, space_from_dict
from tune_accent.paper.hashes import search_spec
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Request, make_core, search_memo
from tune_accent.tuning.folder import PROTOCOL_VERSION, Spec
from tune_accent.tuning.memo import ReadOnlyMemo


def recorded_search(root: Path) -> tuple[Request, Spec]:
    """What was asked of the search in `root`, read from its `spec.yaml`.

    Raises:
        DataError: the spec cannot be read, was edited, or is of another version of tune_accent.
    """
    spec = search_spec(root)
    if spec.protocol != PROTOCOL_VERSION:
        raise _foreign(root, f"it has protocol {spec.protocol}, this version {PROTOCOL_VERSION}")
    try:
        experiment = Experiment.model_validate(dict(spec.experiment))
        space, run_cap = _space(root, spec.space), spec.space["run_cap"]
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise _foreign(root, str(error).splitlines()[0]) from error
    request = Request(experiment, space, run_cap, root)
    again = Spec(experiment.model_dump(mode="json"), {"run_cap": run_cap, **space.to_dict()}, spec.data)
    if again.sha256() != spec.sha256():
        raise _foreign(root, "its keys mean something else now")
    return request, spec


def replay(request: Request, spec: Spec) -> Core:
    """The search as its memo tells it; nothing is written.

    Raises:
        DataError: a file of the memo has the right checksum and the wrong shape.
    """
    return make_core(request, spec, search_memo(request, ReadOnlyMemo))


def _space(root: Path, plain: Mapping[str, Any]) -> LoadedSpace:
    """The inverse of `LoadedSpace.to_dict`, which must give the same again."""
    if type(plain["run_cap"]) is not int:
        raise TypeError("run_cap is no whole number")
    space = space_from_dict(plain, str(root / "spec.yaml"))
    if canonical_json({"run_cap": plain["run_cap"], **space.to_dict()}) != canonical_json(dict(plain)):
        raise ValueError("the space holds more than a space has")
    return space


def _foreign(root: Path, why: str) -> DataError:
    return DataError(
        f"another version of tune_accent wrote this spec: {why}",
        str(root / "spec.yaml"),
        "use the version that environment.json names",
    )
