"""Regions out of an image and back into it."""

from __future__ import annotations

import pytest
import torch
from maskwright.core.detail import blend
from maskwright.core.geometry import Box, SamplingFrame
from maskwright.core.regions import Region

CPU = torch.device("cpu")


def smooth_image(channels: int = 3) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, 80), torch.linspace(0, 1, 100), indexing="ij")
    return torch.stack([x, y, x * y, 1 - x][:channels], dim=-1).unsqueeze(0)


@pytest.mark.parametrize(("width", "height"), [(40, 32), (96, 64), (24, 40)])
def test_reduce_undoes_crop_out(width: int, height: int) -> None:
    image, window, crop = smooth_image(4), Box(20, 10, 60, 42), Box(24, 12, 60, 40)
    pixels = blend.crop_out(image, SamplingFrame(window, width, height), CPU)
    assert pixels.shape == (1, height, width, 3)
    torch.testing.assert_close(blend.reduce(pixels, window, crop), crop.crop(image)[..., :3], atol=5e-3, rtol=0)


def test_crop_out_clamps_and_returns_no_view() -> None:
    image = smooth_image() * 3 - 1
    before = image.clone()
    pixels = blend.crop_out(image, SamplingFrame(Box(0, 0, 40, 32), 40, 32), CPU)
    assert torch.equal(pixels, image[:, :32, :40].clamp(0, 1))
    pixels.zero_()
    assert torch.equal(image, before)


def test_paste_changes_only_the_part_by_its_weights() -> None:
    image, crop, part = smooth_image(4) * 3 - 1, Box(20, 10, 60, 40), Box(30, 15, 50, 35)
    before, refined = image.clone(), torch.rand(1, 30, 40, 3)
    weights = torch.zeros(1, 30, 40)
    weights[:, 5:25, 10:20], weights[:, 5:25, 20:25] = 1, 0.5
    blend.paste(image, refined, weights, crop, part)
    assert torch.equal(image[:, 15:35, 30:40, :3], refined[:, 5:25, 10:20])
    torch.testing.assert_close(image[:, 15:35, 40:45, :3], (before[:, 15:35, 40:45, :3] + refined[:, 5:25, 20:25]) / 2)
    image[:, 15:35, 30:45, :3] = before[:, 15:35, 30:45, :3]
    assert torch.equal(image, before), "bit for bit elsewhere, and in alpha"


def test_soft_mask_reaches_0_at_crop_edges_inside_the_image_only() -> None:
    region = Region(Box(0, 10, 40, 40), Box(0, 10, 40, 40), torch.ones(1, 30, 40))
    weights = blend.soft_mask(region, 6, Box(0, 0, 100, 80), CPU)[0]
    assert weights[15, -1] < 0.2 and weights[0, 20] < 0.2 and weights[-1, 20] < 0.2
    assert weights[15, 0] > 0.99, "the image's own edge"


def test_match_colors_takes_the_ring_around_the_mask() -> None:
    bbox, crop = Box(30, 20, 60, 50), Box(20, 10, 70, 60)
    mask = torch.zeros(1, 50, 50)
    mask[:, 10:40, 10:40] = 1
    image = torch.full((1, 80, 100, 3), 0.9)
    ring = blend.color_ring(Region(bbox, crop, mask), Box(0, 0, 100, 80))
    assert ring == Box(22, 12, 68, 58)
    ring.crop(image).fill_(0.3)
    refined = torch.full((1, 50, 50, 3), 0.6)
    matched = blend.match_colors(refined, image, Region(bbox, crop, mask), 1.0)
    torch.testing.assert_close(matched, torch.full_like(refined, 0.3), atol=1e-3, rtol=0)
