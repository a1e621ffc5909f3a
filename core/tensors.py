"""Images and masks in their other forms (8 bits, Pillow, numpy, channels first), their size, and their memory.

The only place that rounds, changes layout, or resizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image

from . import separable
from .checks import describe
from .errors import InputError


def to_8bit(values: torch.Tensor) -> np.ndarray:
    """Values 0..1 of any shape as uint8, cut downwards (0.999 is 254), as ComfyUI's own nodes and its files do."""
    levels = np.asarray(values.detach().cpu().numpy() * 255.0)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)  # in place: fresh memory costs more than the clipping


def from_8bit(values: np.ndarray) -> torch.Tensor:
    """uint8 of any shape as float32 0..1."""
    return torch.from_numpy(values.astype(np.float32) / 255.0)


def to_16bit_halves(values: torch.Tensor) -> np.ndarray:
    """Values 0..1 ``[H,W]`` in 65536 rounded levels, as uint8 ``[2H,W]``: the high bytes above the low bytes.

    So 16 bits pass through whatever reads a grey picture in 8, such as a browser's canvas.
    """
    levels = (values.detach().cpu().numpy() * 65535.0).clip(0, 65535).round().astype(np.uint16)
    return np.concatenate([levels >> 8, levels & 255]).astype(np.uint8)


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


def drop_alpha(image: torch.Tensor) -> torch.Tensor:
    """The colours of an image ``[B,H,W,3 or 4]``, without alpha: ``[B,H,W,3]``, a view."""
    return image[..., :3]


def mask_to_image(mask: torch.Tensor) -> torch.Tensor:
    """A mask ``[B,H,W]`` as a grey image ``[B,H,W,3]``, a view."""
    return mask.unsqueeze(-1).expand(-1, -1, -1, 3)


def concatenate(batches: Sequence[torch.Tensor], name: str) -> torch.Tensor:
    """Batches of pictures or masks as one, in order.

    Raises:
        InputError: Their sizes or channels differ; ``name`` says what they are.
    """
    shapes = {tuple(batch.shape[1:]) for batch in batches}
    if len(shapes) > 1:
        raise InputError(
            f"{name} have different sizes: {describe([list(batch.shape) for batch in batches])}",
            "Bring them to one size first",
            code="image sizes",
        )
    return torch.cat(list(batches))


def resize_image(
    image: torch.Tensor, height: int, width: int, mode: str = "bicubic", antialias: bool = True
) -> torch.Tensor:
    """Resize ``[B,H,W,C]`` in float on its device, antialiased when it gets smaller, clamped to 0..1.

    ``mode`` is ``nearest``, ``bilinear``, ``bicubic``, or ``area``: the mean of all pixels that a new one covers, even
    in part. Without ``antialias`` the picture is sampled, as OpenCV's ``resize`` does. The very same tensor comes back
    where nothing changes.
    """
    if image.shape[1:3] == (height, width):
        return image
    return bchw_to_image(_resize(image_to_bchw(image), height, width, mode, antialias))


def resize_mask(
    mask: torch.Tensor, height: int, width: int, mode: str = "bilinear", antialias: bool = True
) -> torch.Tensor:
    """Resize ``[B,H,W]`` as `resize_image` does."""
    if mask.shape[1:3] == (height, width):
        return mask
    # [B,H,W] -> [B,1,H,W] -> [B,h,w]
    return _resize(mask.unsqueeze(1), height, width, mode, antialias).squeeze(1)


def _resize(bchw: torch.Tensor, height: int, width: int, mode: str, antialias: bool) -> torch.Tensor:
    if mode == "nearest":
        return F.interpolate(bchw, (height, width), mode="nearest-exact")
    if mode == "area":
        return F.interpolate(bchw, (height, width), mode="area")
    return F.interpolate(bchw, (height, width), mode=mode, antialias=antialias, align_corners=False).clamp(0, 1)


_PILLOW = int(PIL.__version__.split(".")[0])
_PILLOW_MODES = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def resize_8bit(values: torch.Tensor, height: int, width: int, mode: str = "bicubic") -> torch.Tensor:
    """Resize as Pillow resizes 8-bit pictures, for results that must be equal to those of code that used Pillow.

    The values are cut to 8 bits first (see `to_8bit`), and rounded to 8 bits after the pass along the rows and
    after the pass down the columns.

    Args:
        values: Pictures ``[B,H,W,3]`` or masks ``[B,H,W]``, 0..1.
        height, width: The new size in pixels.
        mode: ``nearest``, ``bilinear`` or ``bicubic``.

    Returns:
        The same shape with the new size, float32, multiples of 1/255. On a CPU Pillow itself makes them, which is
        several times as fast as torch there; elsewhere the same arithmetic in float, equal but for a level
        (1/255), rarely two, here and there.
    """
    if values.device.type == "cpu":
        pictures = (Image.fromarray(to_8bit(each)) for each in values)
        return torch.stack([from_pil(picture.resize((width, height), _PILLOW_MODES[mode])) for picture in pictures])
    if values.ndim == 3:
        return _resize_levels(values.unsqueeze(1), height, width, mode).squeeze(1)  # [B,H,W] -> [B,1,H,W] -> [B,h,w]
    return bchw_to_image(_resize_levels(image_to_bchw(values), height, width, mode))


def _resize_levels(bchw: torch.Tensor, height: int, width: int, mode: str) -> torch.Tensor:
    levels = (bchw * 255.0).clamp(0, 255).floor()
    old_height, old_width = levels.shape[2:]
    if mode == "nearest":
        rows, columns = _nearest(old_height, height), _nearest(old_width, width)
        return levels[:, :, rows][..., columns] / 255.0
    # As in Pillow, the pass along the rows goes first; since version 13 the other one where it drops more than twice
    # as many lines.
    sizes = [(old_height, width), (height, width)]
    if _PILLOW >= 13 and old_height - height > max(0, 2 * (old_width - width)):
        sizes[0] = (height, old_width)
    for size in sizes:
        if levels.shape[2:] != size:
            levels = F.interpolate(levels, size, mode=mode, antialias=True, align_corners=False)
            levels = (levels + 0.5).floor().clamp(0, 255)  # not round(), which takes half levels to the even one
    return levels / 255.0


def _nearest(before: int, after: int) -> torch.Tensor:
    """The line of ``before`` that each of ``after`` is: the one its middle lies in, summed up line by line as Pillow
    does, whose rounding decides where a middle lies between two."""
    middles = np.cumsum(np.concatenate([[before / after / 2], np.full(after - 1, before / after)]))
    return torch.from_numpy(middles.astype(np.int64).clip(max=before - 1))


def empty(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """An uninitialised float32 tensor.

    On a CPU its memory comes from numpy, which asks Linux for huge pages where torch does not: the first touch of
    64 MB then takes a third of the time, which is most of the time of a cheap operation on a batch.
    """
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.float32))
    return torch.empty(shape, dtype=torch.float32, device=device)


def resize_lanczos(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize ``[B,H,W,C]`` with a Lanczos window of 3 lobes in float on its device, clamped to 0..1.

    Photographs keep more of their detail than with `resize_image`, to larger and back to smaller alike. The very
    same tensor comes back where nothing changes.
    """
    before_height, before_width = image.shape[1:3]
    down, across = height / before_height, width / before_width
    # The pass that leaves the other one less to do goes first. For that along the rows the picture is turned, which
    # costs more than the pass itself: best done while, or once, the picture is small.
    rows_first = across <= down if down >= 1 else 2 * across < down
    for along_rows in (rows_first, not rows_first):
        if along_rows and width != before_width:
            columns = image.transpose(1, 2)  # [B,H,W,C] -> [B,W,H,C]
            columns = separable.filter_lines(columns, separable.lanczos_matrix(before_width, width, image.device))
            image = columns.transpose(1, 2)  # back to [B,H,W,C]
        elif not along_rows and height != before_height:
            image = separable.filter_lines(image, separable.lanczos_matrix(before_height, height, image.device))
    return image if image.shape[1:3] == (before_height, before_width) else image.clamp(0, 1)
