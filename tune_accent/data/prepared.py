"""The prepared cache: everything that no hyperparameter changes, computed once and memory-mapped by every trial.

A cache is a folder `prepared/<key>/` whose key is the hash of all that it depends on. It is whole or absent, and checked against its own
checksums when it is opened; a damaged one is made again. The work itself, in parts that outlive a kill, is in preparing.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tune_accent.base.errors import DataError
from tune_accent.base.files import inside, read_json, remove, sha256_file, write_folder, write_json
from tune_accent.base.progress import Progress
from tune_accent.config import speech
from tune_accent.data.audio import Wave, read_audio, set_loudness
from tune_accent.data.cache_format import FORMAT, LIBRARIES, META, is_current, is_whole, key_of, libraries
from tune_accent.data.cached_table import NAMED, open_table, save_table
from tune_accent.data.codec import Codec, Codes, MfccPq
from tune_accent.data.corpus import Corpus
from tune_accent.data.manifest import Utterance
from tune_accent.data.preparing import Encoder, Utterances, encode_parts, put_together, waiting_lock
from tune_accent.data.transforms import RECIPE, TRAIN_COPY, Copy, copies_of, transformed

__all__ = ["LIBRARIES", "Prepared", "open_prepared", "prepare", "reopen_prepared", "waves"]

CODEC = "codec"
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
        folder: where it is; in its `codec/` is a codec that was fitted, or the name and origin of one that was loaded.
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
        return np.flatnonzero((self.table["split"] == split).to_numpy()).astype(np.int64)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) frames of each utterance."""
        return np.diff(self.frame_offsets)


def prepare(
    corpus: Corpus,
    cfg: speech.Data,
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

    Another process that prepares the same cache shares the work.

    Raises:
        DataError: an audio file is missing, corrupt, or not the one of the manifest. What was finished before is kept, and not done again.
    """
    request = _request(corpus, cfg, seed, embedder_fingerprint, codec)
    folder = corpus.root / "prepared" / key_of(request)
    if not is_whole(folder):
        _make(folder, _Job(corpus, cfg, seed, request, codec), embed, tokenize, progress)
    return open_prepared(folder)


def reopen_prepared(folder: Path, embedder_fingerprint: str) -> Prepared | None:
    """Map a cache that `prepare` made, without the corpus; None where it is not there, not whole, of other libraries or of another model.

    Raises:
        DataError: it cannot be opened, although it is whole.
    """
    if not is_current(folder) or not is_whole(folder):
        return None
    return open_prepared(folder) if read_json(folder / META)["request"]["embedder"] == embedder_fingerprint else None


def open_prepared(folder: Path) -> Prepared:
    """Map a cache; checksums are not compared.

    Raises:
        DataError: it is not there, or not a cache of this version.
    """
    try:
        meta = read_json(folder / META)
        return Prepared(
            table=open_table(folder),
            **{name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS},
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


def _request(corpus: Corpus, cfg: speech.Data, seed: int, embedder: str, codec: Codec | None) -> dict[str, Any]:
    copied = {"transforms": cfg.transforms.model_dump(mode="json") | {"recipe": RECIPE}} if cfg.transforms.copies else {}
    if isinstance(cfg.codec, speech.MfccPq) != (codec is None):
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
        "libraries": libraries(),
    }


@dataclass(frozen=True)
class _Job:
    """What a cache is made of; `loaded` is a codec that is not fitted."""

    corpus: Corpus
    cfg: speech.Data
    seed: int
    request: dict[str, Any]
    loaded: Codec | None

    @property
    def rows(self) -> Sequence[Utterance]:
        return self.corpus.manifest.rows

    def wave(self, copies: Sequence[Copy], row: int) -> Wave:
        if row < len(self.rows):
            return _wave(self.corpus.root, self.rows[row], self.cfg)
        copy = copies[row - len(self.rows)]
        return transformed(
            copy, _wave(self.corpus.root, copy.original, self.cfg), self.cfg.transforms, self.cfg.loudness_lufs, self.seed
        )


def _make(folder: Path, job: _Job, embed: Embed, tokenize: Tokenize, progress: Progress) -> None:
    parts = folder.with_name(f".{folder.name}.parts")
    with waiting_lock(parts):
        if folder.exists() and not is_whole(folder):
            remove(folder)
        if folder.exists():
            _remove_parts(parts)
            return
        codec = job.loaded or _kept_codec(parts, job, progress)
    copies = copies_of(job.rows, job.corpus.splits, job.cfg.transforms)
    rows = [*job.rows, *(copy.original for copy in copies)]
    lengths = np.array([row.duration_s for row in rows])
    work = Utterances(lengths, partial(job.wave, copies), lambda row: tokenize(rows[row].text))
    encode_parts(parts, folder.name, work, Encoder(codec.encode, embed), progress, folder.exists)
    with waiting_lock(parts):
        if not folder.exists():
            _remove_torn(folder)
            write_folder(folder, lambda empty: _fill(empty, job, codec, copies, parts, lengths))
        _remove_parts(parts)


def _remove_parts(parts: Path) -> None:
    while parts.exists():
        with suppress(FileNotFoundError):  # another process that is finished as well removes what it has moved away, or these
            remove(parts)


def _remove_torn(folder: Path) -> None:
    """What a killed process left of putting this cache together."""
    for torn in folder.parent.glob(f".{folder.name}.*.tmp"):
        remove(torn)


def _fill(folder: Path, job: _Job, codec: Codec, copies: Sequence[Copy], parts: Path, lengths: npt.NDArray[np.float64]) -> None:
    codec.save(folder / CODEC)
    put_together(parts, key_of(job.request), lengths, folder)
    _save_table(folder, job.corpus, copies)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    head = {"codec_fingerprint": codec.fingerprint, "codebook_size": codec.codebook_size, "request": job.request}
    splits = {"gate_accents": list(job.corpus.splits.gate_accents), "held_fold": job.corpus.splits.held_fold}
    write_json(folder / META, head | splits | {"sha256": {name: sha256_file(folder / name) for name in names}})


def _save_table(folder: Path, corpus: Corpus, copies: Sequence[Copy]) -> None:
    originals = corpus.manifest.rows
    rows = [*originals, *(copy.original for copy in copies)]
    split = [corpus.splits.split[row.speaker] for row in originals] + [TRAIN_COPY] * len(copies)
    named = {name: split if name == "split" else [getattr(row, name) for row in rows] for name in NAMED}
    ids = [*(row.utt_id for row in originals), *(copy.utt_id for copy in copies)]
    place = {row.utt_id: number for number, row in enumerate(originals)} if copies else {}
    original = [-1] * len(originals) + [place[copy.original.utt_id] for copy in copies]
    save_table(folder, ids, named, [corpus.splits.fold[row.utt_id] for row in rows], original if copies else None)


def _kept_codec(parts: Path, job: _Job, progress: Progress) -> Codec:
    """The fitted codec, from a preparation that was cut short where there is one."""
    folder = parts / CODEC
    if folder.is_dir():
        try:
            return MfccPq.load(folder)
        except DataError as error:
            log.warning("%s; it is fitted again", error)
    codec = _fitted(job.corpus, job.cfg, job.seed, progress)
    write_folder(folder, codec.save)
    return codec


def _fitted(corpus: Corpus, cfg: speech.Data, seed: int, progress: Progress) -> Codec:
    assert isinstance(cfg.codec, speech.MfccPq)  # seen to by `_request`
    return MfccPq.fit(_fit_waves(corpus, cfg, seed, progress), cfg.codec.codewords, seed)


def _fit_waves(corpus: Corpus, cfg: speech.Data, seed: int, progress: Progress) -> Iterator[Wave]:
    """Utterances of train speakers, a seeded sample of them where there are many."""
    rows = [row for row in corpus.manifest.rows if corpus.splits.split[row.speaker] == "train"]
    if len(rows) > MAX_FIT_UTTERANCES:
        chosen = np.random.default_rng(seed).choice(len(rows), MAX_FIT_UTTERANCES, replace=False)
        rows = [rows[int(index)] for index in np.sort(chosen)]
    return waves(corpus, rows, cfg, "fitting the codec", progress)


def waves(corpus: Corpus, rows: Sequence[Utterance], cfg: speech.Data, label: str, progress: Progress) -> Iterator[Wave]:
    """The sound of `rows` as every model of the project gets it: mono, 24 kHz, at the loudness of the config.

    Raises:
        DataError: a file is missing, corrupt, or not the one of the manifest.
    """
    for done, row in enumerate(rows, start=1):
        yield _wave(corpus.root, row, cfg)
        progress(label, done, len(rows))


def _wave(root: Path, row: Utterance, cfg: speech.Data) -> Wave:
    wave = _read(root, row)
    return wave if cfg.loudness_lufs is None else set_loudness(wave, cfg.loudness_lufs)


def _read(root: Path, row: Utterance) -> Wave:
    path = inside(root, row.audio_path)
    wave = read_audio(path)
    if row.audio_sha256 is not None and sha256_file(path) != row.audio_sha256:
        what = f"the audio of utterance {row.utt_id!r} is not the file that the manifest was written for"
        raise DataError(what, where=str(path), fix="make the corpus again")
    return wave
