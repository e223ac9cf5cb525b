"""What the search left when a paper was made of it: `paper/search.sha256.json` holds the hash of every file, also of those that no hash of the search covers.

Of a checkpoint its own `checksums.json` stands for the rest. Logs, tensorboard, report and what paper runs add are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tune_accent.base.checksums import NAME as CHECKSUMS
from tune_accent.base.errors import DataError
from tune_accent.base.files import sha256_file, sha256_json, write_json
from tune_accent.paper.checksums import Fault, compare_hashes, read_canonical

NAME = "search.sha256.json"
TOP = (
    "best.json",
    "earlier.json",
    "environment.json",
    "epochs.jsonl",
    "optuna.db",
    "spec.sha256",
    "spec.yaml",
    "timing.csv",
    "trials.csv",
)
SINCE = (
    f"since a paper was made of this search (if the search was continued since: remove paper/{NAME}, the paper run signs anew)"
)


def sign(root: Path, keys: Sequence[str]) -> None:
    """Write `paper/search.sha256.json`: the files of the search as they are; to be called after `verify_search` has found nothing.

    Args:
        root: the results folder.
        keys: memo keys of the search's own trials.
    """
    content = {"keys": sorted(set(keys)), "files": _files(root, keys)}
    write_json(root / "paper" / NAME, {**content, "sha256": sha256_json(content)})


def signature_faults(root: Path) -> list[Fault]:
    """Files of the search that are other ones than those that were signed; none where nothing was signed."""
    place = f"paper/{NAME}"
    try:
        content = read_canonical(root / "paper" / NAME)
        whole = content.pop("sha256") == sha256_json(content)
        noted, keys = dict(content["files"]), list(content["keys"])
    except FileNotFoundError:
        return []
    except DataError as error:
        return [Fault(place, error.what)]
    except (AttributeError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        return [Fault(place, "does not match its own checksum: it was edited")]
    return [Fault(fault.file, f"{fault.what} {SINCE}") for fault in compare_hashes(noted, _files(root, keys))]


def _files(root: Path, keys: Sequence[str]) -> dict[str, str]:
    """SHA-256 by relative name."""
    paths = [root / name for name in TOP]
    for folder in (root / "best", root / "suggestions", *(root / "trials" / key for key in sorted(set(keys)))):
        paths += sorted(path for path in folder.rglob("*") if not _sealed_elsewhere(path, folder))
    named = {path.relative_to(root).as_posix(): path for path in paths if path.is_file()}
    return {name: sha256_file(path) for name, path in named.items() if not any(part.startswith(".") for part in name.split("/"))}


def _sealed_elsewhere(path: Path, top: Path) -> bool:
    """Whether the `checksums.json` of a folder above speaks for `path`."""
    above = [folder for folder in path.parents if folder.is_relative_to(top)]
    return any(path != folder / CHECKSUMS and (folder / CHECKSUMS).is_file() for folder in above)
