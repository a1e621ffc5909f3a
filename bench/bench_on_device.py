"""EditMask, RefineMask's guided filter, RegionCrop with RegionStitch, and MaskDetailerPipe's own work, without ComfyUI.

python3 tools/dev.py bench on_device [--quick]
"""

from __future__ import annotations

import sys
from functools import partial

import torch
from _measuring import devices, smooth_images  # first: makes the tests importable
from exact_diffusion import IdleSampler, SpaceToDepthVae
from maskwright.core.checks import as_image_batch, as_mask_batch
from maskwright.core.crop.crop_frames import CropSettings
from maskwright.core.crop.crop_regions import choose_regions
from maskwright.core.crop.crop_stitch import crop_regions
from maskwright.core.crop.stitch import stitch_crops
from maskwright.core.cutout.edges import GUIDED_FILTER, RefineSettings, refine_masks
from maskwright.core.detail.detail import Backend, detail
from maskwright.core.detail.settings import DetailerSettings
from maskwright.core.edit import MaskEdits, edit_masks
from maskwright.core.engine import Pipe
from rows import Report

SQUARE, DISTANCE = 96, 256  # a selected square, and from one to the next
EDITS = {
    "fill holes": {"fill_holes": True},
    "grow by 20": {"grow": 20},
    "smooth by 8": {"smooth": 8},
    "feather by 16 and 16": {"feather_inside": 16, "feather_outside": 16},
    "blur by 16": {"blur": 16},
}

ABOUT = """Without ComfyUI, on images and masks that are on the device named. The detailer's sampler returns its input
and its VAE only moves pixels, so its time is the node's own. Float16 inputs are converted first, as in the nodes.
There is no earlier way, and no floor."""


def draw_squares(side: int) -> torch.Tensor:
    """Squares with soft corners, in rows and columns: ``[1,side,side]``."""
    mask = torch.zeros(1, side, side)
    for y in range(0, side - SQUARE, DISTANCE):
        for x in range(0, side - SQUARE, DISTANCE):
            mask[:, y + 16 : y + 16 + SQUARE, x + 16 : x + 16 + SQUARE] = 1
            mask[:, y + 16 : y + 32, x + 16 : x + 32] = 0.5
    return mask


def run_guided_filter(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    settings = RefineSettings(GUIDED_FILTER, edge_width=16, decontaminate=False)
    return refine_masks(as_image_batch(image), as_mask_batch(mask), settings)[0]


def crop_and_stitch(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    image, mask = as_image_batch(image, clamp=False), as_mask_batch(mask)
    settings = CropSettings(width=256, height=256)
    crops = crop_regions(image, choose_regions(mask, ((),), image, settings), settings)
    return stitch_crops([crops.stitch], crops.images)[0][0]


def run_detailer(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    backend = Backend(IdleSampler(), SpaceToDepthVae())
    settings = DetailerSettings(guide_size=256, steps=1, region_batch=4)
    return detail(image, mask, Pipe("model", "positive", "negative"), backend, settings).image


def main(quick: bool) -> None:
    report, side, count = Report("Without ComfyUI", ABOUT), *((320, 2) if quick else (2048, 8))
    image, mask = smooth_images(1, side), draw_squares(side)
    for device in devices():
        for dtype in (torch.float32, torch.float16):
            ours, selected = image.to(device, dtype), mask.to(device, dtype)
            kind = f"{side} x {side}, {str(dtype).removeprefix('torch.')}"
            batch = torch.cat([selected.round(), selected]).repeat(count // 2, 1, 1)  # half of them with soft edges
            calls = {f"edit, {name}: {count} masks": partial(edit_masks, batch, MaskEdits(**each))
                     for name, each in EDITS.items()}  # fmt: skip
            calls["guided filter: 1 image"] = partial(run_guided_filter, ours, selected)
            calls["crop and stitch: 1 image"] = partial(crop_and_stitch, ours, selected)
            calls["detailer, own work: 1 image"] = partial(run_detailer, ours, selected)
            for what, call in calls.items():
                report.add_comparison(f"{what} of {kind}", {"now": call}, 2 if quick else 7, device)


if __name__ == "__main__":
    main("--quick" in sys.argv)
