"""Distances to the outline of a mask, and feathering.

The outline separates selected pixels from the others. A distance is measured between the centers of two pixels, as in
`distance`. The border of the image is not an outline.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from . import tensors
from .checks import check_number
from .distance import rows_away_on_accelerator
from .morphology import MAX_SIZE
from .packages import import_scipy

_CHUNK = 1 << 15  # PyTorch uses one thread for so many pixels; threads do not pay here
_SHORT = 64  # up to this distance, following the outline is faster than scipy, and 16 bits hold all sums of squares


def fade_edges(mask: torch.Tensor, inside: float, outside: float) -> torch.Tensor:
    """Fade the edge linearly by distance: from full selection ``inside`` pixels within the outline to none ``outside``
    pixels beyond it.

    The outline is where the mask crosses 0.5. Inside it values only decrease, outside it they only increase, so a
    softer edge stays softer.

    Args:
        mask: ``[B,H,W]``.
        inside, outside: In pixels, from 0 to `MAX_SIZE`; two zeros change nothing.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: A distance is not a number in that range.
    """
    inside = check_number(inside, "feather_inside", 0, MAX_SIZE)
    outside = check_number(outside, "feather_outside", 0, MAX_SIZE)
    if inside + outside == 0:
        return mask
    reach = math.ceil(max(inside, outside)) + 1
    result = mask.clone(memory_format=torch.contiguous_format)
    for each, selected in zip(result, result >= 0.5):
        if mask.device.type == "cpu" and reach <= _SHORT:
            pixels, distances = find_near_outline(selected.numpy(), reach)
            flat, flat_selected = each.view(-1), selected.view(-1)
            for chunk, across in zip(pixels.split(_CHUNK), distances.split(_CHUNK)):
                values, is_selected = flat.index_select(0, chunk), flat_selected.index_select(0, chunk)
                flat.scatter_(0, chunk, _fade(values, is_selected, across, inside, outside))
        else:
            distances = torch.where(selected, measure_distance(~selected, reach), measure_distance(selected, reach))
            each.copy_(_fade(each, selected, distances, inside, outside))
    return result


def _fade(
    values: torch.Tensor, selected: torch.Tensor, distances: torch.Tensor, inside: float, outside: float
) -> torch.Tensor:
    """Apply the ramp of `fade_edges` to some pixels, from their ``distances`` across the outline."""
    depth = torch.where(selected, distances - 0.5, 0.5 - distances)  # the outline is half a pixel from both centers
    ramp = ((depth + outside) / (inside + outside)).clamp(0, 1)
    return torch.where(selected, torch.minimum(values, ramp), torch.maximum(values, ramp))


def measure_distance(selected: torch.Tensor, limit: float) -> torch.Tensor:
    """The distance from each pixel to the nearest selected one.

    Args:
        selected: Bool ``[H,W]``.
        limit: In pixels. Larger distances may be infinity. Without selected pixels, all are.

    Returns:
        Float32 ``[H,W]``.
    """
    reach = math.ceil(min(limit, math.hypot(*selected.shape)))
    if selected.device.type != "cpu":
        rows = rows_away_on_accelerator(selected[None], reach)[0]
        return _distance_from_rows(rows.float(), reach)  # float: squares may exceed 32-bit integers
    selected = selected.contiguous()
    result = torch.where(selected, 0.0, torch.inf)
    if reach <= _SHORT:
        pixels, distances = find_near_outline(selected.numpy(), reach)
        result.view(-1)[pixels] = torch.where(selected.view(-1)[pixels], 0.0, distances)
    elif selected.any():
        result[...] = torch.from_numpy(import_scipy("ndimage").distance_transform_edt(~selected.numpy()))
    return result


def find_near_outline(selected: np.ndarray, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the pixels within ``limit`` of the other side of the outline, and their distances.

    Squared distances propagate from pixel to pixel, first along columns, then along rows. Propagation stops at a pixel
    whose value is not higher: every pixel beyond it is nearer to another one (Eggers, *Two fast Euclidean distance
    transformations in Z2 based on sufficient propagation*, 1998). So the cost depends mostly on the length of the
    outline.

    Args:
        selected: Bool ``[H,W]``.
        limit: In pixels, at most `_SHORT`.

    Returns:
        Indices of these pixels in the flattened mask, int64 ``[n]``, and their distances, float32 ``[n]``.
    """
    whole_width = selected.shape[1]
    rows, columns = tensors.find_bounding_slices(selected != selected[0, 0], limit)  # pixels outside are out of reach
    selected = selected[rows, columns]
    height, width = selected.shape
    # Initially more than any sum of two squares within the limit. The border of -1 stops propagation.
    stride = width + 2
    padded = np.full((height + 2, stride), 2 * limit**2 + 1, np.int16)
    padded[[0, -1]] = padded[:, [0, -1]] = -1
    inner, squares, zero = padded[1:-1, 1:-1], padded.ravel(), np.int16(0)
    first = stride + 1  # the index of the first pixel

    pairs = np.flatnonzero(selected[1:] != selected[:-1])  # pixels unlike those below them
    upper = _reindex(pairs, width, stride, first)
    zeros = np.zeros(len(pairs), np.int16)
    _propagate(squares, zeros, upper + stride, stride, limit)
    _propagate(squares, zeros, upper, -stride, limit)

    unlike = selected[:, 1:] != selected[:, :-1]
    pairs = np.flatnonzero(unlike | (inner[:, :-1] != inner[:, 1:]))  # in which one pixel propagates to the other
    left = _reindex(pairs, width - 1, stride, first)
    across, squares_left, squares_right = unlike.ravel().take(pairs), squares.take(left), squares.take(left + 1)
    for values, others, source, step in (
        (squares_left, squares_right, left, 1),
        (squares_right, squares_left, left + 1, -1),
    ):
        passing = np.flatnonzero(across | (values < others))
        _propagate(squares, np.where(across, zero, values).take(passing), source.take(passing) + step, step, limit)

    pixels = np.flatnonzero(inner <= limit**2)
    distances = np.sqrt(squares.take(_reindex(pixels, width, stride, first)), dtype=np.float32)
    pixels = _reindex(pixels, width, whole_width, rows.start * whole_width + columns.start)
    return torch.from_numpy(pixels), torch.from_numpy(distances)


def _reindex(positions: np.ndarray, width: int, new_width: int, first: int) -> np.ndarray:
    """Convert flat indices from rows of ``width`` to rows of ``new_width``; index 0 becomes ``first``."""
    return positions + positions // width * (new_width - width) + first


def _propagate(squares: np.ndarray, values: np.ndarray, targets: np.ndarray, step: int, limit: int) -> None:
    """Propagate squared distances in one direction, in place.

    Args:
        squares: Flattened, with a border of -1; receives the lower ones.
        values: Squared distances along the other axis, of the pixels that propagate; 0 for one across the outline.
        targets: Index of the first pixel that each value propagates to.
        step: From one index to the next.
    """
    for distance in range(1, limit + 1):
        values = values + np.int16(2 * distance - 1)  # the difference between successive squares
        lower = np.flatnonzero(values < squares.take(targets))
        if len(lower) == 0:
            return
        values, targets = values.take(lower), targets.take(lower)
        squares[targets] = values
        targets += step


def _distance_from_rows(rows: torch.Tensor, limit: int) -> torch.Tensor:
    """`measure_distance` from the distances along columns, ``[H,W]``: each squared distance is the minimum, over nearby
    columns, of the squared distance along that column plus the squared distance to it (Saito and Toriwaki, *New
    algorithms for Euclidean distance transformation of an n-dimensional digitized picture*, 1994)."""
    squares = torch.where(rows > limit, torch.inf, rows * rows)
    nearest = squares.clone()
    for x in range(1, min(limit, squares.shape[1] - 1) + 1):
        shifted = squares + x * x
        torch.minimum(nearest[:, x:], shifted[:, :-x], out=nearest[:, x:])
        torch.minimum(nearest[:, :-x], shifted[:, x:], out=nearest[:, :-x])
    return nearest.sqrt()
