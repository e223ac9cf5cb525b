"""From a config to a prepared data set on disk, once; and from there to the inputs of a trial.

`ensure_prepared` answers from a small record beside the cache when nothing changed, and refuses a corpus that is not there, without importing torch.
Otherwise the work (corpus, codec, speaker embeddings) runs in a child process, so that the driver of a search never holds a model; the corpus comes
first, and torch is imported when it can be used.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tune_accent.base.errors import DataError
from tune_accent.base.files import read_json, sha256_file, sha256_json, write_json
from tune_accent.base.hub import cached_copy, is_hub_id
from tune_accent.base.progress import Progress, silent
from tune_accent.base.seeds import derive_seed
from tune_accent.config.schema import Experiment
from tune_accent.config.speech import PreparedSource, QwenCodec
from tune_accent.data.cache_format import META, codec_fingerprint, is_current
from tune_accent.data.manifest import NAME as MANIFEST

if TYPE_CHECKING:
    import torch

    from tune_accent.data.codec import Codec
    from tune_accent.data.corpus import Corpus
    from tune_accent.models.backbone import Backbone
    from tune_accent.training.inputs import TrialData


@dataclass(frozen=True)
class PreparedRecord:
    """The hashes that make up "the same data": they enter the key of every trial.

    Attributes:
        request: hash of the config sections that decide the data (data, backbone, tiny, seed).
        manifest: SHA-256 of manifest.jsonl.
        splits: SHA-256 of splits.json.
        cache: key of the prepared cache (codes, embeddings, text tokens).
        backbone: fingerprint of the model's config and weights.
    """

    request: str
    manifest: str
    splits: str
    cache: str
    backbone: str


def ensure_prepared(spec: Experiment, show: bool) -> PreparedRecord:
    """Make or check everything that trials share; nothing is computed when it is there.

    Args:
        spec: the experiment.
        show: draw a progress bar on the terminal.

    Raises:
        DataError: the data are not there, broken, or confounded. ModelError: the backbone cannot be loaded.
        MissingDependency: the demo extra is not installed.
    """
    known = _known_record(spec)
    if known is not None:
        return known
    _refuse_what_is_not_there(spec)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
        return PreparedRecord(**child.submit(_prepare_in_child, spec.model_dump_json(), show).result())


def open_inputs(spec: Experiment, device: torch.device, progress: Progress = silent) -> TrialData:
    """Load the backbone and map the prepared cache; prepares what is missing."""
    from tune_accent.data.prepared import reopen_prepared
    from tune_accent.training.inputs import trial_data

    known = _known_record(spec)
    if known is not None:  # then neither the corpus nor the codec is needed
        backbone = _backbone(spec, device)
        made = reopen_prepared(_cache(spec, known), backbone.fingerprint)
        if made is not None:
            return trial_data(spec, made, backbone)
    return _inputs_of(_corpus(spec, progress), spec, device, progress)


def _inputs_of(corpus: Corpus, spec: Experiment, device: torch.device, progress: Progress) -> TrialData:
    from tune_accent.data.prepared import prepare
    from tune_accent.training.inputs import trial_data

    backbone = _backbone(spec, device)
    codec = _codec(spec, backbone)
    speech = prepare(
        corpus,
        spec.data,
        derive_seed(spec.seed, "codec"),
        embed=backbone.speaker_embedding,
        tokenize=backbone.text_tokens,
        embedder_fingerprint=backbone.fingerprint,
        progress=progress,
        codec=codec,
    )
    return trial_data(spec, speech, backbone)


def _corpus(spec: Experiment, progress: Progress) -> Corpus:
    from tune_accent.data.corpus import ensure_corpus

    return ensure_corpus(spec.data, derive_seed(spec.seed, "data"), progress)


def _refuse_what_is_not_there(spec: Experiment) -> None:
    """A corpus that a person is to provide, and did not: no process has to be started to say so."""
    if isinstance(spec.data.source, PreparedSource) and not (Path(spec.data.root) / MANIFEST).is_file():
        _corpus(spec, silent)


def record_path(spec: Experiment) -> Path:
    """Where the record of this request lies."""
    return Path(spec.data.root) / "prepared" / f"record-{_request(spec)[:16]}.json"


def _request(spec: Experiment) -> str:
    data = spec.data.model_dump(mode="json")
    if "workers" in data["source"]:
        del data["source"]["workers"]
    model = spec.model.model_dump(mode="json", include={"backbone", "tiny"})
    return sha256_json({"data": data, "model": model, "seed": spec.seed})


def _known_record(spec: Experiment) -> PreparedRecord | None:
    path, root = record_path(spec), Path(spec.data.root)
    if not path.is_file():
        return None
    try:
        record = PreparedRecord(**read_json(path))
    except (DataError, TypeError):  # damaged, or of another version: it is made again
        return None
    files = {"manifest": root / "manifest.jsonl", "splits": root / "splits.json"}
    same = all(file.is_file() and sha256_file(file) == getattr(record, name) for name, file in files.items())
    return record if same and is_current(_cache(spec, record)) and _same_codec(spec, _cache(spec, record)) else None


def _same_codec(spec: Experiment, cache: Path) -> bool:
    """Whether `data.codec.path` holds the codec that made `cache`. The codec of a checkpoint is part of the checkpoint's own fingerprint."""
    folder = _codec_folder(spec)
    if folder is None:
        return True
    try:
        return bool(read_json(cache / META)["request"]["codec"]["fingerprint"] == codec_fingerprint(folder))
    except OSError:  # a file is missing: the codec says so when it is opened
        return False


def _codec_folder(spec: Experiment) -> Path | None:
    """The folder that `data.codec.path` names, or the copy of a Hub repository; None: it names none, or one that is not here."""
    codec = spec.data.codec
    if not isinstance(codec, QwenCodec) or codec.path is None:
        return None
    if Path(codec.path).is_dir():
        return Path(codec.path)
    return cached_copy(codec.path) if is_hub_id(codec.path) else None


def _cache(spec: Experiment, record: PreparedRecord) -> Path:
    return Path(spec.data.root) / "prepared" / record.cache


def _prepare_in_child(spec_json: str, show: bool) -> dict[str, str]:
    from tune_accent.base.progress import bars

    spec = Experiment.model_validate_json(spec_json)
    with bars(show) as progress:
        corpus = _corpus(spec, progress)
        import torch  # takes seconds, and most refusals are of the corpus

        torch.set_num_threads(spec.training.threads)
        data = _inputs_of(corpus, _exact(spec), _preparing_device(spec), progress)
    root = Path(spec.data.root)
    record = asdict(
        PreparedRecord(
            _request(spec),
            sha256_file(root / "manifest.jsonl"),
            sha256_file(root / "splits.json"),
            data.speech.key,
            data.backbone.fingerprint,
        )
    )
    write_json(record_path(spec), record)
    return record


def _exact(spec: Experiment) -> Experiment:
    """The experiment with a backbone that prepares in float32: what is cached must not depend on the precision of training."""
    training = spec.training.model_copy(update={"precision": "fp32"})
    return spec.model_copy(update={"training": training, "model": spec.model.model_copy(update={"attention": "sdpa"})})


def _preparing_device(spec: Experiment) -> torch.device:
    """The CPU; for the codec `qwen`, which is a network, the first GPU where there is one."""
    import torch

    from tune_accent.training.device import default_device
    from tune_accent.training.seeding import configure_torch

    device = default_device() if isinstance(spec.data.codec, QwenCodec) else torch.device("cpu")
    if device.type == "cuda":
        configure_torch(spec.training)  # full float32 products: TF32 would change codes
    return device


def _codec(spec: Experiment, backbone: Backbone) -> Codec | None:
    """The codec that is loaded and not fitted, on the backbone's device; None for one that `prepare` fits itself."""
    if not isinstance(spec.data.codec, QwenCodec):
        return None
    from tune_accent.models.qwen_codec import QwenTokenizer

    return QwenTokenizer.open(spec.data.codec.path or backbone.folder / "speech_tokenizer", backbone.device)


def _backbone(spec: Experiment, device: torch.device) -> Backbone:
    from tune_accent.models.backbone import load_backbone
    from tune_accent.models.tiny import ensure_tiny
    from tune_accent.training.device import weights_dtype

    name = spec.model.backbone
    if name == "tiny":
        codewords = getattr(spec.data.codec, "codewords", 2048)
        name = str(ensure_tiny(Path(spec.data.root) / "prepared", spec.model.tiny, codewords))
    dtype = weights_dtype(spec.training, device)
    return load_backbone(name, attention=spec.model.attention, dtype=dtype, device=device)
