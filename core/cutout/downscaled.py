"""Alpha and foreground colors of very large images: computed on a smaller image, and upsampled to the full size."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from .. import tensors
from ..batching import StageProgress
from . import closed_form

logger = logging.getLogger(__name__)

# Above `MAX_UNKNOWNS` unknown pixels, alpha is solved on a smaller image with at most `_DOWNSCALED_UNKNOWNS` of them.
# Each costs about 1 kB of memory and ten microseconds.
MAX_UNKNOWNS = 1 << 21
_DOWNSCALED_UNKNOWNS = 1 << 19

# For foreground colors, larger images are cropped to the surroundings of the unknown pixels, and downscaled if the crop
# is still larger. Each pixel costs about 64 bytes.
MAX_PIXELS = 1 << 24


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
            fraction = _shrink((trimap == value).astype(np.float32), *size)
            small_trimap[fraction >= min(0.5, fraction.max())] = value
        small_unknown = small_trimap == 0.5
        if np.count_nonzero(small_unknown) <= _DOWNSCALED_UNKNOWNS:
            break
        scale *= 0.95
    logger.info("Alpha matting of %d x %d pixels runs at %d x %d.", width, height, size[1], size[0])
    image = torch.from_numpy(colors).unsqueeze(0)  # [H,W,3] -> [1,H,W,3]
    small = tensors.resize_image(image, *size, mode="area")
    small_prior = prior and prior.resize(*size)
    small_alpha = small_trimap
    small_alpha[small_unknown] = closed_form.solve(small[0].numpy(), small_trimap, small_unknown, stage, small_prior)
    lines = _fit_color_lines(tensors.image_to_bchw(small), torch.from_numpy(small_alpha)[None, None])
    pixels, flat_colors = np.flatnonzero(unknown), colors.reshape(-1, 3)
    result = np.empty(len(pixels))
    for chunk, samples in _sample_at(lines, pixels, unknown.shape):
        line = samples.numpy()
        result[chunk] = (line[:3] * flat_colors[pixels[chunk]].T).sum(axis=0) + line[3]
    return result.clip(0, 1)


def _shrink(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """``[H,W]`` -> ``[height,width]``, the means of all pixels that a new one covers."""
    return tensors.resize_mask(torch.from_numpy(values).unsqueeze(0), height, width, "area")[0].numpy()


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


Estimate = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Colors ``[H,W,3]`` and alpha ``[H,W]`` -> foreground and background colors, both ``[H,W,3]``."""


def estimate_foreground_near(
    estimate: Estimate, colors: np.ndarray, alpha: np.ndarray, unknown: np.ndarray
) -> np.ndarray:
    """Estimate foreground colors ``[H,W,3]`` of at most `MAX_PIXELS` pixels around the unknown ones.

    Elsewhere alpha is 0 or 1, and the foreground is the image itself.
    """
    foreground = colors.copy()
    crop = tensors.bounding_slices(unknown, 16)
    if alpha[crop].size <= MAX_PIXELS:
        foreground[crop] = estimate(colors[crop], alpha[crop])[0]
    else:
        foreground[crop][unknown[crop]] = _estimate_downscaled(estimate, colors[crop], alpha[crop], unknown[crop])
    return foreground


def _estimate_downscaled(estimate: Estimate, colors: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Foreground of the unknown pixels ``[n,3]``, estimated on a smaller image. The result is then adjusted as little
    as possible so that ``alpha F + (1 - alpha) B`` equals the image (Forte, *Approximate Fast Foreground Colour
    Estimation*, 2021)."""
    scale = math.sqrt(MAX_PIXELS / alpha.size)
    size = (int(alpha.shape[0] * scale), int(alpha.shape[1] * scale))
    small = tensors.resize_image(torch.from_numpy(colors).unsqueeze(0), *size, mode="area")[0]
    both = np.concatenate(estimate(small.numpy(), _shrink(alpha, *size)), axis=-1)  # [h,w,6]
    both = torch.from_numpy(both).permute(2, 0, 1).unsqueeze(0)  # [h,w,6] -> [1,6,h,w]
    pixels, flat_colors, flat_alpha = np.flatnonzero(unknown), colors.reshape(-1, 3), alpha.reshape(-1, 1)
    result = np.empty((len(pixels), 3), np.float32)
    for chunk, samples in _sample_at(both, pixels, unknown.shape):
        foreground, background = samples.numpy().T[:, :3], samples.numpy().T[:, 3:]
        a = flat_alpha[pixels[chunk]]
        error = flat_colors[pixels[chunk]] - a * foreground - (1 - a) * background
        result[chunk] = foreground + a * error / (a * a + (1 - a) * (1 - a))
    return result.clip(0, 1)


def _sample_at(
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
