"""From probabilities to masks: threshold, blur, stretch, dilate. The editor's preview mirrors this in JavaScript."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .. import masks, morphology, previews, tensors
from ..checks import check_number, check_whole_number


@dataclass(frozen=True)
class Selection:
    """How to turn probabilities into a soft selection.

    Attributes:
        blur: Sigma of the Gaussian blur, 0 to 100, in pixels at the model's native size.
        threshold: 0 to 1. Probabilities at or below it are dropped.
        dilation_factor: How far to grow the selection in every direction, at least 0, in pixels at the native size.
    """

    blur: float = 3.0
    threshold: float = 0.3
    dilation_factor: int = 4

    def __post_init__(self) -> None:
        check_number(self.blur, "blur", 0, 100)
        check_number(self.threshold, "threshold", 0, 1)
        check_whole_number(self.dilation_factor, "dilation_factor", 0)


def stretch(probabilities: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Scale each mask by its extremes, (p - min) / max, and resize it with Pillow's bicubic filter in 8 bits.

    Args:
        probabilities: ``[B,h,w]``.
        height, width: The new size in pixels.

    Returns:
        ``[B,height,width]``.
    """
    low, high = probabilities.amin((1, 2), keepdim=True), probabilities.amax((1, 2), keepdim=True)
    mask = torch.where(high > 0, (probabilities - low) / high, torch.zeros_like(probabilities))
    return tensors.resize_8bit(mask, height, width, "bicubic")


def select(probabilities: torch.Tensor, selection: Selection, scale: float = 1.0) -> torch.Tensor:
    """Turn probabilities into a soft selection at the same resolution: threshold, blur, stretch to 0..1, dilate.

    Args:
        probabilities: ``[B,h,w]``.
        scale: Size of ``probabilities`` relative to the model's native size.

    Returns:
        ``[B,h,w]``. All 0 if nothing is above the threshold, and all 1 if the mask is uniform above it.
    """
    mask = masks.gaussian_blur(masks.threshold(probabilities, selection.threshold), selection.blur * scale)
    low, high = mask.amin((1, 2), keepdim=True), mask.amax((1, 2), keepdim=True)
    # Blurring equal values adds rounding noise, which must not be stretched.
    uniform = high - low <= 1e-5 * high
    mask = torch.where(uniform, (high > 0).to(mask.dtype), (mask - low) / torch.where(uniform, 1, high - low))
    grow = min(round(selection.dilation_factor * scale), max(mask.shape[1:]))
    return morphology.dilate(mask, 2 * grow + 1)


def render_selection(image: torch.Tensor, selection: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Render a selection ``[B,h,w]`` as a mask ``[B,H,W]`` and a heat map ``[B,H,W,3]``, at the size of the image."""
    height, width = image.shape[1:3]
    mask = tensors.resize_mask(previews.map_to_greys(selection), height, width, "bilinear", antialias=False)
    return mask, previews.draw_heat_map(image, selection)
