"""From probabilities to masks: threshold, blur, stretch, dilate. The view computes the same in JavaScript."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .. import masks, morphology, previews, tensors
from ..checks import check_number, check_whole_number


@dataclass(frozen=True)
class Selection:
    """How probabilities become a soft selection.

    Attributes:
        blur: Sigma of the Gaussian, 0 to 100, in pixels of the model's own size.
        threshold: 0 to 1. Probabilities that are not above it count as 0.
        dilation_factor: By how many pixels of the model's own size the selection grows to every side, 0 or more.
    """

    blur: float = 3.0
    threshold: float = 0.3
    dilation_factor: int = 4

    def __post_init__(self) -> None:
        check_number(self.blur, "blur", 0, 100)
        check_number(self.threshold, "threshold", 0, 1)
        check_whole_number(self.dilation_factor, "dilation_factor", 0)


def stretch(probabilities: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Probabilities as masks whose brightest pixel is bright: (p - min) / max of each, cut to 8 bits and resized.

    Args:
        probabilities: ``[B,h,w]``.
        height, width: The size of the masks, which Pillow's bicubic filter in 8 bits brings them to.

    Returns:
        ``[B,height,width]``.
    """
    low, high = probabilities.amin((1, 2), keepdim=True), probabilities.amax((1, 2), keepdim=True)
    mask = torch.where(high > 0, (probabilities - low) / high, torch.zeros_like(probabilities))
    return tensors.resize_8bit(mask, height, width, "bicubic")


def select(probabilities: torch.Tensor, selection: Selection, scale: float = 1.0) -> torch.Tensor:
    """Probabilities as a soft selection, in their own resolution: threshold, blur, stretch to 0..1, dilate.

    Args:
        probabilities: ``[B,h,w]``.
        scale: How many times the model's own size ``probabilities`` have.

    Returns:
        ``[B,h,w]``. All zero where nothing is above the threshold, and all one where everything is alike above it.
    """
    mask = masks.gaussian_blur(masks.threshold(probabilities, selection.threshold), selection.blur * scale)
    low, high = mask.amin((1, 2), keepdim=True), mask.amax((1, 2), keepdim=True)
    # A blur of equal values differs in the last bit from pixel to pixel, and that is nothing to be stretched.
    alike = high - low <= 1e-5 * high
    mask = torch.where(alike, (high > 0).to(mask.dtype), (mask - low) / torch.where(alike, 1, high - low))
    grow = min(round(selection.dilation_factor * scale), max(mask.shape[1:]))
    return morphology.dilate(mask, 2 * grow + 1)


def render_selection(image: torch.Tensor, selection: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A selection ``[B,h,w]`` as a mask ``[B,H,W]`` and a heat map ``[B,H,W,3]`` of the size of the pictures."""
    height, width = image.shape[1:3]
    mask = tensors.resize_mask(previews.map_to_greys(selection), height, width, "bilinear", antialias=False)
    return mask, previews.draw_heat_map(image, selection)
