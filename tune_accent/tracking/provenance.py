"""Where a result came from: versions, commit, machine. Imports nothing heavy; reads package metadata instead of packages."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import tune_accent
from tune_accent.base.files import sha256_bytes

# Versions that can change a figure of a trial or a decision of the search.
DECISIVE = (
    "accelerate",
    "numpy",
    "optuna",
    "peft",
    "qwen-tts",
    "safetensors",
    "scikit-learn",
    "scipy",
    "soundfile",
    "soxr",
    "tokenizers",
    "torch",
    "transformers",
)
MAX_DIFF = 200_000  # bytes of `git diff` that are kept
SECRET = re.compile(r"api.?key|token|secret|passw|credential|_key$", re.IGNORECASE)  # names whose values are not to be recorded
SHORTEST, HIDDEN = 8, "***"  # characters of a value that is looked for; what stands in its place


def environment() -> dict[str, Any]:
    """Python, all package versions, git commit, operating system, processor, GPUs and driver of this machine; JSON values."""
    return {
        "tune_accent": tune_accent.__version__,
        "python": platform.python_version(),
        "packages": packages(),
        "git": git_state(Path(tune_accent.__file__).parent),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpus": gpus(),
        "threads": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG")},
        "command": [Path(sys.argv[0]).name, *recorded_arguments(sys.argv[1:])],
    }


def without_secrets(text: str) -> str:
    """`text` with the values of environment variables that are named like secrets (`WANDB_API_KEY`, `HF_TOKEN`, ...) hidden."""
    values = {value for name, value in os.environ.items() if SECRET.search(name) and len(value) >= SHORTEST}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return text


def recorded_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line's arguments without secrets: also what follows a name like `--api-key`, in the same argument or the next."""
    found: list[str] = []
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        before = found[-1] if found else ""
        if before.startswith("-") and "=" not in before and SECRET.search(before) and not argument.startswith("-"):
            found.append(HIDDEN)
        elif equals and SECRET.search(name):
            found.append(f"{name}={HIDDEN}")
        else:
            found.append(without_secrets(argument))
    return found


def packages() -> dict[str, str]:
    """Installed distributions and their versions, sorted by name."""
    read = [dist.metadata for dist in metadata.distributions()]  # each access reads the file
    found = {one["Name"]: one["Version"] for one in read}
    return dict(sorted((name.lower().replace("_", "-"), version) for name, version in found.items() if name))


def decisive(record: Mapping[str, Any]) -> dict[str, str]:
    """The part of an environment record that an exact search depends on: versions of tune_accent, Python and the `DECISIVE` packages.

    Raises:
        KeyError, TypeError, AttributeError: it is no such record.
    """
    own, versions = {name: record[name] for name in ("tune_accent", "python")}, record["packages"]
    found = own | {name: versions.get(name, "absent") for name in DECISIVE}
    if not all(isinstance(version, str) for version in found.values()):
        raise TypeError("a version is no text")
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and whether tracked files differ from it; None outside a checkout.

    Where they differ also `diff` (text of `git diff HEAD`, its first `MAX_DIFF` bytes), `diff_bytes` and `diff_sha256` of the whole of it.
    Files that git does not track are no part of it.
    """
    commit = _output(["git", "-C", str(folder), "rev-parse", "HEAD"])
    if commit is None:
        return None
    changes = _output(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
    return {"commit": commit, "dirty": bool(changes), **(_diff(folder) if changes else {})}


def _diff(folder: Path) -> dict[str, Any]:
    """The changes of tracked files, whatever the person's own settings of git; blobs by full name, so that the hash covers binary files."""
    plain = ["--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--src-prefix=a/", "--dst-prefix=b/"]
    whole = _bytes(["git", "-C", str(folder), "diff", "HEAD", *plain])
    if whole is None:
        return {}
    return {
        "diff": without_secrets(whole[:MAX_DIFF].decode("utf-8", errors="replace")),
        "diff_bytes": len(whole),
        "diff_sha256": sha256_bytes(whole),
    }


def processor() -> str:
    """The processor's model name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def gpus() -> list[dict[str, str]]:
    """Name, memory and driver of each NVIDIA GPU; empty where there is none."""
    table = _output(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    rows = [line.split(", ") for line in (table or "").splitlines()]
    return [{"name": row[0], "memory": row[1], "driver": row[2]} for row in rows if len(row) == 3]


def _output(command: list[str]) -> str | None:
    found = _bytes(command)
    return None if found is None else found.decode("utf-8", errors="replace").strip()


def _bytes(command: list[str]) -> bytes | None:
    """What a command writes; None where there is no such command, or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
