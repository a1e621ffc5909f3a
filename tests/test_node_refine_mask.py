"""The node RefineMask, as ComfyUI calls it."""

from __future__ import annotations

import maskwright
import pytest
import torch
from maskwright.core.errors import InputError, ModelError
from maskwright.nodes import _host as host

RefineMask = maskwright.NODE_CLASS_MAPPINGS["RefineMask"]
GUIDED = {"method": "guided filter"}


def square(side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros(1, side, side)
    mask[:, side // 4 : -side // 4, side // 4 : -side // 4] = 1
    image = torch.stack((mask, 1 - mask, torch.full_like(mask, 0.5)), dim=-1)
    return image, mask


def test_refine_outputs_mask_cutout_and_foreground() -> None:
    image, mask = square()
    masks, cutout, foreground = RefineMask().refine(image, mask, **GUIDED)
    assert masks.shape == (1, 32, 32) and cutout.shape == (1, 32, 32, 4) and foreground.shape == (1, 32, 32, 3)
    assert (masks - mask).abs().max() < 0.1
    assert torch.equal(cutout[..., 3], masks)


def test_refine_defaults_are_the_widgets() -> None:
    pytest.importorskip("pymatting")
    image, mask = square()
    widgets = {
        name: spec[1]["default"] for name, spec in RefineMask.INPUT_TYPES()["required"].items() if "default" in spec[1]
    }
    assert list(widgets) == ["method", "edge_width", "keep_thin_parts", "decontaminate", "background"]
    for default, explicit in zip(RefineMask().refine(image, mask), RefineMask().refine(image, mask, **widgets)):
        assert torch.equal(default, explicit)


@pytest.mark.parametrize("channels, dtype", [(1, torch.float32), (4, torch.float32), (3, torch.float16)])
def test_refine_takes_gray_rgba_and_half_precision(channels: int, dtype: torch.dtype) -> None:
    image, mask = square()
    image = torch.cat((image, torch.full((1, 32, 32, 1), 0.5)), dim=-1)[..., :channels].to(dtype)
    for result in RefineMask().refine(image, mask.to(dtype), **GUIDED):
        assert result.dtype == torch.float32 and torch.isfinite(result).all()


def test_refine_resizes_masks_to_the_image(caplog: pytest.LogCaptureFixture) -> None:
    image, mask = square()
    masks, _, _ = RefineMask().refine(image, mask[:, ::2, ::2], **GUIDED)
    assert masks.shape == (1, 32, 32) and (masks - mask).abs().mean() < 0.1
    assert "mask is 16 x 16 and image is 32 x 32: the mask was resized to the image" in caplog.text


def test_refine_without_masks_selects_nothing() -> None:
    image, mask = square()
    masks, cutout, foreground = RefineMask().refine(image, mask[:0])
    assert masks.max() == 0 and cutout.max() == 0 and torch.equal(foreground, image)


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"mask": torch.full((1, 32, 32), torch.nan)}, "mask contains NaN"),
        ({"image": torch.full((1, 32, 32, 3), torch.nan)}, "image contains NaN"),
        ({"trimap": torch.full((1, 32, 32), torch.nan)}, "trimap contains NaN"),
        ({"mask": None}, "mask is missing"),
        (
            {"mask": torch.zeros(3, 32, 32), "image": torch.zeros(2, 32, 32, 3)},
            "image is a batch of 2, and mask is a batch of 3",
        ),
        ({"method": "ViTMat"}, "method is 'ViTMat'"),
        ({"edge_width": -1}, "edge_width is -1"),
    ],
)
def test_refine_names_a_bad_input(change: dict, problem: str) -> None:
    image, mask = square()
    with pytest.raises(InputError, match=problem):
        RefineMask().refine(**{"image": image, "mask": mask, **GUIDED, **change})


def test_refine_without_vitmatte_says_where_to_put_it(
    isolated_model_dirs: None, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(host, "model_folders", lambda kind: [tmp_path / "models" / kind])
    image, mask = square()
    with pytest.raises(ModelError) as error:
        RefineMask().refine(image, mask, "ViTMatte")
    assert str(tmp_path / "models" / "vitmatte" / "hustvl--vitmatte-small-composition-1k") in str(error.value)
