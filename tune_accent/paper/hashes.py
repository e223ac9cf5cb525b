"""What a paper run is made from, by hash, before anything runs; and that it is what the search was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tune_accent
from tune_accent.base.differences import differences
from tune_accent.base.errors import DataError, SearchChanged
from tune_accent.config.schema import Experiment
from tune_accent.tracking.provenance import git_state
from tune_accent.training.preparation import PreparedRecord
from tune_accent.tuning.folder import PROTOCOL_VERSION, Spec, read_spec

DATA = ("manifest", "splits", "cache", "backbone")


def hashes_before(experiment: Experiment, root: Path, data: PreparedRecord) -> Mapping[str, str]:
    """Hashes of spec, manifest, splits, cache, backbone and code.

    Args:
        experiment: that the paper run trains; sections that decide no figure may differ from the search's.
        root: the results folder of the search.
        data: of `ensure_prepared(experiment)`.

    Returns:
        `spec`, `manifest`, `splits`, `cache`, `backbone`: hex digests; `code`: the git commit (or version), `code_changes`: SHA-256 of the
        uncommitted diff, where there is one.

    Raises:
        SearchChanged: data or experiment are not the search's; it says which. DataError: the folder's spec cannot be read.
    """
    spec = search_spec(root)
    changes = [
        f"    {name}: {spec.data.get(name, 'absent')} → {value}"
        for name, value in vars(data).items()
        if spec.data.get(name) != value
    ]
    if changes:
        raise _changed(root, "the data or the backbone are not the ones of the search", changes)
    now = Spec(experiment.model_dump(mode="json"), spec.space, vars(data), PROTOCOL_VERSION)
    if now.sha256() != spec.sha256():
        lines = differences(spec.identity(), now.identity())
        raise _changed(root, "the experiment is not the one of the search", lines)
    return {"spec": spec.sha256(), **{name: getattr(data, name) for name in DATA}, **_code()}


def search_spec(root: Path) -> Spec:
    """The spec of a results folder, where it matches its own hash.

    Raises:
        DataError: there is no search; or its spec cannot be read, or was edited.
    """
    file = root / "spec.sha256"
    if not file.is_file() and not (root / "spec.yaml").is_file():
        what = "the folder holds no search" if root.is_dir() else "no such folder"
        raise DataError(what, str(root), "give the folder of a search, such as ray_results/lora")
    spec = read_spec(root)
    noted = file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else None
    if spec is None or noted != spec.sha256():
        what = "cannot be read" if spec is None else "does not match spec.sha256: one of them was edited"
        raise DataError(
            f"the spec of the search {what}", str(root / "spec.yaml"), "the command of the search again writes it anew"
        )
    return spec


def _changed(root: Path, what: str, lines: list[str]) -> SearchChanged:
    return SearchChanged(
        "\n".join([f"{what}; it was → it is now:", *lines]),
        str(root),
        "bring back what the search was made from, or search again",
    )


def _code() -> dict[str, str]:
    state: Mapping[str, Any] | None = git_state(Path(tune_accent.__file__).parent)
    if state is None:
        return {"code": f"tune_accent {tune_accent.__version__}"}
    changes = {"code_changes": str(state["diff_sha256"])} if "diff_sha256" in state else {}
    return {"code": str(state["commit"]), **changes}
