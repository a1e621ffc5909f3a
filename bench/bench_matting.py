"""Cutouts of portrait-like images with a known mask, with and without alpha matting, and rembg with the same mask."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from _measuring import copy_time, devices
from maskwright.core import tensors
from maskwright.core.cutout.matting import MattingSettings, remove_background
from maskwright.core.packages import keep_torch_threads
from PIL import Image
from rows import Figure, Report, Row

SIDES = {512: "0.26 megapixels", 1024: "1 megapixel", 2048: "4 megapixels", 4096: "16 megapixels"}
MAX_REMBG_SIDE = 2048

NOTE = """A pixel of three floats becomes one of four, which cannot be copied as one block, and touching new memory
takes about as long. The rest is comparing alpha with 0 and writing it to cutout and mask."""


class Scene:
    """An image and its mask on a device, cut out by this pack or by rembg."""

    masks_per_image = 1

    def __init__(self, side: int, device: str = "cpu") -> None:
        with keep_torch_threads():
            import rembg  # before anything is measured
        self.remove = rembg.remove
        self.image, self.mask = (each.to(device) for each in draw_portrait(side, side))
        self.device = device

    def predict_masks(self, _: torch.Tensor) -> torch.Tensor:
        """The interface of the pack's `MaskSource`."""
        return self.mask.unsqueeze(0)  # [H,W] -> [1,H,W]

    def predict(self, *_: object, **__: object) -> list[Image.Image]:
        """The interface of a rembg session."""
        return [tensors.to_pil(self.mask)]

    def run_ours(self, matting: bool) -> torch.Tensor:
        return remove_background(self.image.unsqueeze(0), self, MattingSettings() if matting else None)[0][0]

    def run_rembg(self, matting: bool) -> torch.Tensor:
        options = {"alpha_matting": matting, "alpha_matting_background_threshold": 20}  # as this pack's default
        cutout = self.remove(tensors.to_pil(self.image), session=self, **options)
        return tensors.from_pil(cutout).to(self.device)


def draw_portrait(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a head with curly hair and shoulders on a smooth background, in 8 bits, and the mask of a network with an
    input of 320 x 320."""
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
    small = Image.fromarray((alpha[..., 0] * 255).astype(np.uint8)).resize((320, 320), Image.Resampling.BOX)
    mask = np.array(small.resize((width, height), Image.Resampling.LANCZOS))
    return tensors.from_8bit((image.clip(0, 1) * 255).astype(np.uint8)), tensors.from_8bit(mask)


def add_matting(report: Report, scene: Scene, what: str) -> Row:
    """A row with matting, and the largest difference from rembg."""
    side = scene.mask.shape[0]
    others = {"rembg": partial(scene.run_rembg, True)} if side <= MAX_REMBG_SIDE else {}
    more = {"goals": {"rembg": 2} if side == 1024 else {}, "headline": bool(others) and side > 512}
    row = report.add(what, partial(scene.run_ours, True), others, device=scene.device, **more)
    if side <= 1024:
        ours, theirs = (tensors.to_8bit(run(True)).astype(int) for run in (scene.run_ours, scene.run_rembg))
        difference = np.abs(ours - theirs)[ours[..., 3] > 0].max().item()
        report.store(Figure(f"{what}: largest difference from rembg", difference, "/255", scene.device, 2))
    return row


def main(quick: bool) -> None:
    report = Report("Cut out, with the mask known")
    for device in devices():
        rows = {}
        for side in (512,) if quick else SIDES:
            scene, what = Scene(side, device), f"matting: {side} x {side}, {SIDES[side]}"
            if device == "cpu" or side <= 1024:  # matting runs on the CPU in any case
                rows["with", side] = add_matting(report, scene, f"with {what}")
            ours, others = partial(scene.run_ours, False), {"rembg": partial(scene.run_rembg, False)}
            floor = copy_time(36 * side**2, device)
            rows["without", side] = report.add(f"without {what}", ours, others, floor, device, note=NOTE)
        if device == "cpu" and not quick:
            for which in ("with", "without"):
                what = f"megapixels, 1 and 16, {which} matting"
                report.add_growth(what, rows[which, 1024], rows[which, 4096], 16, NOTE)
