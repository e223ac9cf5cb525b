"""All checks of `doctor`, in the order in which they build on each other: what one opens, the later ones use; what is not there, they skip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tune_accent.checking import cost, data_set, file_system, gpu, smoke, versions, weights
from tune_accent.checking.finding import Check, Finding, Skip, findings
from tune_accent.config.schema import Experiment
from tune_accent.data.manifest import Manifest
from tune_accent.models.shape import shape_of

if TYPE_CHECKING:
    from tune_accent.training.inputs import TrialData

NO_WEIGHTS = "needs the checkpoint, which is not there"
NO_DATA = "needs the corpus, which is not there"
TYPICAL = cost.Corpus(2_000, 5_000, 6.0)  # CORAA-MUPE as the shipped configs take it, where there is no corpus to count


@dataclass
class Examination:
    """What the checks of one experiment have opened so far.

    Attributes:
        spec: the experiment.
        config: its file.
        results: the folder that holds results folders.
        folder: of the checkpoint.
        manifest: of the corpus.
        inputs: of a trial, on the sample where the corpus is large.
        took: the timed steps.
    """

    spec: Experiment
    config: Path
    results: Path
    folder: Path | None = None
    manifest: Manifest | None = None
    inputs: TrialData | None = None
    took: smoke.Smoke | None = None

    def findings(self) -> Iterator[Finding]:
        """Every check, in order; each comes as soon as it is made."""
        return findings(self._checks())

    def _checks(self) -> list[Check]:
        spec, results = self.spec, self.results
        return [
            Check("versions", versions.check_versions),
            Check("torchaudio", versions.check_torchaudio),
            Check("gpu", lambda: gpu.check_gpu(spec)),
            Check("file system", lambda: file_system.check_kind(results)),
            Check("locks", lambda: file_system.check_locks(results)),
            Check("writes", lambda: file_system.check_writes(results)),
            Check("disk", self._space),
            Check("data", self._data),
            Check("splits", lambda: data_set.check_splits(spec, self._corpus())),
            Check("confounds", lambda: data_set.check_confounds(spec, self._corpus())),
            Check("weights", self._weights),
            Check("tokenizer", self._tokenizer),
            Check("codec", lambda: weights.check_codec(spec, self.folder)),
            Check("memory", lambda: gpu.check_memory(self._fetched())),
            Check("codes", self._codes),
            Check("alignment", self._alignment),
            Check("smoke run", self._smoke),
            Check("a full trial", self._cost),
        ]

    def _corpus(self) -> Manifest:
        if self.manifest is None:
            raise Skip(NO_DATA)
        return self.manifest

    def _opened(self) -> TrialData:
        if self.inputs is None:
            raise Skip("needs the checkpoint and the codes of the corpus, which could not be opened")
        return self.inputs

    def _fetched(self) -> Experiment:
        """The experiment, with the folder of a fetched checkpoint in the place of its Hub id."""
        if self.folder is None or self.spec.model.backbone == "tiny":
            return self.spec
        model = self.spec.model.model_copy(update={"backbone": str(self.folder)})
        return self.spec.model_copy(update={"model": model})

    def _space(self) -> Iterator[Finding]:
        search = cost.search_of(self.spec, self.config, shape_of(self._fetched()))
        return file_system.check_space(self.results, search.disk, f"checkpoints of {search.trials} trials")

    def _weights(self) -> Iterator[Finding]:
        if self.spec.model.backbone == "tiny":
            self._corpus()  # the tiny model is built beside it, and no corpus is made in a folder that holds something
        self.folder = weights.weights_folder(self.spec)
        return weights.check_weights(self.folder, self.spec.model.backbone)

    def _tokenizer(self) -> Iterator[Finding]:
        if self.folder is None:
            raise Skip(NO_WEIGHTS)
        return weights.check_tokenizer(self.folder)

    def _data(self) -> Iterator[Finding]:
        self.manifest = data_set.read_data(self.spec, self.config)
        yield data_set.data_finding(self.manifest)

    def _codes(self) -> Iterator[Finding]:
        from tune_accent.training.device import default_device

        manifest = self._corpus()
        if self.folder is None:
            raise Skip(NO_WEIGHTS)
        self.inputs = smoke.open_data(data_set.sampled(self.spec, manifest), default_device())
        return smoke.check_cache(self.inputs)

    def _alignment(self) -> Iterator[Finding]:
        from tune_accent.checking.aligned import check_alignment

        return check_alignment(self.spec, self._opened())

    def _smoke(self) -> Iterator[Finding]:
        self.took, metrics = smoke.run_smoke(self.spec, self._opened())
        return smoke.check_smoke(self.took, metrics, len(self._corpus().rows) > data_set.WHOLE, gpu.room_mb(self.spec))

    def _cost(self) -> Iterator[Finding]:
        shape = shape_of(self._fetched())
        search, accents = cost.search_of(self.spec, self.config, shape), len(self.manifest.accents) if self.manifest else 5
        corpus = _sizes(self.spec, self.manifest) if self.manifest else TYPICAL
        if self.took is not None:
            return cost.timed_cost(self.spec, corpus, self.took, search)
        if shape is None or self.spec.model.backbone == "tiny":
            raise Skip("nothing could be timed, and the backbone is none whose cost can be told from its shape")
        return cost.flops_cost(self.spec, corpus, shape, accents, search)


def _sizes(spec: Experiment, manifest: Manifest) -> cost.Corpus:
    """What a trial trains on and what it evaluates on, from the splits of the whole corpus."""
    from tune_accent.data.corpus import keep_splits, split_seed

    drawn = keep_splits(manifest, spec.data.splits, split_seed(spec.seed))
    train = [row for row in manifest.rows if drawn.split[row.speaker] == "train"]
    val = sum(drawn.split[row.speaker] == "val" for row in manifest.rows)
    training = sum(drawn.fold[row.utt_id] not in (-1, drawn.held_fold) for row in train)
    return cost.Corpus(training, len(train) + val, sum(row.duration_s for row in manifest.rows) / len(manifest.rows))


def layers_of(spec: Experiment) -> tuple[str, ...]:
    """Names that `audit.layers` can take.

    Raises:
        ModelError: the checkpoint is neither here nor a published one.
    """
    from tune_accent.models.checkpoint import decoder_blocks
    from tune_accent.models.layers import layer_names

    shape = shape_of(spec)
    return layer_names(shape.talker.count if shape else decoder_blocks(spec.model.backbone))
