"""Installed versions against the pins of this package, and what became of torchaudio."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata

from tune_accent.base.errors import ModelError
from tune_accent.checking.finding import Finding
from tune_accent.tracking.provenance import DECISIVE, packages

PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*==\s*([^\s;]+)\s*(;.*)?$")
OLDEST = (3, 11)
INSTALL = "install the pinned versions: make setup, or pip install --constraint constraints.txt --editable ."


def pins(requirements: Sequence[str]) -> dict[str, str]:
    """Package (lower case, `-`) → pinned version, of `Requires-Dist` entries that belong to no extra."""
    found = [match for entry in requirements if (match := PIN.match(entry)) and "extra" not in (match[3] or "")]
    return {match[1].lower().replace("_", "-"): match[2] for match in found}


def check_versions() -> Iterator[Finding]:
    """Python, and every pinned package; a build suffix (2.13.0+cu126) is the same version."""
    if sys.version_info < OLDEST:
        yield Finding("python", "failed", f"Python {platform.python_version()}", "use Python 3.11 or newer")
    wanted = pins(metadata.requires("tune-accent") or [])
    yield judged(wanted, packages())


def judged(wanted: Mapping[str, str], installed: Mapping[str, str]) -> Finding:
    """One finding on all pins: a missing package or another version of one that decides figures fails, another version of any other warns."""
    if not wanted:
        return Finding(
            "versions", "warning", "the package's metadata hold no pins: it is not installed from its pyproject.toml", INSTALL
        )
    off = {name: installed.get(name) for name, version in wanted.items() if _release(installed.get(name)) != version}
    if not off:
        return Finding("versions", "ok", f"Python {platform.python_version()} and all {len(wanted)} pinned packages")
    told = ", ".join(f"{name} {version or 'missing'} (pinned {wanted[name]})" for name, version in sorted(off.items()))
    grave = any(version is None or name in DECISIVE or name == "ray" for name, version in off.items())
    return Finding("versions", "failed" if grave else "warning", told, INSTALL)


def _release(version: str | None) -> str | None:
    return version if version is None else version.partition("+")[0]


def check_torchaudio() -> Iterator[Finding]:
    """Whether `qwen_tts` imports, and with which torchaudio."""
    from tune_accent.models.qwen_import import import_qwen_tts

    try:
        import_qwen_tts()
    except ModelError as error:
        yield Finding("torchaudio", "failed", error.what, error.fix)
        return
    version = packages().get("torchaudio", "?")
    real = getattr(sys.modules.get("torchaudio._extension"), "__file__", None) is not None
    if real:
        yield Finding("torchaudio", "ok", f"torchaudio {version} with its extension; qwen_tts imports")
    else:
        how = "its compiled extension does not load beside this torch; only the 25 Hz tokenizer would need it"
        yield Finding("torchaudio", "ok", f"torchaudio {version}, pure-Python parts only ({how}); qwen_tts imports")
