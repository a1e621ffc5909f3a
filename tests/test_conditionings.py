"""Conditionings for a part of the picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from maskwright.core.detail.conditionings import crop_conditioning
from maskwright.core.geometry import Box


def test_conditioning_masks_are_cut_with_the_window_on_each_axis() -> None:
    window, whole = Box(20, 10, 60, 40), Box(0, 0, 100, 80)
    mask = torch.arange(100 * 80).reshape(1, 80, 100).float()
    half = torch.arange(50 * 20).reshape(20, 50).float()
    conditioning = [["a", {"mask": mask, "strength": 2}], ["b", {"mask": half}], ["c", {"other": 1}]]
    cut = crop_conditioning(conditioning, whole, window)
    assert torch.equal(cut[0][1]["mask"], mask[:, 10:40, 20:60])
    assert torch.equal(cut[1][1]["mask"], half[2:10, 10:30])
    assert cut[0][1]["strength"] == 2 and cut[2] == ["c", {"other": 1}]
    assert conditioning[0][1]["mask"] is mask, "changed in place"


@pytest.mark.parametrize("conditioning", ["NegativePlaceholder", [["a", {}]], [], None])
def test_conditionings_without_masks_pass_as_they_are(conditioning: Any) -> None:
    assert crop_conditioning(conditioning, Box(0, 0, 9, 9), Box(2, 2, 5, 5)) is conditioning
