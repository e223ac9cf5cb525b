"""What a paper run keeps beside the memo, as checked JSON: enough to make every table again without training or hearing anything.

<root>/paper/run.json             the sections `paper` and `record` that it ran with, and the command lines
<root>/paper/reproduction.json    written by reproduce.py
<root>/paper/control.json         what generated speech came to; its rows are in control.csv too
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, sha256_json, write_json
from tune_accent.config.schema import Experiment, Paper, Record
from tune_accent.evaluation import Figure
from tune_accent.paper.results import ControlResults, Reproduction

RUN, REPRODUCTION, CONTROL = "run.json", "reproduction.json", "control.json"
T = TypeVar("T")


@dataclass(frozen=True)
class RunRecord:
    """What a paper run was asked for.

    Attributes:
        paper, record: sections of the config, as they were when it began.
        commands: command lines of the search and of the paper run.
    """

    paper: Paper
    record: Record
    commands: tuple[str, ...]

    def applied(self, experiment: Experiment) -> Experiment:
        """The experiment of the search with these sections in place."""
        return experiment.model_copy(update={"paper": self.paper, "record": self.record})


def write_run(folder: Path, run: RunRecord) -> None:
    """Write run.json."""
    sections = {"paper": run.paper.model_dump(mode="json"), "record": run.record.model_dump(mode="json")}
    _write(folder / RUN, {**sections, "commands": list(run.commands)})


def read_run(folder: Path) -> RunRecord | None:
    """run.json; None where there is none. `DataError` where it was edited."""

    def build(content: Mapping[str, Any]) -> RunRecord:
        paper = Paper.model_validate(content["paper"], strict=False)
        return RunRecord(paper, Record.model_validate(content["record"], strict=False), tuple(content["commands"]))

    return _read(folder / RUN, build)


def read_reproduction(folder: Path) -> Reproduction | None:
    """reproduction.json; None where there is none. `DataError` where it was edited."""
    return _read(folder / REPRODUCTION, lambda content: Reproduction(**content))


def write_control(folder: Path, control: ControlResults, identity: str) -> None:
    """Write control.json; `identity` says what it was measured on."""
    figures = {name: _plain(getattr(control, name)) for name in ("figures", "hidden")}
    _write(folder / CONTROL, {**asdict(control), **figures, "probe": control.probe.to_dict(), "identity": identity})


def control_identity(folder: Path) -> str | None:
    """What control.json was measured on; None where there is none. `DataError` where it was edited."""
    return _read(folder / CONTROL, lambda content: str(content["identity"]))


def read_control(folder: Path) -> ControlResults | None:
    """control.json; None where there is none. `DataError` where it was edited."""

    def build(content: Mapping[str, Any]) -> ControlResults:
        return ControlResults(
            rows=tuple(content["rows"]),
            accents=tuple(content["accents"]),
            matrix=tuple(tuple(row) for row in content["matrix"]),
            figures=_figures(content["figures"]),
            hidden=_figures(content["hidden"]),
            probe=Figure.from_dict(content["probe"]),
            note=content["note"],
        )

    return _read(folder / CONTROL, build)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_json(path, {**content, "sha256": sha256_json(dict(content))})


def _read(path: Path, build: Callable[[Mapping[str, Any]], T]) -> T | None:
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    try:
        whole = content.pop("sha256") == sha256_json(content)
        if whole:
            return build(content)
    except (AttributeError, KeyError, TypeError, ValueError, ValidationError):
        pass
    raise DataError("the file was edited, or is of another version", str(path), "remove it: the same command makes it again")


def _plain(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: figure.to_dict() for name, figure in figures.items()}


def _figures(plain: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    return {name: Figure.from_dict(figure) for name, figure in plain.items()}
