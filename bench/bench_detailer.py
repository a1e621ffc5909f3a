"""The detailer's work on pictures alone: finding, cropping, enlarging, reducing, blending; no model.

What it takes of a whole run tells `bench_detailer_comfyui.py`.

    python3 tools/dev.py bench detailer [--quick]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import cv2
import numpy as np
import torch
from _measuring import Watched, bytes_per_second, devices, floor, peak_memory, seconds, side_by_side
from _rows import Figure, Report, Timing, add_growth
from maskwright.core import geometry, masks, regions, tensors
from PIL import Image

SIDE, CROP_FACTOR, FEATHER = 64, 3, 5  # of a region, pixels
CROP = SIDE * CROP_FACTOR

ABOUT = f"""Finding, cropping, enlarging, reducing and blending regions whose crops are {CROP} x {CROP}. The earlier
way: 8 bits, through Pillow and OpenCV on the CPU, each region's mask drawn as large as the picture. The floor: crops
and enlarged crops are read once and written once, at the bandwidth of a copy, or the weights of the Lanczos windows
are multiplied and added at the rate of matrix products, whichever takes longer."""


def squares(height: int, width: int, count: int) -> torch.Tensor:
    """A mask ``[1,H,W]`` of squares whose crops do not touch."""
    mask = torch.zeros(1, height, width)
    across = width // (CROP + 2 * FEATHER)
    for i in range(count):
        x, y = (SIDE + (CROP + 2 * FEATHER) * place for place in (i % across, i // across))
        mask[:, y : y + SIDE, x : x + SIDE] = 1
    return mask


def picture(height: int, width: int) -> torch.Tensor:
    """Smooth, as photographs are, for 8 bits and a window of 3 lobes differ most on noise: ``[1,H,W,3]``."""
    noise = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)
    return tensors.bchw_to_image(large).contiguous()


def the_earlier_way(image: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    """Find, crop, enlarge, reduce and blend: through Pillow in 8 bits, the mask drawn as large as the picture."""
    image, device = image.cpu().clone(), image.device
    levels = (mask[0].cpu().numpy() * 255).astype(np.uint8)
    contours, _ = cv2.findContours(levels, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        drawn = np.zeros_like(levels)
        cv2.drawContours(drawn, [contour], 0, 255, -1)
        selected = (drawn / 255.0).astype(np.float32)
        x, y, w, h = cv2.boundingRect(contour)
        box = geometry.compute_crop_region(geometry.Box(x, y, x + w, y + h), CROP_FACTOR, mask.shape[2], mask.shape[1])
        crop = Image.fromarray((box.crop(image)[0].numpy() * 255).clip(0, 255).astype(np.uint8))
        large = tensors.from_pil(crop.resize((size, size), Image.Resampling.LANCZOS)).to(device)
        small = tensors.to_pil(large).resize((box.width, box.height), Image.Resampling.LANCZOS)
        soft = cv2.GaussianBlur(selected[box.y1 : box.y2, box.x1 : box.x2], (2 * FEATHER + 1, 2 * FEATHER + 1), 10)
        share = torch.from_numpy(soft).unsqueeze(-1)
        there = box.crop(image)[0]
        there.copy_((1 - share) * there + share * tensors.from_pil(small))
    return image.to(device)


def resized(crop: torch.Tensor, size: int) -> torch.Tensor:
    large = tensors.resize_lanczos(crop, size, size)
    return tensors.resize_lanczos(large, *crop.shape[1:3])


def this_way(image: torch.Tensor, mask: torch.Tensor, size: int, resize: Callable = resized) -> torch.Tensor:
    """As `detail` does it, in this order."""
    image = image.clone()
    whole = geometry.Box(0, 0, image.shape[2], image.shape[1])
    for region in regions.find_regions(mask, CROP_FACTOR):
        box = region.crop_region
        small = resize(box.crop(image), size)
        soft = masks.feather(region.mask.to(image.device), FEATHER, box.inner_sides(whole))
        writes = region.bbox.expand(FEATHER, box)
        there, here = writes.crop(image), writes.relative_to(box)
        there.copy_(torch.lerp(there, here.crop(small), here.crop(soft).unsqueeze(-1)))
    return image


def resized_earlier(crop: torch.Tensor, size: int) -> torch.Tensor:
    large = tensors.from_pil(tensors.to_pil(crop[0]).resize((size, size), Image.Resampling.LANCZOS)).to(crop.device)
    small = tensors.to_pil(large).resize((crop.shape[2], crop.shape[1]), Image.Resampling.LANCZOS)
    return tensors.from_pil(small).to(crop.device).unsqueeze(0)


def work_of_resizing(size: int) -> dict[str, float]:
    """Of one crop: what `_measuring.floor` asks for. A pass of 6 taps along each axis to enlarge; to reduce as many
    times more as it gets smaller, which is 6 for each pixel read."""
    wide = size * CROP  # pixels between two passes
    taps = 6 * (wide + size**2) + 6 * (size**2 + wide)
    return {"operations": 2 * 3 * taps, "moved": 2 * 4 * 3 * (CROP**2 + size**2)}


def main(quick: bool) -> None:
    report = Report("Cropping, resizing and blending", ABOUT)
    rounds = 3 if quick else 9
    for device in devices():
        width, height = 1024, 512
        image, mask = picture(height, width).to(device), squares(height, width, 8)
        for size in (384,) if quick else (384, 768):
            crop, work = image[:, :CROP, :CROP], work_of_resizing(size)
            parts = {"now": lambda: resized(crop, size), "earlier": lambda: resized_earlier(crop, size)}
            ways = {
                "now": lambda: this_way(image, mask, size),
                "earlier": lambda: the_earlier_way(image, mask, size),
            }
            resizing, taken = (side_by_side(each, rounds, device) for each in (parts, ways))
            watched = Watched(device)
            whole = seconds(lambda: this_way(image, mask, size, watched.watch(resized)), device)
            rate, best = work["moved"] / resizing["now"].median / 1e9, bytes_per_second(device) / 1e9
            how = "with one core" if device == "cpu" else "in small kernels"
            alone = (
                f"A product with a banded matrix along the rows, a turned copy of the picture, a product along the "
                f"columns, {how}: {rate:.1f} GB/s of what must be moved, where a copy reaches {best:.0f}. Beside a "
                "model it is next to nothing: its share stands under MaskDetailerPipe."
            )
            of_all = f"Enlarging and reducing take {watched.spent / whole:.0%} of it. {alone}"
            report.add(
                Timing(
                    f"8 regions enlarged to {size} x {size}",
                    **taken,
                    floor=floor(device, 8 * work["operations"], 8 * work["moved"]),
                    peak=peak_memory(ways["now"], device),
                    earlier_peak=peak_memory(ways["earlier"]) if device == "cpu" else None,  # works there
                    device=device,
                    note=of_all,
                )
            )
            report.add(
                Timing(
                    f"of that enlarging and reducing one, {size} x {size}",
                    **resizing,
                    floor=floor(device, **work),
                    peak=peak_memory(parts["now"], device),
                    earlier_peak=peak_memory(parts["earlier"]) if device == "cpu" else None,
                    device=device,
                    note=alone,
                )
            )
            difference = (ways["now"]() - ways["earlier"]()).abs().max().item() * 255
            report.add(Figure(f"greatest difference, enlarged to {size} x {size}", difference, " of 255", device))
        few, many = squares(1024, 1024, 2), squares(1024, 1024, 20)
        large = picture(1024, 1024).to(device)
        add_growth(
            report, "regions, 2 and 20", lambda: this_way(large, few, 384), lambda: this_way(large, many, 384), device
        )


if __name__ == "__main__":
    main("--quick" in sys.argv)
