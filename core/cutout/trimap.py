"""Which pixels of a mask are sure: the trimap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .. import morphology, tensors
from ..checks import check_number, check_whole_number


@dataclass(frozen=True)
class MattingSettings:
    """Which pixels of a mask are sure. Thresholds are in 8-bit levels. If they cross, background wins.

    Raises:
        InputError: A value is not a number or out of range.
    """

    foreground_threshold: float = 240  # 0..255: above it a pixel is foreground
    background_threshold: float = 20  # 0..255: below it a pixel is background
    erode_size: int = 10  # pixels, 0 or more: width of the square by which both sure parts shrink

    def __post_init__(self) -> None:
        check_number(self.foreground_threshold, "alpha_matting_foreground_threshold", 0, 255)
        check_number(self.background_threshold, "alpha_matting_background_threshold", 0, 255)
        check_whole_number(self.erode_size, "alpha_matting_erode_size", 0)


def make_trimap(
    mask: torch.Tensor, foreground_threshold: float = 240, background_threshold: float = 20, erode_size: int = 10
) -> torch.Tensor:
    """Which pixels are surely foreground (1), surely background (0), or unknown (0.5).

    Both sure parts are eroded by a square, as rembg does it: foreground also from the picture's edge inwards,
    background not. An ``erode_size`` of 0 still erodes by a cross of 3 x 3, again as rembg does it. If the thresholds
    cross, a pixel in both parts is background.

    Args:
        mask: ``[H,W]`` in 0..1, rounded down to 8-bit levels.
        foreground_threshold: 0..255; levels above it are foreground.
        background_threshold: 0..255; levels below it are background.
        erode_size: Width of the square in pixels, 0 or more.

    Returns:
        ``[H,W]`` of 0, 0.5 and 1.

    Raises:
        InputError: As `MattingSettings`.
    """
    settings = MattingSettings(foreground_threshold, background_threshold, erode_size)
    levels = torch.from_numpy(tensors.to_8bit(mask)).unsqueeze(0)  # [H,W] -> [1,H,W]
    size, shape = (int(settings.erode_size), "rectangle") if settings.erode_size else (3, "cross")
    size = min(size, 2 * max(mask.shape) + 1)  # larger squares erode no more
    # A frame of zeros, since the border of `morphology.erode` never erodes.
    foreground = F.pad((levels > settings.foreground_threshold).float(), (1, 1, 1, 1))
    foreground = morphology.erode(foreground, size, shape)[0, 1:-1, 1:-1]
    background = morphology.erode((levels < settings.background_threshold).float(), size, shape)[0]
    return torch.where(background > 0, 0.0, (1 + foreground) / 2).to(mask.device)


def explain_unsolvable(sure: np.ndarray, settings: MattingSettings) -> str | None:
    """Why a trimap cannot be solved, or None."""
    height, width = sure.shape
    if not (sure == 1).any():
        crossed = settings.background_threshold > settings.foreground_threshold
        limit = f" and not below {settings.background_threshold:g}" if crossed else ""
        return (
            f"no pixel of the mask is surely foreground (above {settings.foreground_threshold:g}{limit} "
            f"after eroding by {settings.erode_size})"
        )
    if not (sure == 0).any():
        return (
            f"no pixel of the mask is surely background (below {settings.background_threshold:g} "
            f"after eroding by {settings.erode_size})"
        )
    if min(height, width) < 3:
        return f"the picture is {width} x {height}, and its colours are compared in windows of 3 x 3"
    return None
