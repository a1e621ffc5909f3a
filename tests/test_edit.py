"""The edits of a mask, in their order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core import filters, masks
from maskwright.core.edit import MaskEdits, edit_masks
from maskwright.core.errors import InputError


def disc(radius: float, size: int = 33) -> torch.Tensor:
    axis = torch.arange(float(size)) - size // 2
    return ((axis[:, None] ** 2 + axis[None, :] ** 2).sqrt() <= radius).float()[None]


def test_edit_masks_by_default_returns_input():
    mask = disc(5)
    assert edit_masks(mask, MaskEdits())[0] is mask


def test_edit_masks_follows_order():
    """Holes are filled before growing, which is before feathering: another order gives another mask."""
    ring = disc(9) - disc(1)
    edits = MaskEdits(fill_holes=True, remove_specks=9, grow=-8, feather_outside=2)
    ring[0, 0, 0] = 1  # a speck
    result, erased = edit_masks(ring, edits)
    assert not erased
    assert result[0, 16, 16] == 1
    assert result[0, 0, 0] == 0
    assert 0 < result[0, 16, 19] < 1


def test_edit_masks_inverts_before_threshold():
    result, _ = edit_masks(torch.full((1, 2, 2), 0.25), MaskEdits(invert=True, threshold=0.7))
    assert torch.equal(result, torch.ones(1, 2, 2))


@pytest.mark.parametrize(
    ("edits", "step"),
    [
        ({"threshold": 1.0}, "threshold"),
        ({"remove_specks": 1000, "grow": 5}, "remove_specks"),
        ({"grow": -20, "blur": 2}, "grow"),
        ({"grow": 40, "invert": True}, None),
    ],
)
def test_edit_masks_names_edit_that_removes_all(edits, step):
    mask = torch.cat([disc(4) * 0.9, torch.zeros(1, 33, 33)])
    result, erased = edit_masks(mask, MaskEdits(**edits))
    assert erased == ({} if step is None else {0: step})
    if step:
        assert not result.any()


@given(
    st.builds(
        MaskEdits,
        invert=st.booleans(),
        threshold=st.sampled_from([0, 0.4]),
        fill_holes=st.booleans(),
        remove_specks=st.sampled_from([0, 5]),
        grow=st.sampled_from([-2.5, 0, 3]),
        smooth=st.sampled_from([0, 1.5]),
        feather_inside=st.sampled_from([0, 2]),
        feather_outside=st.sampled_from([0, 3]),
        blur=st.sampled_from([0, 1]),
    ),
    st.integers(0, 99),
)
def test_edit_masks_batch_equals_singles(edits, seed):
    batch = torch.rand(3, 17, 12, generator=torch.Generator().manual_seed(seed))
    batch[1], batch[2] = batch[1].round(), 0
    before = batch.clone()
    result, _ = edit_masks(batch, edits)
    assert torch.equal(batch, before)
    assert result.dtype == torch.float32
    assert ((result >= 0) & (result <= 1)).all()
    assert torch.equal(result, torch.cat([edit_masks(each, edits)[0] for each in batch.split(1)]))


def test_edit_masks_without_masks():
    assert edit_masks(torch.zeros(0, 8, 8), MaskEdits(grow=3, blur=2, fill_holes=True))[0].shape == (0, 8, 8)


def test_edit_masks_with_nan_raises():
    with pytest.raises(InputError, match="NaN"):
        edit_masks(torch.full((1, 2, 2), float("nan")), MaskEdits(grow=1))


@pytest.mark.parametrize(
    "edits", [{"invert": "yes"}, {"threshold": 1.5}, {"remove_specks": -1}, {"grow": 1e9}, {"blur": float("nan")}]
)
def test_mask_edits_out_of_range_raise(edits):
    with pytest.raises(InputError, match=next(iter(edits))):
        MaskEdits(**edits)


def test_smooth_outline_removes_bumps_and_stays_hard():
    square = torch.zeros(1, 40, 40)
    square[0, 10:30, 10:30] = 1
    bumps = square.clone()
    bumps[0, 9, 18] = bumps[0, 20, 30] = 1
    smooth = masks.smooth_outline(bumps, 2)
    assert ((smooth == 0) | (smooth == 1)).all()
    assert torch.equal(smooth, masks.smooth_outline(square, 2))
    assert smooth[0, 10, 10] == 0  # a corner becomes round
    assert smooth[0, 10, 20] == 1  # a side stays where it was


def test_smooth_outline_keeps_softness():
    soft = filters.gaussian_blur(disc(9), 2)
    smooth = masks.smooth_outline(soft, 3)
    expected = float((soft * (1 - soft)).mean())
    assert float((smooth * (1 - smooth)).mean()) == pytest.approx(expected, rel=0.02)


def test_smooth_outline_of_flat_mask_changes_nothing():
    for value in (0.0, 1.0):
        mask = torch.full((1, 9, 9), value)
        assert torch.equal(masks.smooth_outline(mask, 3), mask)
