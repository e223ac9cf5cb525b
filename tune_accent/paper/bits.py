"""Whether two trainings of one configuration are equal to the bit, and if not, where they part first and why that may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_accent.base.checksums import check_folder
from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, sha256_json
from tune_accent.config.load import resolve
from tune_accent.config.schema import Experiment
from tune_accent.paper.environment import CONTINUED, NOTHING_DIFFERS, differing_facts, facts, what_changed
from tune_accent.paper.hashes import search_spec
from tune_accent.paper.leaves import changed, short
from tune_accent.paper.repeated import failure, records, tensor_hashes
from tune_accent.paper.results import Reproduction
from tune_accent.tuning.core import Trial
from tune_accent.tuning.memo import FolderMemo

SECTIONS = ("seed", "data", "model", "objective", "training", "evaluation", "score")  # that decide the figures of a trial


@dataclass(frozen=True)
class Trained:
    """One training, as far as it is on the disk.

    Attributes:
        name: "run 1", "run 2" or "search".
        metrics: of the epochs 1…n.
        tensors: by epoch, part and name their SHA-256; epochs whose weights are not kept are absent.
        facts: by epoch, what its environment record says (`environment.facts`).
        device: what it ran on, where that is known.
        ended: why it ended early.
        damage: what the checksums of its checkpoints say.
        settings: what of its experiment decides figures, where it may be another one than that of the runs.
        continued: whether it was continued with other versions of libraries.
    """

    name: str
    metrics: Sequence[Mapping[str, Any]]
    tensors: Mapping[int, Mapping[str, Mapping[str, str]]]
    facts: Mapping[int, Mapping[str, str]]
    device: str = ""
    ended: str | None = None
    damage: Sequence[str] = field(default=())
    settings: Mapping[str, Any] = field(default_factory=dict)
    continued: bool = False

    def hashes(self) -> dict[str, str]:
        """SHA-256 of adapter and heads after the last epoch, where they are kept, and of the metrics of all epochs."""
        last = self.tensors.get(len(self.metrics), {})
        return {
            **{part: sha256_json(dict(tensors)) for part, tensors in last.items()},
            "metrics": sha256_json([dict(metrics) for metrics in self.metrics]),
        }


@dataclass(frozen=True)
class Parting:
    """Where two trainings part: the epoch, and in words the first tensor or figure."""

    epoch: int
    what: str


def run_of(name: str, folder: Path, key: str) -> Trained:
    """A run of the reproduction, from its records."""
    known = records(folder, key)
    numbered = dict(enumerate(known, 1))
    return Trained(
        name,
        [record["metrics"] for record in known],
        {epoch: record["tensors"] for epoch, record in numbered.items()},
        {epoch: record["facts"] for epoch, record in numbered.items()},
        known[-1]["device"] if known else "",
        failure(folder, key),
    )


def search_of(root: Path, trial: Trial) -> Trained:
    """The search's own trial: metrics of all epochs from the memo, tensors of the checkpoints that it still has."""
    memo, epochs = FolderMemo(root), range(1, len(trial.reports) + 1)
    tensors: dict[int, Mapping[str, Mapping[str, str]]] = {}
    damage = []
    for epoch in (epoch for epoch in epochs if memo.checkpoint(trial.key, epoch).is_dir()):
        folder = memo.checkpoint(trial.key, epoch)
        try:
            check_folder(folder)
        except DataError as error:
            damage.append(f"{folder.relative_to(root).as_posix()}: {error.what}")
        try:
            tensors[epoch] = tensor_hashes(folder)
        except DataError as error:
            damage.append(f"{folder.relative_to(root).as_posix()}: {error.what}")
    record = _environment(root)
    spec = resolve(Experiment.model_validate(dict(search_spec(root).experiment)), trial.params)
    return Trained(
        "search",
        trial.reports,
        tensors,
        dict.fromkeys(epochs, facts({**record, "torch": {"threads": spec.training.threads}})),
        damage=damage,
        settings=_settings(spec),
        continued=bool(record.get("continued_from")),
    )


def compare(one: Trained, two: Trained, search: Trained, spec: Experiment) -> Reproduction:
    """The verdict on two runs of `spec` and the search's own trial."""
    apart, from_search = parting(one, two), parting(search, one) if search.metrics else None
    told = [f"{pair}: {found.what}" for pair, found in (("the two runs", apart), ("search and run 1", from_search)) if found]
    complete = len(search.metrics) in search.tensors and not search.damage
    causes = []
    if apart is not None:
        causes.append(_cause(one, two, apart.epoch))
    if from_search is not None:
        causes.append(_search_cause(search, one, from_search.epoch, spec))
    return Reproduction(
        same_twice=apart is None,
        same_as_search=False if from_search is not None else True if complete else None,
        difference="; ".join(told) or None,
        cause="; ".join(dict.fromkeys(causes)) or None,
        hashes={trained.name: trained.hashes() for trained in (one, two, search)},
        device=one.device,
    )


def parting(one: Trained, other: Trained) -> Parting | None:
    """The first epoch in which two trainings differ, and the first tensor or figure in it; tensors are compared where both have kept them."""
    for epoch, (left, right) in enumerate(zip(one.metrics, other.metrics, strict=False), 1):
        for part, name in _tensors(one.tensors.get(epoch), other.tensors.get(epoch)):
            return Parting(epoch, f"epoch {epoch}: the tensor {name} of the {part} differs")
        for key, was, is_now in changed(dict(left), dict(right)):
            return Parting(epoch, f"epoch {epoch}: {key} is {was} in {one.name}, {is_now} in {other.name}")
    common = min(len(one.metrics), len(other.metrics))
    if len(one.metrics) != len(other.metrics) or one.ended != other.ended:
        ends = " and ".join(f"{run.name} ends after epoch {len(run.metrics)}{_why(run)}" for run in (one, other))
        return Parting(common + 1, f"epoch {common + 1}: {ends}")
    return None


def _tensors(
    one: Mapping[str, Mapping[str, str]] | None, other: Mapping[str, Mapping[str, str]] | None
) -> Iterator[tuple[str, str]]:
    """Part and name of the tensors that differ."""
    if one is None or other is None:
        return
    for part in sorted({*one, *other}):
        left, right = one.get(part, {}), other.get(part, {})
        yield from ((part, name) for name in sorted({*left, *right}) if left.get(name) != right.get(name))


def _why(run: Trained) -> str:
    return "" if run.ended is None else f" ({short(run.ended)})"


def _cause(one: Trained, other: Trained, epoch: int) -> str:
    was, is_now = _facts_at(one, epoch), _facts_at(other, epoch)
    return "; ".join(differing_facts(was, is_now)) or NOTHING_DIFFERS


def _search_cause(search: Trained, run: Trained, epoch: int, spec: Experiment) -> str:
    """What is known to be otherwise, the surest first: a damaged file, other settings, another machine or version."""
    settings = what_changed(search.settings, _settings(spec))
    known = [*search.damage, *([settings] if settings else [])]
    if known:
        return "; ".join(known)
    return "; ".join([*([CONTINUED] if search.continued else []), _cause(search, run, epoch)])


def _facts_at(run: Trained, epoch: int) -> Mapping[str, str]:
    """Of that epoch, or of the last one before it."""
    return next((run.facts[number] for number in range(epoch, 0, -1) if number in run.facts), {})


def _environment(root: Path) -> Mapping[str, Any]:
    """Of the machine and versions that the search ran with; empty where the file is lost."""
    try:
        record = read_json(root / "environment.json")
        facts(record)
    except (FileNotFoundError, DataError, KeyError, TypeError, ValueError, AttributeError):
        return {}
    return dict(record)


def _settings(spec: Experiment) -> dict[str, Any]:
    plain = spec.model_dump(mode="json", include=set(SECTIONS))
    plain["data"]["source"].pop("workers", None)
    return plain
