"""Feathering: the earlier node's values up to a width of 30, and what is mended above and at a crop's edge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maskwright.core import masks, morphology
from maskwright.core.errors import InputError
from maskwright.core.geometry import Sides

GOLDEN = np.load(Path(__file__).parent / "golden" / "feather.npz")
ALL = Sides(True, True, True, True)


def rectangle(height: int, width: int, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, top:bottom, left:right] = 1
    return mask


@pytest.mark.parametrize("case", range(8))
def test_equals_the_earlier_node(case: int) -> None:
    mask = torch.from_numpy(GOLDEN[f"in{case}"].astype(np.float32) / 255).unsqueeze(0)
    result = masks.feather(mask, int(GOLDEN[f"feather{case}"]))
    np.testing.assert_allclose(result[0].numpy(), GOLDEN[f"out{case}"], atol=1e-5)


def test_width_0_changes_nothing_and_a_tiny_mask_is_not_blurred() -> None:
    mask = rectangle(20, 20, 5, 15, 5, 15)
    assert masks.feather(mask, 0) is mask
    tiny = rectangle(3, 40, 1, 2, 10, 30)
    assert torch.equal(masks.feather(tiny, 10), tiny)


def width_of_blend(feather: int) -> float:
    """From 5 % to 95 % of a straight edge, in pixels."""
    soft = masks.feather(rectangle(600, 600, 0, 600, 0, 300), feather)[0, 300]
    return float(((soft > 0.05) & (soft < 0.95)).sum())


def test_the_blend_grows_with_every_width() -> None:
    """Up to 30 with the window, above with sigma: the earlier node's blends of 30 to 100 were all alike."""
    widths = [width_of_blend(feather) for feather in (1, 5, 10, 20, 30, 40, 60, 80, 100)]
    assert widths == sorted(widths)
    assert len(set(widths)) == len(widths)
    assert width_of_blend(100) > 2.5 * width_of_blend(30)


def test_sigma_grows_from_30_on_without_a_jump() -> None:
    edge = rectangle(200, 200, 0, 200, 0, 100)
    steps = [(masks.feather(edge, f + 1) - masks.feather(edge, f)).abs().max().item() for f in (29, 30, 31)]
    assert max(steps) < 0.02


def test_a_mask_that_fills_its_crop_fades_to_the_sides_that_are_not_the_pictures() -> None:
    soft = masks.feather(torch.ones(1, 40, 60), 7, Sides(left=True, bottom=True))[0]
    ramp = torch.arange(1, 9) / 8
    torch.testing.assert_close(soft[20, :8], ramp)
    torch.testing.assert_close(soft[-8:, 30], ramp.flip(0))
    assert soft[:20, 20:].min() > 1 - 1e-6, "the picture's own edges keep all"
    assert torch.all(masks.feather(torch.ones(1, 40, 60), 7) > 1 - 1e-6)


def test_a_mask_far_from_its_sides_is_not_changed_by_the_fade() -> None:
    mask = rectangle(60, 60, 20, 40, 20, 40)
    assert torch.equal(masks.feather(mask, 8, ALL), masks.feather(mask, 8))


@pytest.mark.parametrize("width", (-1, 2.5, float("nan"), None, "5"))
def test_an_impossible_width_is_named(width: object) -> None:
    with pytest.raises(InputError, match="feather is"):
        masks.feather(torch.zeros(1, 8, 8), width)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    width=st.integers(0, 100),
    fade=st.builds(Sides, st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 1000),
)
def test_every_feathered_mask(size: tuple[int, int], width: int, fade: Sides, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    mask = (torch.rand(2, *size, generator=random) > 0.98).float() * torch.rand(2, *size, generator=random)
    before = mask.clone()
    soft = masks.feather(mask, width, fade)
    assert torch.equal(mask, before), "changed in place"
    assert soft.shape == mask.shape and soft.dtype == torch.float32
    assert soft.min() >= 0 and soft.max() <= 1
    reached = morphology.dilate((mask > 0).float(), 2 * width + 1)
    assert soft[reached == 0].eq(0).all(), "outside the window it is exactly 0"
    singles = torch.cat([masks.feather(mask[i : i + 1], width, fade) for i in range(2)])
    assert torch.equal(soft, singles)
