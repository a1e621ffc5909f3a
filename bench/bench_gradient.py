"""GradientRegion and the earlier node: 8 bits, with Pillow and OpenCV, mask by mask.

python3 tools/dev.py bench gradient [--quick]
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from _measuring import devices
from maskwright import NODE_CLASS_MAPPINGS
from PIL import Image
from rows import Report

try:
    import cv2
except ImportError:  # only the earlier node needs it
    cv2 = None

SIZES = [(1, 512), (1, 2048), (16, 512), (16, 1024), (128, 1024)]  # masks and their side
KERNELS = (3, 15, 31)
GOAL = (16, 1024)  # where the target applies

ABOUT = """The earlier node: 8 bits, with Pillow and OpenCV, mask by mask; on CUDA it copies to the CPU and back. The
floor: each mask is read once and each result written once, at the rate of a copy."""
NOTE = """The floor counts only the first read and the last write. In between, a kernel of 3 takes 8 passes of
comparisons, one of 15 takes 16 and one of 31 takes 20, in bands that stay in the cache. The earlier node compares 8-bit
values, four times as many per instruction as this pack's 32-bit values, and is faster if its masks fit into the cache.
Below a megapixel, threading does not pay, so one core does all the work."""


def run_now(batch: torch.Tensor, size: int) -> torch.Tensor:
    return NODE_CLASS_MAPPINGS["GradientRegion"]().gradient_region(batch, size)[0]


def run_earlier(batch: torch.Tensor, size: int) -> torch.Tensor:
    element, edges = np.ones((size, size), np.uint8), []
    for mask in batch:
        levels = Image.fromarray(np.clip(255.0 * mask.cpu().numpy(), 0, 255).astype(np.uint8))
        gradient = cv2.morphologyEx(np.array(levels.convert("L")), cv2.MORPH_GRADIENT, element)
        edges.append(torch.from_numpy(np.array(Image.fromarray(gradient)).astype(np.float32) / 255.0).unsqueeze(0))
    return torch.cat(edges).to(batch.device)


def main(quick: bool) -> None:
    report = Report("GradientRegion", ABOUT)
    generator = torch.Generator().manual_seed(0)
    for device in devices():
        for count, side in [(4, 512)] if quick else SIZES:
            batch = torch.rand(count, side, side, generator=generator).to(device)
            goal = {"at_least": 1.5, "headline": True} if (count, side) == GOAL else {}
            for size in KERNELS:
                what = f"{count} mask{'s' * (count > 1)} of {side} x {side}, kernel {size}"
                calls = {"now": lambda: run_now(batch, size)}
                if cv2:
                    calls["earlier"] = lambda: run_earlier(batch, size)
                report.add_comparison(
                    what, calls, 3 if quick else 9, device, moved=8 * batch.numel(), note=NOTE, **goal
                )
        many = torch.rand(20, 512, 512, generator=generator).to(device)
        few, small, one = many[:2], many[:1, :162, :162], many[:1]
        for what, less, more in (("masks, 2 and 20", few, many), ("pixels, 162 x 162 and 512 x 512", small, one)):
            report.add_growth(what, lambda: run_now(less, 15), lambda: run_now(more, 15), device)


if __name__ == "__main__":
    main("--quick" in sys.argv)
