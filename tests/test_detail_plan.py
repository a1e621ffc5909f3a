"""From masks to tasks."""

from __future__ import annotations

import logging

import pytest
import torch
from exact_diffusion import SpaceToDepthVae
from maskwright.core.detail.conditionings import RegionPipes
from maskwright.core.detail.plan import find_image_regions, plan
from maskwright.core.detail.settings import DetailerSettings
from maskwright.core.engine import Pipe
from maskwright.core.geometry import Box
from maskwright.core.regions import Region

IMAGE = Box(0, 0, 100, 80)
PIPES, VAE = RegionPipes(Pipe("model", "positive", "negative"), IMAGE), SpaceToDepthVae()


def region(x: int, y: int, side: int = 10, selected: bool = True) -> Region:
    bbox = Box(x, y, x + side, y + side)
    crop = bbox.expand(side, IMAGE)
    mask = torch.zeros(1, crop.height, crop.width)
    if selected:
        bbox.relative_to(crop).crop(mask).fill_(1)
    return Region(bbox, crop, mask)


def test_plan_orders_tasks_by_image_version_and_region() -> None:
    settings = DetailerSettings(batch_size=2, seed=2**64 - 1)
    tasks = plan([[region(10, 10), region(40, 40)], [], [region(20, 20)]], settings, IMAGE, VAE, PIPES)
    assert [(task.version, task.number, task.seed) for task in tasks] == [
        (0, 0, 2**64 - 1), (0, 1, 0), (1, 0, 0), (1, 1, 1), (4, 0, 2**64 - 1), (5, 0, 0),
    ]  # fmt: skip


def test_plan_skips_regions_without_a_selected_pixel_and_keeps_the_seeds_of_the_others() -> None:
    tasks = plan([[region(10, 10, selected=False), region(40, 40)]], DetailerSettings(seed=5), IMAGE, VAE, PIPES)
    assert [(task.number, task.seed) for task in tasks] == [(0, 6)]


def test_plan_reads_the_ring_only_for_color_match_and_writes_within_the_feather() -> None:
    plain, matched = (
        plan([[region(40, 40)]], DetailerSettings(color_match=weight, feather=3), IMAGE, VAE, PIPES)[0]
        for weight in (0.0, 0.5)
    )
    assert plain.reads == (plain.frame.window,)
    assert matched.reads == (plain.frame.window, Box(32, 32, 58, 58))
    assert plain.writes == matched.writes == Box(37, 37, 53, 53)


def test_find_image_regions_repeats_one_mask_for_all_images() -> None:
    mask = torch.zeros(1, 40, 50)
    mask[:, 10:25, 5:30] = 1
    first, second = find_image_regions(torch.rand(2, 80, 100, 3), mask, 2.0, 1, False, True)
    assert [each.bbox for each in first] == [Box(10, 20, 60, 50)], "in the image's pixels"
    assert second == first


def test_find_image_regions_of_an_empty_mask_are_none_and_need_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert find_image_regions(torch.rand(1, 80, 100, 3), torch.zeros(1, 64, 64), 2.0, 1, False, True) == [[]]
    assert caplog.records == []
