"""The guided filter: smooths a mask along the edges of an image (He, Sun and Tang, *Guided Image Filtering*, 2010).

In every window the result is a linear function of the colors, fitted to the mask. Its cost does not depend on the
radius, and it runs on any device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .. import tensors
from ..batching import use_one_thread
from ..packages import import_scipy

_EPSILON = 1e-4  # variance of colors below which a window counts as flat
_LEAST_RADIUS = 4  # in pixels, after downscaling


def apply_guided_filter(
    image: torch.Tensor, mask: torch.Tensor, radius: int, epsilon: float = _EPSILON
) -> torch.Tensor:
    """Filter a mask along the edges of an image.

    With a radius above 4, the linear functions are fitted on a smaller image and interpolated (He and Sun, *Fast
    Guided Filter*, 2015). Windows are cut off at the border of the image.

    Args:
        image: ``[B,H,W,3]`` in 0..1.
        mask: ``[B,H,W]`` in 0..1.
        radius: Of the square windows, in pixels, at least 1.
        epsilon: Larger values smooth across fainter edges.

    Returns:
        ``[B,H,W]`` in 0..1.
    """
    with use_one_thread():
        return _filter(image, mask, radius, epsilon)


def _filter(image: torch.Tensor, mask: torch.Tensor, radius: int, epsilon: float) -> torch.Tensor:
    height, width = mask.shape[1:]
    factor = min(-(-radius // _LEAST_RADIUS), height, width)
    small = (-(-height // factor), -(-width // factor))
    colors = tensors.image_to_bchw(tensors.resize_image(image, *small, mode="area"))
    values = tensors.resize_mask(mask, *small, mode="area").unsqueeze(1)  # [B,h,w] -> [B,1,h,w]
    lines = _fit_lines(colors, values, max(1, round(radius / factor)), epsilon)
    if factor > 1:
        lines = F.interpolate(lines, (height, width), mode="bilinear", align_corners=False)
    result = lines[:, 3]
    for channel in range(3):
        result.addcmul_(lines[:, channel], image[..., channel])
    return result.clamp_(0, 1)


def _fit_lines(colors: torch.Tensor, values: torch.Tensor, radius: int, epsilon: float) -> torch.Tensor:
    """Fit ``value = a . color + b`` in every window, and average over all windows that contain a pixel.

    Args:
        colors: ``[B,3,h,w]``.
        values: ``[B,1,h,w]``.

    Returns:
        a (3) and b (1) as ``[B,4,h,w]``.
    """
    # Centered, since float32 loses the variance of colors far from 0.
    center = colors.mean(dim=(2, 3), keepdim=True)
    colors = colors - center
    pairs = [(p, q) for p in range(3) for q in range(p, 3)]
    products = torch.cat([colors[:, p : p + 1] * colors[:, q : q + 1] for p, q in pairs], dim=1)
    means = box_mean(torch.cat((colors, values, colors * values, products), dim=1), radius)
    m, m_value, m_product, m_pairs = means.split((3, 1, 3, 6), dim=1)
    c = {}
    for k, (p, q) in enumerate(pairs):
        c[p, q] = c[q, p] = m_pairs[:, k] - m[:, p] * m[:, q] + (epsilon if p == q else 0)
    shared = m_product - m * m_value
    # The inverse of a symmetric 3 x 3 matrix by its cofactors; epsilon keeps the determinant above 0.
    cofactors = {}
    for p, q in pairs:
        r, s = (p + 1) % 3, (p + 2) % 3
        t, u = (q + 1) % 3, (q + 2) % 3
        cofactors[p, q] = cofactors[q, p] = c[r, t] * c[s, u] - c[r, u] * c[s, t]
    adjugate = torch.stack([torch.stack([cofactors[p, q] for q in range(3)], dim=1) for p in range(3)], dim=1)
    determinant = c[0, 0] * adjugate[:, 0, 0] + c[0, 1] * adjugate[:, 0, 1] + c[0, 2] * adjugate[:, 0, 2]
    a = (adjugate * shared[:, None]).sum(dim=2) / determinant[:, None]  # [B,3,3,h,w] -> [B,3,h,w]
    b = m_value - (a * m).sum(dim=1, keepdim=True)
    a, b = box_mean(torch.cat((a, b), dim=1), radius).split((3, 1), dim=1)
    return torch.cat((a, b - (a * center).sum(dim=1, keepdim=True)), dim=1)


def box_mean(values: torch.Tensor, radius: int) -> torch.Tensor:
    """The mean over windows of ``2 radius + 1`` pixels in both directions, cut off at the border: ``[B,C,h,w]``."""
    for dim in (-1, -2):
        index = torch.arange(values.shape[dim], device=values.device)
        stop, start = (index + radius + 1).clamp(max=len(index)), (index - radius).clamp(min=0)
        count = (stop - start).view(-1, *([1] * (-1 - dim)))
        values = _box_sum(values, radius, start, stop, dim) / count
    return values


def _box_sum(values: torch.Tensor, radius: int, start: torch.Tensor, stop: torch.Tensor, dim: int) -> torch.Tensor:
    """Sums of ``values[start:stop]`` along a dimension. Accumulates in float64, since float32 loses small windows."""
    if values.device.type == "cpu":  # several times as fast as torch, especially while other programs use the cores
        radius = min(radius, len(start))
        size = 2 * radius + 1
        uniform = import_scipy("ndimage").uniform_filter1d
        return torch.from_numpy(uniform(values.contiguous().numpy(), size, dim, mode="constant")).mul_(size)
    sums = F.pad(values.cumsum(dim, dtype=torch.float64), (1, 0) if dim == -1 else (0, 0, 1, 0))
    return (sums.index_select(dim, stop) - sums.index_select(dim, start)).to(values.dtype)
