"""The experiment as frozen typed objects; the documentation of a key stands beside it (the section `data`: in speech.py).

Unknown keys are errors. Numbers are finite. `load.py` turns pydantic's complaints into file, line and key. Cross-checks name the YAML key.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tune_accent.config.fields import Count, Fraction, NonNegative, Positive, Section, Words
from tune_accent.config.speech import Data

Projection = Literal["q", "k", "v", "o", "gate", "up", "down"]
Pooling = Literal["mean", "mean+std"]
Precision = Literal["fp32", "bf16", "fp16"]
Voice = Literal["neutral", "given"]
Baseline = Literal["no_lora", "no_leakage", "shuffled_accents", "random_arm"]
Ablation = Literal["unconditional", "alignment_only", "trunk_gradient", "z_dim", "wrong_accent"]
NO_IDENTITY = ("tracking", "audit", "paper", "record", "checkpoints")  # sections that change no figure of a trial


class Tiny(Section):
    """Shape of the tiny random-weight Qwen3-TTS that the demo searches (same classes as the real one)."""

    hidden: Annotated[int, Field(ge=32, multiple_of=32)] = 64
    layers: Annotated[int, Field(ge=2)] = 4
    init_scale: Positive = 4.0  # talker matrices, times the default std of .02: at 1 the trunk is nearly the identity
    code_std: Positive = 0.08  # of the code embeddings at level 0; halved at each residual level
    seed: Annotated[int, Field(ge=0)] = 0


class Lora(Section):
    """The adapter. Give `alpha` or `alpha_ratio` (alpha = ratio × rank)."""

    rank: Count = 8
    alpha: Positive | None = None
    alpha_ratio: Positive | None = None  # 2.0 where neither is given
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target: Annotated[tuple[Projection, ...], Field(strict=False)] = ("q", "k", "v", "o")
    code_predictor: bool = False  # adapt the code predictor's layers as well
    enabled: bool = True  # false: the no-LoRA baseline, heads trained on the frozen trunk

    @model_validator(mode="after")
    def _one_alpha(self) -> Lora:
        if self.alpha is not None and self.alpha_ratio is not None:
            raise ValueError("give alpha or alpha_ratio, not both")
        if not self.target or len(set(self.target)) != len(self.target):
            raise ValueError("target must name each projection once, and at least one")
        return self

    @property
    def scaled_alpha(self) -> float:
        """LoRA alpha, from `alpha` or from `alpha_ratio × rank` (ratio 2 by default)."""
        return self.alpha if self.alpha is not None else (self.alpha_ratio or 2.0) * self.rank


class Model(Section):
    """The frozen backbone and the adapter on it."""

    backbone: str = "tiny"  # "tiny", a local folder, or a Hub id of a *-Base checkpoint
    tiny: Tiny = Tiny()
    layer: Annotated[int, Field(ge=0)] = 2  # k: z is pooled from the output of decoder block k - 1 (`hidden_states[k]`)
    language: str | None = None  # the prefix always carries a language; None: the first that the backbone knows
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"  # flash_attention_2 needs the package flash_attn
    lora: Lora = Lora()

    @field_validator("backbone")
    @classmethod
    def _base_checkpoint(cls, value: str) -> str:
        if value.rstrip("/").endswith(("-CustomVoice", "-VoiceDesign")):
            raise ValueError(f"{value} has no speaker encoder, hence no place for S: use the *-Base checkpoint of that size")
        return value

    @model_validator(mode="after")
    def _layer_exists(self) -> Model:
        if self.backbone == "tiny" and self.layer > self.tiny.layers:
            raise ValueError(f"layer must be at most tiny.layers ({self.tiny.layers}), got {self.layer}")
        return self


class Objective(Section):
    """CE + β·accent + λ·(a·alignment + b·adversary); see models/adversary.py."""

    leakage_weight: NonNegative = 1.0  # λ
    accent_weight: NonNegative = 1.0  # β
    trunk_gradient: NonNegative = 1.0  # κ: how much of the gradient of z enters the trunk
    subtalker_weight: NonNegative = 0.3  # of the CE of codebooks 1-15
    z_dim: Annotated[int, Field(ge=2)] = 32
    alignment: NonNegative = 1.0  # a
    adversary: NonNegative = 0.1  # b
    conditional: bool = True  # false: an ablation, alignment and adversary compare speakers of all accents
    adversary_steps: Count = 1  # steps of the adversary's heads per ∅-batch, on detached z
    adversary_lr: Positive = 3e-3
    ramp_steps: Annotated[int, Field(ge=0)] = 0  # λ grows linearly from 0 over this many optimizer steps


class NullBatch(Section):
    """Speaker structure of an ∅-batch: accents × speakers × utterances. `accents: null` takes all."""

    accents: Annotated[int, Field(ge=2)] | None = None
    speakers: Annotated[int, Field(ge=2)] = 3
    utterances: Annotated[int, Field(ge=2)] = 2


class Training(Section):
    """How one trial is trained."""

    epochs: Count = 9
    repeat: Annotated[int, Field(ge=0)] = (
        0  # 0: the experiment's seed; another number: other weights, batches and draws, same data
    )
    shuffled_accents: bool = False  # a baseline: accents dealt out to the training speakers at random
    lr: Positive = 5e-3  # of the adapter and the accent table
    heads_lr: Positive = 3e-3  # of the z head and the accent classifier
    batch_size: Count = 18  # of an A-batch
    length_buckets: Count | None = (
        None  # A-batches whose rows are dealt out by length together: less padding, other batches; None: off
    )
    null_batch: NullBatch = NullBatch()
    steps_per_epoch: Count | None = None  # pairs of (A-batch, ∅-batch); None: one pass over the training rows by A-batches
    accumulation: Count = 1  # pairs of batches per optimizer step
    clip: Positive = 1.0  # max norm of the gradient
    weight_decay: NonNegative = 0.0
    warmup: Fraction = 0.1  # share of all steps
    patience: Count | None = None  # epochs without a better score; off: ASHA does this job in a search
    sub_frames: Count | None = None  # frames per batch that enter the loss of codebooks 1-15; None: all
    precision: Precision = "fp32"  # bf16 and fp16 are autocast and need CUDA; fp16, for cards without bf16, scales the loss
    gradient_checkpointing: bool = False  # of the talker's decoder blocks: less memory for a second forward, same gradients
    predictor_checkpointing: bool = False  # of the code predictor's blocks
    deterministic: bool = True
    threads: Count = 1  # CPU threads of one trial


class Evaluation(Section):
    """Fresh linear probes on z, every epoch."""

    speakers: Annotated[int, Field(ge=2)] = 8  # M per accent, clipped to what every gate accent has
    utterances: Annotated[int, Field(ge=2)] | None = None  # U per speaker; None: all
    draws: Count = 3  # R seeded draws of speakers and utterances
    c_grid: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)] = (0.01, 0.1, 1.0)  # inverse L2 strengths tried
    bootstrap: Count = 2000
    batch_size: Count = 60
    raw: bool = True  # the same figures on the raw pooled h, as `*_h`


class Score(Section):
    """J = F1 − a·[leakage − τ]₊ − b·[drop − limit]₊ − c·[val_loss − ratio·base]₊; the scalar that sampler and ASHA see."""

    leakage_limit: Fraction = 0.07  # τ
    leakage_penalty: NonNegative = 3.0
    drop_limit: Fraction = 0.10
    drop_penalty: NonNegative = 1.0
    val_loss_ratio: Positive = 1.02  # of the base model's val loss
    val_loss_penalty: NonNegative = 2.0


class GateLimits(Section):
    """Limits of one verdict."""

    accent_f1: Fraction
    leakage: Fraction
    text_drop: Fraction = 0.10


class Gate(Section):
    """Thresholds of the verdict; defaults from Stage 1.5."""

    go: GateLimits = GateLimits(accent_f1=0.55, leakage=0.07)
    conditional: GateLimits = GateLimits(accent_f1=0.45, leakage=0.12)
    adjust_f1: Fraction = 0.40
    min_speakers: Annotated[int, Field(ge=2)] = 5  # per accent, for a verdict to be decidable

    @model_validator(mode="after")
    def _ordered(self) -> Gate:
        if not self.go.accent_f1 >= self.conditional.accent_f1 >= self.adjust_f1:
            raise ValueError("go.accent_f1 ≥ conditional.accent_f1 ≥ adjust_f1 must hold")
        if self.go.leakage > self.conditional.leakage:
            raise ValueError("go.leakage must not exceed conditional.leakage")
        return self


class Resources(Section):
    """What one worker holds. gpu becomes 0 by itself where there is no GPU."""

    cpu: Positive = 1.0
    gpu: Fraction = 0.25


class Tuning(Section):
    """How the search runs. `slots` is part of the experiment; `workers` is whatever the machine has."""

    slots: Annotated[int, Field(ge=1)] = 4  # trials that advance together, epoch by epoch
    order: Literal["rounds", "async"] = "rounds"  # async is plain ASHA: not reproducible
    sampler: Literal["gp", "tpe", "random"] = "gp"  # for `method: bayes` of the space file; gp: Gaussian process
    startup_trials: Annotated[int, Field(ge=1)] = 4  # before anything is modelled: at random, or (gp) spread over the space
    workers: Count | None = None  # None: as many as `resources` allow, at most `slots`
    resources: Resources = Resources()
    address: Annotated[str, Field(pattern=r"^[^:/\s]+:\d{1,5}$")] | None = (
        None  # host:port of a running Ray cluster; None: this machine
    )
    max_failures: Annotated[int, Field(ge=0)] = 2  # retries of a crashed trial, from the memo
    epoch_timeout_s: Positive = 3600.0


class Wandb(Section):
    """Weights & Biases: a run per trial, grouped by search. Its key is read by the library itself (`WANDB_API_KEY`, `wandb login`), never from a file of ours."""

    mode: Literal["off", "offline", "online"] = "off"  # offline: files below the results folder, for `wandb sync`
    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] = "tune-accent"
    entity: str | None = None  # None: the account's own
    group: str | None = None  # None: the results folder's name and the search's hash
    tags: Words = ()


class Tracking(Section):
    """Trackers; they are no part of the experiment's hash."""

    tensorboard: bool = True  # event files in the results folder, one folder per trial
    wandb: Wandb = Wandb()


class SpeechEncoder(Section):
    """A self-supervised speech encoder that is audited beside the backbone."""

    model: str  # a folder or Hub id that `transformers` loads: Wav2Vec2, HuBERT, WavLM, ... (safetensors)
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)] | None = None  # None: eight


class Audit(Section):
    """What `python -m tune_accent.audit` looks at; no part of the experiment's hash."""

    layers: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None  # None: eight over the full depth
    poolings: Annotated[tuple[Pooling, ...], Field(strict=False, min_length=1)] = ("mean", "mean+std")  # over time
    speaker: Annotated[tuple[Voice, ...], Field(strict=False, min_length=1)] = (
        "neutral",
        "given",
    )  # S: mean voice, speaker's own
    acoustic: bool = True  # MFCC, F0, energy and rate of the sound itself
    ssl: SpeechEncoder | None = None
    ecapa: bool = False  # speaker embeddings of SpeechBrain's ECAPA-TDNN; needs the extra: pip install "tune-accent[ecapa]"
    batch_size: Count = 60


class Checkpoints(Section):
    """Which epochs of a run stay on disk beside `best` and `latest`; no part of the experiment's hash."""

    keep: Count | None = 2  # newest ones; None keeps every epoch


class Control(Section):
    """Does A control the accent of generated speech? Fixed texts × test speakers × every accent."""

    enabled: bool = True
    texts: Count = 3  # of the data set's texts, evenly spread
    speakers: Count = 2  # test speakers of each accent
    max_seconds: Positive = 8.0  # an utterance is cut there
    batch: Count = 6  # utterances that are generated at once
    ecapa: bool = False  # speaker similarity by ECAPA-TDNN as well; needs the extra [ecapa]
    whisper: str | None = None  # folder or name of a faster-whisper model: character error rate
    mos: bool = False  # predicted naturalness by UTMOS


class Paper(Section):
    """What `python -m tune_accent.rerun` does with the winner of a search; no part of the experiment's hash."""

    candidates: Count = 5  # best feasible trials of the search that are trained again on new seeds
    seeds: Annotated[int, Field(ge=2)] = 3  # new training seeds, of candidates, baselines and ablations alike
    permutations: Annotated[int, Field(ge=99)] = 999  # of the null of macro-F1
    baselines: Annotated[tuple[Baseline, ...], Field(strict=False)] = ("no_lora", "no_leakage", "shuffled_accents", "random_arm")
    ablations: Annotated[tuple[Ablation, ...], Field(strict=False)] = (
        "unconditional",
        "alignment_only",
        "trunk_gradient",
        "z_dim",
        "wrong_accent",
    )
    trunk_gradients: Annotated[tuple[NonNegative, ...], Field(strict=False)] = (0.0, 0.1, 1.0)  # κ of the ablation
    z_dims: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(strict=False)] = (8, 32, 128)  # of the ablation
    control: Control = Control()


class Record(Section):
    """The experiment in words, printed at the head of the report; no part of the experiment's hash."""

    hypothesis: str = ""
    independent_variable: str = ""
    controlled_variables: Words = ()
    metrics: Words = ()
    result: str = ""  # filled in by the person who ran it
    notes: str = ""


class Experiment(Section):
    """One experiment: everything but the searched parameters' values and the number of trials."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "experiment"
    seed: Annotated[int, Field(ge=0, lt=2**63)]  # the one seed; every other is derived from it
    data: Data
    model: Model = Model()
    objective: Objective = Objective()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    score: Score = Score()
    gate: Gate = Gate()
    tuning: Tuning = Tuning()
    audit: Audit = Audit()
    paper: Paper = Paper()
    record: Record = Record()
    checkpoints: Checkpoints = Checkpoints()
    tracking: Tracking = Tracking()

    @property
    def training_seed(self) -> int:
        """Seed of weights, batches, probes and draws: the experiment's own, or that of `training.repeat`; data and codec do not depend on it."""
        from tune_accent.base.seeds import derive_seed  # numpy is not needed to check a file

        return self.seed if self.training.repeat == 0 else derive_seed(self.seed, "repeat", self.training.repeat)

    @model_validator(mode="after")
    def _flash_attention_in_half_precision(self) -> Experiment:
        if self.model.attention == "flash_attention_2" and self.training.precision == "fp32":
            raise ValueError("model.attention flash_attention_2 needs training.precision bf16 or fp16")
        return self

    @field_validator("seed", mode="before")
    @classmethod
    def _seed_is_a_number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("must be a whole number")
        return value
