"""RefineMask compared with rembg's matting, its guided filter, and a very large image."""

from __future__ import annotations

from functools import partial

import torch
from _measuring import devices, peak_memory, process_memory, seconds
from bench_matting import Scene, draw_portrait
from maskwright.core.cutout.edges import GUIDED_FILTER, RefineSettings, find_edge_width, make_band, refine_masks
from maskwright.core.cutout.guided_filter import apply_guided_filter
from rows import Cell, Report, Row, Spread

LARGE = (4000, 6000)
LARGE_UNKNOWN = 0.05  # of the pixels

NOTE = """A third of the time is factorizing and solving the equations, in pymatting's kernels on one core, as in rembg;
the rest is the trimap, a smaller image, the colors, and restoring thin parts, which rembg loses."""


def refine(scene: Scene, method: str = RefineSettings.method) -> torch.Tensor:
    return refine_masks(scene.image.unsqueeze(0), scene.mask.unsqueeze(0), RefineSettings(method))[1][0]


def add_large(report: Report, height: int, width: int) -> None:
    """One run on a large image, while the process has done nothing else."""
    image, mask = draw_portrait(height, width)
    edge_width = find_edge_width(mask)
    while (share := (make_band(mask, edge_width) == 0.5).float().mean().item()) > 1.02 * LARGE_UNKNOWN:
        edge_width *= max(0.5, LARGE_UNKNOWN / share)
    settings, durations = RefineSettings(edge_width=edge_width), []
    refine_masks(image[None, :64, :64], mask[None, :64, :64], settings)  # imports
    peak = peak_memory(lambda: durations.append(seconds(partial(refine_masks, image[None], mask[None], settings))))
    cell = Cell(Spread.of(durations), peak and peak + process_memory("VmRSS"))
    what = f"closed form: {width} x {height}, {share:.0%} unknown, memory alone"
    report.store(Row(what, cell, max_seconds=30, max_bytes=4e9))


def main(quick: bool) -> None:
    report, side = Report("Refine edges"), 256 if quick else 1024
    add_large(report, *((400, 600) if quick else LARGE))
    scene, goals = Scene(side), {} if quick else {"rembg": 3}
    others = {"rembg": partial(scene.run_rembg, True)}
    report.add(f"closed form: {side} x {side}", partial(refine, scene), others, goals=goals, note=NOTE, headline=True)
    for device in devices():
        scene = Scene(side, device)
        what = f"guided filter with cutout and colors: {side} x {side}"
        report.add(what, partial(refine, scene, GUIDED_FILTER), device=device)
        image, mask, radius = scene.image[None], scene.mask[None], max(1, round(find_edge_width(scene.mask)))
        what, call = f"guided filter alone: {side} x {side}", partial(apply_guided_filter, image, mask, radius)
        report.add(f"{what}, radius {radius}", call, device=device, max_seconds=0.06)
