"""A map of instances: which one is at each pixel of a preview."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .instances import Instance, Part


def draw_labels(instances: Sequence[Instance], size: Sequence[int], map_size: tuple[int, int]) -> np.ndarray:
    """Draw the number of the instance at each pixel, from 1; 0 is no instance.

    Smaller instances are on top, and each gets at least one pixel before others are drawn over it.

    Args:
        instances: At most 65535.
        size: Height and width of the masks.
        map_size: Height and width of the map.

    Returns:
        uint8 ``[2h,w]``: the high bytes above the low bytes, as in `tensors.to_16bit_halves`.
    """
    rows, columns = (_sample_places(length, count) for length, count in zip(size, map_size))
    labels = np.zeros(map_size, np.uint16)
    for i in sorted(range(len(instances)), key=lambda i: -instances[i].area):
        for part in instances[i].parts:
            if part.area:
                _draw(labels, part, i + 1, rows, columns)
    return np.concatenate([labels >> 8, labels & 255]).astype(np.uint8)


def _sample_places(length: int, count: int) -> np.ndarray:
    """The pixel at the center of each of ``count`` equal parts of ``length`` pixels."""
    return ((np.arange(count) + 0.5) * length / count).astype(int)


def _draw(labels: np.ndarray, part: Part, number: int, rows: np.ndarray, columns: np.ndarray) -> None:
    y, x = _slice(rows, part.box.y1, part.box.y2), _slice(columns, part.box.x1, part.box.x2)
    inner_rows = rows[y].clip(part.box.y1, part.box.y2 - 1)
    inner_columns = columns[x].clip(part.box.x1, part.box.x2 - 1)
    selected = part.sample(inner_rows, inner_columns)
    if not selected.any():
        selected[selected.shape[0] // 2, selected.shape[1] // 2] = True
    labels[y, x][selected] = number


def _slice(places: np.ndarray, start: int, stop: int) -> slice:
    """The samples from ``start`` to ``stop``; the nearest one if there are none."""
    first, last = np.searchsorted(places, (start, stop))
    if first == last:
        first = min(first, len(places) - 1)
    return slice(int(first), max(int(first) + 1, int(last)))
