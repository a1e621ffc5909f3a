"""Times ways of doing the same thing side by side in one run: in turn, round by round, so that noise hits all alike."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from pack import load_pack  # noqa: E402 - found through the line above

load_pack(ROOT)


def seconds(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each way over ``rounds`` rounds, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(spent) for name, spent in times.items()}
