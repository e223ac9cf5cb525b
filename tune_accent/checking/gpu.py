"""The GPU: is it seen, can it train in the precision of the config, how much of it is free?"""

from __future__ import annotations

from collections.abc import Iterator

from tune_accent.checking.finding import Finding
from tune_accent.config.schema import Experiment
from tune_accent.tracking.provenance import gpus

CUDA_BUILD = "install the CUDA build of torch 2.13.0 for your driver (pytorch.org, `Get started`)"
LOW = 0.75  # share of a card's memory that should be free


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
    else:
        yield Finding(
            "gpu", "warning", "none: a real checkpoint takes days per trial on a CPU", "use a machine with a GPU of 24 GB"
        )
    require_precision(spec.training, device)


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
