"""A search as its results folder records it: from spec.yaml and the memo alone, without the files that it was started with."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from tune_accent.base.errors import DataError, SearchChanged
from tune_accent.config.schema import Experiment
from tune_accent.config.space import space_from_dict
from tune_accent.tuning.core import Core
from tune_accent.tuning.driver import Request, make_core, search_memo
from tune_accent.tuning.folder import PROTOCOL_VERSION, Spec, read_spec
from tune_accent.tuning.memo import ReadOnlyMemo

HASH = "spec.sha256"


def recorded_search(root: Path) -> tuple[Request, Spec]:
    """What the search in `root` was asked for, and its identity.

    Raises:
        DataError: the folder holds no search, or its spec.yaml is damaged, edited, or of another version.
        SearchChanged: another version of tune_accent made it: the same trials would give other figures.
    """
    fix = "give the folder of a search, such as ray_results/lora"
    if not root.is_dir():
        raise DataError("no such folder", str(root), fix)
    if not (root / HASH).is_file():
        raise DataError(f"the folder holds no search: it has no {HASH}", str(root), fix)
    spec = read_spec(root)
    if spec is None:
        raise DataError("spec.yaml is missing or cannot be read", str(root), "the command of the search writes it anew")
    if spec.protocol != PROTOCOL_VERSION:
        what = f"this folder was made by another version of tune_accent (protocol {spec.protocol}, here {PROTOCOL_VERSION})"
        raise SearchChanged(what, str(root), "use that version, or search anew")
    if spec.sha256() != (root / HASH).read_text(encoding="utf-8", errors="replace").strip():
        raise DataError(
            f"spec.yaml and {HASH} do not match: one was edited", str(root), "the command of the search writes it anew"
        )
    try:
        experiment = Experiment.model_validate_json(json.dumps(spec.experiment))
        space = space_from_dict(spec.space, str(root / "spec.yaml"))
        run_cap = int(spec.space["run_cap"])
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"spec.yaml is of another version, or was edited ({error})", str(root), "search anew") from error
    return Request(experiment, space, run_cap, root), spec


def recorded_trials(request: Request, spec: Spec) -> Core:
    """The search as the memo knows it; nothing is trained, and nothing is written."""
    return make_core(request, spec, search_memo(request, ReadOnlyMemo))
