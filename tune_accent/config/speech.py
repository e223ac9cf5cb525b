"""The sections on speech: where it comes from, how it is split, encoded and varied. The documentation of a key stands beside it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tune_accent.config.fields import Count, NonNegative, Positive, Range, Section, Words

Region = Literal["N", "NE", "CO", "SE", "S"]


class DemoSource(Section):
    """espeak-ng speech: real audio with real dialect phonology, but no human voices. Made into `data.root` when it is not there."""

    kind: Literal["demo"] = "demo"
    preset: Literal["EN3", "PT2"] = "EN3"  # EN3: en-us, en-gb-scotland, en-029; PT2: pt, pt-br
    speakers: Annotated[int, Field(ge=3)] = 20  # per accent
    texts: Annotated[int, Field(ge=3, le=40)] = 12  # the same for every speaker
    workers: Count = 2  # processes that synthesise; the audio does not depend on it


class PreparedSource(Section):
    """A folder that already holds `manifest.jsonl` and `audio/` (made by `python -m tune_accent.prepare`)."""

    kind: Literal["prepared"] = "prepared"


class CsvSource(Section):
    """`metadata.csv` with `wav/<speaker>/<text>.wav` and, optionally, `texts.json`. Made into `data.root` when it is not there."""

    kind: Literal["csv"] = "csv"
    path: str  # the folder, or a ZIP of it
    workers: Count | None = None  # processes that decode; None: one per core


class CoraaMupe(Section):
    """CORAA-MUPE-ASR: interviews from all of Brazil; the accent is the region of birth. Made into `data.root` when it is not there."""

    kind: Literal["coraa-mupe"] = "coraa-mupe"
    path: str  # folder with parquet shards, a glob, or a Hub id (nilc-nlp/CORAA-MUPE-ASR)
    regions: Annotated[tuple[Region, ...], Field(strict=False, min_length=1)] = ("N", "NE", "CO", "SE", "S")
    max_speakers_per_region: Annotated[int, Field(ge=3)] | None = None  # drawn by `seed`, genders alternating; None: all
    max_utterances_per_speaker: Count | None = None  # drawn by `seed`; None: all
    min_speakers: Annotated[int, Field(ge=3)] = 3  # of a region: train, val and test need one each
    min_utterances: Count = 3  # of a speaker
    audio_quality: str | None = None  # keep only rows of this quality, e.g. high; None: all
    text: Literal["normalized", "original"] = (
        "normalized"  # original has the marks of the transcribers; the other one where it is empty
    )
    seed: Annotated[int, Field(ge=0)] = 0  # of the two caps; the corpus does not depend on the experiment's seed
    workers: Count | None = None  # processes that decode; None: one per core. The corpus does not depend on it

    @model_validator(mode="after")
    def _caps_above_minima(self) -> CoraaMupe:
        pairs = (
            ("max_speakers_per_region", "min_speakers", self.max_speakers_per_region, self.min_speakers),
            ("max_utterances_per_speaker", "min_utterances", self.max_utterances_per_speaker, self.min_utterances),
        )
        for cap, minimum, most, least in pairs:
            if most is not None and most < least:
                raise ValueError(f"{cap} must be at least {minimum} ({least}), got {most}")
        return self


class Splits(Section):
    """Speakers → train / val / test, stratified by accent; utterances of a speaker → folds."""

    train: Positive = 0.5  # shares of the speakers of each accent; they are normalised to sum to 1
    val: Positive = 0.25
    test: Positive = 0.25
    folds: Annotated[int, Field(ge=2)] = 3  # by text for read speech, contiguous in time otherwise
    gap: Annotated[int, Field(ge=0)] = 0  # utterances left out between two contiguous folds
    held_fold: Annotated[int, Field(ge=0)] = 0  # the fold of train speakers that LoRA never sees: `seen` leakage is scored on it
    min_gate_speakers: Annotated[int, Field(ge=2)] = 2  # in val and in test, for an accent to count in the gate
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = (
        None  # None: that of the experiment; a number: the split of an experiment with that seed
    )
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(strict=False)
    ] = ()  # repeated splits: splits-<seed>.json each

    @model_validator(mode="after")
    def _held_fold_exists(self) -> Splits:
        if self.held_fold >= self.folds:
            raise ValueError(f"held_fold must be below folds ({self.folds}), got {self.held_fold}")
        return self

    @property
    def utterances_needed(self) -> int:
        """Of a speaker whose folds go by time."""
        return self.folds + self.gap * (self.folds - 1)


class MfccPq(Section):
    """A small product-quantised MFCC codec, fitted on train speakers only: the demo's codec."""

    name: Literal["mfcc_pq"] = "mfcc_pq"
    codewords: Annotated[int, Field(ge=8, le=2048)] = 64  # per codebook


class QwenCodec(Section):
    """Qwen3-TTS-Tokenizer-12Hz, the codec that the real checkpoints were trained on."""

    name: Literal["qwen"] = "qwen"
    path: str | None = None  # a folder or Hub id (Qwen/Qwen3-TTS-Tokenizer-12Hz); None: `speech_tokenizer/` of the backbone


class Transforms(Section):
    """Extra copies of utterances that LoRA is trained on, made with the prepared cache. Each copy goes through every transform that is given,
    with values drawn from its range. Rows of val and test, and the rows that measure, never have copies."""

    copies: Annotated[int, Field(ge=0, le=20)] = 0  # of each utterance; 0 switches all of this off
    speed: Range | None = (
        None  # factors from 0.7 to 1.4, by resampling: faster is higher as well, so the voice changes under its label
    )
    band_hz: Range | None = None  # pass band [low, high] of a Butterworth filter, e.g. [300, 3400] for the telephone
    noise_snr_db: Range | None = None  # white noise, this far below the speech
    gain_db: Range | None = None  # relative to data.loudness_lufs; lower where the peak would reach 1

    @model_validator(mode="after")
    def _sensible(self) -> Transforms:
        given = {name: getattr(self, name) for name in ("speed", "band_hz", "noise_snr_db", "gain_db")}
        given = {name: value for name, value in given.items() if value is not None}
        if bool(given) != bool(self.copies):
            raise ValueError("copies and at least one of speed, band_hz, noise_snr_db, gain_db belong together")
        for name, (low, high) in given.items():
            if not low <= high:
                raise ValueError(f"{name} must be [low, high], got [{low}, {high}]")
        if self.speed is not None and not 0.7 <= self.speed[0] <= self.speed[1] <= 1.4:
            raise ValueError(f"speed must lie in [0.7, 1.4], got {list(self.speed)}")
        if self.band_hz is not None and not 20 <= self.band_hz[0] < self.band_hz[1] <= 11_900:
            raise ValueError(f"band_hz must be [low, high] in [20, 11900], got {list(self.band_hz)}")
        return self


class Data(Section):
    """Which speech, and how it is split."""

    root: str  # folder of the prepared data set, relative to the current folder
    source: Annotated[DemoSource | PreparedSource | CsvSource | CoraaMupe, Field(discriminator="kind")] = DemoSource()
    splits: Splits = Splits()
    codec: Annotated[MfccPq | QwenCodec, Field(discriminator="name")] = MfccPq()
    loudness_lufs: Annotated[float, Field(le=0, allow_inf_nan=False)] | None = -23.0  # None leaves the level alone
    transforms: Transforms = Transforms()
    trim_silence: bool = False  # at both ends, when a csv or coraa-mupe source is imported
    min_duration_s: NonNegative = 0.0  # 3 for coraa-mupe where it is not given
    max_duration_s: Positive = 15.0
    allow_confounds: Words = ()  # accepted reasons, e.g. "gender: every accent has both, see notes"

    @model_validator(mode="before")
    @classmethod
    def _interviews_from_three_seconds(cls, value: Any) -> Any:
        source = value.get("source") if isinstance(value, dict) else None
        kind = source.get("kind") if isinstance(source, dict) else getattr(source, "kind", None)
        return {"min_duration_s": 3.0, **value} if kind == "coraa-mupe" else value

    @model_validator(mode="after")
    def _folds_filled(self) -> Data:
        needed = self.splits.utterances_needed
        if isinstance(self.source, CoraaMupe) and self.source.min_utterances < needed:
            what = f"source.min_utterances must be at least {needed}, which splits.folds and splits.gap need of a speaker"
            raise ValueError(f"{what}, got {self.source.min_utterances}")
        return self

    @model_validator(mode="after")
    def _durations_ordered(self) -> Data:
        if self.min_duration_s >= self.max_duration_s:
            raise ValueError(f"min_duration_s must be below max_duration_s, got {self.min_duration_s} and {self.max_duration_s}")
        return self
