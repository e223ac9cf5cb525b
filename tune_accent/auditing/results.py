"""An audit's folder: what it is an answer to, and one checked record per feature set, written as its evaluation ends.

    identity.json        the settings and data that decide the figures; another audit is refused
    spec.yaml            the whole experiment, for people
    environment.json     versions and machine of the last launch
    sets/<name>.json     {"key", "content", "sha256"}: this file makes an evaluation count

The key hashes all that a figure depends on (features, table, protocol, seed, libraries): a record with another key, or a damaged one, is
computed again, and nothing else is. Which sets are asked for is no part of the identity, so layers can be added later. Does *not* cover two
audits in one folder (the runner holds its lock).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_accent.base.differences import differences
from tune_accent.base.errors import SearchChanged
from tune_accent.base.files import read_json, sha256_bytes, sha256_json, write_json, write_text
from tune_accent.base.records import load_record, save_record
from tune_accent.config.load import dump_experiment
from tune_accent.config.schema import Experiment
from tune_accent.evaluation import PROTOCOL_VERSION, Protocol
from tune_accent.tracking.provenance import environment
from tune_accent.training.preparation import PreparedRecord

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

VERSION = 1  # raised whenever a record would hold something else
IDENTITY, SETS = "identity.json", "sets"
LIBRARIES = ("numpy", "pandas", "scikit-learn", "scipy")  # their versions can change a bit of a figure
COLUMNS = ("utt_id", "speaker", "accent", "text_id", "split", "fold")
WAYS_OUT = "--out NEW audits into a new folder; --fresh moves this one aside and starts over"


def identity(spec: Experiment, data: PreparedRecord) -> dict[str, Any]:
    """What decides the figures of an audit: not what is asked for (`audit`), nor what is concluded from it (`gate`, `score`, `model.layer`)."""
    plain = spec.model_dump(mode="json")
    source = {key: value for key, value in plain["data"]["source"].items() if key != "workers"}
    settings = {
        "seed": plain["seed"],
        "data": {**plain["data"], "source": source},
        "model": {name: plain["model"][name] for name in ("backbone", "tiny", "language", "attention")},
        "training": {"precision": plain["training"]["precision"]},
        "evaluation": {name: value for name, value in plain["evaluation"].items() if name not in ("batch_size", "raw")},
    }
    return {"version": VERSION, "experiment": settings, "hashes": asdict(data)}


def refuse_foreign(root: Path) -> None:
    """Nothing but an audit, or nothing at all, may lie in `root`.

    Raises:
        SearchChanged: something else does.
    """
    if not root.is_dir() or (root / IDENTITY).is_file():
        return
    strangers = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    if strangers:
        what = f"this folder holds {strangers[0]}, but no {IDENTITY}: it is no audit, or nothing says which"
        raise SearchChanged(what, str(root), WAYS_OUT)


def claim(root: Path, spec: Experiment, data: PreparedRecord) -> None:
    """Write the identity of an audit into a new folder, or check that an old one has the same.

    Raises:
        SearchChanged: the folder holds another audit; the message lists what differs.
    """
    now = identity(spec, data)
    if (root / IDENTITY).is_file():
        before = read_json(root / IDENTITY)
        if before != now:
            lines = differences(before, now) if isinstance(before, dict) else []
            what = "\n".join(["this folder holds another audit; it was → it is now:", *lines])
            raise SearchChanged(what, str(root), WAYS_OUT)
    else:
        write_json(root / IDENTITY, now)
    write_text(root / "spec.yaml", dump_experiment(spec))
    write_json(root / "environment.json", environment())


class Records:
    """Figures of one table, protocol and seed: read where a whole record has them, else computed and written.

    Args:
        root: the audit's folder.
        table: the utterances that are evaluated.
        protocol, seed: how.

    Attributes:
        computed: how many records were computed.
    """

    def __init__(self, root: Path, table: pd.DataFrame, protocol: Protocol, seed: int) -> None:
        self.root, self.table, self.protocol, self.seed = root, table, protocol, seed
        self.computed = 0
        self._common = {
            "table": table_fingerprint(table),
            "protocol": asdict(protocol),
            "protocol_version": PROTOCOL_VERSION,
            "seed": seed,
            "version": VERSION,
            "libraries": {name: version(name) for name in LIBRARIES},
        }

    def get(self, name: str, what: Any, compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The content of the record `name`.

        Args:
            name: of the file.
            what: everything else that the content depends on, as JSON values.
            compute: makes the content, JSON values.
        """
        key = sha256_json({"what": what, **self._common})
        path = self.root / SETS / f"{name}.json"
        known = load_record(path, key)
        if known is not None:
            return known
        content = compute()
        save_record(path, key, content)
        self.computed += 1
        return content


def table_fingerprint(table: pd.DataFrame) -> str:
    """SHA-256 of what an evaluation reads of the utterance table."""
    return sha256_json({name: [None if value != value else value for value in table[name].tolist()] for name in COLUMNS})


def array_fingerprint(values: npt.NDArray[Any]) -> str:
    """SHA-256 of an array's type, shape and bytes."""
    return sha256_bytes(f"{values.dtype.str} {values.shape} ".encode() + values.tobytes())


def records(root: Path) -> int:
    """How many records the folder holds."""
    return len(list((root / SETS).glob("*.json")))
