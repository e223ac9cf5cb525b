"""The prepared cache: everything that no hyperparameter changes, computed once and memory-mapped by every trial.

A cache is a folder `prepared/<key>/` whose key is the hash of all that it depends on. It is whole or absent, and checked against its own
checksums when it is opened; a damaged one is made again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.base.errors import DataError
from tune_accent.base.files import folder_lock, inside, read_json, sha256_file, sha256_json, write_folder, write_json
from tune_accent.base.progress import Progress
from tune_accent.config import schema
from tune_accent.data.audio import Wave, read_audio, set_loudness
from tune_accent.data.codec import Codec, Codes, MfccPq
from tune_accent.data.corpus import Corpus
from tune_accent.data.manifest import Utterance
from tune_accent.data.transforms import RECIPE, TRAIN_COPY, Copy, copies_of, transformed

FORMAT = 1
LIBRARIES = ("numpy", "scipy", "scikit-learn", "soundfile", "soxr", "pyloudnorm")  # their versions can change a bit of the cache
COLUMNS = ("utt_id", "speaker", "accent", "text_id", "gender", "split", "fold")
COPY_OF = "copy_of"
TABLE, META, CODEC = "table.json", "prepared.json", "codec"
MAX_FIT_UTTERANCES = 2_000  # that the codec is fitted on
Embed = Callable[[Wave], npt.NDArray[np.float32]]
Tokenize = Callable[[str], list[int]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A mapped cache of N utterances; row i of everything is row i of `table`.

    Attributes:
        table: utt_id, speaker, accent, text_id (nullable), gender (nullable), split, fold (-1: in a gap). Only where `data.transforms` makes
            copies, these come last, with split `transforms.TRAIN_COPY` and the utt_id of their original in a column `copy_of` (else null).
        codes: (frames of all utterances, 16) int16.
        frame_offsets: (N + 1,) int64; utterance i has frames [offset i, offset i + 1).
        text_tokens: int32, of all utterances.
        text_offsets: (N + 1,) int64.
        speaker_embeddings: (N, D) float32.
        gate_accents: accents that count in the gate, sorted.
        held_fold: the fold of train speakers that is kept out of training.
        codec_fingerprint: SHA-256 of the codec that made `codes`.
        codebook_size: codes are in [0, codebook_size).
        key: the name of the cache: a hash of everything that it depends on.
        folder: where it is; the codec is in its `codec/`.
    """

    table: pd.DataFrame
    codes: npt.NDArray[np.int16]
    frame_offsets: npt.NDArray[np.int64]
    text_tokens: npt.NDArray[np.int32]
    text_offsets: npt.NDArray[np.int64]
    speaker_embeddings: npt.NDArray[np.float32]
    gate_accents: tuple[str, ...]
    held_fold: int
    codec_fingerprint: str
    codebook_size: int
    key: str
    folder: Path

    def codes_of(self, row: int) -> Codes:
        """(T, 16) int16 of one utterance."""
        return self.codes[self.frame_offsets[row] : self.frame_offsets[row + 1]]

    def text_of(self, row: int) -> list[int]:
        """Text tokens of one utterance."""
        tokens: list[int] = self.text_tokens[self.text_offsets[row] : self.text_offsets[row + 1]].tolist()
        return tokens

    def rows_of(self, split: str) -> npt.NDArray[np.int64]:
        """Row numbers of a split, ascending."""
        return np.flatnonzero(self.table["split"].to_numpy() == split).astype(np.int64)


def prepare(
    corpus: Corpus,
    cfg: schema.Data,
    seed: int,
    *,
    embed: Embed,
    tokenize: Tokenize,
    embedder_fingerprint: str,
    progress: Progress,
    codec: Codec | None = None,
) -> Prepared:
    """Map the cache of a corpus, and compute it before where it is not there.

    Args:
        corpus: from `ensure_corpus`.
        cfg: the section `data`.
        seed: of the codec's fit.
        embed: speaker embedding (D,) of a wave at 24 kHz.
        tokenize: text tokens of a transcript.
        embedder_fingerprint: names the model behind `embed` and `tokenize`: with another one the cache is another.
        progress: told how far the work is.
        codec: one that is loaded and not fitted, as `qwen` is; None: `mfcc_pq` is fitted on train speakers.

    Raises:
        DataError: an audio file is missing, corrupt, or not the one of the manifest.
        FolderInUse: another process is preparing in this folder.
    """
    request = _request(corpus, cfg, seed, embedder_fingerprint, codec)
    folder = corpus.root / "prepared" / sha256_json(request)[:24]
    if not _is_whole(folder):
        with folder_lock(folder.parent):
            if not _is_whole(folder):
                write_folder(folder, lambda empty: _fill(empty, corpus, cfg, seed, request, embed, tokenize, progress, codec))
    return open_prepared(folder)


def open_prepared(folder: Path) -> Prepared:
    """Map a cache.

    Raises:
        DataError: it is not there, or not a cache of this version.
    """
    try:
        meta = read_json(folder / META)
        columns = read_json(folder / TABLE)
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
        return Prepared(
            table=pd.DataFrame({name: columns[name] for name in (*COLUMNS, *({COPY_OF} & columns.keys()))}),
            **arrays,
            gate_accents=tuple(meta["gate_accents"]),
            held_fold=int(meta["held_fold"]),
            codec_fingerprint=str(meta["codec_fingerprint"]),
            codebook_size=int(meta["codebook_size"]),
            key=folder.name,
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the prepared cache cannot be opened ({error!r})", where=str(folder), fix="remove the folder") from error


_ARRAYS = ("codes", "frame_offsets", "text_tokens", "text_offsets", "speaker_embeddings")


def _request(corpus: Corpus, cfg: schema.Data, seed: int, embedder: str, codec: Codec | None) -> dict[str, Any]:
    copied = {"transforms": cfg.transforms.model_dump(mode="json") | {"recipe": RECIPE}} if cfg.transforms.copies else {}
    if isinstance(cfg.codec, schema.MfccPq) != (codec is None):
        raise ValueError(f"data.codec is {cfg.codec.name}: a codec that is loaded has to be given, and no other")
    loaded = {} if codec is None else {"name": codec.name, "fingerprint": codec.fingerprint}  # wherever it lies
    return copied | {
        "format": FORMAT,
        "manifest": corpus.manifest.sha256,
        "splits": corpus.splits.sha256,
        "codec": loaded or cfg.codec.model_dump(mode="json"),
        "codec_seed": seed,
        "loudness_lufs": cfg.loudness_lufs,
        "embedder": embedder,
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _is_whole(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        sums = read_json(folder / META)["sha256"]
        whole = bool(sums) and all(sha256_file(folder / name) == digest for name, digest in sums.items())
    except (OSError, DataError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        log.warning("the prepared cache %s is damaged and is made again", folder)
    return whole


def _fill(
    folder: Path,
    corpus: Corpus,
    cfg: schema.Data,
    seed: int,
    request: dict[str, Any],
    embed: Embed,
    tokenize: Tokenize,
    progress: Progress,
    loaded: Codec | None,
) -> None:
    codec = loaded or _fitted(corpus, cfg, seed, progress)
    codec.save(folder / CODEC)
    copies = copies_of(corpus.manifest.rows, corpus.splits, cfg.transforms)
    copied = [copy.original for copy in copies]
    sources = waves(corpus, copied, cfg, "transforming speech", progress)
    sound = chain(
        waves(corpus, corpus.manifest.rows, cfg, "encoding speech", progress),
        transformed(copies, sources, cfg.transforms, cfg.loudness_lufs, seed),
    )
    _save_speech(folder, codec, sound, embed)
    texts = [np.asarray(tokenize(row.text), dtype=np.int32) for row in (*corpus.manifest.rows, *copied)]
    _save_ragged(folder, "text_tokens", "text_offsets", texts)
    write_json(folder / TABLE, _table(corpus, copies))
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    head = {"codec_fingerprint": codec.fingerprint, "codebook_size": codec.codebook_size, "request": request}
    splits = {"gate_accents": list(corpus.splits.gate_accents), "held_fold": corpus.splits.held_fold}
    write_json(folder / META, head | splits | {"sha256": {name: sha256_file(folder / name) for name in names}})


def _fitted(corpus: Corpus, cfg: schema.Data, seed: int, progress: Progress) -> Codec:
    assert isinstance(cfg.codec, schema.MfccPq)  # seen to by `_request`
    return MfccPq.fit(_fit_waves(corpus, cfg, seed, progress), cfg.codec.codewords, seed)


def _fit_waves(corpus: Corpus, cfg: schema.Data, seed: int, progress: Progress) -> Iterator[Wave]:
    """Utterances of train speakers, a seeded sample of them where there are many."""
    rows = [row for row in corpus.manifest.rows if corpus.splits.split[row.speaker] == "train"]
    if len(rows) > MAX_FIT_UTTERANCES:
        chosen = np.random.default_rng(seed).choice(len(rows), MAX_FIT_UTTERANCES, replace=False)
        rows = [rows[int(index)] for index in np.sort(chosen)]
    return waves(corpus, rows, cfg, "fitting the codec", progress)


def waves(corpus: Corpus, rows: Sequence[Utterance], cfg: schema.Data, label: str, progress: Progress) -> Iterator[Wave]:
    """The sound of `rows` as every model of the project gets it: mono, 24 kHz, at the loudness of the config.

    Raises:
        DataError: a file is missing, corrupt, or not the one of the manifest.
    """
    for done, row in enumerate(rows, start=1):
        wave = _read(corpus.root, row)
        yield wave if cfg.loudness_lufs is None else set_loudness(wave, cfg.loudness_lufs)
        progress(label, done, len(rows))


def _read(root: Path, row: Utterance) -> Wave:
    path = inside(root, row.audio_path)
    wave = read_audio(path)
    if row.audio_sha256 is not None and sha256_file(path) != row.audio_sha256:
        what = f"the audio of utterance {row.utt_id!r} is not the file that the manifest was written for"
        raise DataError(what, where=str(path), fix="make the corpus again")
    return wave


def _save_speech(folder: Path, codec: Codec, waves: Iterator[Wave], embed: Embed) -> None:
    codes: list[Codes] = []
    embeddings: list[npt.NDArray[np.float32]] = []
    for wave in waves:
        codes.append(codec.encode(wave))
        embeddings.append(np.asarray(embed(wave), dtype=np.float32))
    _save_ragged(folder, "codes", "frame_offsets", codes)
    np.save(folder / "speaker_embeddings.npy", np.stack(embeddings), allow_pickle=False)


def _save_ragged(folder: Path, values: str, offsets: str, parts: Sequence[npt.NDArray[Any]]) -> None:
    np.save(folder / f"{values}.npy", np.concatenate(parts), allow_pickle=False)
    np.save(folder / f"{offsets}.npy", np.cumsum([0, *map(len, parts)], dtype=np.int64), allow_pickle=False)


def _table(corpus: Corpus, copies: Sequence[Copy]) -> dict[str, list[Any]]:
    originals = corpus.manifest.rows
    rows = [*originals, *(copy.original for copy in copies)]
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in COLUMNS[:5]}
    columns["split"] = [corpus.splits.split[row.speaker] for row in originals] + [TRAIN_COPY] * len(copies)
    columns["fold"] = [corpus.splits.fold[row.utt_id] for row in rows]
    if copies:
        columns["utt_id"][len(originals) :] = [copy.utt_id for copy in copies]
        columns[COPY_OF] = [None] * len(originals) + [copy.original.utt_id for copy in copies]
    return columns
