"""Images and masks as 8-bit values, Pillow images, numpy arrays and channels-first tensors; resizing; allocation.

Other modules convert images only through these functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image

from .checks import describe
from .errors import InputError


def to_8bit(values: torch.Tensor) -> np.ndarray:
    """Values in 0..1 of any shape as uint8, rounded down (0.999 is 254), as ComfyUI's nodes do for saved files."""
    levels = np.asarray(values.detach().cpu().numpy() * 255.0)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)  # in place: allocating costs more than clipping


def is_selected(values: torch.Tensor) -> np.ndarray:
    """Which values of a mask of any shape are at least 1/255: those that are not 0 in 8 bits."""
    return values.detach().cpu().numpy() >= np.float32(1 / 255)


def find_bounding_slices(selected: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """The rows and columns of the rectangle around the selected pixels of ``[H,W]`` (bool), with a margin in pixels,
    clipped to the mask. Both are empty if nothing is selected."""
    rows, columns = np.flatnonzero(selected.any(axis=1)), np.flatnonzero(selected.any(axis=0))
    if len(rows) == 0:
        return slice(0, 0), slice(0, 0)
    (top, bottom), (left, right) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    height, width = selected.shape
    return (
        slice(max(0, top - margin), min(height, bottom + margin + 1)),
        slice(max(0, left - margin), min(width, right + margin + 1)),
    )


def from_8bit(values: np.ndarray) -> torch.Tensor:
    """uint8 values of any shape as float32 in 0..1."""
    return torch.from_numpy(values.astype(np.float32) / 255.0)


def to_16bit_halves(values: torch.Tensor) -> np.ndarray:
    """Values in 0..1 ``[H,W]``, rounded to 16 bits, as uint8 ``[2H,W]``: the high bytes above the low bytes.

    Readers of 8-bit grayscale images, such as a browser's canvas, thus get all 16 bits.
    """
    levels = (values.detach().cpu().numpy() * 65535.0).clip(0, 65535).round().astype(np.uint16)
    return np.concatenate([levels >> 8, levels & 255]).astype(np.uint8)


def to_pil(values: torch.Tensor) -> Image.Image:
    """An image ``[H,W,3 or 4]`` or a mask ``[H,W]``, in 0..1, as a Pillow image (RGB, RGBA or L)."""
    return Image.fromarray(to_8bit(values))


def from_pil(image: Image.Image) -> torch.Tensor:
    """A Pillow image as float32 in 0..1: ``[H,W]`` for L, ``[H,W,3]`` for RGB, ``[H,W,4]`` for RGBA."""
    return from_8bit(np.array(image))


def image_to_bchw(image: torch.Tensor) -> torch.Tensor:
    """``[B,H,W,C]`` -> ``[B,C,H,W]``, a view."""
    return image.permute(0, 3, 1, 2)


def bchw_to_image(bchw: torch.Tensor) -> torch.Tensor:
    """``[B,C,H,W]`` -> ``[B,H,W,C]``, a view."""
    return bchw.permute(0, 2, 3, 1)


def drop_alpha(image: torch.Tensor) -> torch.Tensor:
    """``[...,3 or 4]`` -> ``[...,3]``, a view."""
    return image[..., :3]


def mask_to_image(mask: torch.Tensor) -> torch.Tensor:
    """A mask ``[B,H,W]`` as a gray image ``[B,H,W,3]``, a view."""
    return mask.unsqueeze(-1).expand(-1, -1, -1, 3)


def concatenate(batches: Sequence[torch.Tensor], name: str) -> torch.Tensor:
    """Concatenate batches of images or masks.

    Args:
        name: What the batches are, for the error.

    Raises:
        InputError: Sizes or channels differ.
    """
    shapes = {tuple(batch.shape[1:]) for batch in batches}
    if len(shapes) > 1:
        raise InputError(
            f"{name} have different sizes: {describe([list(batch.shape) for batch in batches])}",
            "Resize them to the same size",
            code="image sizes",
        )
    return torch.cat(list(batches))


def resize_image(
    image: torch.Tensor, height: int, width: int, mode: str = "bicubic", antialias: bool = True
) -> torch.Tensor:
    """Resize ``[B,H,W,C]`` in float on its device, antialiased when downscaling, clamped to 0..1.

    Args:
        mode: ``nearest``, ``bilinear``, ``bicubic``, or ``area``, the mean of all pixels that the new pixel covers.
        antialias: If false, sample as OpenCV's ``resize`` does.

    Returns:
        ``[B,height,width,C]``; the same tensor if it already has that size.
    """
    if image.shape[1:3] == (height, width):
        return image
    bchw = image_to_bchw(image)
    if mode == "nearest":
        resized = F.interpolate(bchw, (height, width), mode="nearest-exact")
    elif mode == "area":
        resized = F.interpolate(bchw, (height, width), mode="area")
    else:
        resized = F.interpolate(bchw, (height, width), mode=mode, antialias=antialias, align_corners=False).clamp(0, 1)
    return bchw_to_image(resized)


def resize_mask(
    mask: torch.Tensor, height: int, width: int, mode: str = "bilinear", antialias: bool = True
) -> torch.Tensor:
    """Resize ``[B,H,W]`` as `resize_image` does."""
    if mask.shape[1:3] == (height, width):
        return mask
    # [B,H,W] -> [B,H,W,1] -> [B,h,w]
    return resize_image(mask.unsqueeze(-1), height, width, mode, antialias).squeeze(-1)


_PILLOW = int(PIL.__version__.split(".")[0])
_PILLOW_MODES = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def resize_8bit(values: torch.Tensor, height: int, width: int, mode: str = "bicubic") -> torch.Tensor:
    """Resize as Pillow resizes 8-bit images, for results that must match code based on Pillow.

    The values are rounded down to 8 bits (see `to_8bit`), and rounded to 8 bits after the horizontal and after the
    vertical pass. On the CPU this is Pillow itself, several times as fast as torch. Elsewhere it is the same arithmetic
    in float, where a few values differ by 1/255, rarely 2/255.

    Args:
        values: Images ``[B,H,W,3]`` or masks ``[B,H,W]``, in 0..1.
        height, width: The new size in pixels.
        mode: ``nearest``, ``bilinear`` or ``bicubic``.

    Returns:
        ``[B,height,width,3]`` or ``[B,height,width]``, float32, multiples of 1/255.
    """
    if values.device.type == "cpu":
        resized = empty((len(values), height, width, *values.shape[3:]), values.device)
        for i, each in enumerate(values):
            image = Image.fromarray(to_8bit(each)).resize((width, height), _PILLOW_MODES[mode])
            resized[i] = from_8bit(np.asarray(image))
        return resized
    if values.ndim == 3:
        return _resize_levels(values.unsqueeze(1), height, width, mode).squeeze(1)  # [B,H,W] -> [B,1,H,W] -> [B,h,w]
    return bchw_to_image(_resize_levels(image_to_bchw(values), height, width, mode))


def _resize_levels(bchw: torch.Tensor, height: int, width: int, mode: str) -> torch.Tensor:
    levels = (bchw * 255.0).clamp(0, 255).floor()
    old_height, old_width = levels.shape[2:]
    if mode == "nearest":
        rows, columns = _nearest_lines(old_height, height), _nearest_lines(old_width, width)
        return levels[:, :, rows][..., columns] / 255.0
    # As in Pillow, the horizontal pass is first. Since version 13 the vertical pass is first if it drops more than
    # twice as many lines.
    sizes = [(old_height, width), (height, width)]
    if _PILLOW >= 13 and old_height - height > max(0, 2 * (old_width - width)):
        sizes[0] = (height, old_width)
    for size in sizes:
        if levels.shape[2:] != size:
            levels = F.interpolate(levels, size, mode=mode, antialias=True, align_corners=False)
            levels = (levels + 0.5).floor().clamp(0, 255)  # not round(), which rounds halves to even
    return levels / 255.0


def _nearest_lines(before: int, after: int) -> torch.Tensor:
    """Source index per output index: the line that contains the output line's center.

    The centers are accumulated line by line as in Pillow, whose rounding decides ties.
    """
    centers = np.cumsum(np.concatenate([[before / after / 2], np.full(after - 1, before / after)]))
    return torch.from_numpy(centers.astype(np.int64).clip(max=before - 1))


def empty(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """An uninitialized float32 tensor.

    On the CPU, numpy allocates it: unlike torch, numpy requests huge pages from Linux. The first write to 64 MB then
    takes a third of the time, and that write dominates cheap operations on a batch.
    """
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.float32))
    return torch.empty(shape, dtype=torch.float32, device=device)


def zeros(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """A float32 tensor of zeros. On the CPU, memory that is never written costs nothing."""
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, np.float32))
    return torch.zeros(shape, dtype=torch.float32, device=device)
