"""GradientRegion beside the earlier way: 8 bits, through Pillow and OpenCV, mask by mask.

On CUDA also the number of kernel launches for 16 masks, which must be that for 1.

    python3 tools/dev.py bench gradient [--quick]
"""

from __future__ import annotations

import functools
import math
import sys
import warnings
from unittest.mock import patch

import cv2
import numpy as np
import torch
from _measuring import cores, devices, floor, peak_memory, seconds, side_by_side
from _rows import Figure, Report, Timing, add_growth
from maskwright.core import morphology
from maskwright.core.parallel import parallel_map
from PIL import Image

# Masks and their side; what takes more memory or minutes than there are is left out.
SIZES = [(count, side) for count in (1, 16, 128) for side in (512, 1024, 2048, 4096)]
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
    morphology.gradient(batch, size)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        morphology.gradient(batch, size)
        torch.cuda.synchronize()
    return sum(event.count for event in profile.key_averages() if "kernel" in event.key.lower())


def reason(device: str, batch: torch.Tensor, size: int, taken: float) -> str:
    """Why the floor is far: it has only the first reading and the last writing."""
    passes = 4 * math.ceil(math.log2(size))
    workers = max(1, min(cores(), batch.numel() // morphology._PIXELS_A_THREAD))
    alone = one_pass(device, workers) * passes * batch.numel()
    told = f"The {passes} passes of comparisons over {size} x {size} pixels alone take {alone / taken:.0%} of the time"
    if device == "cuda":
        return f"{told}, each through the device's memory."
    with patch.object(np, "maximum", _nothing), patch.object(np, "minimum", _nothing), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what is subtracted then is no mask
        rest = min(seconds(lambda: morphology.gradient(batch, size)) for _ in range(3))
    return (
        f"{told}, and all but them (a frame around each band, the results and their memory) {rest / taken:.0%}; they "
        "are done in bands that stay in the cache. The earlier way compares 8 bits, four times as many at once, which "
        "tells where its masks are small enough for the cache. Below a megapixel one core does it: threads cost "
        "more than they save there."
    )


def _nothing(*given: object, **named: object) -> None:
    """In the place of a comparison."""


@functools.cache
def one_pass(device: str, workers: int) -> float:
    """The seconds of comparing a pixel with another once.

    On the CPU within the cache, as bands of a mask allow, and with so many cores. On CUDA through the device's memory.
    """
    if device == "cuda":
        return floor(device, moved=12)
    in_cache, repeats = 1 << 15, 4096

    def compare(seed: int) -> None:
        one, two, result = np.random.default_rng(seed).random((3, in_cache), np.float32)
        for _ in range(repeats):
            np.maximum(one, two, out=result)

    best = min(seconds(lambda: parallel_map(compare, range(workers))) for _ in range(5))
    return best / (in_cache * repeats * workers)


def most_pixels(device: str) -> int:
    """Of a batch, so that all that is held beside it finds room: results, buffers, and the earlier way's copies."""
    if device == "cpu":
        return 1 << 27  # more takes minutes
    return min(1 << 31, torch.cuda.mem_get_info()[1] // 16)


def least(device: str, pixels: int) -> float:
    """The seconds of reading every pixel once and writing every result once."""
    return floor(device, moved=8 * pixels)


def main(quick: bool) -> None:
    report = Report("GradientRegion", ABOUT)
    for device in devices():
        for count, side in QUICK if quick else SIZES:
            if count * side**2 > most_pixels(device):
                continue
            batch = torch.rand(count, side, side, generator=torch.Generator().manual_seed(0)).to(device)
            for size in KERNELS:
                ways = {
                    "now": lambda: morphology.gradient(batch, size),
                    "earlier": lambda: the_earlier_way(batch, size),
                }
                taken = side_by_side(ways, 3 if quick else 9, device)
                report.add(
                    Timing(
                        f"{count} mask{'s' * (count > 1)} of {side} x {side}, kernel {size}",
                        **taken,
                        device=device,
                        floor=least(device, batch.numel()),
                        peak=peak_memory(ways["now"], device),
                        earlier_peak=peak_memory(ways["earlier"]) if device == "cpu" else None,  # works there
                        at_least=1.5 if (count, side) == GOAL else None,
                        note=reason(device, batch, size, taken["now"].median),
                        headline=(count, side) == GOAL,
                    )
                )
        batch = torch.rand(1 if quick else 20, 512, 512, generator=torch.Generator().manual_seed(0)).to(device)
        few, small = batch[: max(1, len(batch) // 10)], batch[:1, :162, :162]
        add_growth(
            report,
            "masks, 2 and 20",
            lambda: morphology.gradient(few, 15),
            lambda: morphology.gradient(batch, 15),
            device,
        )
        add_growth(
            report,
            "pixels, 162 x 162 and 512 x 512",
            lambda: morphology.gradient(small, 15),
            lambda: morphology.gradient(batch[:1], 15),
            device,
        )
    if "cuda" in devices():
        batch = torch.rand(16, 1024, 1024, device="cuda")
        for size in KERNELS:
            many, one = launches(batch, size), launches(batch[:1], size)
            if not one:
                print("kernel launches are left out: nobody may count them here")
                break
            more = many / one
            report.add(Figure(f"kernel launches of 16 masks to those of 1, kernel {size}", more, "x", "cuda", 1))


if __name__ == "__main__":
    main("--quick" in sys.argv)
