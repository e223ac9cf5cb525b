"""The keys of a W&B sweep file beside `parameters`: a closed list, each read, left to W&B, or refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from tune_accent.base.errors import Problem
from tune_accent.config.document import Document
from tune_accent.config.words import did_you_mean, nearest, shown

METRICS: Mapping[str, str] = {
    "score": "maximize",
    "accent_f1": "maximize",
    "accent_balanced_accuracy": "maximize",
    "speaker_leakage": "minimize",
    "speaker_leakage_unseen": "minimize",
    "speaker_leakage_seen": "minimize",
    "text_drop": "minimize",
    "val_loss": "minimize",
}
METHODS = ("bayes", "random", "grid")
PROGRAM = "tune_accent.trial"

_READ = ("method", "metric", "run_cap", "early_terminate", "parameters", "name", "program", "command")
_W_AND_B_ONLY = ("apiVersion", "kind", "controller", "description", "job", "image_uri", "entity", "project")
_REFUSED = {
    "metrics": "several metrics are not supported: the sampler sees one scalar; use `metric`",
    "scheduler": "W&B's scheduler is not supported; set `tuning.sampler` in the experiment's file",
}


def read_settings(document: Document, problems: list[Problem], notes: list[Problem]) -> dict[str, Any]:
    """The fields of a `LoadedSpace` that stand beside `parameters`; problems and notes are appended."""
    reader = _Reader(document, problems, notes)
    reader.known_keys()
    reader.starts_our_trial()
    metric, goal = reader.metric()
    return {
        "method": reader.method(),
        "metric": metric,
        "goal": goal,
        "run_cap": reader.whole(document.data, "run_cap"),
        "name": reader.name(),
        **reader.early_terminate(),
    }


class _Reader:
    """One method per key; each returns a usable value even where it has added a problem."""

    def __init__(self, document: Document, problems: list[Problem], notes: list[Problem]) -> None:
        self.document, self.data, self.problems, self.notes = document, document.data, problems, notes

    def add(self, key: str, message: str, hint: str | None = None) -> None:
        """One problem at the line of `key`."""
        self.problems.append(self.document.problem(key, message, hint))

    def known_keys(self) -> None:
        """Unknown and refused top-level keys."""
        known = (*_READ, *_W_AND_B_ONLY)
        for key in self.data:
            if key in _REFUSED:
                self.add(key, _REFUSED[key])
            elif key not in known:
                self.add(key, "unknown key", did_you_mean(key, known, "the keys here are"))

    def method(self) -> str:
        """bayes, random or grid."""
        method = self.data.get("method")
        if method not in METHODS:
            near = nearest(str(method), METHODS)
            self.add(
                "method", f"must be one of {', '.join(METHODS)}; got {shown(method)}", f"did you mean `{near}`?" if near else None
            )
        return str(method)

    def name(self) -> str | None:
        """The sweep's name."""
        name = self.data.get("name")
        if name is not None and (not isinstance(name, str) or not name):
            self.add("name", f"must be text, got {shown(name)}")
        return name if isinstance(name, str) else None

    def metric(self) -> tuple[str, str]:
        """Name and goal; `score`, maximize where the file has none."""
        metric = self.data.get("metric", {"name": "score", "goal": "maximize"})
        if not isinstance(metric, dict):
            self.add("metric", f"must be a section with `name` and `goal`, got {shown(metric)}")
            return "score", "maximize"
        self._closed("metric", metric, ("name", "goal"), ("impute", "impute_while_running"))
        name, goal = metric.get("name"), metric.get("goal")
        if not isinstance(name, str) or name not in METRICS:
            self.add("metric.name", f"trials report no metric {shown(name)}", did_you_mean(str(name), METRICS, "they report"))
        elif goal is None:
            self.add("metric", "needs a `goal` (W&B's default is minimize)", f"add `goal: {METRICS[name]}`")
        elif goal != METRICS[name]:
            self.add("metric.goal", f"must be {METRICS[name]} for {name}, got {shown(goal)}")
        return str(name), str(goal)

    def early_terminate(self) -> dict[str, int | None]:
        """min_iter, eta and max_iter of ASHA; min_iter None without early termination."""
        nothing: dict[str, int | None] = {"min_iter": None, "eta": 3, "max_iter": None}
        spec = self.data.get("early_terminate")
        if "early_terminate" not in self.data:
            return nothing
        if not isinstance(spec, dict) or spec.get("type") != "hyperband":
            found = spec.get("type") if isinstance(spec, dict) else spec
            self.add(
                "early_terminate", f"must have `type: hyperband`, got {shown(found)}", "remove the key for no early termination"
            )
            return nothing
        self._closed("early_terminate", spec, ("type", "min_iter", "eta", "s", "max_iter"), ("strict",))
        eta = self.whole(spec, "eta", "early_terminate.", least=2) or 3
        min_iter, max_iter, s = (self.whole(spec, key, "early_terminate.") for key in ("min_iter", "max_iter", "s"))
        return {"min_iter": self._grace(spec, min_iter, max_iter, s, eta), "eta": eta, "max_iter": max_iter}

    def _grace(self, spec: Mapping[str, Any], min_iter: int | None, max_iter: int | None, s: int | None, eta: int) -> int | None:
        """W&B's two ways to say it: min_iter, or s rungs counted down from max_iter."""
        if "min_iter" in spec:
            if "s" in spec or "max_iter" in spec:
                self.add(
                    "early_terminate", "has `min_iter` beside `s` or `max_iter`: W&B reads only one of them", "keep `min_iter`"
                )
            return min_iter
        if max_iter is None or s is None:
            if "max_iter" not in spec or "s" not in spec:
                self.add("early_terminate", "needs `min_iter`", "add `min_iter: 3`, the epochs that every trial gets")
            return None
        rungs: int = eta ** min(s, 64)
        grace, rest = divmod(max_iter, rungs)
        if rest or grace < 1:
            self.add(
                "early_terminate.s", f"max_iter {max_iter} cannot be divided by eta {eta} {s} times", "write `min_iter` instead"
            )
        return grace

    def whole(self, spec: Mapping[str, Any], key: str, prefix: str = "", least: int = 1) -> int | None:
        """A whole number of at least `least`, or None where it is not given (or is wrong)."""
        if key not in spec:
            return None
        value: object = spec[key]
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        self.add(prefix + key, f"must be a whole number of at least {least}, got {shown(value)}")
        return None

    def _closed(self, section: str, spec: Mapping[str, Any], read: tuple[str, ...], ignored: tuple[str, ...]) -> None:
        for key in spec:
            if key == "target":
                self.add(f"{section}.target", "is not supported: a search runs all its trials", "remove it")
            elif key in ignored:
                self.notes.append(self.document.problem(f"{section}.{key}", "only W&B reads this"))
            elif key not in read:
                self.add(f"{section}.{key}", "unknown key", did_you_mean(key, read, "the keys here are"))

    def starts_our_trial(self) -> None:
        """`command` and `program`, where present, must start the trial that both engines run."""
        program, command = self.data.get("program"), self.data.get("command")
        as_file = PROGRAM.replace(".", "/") + ".py"
        if program is not None and program not in (PROGRAM, as_file):
            self.add("program", f"must be {as_file}, got {shown(program)}", "both engines run the same trial")
        if "command" not in self.data:
            if program == PROGRAM:
                self.add("program", "without a `command`, W&B runs it as a file", f"write `program: {as_file}`")
            return
        words = [program if word == "${program}" else word for word in command] if isinstance(command, list) else []
        modules = [after for word, after in pairwise(words) if word == "-m"]
        if modules != [PROGRAM] and as_file not in words:
            self.add("command", f"must start `python -m {PROGRAM}`", _COMMAND_HINT)
        elif "${args}" not in words:
            self.add("command", "must pass the parameters on with `${args}`", _COMMAND_HINT)


_COMMAND_HINT = 'write `command: ["${env}", python, -m, tune_accent.trial, "${args}"]`, one word per item'
