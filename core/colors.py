"""Colours in a space where numbers differ as much as eyes see, and bringing the colours of one picture to another's."""

from __future__ import annotations

import torch

# Linear sRGB -> cone responses, and their cube roots -> lightness, green-red, blue-yellow: Oklab (Ottosson, *A
# perceptual color space for image processing*, 2020), with the inverses that he gives.
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
_FLAT = 1e-3  # a standard deviation in Oklab below which a picture has one colour, and no contrast to change


def match_colors(
    image: torch.Tensor, where: torch.Tensor, reference: torch.Tensor, there: torch.Tensor, weight: float
) -> torch.Tensor:
    """Move an image's colours towards those of a reference.

    Mean and standard deviation of each channel, over the part of the image that counts, become those of the
    reference (Reinhard et al., *Color Transfer between Images*, 2001), in Oklab in place of their logarithmic space,
    which makes much of the noise in dark places. The change is made to the whole image, ``weight`` of it.

    Args:
        image: ``[B,H,W,3]``.
        where: How much each of its pixels counts, ``[B,H,W]``, 0..1.
        reference: ``[B,h,w,3]``.
        there: How much each of its pixels counts, ``[B,h,w]``.
        weight: 0 for no change, 1 for all of it.

    Returns:
        ``[B,H,W,3]`` in 0..1. The image as it is where no pixel counts in it or in the reference.
    """
    if weight == 0 or not where.any() or not there.any():
        return image
    lab = _to_oklab(image)
    mean, deviation = _statistics(lab, where)
    wanted_mean, wanted_deviation = _statistics(_to_oklab(reference), there)
    gain = torch.where(deviation > _FLAT, wanted_deviation / deviation.clamp(min=_FLAT), 1.0)
    matched = _from_oklab((lab - mean) * gain + wanted_mean)
    return torch.lerp(image, matched, weight)


def _statistics(values: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel, ``[B,1,1,C]`` each."""
    weights = (weights / weights.sum(dim=(1, 2), keepdim=True)).unsqueeze(-1)
    mean = (values * weights).sum(dim=(1, 2), keepdim=True)
    return mean, ((values - mean) ** 2 * weights).sum(dim=(1, 2), keepdim=True).sqrt()


def _to_oklab(rgb: torch.Tensor) -> torch.Tensor:
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = _mixed(linear, _RGB_TO_CONES).clamp(min=0)
    return _mixed(cones ** (1 / 3), _ROOTS_TO_LAB)


def _from_oklab(lab: torch.Tensor) -> torch.Tensor:
    linear = _mixed(_mixed(lab, _LAB_TO_ROOTS) ** 3, _CONES_TO_RGB).clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055)


def _mixed(values: torch.Tensor, rows: tuple[tuple[float, ...], ...]) -> torch.Tensor:
    """Each channel of the result a weighted sum of all channels of ``values`` ``[...,3]``."""
    return values @ torch.tensor(rows, device=values.device).T
