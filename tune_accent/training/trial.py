"""The state of one trial: adapter on the backbone, heads, the two optimizers, and where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import nn

from tune_accent.base.files import sha256_json
from tune_accent.config.schema import Experiment, Training
from tune_accent.models.backbone import set_checkpointing
from tune_accent.models.lora import attach, detach
from tune_accent.training.device import loss_scaler
from tune_accent.training.heads import Heads, build_heads
from tune_accent.training.inputs import TrialData
from tune_accent.training.seeding import seed_everything
from tune_accent.training.shuffled import as_trained

DECIDING = {"seed", "model", "objective", "training"}  # sections that decide the weights, given the data


@dataclass
class Trial:
    """Everything that training changes. `epoch` and `step` count what is finished; `spec` says which trial it is."""

    adapter: PeftModel | None
    heads: Heads
    optimizer: torch.optim.AdamW
    adversary_optimizer: torch.optim.Adam
    spec: str
    epoch: int = 0
    step: int = 0
    best_score: float | None = None
    stale_epochs: int = 0
    grad_norm: float | None = None
    scaler: torch.amp.GradScaler | None = None  # fp16 only

    def trained(self) -> list[nn.Parameter]:
        """Parameters of the main optimizer: adapter, accent table, z head, accent classifier."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def train(self, data: TrialData, mode: bool) -> None:
        """Set training or evaluation mode of backbone and heads."""
        data.backbone.model.train(mode)
        self.heads.train(mode)


def build_trial(spec: Experiment, data: TrialData) -> Trial:
    """A trial at step 0, every weight from the experiment's seed: with a zero accent table and a fresh adapter it equals the base model."""
    set_checkpointing(data.backbone, spec.training.gradient_checkpointing, spec.training.predictor_checkpointing)
    seed_everything(spec.training_seed, "heads")
    hidden, embedding = data.backbone.hidden, data.backbone.speaker_dim
    speakers = as_trained(spec, data).speakers_of_group(spec.objective)
    heads = build_heads(data.accents, speakers, hidden, embedding, spec.objective)
    for module in heads.modules().values():
        module.to(data.device)
    adapter = attach(data.backbone, spec.model.lora, spec.training_seed) if spec.model.lora.enabled else None
    try:
        return Trial(
            adapter,
            heads,
            *_optimizers(spec, data, heads),
            spec=sha256_json(spec.model_dump(mode="json", include=DECIDING)),
            scaler=loss_scaler(spec.training, data.device),
        )
    except BaseException:
        if adapter is not None:
            detach(adapter)
        raise


def _optimizers(spec: Experiment, data: TrialData, heads: Heads) -> tuple[torch.optim.AdamW, torch.optim.Adam]:
    """The main optimizer and the adversary's."""
    adapted = [p for p in data.backbone.model.parameters() if p.requires_grad]
    groups = [
        {"params": [*adapted, *heads.table.parameters()], "peak_lr": spec.training.lr},
        {"params": [*heads.z.parameters(), *heads.classifier.parameters()], "peak_lr": spec.training.heads_lr},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=spec.training.weight_decay)
    return optimizer, torch.optim.Adam(heads.adversary.parameters(), lr=spec.objective.adversary_lr)


def close_trial(trial: Trial) -> None:
    """Take the adapter off: the backbone is as it was loaded. Harmless when repeated."""
    if trial.adapter is not None:
        detach(trial.adapter)
        trial.adapter = None


def learning_rate_share(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over `warmup`·total steps, then cosine to 0; in (0, 1]. `step` counts from 0."""
    rise = math.ceil(warmup * total)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def set_learning_rate(trial: Trial, training: Training, total: int) -> None:
    """Put the scheduled rate of the next step into every group of the main optimizer."""
    share = learning_rate_share(trial.step, total, training.warmup)
    for group in trial.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share
