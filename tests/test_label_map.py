"""The map of instances that the preview draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maskwright.core.geometry import Box
from maskwright.core.instances.instances import Detection, boxes_to_instances, find_instances
from maskwright.core.instances.label_map import draw_labels
from maskwright.core.instances.picking import merge_overlapping


def numbers(halves: np.ndarray) -> np.ndarray:
    high, low = np.split(halves.astype(int), 2)
    return 256 * high + low


def boxes(*sides: tuple) -> list:
    return boxes_to_instances([[Detection(Box(*each)) for each in sides]])


def test_draw_labels_at_full_size() -> None:
    mask = torch.zeros(1, 6, 8)
    mask[:, 0:2, 0:3] = 0.5
    mask[:, 4:6, 5:8] = 1
    drawn = numbers(draw_labels(find_instances(mask), (6, 8), (6, 8)))
    expected = np.zeros((6, 8), int)
    expected[0:2, 0:3], expected[4:6, 5:8] = 1, 2
    np.testing.assert_array_equal(drawn, expected)


def test_draw_labels_puts_smaller_ones_on_top() -> None:
    small_first, large_first = boxes((3, 3, 5, 5), (0, 0, 8, 8)), boxes((0, 0, 8, 8), (3, 3, 5, 5))
    assert numbers(draw_labels(small_first, (8, 8), (8, 8)))[4, 4] == 1
    assert numbers(draw_labels(large_first, (8, 8), (8, 8)))[4, 4] == 2


def test_draw_labels_of_merged_instances() -> None:
    (merged,) = merge_overlapping(boxes((0, 0, 4, 4), (2, 2, 6, 6)), 0.1)
    assert (numbers(draw_labels([merged], (8, 8), (8, 8))) == 1).sum() == 16 + 16 - 4


@pytest.mark.parametrize("map_size", [(3, 4), (7, 5), (1, 1), (64, 100)])
def test_draw_labels_shows_every_instance(map_size: tuple[int, int]) -> None:
    """Also those that are smaller than a pixel of the preview, unless a smaller one covers them."""
    for side in ((0, 0, 1, 1), (99, 63, 100, 64), (37, 21, 38, 22), (0, 20, 100, 21)):
        drawn = numbers(draw_labels(boxes(side), (64, 100), map_size))
        assert drawn.shape == map_size and (drawn == 1).any()


def test_draw_labels_of_more_than_255() -> None:
    found = boxes(*[(x, y, x + 1, y + 1) for y in range(20) for x in range(20)])
    np.testing.assert_array_equal(numbers(draw_labels(found, (20, 20), (20, 20))).ravel(), np.arange(1, 401))


def test_draw_labels_of_nothing() -> None:
    found = find_instances(torch.zeros(1, 4, 4), split="leave as they are")
    assert draw_labels(found, (4, 4), (2, 2)).sum() == 0 == draw_labels([], (4, 4), (2, 2)).sum()
