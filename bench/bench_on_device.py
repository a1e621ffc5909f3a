"""Masks and images on a GPU, without ComfyUI: EditMask, RefineMask's guided filter, RegionCrop with RegionStitch, and
MaskDetailerPipe's own work.
"""

from __future__ import annotations

from functools import partial

import torch
from _measuring import Call, devices, smooth_images  # first: makes the tests importable
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

CPU = "the CPU of this machine"

NOTE = "Connected parts are labeled on the CPU, so masks are copied there and back; each region launches kernels."


def draw_squares(side: int) -> torch.Tensor:
    """Squares with soft corners, in rows and columns: ``[1,side,side]``."""
    square = torch.zeros(DISTANCE, DISTANCE)
    square[16 : 16 + SQUARE, 16 : 16 + SQUARE] = 1
    square[16:32, 16:32] = 0.5
    return square.repeat(1, -(-side // DISTANCE), -(-side // DISTANCE))[:, :side, :side]


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


def make_calls(image: torch.Tensor, mask: torch.Tensor, count: int) -> dict[str, Call]:
    """All work on an image and a mask, and on ``count`` masks of which half have soft edges."""
    batch = torch.cat([mask.round(), mask]).repeat(count // 2, 1, 1)
    calls = {
        f"edit, {name}: {count} masks": partial(edit_masks, batch, MaskEdits(**each)) for name, each in EDITS.items()
    }
    calls["guided filter: 1 image"] = partial(run_guided_filter, image, mask)
    calls["crop and stitch: 1 image"] = partial(crop_and_stitch, image, mask)
    calls["detailer, own work: 1 image"] = partial(run_detailer, image, mask)
    return calls


def main(quick: bool) -> None:
    if "cuda" not in devices():
        print("skipped: no CUDA device")
        return
    report, side, count = Report("Masks and images on a GPU"), *((320, 2) if quick else (2048, 8))
    image, mask = smooth_images(1, side), draw_squares(side)
    on_cpu, gpu = make_calls(image, mask, count), torch.device("cuda")
    for dtype in (torch.float32, torch.float16):
        kind = f"{side} x {side}, {str(dtype).removeprefix('torch.')}"
        for what, call in make_calls(image.to(gpu, dtype), mask.to(gpu, dtype), count).items():
            others = {CPU: on_cpu[what]} if dtype == torch.float32 else {}
            report.add(f"{what} of {kind}", call, others, device="cuda", note=NOTE)
