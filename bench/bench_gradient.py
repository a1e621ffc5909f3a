"""GradientRegion and the earlier node: 8 bits, with Pillow and OpenCV, mask by mask."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from _measuring import copy_time, devices
from maskwright import NODE_CLASS_MAPPINGS
from PIL import Image
from rows import Report

try:
    import cv2
except ImportError:  # only the earlier node needs it
    cv2 = None

SIZES = [(1, 512), (1, 2048), (16, 512), (16, 1024), (128, 1024)]  # masks and their side
KERNELS = (3, 15, 31)
GOAL = (16, 1024)  # where the goal applies
OPENCV = "Pillow and OpenCV"

NOTE = """OpenCV compares 8-bit values, four times as many per instruction as this pack's 32-bit values, and is faster
if its masks fit into the cache. Below a megapixel, threading does not pay, so one core does all the work. The floor
excludes the passes in between."""


def run_earlier(batch: torch.Tensor, size: int) -> torch.Tensor:
    element, edges = np.ones((size, size), np.uint8), []
    for mask in batch:
        levels = Image.fromarray(np.clip(255.0 * mask.cpu().numpy(), 0, 255).astype(np.uint8))
        gradient = cv2.morphologyEx(np.array(levels.convert("L")), cv2.MORPH_GRADIENT, element)
        edges.append(torch.from_numpy(np.array(Image.fromarray(gradient)).astype(np.float32) / 255.0).unsqueeze(0))
    return torch.cat(edges).to(batch.device)


def main(quick: bool) -> None:
    report, node = Report("Draw a gradient region"), NODE_CLASS_MAPPINGS["GradientRegion"]()
    generator = torch.Generator().manual_seed(0)
    for device in devices():
        rows = {}
        for count, side in [(4, 512), (1, 512)] if quick else SIZES:
            batch = torch.rand(count, side, side, generator=generator).to(device)
            goal = {"goals": {OPENCV: 1.5}, "headline": True} if (count, side) == GOAL else {}
            for size in KERNELS:
                what = f"{count} mask{'s' * (count > 1)} of {side} x {side}, kernel {size}"
                others = {OPENCV: partial(run_earlier, batch, size)} if cv2 else {}
                more = {"floor": copy_time(8 * batch.numel(), device), "device": device, "note": NOTE, **goal}
                rows[count, side, size] = report.add(what, partial(node.gradient_region, batch, size), others, **more)
        if not quick:
            report.add_growth("masks, 16 and 128", rows[16, 1024, 15], rows[128, 1024, 15], 8)
            report.add_growth("pixels, 512 x 512 and 2048 x 2048", rows[1, 512, 15], rows[1, 2048, 15], 16, NOTE)
