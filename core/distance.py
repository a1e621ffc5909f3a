"""Growing and shrinking by exact Euclidean distance.

A distance is measured between the centers of two pixels, so that the neighbor of a selected pixel is 1 pixel away.
Pixels beyond the border of the image count neither as selected nor as unselected. `outline` computes distances
across the outline.

All functions work on any device and change nothing in place.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from . import morphology
from .checks import check_number
from .morphology import MAX_SIZE

_BAND_PIXELS = 1 << 18  # processed at a time on the CPU, so that they stay in its cache


def grow(mask: torch.Tensor, distance: float) -> torch.Tensor:
    """Grow or shrink the selection by a distance.

    Each pixel becomes the maximum within ``distance`` around it, so soft edges keep their profile (a dilation by a
    disc). A negative distance takes the minimum (an erosion).

    The cost of a mask that has no soft values does not depend on the distance.

    Args:
        mask: ``[B,H,W]``.
        distance: In pixels, fractions included, from -`MAX_SIZE` to `MAX_SIZE`.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: ``distance`` is not a number in that range.
    """
    distance = check_number(distance, "grow", -MAX_SIZE, MAX_SIZE)
    if abs(distance) < 1 or len(mask) == 0:
        return mask
    return torch.cat([_grow_one(each, distance) for each in mask.split(1)])


def _grow_one(mask: torch.Tensor, distance: float) -> torch.Tensor:
    if not is_hard(mask):
        change = morphology.dilate_by_disc if distance > 0 else morphology.erode_by_disc
        return change(mask, abs(distance))
    selected = mask > 0
    near = is_within(selected if distance > 0 else mask == 0, abs(distance))
    return (near if distance > 0 else near == 0).float()


def is_hard(mask: torch.Tensor) -> bool:
    """Whether every value is 0 or 1."""
    return bool(((mask == 0) | (mask == 1)).all())


def is_within(selected: torch.Tensor, distance: float) -> torch.Tensor:
    """Whether a selected pixel is at most ``distance`` away.

    A selected pixel that is k rows away reaches ``sqrt(distance^2 - k^2)`` pixels to both sides in this row. A pixel
    is near one if the farthest of all reaches from its left, or from its right, includes it. So running maxima along
    columns and rows replace the comparison of all pairs of pixels.

    Args:
        selected: Bool ``[B,H,W]``.
        distance: In pixels, at least 0.

    Returns:
        Bool ``[B,H,W]``.
    """
    limit = min(math.floor(distance), selected.shape[1])
    squares = int(distance * distance)  # whole, as are all squared distances between pixels
    reach = [min(math.isqrt(squares - k * k), selected.shape[2]) for k in range(limit + 1)]
    reach.append(-1 - selected.shape[2])  # no reach
    if selected.device.type != "cpu":
        return _reach_on_accelerator(selected, torch.tensor(reach, dtype=torch.int32, device=selected.device))
    result = torch.empty_like(selected)
    for each, out in zip(selected.numpy(), result.numpy()):
        _write_reach(each, np.array(reach, _smallest_integer(each)), out)
    return result


def _write_reach(selected: np.ndarray, reach: np.ndarray, out: np.ndarray) -> None:
    """`is_within` for ``[H,W]`` on the CPU.

    Args:
        reach: For each number of rows how far a selected pixel that many rows away reaches; the last is negative.
    """
    away = _rows_away(selected, limit=len(reach) - 2)
    x = np.arange(selected.shape[1], dtype=reach.dtype)
    rows = max(1, _BAND_PIXELS // len(x))
    for top in range(0, len(away), rows):
        band = slice(top, top + rows)
        sideways = reach[away[band]]  # [h,W]
        out[band] = np.maximum.accumulate(sideways + x, axis=1) >= x
        out[band] |= np.maximum.accumulate((sideways - x)[:, ::-1], axis=1)[:, ::-1] >= -x


def _rows_away(selected: np.ndarray, limit: int) -> np.ndarray:
    """How many rows away the nearest selected pixel of the same column is, ``[H,W]``; ``limit + 1`` if more than
    ``limit``.

    Every distance is a sum of different powers of two, so looking 1, 2, 4, ... rows up and down finds all of them.
    """
    height, width = selected.shape
    result = np.empty(selected.shape, _smallest_integer(selected))
    near, far = result.dtype.type(0), result.dtype.type(limit + 1)
    columns = max(1, _BAND_PIXELS // height)
    for left in range(0, width, columns):
        band = slice(left, left + columns)
        away, step = np.where(selected[:, band], near, far), 1
        while step <= min(limit, height - 1):
            np.minimum(away[step:], away[:-step] + step, out=away[step:])
            np.minimum(away[:-step], away[step:] + step, out=away[:-step])
            step *= 2
        result[:, band] = away
    return result


def _smallest_integer(selected: np.ndarray) -> type:
    """A type for sums of two coordinates; the operations are faster the smaller it is."""
    return np.int16 if max(selected.shape) < 16000 else np.int32


def _reach_on_accelerator(selected: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """`is_within` for ``[B,H,W]``; see `_write_reach`."""
    sideways = reach[rows_away_on_accelerator(selected, limit=len(reach) - 2).long()]
    x = torch.arange(selected.shape[2], dtype=torch.int32, device=selected.device)
    from_left = torch.cummax(sideways + x, dim=2).values >= x
    from_right = torch.cummax((sideways - x).flip(2), dim=2).values.flip(2) >= -x
    return from_left | from_right


def rows_away_on_accelerator(selected: torch.Tensor, limit: int) -> torch.Tensor:
    """`_rows_away` for ``[B,H,W]``."""
    height = selected.shape[1]
    none = -height - limit - 1  # farther away than the limit, both upwards and downwards
    y = torch.arange(height, dtype=torch.int32, device=selected.device)[:, None]
    above = torch.cummax(torch.where(selected, y, none), dim=1).values
    below = -torch.cummax(torch.where(selected, -y, none).flip(1), dim=1).values.flip(1)
    return torch.minimum(y - above, below - y).clamp(max=limit + 1)
