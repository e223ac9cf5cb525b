"""Repositories of the Hugging Face Hub, as copies in its client's own cache on this machine.

Where the Hub does not answer, the cache alone is asked: the client itself tries each request six times first, which takes 24 s.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

from tune_accent.base.log import only_errors_of

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FOLDERS = ("models", "checkpoints", "weights")  # what people call their own folders; no owners on the Hub
ANSWER_S = 5.0  # patience with a Hub that does not answer


class NoCopy(Exception):
    """There is no copy, and none can be made; the message is one line that says why."""


def is_hub_id(name: str) -> bool:
    """Whether `name` is `owner/repository`, and no path."""
    return bool(HUB_ID.fullmatch(name)) and name.split("/")[0] not in FOLDERS and not Path(name).parent.is_dir()


def hub_copy(
    name: str,
    files: Sequence[str],
    kind: Literal["model", "dataset"] = "model",
    look: Callable[[Path], object] | None = None,
) -> Path:
    """The local copy of a repository, fetched or brought up to date where the Hub answers.

    Args:
        name: `owner/repository`.
        files: patterns of what is needed.
        kind: of the repository.
        look: sees the folder while config.json alone is in it: what it refuses is not fetched.

    Raises:
        NoCopy: the Hub or the repository cannot be reached, and the cache has no copy. ImportError: its client is not installed. Or what `look` raises.
    """
    import huggingface_hub as client
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    silent = _silence()
    try:
        with only_errors_of("huggingface_hub"):
            if look is not None:
                look(
                    Path(client.hf_hub_download(name, "config.json", repo_type=kind, local_files_only=silent is not None)).parent
                )
            found = client.snapshot_download(
                name, allow_patterns=list(files), repo_type=kind, local_files_only=silent is not None
            )
    except LocalEntryNotFoundError as error:
        raise NoCopy(_first_line(error) if silent is None else f"{silent}, and it was not fetched before") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise NoCopy(_first_line(error)) from error
    return Path(found)


def cached_copy(name: str) -> Path | None:
    """What an earlier `hub_copy` of a model has fetched last; the Hub is not asked."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _silence() -> str | None:
    """Why the Hub is not asked; None: it answers, or a proxy stands between, which is left to the client."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    place = urlsplit(constants.ENDPOINT)
    if {place.scheme, "all"} & set(getproxies()):
        return None
    try:
        socket.create_connection((place.hostname, place.port or {"http": 80}.get(place.scheme, 443)), ANSWER_S).close()
    except OSError as error:
        return f"{place.netloc} does not answer ({error.strerror or type(error).__name__})"
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
