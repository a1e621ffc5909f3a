"""Feathering: the original node's values up to a width of 30; above, and at the sides of crops, the improved ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
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
def test_feather_matches_original_node(case: int) -> None:
    mask = torch.from_numpy(GOLDEN[f"in{case}"].astype(np.float32) / 255).unsqueeze(0)
    result = masks.feather(mask, int(GOLDEN[f"feather{case}"]))
    np.testing.assert_allclose(result[0].numpy(), GOLDEN[f"out{case}"], atol=1e-5)


def test_feather_skips_width_0_and_tiny_masks() -> None:
    mask = rectangle(20, 20, 5, 15, 5, 15)
    assert masks.feather(mask, 0) is mask
    tiny = rectangle(3, 40, 1, 2, 10, 30)
    assert torch.equal(masks.feather(tiny, 10), tiny)


def measure_blend_width(feather: int) -> float:
    """Width of a straight edge's blend from 5 % to 95 %, in pixels."""
    soft = masks.feather(rectangle(600, 600, 0, 600, 0, 300), feather)[0, 300]
    return float(((soft > 0.05) & (soft < 0.95)).sum())


def test_feather_blend_grows_with_width() -> None:
    """Up to 30 the window grows, above it sigma. The original node's blends did not grow above 30."""
    widths = [measure_blend_width(feather) for feather in (1, 5, 10, 20, 30, 40, 60, 80, 100)]
    assert widths == sorted(widths)
    assert len(set(widths)) == len(widths)
    assert measure_blend_width(100) > 2.5 * measure_blend_width(30)


def test_feather_sigma_is_continuous_at_30() -> None:
    edge = rectangle(200, 200, 0, 200, 0, 100)
    steps = [(masks.feather(edge, f + 1) - masks.feather(edge, f)).abs().max().item() for f in (29, 30, 31)]
    assert max(steps) < 0.02


def test_feather_fades_at_sides_inside_image() -> None:
    soft = masks.feather(torch.ones(1, 40, 60), 7, Sides(left=True, bottom=True))[0]
    ramp = torch.arange(1, 9) / 8
    torch.testing.assert_close(soft[20, :8], ramp)
    torch.testing.assert_close(soft[-8:, 30], ramp.flip(0))
    assert soft[:20, 20:].min() > 1 - 1e-6, "no fade at the image's own border"
    assert torch.all(masks.feather(torch.ones(1, 40, 60), 7) > 1 - 1e-6)


def test_feather_fade_keeps_masks_away_from_sides() -> None:
    mask = rectangle(60, 60, 20, 40, 20, 40)
    assert torch.equal(masks.feather(mask, 8, ALL), masks.feather(mask, 8))


@pytest.mark.parametrize("width", (-1, 2.5, float("nan"), None, "5"))
def test_feather_rejects_invalid_width(width: object) -> None:
    with pytest.raises(InputError, match="feather is"):
        masks.feather(torch.zeros(1, 8, 8), width)


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    width=st.integers(0, 100),
    fade_sides=st.builds(Sides, st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 1000),
)
def test_feather_properties(size: tuple[int, int], width: int, fade_sides: Sides, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    mask = (torch.rand(2, *size, generator=random) > 0.98).float() * torch.rand(2, *size, generator=random)
    original = mask.clone()
    soft = masks.feather(mask, width, fade_sides)
    assert torch.equal(mask, original), "changed in place"
    assert soft.shape == mask.shape and soft.dtype == torch.float32
    assert soft.min() >= 0 and soft.max() <= 1
    reach = morphology.dilate((mask > 0).float(), 2 * width + 1)
    assert soft[reach == 0].eq(0).all(), "exactly 0 outside the window"
    singles = torch.cat([masks.feather(mask[i : i + 1], width, fade_sides) for i in range(2)])
    assert torch.equal(soft, singles)
