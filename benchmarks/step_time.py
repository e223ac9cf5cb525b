"""How long one training step takes, and what of it: talker, code predictor, heads, optimizer; and how trials share a GPU.

    python -m benchmarks.step_time [--sizes 0.6B 1.7B] [--batches 2 8] [--frames 40 100] [--modes eager compiled] [--processes 1 2 4] [--repeats 5]

Random weights of the real classes at the published sizes (with a GPU; the tiny model of the demo elsewhere), LoRA r 16 on q, k, v, o, deterministic
algorithms, bf16 on CUDA. A step is one ∅-batch: forward, accent and leakage terms, backward, clipping, optimizers. A trial's step is an A-batch and a
∅-batch, about twice that. Parts are timed apart, each with its own backward; shares are of their sum.

`used` is the utilisation: FLOPs that the step cannot do without (models/flops.py) over what the best of a few matrix products reaches here.
`floor` is the larger of FLOPs at that rate and one read of all weights in forward and backward at the measured copy bandwidth.
`idle` is the share of a step in which no kernel runs (torch profiler). The last table runs processes side by side on the same device.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.step_model import PARTS, SIZES, Case, Step, seconds, shape_of, training_of, wait
from tune_accent.models.flops import read_bytes, step_flops
from tune_accent.training.device import default_device, weights_dtype
from tune_accent.training.seeding import configure_torch

OOM = "no memory"


@dataclass(frozen=True)
class Rates:
    """What this device reaches: FLOP/s of a matrix product, bytes/s of a copy (read and written)."""

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class OnCuda:
    """What the profiler and the allocator say of one step: kernels launched, share without a kernel, peak MiB."""

    launches: int
    idle: float
    peak_mb: float


@dataclass(frozen=True)
class Timed:
    """One case: seconds of a step and of its parts; None of `cuda` on a CPU."""

    case: Case
    step: float
    parts: dict[str, float]
    cuda: OnCuda | None


def rates(device: torch.device) -> Rates:
    """The best of a few square products in the type of training, and of a large copy."""
    dtype = weights_dtype(training_of(device), device)
    sides = (2048, 4096, 8192) if device.type == "cuda" else (512, 1024)
    best = 0.0
    for side in sides:
        a, b = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
        best = max(best, 2 * side**3 / seconds(_call(torch.mm, a, b), device, 5))
    source = torch.ones((2**28 if device.type == "cuda" else 2**24), device=device)
    target = torch.empty_like(source)
    return Rates(best, 2 * 4 * source.numel() / seconds(_call(target.copy_, source), device, 5))


def _call(function: Callable[..., Any], *arguments: Any) -> Callable[[], None]:
    def work() -> None:
        function(*arguments)

    return work


def measure(case: Case, device: torch.device, repeats: int) -> Timed:
    """Time one case."""
    step = Step(case, device)
    taken = seconds(step.whole, device, repeats)
    cuda = on_cuda(step, device) if device.type == "cuda" else None
    return Timed(case, taken, {name: seconds(work, device, repeats) for name, work in step.parts().items()}, cuda)


def on_cuda(step: Step, device: torch.device) -> OnCuda:
    """Profile one step."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.reset_peak_memory_stats(device)
    step.whole()
    peak = torch.cuda.max_memory_allocated(device) / 2**20
    taken = seconds(step.whole, device, 3)  # without the profiler, which slows the launches down
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        step.whole()
        wait(device)
    kernels = [event for event in found.events() or [] if event.device_type.name == "CUDA"]
    busy = sum(event.time_range.elapsed_us() for event in kernels) / 1e6
    return OnCuda(len(kernels), max(0.0, 1 - busy / taken), peak)


def header(cuda: bool) -> str:
    """Of the first table."""
    names = f"{'size':<6}{'mode':<10}{'rows':>5}{'frames':>7}{'ms':>9}" + "".join(f"{name:>15}" for name in PARTS)
    return f"{names}{'GFLOP':>9}{'used':>7}{'floor ms':>10}" + (f"{'launches':>10}{'idle':>7}{'peak MiB':>10}" if cuda else "")


def row(timed: Timed, reached: Rates) -> str:
    """A line of it."""
    case, total = timed.case, sum(timed.parts.values())
    shape = shape_of(case.size)
    flops, width = step_flops(shape, case.batch), 2 if timed.cuda else 4
    floor = max(flops / reached.flops, read_bytes(shape, width) / reached.bandwidth)
    line = f"{case.size:<6}{case.mode:<10}{case.rows:>5}{case.frames:>7}{1000 * timed.step:>9.1f}"
    line += "".join(f"{part / total:>15.0%}" for part in timed.parts.values())
    line += f"{flops / 1e9:>9.2f}{flops / timed.step / reached.flops:>7.1%}{1000 * floor:>10.2f}"
    found = timed.cuda
    return line if found is None else f"{line}{found.launches:>10}{found.idle:>7.0%}{found.peak_mb:>10.0f}"


def worker(pipe: Connection) -> None:
    """A process that builds a case when it is told to, and then runs as many steps as it is told; None ends it."""
    device = default_device()
    while (case := pipe.recv()) is not None:
        try:
            pipe.send(_timed_steps(pipe, case, device))
        except torch.OutOfMemoryError:
            pipe.send(None)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _timed_steps(pipe: Connection, case: Case, device: torch.device) -> float:
    """Warm up, say so, wait for the number of steps; seconds of one."""
    step = Step(case, device)
    step.whole()
    wait(device)
    pipe.send("ready")
    count = int(pipe.recv())
    wait(device)
    began = time.perf_counter()
    for _ in range(count):
        step.whole()
    wait(device)
    return (time.perf_counter() - began) / count


def side_by_side(pipes: Sequence[Connection], case: Case, steps: int) -> float | None:
    """Steps per second of all processes together; None where one has no memory."""
    for pipe in pipes:
        pipe.send(case)
    ready = [pipe.recv() == "ready" for pipe in pipes]
    for pipe, up in zip(pipes, ready, strict=True):
        if up:
            pipe.send(steps)
    taken: list[float | None] = [pipe.recv() if up else None for pipe, up in zip(pipes, ready, strict=True)]
    done = [each for each in taken if each is not None]
    return sum(1 / each for each in done) if len(done) == len(pipes) else None


def sharing(
    sizes: Sequence[str], batches: Sequence[int], frames: int, counts: Sequence[int], steps: int, idle: dict[Case, float]
) -> Iterator[str]:
    """The table of how trials share a device, line by line."""
    yield (
        f"{'size':<6}{'rows':>5}{'frames':>7}"
        + (f"{'idle alone':>12}" if idle else "")
        + "".join(f"{f'{n} at once':>22}" for n in counts)
    )
    context = get_context("spawn")
    with ExitStack() as stack:
        pipes = []
        for _ in range(max(counts)):
            ours, theirs = context.Pipe()
            process = context.Process(target=worker, args=(theirs,))
            process.start()
            stack.callback(process.join)
            stack.callback(ours.send, None)
            pipes.append(ours)
        for size, rows in product(sizes, batches):
            case, cells, alone = Case(size, rows, frames), [], None
            for count in counts:
                reached = side_by_side(pipes[:count], case, steps)
                alone = alone or (reached and reached / count)
                cells.append(f"{OOM:>22}" if reached is None else f"{reached:>13.2f}/s {reached / (alone or reached):>6.2f}×")
            own = f"{idle[case]:>12.0%}" if idle else ""
            yield f"{size:<6}{rows:>5}{frames:>7}{own}{''.join(cells)}"


def device_words(device: torch.device, reached: Rates) -> str:
    """The device and its rates in a line."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread"
    return f"{name}: products {reached.flops / 1e12:.3g} TFLOP/s, copies {reached.bandwidth / 1e9:.3g} GB/s; torch {torch.__version__}"


def main() -> int:
    """Print the two tables."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["0.6B", "1.7B"] if cuda else ["tiny"])
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--frames", type=int, nargs="+", default=[40, 100])
    parser.add_argument("--modes", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"] if cuda else ["eager"])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    run(arguments, default_device())
    return 0


def run(arguments: argparse.Namespace, device: torch.device) -> None:
    """Both tables, each line as it comes."""
    configure_torch(training_of(device))
    reached, idle = rates(device), {}
    say(f"{device_words(device, reached)}\n\n{header(device.type == 'cuda')}")
    for size, mode, rows, frames in product(arguments.sizes, arguments.modes, arguments.batches, arguments.frames):
        timed = measure(Case(size, rows, frames, mode), device, arguments.repeats)
        say(row(timed, reached))
        if timed.cuda and mode == "eager":
            idle[timed.case] = timed.cuda.idle
    say("\nprocesses side by side: steps per second together, and times what one alone reaches\n")
    for line in sharing(arguments.sizes, arguments.batches, max(arguments.frames), arguments.processes, arguments.repeats, idle):
        say(line)


def say(line: str) -> None:
    """A line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
