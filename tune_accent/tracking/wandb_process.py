"""W&B's client in a process of its own: reads one message a line from stdin, ends when stdin does.

`tracking/wandb_link.py` starts it. The first message is a `Hello`; then `run`, `epoch`, `end` and `best`, each with the id of its run.
Trouble is one line on stdout. Does *not* cover a client that hangs: who started this process ends it.
"""

from __future__ import annotations

import json
import os
import sys
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from tune_accent.base.errors import DataError
from tune_accent.base.files import make_folder, read_json, remove, write_bytes, write_json
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.tracking.gpu import GpuUse
from tune_accent.tracking.provenance import without_secrets

LEDGER = "runs.json"
INIT_S, FINISH_S = 15.0, 20.0  # patience with a network, at the beginning and at the end of a run


@dataclass(frozen=True)
class Hello:
    """What all runs share.

    Attributes:
        mode: offline or online; None: the environment decides (`WANDB_MODE`), as for a run that a sweep's agent started.
        folder: where the client writes (`<folder>/wandb/`); None: where the environment says, else the current folder.
        project, entity, group: None: the environment or the account decides.
        tags: of every run.
        experiment: JSON text of the experiment that each run's parameters are put into.
        config: entries of every run's configuration.
        sweep: the environment names the run (`WANDB_RUN_ID`), and its sweep.
        whole: every `run` message brings all earlier epochs, so that an offline run which is there is written anew.
    """

    mode: Literal["offline", "online"] | None
    folder: str | None
    project: str | None
    entity: str | None
    group: str | None
    tags: tuple[str, ...]
    experiment: str
    config: Mapping[str, Any]
    sweep: bool = False
    whole: bool = True


@dataclass
class Runs:
    """The runs that are open, and the ledger of those that are finished.

    Args:
        hello: settings of all of them.
        say: prints a line of trouble.
    """

    hello: Hello
    say: IO[str]
    open: dict[str, Any] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=dict)
    used: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    gpu: GpuUse = field(default_factory=GpuUse)

    def __post_init__(self) -> None:
        self.mode, self.experiment = self.hello.mode, Experiment.model_validate_json(self.hello.experiment)

    def take(self, message: Mapping[str, Any]) -> None:
        """Do what a message says."""
        steps: dict[str, Callable[..., None]] = {"run": self.run, "epoch": self.epoch, "end": self.end, "best": self.best}
        steps[message["do"]](**{name: value for name, value in message.items() if name != "do"})

    def run(self, id: str, name: str, config: Mapping[str, Any], params: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
        """Begin a run, or continue it: every row that W&B does not have yet."""
        self.lost.discard(id)
        spec = resolve(self.experiment, params).model_dump(mode="json")
        whole = {**params, **config, **self.hello.config, "experiment": spec}
        try:
            self.open[id] = self._init(id, name, whole)
        except Exception as error:
            if self.mode != "online":
                raise
            self._go_offline(_short(error))
            self.open[id] = self._init(id, name, whole)
        for epoch, row in enumerate(rows, 1):
            self._log(id, epoch, row)

    def epoch(self, id: str, epoch: int, row: dict[str, Any]) -> None:
        """One epoch that was just trained."""
        self.used[id, epoch] = self.gpu.take()
        if id not in self.lost:
            self._log(id, epoch, row)

    def end(self, id: str, state: str, failed: bool) -> None:
        """Finish a run, and note that in the ledger."""
        if id in self.lost:
            return
        run = self.open.pop(id)
        run.summary["state"] = state
        run.finish(exit_code=int(failed))
        if self.hello.folder is not None:
            self._note(id, {"epochs": self.epochs[id], "state": state})

    def best(self, id: str, name: str, folder: str, figures: Mapping[str, str], version: str) -> None:
        """What the run of a search's best trial has beside its epochs; `version` goes into the ledger.

        Args:
            id: of an open run.
            name: of the artifact, a model with the alias `best`.
            folder: an adapter folder, which is the artifact, whole.
            figures: of the search: PNG files in Base64 by name, shown as `figures/<name>`.
        """
        import wandb

        if id in self.lost:
            return
        found = wandb.Artifact(name, type="model")
        for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            found.add_file(str(file), name=file.relative_to(folder).as_posix(), skip_cache=True)
        run = self.open[id]
        run.log_artifact(found, aliases=["best"])
        shown = {}
        for tag, png in figures.items():
            write_bytes(file := Path(str(self.hello.folder)) / "wandb" / "figures" / f"{tag}.png", b64decode(png))
            shown[f"figures/{tag}"] = wandb.Image(str(file))
        run.log(shown, step=max(run.step, self.epochs[id]))  # in the row of the last epoch, unless W&B has that already
        self._note(id, {"best": version})

    def close(self) -> None:
        """Finish what is still open: its search was interrupted."""
        for id in list(self.open):
            self.end(id, "RUNNING", True)
        self.gpu.close()

    def _go_offline(self, why: str) -> None:
        """No network, or no key: runs are written to the disk from now on. Those that are open are left to the next launch, which finds them
        missing in the ledger; W&B's service must go, since it holds the ids of runs that could not begin."""
        import wandb

        wandb.teardown(exit_code=1)
        self.lost |= set(self.open)
        self.open.clear()
        self.mode = "offline"
        self._trouble(f"not online ({why}); runs are written to {self.hello.folder or '.'}/wandb, for `wandb sync`")

    def _log(self, id: str, epoch: int, row: Mapping[str, Any]) -> None:
        run = self.open[id]
        if epoch >= run.step:  # a resumed run has the earlier ones
            run.log({"epoch": epoch, **row, **self.used.get((id, epoch), {})}, step=epoch)
        self.epochs[id] = epoch

    def _init(self, id: str, name: str, config: Mapping[str, Any]) -> Any:
        import wandb

        self.epochs[id] = 0
        if self.hello.sweep:
            return wandb.init(config=dict(config), dir=self.hello.folder, reinit="create_new", settings=self._settings())
        rewritten = self.mode == "offline" and self.hello.whole
        if rewritten:
            self._remove(id)
        return wandb.init(
            id=id,
            name=name,
            config=dict(config),
            dir=self.hello.folder,
            mode=self.mode,
            project=self.hello.project,
            entity=self.hello.entity,
            group=self.hello.group,
            tags=self.hello.tags,
            resume=None if rewritten else "allow",
            reinit="create_new",
            settings=self._settings(),
        )

    def _settings(self) -> Any:
        """Nothing that costs time, prints, interrupts, or records the machine and the command line."""
        import wandb

        return wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            git_commit=self.hello.config.get("git_commit"),
            init_timeout=INIT_S,
            finish_timeout=FINISH_S,
            stop_fn=_ignore,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )

    def _remove(self, id: str) -> None:
        """An earlier part of an offline run: the whole of it is written again."""
        for folder in Path(str(self.hello.folder)).glob(f"wandb/offline-run-*-{id}"):
            remove(folder)

    def _note(self, id: str, entry: Mapping[str, Any]) -> None:
        path = Path(str(self.hello.folder)) / "wandb" / LEDGER
        known = read_ledger(path)
        write_json(path, {**known, id: {**known.get(id, {}), **entry}})

    def _trouble(self, what: str) -> None:
        self.say.write(without_secrets(what).replace("\n", " ") + "\n")
        self.say.flush()


def read_ledger(path: Path) -> dict[str, dict[str, Any]]:
    """Run id → `epochs`, `state` and, if it was the best, `best`, of the runs that were finished; empty where it is missing or damaged."""
    try:
        found = read_json(path)
    except (DataError, FileNotFoundError):
        return {}
    return {id: entry for id, entry in found.items() if isinstance(entry, dict)} if isinstance(found, dict) else {}


def _ignore() -> None:
    """A run that is stopped in the browser does not stop the search."""


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _serve(lines: Iterable[str], say: IO[str]) -> None:
    feed = iter(lines)
    hello = json.loads(next(feed))
    if hello["folder"] is not None:
        make_folder(Path(hello["folder"]) / "wandb")
        for name in ("CACHE", "DATA"):  # nothing of a run goes to the home folder
            os.environ[f"WANDB_{name}_DIR"] = str(Path(hello["folder"]) / "wandb" / name.lower())
    runs = Runs(Hello(**{**hello, "tags": tuple(hello["tags"])}), say)
    for line in feed:
        runs.take(json.loads(line))
    runs.close()


def main() -> int:
    """Serve stdin; 1 after trouble, which is one line on stdout."""
    say, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no trouble
    try:
        _serve(sys.stdin, say)
    except Exception as error:  # whatever the client raises: it ends here, and is said
        say.write(without_secrets(f"it stopped ({_short(error)})").replace("\n", " ") + "\n")
        say.flush()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
