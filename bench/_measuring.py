"""Measures time and peak memory of alternatives in turns, and the best that the machine can do.

Importing this module loads the pack as ``maskwright`` and makes the tools and tests importable. The underscore makes
sorted imports put it first.

Alternatives take turns, round by round, so that noise affects all equally; the first round does not count. On CUDA,
time is measured between two events on the device's stream, so that queued work is included.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]

from pack import load_pack  # noqa: E402 - found through the line above

load_pack(ROOT)

DEVICE = os.environ.get("MASKWRIGHT_BENCH_DEVICE")  # the only one to measure; "simulated": the tests' simulated GPU
if DEVICE == "simulated":
    import fake_cuda

    SIMULATION = fake_cuda.fake_device()
    SIMULATION.__enter__()

MAX_SECONDS = 30.0  # for all rounds of one comparison; at least two rounds always run

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
        if len(times) == 1:
            return cls(*times * 3, 1)
        low, median, high = statistics.quantiles(times, n=4, method="inclusive")
        return cls(median, low, high, len(times))


def compare(calls: Mapping[str, Call], rounds: int, device: str = "cpu") -> dict[str, Spread]:
    """Time the calls in turns. Stop early once all rounds together took `MAX_SECONDS`."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for number in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
        if number and time.perf_counter() - start > MAX_SECONDS:
            break
    return {name: Spread.of(each) for name, each in times.items()}


def seconds(call: Call, device: str = "cpu") -> float:
    """Time one call; on CUDA until the device has finished all queued work."""
    if is_gpu(device):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        before.record()
        call()
        after.record()
        torch.cuda.synchronize()
        return before.elapsed_time(after) / 1e3
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_memory(call: Call, device: str = "cpu") -> float | None:
    """The peak memory of a call in bytes, including its result, beyond what was in use before.

    On the CPU it is Linux's count for this process, which includes buffers inside libraries (None on other systems); on
    CUDA that of PyTorch's allocator.
    """
    gc.collect()  # a model of an earlier call may be part of a reference cycle
    if is_gpu(device):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before)
    if not Path("/proc/self/status").exists():
        return None
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # otherwise memory freed by earlier calls is reused without being counted
        libc.malloc_trim(0)
    before = process_memory("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak
    except OSError:
        return None
    result = call()
    peak = process_memory("VmHWM") - before
    del result
    return float(max(peak, 0))


def process_memory(field: str) -> int:
    """A memory field of this process's Linux status, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


RATES: dict[str, dict[str, float]] = {}  # the rates measured in this run, for the report


@functools.cache
def bytes_per_second(device: str = "cpu") -> float:
    """The copy rate of this device with all its cores; counts bytes read and written."""
    source = torch.rand(1 << 26, device=device)  # 256 MB: larger than any cache
    target = torch.empty_like(source)
    rate = 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device) for _ in range(7))
    RATES.setdefault(device, {})["GB/s copied"] = round(rate / 1e9, 1)
    return rate


@functools.cache
def operations_per_second(device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """The rate of large matrix products; a multiplication and an addition are two operations."""
    side = 8192 if is_gpu(device) else 2048
    one, two = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(2))
    rate = 2 * side**3 / min(seconds(lambda: torch.matmul(one, two), device) for _ in range(5))
    rounded = device == "cuda" and dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    kind = "TF32" if rounded else str(dtype).removeprefix("torch.")
    RATES.setdefault(device, {})[f"TFLOP/s in {kind}"] = round(rate / 1e12, 3)
    return rate


def floor(device: str, operations: float = 0.0, moved: float = 0.0, dtype: torch.dtype = torch.float32) -> float:
    """The minimum time in seconds that this device needs for the operations, or for the bytes read and written."""
    computing = operations / operations_per_second(device, dtype) if operations else 0.0
    return max(computing, moved / bytes_per_second(device) if moved else 0.0)


def count_operations(call: Call) -> int:
    """The operations of a call's matrix products, convolutions and attention; others are not counted."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


def is_gpu(device: str) -> bool:
    """Whether a device is a real GPU."""
    return device == "cuda" and DEVICE != "simulated"


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
