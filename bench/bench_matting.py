"""Cutouts of portrait-like images with a known mask, with and without alpha matting, and rembg with the same mask.

python3 tools/dev.py bench matting [--quick]
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from _measuring import devices, peak_memory, process_memory
from maskwright.core import tensors
from maskwright.core.cutout.matting import MattingSettings, remove_background
from maskwright.core.packages import keep_torch_threads
from PIL import Image
from rows import Figure, Report

SIDES = {512: "0.26 megapixels", 1024: "1 megapixel", 2048: "4 megapixels", 4096: "16 megapixels"}
MAX_REMBG_SIDE = 2048
MAX_GIGABYTES = 4

ABOUT = """The part of ImageSegmentation after the network. The earlier way: rembg.remove with the same mask, from a
tensor through Pillow and back. It is omitted at 16 megapixels with matting, because it builds the equations of the
whole image. The floor without matting: image and mask are read once, cutout and alpha written once, at the rate of a
copy; there is no floor with matting. Memory alone is that of a process that does nothing else, including torch and all
other modules."""
NOTE = """A pixel of three floats becomes one of four, which cannot be copied as one block, and touching new memory
takes about as long. The rest is comparing alpha with 0 and writing it to cutout and mask."""


class Scene:
    """An image and its mask on a device, and both ways of cutting it out."""

    masks_per_image = 1

    def __init__(self, side: int, device: str = "cpu", width: int | None = None, soft: bool = False) -> None:
        self.image, self.mask = (each.to(device) for each in draw_portrait(side, width or side, soft))
        self.device = device

    def predict_masks(self, _: torch.Tensor) -> torch.Tensor:
        """The interface of the pack's `MaskSource`."""
        return self.mask.unsqueeze(0)  # [H,W] -> [1,H,W]

    def predict(self, *_: object, **__: object) -> list[Image.Image]:
        """The interface of a rembg session."""
        return [tensors.to_pil(self.mask)]

    def run_now(self, matting: bool) -> torch.Tensor:
        return remove_background(self.image.unsqueeze(0), self, MattingSettings() if matting else None)[0][0]

    def run_earlier(self, matting: bool) -> torch.Tensor:
        import rembg

        settings = {"foreground_threshold": 240, "background_threshold": 20, "erode_size": 10}
        options = {f"alpha_matting_{name}": value for name, value in settings.items()}
        cutout = rembg.remove(tensors.to_pil(self.image), alpha_matting=matting, session=self, **options)
        return tensors.from_pil(cutout).to(self.device)


def draw_portrait(height: int, width: int, soft: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a head with curly hair and shoulders on a smooth background, in 8 bits, and the mask of a network with an
    input of 320 x 320. ``soft``: the mask is uncertain nearly everywhere."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = (y + 0.5) / height, ((x + 0.5) / width - 0.5) * width / height + 0.5
    head = np.hypot((x - 0.5) / 0.18, (y - 0.33) / 0.24)
    hair = 0.05 * np.sin(90 * np.arctan2(y - 0.33, x - 0.5)) * np.exp(-(((head - 1) / 0.2) ** 2))
    body = np.hypot((x - 0.5) / 0.38, (y - 1.05) / 0.5)
    inside = 1 - np.minimum(head + hair, body)  # above 0
    alpha = np.clip(0.5 + inside * 25, 0, 1)[..., None]
    subject = np.stack([0.7 - 0.2 * y, 0.45 + 0.1 * np.sin(9 * x), 0.35 + 0.2 * x], axis=-1)
    behind = np.stack([0.3 + 0.3 * x, 0.5 + 0.2 * y, 0.6 - 0.2 * x], axis=-1)
    image = alpha * subject + (1 - alpha) * behind
    image += np.random.default_rng(0).normal(0, 0.02, image.shape).astype(np.float32)
    probabilities = np.clip(0.5 + inside * (0.6 if soft else 25), 0, 1)
    small = Image.fromarray((probabilities * 255).astype(np.uint8)).resize((320, 320), Image.Resampling.BOX)
    mask = np.array(small.resize((width, height), Image.Resampling.LANCZOS))
    return tensors.from_8bit((image.clip(0, 1) * 255).astype(np.uint8)), tensors.from_8bit(mask)


def add_row(report: Report, scene: Scene, what: str, matting: bool, rounds: int) -> None:
    calls, side = {"now": lambda: scene.run_now(matting)}, scene.mask.shape[0]
    if side <= MAX_REMBG_SIDE or not matting:
        calls["earlier"] = lambda: scene.run_earlier(matting)
    if matting:
        more = {"at_least": 2 if side == 1024 else None, "headline": "earlier" in calls and side > 512}
    else:
        more = {"moved": 36 * scene.mask.numel(), "note": NOTE}
    report.add_comparison(f"{'with' if matting else 'without'} matting: {what}", calls, rounds, scene.device, **more)
    if matting and "earlier" in calls:
        now, earlier = (tensors.to_8bit(call()).astype(int) for call in calls.values())
        difference = np.abs(now - earlier)[now[..., 3] > 0].max().item()
        report.add(Figure(f"with matting: {what}: largest difference", difference, "/255", scene.device, 2))


def main(quick: bool) -> None:
    with keep_torch_threads():
        import rembg  # noqa: F401 - before anything is measured

    report = Report("Cutouts and alpha matting", ABOUT)
    add_memory(report, quick)
    for device in devices():
        for side in (256,) if quick else SIDES:
            scene, what = Scene(side, device), f"{side} x {side}" + (f", {SIDES[side]}" if side in SIDES else "")
            if side != 512:
                add_row(report, scene, what, False, 3 if quick else 9)
            if device == "cpu" or side <= 1024:  # matting runs on the CPU in any case
                add_row(report, scene, what, True, 2 if quick or side > 2048 else 5)
    small, large = (Scene(side) for side in ((96, 304) if quick else (548, 1732)))
    for matting in (True, False):
        what = f"megapixels, 0.3 and 3, {'with' if matting else 'without'} matting"
        report.add_growth(what, lambda: small.run_now(matting), lambda: large.run_now(matting), note=NOTE)


def add_memory(report: Report, quick: bool) -> None:
    """Measured first, while the process has done nothing else."""
    before = process_memory("VmRSS")
    for height, width in ((512, 512),) if quick else ((4096, 4096), (4320, 7680)):
        for suffix, soft in (("", False), (", most of it unknown", True)):
            scene = Scene(height, width=width, soft=soft)
            peak = before + scene.image.nbytes + scene.mask.nbytes + (peak_memory(lambda: scene.run_now(True)) or 0)
            what = f"memory alone, {width} x {height}{suffix}"
            report.add(Figure(what, peak / 1e9, " GB", at_most=MAX_GIGABYTES))


if __name__ == "__main__":
    main("--quick" in sys.argv)
