"""A node for `bench_crop_stitch.py`: crop and stitch with nothing between, with this pack's nodes and others'.

It runs in ComfyUI, where all of them are loaded, and measures them in turns.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from _measuring import Spread, peak_memory, seconds, smooth_images

BLEND, CONTEXT = 16, 1.5
MAX_SECONDS = 60.0  # of one alternative; it then takes no part in further rounds


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


def find_node(name: str) -> type:
    import nodes

    return nodes.NODE_CLASS_MAPPINGS[name]


def run_maskwright(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    crops, _, stitch, _, _ = find_node("RegionCrop")().crop(
        image=images, mask=masks, regions="connected parts", order="as found", fill_holes=False, grow=0,
        context_factor=CONTEXT, context_pixels=0, size="keep", width=512, height=512, multiple_of=8, blend=BLEND,
        batching="one by one",
    )  # fmt: skip
    return find_node("RegionStitch")().stitch([stitch], crops, [0.0], [-1])[0][0]


def run_comfyui(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """ComfyUI's own nodes for a box, a crop and a composite. They have none that finds the box of a mask."""
    rows, columns = (masks[0].any(dim=axis).nonzero() for axis in (1, 0))
    box = {"x": int(columns[0]), "y": int(rows[0])}
    box |= {"width": int(columns[-1]) + 1 - box["x"], "height": int(rows[-1]) + 1 - box["y"]}
    crop = images[:, box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]]  # as ImageCropV2 does
    mask = find_node("CropMask").execute(masks, **box)[0]
    place = {"x": box["x"], "y": box["y"]}
    return find_node("ImageCompositeMasked").execute(images, crop, resize_source=False, mask=mask, **place)[0]


def run_crop_and_stitch(images: torch.Tensor, masks: torch.Tensor, device_mode: str) -> torch.Tensor:
    """CropAndStitch at its defaults, which also fill holes, but without resizing where it allows that: for single
    images."""
    side = 512
    stitcher, crops, _ = find_node("InpaintCropImproved")().inpaint_crop(
        images, "bilinear", "bicubic", False, "ensure minimum resolution", 0, 0, 16384, 16384, False, 1.0, 1.0, 1.0,
        1.0, 0.1, True, 0, False, BLEND, CONTEXT, len(images) > 1, side, side, "8", device_mode, mask=masks,
    )  # fmt: skip
    return find_node("InpaintStitchImproved")().inpaint_stitch(stitcher, crops)[0]


def run_kjnodes(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    crops, crop_masks, boxes = find_node("ImageCropByMaskAndResize")().crop(images, masks, 512, 64, 128, 4096)
    return find_node("ImageUncropByMask")().uncrop(images, crops, crop_masks, boxes)[0]


def run_impact(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    segs = find_node("MaskToSEGS")().doit(masks, False, CONTEXT, False, 10, False)[0]
    return find_node("SEGSPaste")().doit(images, segs, BLEND, 255, images)[0]


ALTERNATIVES: dict[str, Callable] = {
    "Maskwright": run_maskwright,
    "ComfyUI": run_comfyui,
    "CropAndStitch": lambda images, masks: run_crop_and_stitch(images, masks, "gpu (much faster)"),
    "CropAndStitch (compatible)": lambda images, masks: run_crop_and_stitch(images, masks, "cpu (compatible)"),
    "KJNodes": run_kjnodes,
    "Impact": run_impact,
}


def measure(case: dict, names: list[str], rounds: int) -> dict:
    """For each alternative: its times, its peak memory, and the largest change of a pixel; or why it failed."""
    images, masks = make_case(**case)
    results: dict[str, dict] = {}
    times: dict[str, list[float]] = {}
    for name in names:
        call = ALTERNATIVES[name]
        try:
            start = time.perf_counter()
            peak = peak_memory(lambda: call(images, masks))
            first = time.perf_counter() - start
            output = call(images, masks) if first < MAX_SECONDS else None
            results[name] = {"peak": peak}
            if output is not None and output.shape == images.shape:
                results[name]["error"] = float((output - images).abs().max()) * 255
            elif output is not None:
                results[name]["shape"] = list(output.shape)
            del output
            times[name] = [first] if first >= MAX_SECONDS else []
        except Exception as error:
            results[name] = {"failed": f"{type(error).__name__}: {error}"[:200]}
    for _ in range(rounds):
        for name, spent in times.items():
            if sum(spent) < MAX_SECONDS:
                spent.append(seconds(lambda: ALTERNATIVES[name](images, masks)))
    for name, spent in times.items():
        results[name]["spread"] = asdict(Spread.of(spent))
    return results


class BenchCropStitch:
    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "fixtures"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {name: ("STRING", {}) for name in ("case", "names", "out")} | {"rounds": ("INT", {})}}

    @torch.inference_mode()
    def run(self, case: str, names: str, out: str, rounds: int) -> dict:
        result = measure(json.loads(case), json.loads(names), rounds)
        Path(out).write_text(json.dumps(result), encoding="utf-8")
        return {"ui": {}}


NODE_CLASS_MAPPINGS = {"BenchCropStitch": BenchCropStitch}
