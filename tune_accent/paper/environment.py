"""What a paper run says of its machine, and what two such records have to say about figures that differ.

Torch's own switches are those of this process after `configure_torch`: every training process of search and paper run sets the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from tune_accent.base.files import canonical_json
from tune_accent.config.schema import Training
from tune_accent.paper.leaves import changed, short
from tune_accent.tracking.provenance import DECISIVE, environment

NOTHING_DIFFERS = (
    "the two environment records do not differ: an operation that is not deterministic on this device, or an edited file"
)
CONTINUED = "the search itself was continued with other versions of libraries"
TORCH = {"cuda": "CUDA", "cudnn": "cuDNN", "threads": "threads of a trial", "cpu_capability": "vector instructions"}


def paper_environment(training: Training) -> dict[str, Any]:
    """`tracking.provenance.environment` and `torch`: build, devices, threads and every switch that decides whether bits repeat.

    Args:
        training: this process is set up for it (`configure_torch`).
    """
    from tune_accent.training.seeding import configure_torch

    configure_torch(training)
    return {**environment(), "torch": torch_state()}


def torch_state() -> dict[str, Any]:
    """Build, devices and switches of torch in this process; JSON values."""
    import torch

    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),
        "devices": [_device(number) for number in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": cudnn.deterministic,
        "cudnn_benchmark": cudnn.benchmark,
        "tf32": {"matmul": cuda.matmul.allow_tf32, "cudnn": cudnn.allow_tf32},
        "attention": {
            "math": cuda.math_sdp_enabled(),
            "flash": cuda.flash_sdp_enabled(),
            "mem_efficient": cuda.mem_efficient_sdp_enabled(),
            "cudnn": cuda.cudnn_sdp_enabled(),
        },
    }


def _device(number: int) -> dict[str, Any]:
    import torch

    found = torch.cuda.get_device_properties(number)
    return {"name": found.name, "capability": f"{found.major}.{found.minor}", "memory_mb": found.total_memory // 2**20}


def likely_cause(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words: which facts of two environment records differ that can change a bit, the likeliest first.

    Args:
        before, now: as `environment` or `paper_environment` makes them. What only one of them knows is left out.
    """
    told = differing_facts(facts(before), facts(now))
    if before.get("continued_from"):
        told.append(CONTINUED)
    return "; ".join(told) if told else NOTHING_DIFFERS


def differing_facts(was: Mapping[str, str], is_now: Mapping[str, str]) -> list[str]:
    """In words, what differs between two sets of `facts`; what only one of them knows is left out."""
    names = [name for name in was if name in is_now and was[name] != is_now[name]]
    return [f"other {name}: {short(was[name])} → {short(is_now[name])}" for name in names]


def facts(record: Mapping[str, Any]) -> dict[str, str]:
    """What in an environment record can change a bit, by name, in the order in which it is to be suspected."""
    return dict(_facts(record))


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "gpus" in record:
        yield "GPU", ", ".join(gpu["name"] for gpu in record["gpus"]) or "none"
        yield "driver", ", ".join(gpu["driver"] for gpu in record["gpus"]) or "none"
    torch = record.get("torch", {})
    yield from ((words, str(torch[name])) for name, words in TORCH.items() if name in torch)
    if "packages" in record:
        yield from ((name, str(record["packages"].get(name, "absent"))) for name in DECISIVE)
    plain = {"tune_accent": "version of tune_accent", "python": "Python", "processor": "processor", "platform": "system"}
    yield from ((words, str(record[name])) for name, words in plain.items() if name in record)
    git = record.get("git")
    if isinstance(git, Mapping):
        yield "commit", str(git.get("commit"))
        yield "uncommitted changes", str(git.get("diff_sha256", "some" if git.get("dirty") else "none"))
    switches = ("deterministic_algorithms", "cudnn_deterministic", "cudnn_benchmark", "cublas_workspace", "tf32", "attention")
    yield from ((name, canonical_json(torch[name])) for name in switches if name in torch)


def what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """In words: how the settings of two resolved experiments differ; None where they do not."""
    told = [f"{key}: {was} → {is_now}" for key, was, is_now in changed(dict(before), dict(now))]
    return f"other settings: {', '.join(told)}" if told else None
