"""Alpha and foreground colors of large images: computed on a smaller image, and upsampled to the full size."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from .. import morphology, tensors
from ..batching import StageProgress, run_interruptibly, use_one_thread
from . import closed_form

logger = logging.getLogger(__name__)

# Above these sizes, alpha and colors are computed on a smaller image: `FEW_...` if speed matters more than exactness,
# else `MAX_...`. The full image's colors restore most of the detail.
REDUCTION = 3  # a smaller image has at most a third of the (unknown) pixels

# For alpha. Each unknown pixel that is solved for takes about 1 kB of memory.
FEW_UNKNOWNS, MAX_UNKNOWNS = 1 << 16, 1 << 21
_MAX_DOWNSCALED_UNKNOWNS = 1 << 19  # on the smaller image

# For foreground colors, larger images are cropped to the surroundings of the unknown pixels, and downscaled if the crop
# is still larger. Each pixel takes about 64 bytes.
FEW_PIXELS, MAX_PIXELS = 1 << 18, 1 << 24


def solve_downscaled(
    colors: np.ndarray,
    trimap: np.ndarray,
    unknown: np.ndarray,
    stage: StageProgress,
    prior: closed_form.Prior | None = None,
) -> np.ndarray:
    """Like `closed_form.solve`, but on a smaller image, with at most a third of the unknown pixels.

    Closed-form matting models alpha as a linear function of color in every small window. The guided filter upsamples
    the coefficients of that function (He and Sun, *Fast Guided Filter*, 2015).
    """
    small, small_trimap, covers_unknown = run_interruptibly(lambda: _downscale(colors, trimap, unknown), stage)
    size, small_unknown = small_trimap.shape, small_trimap == 0.5
    logger.debug("Alpha of a crop of %s is solved at %s (height, width).", trimap.shape, size)
    small_prior = prior and run_interruptibly(lambda: prior.resize(*size), stage)
    small_alpha = small_trimap
    small_alpha[small_unknown] = closed_form.solve(small, small_trimap, small_unknown, stage, small_prior)
    return run_interruptibly(lambda: _upsample_alpha(colors, unknown, small, small_alpha, covers_unknown), stage)


def _downscale(
    colors: np.ndarray, trimap: np.ndarray, unknown: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A smaller image: colors ``[h,w,3]``, trimap ``[h,w]``, and which pixels cover unknown ones, ``[h,w]`` bool."""
    (height, width), count = trimap.shape, np.count_nonzero(unknown)
    max_unknowns = min(count // REDUCTION, _MAX_DOWNSCALED_UNKNOWNS)
    scale = math.sqrt(max_unknowns / count)
    while True:
        size = (max(3, int(height * scale)), max(3, int(width * scale)))
        small_trimap, known_share = np.full(size, 0.5, np.float32), np.zeros(size, np.float32)
        # Known if half of the averaged pixels are. If no pixel reaches half: those with the largest share.
        for value in (0, 1):
            share = _shrink((trimap == value).astype(np.float32), *size)
            small_trimap[(share > 0) & (share >= min(0.5, share.max()))] = value
            known_share += share
        if np.count_nonzero(small_trimap == 0.5) <= max_unknowns:
            break
        scale *= 0.95
    image = torch.from_numpy(colors).unsqueeze(0)  # [H,W,3] -> [1,H,W,3]
    return tensors.resize_image(image, *size, mode="area")[0].numpy(), small_trimap, known_share < 1


def _upsample_alpha(
    colors: np.ndarray, unknown: np.ndarray, small: np.ndarray, small_alpha: np.ndarray, covers_unknown: np.ndarray
) -> np.ndarray:
    """Alpha of the unknown pixels ``[n]``, from the results of `_downscale` and the alpha ``[h,w]`` of that image."""
    with use_one_thread():  # threads do not pay for short operations
        lines = _fit_color_lines(torch.from_numpy(small), torch.from_numpy(small_alpha), covers_unknown)
    pixels, flat_colors = np.flatnonzero(unknown), colors.reshape(-1, 3)
    result = np.empty(len(pixels))
    for chunk, samples in _sample_at(lines, pixels, unknown.shape):
        line = samples.numpy()
        result[chunk] = (line[:3] * flat_colors[pixels[chunk]].T).sum(axis=0) + line[3]
    return result.clip(0, 1)


def _shrink(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """``[H,W]`` -> ``[height,width]``; each new pixel is the mean of those it covers."""
    return tensors.resize_mask(torch.from_numpy(values).unsqueeze(0), height, width, "area")[0].numpy()


_WINDOW = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))  # [9,2]
_EPSILON = 1e-5  # regularizes windows of nearly constant color


def _fit_color_lines(image: torch.Tensor, alpha: torch.Tensor, needed: np.ndarray) -> torch.Tensor:
    """Fit ``alpha = a . color + b`` in windows of 3 x 3 pixels, and average the lines of all windows around a pixel
    (He, Sun and Tang, *Guided Image Filtering*, 2013). Windows repeat the pixels at the image border.

    Args:
        image: ``[h,w,3]``.
        alpha: ``[h,w]``.
        needed: Bool ``[h,w]``; the result is valid at these pixels and their neighbors.

    Returns:
        a (3) and b (1) as ``[1,4,h,w]``, float32.
    """
    height, width = alpha.shape
    near = morphology.dilate(torch.from_numpy(needed)[None].float(), 5)[0]  # also two pixels around them
    image, alpha, lines = image.double(), alpha.double(), torch.zeros(height, width, 4)
    chunks = []  # center pixels and their windows
    for centers in torch.nonzero(near).split(1 << 14):  # [n,2]; a chunk takes about 10 MB
        y, x = (centers[:, None] + _WINDOW).clamp(min=0).unbind(-1)  # [n,9]
        window = y.clamp(max=height - 1), x.clamp(max=width - 1)
        colors, alphas = image[window], alpha[window]  # [n,9,3], [n,9]
        mean = colors.mean(dim=1)
        colors = colors - mean[:, None]
        covariance = colors.mT @ colors / 9 + _EPSILON * torch.eye(3, dtype=colors.dtype)
        a = torch.linalg.solve(covariance, (colors * alphas[..., None]).mean(dim=1))  # [n,3]
        b = alphas.mean(dim=1) - (a * mean).sum(dim=1)
        lines[centers.unbind(-1)] = torch.cat((a, b[:, None]), dim=1).float()
        chunks.append((centers.unbind(-1), window))
    averages = torch.zeros(4, height, width)
    for (rows, columns), window in chunks:
        averages[:, rows, columns] = lines[window].mean(dim=1).T
    return averages[None]


Estimate = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Colors ``[H,W,3]`` and alpha ``[H,W]`` -> foreground and background colors, both ``[H,W,3]``."""


def estimate_foreground_near(
    estimate: Estimate, colors: np.ndarray, alpha: np.ndarray, unknown: np.ndarray, max_pixels: int
) -> np.ndarray:
    """Estimate foreground colors ``[H,W,3]`` around the unknown pixels, on an image of at most ``max_pixels``.

    Far from them the foreground is the image. Nearby it also continues where alpha is 0, for masks that are blurred or
    grown afterwards.
    """
    foreground = colors.copy()
    crop = tensors.find_bounding_slices(unknown, 16)
    colors, alpha, unknown = colors[crop], alpha[crop], unknown[crop]
    if alpha.size <= max_pixels:
        foreground[crop] = estimate(colors, alpha)[0]
    else:
        small, unknown_colors = _estimate_downscaled(estimate, colors, alpha, unknown, max_pixels)
        large_foreground = tensors.resize_image(small, *alpha.shape, mode="bilinear")[0].numpy()  # [1,h,w,3] -> [H,W,3]
        np.copyto(foreground[crop], large_foreground, where=(alpha == 0)[..., None])
        foreground[crop][unknown] = unknown_colors
    return foreground


def _estimate_downscaled(
    estimate: Estimate, colors: np.ndarray, alpha: np.ndarray, unknown: np.ndarray, max_pixels: int
) -> tuple[torch.Tensor, np.ndarray]:
    """Estimate the foreground on a smaller image.

    That of the unknown pixels is adjusted as little as possible so that ``alpha F + (1 - alpha) B`` equals the full
    image (Forte, *Approximate Fast Foreground Colour Estimation*, 2021).

    Returns:
        The foreground of the smaller image, ``[1,h,w,3]``, and that of the unknown pixels, ``[n,3]``.
    """
    scale = math.sqrt(max_pixels / alpha.size)
    size = (max(1, int(alpha.shape[0] * scale)), max(1, int(alpha.shape[1] * scale)))
    small = tensors.resize_image(torch.from_numpy(colors).unsqueeze(0), *size, mode="area")[0]
    both = torch.from_numpy(np.concatenate(estimate(small.numpy(), _shrink(alpha, *size)), axis=-1))[None]
    pixels, flat_colors, flat_alpha = np.flatnonzero(unknown), colors.reshape(-1, 3), alpha.reshape(-1, 1)
    result = np.empty((len(pixels), 3), np.float32)
    for chunk, samples in _sample_at(tensors.image_to_bchw(both), pixels, unknown.shape):
        foreground, background = samples.numpy().T[:, :3], samples.numpy().T[:, 3:]
        a = flat_alpha[pixels[chunk]]
        error = flat_colors[pixels[chunk]] - a * foreground - (1 - a) * background
        result[chunk] = foreground + a * error / (a * a + (1 - a) * (1 - a))
    return both[..., :3], result.clip(0, 1)


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
