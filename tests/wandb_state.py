"""What tests/wandb_server.py keeps: runs and sweeps as W&B has them, and the faults that a test asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

KEY = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e7cafe"  # 40 characters, as W&B's keys had
ENTITY, PROJECT = "team", "accent"
Variables = Mapping[str, Any]


@dataclass
class Run:
    """A run as the server has it.

    Attributes:
        history: JSON texts by line, as the file stream brings them.
        parquet: the history's beginning, as files that the server has exported.
        uploads: files of the run by name.
    """

    name: str
    state: str = "running"
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    display_name: str | None = None
    group: str | None = None
    sweep: str | None = None
    project: str = PROJECT
    tags: list[str] = field(default_factory=list)
    exit_code: int | None = None
    parquet: tuple[bytes, ...] = ()
    uploads: dict[str, bytes] = field(default_factory=dict)
    inserted: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """The history, read."""
        return [json.loads(line) for line in self.history]


@dataclass
class Sweep:
    """A sweep: its file as it was sent, and what its agents are told: a list of commands per heartbeat, then nothing."""

    config: str
    project: str = PROJECT
    commands: list[list[dict[str, Any]]] = field(default_factory=list)

    def start(self, run: str, **values: Any) -> dict[str, Any]:
        """The command that lets an agent start a run with these parameters."""
        args = {name: {"value": value} for name, value in values.items()}
        return {"type": "run", "run_id": run, "program": yaml.safe_load(self.config)["program"], "args": args}


@dataclass(frozen=True)
class Fault:
    """What an operation meets after `after` good answers: an HTTP status, a GraphQL error, or no answer at all; `times` times, or always."""

    what: int | Literal["error", "hang"]
    after: int = 0
    times: int | None = None


class Refused(Exception):
    """A request that the server refuses.

    Args:
        status: of HTTP.
        message: what the body says.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def viewer(asked: Variables) -> Any:
    """The account that the key belongs to."""
    return {
        "viewer": {"id": "u", "entity": ENTITY, "username": "u", "email": "u@localhost", "flags": "{}", "teams": {"edges": []}}
    }


def project(name: str) -> dict[str, Any]:
    """A project of the account."""
    return {"id": "p", "name": name, "entity": {"id": "e", "name": ENTITY}}


def public(run: Run, whole: bool = True) -> dict[str, Any]:
    """A run as queries show it; lists show the light part only."""
    rows = run.rows()
    light: dict[str, Any] = {
        "id": f"id-{run.name}",
        "name": run.name,
        "displayName": run.display_name,
        "state": run.state,
        "projectId": "1",
    }
    light |= {"tags": run.tags, "group": run.group, "sweepName": run.sweep, "user": {"name": "u", "username": "u"}}
    light |= {"createdAt": "2026-01-01T00:00:00", "historyLineCount": len(rows), "description": None, "notes": None}
    if not whole:
        return light
    steps = [row["_step"] for row in rows] + [run.summary.get("_step", -1)]
    heavy: dict[str, Any] = {"config": json.dumps({key: {"value": value} for key, value in run.config.items()})}
    heavy |= {"summaryMetrics": json.dumps(run.summary), "systemMetrics": "{}"}
    return {**light, **heavy, "historyKeys": {"lastStep": max(steps)}}
