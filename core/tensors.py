"""Images and masks in their other forms (8 bits, Pillow, numpy, channels first), their size, and their memory.

The only place that rounds, changes layout, or resizes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


def to_8bit(values: torch.Tensor) -> np.ndarray:
    """Values 0..1 of any shape as uint8, cut downwards (0.999 is 254), as ComfyUI's own nodes and its files do."""
    return (values.detach().cpu().numpy() * 255.0).clip(0, 255).astype(np.uint8)


def from_8bit(values: np.ndarray) -> torch.Tensor:
    """uint8 of any shape as float32 0..1."""
    return torch.from_numpy(values.astype(np.float32) / 255.0)


def to_pil(picture: torch.Tensor) -> Image.Image:
    """One picture ``[H,W,C]`` (C = 3 or 4) or one mask ``[H,W]``, 0..1, as a Pillow image (RGB, RGBA or L)."""
    return Image.fromarray(to_8bit(picture))


def from_pil(picture: Image.Image) -> torch.Tensor:
    """A Pillow image as float32 0..1: L gives ``[H,W]``, RGB ``[H,W,3]``, RGBA ``[H,W,4]``."""
    return from_8bit(np.array(picture))


def image_to_bchw(image: torch.Tensor) -> torch.Tensor:
    """``[B,H,W,C]`` -> ``[B,C,H,W]``, a view."""
    return image.permute(0, 3, 1, 2)


def bchw_to_image(bchw: torch.Tensor) -> torch.Tensor:
    """``[B,C,H,W]`` -> ``[B,H,W,C]``, a view."""
    return bchw.permute(0, 2, 3, 1)


def rgb(image: torch.Tensor) -> torch.Tensor:
    """The colours of an image ``[B,H,W,3 or 4]``, without alpha: ``[B,H,W,3]``, a view."""
    return image[..., :3]


def resize_image(image: torch.Tensor, height: int, width: int, mode: str = "bicubic") -> torch.Tensor:
    """Resize ``[B,H,W,C]`` in float on its device, antialiased when it gets smaller, clamped to 0..1.

    ``mode`` is ``nearest``, ``bilinear``, ``bicubic``, or ``area``: the mean of all pixels that a new one covers, even
    in part. The very same tensor comes back where nothing changes.
    """
    if image.shape[1:3] == (height, width):
        return image
    return bchw_to_image(_resize(image_to_bchw(image), height, width, mode))


def resize_mask(mask: torch.Tensor, height: int, width: int, mode: str = "bilinear") -> torch.Tensor:
    """Resize ``[B,H,W]`` as `resize_image` does."""
    if mask.shape[1:3] == (height, width):
        return mask
    return _resize(mask.unsqueeze(1), height, width, mode).squeeze(1)  # [B,H,W] -> [B,1,H,W] -> [B,h,w]


def _resize(bchw: torch.Tensor, height: int, width: int, mode: str) -> torch.Tensor:
    if mode == "nearest":
        return F.interpolate(bchw, (height, width), mode="nearest-exact")
    if mode == "area":
        return F.interpolate(bchw, (height, width), mode="area")
    return F.interpolate(bchw, (height, width), mode=mode, antialias=True, align_corners=False).clamp(0, 1)


def empty(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """An uninitialised float32 tensor.

    On a CPU its memory comes from numpy, which asks Linux for huge pages where torch does not: the first touch of
    64 MB then takes a third of the time, which is most of the time of a cheap operation on a batch.
    """
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.float32))
    return torch.empty(shape, dtype=torch.float32, device=device)
