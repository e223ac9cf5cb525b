"""A results folder: what it is an answer to (`spec.yaml`, `spec.sha256`), where it was made (`environment.json`), and who may continue it.

Whoever edits it by hand: a changed `spec.sha256` or environment is refused; a changed `spec.yaml` is written anew, with a warning, where the hash
still tells that the folder is this search's. Tables are derived and always written anew; the memo checks its own files (memo.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tune_accent.base.differences import differences
from tune_accent.base.errors import ConfigError, DataError, SearchChanged, visible
from tune_accent.base.files import read_json, sha256_json, write_json, write_text
from tune_accent.base.storage import explained
from tune_accent.config.document import MAX_BYTES, parse_document
from tune_accent.config.schema import NO_IDENTITY
from tune_accent.tracking.provenance import decisive, environment

logger = logging.getLogger(__name__)
PROTOCOL_VERSION = 3  # raised whenever the same spec would give other numbers: old memos are then not reused
LONGEST = 40  # characters of a version that are shown
FREE = ("run_cap", "name")  # of the space: no part of the identity of a search


@dataclass(frozen=True)
class Spec:
    """Everything a search is a function of, as plain JSON values.

    Attributes:
        experiment: the resolved experiment.
        space: the search space as read: method, metric, parameters, early termination, run_cap.
        data: hashes of manifest, splits, prepared cache and backbone.
        protocol: what the figures mean.
    """

    experiment: Mapping[str, Any]
    space: Mapping[str, Any]
    data: Mapping[str, str]
    protocol: Any = PROTOCOL_VERSION

    def identity(self) -> dict[str, Any]:
        """The part that may not change when a search continues: no tracking, no audit, no paper run, no workers, no number of trials."""
        experiment = {key: value for key, value in self.experiment.items() if key not in (*NO_IDENTITY, "name")}
        tuning = {
            key: value
            for key, value in experiment["tuning"].items()
            if key not in ("workers", "resources", "address", "max_failures")
        }
        tuning.pop("epoch_timeout_s", None)
        source = {key: value for key, value in experiment["data"]["source"].items() if key != "workers"}
        experiment |= {"tuning": tuning, "data": {**experiment["data"], "source": source}}
        space = {key: value for key, value in self.space.items() if key not in FREE}
        space["order"] = list(space["parameters"])  # samplers draw, and grids count, in this order
        return {"protocol": self.protocol, "experiment": experiment, "space": space, "data": dict(self.data)}

    def sha256(self) -> str:
        """Hash of `identity`."""
        return sha256_json(self.identity())

    def text(self) -> str:
        """`spec.yaml`: the whole spec, for people."""
        whole = {
            "protocol": self.protocol,
            "experiment": dict(self.experiment),
            "space": dict(self.space),
            "data": dict(self.data),
        }
        return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=120)


def trial_key(resolved: Mapping[str, Any], data: Mapping[str, str]) -> str:
    """The memo key of a trial: hash of what decides its figures, whatever its number and whichever search asks.

    Args:
        resolved: the experiment with the trial's parameters in it, as JSON values.
        data: hashes of the data.
    """
    parts = {name: resolved[name] for name in ("seed", "data", "model", "objective", "training", "evaluation", "score")}
    source = {key: value for key, value in parts["data"]["source"].items() if key != "workers"}
    parts["data"] = {**parts["data"], "source": source}
    return sha256_json({"protocol": PROTOCOL_VERSION, "config": parts, "data": dict(data)})[:20]


def open_folder(root: Path, spec: Spec, *, accept_environment: bool) -> None:
    """Claim a results folder for `spec`: write its identity into a new one, or check that an old one is this search's.

    Raises:
        SearchChanged: it belongs to another spec or another version, it was edited, or other versions of libraries or of
            tune_accent would continue it.
    """
    recorded = _recorded_hash(root)
    if recorded is None and not any((root / name).exists() for name in ("trials", "suggestions")):
        write_json(root / "environment.json", environment())
        write_text(root / "spec.yaml", spec.text())
        write_text(root / "spec.sha256", spec.sha256() + "\n")
        return
    before = read_spec(root)
    written = None if before is None else before.sha256()
    if (recorded or written) != spec.sha256():
        raise _changed(root, spec, before, recorded)
    _check_environment(root, accept_environment)
    if written != recorded:
        logger.warning(
            "%s: spec.yaml or spec.sha256 is missing or was edited; the other tells that this is the same search", root
        )
    write_text(root / "spec.yaml", spec.text())
    if recorded is None:
        write_text(root / "spec.sha256", spec.sha256() + "\n")


def read_spec(root: Path) -> Spec | None:
    """The spec of a results folder, as its spec.yaml says; None where that is missing or cannot be read."""
    try:
        with (root / "spec.yaml").open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError:
        return None
    return deepcopy(_parsed_spec(data)) if len(data) <= MAX_BYTES else None


@lru_cache(maxsize=8)
def _parsed_spec(data: bytes) -> Spec | None:
    """A launch reads its spec three times, and YAML takes some 50 ms each time."""
    try:
        text = data.decode("utf-8")
        if parse_document(text, "spec.yaml").problems:  # no aliases, bounded depth and number of values
            return None
        whole = yaml.safe_load(text)
        spec = Spec(whole["experiment"], whole["space"], whole["data"], whole.get("protocol"))
        spec.sha256()
    except (ValueError, ConfigError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
    return spec


def _recorded_hash(root: Path) -> str | None:
    file = root / "spec.sha256"
    with explained(file):
        return (file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else "") or None


def _changed(root: Path, spec: Spec, before: Spec | None, recorded: str | None) -> SearchChanged:
    """Why `spec` cannot continue the folder; what differs, a line per key: `training.lr: 0.005 → 0.01`."""
    if before is None:
        lost = "holds trials, but nothing says of which search" if recorded is None else "holds another search"
        return SearchChanged(f"this folder {lost}, and its spec.yaml cannot be read", str(root), ways_out())
    lines = differences(before.identity(), spec.identity())
    if recorded not in (None, before.sha256()):
        lines.append("    (spec.yaml was edited, or spec.sha256 was: they no longer match)")
    what = "this folder holds another search"
    if before.protocol != spec.protocol:
        what = f"this folder was made by another version of tune_accent{_maker(root)}: the same trials would give other figures"
    return SearchChanged("\n".join([f"{what}; it was → it is now:", *lines]), str(root), ways_out())


def _maker(root: Path) -> str:
    """The version that made the folder, where it says so."""
    try:
        return visible(f" ({str(read_json(root / 'environment.json')['tune_accent'])[:LONGEST]})")
    except (OSError, DataError, KeyError, TypeError):
        return ""


def ways_out() -> str:
    """What a person can do when a folder cannot be continued."""
    return "--name NEW searches in a new folder; --fresh moves this one aside and starts over"


def _check_environment(root: Path, accept: bool) -> None:
    now = environment()
    recorded = _recorded_environment(root)
    before, after = decisive(recorded) if recorded else None, decisive(now)
    if before == after:
        return
    if not accept:
        raise SearchChanged(_other_versions(before, after), str(root), _environment_fix(before is not None))
    earlier = recorded.get("continued_from", []) if recorded else []
    write_json(root / "environment.json", {**now, "continued_from": [*earlier, before]})


def _recorded_environment(root: Path) -> dict[str, Any] | None:
    """The environment that the search began in, or was last accepted in; None where its file is missing or makes no sense."""
    try:
        recorded = read_json(root / "environment.json")
        decisive(recorded)
    except (FileNotFoundError, DataError, KeyError, TypeError, AttributeError):
        return None
    return dict(recorded) if isinstance(recorded.get("continued_from", []), list) else None


def _other_versions(before: Mapping[str, str] | None, after: Mapping[str, str]) -> str:
    if before is None:
        return "environment.json is missing or was edited, so nothing tells which versions this search began with"
    changes = [f"{name} {before[name][:LONGEST]} → {version}" for name, version in after.items() if before[name] != version]
    return visible(f"other versions than the ones this search began with: {', '.join(changes)}")


def _environment_fix(known: bool) -> str:
    first = "install the old versions" if known else "bring the file back"
    return f"{first}, or {ways_out()}; --accept-environment continues anyway, and is recorded"
