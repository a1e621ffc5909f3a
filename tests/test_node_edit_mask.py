"""EditMask as a node: what it returns, logs and sends to the editor."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from maskwright.core import tensors
from maskwright.core.edit import MaskEdits, edit_masks
from maskwright.core.errors import InputError
from maskwright.nodes import _view
from maskwright.nodes.edit_mask import EditMask
from maskwright.nodes.gradient_region import GradientRegion
from PIL import Image

EDITOR_INFO = {"workflow": {"nodes": []}}


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's temp folder."""
    monkeypatch.setattr(_view.host, "temp_folder", lambda: tmp_path)
    return tmp_path


def square(count: int = 1) -> torch.Tensor:
    masks = torch.zeros(count, 20, 30)
    masks[:, 8:12, 8:12] = 1
    return masks


def read(folder: Path, file: dict) -> np.ndarray:
    return np.asarray(Image.open(folder / file["subfolder"] / file["filename"]))


def test_edit_returns_the_edited_masks() -> None:
    mask = square(2)
    (edited,) = EditMask().edit(mask, grow=2.5, blur=1.0)
    assert torch.equal(edited, edit_masks(mask, MaskEdits(grow=2.5, blur=1.0))[0])
    (unchanged,) = EditMask().edit(mask)
    assert torch.equal(unchanged, mask)


@pytest.mark.parametrize("shape", [(0, 20, 30), (1, 1, 1), (1, 1, 9)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_edit_accepts_tiny_and_uniform_masks(shape: tuple, value: float, temp: Path) -> None:
    names = {"threshold": 0.5, "fill_holes": True, "remove_specks": 3, "grow": 2.0, "smooth": 2.0, "blur": 2.0,
             "feather_inside": 3.0, "feather_outside": 3.0}  # fmt: skip
    result = EditMask().edit(torch.full(shape, value), extra_pnginfo=EDITOR_INFO, **names)
    edited = (result["result"] if isinstance(result, dict) else result)[0]
    assert edited.shape == shape and edited.isfinite().all() and ((edited >= 0) & (edited <= 1)).all()


@pytest.mark.parametrize("image", [None, torch.full((1, 40, 60, 3), 0.5)], ids=["no image", "image"])
def test_views_show_a_batch_of_0_as_an_empty_mask(image: torch.Tensor | None, temp: Path) -> None:
    """Otherwise the view would keep an earlier result."""
    none = torch.zeros(0, 20, 30)
    for result in (
        EditMask().edit(none, image, extra_pnginfo=EDITOR_INFO),
        GradientRegion().gradient_region(none, image=image, extra_pnginfo=EDITOR_INFO),
    ):
        assert result["result"][0].shape == (0, 20, 30)
        (entry,) = result["ui"]["maskwright"]
        assert not read(temp, entry["mask"]).any()
        assert (entry["has_mask"], entry["has_image"]) == (False, image is not None)


def test_edit_names_an_input_that_is_not_finite() -> None:
    mask = square()
    mask[0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="mask"):
        EditMask().edit(mask)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"grow": -9.0}, "grow (-9.0) left nothing selected in 2 of 3 masks. Move it toward 0 to keep more."),
        ({"remove_specks": 17}, "specks (17) left nothing selected in 2 of 3 masks. Lower it to keep more."),
    ],
)
def test_edit_logs_what_removed_everything(settings: dict, sentence: str, caplog: pytest.LogCaptureFixture) -> None:
    masks = torch.cat([square(2), torch.ones(1, 20, 30)])
    with caplog.at_level(logging.WARNING):
        EditMask().edit(masks, **settings)
    assert [record.getMessage() for record in caplog.records] == [f"Edit Mask: {sentence}"]


def test_edit_without_a_loss_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    EditMask().edit(torch.cat([square(), torch.zeros(1, 20, 30)]), grow=-1.0)
    assert caplog.records == []


def test_edit_sends_the_mask_before_the_edits(temp: Path) -> None:
    mask, image = square(2), torch.rand(1, 40, 60, 3)
    sent = EditMask().edit(mask, image, grow=2.0, extra_pnginfo=EDITOR_INFO)
    entries = sent["ui"][_view.KEY]
    assert len(entries) == 2
    for entry, each in zip(entries, mask):
        assert (entry["kind"], entry["size"], entry["bits"], entry["scale"]) == ("edits", [60, 40], 8, 1.0)
        assert entry["has_mask"] and entry["has_image"]
        assert entry["settings"]["grow"] == 2.0 and entry["settings"]["invert"] is False
        assert (read(temp, entry["mask"]) == tensors.to_8bit(each)).all()
        assert read(temp, entry["image"]).shape == (40, 60, 3)


def test_edit_sends_a_soft_mask_in_16_bits(temp: Path) -> None:
    soft = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(0))
    (entry,) = EditMask().edit(soft, extra_pnginfo=EDITOR_INFO)["ui"][_view.KEY]
    halves = read(temp, entry["mask"]).astype(int)
    assert entry["bits"] == 16
    assert np.abs((halves[:20] * 256 + halves[20:]) / 65535 - soft[0].numpy()).max() < 1e-4


def test_edit_sends_a_large_mask_smaller_and_as_hard_as_it_was(temp: Path) -> None:
    large = torch.zeros(1, 1100, 2100)
    large[:, 501:, 701:] = 1
    (entry,) = EditMask().edit(large, extra_pnginfo=EDITOR_INFO)["ui"][_view.KEY]
    small = read(temp, entry["mask"])
    assert small.shape == (536, 1024) and set(np.unique(small)) == {0, 255}
    assert entry["scale"] == 1024 / 2100 and entry["size"] == [2100, 1100]


def test_gradient_region_sends_its_masks(temp: Path) -> None:
    mask = square(2)
    sent = GradientRegion().gradient_region(mask, [3, 5], "ellipse", "inner", extra_pnginfo=EDITOR_INFO)
    entries = sent["ui"][_view.KEY]
    assert [entry["kind"] for entry in entries] == ["edges", "edges"]
    assert entries[0]["settings"] == {"kernel_size": [3, 5], "shape": "ellipse", "edge": "inner"}
    assert (read(temp, entries[1]["mask"]) == tensors.to_8bit(mask[1])).all()
    assert torch.equal(sent["result"][0], GradientRegion().gradient_region(mask, [3, 5], "ellipse", "inner")[0])
