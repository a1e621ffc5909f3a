"""Distances to the outline, and feathering, against a comparison of all pairs of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core import outline
from maskwright.core.errors import InputError
from test_distance import compute_distances, random_selection

pytest.importorskip("scipy.ndimage")


def compute_distances_across(selected: torch.Tensor) -> np.ndarray:
    """The distance of each pixel of ``[H,W]`` to the nearest pixel on the other side of the outline."""
    return np.where(selected, compute_distances(~selected), compute_distances(selected))


@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.98, 1.0]),
    st.integers(1, 64),
    st.integers(0, 99),
    st.booleans(),
)
def test_find_near_outline_matches_all_pairs(height, width, share, limit, seed, transpose):
    selected = random_selection(height, width, share, seed)[0]
    selected = selected.T if transpose else selected
    expected = compute_distances_across(selected).ravel()
    pixels, distances = outline.find_near_outline(selected.numpy(), limit)
    assert np.array_equal(pixels.numpy(), np.flatnonzero(expected <= limit))
    np.testing.assert_allclose(distances.numpy(), expected[pixels], rtol=1e-6)


@pytest.mark.parametrize("limit", [3, 10, 64, 100])  # on both sides of `_SHORT`
@pytest.mark.parametrize("share", [0.0, 0.0005, 0.01, 0.5, 1.0])
def test_measure_distance_matches_all_pairs(share, limit, cuda):
    selected = random_selection(23, 137, share, 5)[0]
    expected = torch.from_numpy(compute_distances(selected)).float()
    for device in ("cpu", cuda):
        result = outline.measure_distance(selected.to(device), limit).cpu()
        near = expected <= limit
        torch.testing.assert_close(result[near], expected[near])
        assert (result[~near] > limit).all()


def test_measure_distance_with_squares_above_32_bits(cuda):
    selected = torch.zeros(50000, 2, dtype=torch.bool)
    selected[0, 0] = True
    for device in ("cpu", cuda):
        result = outline.measure_distance(selected.to(device), limit=49999).cpu()
        torch.testing.assert_close(result[:, 0], torch.arange(50000.0))
        torch.testing.assert_close(result[40, 1].item(), 1601**0.5)


def test_measure_distance_reaches_opposite_corner(cuda):
    """It is farther away than the image is long."""
    selected = torch.zeros(50, 50, dtype=torch.bool)
    selected[0, 0] = True
    for device in ("cpu", cuda):
        corner = outline.measure_distance(selected.to(device), 100)[-1, -1].item()
        assert corner == pytest.approx(49 * 2**0.5)


@pytest.mark.parametrize("limit", [5, 100])
def test_measure_distance_of_a_transposed_mask(limit):
    selected = random_selection(50, 70, 0.1, 3)[0]
    expected = outline.measure_distance(selected, limit).T
    assert torch.equal(outline.measure_distance(selected.T, limit), expected)


def test_fade_edges_on_gpu_equals_cpu(cuda):
    hard = random_selection(30, 20, 0.4, 7).float()
    for mask in (hard, hard * 0.7, hard.expand(2, 30, 20).contiguous()):
        for inside, outside in ((2, 3), (0, 1.5), (70, 4)):
            faded = outline.fade_edges(mask.to(cuda), inside, outside)
            torch.testing.assert_close(faded.cpu(), outline.fade_edges(mask, inside, outside))


def test_fade_edges_does_not_depend_on_memory_layout():
    mask = random_selection(30, 20, 0.4, 7).float().expand(2, 30, 20)
    columns = mask.transpose(1, 2).contiguous().transpose(1, 2)
    for inside in (3, 70):
        assert torch.equal(outline.fade_edges(columns, inside, 2), outline.fade_edges(mask, inside, 2))


@pytest.mark.parametrize(
    ("inside", "outside", "expected"),
    [
        (0, 4, [1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0]),
        (2, 0, [1, 1, 0.75, 0.25, 0, 0, 0, 0, 0, 0]),
        (2, 2, [1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0, 0, 0]),
    ],
)
def test_fade_edges_is_linear_in_distance(inside, outside, expected):
    row = torch.tensor([1.0] * 4 + [0.0] * 6)
    result = outline.fade_edges(row.expand(1, 5, 10), inside, outside)
    torch.testing.assert_close(result, torch.tensor(expected).expand(1, 5, 10))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_fade_edges_without_outline_changes_nothing(value):
    mask = torch.full((2, 6, 6), value)
    assert torch.equal(outline.fade_edges(mask, 3, 3), mask)


def test_fade_edges_keeps_softer_edge():
    row = torch.linspace(1, 0, 40)
    mask = row.expand(1, 3, 40)
    torch.testing.assert_close(outline.fade_edges(mask, 1, 1), mask)


@pytest.mark.parametrize(("inside", "outside"), [(-1, 0), (0, float("inf"))])
def test_fade_edges_rejects_invalid_distance(inside, outside):
    with pytest.raises(InputError):
        outline.fade_edges(torch.zeros(1, 4, 4), inside, outside)
