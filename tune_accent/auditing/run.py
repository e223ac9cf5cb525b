"""One audit: extract the features, evaluate every set, conclude. The same call again computes only what is not there yet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from tune_accent.auditing.controls import given_differences, selectivity_figures, strength_sweep
from tune_accent.auditing.data_set import confound_words, small_data, text_figures, transcripts, voice_figures
from tune_accent.auditing.decide import Recommendation, recommend
from tune_accent.auditing.evaluated import SetResult, evaluated, search_layer_of
from tune_accent.auditing.features import FeatureSet, feature_sets
from tune_accent.auditing.results import Records, claim, refuse_foreign
from tune_accent.base.files import folder_lock, remove_torn, set_aside
from tune_accent.base.log import log_to
from tune_accent.base.progress import Progress, bars
from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Audit as Options
from tune_accent.config.schema import Experiment
from tune_accent.data.prepared import Prepared, open_prepared
from tune_accent.evaluation import Figure, Protocol, Verdict
from tune_accent.training.preparation import ensure_prepared
from tune_accent.training.protocol import protocol

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
PERMUTATIONS = 999
IN_USE = "wait for it, stop it, or use another --out"
EVALUATING = "evaluating"
Extract = Callable[
    [Experiment, Options, Path, "torch.device | str", Progress],
    tuple[pd.DataFrame, Sequence[FeatureSet]],
]


@dataclass(frozen=True)
class Request:
    """What a person asked for: the experiment, the folder of the audit, and whether to move an existing one aside."""

    experiment: Experiment
    root: Path
    fresh: bool = False


@dataclass(frozen=True)
class Audit:
    """Everything that an audit found.

    Attributes:
        request: what was asked for.
        protocol: how it was measured.
        results: of every feature set, in the order of the config.
        controls: what stands beside the layers, by what it is: S → A, text alone; of the recommended layer, selectivity and S given.
        sweep: C → figures of the recommended layer with every probe at that strength.
        limits: what the data set lacks, and its confounds, a sentence each.
        recommendation: the layer to search with; None where no set is what a search reads.
        verdict: on that layer.
        computed: how many records this call computed.
    """

    request: Request
    protocol: Protocol
    results: tuple[SetResult, ...]
    controls: Mapping[str, Figure]
    sweep: Mapping[float, Mapping[str, Figure]]
    limits: tuple[str, ...]
    recommendation: Recommendation | None
    verdict: Verdict | None
    computed: int

    @property
    def chosen(self) -> SetResult | None:
        """The set of the recommended layer."""
        return _chosen(self.results, self.recommendation)


def run_audit(request: Request, extract: Extract = feature_sets) -> Audit:
    """Run or continue an audit.

    Args:
        request: what to audit, and where to.
        extract: gives the utterance table and the feature sets.

    Raises:
        UserError: data, config or folder do not allow it; nothing is lost.
    """
    from tune_accent.training.device import default_device

    spec, root = request.experiment, request.root
    if not request.fresh:
        refuse_foreign(root)
    data = ensure_prepared(spec, show=True)
    if request.fresh and root.exists():
        with folder_lock(root, IN_USE):
            sys.stderr.write(f"{root} is now {set_aside(root)}\n")
    with folder_lock(root, IN_USE):
        claim(root, spec, data)
        remove_torn(root)
        log_to(root / "logs" / "audit.log")
        with bars() as progress:
            table, sets = extract(spec, spec.audit, Path(spec.data.root) / "features", default_device(), progress)
            speech = open_prepared(Path(spec.data.root) / "prepared" / data.cache)
            measured = protocol(spec, speech.gate_accents, speech.held_fold, permutations=PERMUTATIONS)
            records = Records(root, table, measured, derive_seed(spec.seed, "probes"))
            return _audit(request, sets, speech, records, progress)


def _audit(request: Request, sets: Sequence[FeatureSet], speech: Prepared, records: Records, progress: Progress) -> Audit:
    """Measure what has no record, then conclude."""
    spec = request.experiment
    shown = _Steps(records, progress, len(sets) + 4)
    results = [shown.after(evaluated(one, search_layer_of(one, spec), records)) for one in sets]
    texts = transcripts(Path(spec.data.root))
    controls = shown.after(voice_figures(speech, records)) | shown.after(text_figures(texts, records))
    recommendation = recommend(results, spec.score, records.protocol.bootstrap, derive_seed(spec.seed, "audit ties"))
    chosen, sweep, verdict = _chosen(results, recommendation), {}, None
    if chosen is not None and chosen.evaluation is not None:
        features = next(one for one, found in zip(sets, results, strict=True) if found is chosen).load()
        controls |= shown.after(selectivity_figures(features, records)) | given_differences(chosen, results, records)
        sweep = strength_sweep(features, records)
        verdict = chosen.evaluation.gate(spec.gate)
    shown.end()
    limits = (*small_data(speech.table, texts), *confound_words(spec.data))
    return Audit(request, records.protocol, tuple(results), controls, sweep, limits, recommendation, verdict, records.computed)


class _Steps:
    """Tells `progress` of every step once there is something to compute."""

    def __init__(self, records: Records, progress: Progress, total: int) -> None:
        self.records, self.progress, self.total, self.done = records, progress, total, 0

    def after(self, found: T) -> T:
        """One more step is done; gives back what it found."""
        self.done += 1
        if self.records.computed:
            self.progress(EVALUATING, self.done, self.total)
        return found

    def end(self) -> None:
        """All steps are done."""
        if self.records.computed:
            self.progress(EVALUATING, self.total, self.total)


def _chosen(results: Sequence[SetResult], recommendation: Recommendation | None) -> SetResult | None:
    if recommendation is None:
        return None
    return next(one for one in results if one.is_candidate and one.layer == recommendation.layer)
