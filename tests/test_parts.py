"""Holes and specks of masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maskwright.core import parts
from maskwright.core.errors import InputError

ndimage = pytest.importorskip("scipy.ndimage")


def draw(*rows: str) -> torch.Tensor:
    """Digits are tenths of full selection; "X" is 1."""
    return torch.tensor([[[1.0 if c == "X" else int(c) / 10 for c in row] for row in rows]])


@pytest.mark.parametrize("seed", range(5))
def test_fill_outlines_matches_scipy(seed):
    selected = np.random.default_rng(seed).random((30, 41)) < 0.6
    assert np.array_equal(parts.fill_outlines(selected), ndimage.binary_fill_holes(selected))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (draw("XXX", "X0X", "XXX"), draw("XXX", "XXX", "XXX")),
        (draw("0X0", "X0X", "0X0"), draw("0X0", "XXX", "0X0")),  # a hole is connected at sides only
        (draw("XXX", "X0X", "X0X"), draw("XXX", "X0X", "X0X")),  # open to the border
        (draw("5555", "5XX5", "5015", "5555"), draw("5555", "5XX5", "5555", "5555")),
        (draw("3333", "3X53", "3053", "3333"), draw("3333", "3X53", "3353", "3333")),
        (draw("000", "000", "000"), draw("000", "000", "000")),
    ],
)
def test_fill_holes_raises_holes_to_what_encloses_them(mask, expected):
    torch.testing.assert_close(parts.fill_holes(mask), expected)


def test_fill_holes_of_many_soft_values_reaches_rim():
    y, x = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    radius = (y**2 + x**2).sqrt()
    ring = (1 - (radius - 11).abs() / 8).clamp(0, 1)[None]
    filled = parts.fill_holes(ring)
    assert (filled[0][radius < 10] > 0.85).all()  # the rim is between 0.9 and 1, in levels of 1/16
    outside = radius >= 12
    assert torch.equal(filled[0][outside], ring[0][outside])


def test_remove_specks_counts_pixels():
    mask = draw("X00550", "0X0000", "000001", "XX0010")
    assert torch.equal(parts.remove_specks(mask, 1), mask)
    expected = draw("X00550", "0X0000", "000001", "XX0010")
    assert torch.equal(parts.remove_specks(mask, 2), expected)
    assert torch.equal(parts.remove_specks(mask, 3), torch.zeros_like(mask))


def test_parts_work_on_gpu_and_on_no_mask(cuda):
    mask = draw("XXX0X", "X0X00", "XXX00").to(cuda)
    expected = draw("XXX00", "XXX00", "XXX00")
    result = parts.remove_specks(parts.fill_holes(mask), 2)
    assert result.device.type == "cuda"
    assert torch.equal(result.cpu(), expected)
    empty = torch.zeros(0, 3, 5)
    assert parts.fill_holes(empty).shape == parts.remove_specks(empty, 9).shape == (0, 3, 5)


def test_remove_specks_with_fraction_raises():
    with pytest.raises(InputError, match="remove_specks"):
        parts.remove_specks(torch.zeros(1, 2, 2), 1.5)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_cut_apart_separates_only_parts_that_do_not_touch(share, seed):
    selected = np.random.default_rng(seed).random((60, 80)) < share
    cells = [cell for strip in parts.cut_apart(selected) for cell in strip]
    counts = np.zeros((62, 82), int)
    for cell in cells:
        counts[cell.y1 + 1 : cell.y2 + 1, cell.x1 + 1 : cell.x2 + 1] += 1
    inside = counts[1:-1, 1:-1]
    assert inside.max(initial=0) <= 1 and (inside[selected] == 1).all()
    assert len(cells) <= 64
    for cell in cells:  # no selected pixel beside a cell
        around = np.zeros_like(selected)
        around[max(0, cell.y1 - 1) : cell.y2 + 1, max(0, cell.x1 - 1) : cell.x2 + 1] = True
        around[cell.y1 : cell.y2, cell.x1 : cell.x2] = False
        assert not (around & selected).any()


def test_cut_apart_finds_every_part_of_a_grid():
    selected = np.zeros((40, 60), bool)
    selected[2:5, 3:8] = selected[2:5, 20:30] = selected[10:12, 50:60] = True
    assert [[tuple(cell) for cell in strip] for strip in parts.cut_apart(selected)] == [
        [(3, 2, 8, 5), (20, 2, 30, 5)],
        [(50, 10, 60, 12)],
    ]
    assert parts.cut_apart(np.zeros((4, 4), bool)) == []
