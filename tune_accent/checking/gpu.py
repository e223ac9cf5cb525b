"""The GPU: is it seen, can it train in the precision of the config, how much of it is free?"""

from __future__ import annotations

from collections.abc import Iterator

from tune_accent.checking.finding import Finding, Skip
from tune_accent.config.schema import Experiment
from tune_accent.tracking.provenance import gpus

MACHINE = "use a machine with a GPU of 24 GB"
CUDA_BUILD = "install the CUDA build of torch 2.13.0 for your driver (pytorch.org, `Get started`)"
LOW = 0.75  # share of a card's memory that should be free
SAVE = (
    "raise tuning.resources.gpu; or save memory: training.gradient_checkpointing and predictor_checkpointing: true, a lower training.sub_frames, "
    "batch_size, evaluation.batch_size or data.max_duration_s"
)


def check_gpu(spec: Experiment) -> Iterator[Finding]:
    """Name, driver, CUDA, bf16 and memory; without a GPU, whether the config can do without.

    Raises:
        UserError: the device cannot train in `training.precision`.
    """
    import torch

    from tune_accent.training.device import default_device, require_precision

    device, cards = default_device(), gpus()
    if device.type == "cuda":
        yield _card(torch.cuda.current_device(), cards[0]["driver"] if cards else "unknown")
    elif cards:
        what = f"{cards[0]['name']} (driver {cards[0]['driver']}) is there, but torch {torch.__version__} does not see it"
        yield Finding("gpu", "failed", what, CUDA_BUILD)
    elif spec.model.backbone == "tiny":
        yield Finding("gpu", "ok", "none; the tiny model trains on the CPU")
    elif spec.training.precision != "fp32":
        what = f"none, and training.precision: {spec.training.precision} needs one"
        yield Finding("gpu", "failed", what, f"{MACHINE}; on a CPU, in fp32, a trial of a real checkpoint takes days")
        return
    else:
        yield Finding("gpu", "warning", "none: a real checkpoint takes days per trial on a CPU", MACHINE)
    require_precision(spec.training, device)


def check_memory(spec: Experiment) -> Iterator[Finding]:
    """The peak of one trial, from shapes alone, against the share of a card that the config gives it; within 15 %, so it can only warn.

    Raises:
        Skip: the backbone's shape is not known.
    """
    from tune_accent.tuning.peak import memory_forecast

    found = memory_forecast(spec)
    if found.fits is None:
        raise Skip("the backbone's config.json, from which memory is told, is not here")
    yield Finding("memory", "ok" if found.fits else "warning", f"estimate: {found.words}", None if found.fits else SAVE)


def room_mb(spec: Experiment) -> float | None:
    """MiB of the GPU that the config gives a trial; None without a GPU."""
    import torch

    if not torch.cuda.is_available() or not spec.tuning.resources.gpu:
        return None
    return spec.tuning.resources.gpu * torch.cuda.mem_get_info()[1] / 2**20


def _card(number: int, driver: str) -> Finding:
    import torch

    card = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    words = (
        f"{card.name}, compute capability {card.major}.{card.minor}, driver {driver}, CUDA {torch.version.cuda}, bf16 {'yes' if bf16 else 'no'}, "
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    )
    if free < LOW * total:
        return Finding(
            "gpu",
            "warning",
            words,
            "another process holds memory of this card (nvidia-smi): end it, or lower tuning.resources.gpu",
        )
    return Finding("gpu", "ok", words)
