"""Time and memory: ways of doing the same thing side by side in one run, and what the machine can do at best.

Ways take turns, round by round, so that noise hits all alike. A first round does not count. On CUDA the time is that
between two events on the device's stream, so that neither queued work nor the waiting for it is left out.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]

from pack import load_pack  # noqa: E402 - found through the line above

load_pack(ROOT)

MOST_SECONDS = 30.0  # for all rounds of one comparison; at least two rounds are always done

Way = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Seconds of some rounds: the median, and the quartiles below and above it."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, seconds: list[float]) -> Spread:
        if len(seconds) == 1:
            return cls(*seconds * 3, 1)
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, len(seconds))


def side_by_side(ways: Mapping[str, Way], rounds: int, device: str = "cpu") -> dict[str, Spread]:
    """What each way takes, after a round that does not count. Fewer rounds where all take `MOST_SECONDS`."""
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    start = time.perf_counter()
    for number in range(rounds):
        for name, way in ways.items():
            times[name].append(seconds(way, device))
        if number and time.perf_counter() - start > MOST_SECONDS:
            break
    return {name: Spread.of(taken) for name, taken in times.items()}


def seconds(way: Way, device: str = "cpu") -> float:
    """What one call takes; on CUDA until the device has done all that was queued."""
    if device == "cuda":
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        before.record()
        way()
        after.record()
        torch.cuda.synchronize()
        return before.elapsed_time(after) / 1e3
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def peak_memory(way: Way, device: str = "cpu") -> float | None:
    """The most bytes that a call holds, its result included, beyond what is held before it.

    On the CPU what the system counts for this process (Linux only: None elsewhere), so that buffers of the libraries
    count as well; on CUDA what PyTorch handed out.
    """
    gc.collect()  # a model of an earlier call may be held by nothing but itself
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        way()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before)
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # else what earlier calls gave back would be used again and not be seen
        libc.malloc_trim(0)
    before = _held(status, "VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak of before
    except OSError:
        return None
    result = way()
    peak = _held(status, "VmHWM") - before
    del result
    return max(float(peak), 0.0)


def process_memory() -> float | None:
    """The bytes that this process holds (Linux only: None elsewhere)."""
    status = Path("/proc/self/status")
    return float(_held(status, "VmRSS")) if status.exists() else None


def _held(status: Path, kind: str) -> int:
    return int(status.read_text(encoding="ascii").split(f"{kind}:")[1].split()[0]) * 1024


# The best rates of each device, as far as a floor of this run asked for them.
RATES: dict[str, dict[str, float]] = {}


@functools.cache
def bytes_per_second(device: str = "cpu") -> float:
    """What this device copies at best, read and written bytes together, with all its cores."""
    source = torch.rand(1 << 26, device=device)  # 256 MB: larger than any cache
    target = torch.empty_like(source)
    rate = 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device) for _ in range(7))
    RATES.setdefault(device, {})["GB/s copied"] = round(rate / 1e9, 1)
    return rate


@functools.cache
def operations_per_second(device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """What this device multiplies and adds at best (two operations each), in products of large matrices."""
    side = 8192 if device == "cuda" else 2048
    one, two = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(2))
    way = functools.partial(torch.matmul, one, two)
    rate = 2 * side**3 / min(seconds(way, device) for _ in range(5))
    rounded = device == "cuda" and dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    kind = "TF32" if rounded else str(dtype).removeprefix("torch.")
    RATES.setdefault(device, {})[f"TFLOP/s in {kind}"] = round(rate / 1e12, 3)
    return rate


def floor(device: str, operations: float = 0.0, moved: float = 0.0, dtype: torch.dtype = torch.float32) -> float:
    """The seconds that this device needs at least: the operations at the rate of torch's products of large matrices, or
    the bytes that must be read and written at the bandwidth of a copy, whichever takes longer."""
    return max(
        operations / operations_per_second(device, dtype) if operations else 0.0,
        moved / bytes_per_second(device) if moved else 0.0,
    )


def devices() -> list[str]:
    """What can be measured here: the CPU, and CUDA where there is one."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


class Watched:
    """Adds up the time during which at least one of some calls runs, to tell it from the time outside them."""

    def __init__(self, device: str = "cpu") -> None:
        self.spent = 0.0
        self._device, self._running, self._since, self._lock = device, 0, 0.0, threading.Lock()

    def watch(self, work: Callable) -> Callable:
        @functools.wraps(work)
        def wrapper(*given: object, **named: object) -> object:
            with self._lock:
                if self._running == 0:
                    self._since = self._now()
                self._running += 1
            try:
                return work(*given, **named)
            finally:
                with self._lock:
                    self._running -= 1
                    if self._running == 0:
                        self.spent += self._now() - self._since

        return wrapper

    def _now(self) -> float:
        if self._device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
