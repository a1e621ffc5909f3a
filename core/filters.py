"""Filters along columns and rows: Gaussian blur and Lanczos resizing.

Both are linear, and implemented as banded matrices: every output line is a weighted sum of a few neighboring input
lines, so the matrix from input to output lines has nonzero entries only near its diagonal. Unlike Pillow's resize of
8-bit images, the product keeps float values. Unlike a convolution by Fourier transform, it is exactly zero where all
inputs are zero.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch

from .checks import check_number
from .morphology import MAX_SIZE
from .packages import import_scipy


def gaussian_blur(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """Convolve with a Gaussian. Beyond the border the mask is reflected.

    Below a sigma of 8 the Gaussian is truncated, see `truncated_blur`; from there on, the result differs from that of
    the whole Gaussian by at most 1e-5.

    Args:
        mask: ``[B,H,W]`` in 0..1.
        sigma: Standard deviation in pixels, from 0 to `MAX_SIZE`; 0 changes nothing.

    Returns:
        ``[B,H,W]`` in 0..1.

    Raises:
        InputError: ``sigma`` is not a number in that range.
    """
    sigma = check_number(sigma, "blur", 0, MAX_SIZE)
    return _blur_samples(mask, sigma).clamp(0, 1) if sigma >= _SAMPLED_SIGMA else truncated_blur(mask, sigma)


def truncated_blur(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """Convolve ``[B,H,W]`` in 0..1 with a Gaussian truncated at 4 sigma, like ``scipy.ndimage.gaussian_filter`` with
    its defaults. A sigma below 0.125 changes nothing."""
    radius = int(4.0 * sigma + 0.5)
    return convolve_gaussian(mask, radius, sigma, "reflect").clamp(0, 1) if radius else mask


# From this sigma on, blurring samples costs less than half of what the convolution costs.
_SAMPLED_SIGMA = 8.0
_SAMPLES_PER_SIGMA = 1.7


def _blur_samples(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """Convolve ``[B,H,W]`` with a Gaussian: blur with half of its variance at sample points, then interpolate these
    samples with the other half. Variances of successive Gaussians add up.

    The sampled blur has hardly any frequencies that the samples would alias. At a distance d between them, Poisson's
    summation formula bounds the error by ``2 exp(-(pi sigma / d)^2 / 2)``, which is 1.3e-6.
    """
    height, width = mask.shape[1:]
    sample_rows, interpolate_rows = sampling_matrices(height, sigma, mask.device)
    sample_columns, interpolate_columns = sampling_matrices(width, sigma, mask.device)
    samples = filter_lines(mask, sample_rows).transpose(1, 2)  # [B,H,W] -> [B,h,W] -> [B,W,h]
    samples = filter_lines(filter_lines(samples, sample_columns), interpolate_columns)  # -> [B,w,h] -> [B,W,h]
    return filter_lines(samples.transpose(1, 2), interpolate_rows)  # [B,W,h] -> [B,h,W] -> [B,H,W]


def convolve_gaussian(mask: torch.Tensor, radius: int, sigma: float, border: str) -> torch.Tensor:
    """Convolve ``[B,H,W]`` with a Gaussian truncated at ``radius`` pixels; see `gaussian_matrix`."""
    height, width = mask.shape[1:]
    rows = gaussian_matrix(height, radius, sigma, border, mask.device)
    columns = gaussian_matrix(width, radius, sigma, border, mask.device)
    blurred = filter_lines(mask, rows).transpose(1, 2)  # [B,H,W] -> [B,W,H]
    return filter_lines(blurred, columns).transpose(1, 2)  # back to [B,H,W]


def resize_lanczos(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize ``[B,H,W,C]`` with a 3-lobe Lanczos filter in float on its device, clamped to 0..1.

    Photographs keep more detail than with `tensors.resize_image`, both when enlarged and when reduced again.

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


@functools.lru_cache(maxsize=64)
def sampling_matrices(length: int, sigma: float, device: torch.device) -> tuple[Bands, Bands]:
    """The two matrices that blur ``length`` lines with a Gaussian of ``sigma``: to samples, and back; see
    `_blur_samples`. Beyond both ends the lines are reflected."""
    half = sigma / 2**0.5
    reach = 5 * half  # includes all but 6e-7 of a Gaussian
    distance = sigma / _SAMPLES_PER_SIGMA
    points = np.arange(-reach, length + reach + 2 * distance, distance)  # also beyond the ends, to interpolate
    offsets = np.arange(-int(reach), int(reach) + 1)
    lines = np.round(points).astype(np.int64)[:, None] + offsets  # [samples, taps]
    samples = _build_matrix(_reflect(lines, length, "reflect"), _weigh(lines - points[:, None], half), length, device)
    first = np.ceil((np.arange(length) - reach - points[0]) / distance).astype(np.int64)
    near = first[:, None] + np.arange(int(2 * reach / distance) + 1)  # [length, taps]
    back = _build_matrix(near, _weigh(np.arange(length)[:, None] - points[near], half), len(points), device)
    return samples, back


def _weigh(distances: np.ndarray, sigma: float) -> np.ndarray:
    """Values of a Gaussian at distances ``[lines, taps]``; those of each line add up to 1."""
    weights = np.exp(-0.5 * (distances / sigma) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def clear_matrices() -> None:
    """Free the device memory of all cached matrices. Matrices in use stay valid."""
    for matrix in (lanczos_matrix, gaussian_matrix, sampling_matrices):
        matrix.cache_clear()


def _gaussian_weights(length: int, radius: int, sigma: float, border: str) -> tuple[np.ndarray, np.ndarray]:
    """Like `_lanczos_weights`; near the ends a line may appear twice."""
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    period = 2 * length if border == "reflect" else 2 * length - 2
    if len(offsets) > period > 0:  # the kernel covers lines more than once: sum their weights
        weights = np.bincount(offsets % period, weights, minlength=period)
        offsets = np.arange(period)
    lines = _reflect(np.arange(length)[:, None] + offsets, length, border)
    return lines, np.broadcast_to(weights, lines.shape)


def _reflect(lines: np.ndarray, length: int, border: str) -> np.ndarray:
    """The lines within ``length`` that continue it beyond both ends; see `gaussian_matrix`."""
    period = 2 * length if border == "reflect" else 2 * length - 2
    lines = lines % max(1, period)
    last = period - 1 if border == "reflect" else period
    return np.where(lines < length, lines, last - lines)


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
