"""The whole error taxonomy: a user's mistake and a bug are different types and end differently.

`UserError` (exit code 2) carries what happened, where, and what to do; entries print it without a traceback.
`TrialFailure` ends one trial and never the search. Everything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class TuneAccentError(Exception):
    """Root of every error that tune_accent raises on purpose."""


class UserError(TuneAccentError):
    """A mistake of the person who ran the command.

    Args:
        what: one sentence that says what is wrong.
        where: the file, line, key or row concerned.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.fix:
            lines.append(f"  → {self.fix}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Problem:
    """One fault of a file: `file:line: key: message` and, where we know one, a hint."""

    file: str
    line: int | None
    key: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [place, self.key, self.message] if self.key else [place, self.message]
        text = ": ".join(parts)
        return visible(f"{text}\n  → {self.hint}" if self.hint else text)


def visible(text: str) -> str:
    """`text` with control and other unprintable characters escaped: what a file holds must not act on the terminal."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


class ConfigError(UserError):
    """Everything that is wrong with a configuration or space file, all problems at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class DataError(UserError):
    """A corpus, manifest, split or audio file breaks a rule."""


class MissingDependency(UserError):
    """An optional extra is not installed; `fix` names the install command."""


class ModelError(UserError):
    """A backbone cannot be loaded, or it is not a model that can be searched."""


class FolderInUse(UserError):
    """Another process holds the lock of a results or data folder."""


class StorageError(UserError):
    """The disk refuses: full, read-only, not allowed, or broken. What was whole before still is; the same command continues once it is mended."""


class SearchChanged(UserError):
    """A results folder belongs to another spec, data set or library version."""


class TrialFailure(TuneAccentError):
    """Ends one trial with a named state, never the search."""

    state = "CRASHED"


class Diverged(TrialFailure):
    """Loss, gradient or metric is NaN or infinite.

    Args:
        what: the quantity that is not finite.
        step: the optimizer step at which it was seen.
        grad_norm: the last finite gradient norm before clipping, or None.
    """

    state = "DIVERGED"

    def __init__(self, what: str, step: int, grad_norm: float | None) -> None:
        self.what, self.step, self.grad_norm = what, step, grad_norm
        super().__init__(what, step, grad_norm)

    def __str__(self) -> str:
        last = "none" if self.grad_norm is None else f"{self.grad_norm:.4g}"
        return f"{self.what} is not finite at step {self.step} (last gradient norm {last})"


class OutOfMemory(TrialFailure):
    """The trial does not fit into the memory of its device."""

    state = "OOM"


class TrialTimeout(TrialFailure):
    """An epoch took longer than `tuning.epoch_timeout_s`."""

    state = "TIMEOUT"
