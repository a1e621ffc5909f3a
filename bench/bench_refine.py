"""RefineMask compared with rembg's matting, its guided filter, and a very large image.

python3 tools/dev.py bench refine [--quick]
"""

from __future__ import annotations

import subprocess
import sys
import time

import torch
from _measuring import compare, devices, peak_memory, process_memory
from bench_matting import Scene, draw_portrait
from maskwright.core import packages
from maskwright.core.cutout.edges import GUIDED_FILTER, RefineSettings, find_edge_width, make_band, refine_masks
from maskwright.core.cutout.guided_filter import apply_guided_filter
from rows import Figure, Report, Timing

MAX_FILTER = 60  # ms
MAX_SECONDS, MAX_GIGABYTES = 30, 4
LARGE = (4000, 6000)
LARGE_UNKNOWN = 0.05  # of the pixels

ABOUT = """RefineMask at its defaults on the same portraits as alpha matting. The earlier way: rembg's matting with the
same mask. The guided filter alone, without reading the mask's edge width. Memory alone is that of a process that does
nothing else, including torch and all other modules."""


def refine(scene: Scene, method: str = RefineSettings.method) -> torch.Tensor:
    return refine_masks(scene.image.unsqueeze(0), scene.mask.unsqueeze(0), RefineSettings(method))[1][0]


def main(quick: bool) -> None:
    with packages.keep_torch_threads():
        import rembg  # noqa: F401 - before anything is measured

    report, side = Report("RefineMask", ABOUT), 256 if quick else 1024
    scene = Scene(side)
    calls = {"now": lambda: refine(scene), "earlier": lambda: scene.run_earlier(True)}
    times = compare(calls, 2 if quick else 5)
    report.add(Timing(f"closed form: {side} x {side}", **times, at_least=None if quick else 3, headline=True))
    for device in devices():
        other = Scene(side, device)
        filtering = compare({"now": lambda: refine(other, GUIDED_FILTER)}, 2 if quick else 5, device)
        report.add(Timing(f"guided filter with cutout and colors: {side} x {side}", **filtering, device=device))
        image, mask = other.image.unsqueeze(0), other.mask.unsqueeze(0)
        radius = max(1, round(find_edge_width(other.mask)))
        alone = compare({"now": lambda: apply_guided_filter(image, mask, radius)}, 3 if quick else 15, device)["now"]
        what = f"guided filter alone: {side} x {side}, radius {radius}: time"
        report.add(Figure(what, 1000 * alone.median, " ms", device, MAX_FILTER))
    height, width = (400, 600) if quick else LARGE
    command = [sys.executable, __file__, "--alone", str(height), str(width)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    share, seconds, memory = (float(each) for each in output.splitlines()[-1].split())
    what = f"closed form: {width} x {height}, {share:.0%} unknown"
    report.add(Figure(f"{what}: time", seconds, " s", at_most=MAX_SECONDS))
    report.add(Figure(f"{what}: memory alone", memory / 1e9, " GB", at_most=MAX_GIGABYTES))


def run_alone(height: int, width: int) -> None:
    """In its own process: print the share of unknown pixels, seconds and peak memory."""
    image, mask = draw_portrait(height, width)
    edge_width = find_edge_width(mask)
    while (share := (make_band(mask, edge_width) == 0.5).float().mean().item()) > 1.02 * LARGE_UNKNOWN:
        edge_width *= max(0.5, LARGE_UNKNOWN / share)
    settings = RefineSettings(edge_width=edge_width)
    refine_masks(image[None, :64, :64], mask[None, :64, :64], settings)  # imports
    start = time.perf_counter()
    peak = peak_memory(lambda: refine_masks(image[None], mask[None], settings))
    print(share, time.perf_counter() - start, int((peak or 0) + process_memory("VmRSS")))


if __name__ == "__main__":
    if "--alone" in sys.argv:
        run_alone(*(int(each) for each in sys.argv[2:]))
    else:
        main("--quick" in sys.argv)
