"""Conditionings for parts of an image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from maskwright.core.detail.conditionings import RegionPipes, crop_conditioning
from maskwright.core.engine import Pipe
from maskwright.core.geometry import Box


def test_crop_conditioning_crops_masks() -> None:
    window, whole = Box(20, 10, 60, 40), Box(0, 0, 100, 80)
    mask = torch.arange(100 * 80).reshape(1, 80, 100).float()
    half = torch.arange(50 * 20).reshape(20, 50).float()
    conditioning = [["a", {"mask": mask, "strength": 2}], ["b", {"mask": half}], ["c", {"other": 1}]]
    cropped_conditioning = crop_conditioning(conditioning, whole, window)
    assert torch.equal(cropped_conditioning[0][1]["mask"], mask[:, 10:40, 20:60])
    assert torch.equal(cropped_conditioning[1][1]["mask"], half[2:10, 10:30])
    assert cropped_conditioning[0][1]["strength"] == 2 and cropped_conditioning[2] == ["c", {"other": 1}]
    assert conditioning[0][1]["mask"] is mask, "changed in place"


@pytest.mark.parametrize("conditioning", ["NegativePlaceholder", [["a", {}]], [], None])
def test_crop_conditioning_without_masks(conditioning: Any) -> None:
    assert crop_conditioning(conditioning, Box(0, 0, 9, 9), Box(2, 2, 5, 5)) is conditioning


def test_region_pipes_share_equal_conditionings() -> None:
    texts = []

    def add_text(positive: list, text: str) -> list:
        texts.append(text)
        return [*positive, [text, {}]]

    whole, windows = Box(0, 0, 100, 80), (Box(0, 0, 40, 40), Box(50, 0, 90, 40))
    positive_with_mask = [["tokens", {"mask": torch.zeros(1, 80, 100)}]]
    pipes = RegionPipes(Pipe("model", positive_with_mask, "placeholder", add_text), whole, (" a hat", "a hat ", " "))
    first, same, other_text, no_text = (pipes.for_region(i, windows[0]) for i in range(4))
    other_window = pipes.for_region(0, windows[1])
    assert texts == ["a hat"]
    assert first.positive is same.positive and other_text.positive is no_text.positive
    assert first.positive is not other_text.positive and first.positive is not other_window.positive
    assert [len(pipe.positive) for pipe in (first, other_text, other_window)] == [2, 1, 2]
    assert first.positive[0][1]["mask"].shape == (1, 40, 40)
    assert all(pipe.negative == "placeholder" for pipe in (first, other_window))


def test_region_pipes_without_text_encoder() -> None:
    """A refiner may have none."""
    pipe = RegionPipes(Pipe("model", "positive", "negative"), Box(0, 0, 9, 9), ("a hat",)).for_region(
        0, Box(0, 0, 4, 4)
    )
    assert pipe.positive == "positive"
