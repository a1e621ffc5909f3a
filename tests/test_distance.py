"""Growing and shrinking by distance, against definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core import distance
from maskwright.core.errors import InputError


def random_selection(height: int, width: int, share: float, seed: int) -> torch.Tensor:
    return torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed)) < share


def compute_distances(selected: torch.Tensor) -> np.ndarray:
    """The distance of each pixel of ``[H,W]`` to the nearest selected one, by comparing all pairs."""
    points = torch.nonzero(selected).float()
    y, x = torch.meshgrid(*(torch.arange(n).float() for n in selected.shape), indexing="ij")
    grid = torch.stack([y.flatten(), x.flatten()], dim=1)
    if len(points) == 0:
        return np.full(selected.shape, np.inf)
    return torch.cdist(grid.double(), points.double()).min(dim=1).values.reshape(y.shape).numpy()


@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    st.sampled_from([0, 0.9, 1, 1.5, 2, 2.83, 5, 11.5, 40]),
    st.integers(0, 99),
)
def test_is_within_compares_with_nearest_selected_pixel(height, width, share, limit, seed):
    selected = random_selection(height, width, share, seed)
    expected = compute_distances(selected[0]) <= limit + 1e-9
    assert np.array_equal(distance.is_within(selected, limit)[0].numpy(), expected)


@pytest.mark.parametrize("band_pixels", [1, 100, 1 << 18])
def test_is_within_does_not_depend_on_bands(band_pixels, monkeypatch):
    monkeypatch.setattr(distance, "_BAND_PIXELS", band_pixels)
    selected = torch.cat([random_selection(40, 33, 0.01, seed) for seed in range(3)])
    expected = np.stack([compute_distances(each) <= 6.3 for each in selected])
    assert np.array_equal(distance.is_within(selected, 6.3).numpy(), expected)


@pytest.mark.parametrize("amount", [1, 2.5, 7, -1, -2.5, -7])
def test_grow_hard_mask_equals_grow_of_its_soft_copy(amount):
    """The two ways, by running maxima and by a disc, give the same pixels."""
    hard = random_selection(50, 40, 0.02 if amount > 0 else 0.98, 3).float()
    expected = distance.grow(hard * 0.5, amount) * 2
    assert torch.equal(distance.grow(hard, amount), expected)
    assert not torch.equal(distance.grow(hard, amount), hard)


def test_grow_soft_mask_moves_its_profile():
    ramp = torch.linspace(1, 0, 11)
    row = torch.cat([torch.ones(20), ramp, torch.zeros(19)])
    mask = row.expand(1, 9, 50)
    assert torch.equal(distance.grow(mask, 6)[0, 4, 6:], row[:-6])
    assert torch.equal(distance.grow(mask, -6)[0, 4, :-6], row[6:])


def test_grow_below_one_pixel_reaches_no_pixel():
    mask = random_selection(9, 9, 0.3, 1).float()
    assert distance.grow(mask, 0.99) is mask
    assert distance.grow(mask, -0.99) is mask


def test_grow_ignores_what_is_beyond_border():
    white = torch.ones(1, 8, 8)
    assert torch.equal(distance.grow(white, -3), white)
    assert torch.equal(distance.grow(1 - white, 3), 1 - white)


def test_grow_by_more_than_image_selects_all():
    mask = torch.zeros(1, 7, 11)
    mask[0, 3, 2] = 1
    assert torch.equal(distance.grow(mask, 65535), torch.ones(1, 7, 11))
    assert torch.equal(distance.grow(1 - mask, -65535), torch.zeros(1, 7, 11))


@pytest.mark.parametrize("amount", [3.5, -3.5])
def test_grow_on_gpu_equals_cpu(amount, cuda):
    hard = random_selection(30, 20, 0.4, 7).float()
    for mask in (hard, hard * 0.7):
        torch.testing.assert_close(distance.grow(mask.to(cuda), amount).cpu(), distance.grow(mask, amount))


@pytest.mark.parametrize(
    "call",
    [
        lambda mask: distance.grow(mask, float("nan")),
        lambda mask: distance.grow(mask, 70000),
        lambda mask: distance.grow(mask, "2"),
    ],
)
def test_grow_rejects_invalid_distance(call):
    with pytest.raises(InputError):
        call(torch.zeros(1, 4, 4))
