"""GradientRegion beside the earlier way: 8 bits, through Pillow and OpenCV, mask by mask.

On CUDA also the number of kernel launches for 16 masks, which must be that for 1.

    python3 tools/dev.py bench gradient [--quick]
"""

from __future__ import annotations

import math
import sys

import cv2
import numpy as np
import torch
from _measuring import cores, devices, floor, peak_memory, seconds, side_by_side
from _rows import Figure, Report, Timing, add_growth
from maskwright.core import masks
from maskwright.core.side_by_side import side_by_side as side_by_side_on_cores
from PIL import Image

# Masks and their side. On the CPU what takes gigabytes is left out.
SIZES = [(count, side) for count in (1, 16, 128) for side in (512, 1024, 2048, 4096)]
MOST_PIXELS = {"cpu": 1 << 27, "cuda": 1 << 31}
QUICK = [(4, 512)]
KERNELS = (3, 15, 31)
GOAL = (16, 1024)  # where 1.5 times the earlier way is wanted

ABOUT = """The earlier way: 8 bits, through Pillow and OpenCV, mask by mask; on CUDA it copies to the CPU and back. The
floor: every mask is read once and every result written once, at the bandwidth of a copy."""


def the_earlier_way(batch: torch.Tensor, size: int) -> torch.Tensor:
    """Tensor to Pillow to numpy, OpenCV on 8 bits, and all the way back, for each mask."""
    element = np.ones((size, size), np.uint8)
    edges = []
    for mask in batch:
        picture = Image.fromarray(np.clip(255.0 * mask.cpu().numpy(), 0, 255).astype(np.uint8))
        gradient = cv2.morphologyEx(np.array(picture.convert("L")), cv2.MORPH_GRADIENT, element)
        edges.append(torch.from_numpy(np.array(Image.fromarray(gradient)).astype(np.float32) / 255.0).unsqueeze(0))
    return torch.cat(edges).to(batch.device)


def launches(batch: torch.Tensor, size: int) -> int:
    masks.gradient(batch, size)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        masks.gradient(batch, size)
        torch.cuda.synchronize()
    return sum(event.count for event in profile.key_averages() if "kernel" in event.key.lower())


def reason(device: str, size: int) -> str:
    """Why the floor is far: it has only the first reading and the last writing."""
    passes, pixels = 4 * math.ceil(math.log2(size)), 1 << 20
    alone, floor_of_it = (taken / pixels * 1e9 for taken in (one_pass(device, pixels) * passes, least(device, pixels)))
    small = " Below two megapixels one core does it: threads would cost more than they save." if device == "cpu" else ""
    return (
        f"A maximum and a minimum over {size} x {size} pixels take {passes} passes of comparisons, which alone take "
        f"{alone:.2f} ns a pixel here (the floor: {floor_of_it:.2f} ns). The earlier way compares 8 bits, four times "
        f"as many at once, which tells where its masks are small enough for the cache.{small}"
    )


def one_pass(device: str, pixels: int) -> float:
    """The seconds of comparing every pixel with another once.

    On the CPU within the cache, as bands of a mask allow, and with all cores. On CUDA through the device's memory.
    """
    if device == "cuda":
        return floor(device, moved=12 * pixels)
    in_cache, repeats = 1 << 15, 4096

    def compare(seed: int) -> None:
        one, two, result = np.random.default_rng(seed).random((3, in_cache), np.float32)
        for _ in range(repeats):
            np.maximum(one, two, out=result)

    best = min(seconds(lambda: side_by_side_on_cores(compare, range(cores()))) for _ in range(5))
    return pixels * best / (in_cache * repeats * cores())


def least(device: str, pixels: int) -> float:
    """The seconds of reading every pixel once and writing every result once."""
    return floor(device, moved=8 * pixels)


def main(quick: bool) -> None:
    report = Report("GradientRegion", ABOUT)
    for device in devices():
        why = {size: reason(device, size) for size in KERNELS}
        for count, side in QUICK if quick else SIZES:
            if count * side**2 > MOST_PIXELS[device]:
                continue
            batch = torch.rand(count, side, side, generator=torch.Generator().manual_seed(0)).to(device)
            for size in KERNELS:
                ways = {
                    "now": lambda: masks.gradient(batch, size),
                    "earlier": lambda: the_earlier_way(batch, size),
                }
                taken = side_by_side(ways, 3 if quick else 9, device)
                report.add(
                    Timing(
                        f"{count} masks of {side} x {side}, kernel {size}",
                        **taken,
                        device=device,
                        floor=least(device, batch.numel()),
                        peak=peak_memory(ways["now"], device),
                        earlier_peak=peak_memory(ways["earlier"], device),
                        at_least=1.5 if (count, side) == GOAL else None,
                        note=why[size],
                        headline=(count, side) == GOAL,
                    )
                )
        batch = torch.rand(1 if quick else 20, 512, 512, generator=torch.Generator().manual_seed(0)).to(device)
        few, small = batch[: max(1, len(batch) // 10)], batch[:1, :162, :162]
        add_growth(report, "masks", lambda: masks.gradient(few, 15), lambda: masks.gradient(batch, 15), device)
        add_growth(report, "pixels", lambda: masks.gradient(small, 15), lambda: masks.gradient(batch[:1], 15), device)
    if "cuda" in devices():
        batch = torch.rand(16, 1024, 1024, device="cuda")
        for size in KERNELS:
            more = launches(batch, size) / launches(batch[:1], size)
            report.add(Figure(f"kernel launches of 16 masks to those of 1, kernel {size}", more, "x", "cuda", 1))


if __name__ == "__main__":
    main("--quick" in sys.argv)
