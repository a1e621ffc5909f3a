"""Objects of ComfyUI that hold images, cropped: ControlNets and patches of models, made of simple fakes."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from maskwright.core.detail.placement import Placement
from maskwright.core.geometry import Box, SamplingFrame
from maskwright.nodes._host.image_holders import ComfyObjects

WHOLE, WINDOW = Box(0, 0, 48, 32), Box(8, 4, 40, 28)
PLACEMENT = Placement(WHOLE, SamplingFrame(WINDOW, 32, 24), 8)
HINT, MASK = torch.rand(1, 3, 32, 48), torch.rand(1, 32, 48)
IMAGE = HINT.movedim(1, -1)


class ControlNet:
    """As ComfyUI's: ``copy`` leaves out the previous one."""

    previous_controlnet: Any = None

    def __init__(self, hint: Any = HINT, **attributes: Any) -> None:
        self.cond_hint_original = hint
        self.__dict__.update(attributes)

    def copy(self) -> ControlNet:
        result = copy.copy(self)
        result.previous_controlnet = None
        return result

    def set_previous_controlnet(self, control: Any) -> ControlNet:
        self.previous_controlnet = control
        return self


def test_crop_control_copies_chain() -> None:
    masks = [MASK[:, None], torch.ones(1, 1, 1, 1)]
    first = ControlNet(strength=0.3, mask_cond_hint_original=MASK, extra_concat_orig=masks)
    last = ControlNet(None, strength=0.7).set_previous_controlnet(first)
    cropped = ComfyObjects().crop_control(last, PLACEMENT)
    inner = cropped.previous_controlnet
    assert (cropped.strength, cropped.cond_hint_original, inner.strength) == (0.7, None, 0.3)
    assert torch.equal(inner.cond_hint_original, HINT[..., 4:28, 8:40])
    assert torch.equal(inner.mask_cond_hint_original, MASK[..., 4:28, 8:40])
    assert torch.equal(inner.extra_concat_orig[0], MASK[:, None, 4:28, 8:40])
    assert inner.extra_concat_orig[1] is masks[1], "one pixel is no place"
    assert last.previous_controlnet is first and first.cond_hint_original is HINT and first.extra_concat_orig is masks


@pytest.mark.parametrize("control", [SimpleNamespace(cond_hint_original=HINT), SimpleNamespace(copy=lambda: None)])
def test_crop_control_of_other_kind_is_kept_and_logged_once(control: Any, caplog: pytest.LogCaptureFixture) -> None:
    objects = ComfyObjects()
    assert objects.crop_control(control, PLACEMENT) is objects.crop_control(control, PLACEMENT) is control
    assert [record.message for record in caplog.records] == [
        "The ControlNet SimpleNamespace sees the whole image: its hint cannot be cropped"
    ]


class Model:
    """As ComfyUI's ModelPatcher: clones have their own dicts and lists."""

    def __init__(self, **patches: Any) -> None:
        self.model_options: dict[str, Any] = {"transformer_options": {"patches": patches, "patches_replace": {}}}
        self.clones = 0

    def clone(self) -> Model:
        self.clones += 1
        result = Model()
        result.model_options = copy.deepcopy(self.model_options)
        return result

    @property
    def patches(self) -> dict[str, Any]:
        return self.model_options["transformer_options"]["patches"]


class Patch:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __call__(self, arguments: Any) -> Any:
        return arguments


def test_crop_model_replaces_images_of_patches() -> None:
    patch = Patch(image=IMAGE, mask=MASK[:, None, None], encoded_image="latent", encoded_image_size=(32, 48))
    inner, other = Patch(owner=patch), Patch(scale=2)
    model = Model(double_block=[patch, other], noise_refiner=[patch], attn1_patch=[inner])
    objects = ComfyObjects()
    assert objects.holds_images(model, WHOLE, 8)
    cropped = objects.crop_model(model, PLACEMENT)
    new = cropped.patches["double_block"][0]
    assert torch.equal(new.image, IMAGE[:, 4:28, 8:40]) and torch.equal(new.mask, MASK[:, None, None, 4:28, 8:40])
    assert new.encoded_image_size is None, "ComfyUI must encode it again"
    assert cropped.patches["noise_refiner"][0] is new and cropped.patches["attn1_patch"][0].owner is new
    assert cropped.patches["double_block"][1] is other
    assert model.patches["double_block"][0] is patch and patch.image is IMAGE and inner.owner is patch
    assert patch.encoded_image_size == (32, 48)
    whole = Placement(WHOLE, SamplingFrame(WHOLE, 48, 32), 8)
    assert objects.crop_model(model, whole) is cropped and model.clones == 1, "one clone for all crops of a run"
    assert torch.equal(cropped.patches["double_block"][0].image, IMAGE)


def test_crop_model_without_images_is_the_model(caplog: pytest.LogCaptureFixture) -> None:
    model, objects = Model(double_block=[Patch(scale=torch.ones(3)), print]), ComfyObjects()
    assert not objects.holds_images(model, WHOLE, 8) and objects.crop_model(model, PLACEMENT) is model
    assert objects.crop_model("model", PLACEMENT) == "model" and not caplog.records


def make_closure(values: torch.Tensor) -> Callable:
    def patch(arguments: Any) -> Any:
        return arguments * values

    return patch


@pytest.mark.parametrize(
    ("patch", "name"),
    [
        (Patch(latent=torch.zeros(1, 4, 4, 6)), "Patch"),  # 4 x 6 latent cells
        (Patch(sketch=IMAGE), "Patch"),
        (make_closure(torch.zeros(4, 6)), "make_closure.<locals>.patch"),
    ],
)
def test_holds_images_logs_patches_for_the_whole_image(patch: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    model, objects = Model(double_block=[patch]), ComfyObjects()
    with caplog.at_level(logging.WARNING):
        assert not objects.holds_images(model, WHOLE, 8) and not objects.holds_images(model, WHOLE, 8)
    assert [record.message for record in caplog.records] == [
        f"The model patch {name} was made for the whole image, and is used unchanged for every crop"
    ]
