"""Color matching in a perceptually uniform color space."""

from __future__ import annotations

import torch

# Oklab (Ottosson, *A perceptual color space for image processing*, 2020): linear sRGB -> cone responses, and their cube
# roots -> lightness, green-red, blue-yellow; with the published inverses.
_RGB_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_ROOTS_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
_LAB_TO_ROOTS = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_CONES_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
_FLAT = 1e-3  # below this standard deviation in Oklab an image has a single color, so no contrast to scale


def match_colors(
    image: torch.Tensor,
    weights: torch.Tensor,
    reference: torch.Tensor,
    reference_weights: torch.Tensor,
    strength: float,
) -> torch.Tensor:
    """Move the colors of an image towards those of a reference.

    The weighted mean and standard deviation of each channel become those of the reference (Reinhard et al., *Color
    Transfer between Images*, 2001). Oklab replaces their logarithmic space, which amplifies noise in dark areas. The
    whole image changes.

    Args:
        image: ``[B,H,W,3]``.
        weights: Weight of each pixel in the statistics, ``[B,H,W]``, 0..1.
        reference: ``[B,h,w,3]``.
        reference_weights: The same for the reference, ``[B,h,w]``.
        strength: 0 for no change, 1 for a full match.

    Returns:
        ``[B,H,W,3]`` in 0..1. The unchanged image if all weights of the image or the reference are 0.
    """
    if strength == 0 or not weights.any() or not reference_weights.any():
        return image
    lab = _to_oklab(image)
    mean, deviation = _compute_statistics(lab, weights)
    target_mean, target_deviation = _compute_statistics(_to_oklab(reference), reference_weights)
    gain = torch.where(deviation > _FLAT, target_deviation / deviation.clamp(min=_FLAT), 1.0)
    matched = _from_oklab((lab - mean) * gain + target_mean)
    return torch.lerp(image, matched, strength)


def _compute_statistics(values: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted mean and standard deviation of each channel, ``[B,1,1,C]`` each."""
    weights = (weights / weights.sum(dim=(1, 2), keepdim=True)).unsqueeze(-1)
    mean = (values * weights).sum(dim=(1, 2), keepdim=True)
    return mean, ((values - mean) ** 2 * weights).sum(dim=(1, 2), keepdim=True).sqrt()


def _to_oklab(rgb: torch.Tensor) -> torch.Tensor:
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = _mix_channels(linear, _RGB_TO_CONES).clamp(min=0)
    return _mix_channels(cones ** (1 / 3), _ROOTS_TO_LAB)


def _from_oklab(lab: torch.Tensor) -> torch.Tensor:
    linear = _mix_channels(_mix_channels(lab, _LAB_TO_ROOTS) ** 3, _CONES_TO_RGB).clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055)


def _mix_channels(values: torch.Tensor, matrix: tuple[tuple[float, ...], ...]) -> torch.Tensor:
    """Multiply each pixel of ``[...,3]`` by a 3 x 3 matrix."""
    return values @ torch.tensor(matrix, device=values.device).T
