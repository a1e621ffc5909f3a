"""The detailer's work on images alone: finding, cropping, enlarging, reducing and blending regions, without a model.

`bench_detailer_comfyui.py` shows its share of a whole run.

    python3 tools/dev.py bench detailer [--quick]
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch
from _measuring import compare, devices, floor, peak_memory, smooth_images
from maskwright.core import masks, regions, tensors
from PIL import Image
from rows import Figure, Report, Timing

SIDE, CROP_FACTOR, FEATHER = 64, 3, 5  # of a region, pixels
CROP = SIDE * CROP_FACTOR

ABOUT = f"""Finding, cropping, enlarging, reducing and blending regions whose crops are {CROP} x {CROP}. The earlier
way: 8 bits, through Pillow and OpenCV on the CPU, with each region's mask as large as the image. The floor: crops and
enlarged crops are read once and written once, at the rate of a copy, or the products of the Lanczos windows, whichever
takes longer."""
NOTE = """Most of the time goes into enlarging and reducing: a banded matrix product along the rows, a transposed copy
and a product along the columns, on one core, far below the rate of a copy. Beside a model it hardly counts: see
MaskDetailerPipe."""


def draw_squares(height: int, width: int, count: int) -> torch.Tensor:
    """A mask ``[1,H,W]`` of squares whose crops do not touch."""
    mask, across = torch.zeros(1, height, width), width // (CROP + 2 * FEATHER)
    for number in range(count):
        x, y = (SIDE + (CROP + 2 * FEATHER) * place for place in (number % across, number // across))
        mask[:, y : y + SIDE, x : x + SIDE] = 1
    return mask


def run_earlier(image: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    image, device = image.cpu().clone(), image.device
    levels = (mask[0].cpu().numpy() * 255).astype(np.uint8)
    contours, _ = cv2.findContours(levels, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        drawn = np.zeros_like(levels)
        cv2.drawContours(drawn, [contour], 0, 255, -1)
        selected = (drawn / 255.0).astype(np.float32)
        x, y, w, h = cv2.boundingRect(contour)
        box = regions.crop_region(regions.Box(x, y, x + w, y + h), CROP_FACTOR, mask.shape[2], mask.shape[1])
        crop = Image.fromarray((box.cut(image)[0].numpy() * 255).clip(0, 255).astype(np.uint8))
        large = tensors.from_pil(crop.resize((size, size), Image.Resampling.LANCZOS)).to(device)
        small = tensors.to_pil(large).resize((box.width, box.height), Image.Resampling.LANCZOS)
        soft = cv2.GaussianBlur(selected[box.y1 : box.y2, box.x1 : box.x2], (2 * FEATHER + 1, 2 * FEATHER + 1), 10)
        share = torch.from_numpy(soft).unsqueeze(-1)
        target = box.cut(image)[0]
        target.copy_((1 - share) * target + share * tensors.from_pil(small))
    return image.to(device)


def run_now(image: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    """The steps of `detail`, in its order."""
    image = image.clone()
    whole = regions.Box(0, 0, image.shape[2], image.shape[1])
    for region in regions.find_regions(mask, CROP_FACTOR):
        box = region.crop
        large = tensors.resize_lanczos(box.cut(image), size, size)
        small = tensors.resize_lanczos(large, box.height, box.width)
        soft = masks.feather(region.mask.to(image.device), FEATHER, box.sides_inside(whole))
        bounds = region.bbox.grown(FEATHER, box)
        target, inner = bounds.cut(image), bounds.seen_from(box)
        target.copy_(torch.lerp(target, inner.cut(small), inner.cut(soft).unsqueeze(-1)))
    return image


def main(quick: bool) -> None:
    report = Report("Cropping, resizing and blending", ABOUT)
    for device in devices():
        image, mask = smooth_images(1, 512, 1024).to(device), draw_squares(512, 1024, 8)
        for size in (384,) if quick else (384, 768):
            calls = {"now": lambda: run_now(image, mask, size), "earlier": lambda: run_earlier(image, mask, size)}
            # A pass of 6 taps along each axis to enlarge; reducing takes 6 for each pixel read.
            taps = 6 * (2 * size * CROP + 2 * size**2)
            least = floor(device, 8 * 2 * 3 * taps, 8 * 2 * 4 * 3 * (CROP**2 + size**2))
            peaks = {"peak": peak_memory(calls["now"], device)}
            if device == "cpu":  # where the earlier way works in any case
                peaks["earlier_peak"] = peak_memory(calls["earlier"])
            times = compare(calls, 3 if quick else 9, device)
            what = f"8 regions enlarged to {size} x {size}"
            report.add(Timing(what, **times, **peaks, device=device, floor=least, note=NOTE))
            difference = (calls["now"]() - calls["earlier"]()).abs().max().item() * 255
            report.add(Figure(f"largest difference, enlarged to {size} x {size}", difference, "/255", device))
        few, many, large = draw_squares(1024, 1024, 2), draw_squares(1024, 1024, 20), smooth_images(1, 1024).to(device)
        what = "regions, 2 and 20"
        report.add_growth(what, lambda: run_now(large, few, 384), lambda: run_now(large, many, 384), device)


if __name__ == "__main__":
    main("--quick" in sys.argv)
