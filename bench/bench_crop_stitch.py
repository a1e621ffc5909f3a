"""RegionCrop and RegionStitch with nothing in between, compared with other packs' nodes, in ComfyUI's Python."""

from __future__ import annotations

from functools import partial

import hosted
import torch
from _measuring import smooth_images
from hosted import call_node
from maskwright.nodes.region_crop import RegionCrop
from maskwright.nodes.region_stitch import RegionStitch
from rows import Figure

BLEND, CONTEXT = 16, 1.5
AT_LEAST = 10  # times as fast as CropAndStitch
MAX_TIMES_CORE = 1.5
MAX_TIMES_ONE = 3  # 16 regions relative to 1 region
IN_COMFYUI = True

NOTE = """This pack also finds the regions, checks images and crops for NaN, blends with a soft seam, and returns a mask
of what changed."""

CASES = {  # images, side, radius, regions, and whether each region has a mask of its own
    "1 region of 4096 x 4096": (1, 4096, 128, 1, False),
    "16 regions of 4096 x 4096": (1, 4096, 128, 16, False),
    "16 masks for one image of 4096 x 4096": (1, 4096, 128, 16, True),
    "32 images of 1024 x 1024, a region each": (32, 1024, 128, 1, False),
}


def make_case(count: int, side: int, radius: int, regions: int, one_mask_each: bool) -> tuple:
    """Images ``[count,side,side,3]`` off the 8-bit grid, and masks with ``regions`` discs in a square grid: all in one
    mask, or each in its own."""
    images = smooth_images(count, side).add_(1e-3)
    per_row = round(regions**0.5)
    distance = side // per_row
    masks = torch.zeros(regions if one_mask_each else count, side, side)
    axis = torch.arange(2 * radius) - radius + 0.5
    disc = (axis[:, None] ** 2 + axis[None] ** 2 <= radius**2).float()
    for number in range(regions):
        y, x = (distance // 2 + distance * place - radius for place in divmod(number, per_row))
        mask = masks[number : number + 1] if one_mask_each else masks
        mask[:, y : y + 2 * radius, x : x + 2 * radius] = disc
    return images, masks


def run_ours(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    crops, _, stitch, _, _ = RegionCrop().crop(
        image=images, mask=masks, regions="connected parts", order="as found", fill_holes=False, grow=0,
        context_factor=CONTEXT, context_pixels=0, size="keep", width=512, height=512, multiple_of=8, blend=BLEND,
        batching="one by one",
    )  # fmt: skip
    return RegionStitch().stitch([stitch], crops, [0.0], [-1])[0][0]


def run_comfyui(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """ComfyUI's own nodes for a box, a crop and a composite. They have none that finds the box of a mask."""
    rows, columns = (masks[0].any(dim=axis).nonzero() for axis in (1, 0))
    place = {"x": int(columns[0]), "y": int(rows[0])}
    width, height = int(columns[-1]) + 1 - place["x"], int(rows[-1]) + 1 - place["y"]
    crop = images[:, place["y"] : place["y"] + height, place["x"] : place["x"] + width]  # as ImageCropV2 does
    mask = call_node("CropMask", masks, width=width, height=height, **place)[0]
    return call_node("ImageCompositeMasked", images, crop, resize_source=False, mask=mask, **place)[0]


def run_crop_and_stitch(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    stitcher, crops, _ = call_node(
        "InpaintCropImproved", images, "bilinear", "bicubic", False, "ensure minimum resolution", 0, 0, 16384, 16384,
        False, 1.0, 1.0, 1.0, 1.0, 0.1, True, 0, False, BLEND, CONTEXT, len(images) > 1, 512, 512, "8",
        "gpu (much faster)", mask=masks,
    )  # fmt: skip
    return call_node("InpaintStitchImproved", stitcher, crops)[0]


def run_kjnodes(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    crops, crop_masks, boxes = call_node("ImageCropByMaskAndResize", images, masks, 512, 64, 128, 4096)
    return call_node("ImageUncropByMask", images, crops, crop_masks, boxes)[0]


def run_impact(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    segs = call_node("MaskToSEGS", masks, False, CONTEXT, False, 10, False)[0]
    return call_node("SEGSPaste", images, segs, BLEND, 255, images)[0]


OTHERS = {"CropAndStitch": run_crop_and_stitch, "KJNodes": run_kjnodes, "Impact Pack": run_impact}


def main(quick: bool) -> None:
    report, rows = hosted.make_report("Crop and stitch", *OTHERS, goal=MAX_TIMES_CORE), []
    for what, (count, side, radius, regions, one_mask_each) in CASES.items():
        case = make_case(count, *((256, 16) if quick else (side, radius)), regions, one_mask_each)
        others = hosted.select_available({name: partial(run, *case) for name, run in OTHERS.items()})
        core = None if rows else partial(run_comfyui, *case)
        more = {"goals": {"CropAndStitch": AT_LEAST}, "max_times_floor": MAX_TIMES_CORE, "note": NOTE}
        rows.append(report.add(what, partial(run_ours, *case), others, core, headline=True, **more))
        change = 255 * (run_ours(*case) - case[0]).abs().max().item()
        report.store(Figure(f"{what}: largest change of a pixel", change, "/255", at_most=0))
    one, many = (row.ours.time.median for row in rows[:2])
    report.store(Figure("time of 16 regions relative to 1 region", many / one, "x", at_most=MAX_TIMES_ONE))
