"""The trimap of a mask: definite foreground, definite background, unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .. import morphology, tensors
from ..checks import check_number, check_whole_number
from ..distance import is_within

_FOREGROUND, _BACKGROUND = 240 / 255, 20 / 255  # values above and below are reliable, except near the edge


@dataclass(frozen=True)
class MattingSettings:
    """How to derive a trimap from a mask. See `make_trimap`.

    Raises:
        InputError: A value is not a number or out of range.
    """

    foreground_threshold: float = 240
    background_threshold: float = 20
    erode_size: int = 10

    def __post_init__(self) -> None:
        check_number(self.foreground_threshold, "alpha_matting_foreground_threshold", 0, 255)
        check_number(self.background_threshold, "alpha_matting_background_threshold", 0, 255)
        check_whole_number(self.erode_size, "alpha_matting_erode_size", 0)


def make_trimap(
    mask: torch.Tensor, foreground_threshold: float = 240, background_threshold: float = 20, erode_size: int = 10
) -> torch.Tensor:
    """Classify pixels as definite foreground (1), definite background (0) or unknown (0.5).

    As in rembg, both definite areas are eroded by a square, the foreground also from the image border inwards. Also as
    in rembg, an ``erode_size`` of 0 still erodes by a 3 x 3 cross. If the thresholds cross, a pixel in both areas is
    background.

    Args:
        mask: ``[H,W]`` in 0..1; rounded down to 8 bits.
        foreground_threshold: 0..255; 8-bit values above it are foreground.
        background_threshold: 0..255; 8-bit values below it are background.
        erode_size: Width of the square in pixels, at least 0.

    Returns:
        ``[H,W]`` of 0, 0.5 and 1.

    Raises:
        InputError: As `MattingSettings`.
    """
    settings = MattingSettings(foreground_threshold, background_threshold, erode_size)
    levels = torch.from_numpy(tensors.to_8bit(mask)).unsqueeze(0)  # [H,W] -> [1,H,W]
    size, shape = (int(settings.erode_size), "rectangle") if settings.erode_size else (3, "cross")
    size = min(size, 2 * max(mask.shape) + 1)  # larger squares make no difference
    # Pad with zeros, because `morphology.erode` ignores pixels outside the image.
    foreground = F.pad((levels > settings.foreground_threshold).float(), (1, 1, 1, 1))
    foreground = morphology.erode(foreground, size, shape)[0, 1:-1, 1:-1]
    background = morphology.erode((levels < settings.background_threshold).float(), size, shape)[0]
    return torch.where(background > 0, 0.0, (1 + foreground) / 2).to(mask.device)


# Factors of the edge width, chosen by measurement: see docs/quality.md.
_OUTSIDE = 0.5  # masks of networks are too wide more often than too narrow
_PER_SOFTNESS = 2.0
_LEAST, _MOST = 0.01, 0.05  # of the longer side of the image


def find_edge_width(mask: torch.Tensor) -> float:
    """Choose the width of the band to refine from the softness of the mask's edge.

    The softness is the mean distance over which the edge passes through uncertain values: their area, divided by
    the length of the edge (the total variation of the mask).

    Args:
        mask: ``[H,W]`` in 0..1.

    Returns:
        The ``edge_width`` of `make_band` in pixels: twice the softness, between 1 and 5 % of the longer side.
    """
    longest, values = max(mask.shape), mask.cpu().numpy()
    uncertain = np.count_nonzero((values >= _BACKGROUND) & (values <= _FOREGROUND))
    down, across = np.diff(values, axis=0)[:, :-1], np.diff(values, axis=1)[:-1]
    length = np.sqrt(down * down + across * across).sum(dtype=np.float64)
    softness = uncertain / length if length else 0.0
    width = min(max(_PER_SOFTNESS * softness, _LEAST * longest), _MOST * longest)
    return round(width, 1)  # so that rounding errors, which differ between machines, do not change the result


def make_band(mask: torch.Tensor, edge_width: float) -> torch.Tensor:
    """Classify as `make_trimap` does, but by Euclidean distance, and less far outside the edge than inside.

    Args:
        mask: ``[H,W]`` in 0..1.
        edge_width: In pixels. Foreground is what is farther than this from all values that are not foreground,
            background what is farther than half of it from all that are not background.

    Returns:
        ``[H,W]`` of 0, 0.5 and 1.
    """
    values = mask.unsqueeze(0)  # [H,W] -> [1,H,W]
    foreground = ~is_within(values <= _FOREGROUND, edge_width)
    background = ~is_within(values >= _BACKGROUND, _OUTSIDE * edge_width)
    return torch.where(background, 0.0, (1 + foreground.float()) / 2)[0]


def explain_unsolvable(trimap: np.ndarray, settings: MattingSettings) -> str | None:
    """Explain why matting cannot solve a trimap; None if it can."""
    height, width = trimap.shape
    if not (trimap == 1).any():
        crossed = settings.background_threshold > settings.foreground_threshold
        limit = f" and not below {settings.background_threshold:g}" if crossed else ""
        return (
            f"no pixel of the mask is definite foreground (above {settings.foreground_threshold:g}{limit} "
            f"after eroding by {settings.erode_size})"
        )
    if not (trimap == 0).any():
        return (
            f"no pixel of the mask is definite background (below {settings.background_threshold:g} "
            f"after eroding by {settings.erode_size})"
        )
    if min(height, width) < 3:
        return f"the image has {width} x {height} pixels, and matting needs at least 3 x 3"
    return None
