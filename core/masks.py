"""Operations on masks: smoothing, combination, feathering.

All functions take and return float32 masks ``[B,H,W]`` on any device, and change nothing in place.
"""

from __future__ import annotations

import torch

from .checks import check_choice, check_number, check_whole_number
from .errors import InputError
from .filters import convolve_gaussian, gaussian_blur
from .geometry import NO_SIDES, Sides
from .morphology import MAX_SIZE

COMBINATIONS = ("union", "intersection", "difference", "sum")


def smooth_outline(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """Round corners and remove bumps of the outline, without making the mask softer.

    Blurs with a Gaussian, then raises the contrast around 0.5 until the mask is as soft as before: the mean of
    ``4 x mask x (1 - mask)`` is equal. A binary mask stays binary.

    Args:
        mask: ``[B,H,W]``.
        sigma: Standard deviation in pixels, from 0 to `MAX_SIZE`; 0 changes nothing.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: ``sigma`` is not a number in that range.
    """
    sigma = check_number(sigma, "smooth", 0, MAX_SIZE)
    if sigma == 0 or len(mask) == 0:
        return mask
    return torch.cat([_with_softness(gaussian_blur(each, sigma), _softness(each)) for each in mask.split(1)])


_BINS = 4096  # of a histogram of mask values
_MAX_CONTRAST = 1 << 20  # beyond it a mask has no soft values


def _softness(mask: torch.Tensor) -> float:
    """0 if every value is 0 or 1, 1 if every value is 0.5."""
    return float((4 * mask * (1 - mask)).mean())


def _with_softness(mask: torch.Tensor, softness: float) -> torch.Tensor:
    """Raise the contrast around 0.5 until the softness is as low as ``softness``."""
    if softness == 0:
        return (mask >= 0.5).float()
    # A histogram is enough to find the contrast, by bisection of its logarithm.
    counts = torch.histc(mask, _BINS, 0, 1)
    values = (torch.arange(_BINS, device=mask.device) + 0.5) / _BINS
    low, high = 1.0, float(_MAX_CONTRAST)
    for _ in range(40):
        middle = (low * high) ** 0.5
        raised = _raise_contrast(values, middle)
        too_soft = float((4 * raised * (1 - raised) * counts).sum()) / mask.numel() > softness
        low, high = (middle, high) if too_soft else (low, middle)
    return _raise_contrast(mask, high)


def _raise_contrast(values: torch.Tensor, contrast: float) -> torch.Tensor:
    return ((values - 0.5) * contrast + 0.5).clamp(0, 1)


def combine(first: torch.Tensor, second: torch.Tensor, combination: str) -> torch.Tensor:
    """Combine two masks: maximum (union), minimum (intersection), ``first - second`` (difference) or sum, clamped to
    0..1.

    Args:
        first, second: ``[B,H,W]``; a batch of one is combined with every mask of the other.
        combination: One of `COMBINATIONS`.

    Raises:
        InputError: The sizes differ, or ``combination`` is unknown.
    """
    check_choice(combination, "combination", COMBINATIONS)
    if first.shape[1:] != second.shape[1:] or (len(first) != len(second) and 1 not in (len(first), len(second))):
        raise InputError(
            f"masks of shapes {list(first.shape)} and {list(second.shape)} cannot be combined",
            "Use masks of equal size, with equal batch sizes or a single mask in one of them",
        )
    if combination == "union":
        return torch.maximum(first, second)
    if combination == "intersection":
        return torch.minimum(first, second)
    return (first - second if combination == "difference" else first + second).clamp(0, 1)


def feather(mask: torch.Tensor, width: int, fade_sides: Sides = NO_SIDES) -> torch.Tensor:
    """Blur the edge of a mask, for a blend about ``width`` pixels wide on both sides.

    The Gaussian has a window of 2 x ``width`` + 1 pixels, and the mask is mirrored at its border. Sigma is 10 for a
    ``width`` up to 30, where the window ends at three sigma, and ``width`` / 3 above. If the window is at least as long
    as the mask's shorter side, it is reduced to half that side, rounded to an odd number.

    The result is exactly 0 wherever the window contains no selected pixel.

    Args:
        mask: ``[B,H,W]``.
        width: In pixels, at least 0; 0 changes nothing.
        fade_sides: Sides where the mask ends but the image continues. There the blend is forced to 0 at the border:
            the value left by the blur is subtracted, fading linearly over the blur's radius. Masks that
            stay away from these sides do not change.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: ``width`` is not a whole number of at least 0.
    """
    width = check_whole_number(width, "feather", low=0)
    radius = _blur_radius(width, min(mask.shape[1:]))
    if radius == 0:
        return mask
    sigma = max(10.0, width / 3)
    return _fade_at_sides(convolve_gaussian(mask, radius, sigma, "mirror"), radius, fade_sides).clamp(0, 1)


def _blur_radius(width: int, shorter_side: int) -> int:
    window = 2 * width + 1
    if shorter_side <= window:
        window = shorter_side // 2
    return window // 2


def _fade_at_sides(soft: torch.Tensor, radius: int, fade_sides: Sides) -> torch.Tensor:
    """Subtract from ``soft`` ``[B,H,W]`` its values at ``fade_sides``, weighted by proximity to that side."""
    excess = soft.new_zeros(())
    for fades, axis, at_end in (
        (fade_sides.left, 2, False),
        (fade_sides.top, 1, False),
        (fade_sides.right, 2, True),
        (fade_sides.bottom, 1, True),
    ):
        length = soft.shape[axis]
        border = soft.narrow(axis, length - 1 if at_end else 0, 1)
        if fades and border.any():
            distance = torch.arange(1, length + 1, device=soft.device) / (radius + 1)
            weight = 1 - (distance.flip(0) if at_end else distance).clamp(max=1)
            weight = weight.view((1, -1, 1) if axis == 1 else (1, 1, -1))
            excess = torch.maximum(excess, weight * border)
    return soft - excess if excess.ndim else soft
