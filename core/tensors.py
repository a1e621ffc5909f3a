"""Images and masks as 8-bit values, Pillow images, numpy arrays and channels-first tensors; resizing; allocation.

No other module rounds, permutes or resizes.

Lanczos resizing and Gaussian blur are separable linear filters, here banded matrices. Every output line is a weighted
sum of a few neighboring input lines, so the matrix from input to output lines has nonzero entries only near its
diagonal. Unlike Pillow's resize of 8-bit images, the product keeps float values. Unlike a convolution by Fourier
transform, it is exactly zero where all inputs are zero.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image

from .checks import describe
from .errors import InputError
from .packages import import_scipy


def to_8bit(values: torch.Tensor) -> np.ndarray:
    """Values in 0..1 of any shape as uint8, rounded down (0.999 is 254), as ComfyUI's nodes do for saved files."""
    levels = np.asarray(values.detach().cpu().numpy() * 255.0)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)  # in place: allocating costs more than clipping


def is_selected(values: torch.Tensor) -> np.ndarray:
    """Which values of a mask of any shape are at least 1/255: those that are not 0 in 8 bits."""
    return values.detach().cpu().numpy() >= np.float32(1 / 255)


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


def resize_lanczos(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize ``[B,H,W,C]`` with a 3-lobe Lanczos filter in float on its device, clamped to 0..1.

    Photographs keep more detail than with `resize_image`, both when enlarged and when reduced again.

    Returns:
        ``[B,height,width,C]``; the same tensor if it already has that size.
    """
    old_height, old_width = image.shape[1:3]
    y_scale, x_scale = height / old_height, width / old_width
    # First the pass that leaves less work for the other one. The horizontal pass transposes the image, which costs more
    # than the pass itself, so it should run while the image is small.
    horizontal_first = x_scale <= y_scale if y_scale >= 1 else 2 * x_scale < y_scale
    for horizontal in (horizontal_first, not horizontal_first):
        if horizontal and width != old_width:
            columns = image.transpose(1, 2)  # [B,H,W,C] -> [B,W,H,C]
            columns = filter_lines(columns, lanczos_matrix(old_width, width, image.device))
            image = columns.transpose(1, 2)  # back to [B,H,W,C]
        elif not horizontal and height != old_height:
            image = filter_lines(image, lanczos_matrix(old_height, height, image.device))
    return image if image.shape[1:3] == (old_height, old_width) else image.clamp(0, 1)


# Output lines per block on an accelerator. Larger blocks multiply more zeros; smaller ones read more lines twice.
_BLOCK = 64


class Blocks(NamedTuple):
    """A banded matrix for accelerators, as dense blocks of output lines that are multiplied in one batch.

    Attributes:
        lines: Indices of the input lines that each block reads, ``[blocks x span]``.
        weights: From these lines to the block's output lines, ``[blocks, size, span]``.
        after: Number of output lines; the last block may be padded.
    """

    lines: torch.Tensor
    weights: torch.Tensor
    after: int


# Blocks, or a scipy sparse matrix on the CPU: single-threaded and without zeros, it is several times as fast there as
# dense blocks, especially while other programs use the cores.
Bands = Any


def filter_lines(values: torch.Tensor, bands: Bands) -> torch.Tensor:
    """Apply ``bands`` along the second axis: ``[B,before,...]`` float32 -> ``[B,after,...]``."""
    count, before, *rest = values.shape
    if isinstance(bands, Blocks):
        # [B,lines,...] -> [B,lines,rest] -> [B,blocks,span,rest] -> [B,blocks,size,rest]
        read = values.reshape(count, before, -1).index_select(1, bands.lines)
        read = read.view(count, len(bands.weights), -1, read.shape[-1])
        filtered = torch.matmul(bands.weights, read).flatten(1, 2)[:, : bands.after]
    else:
        flat = np.ascontiguousarray(values.detach().numpy()).reshape(count, before, -1)
        filtered = torch.from_numpy(np.concatenate([bands @ each for each in flat]) if count > 1 else bands @ flat[0])
    return filtered.reshape(count, -1, *rest)


@functools.lru_cache(maxsize=64)
def lanczos_matrix(before: int, after: int, device: torch.device) -> Bands:
    """The matrix that resizes ``before`` lines to ``after`` with a 3-lobe Lanczos filter.

    The kernel is sinc(x) sinc(x / 3) (Duchon, *Lanczos Filtering in One and Two Dimensions*, 1979). For downscaling it
    widens with the scale to avoid aliasing. Positions, support and normalization match Pillow's resize of float images.
    """
    return _build_matrix(*_lanczos_weights(before, after), before, device)


def _lanczos_weights(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """The input lines of every output line, and their weights, both ``[after, taps]``."""
    scale = before / after
    stretch = max(scale, 1.0)
    support = 3 * stretch
    centers = (np.arange(after) + 0.5) * scale
    first = np.floor(centers - support + 0.5).clip(min=0).astype(np.int64)
    last = np.floor(centers + support + 0.5).clip(max=before).astype(np.int64)
    lines = first[:, None] + np.arange((last - first).max())  # [after, taps]
    x = (lines + 0.5 - centers[:, None]) / stretch
    weights = np.sinc(x) * np.sinc(x / 3) * ((np.abs(x) < 3) & (lines < last[:, None]))
    return lines.clip(max=before - 1), weights / weights.sum(axis=1, keepdims=True)


@functools.lru_cache(maxsize=64)
def gaussian_matrix(length: int, radius: int, sigma: float, border: str, device: torch.device) -> Bands:
    """The matrix that blurs ``length`` lines with a Gaussian, truncated at ``radius`` lines.

    Args:
        border: How the lines continue beyond both ends, named as in scipy.ndimage: ``reflect`` (1 0 | 0 1 2 ...), or
            ``mirror`` (2 1 | 0 1 2 ...), which needs a ``radius`` less than ``length``.
    """
    return _build_matrix(*_gaussian_weights(length, radius, sigma, border), length, device)


def clear_matrices() -> None:
    """Free the device memory of all cached matrices. Matrices in use stay valid."""
    lanczos_matrix.cache_clear()
    gaussian_matrix.cache_clear()


def _gaussian_weights(length: int, radius: int, sigma: float, border: str) -> tuple[np.ndarray, np.ndarray]:
    """Like `_lanczos_weights`; near the ends a line may appear twice."""
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    period = 2 * length if border == "reflect" else 2 * length - 2
    if len(offsets) > period > 0:  # the kernel covers lines more than once: sum their weights
        weights = np.bincount(offsets % period, weights, minlength=period)
        offsets = np.arange(period)
    lines = (np.arange(length)[:, None] + offsets) % max(1, period)
    last = period - 1 if border == "reflect" else period
    lines = np.where(lines < length, lines, last - lines)
    return lines, np.broadcast_to(weights, lines.shape)


def _build_matrix(lines: np.ndarray, weights: np.ndarray, before: int, device: torch.device) -> Bands:
    """The matrix for ``before`` input lines. Weights of repeated lines are summed."""
    return (
        _build_sparse(lines, weights, before) if device.type == "cpu" else _build_blocks(lines, weights, before, device)
    )


def _build_sparse(lines: np.ndarray, weights: np.ndarray, before: int) -> Bands:
    after, taps = lines.shape
    rows = np.repeat(np.arange(after), taps)
    entries = weights.ravel().astype(np.float32), (rows, lines.ravel())
    return import_scipy("sparse").csr_matrix(entries, shape=(after, before))


def _build_blocks(lines: np.ndarray, weights: np.ndarray, before: int, device: torch.device) -> Blocks:
    after = len(lines)
    size = min(_BLOCK, after)
    tops = range(0, after, size)
    first = np.array([lines[top : top + size].min() for top in tops])
    last = np.array([lines[top : top + size].max() for top in tops])
    span = int((last - first).max()) + 1
    dense = np.zeros((len(tops) * size, span), np.float32)
    rows = np.arange(after)
    np.add.at(dense, (rows[:, None], lines - first[rows // size, None]), weights)
    read = (first[:, None] + np.arange(span)).clip(max=before - 1)  # clipped indices have zero weight
    blocks = torch.from_numpy(dense.reshape(len(tops), size, span)).to(device)
    return Blocks(torch.from_numpy(read.ravel()).to(device), blocks, after)
