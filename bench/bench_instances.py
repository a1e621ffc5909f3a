"""MaskInstances compared with other packs' nodes that split masks."""

from __future__ import annotations

import gc
from functools import partial

import hosted
import torch
from hosted import call_node
from maskwright.core.instances.instances import find_instances
from maskwright.core.instances.picking import Choice
from maskwright.nodes.mask_instances import MaskInstances

SIDE, SPECKS = 4096, 10_000
FEW, SMALL = 100, 1024  # for the comparison: with 10,000 specks, others take minutes and run out of memory

KJ = {"size_threshold_width": 0, "size_threshold_height": 0, "max_poly_points": 8, "mode": "area"}
IMPACT = {"combined": False, "crop_factor": 1.0, "bbox_fill": False, "drop_size": 1, "contour_fill": False}
OTHERS = {
    "KJNodes": partial(call_node, "SeparateMasks", **KJ),
    "Impact Pack": partial(call_node, "MaskToSEGS", **IMPACT),
}
NOTE = "Each mask has the image's size, in 32 bits: touching that new memory takes most of the time."
IN_COMFYUI = True


def draw_specks(side: int, count: int) -> torch.Tensor:
    """``count`` squares (a square number) of 8 x 8 pixels in a mask ``[1,side,side]``."""
    lines = round(count**0.5)
    step, mask = side // lines, torch.zeros(side, side)
    for y in range(8):
        for x in range(8):
            mask[y::step, x::step][:lines, :lines] = 0.8
    return mask.unsqueeze(0)


def find(mask: torch.Tensor) -> None:
    """Find and choose instances without Python's garbage collector, which would run in only some of the calls."""
    choice = Choice(sort_by="largest first", min_area=0.0001, overlap=0.5)
    gc.disable()
    try:
        choice.candidates(find_instances(mask, least_area=choice.least_area(*mask.shape[1:])))
    finally:
        gc.enable()


def main(quick: bool) -> None:
    report, mask = hosted.make_report("Split into instances", *OTHERS), draw_specks(SMALL, FEW)
    others = hosted.select_available({name: partial(split, mask) for name, split in OTHERS.items()})
    ours = partial(MaskInstances().split_masks, mask)
    report.add(f"{FEW} masks of a mask of {SMALL} x {SMALL}", ours, others, note=NOTE, headline=True)
    side, specks = (512, 100) if quick else (SIDE, SPECKS)
    few = report.add("1,024 specks of 1296 x 1296", partial(find, draw_specks(1296, 1024)))
    call = partial(find, draw_specks(side, specks))
    many = report.add(f"{specks:,} specks of {side} x {side}", call, max_seconds=2, max_bytes=500e6)
    if not quick:
        report.add_growth("specks and pixels, 1,024 and 10,000", few, many, SIDE**2 / 1296**2)
