"""Alpha matting on a smaller image, upsampled to the full size."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

from .. import tensors
from ..batching import StageProgress
from . import closed_form

logger = logging.getLogger(__name__)

_Slices: TypeAlias = tuple[slice, slice]

# Above `MAX_UNKNOWNS` unknown pixels, alpha is solved on a smaller image with at most `_DOWNSCALED_UNKNOWNS` of them.
# Each costs about 1 kB of memory and ten microseconds.
MAX_UNKNOWNS = 1 << 21
_DOWNSCALED_UNKNOWNS = 1 << 19


def bounding_slices(selected: np.ndarray, margin: int) -> _Slices:
    """The rows and columns around the selected pixels, with a margin of ``margin`` pixels, clipped to the image."""
    rows, columns = np.flatnonzero(selected.any(axis=1)), np.flatnonzero(selected.any(axis=0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )


def solve_downscaled(
    colors: np.ndarray,
    trimap: np.ndarray,
    unknown: np.ndarray,
    stage: StageProgress,
    prior: closed_form.Prior | None = None,
) -> np.ndarray:
    """Like `closed_form.solve`, but on a smaller image.

    Closed-form matting models alpha as a linear function of color in every small window. The guided filter upsamples
    the coefficients of that function (He and Sun, *Fast Guided Filter*, 2015).
    """
    height, width = trimap.shape
    scale = math.sqrt(_DOWNSCALED_UNKNOWNS / np.count_nonzero(unknown))
    while True:
        size = (max(3, int(height * scale)), max(3, int(width * scale)))
        small_trimap = np.full(size, 0.5, np.float32)
        for value in (0, 1):  # known if most of the averaged pixels are, and at least one pixel of each value
            known = torch.from_numpy((trimap == value).astype(np.float32)[None])  # [H,W] -> [1,H,W]
            fraction = tensors.resize_mask(known, *size, mode="area")[0].numpy()
            small_trimap[fraction >= min(0.5, fraction.max())] = value
        small_unknown = small_trimap == 0.5
        if np.count_nonzero(small_unknown) <= _DOWNSCALED_UNKNOWNS:
            break
        scale *= 0.95
    logger.info("Alpha matting of %d x %d pixels runs at %d x %d.", width, height, size[1], size[0])
    image = torch.from_numpy(colors).unsqueeze(0)  # [H,W,3] -> [1,H,W,3]
    small = tensors.resize_image(image, *size, mode="area")
    small_alpha = small_trimap
    small_prior = prior and prior.resize(*size)
    small_alpha[small_unknown] = closed_form.solve(small[0].numpy(), small_trimap, small_unknown, stage, small_prior)
    lines = _fit_color_lines(tensors.image_to_bchw(small), torch.from_numpy(small_alpha)[None, None])
    pixels, flat_colors = np.flatnonzero(unknown), colors.reshape(-1, 3)
    result = np.empty(len(pixels))
    for chunk, samples in sample_at(lines, pixels, unknown.shape):
        line = samples.numpy()
        result[chunk] = (line[:3] * flat_colors[pixels[chunk]].T).sum(axis=0) + line[3]
    return result.clip(0, 1)


def _fit_color_lines(image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Fit ``alpha = a . color + b`` around every pixel of ``[1,3,h,w]``: a (3) and b (1) as ``[1,4,h,w]``."""
    height, width = alpha.shape[-2:]
    lines = torch.empty(1, 4, height, width)
    rows = max(1, (1 << 20) // width)  # in strips: the fit takes 200 bytes per pixel
    for top in range(0, height, rows):
        start, stop = max(0, top - 2), min(height, top + rows + 2)  # two means of radius 1 need two more rows
        strip = _fit_strip(image[:, :, start:stop].double(), alpha[:, :, start:stop].double())
        lines[:, :, top : top + rows] = strip[:, :, top - start : top - start + rows]
    return lines


def _fit_strip(image: torch.Tensor, alpha: torch.Tensor, epsilon: float = 1e-5) -> torch.Tensor:
    def mean(values: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(values, 3, stride=1, padding=1, count_include_pad=False)

    height, width = alpha.shape[-2:]
    m, m_alpha = mean(image), mean(alpha)
    pairs = mean((image[:, :, None] * image[:, None]).flatten(1, 2)).view(3, 3, height, width)
    covariance = (pairs - m[0, :, None] * m[0, None]).permute(2, 3, 0, 1)  # [3,3,h,w] -> [h,w,3,3]
    covariance = covariance + epsilon * torch.eye(3, dtype=covariance.dtype)
    shared = (mean(image * alpha) - m * m_alpha)[0].permute(1, 2, 0)  # [1,3,h,w] -> [h,w,3]
    a = torch.linalg.solve(covariance, shared).permute(2, 0, 1)  # [h,w,3] -> [3,h,w]
    b = m_alpha[0] - (a * m[0]).sum(dim=0, keepdim=True)
    return mean(torch.cat((a, b)).unsqueeze(0))


def sample_at(
    values: torch.Tensor, pixels: np.ndarray, shape: tuple[int, int], chunk: int = 1 << 20
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Sample ``values`` ``[1,C,h,w]`` bilinearly at ``pixels``, raster indices in the full ``shape``.

    Yields:
        Slices of ``pixels``, and their samples ``[C,n]``.
    """
    height, width = shape
    for start in range(0, len(pixels), chunk):
        entries = slice(start, start + chunk)
        y, x = np.divmod(pixels[entries], width)
        grid = torch.from_numpy(np.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), axis=-1)).to(values)
        samples = F.grid_sample(values, grid[None, None], mode="bilinear", padding_mode="border", align_corners=False)
        yield entries, samples[0, :, 0]  # [1,C,1,n] -> [C,n]
