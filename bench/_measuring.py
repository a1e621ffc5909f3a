"""Measures time and peak memory of calls in turns.

Importing this module loads the pack as ``maskwright`` and makes the tools and tests importable. The underscore makes
sorted imports put it first.

Calls take turns, round by round, so that noise affects all equally.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.benchmark import timer  # waits for the work queued on a GPU

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]

from pack import load_pack  # noqa: E402 - found through the line above

load_pack(ROOT)

DEVICE = os.environ.get("MASKWRIGHT_BENCH_DEVICE")  # the only one to measure; "simulated": the tests' simulated GPU
if DEVICE == "simulated":
    import fake_cuda

    SIMULATION = fake_cuda.fake_device()
    SIMULATION.__enter__()

ROUNDS = 2 if "--quick" in sys.argv else 9
SECONDS = 2.5  # for the rounds of one call; at least two rounds run
LONG, SLOW = 4.0, 15.0  # seconds: a call this long runs one round after its first, or none

Call = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Seconds of some rounds: the median, and the quartiles below and above it."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, times: list[float]) -> Spread:
        low, median, high = np.quantile(times, (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high, len(times))


@dataclass(frozen=True)
class Cell:
    """The result of one call: its time, its peak memory in bytes, or why it has neither.

    ``part``: the part of the work that was measured, such as "8 images", if not all of it; the time is scaled up.
    """

    time: Spread | None
    peak: float | None = None
    part: str = ""
    problem: str = ""

    def scale(self, times: float, part: str) -> Cell:
        """The cell of work that is ``times`` as much; memory is unknown."""
        if self.time is None:
            return self
        seconds = (times * each for each in (self.time.median, self.time.low, self.time.high))
        return Cell(Spread(*seconds, self.time.rounds), part=part)


def measure(
    calls: Mapping[str, Call], device: str = "cpu", memory: bool = True, hurry: bool = False
) -> dict[str, Cell]:
    """Measure calls in turns. The first run of each does not count, unless it takes longer than `SLOW`.

    Args: ``hurry``, at most one round after the first.

    Raises: errors of the first call. An error of another one becomes the `problem` of its cell.
    """
    times: dict[str, list[float]] = {}
    rounds, peaks, problems = {}, {}, {}
    for name, call in calls.items():
        durations: list[float] = []
        try:
            peaks[name] = peak_memory(lambda: durations.append(seconds(call)), device)
        except Exception as error:
            if not times:
                raise
            problems[name] = f"{type(error).__name__}: {error}"[:200]
            continue
        (first,) = durations
        times[name] = durations if first > SLOW else []
        few = 1 if hurry or first > LONG else max(2, min(ROUNDS, int(SECONDS / first)))
        rounds[name] = 0 if first > SLOW else few
        if first < LONG and memory:
            peaks[name] = peak_memory(call, device)  # without what only the first call allocates
    for number in range(max(rounds.values())):
        for name, durations in times.items():
            if number < rounds[name]:
                durations.append(seconds(calls[name]))
    cells = {name: Cell(Spread.of(each), peaks[name] if memory else None) for name, each in times.items()}
    return {name: cells.get(name) or Cell(None, problem=problems[name]) for name in calls}


def seconds(call: Call) -> float:
    """Time one call."""
    start = timer()
    call()
    return timer() - start


def peak_memory(call: Call, device: str = "cpu") -> float | None:
    """The peak memory of a call in bytes, including its result, beyond what was in use before.

    On the CPU it is Linux's count for this process, which includes buffers inside libraries (None on other systems); on
    CUDA that of PyTorch's allocator.
    """
    gc.collect()  # a model of an earlier call may be part of a reference cycle
    if device == "cuda" and DEVICE != "simulated":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before)
    reset = Path("/proc/self/clear_refs")
    if not os.access(reset, os.W_OK):
        call()
        return None
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # memory that was freed would be reused without being counted
    before = process_memory("VmRSS")
    reset.write_text("5", encoding="ascii")
    result = call()
    peak = process_memory("VmHWM") - before
    del result
    return float(max(peak, 0))


def process_memory(field: str) -> int:
    """A memory field of this process's Linux status, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


@functools.cache
def bytes_per_second() -> float:
    """The rate of a copy with all cores; counts bytes read and written."""
    source = torch.rand(1 << 26)  # 256 MB: larger than any cache
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source)) for _ in range(7))


def copy_time(moved: float, device: str = "cpu") -> float | None:
    """The minimum seconds to read and write ``moved`` bytes. None on CUDA, where launching kernels takes longer."""
    return moved / bytes_per_second() if device == "cpu" else None


def devices() -> list[str]:
    """The devices that can be measured here, unless `DEVICE` names one."""
    if DEVICE:
        return ["cuda" if DEVICE == "simulated" else DEVICE]
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def smooth_images(count: int, height: int, width: int | None = None) -> torch.Tensor:
    """Random images ``[count,height,width,3]``, smooth as photographs are, with a little noise, in 8-bit levels."""
    generator = torch.Generator().manual_seed(0)
    size = height, width or height
    coarse = torch.rand(count, 3, 16, 16, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False)
    images.add_(torch.rand(1, 1, *size, generator=generator), alpha=0.1).clamp_(0, 1)
    images.mul_(255).floor_().div_(255)
    return images.permute(0, 2, 3, 1).contiguous()  # bchw -> image
