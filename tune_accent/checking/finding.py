"""What a check says, and how checks run: one after the other, whatever the one before found."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tune_accent.base.errors import TrialFailure, UserError

Status = Literal["ok", "warning", "failed", "skipped"]
BUG = "this is not expected: please report it with the traceback below"


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        name: of what was looked at.
        status: `failed` keeps a search from running or makes it wrong; `warning` does not, but should be known.
        found: in words.
        fix: what to do about it.
        trace: traceback of an error that no check expects.
    """

    name: str
    status: Status
    found: str
    fix: str | None = None
    trace: str | None = None


class Skip(Exception):
    """Raised by a check that cannot be made: the reason in words."""


@dataclass(frozen=True)
class Check:
    """A question: `look` yields its findings, or raises `Skip` or any error, which becomes a finding under `name`."""

    name: str
    look: Callable[[], Iterable[Finding]]


def findings(checks: Iterable[Check]) -> Iterator[Finding]:
    """Carry out every check, in order; one that fails, even by a bug, hides no other."""
    for check in checks:
        try:
            yield from check.look()
        except Skip as reason:
            yield Finding(check.name, "skipped", str(reason))
        except UserError as error:
            yield Finding(check.name, "failed", f"{error.where}: {error.what}" if error.where else error.what, error.fix)
        except TrialFailure as failure:
            yield Finding(check.name, "failed", f"{failure.state}: {failure}")
        except Exception as error:
            yield Finding(check.name, "failed", f"{type(error).__name__}: {error}", BUG, traceback.format_exc())
