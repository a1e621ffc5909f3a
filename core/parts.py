"""Connected parts of masks: holes and specks.

All functions take and return float32 masks ``[B,H,W]`` on any device, and change nothing in place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from . import tensors
from .checks import check_whole_number
from .geometry import Box
from .packages import import_scipy

_MAX_CELLS = 64  # of `cut_apart`
_SOFT_LEVELS = 16  # at which a soft mask is searched for holes


def fill_outlines(selected: np.ndarray) -> np.ndarray:
    """Select everything that the selected pixels enclose.

    A hole is a set of unselected pixels, connected at their sides, that does not reach the border.

    Args:
        selected: Bool ``[H,W]``.

    Returns:
        Bool ``[H,W]``.
    """
    outside = np.pad(~selected, 1, constant_values=True)
    background, _ = import_scipy("ndimage").label(outside)  # its label 1 begins in the corner: outside all outlines
    return background[1:-1, 1:-1] != 1


def fill_holes(mask: torch.Tensor) -> torch.Tensor:
    """Fill the holes of the selection; soft edges around it stay as they are.

    Each pixel rises to the highest level at which selected pixels enclose it. A mask with more than 16 different values
    is filled at 16 levels up to its maximum.
    """

    def fill(values: np.ndarray) -> np.ndarray:
        result = values.copy()
        crop = tensors.find_bounding_slices(values > 0)
        values, changed = values[crop], result[crop]
        for level in _levels(values):
            np.maximum(changed, level, out=changed, where=fill_outlines(values >= level))
        return result

    return _for_each(mask, fill)


def _levels(values: np.ndarray) -> np.ndarray:
    """The levels above 0 at which to look for holes."""
    high = values.max(initial=0)
    if ((values == 0) | (values == high)).all():
        return np.array([high] if high > 0 else [], np.float32)
    for sample in (values[::16, ::16], values):  # a sparse sample sorts faster, and usually has enough values
        distinct = np.unique(sample)
        if len(distinct) > _SOFT_LEVELS:
            return np.linspace(0, high, _SOFT_LEVELS + 1, dtype=np.float32)[1:]
    return distinct[distinct > 0]


def cut_apart(selected: np.ndarray) -> list[list[Box]]:
    """Boxes that together contain all selected pixels, so that less than the whole mask needs to be searched.

    The mask is cut at empty rows, and each strip at empty columns. Pixels of two boxes are never neighbors. More than
    `_MAX_CELLS` boxes would cost more than they save, so they become one.

    Args:
        selected: Bool ``[H,W]``.

    Returns:
        Strips from the top down, each with its boxes from the left; empty if nothing is selected.
    """
    strips = _find_runs(np.any(selected, axis=1))
    if len(strips) <= _MAX_CELLS:
        cells = [[Box(x1, y1, x2, y2) for x1, x2 in _find_runs(np.any(selected[y1:y2], axis=0))] for y1, y2 in strips]
        if sum(map(len, cells)) <= _MAX_CELLS:
            return cells
    columns = np.flatnonzero(selected.any(axis=0))
    return [[Box(columns[0], strips[0][0], columns[-1] + 1, strips[-1][1])]]


def _find_runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Start and stop of each run of true values."""
    changes = np.flatnonzero(np.diff(flags, prepend=False, append=False)).tolist()
    return list(zip(changes[::2], changes[1::2]))


def remove_specks(mask: torch.Tensor, pixels: int) -> torch.Tensor:
    """Remove connected parts smaller than ``pixels``.

    Pixels of at least 1/255 are connected at sides and corners.

    Args:
        mask: ``[B,H,W]``.
        pixels: At least 0; 0 and 1 change nothing.

    Raises:
        InputError: ``pixels`` is not a whole number of at least 0.
    """
    pixels = check_whole_number(pixels, "remove_specks", low=0)

    def remove(values: np.ndarray) -> np.ndarray:
        numbers, _ = import_scipy("ndimage").label(tensors.is_selected(torch.from_numpy(values)), np.ones((3, 3)))
        is_speck = np.bincount(numbers.ravel()) < pixels
        is_speck[0] = False  # the background, not a part
        return np.where(is_speck[numbers], np.float32(0), values)

    return _for_each(mask, remove) if pixels > 1 else mask


def _for_each(mask: torch.Tensor, change: Callable[[np.ndarray], np.ndarray]) -> torch.Tensor:
    """Apply a function of ``[H,W]`` to each mask, on the CPU."""
    if len(mask) == 0:
        return mask
    changed = [torch.from_numpy(change(each.cpu().numpy())) for each in mask]
    return torch.stack(changed).to(mask.device)
