"""GradientRegion: 16 masks of 1024 x 1024, beside the earlier way (8 bits, Pillow and OpenCV, mask by mask).

On CUDA also the number of kernel launches for 1 mask and for 16, which must be the same.

    python3 tools/dev.py bench gradient [--quick]
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch
from _side_by_side import seconds
from maskwright.core import masks
from PIL import Image


def the_earlier_way(batch: torch.Tensor, size: int) -> torch.Tensor:
    """Tensor to Pillow to numpy, OpenCV on 8 bits, and all the way back, for each mask."""
    element = np.ones((size, size), np.uint8)
    edges = []
    for mask in batch:
        picture = Image.fromarray(np.clip(255.0 * mask.cpu().numpy(), 0, 255).astype(np.uint8))
        gradient = cv2.morphologyEx(np.array(picture.convert("L")), cv2.MORPH_GRADIENT, element)
        edges.append(torch.from_numpy(np.array(Image.fromarray(gradient)).astype(np.float32) / 255.0).unsqueeze(0))
    return torch.cat(edges)


def launches(batch: torch.Tensor, size: int) -> int:
    masks.gradient(batch, size)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        masks.gradient(batch, size)
        torch.cuda.synchronize()
    return sum(event.count for event in profile.key_averages() if "kernel" in event.key.lower())


def main(arguments: list[str]) -> int:
    quick = "--quick" in arguments
    count, side, rounds = (4, 512, 3) if quick else (16, 1024, 9)
    batch = torch.rand(count, side, side, generator=torch.Generator().manual_seed(0))
    print(f"GradientRegion, {count} masks of {side} x {side}, {torch.get_num_threads()} threads")
    print(f"{'device':8}{'kernel':>8}{'earlier, ms':>14}{'now, ms':>10}{'ratio':>8}")
    for size in (3, 15, 31):
        spent = seconds(
            {"earlier": lambda: the_earlier_way(batch, size), "now": lambda: masks.gradient(batch, size)}, rounds
        )
        ratio = spent["earlier"] / spent["now"]
        print(f"{'cpu':8}{size:>8}{spent['earlier'] * 1e3:>14.1f}{spent['now'] * 1e3:>10.1f}{ratio:>8.2f}", flush=True)
    if torch.cuda.is_available():
        there = batch.to(device="cuda")
        for size in (3, 15, 31):

            def now() -> None:
                masks.gradient(there, size)
                torch.cuda.synchronize()

            spent = seconds({"earlier": lambda: the_earlier_way(there, size).to(there.device), "now": now}, rounds)
            ratio = spent["earlier"] / spent["now"]
            print(f"{'cuda':8}{size:>8}{spent['earlier'] * 1e3:>14.1f}{spent['now'] * 1e3:>10.1f}{ratio:>8.2f}")
            one, all_of_them = launches(there[:1], size), launches(there, size)
            print(f"        kernel launches: {one} for 1 mask, {all_of_them} for {count}")
    else:
        print("cuda: skipped, this machine has no CUDA device")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
