"""Prompts that refer to places in the whole image, moved to crops: one table for each entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from maskwright.core import filters, tensors
from maskwright.core.detail.conditionings import Mover, RegionPipes
from maskwright.core.detail.host_objects import NO_HOST_OBJECTS
from maskwright.core.detail.moves import MOVES, OUTSIDE, Target, is_outside
from maskwright.core.detail.placement import Placement
from maskwright.core.detail.references import References
from maskwright.core.engine import Pipe
from maskwright.core.errors import InputError
from maskwright.core.geometry import Box, SamplingFrame
from pack import ROOT
from PIL import Image

WHOLE = Box(0, 0, 192, 128)  # 24 x 16 latent cells


WINDOW = Box(64, 32, 128, 96)


def make_placement(window: Box = WINDOW, scale: int = 1, **more: Any) -> Placement:
    return Placement(WHOLE, SamplingFrame(window, window.width * scale, window.height * scale), 8, **more)


def make_target(placement: Placement, references: Any = None, crop_latent: torch.Tensor | None = None) -> Target:
    encode: Callable = lambda: crop_latent  # noqa: E731
    return Target(placement, NO_HOST_OBJECTS, references or References(torch.rand(1, 128, 192, 3), 8, encode), encode)


def move(name: str, value: Any, placement: Placement, **more: Any) -> Any:
    return MOVES[name](value, make_target(placement, **more))


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(
    ("area", "expected"),
    [
        ((16, 12, 0, 0), (8, 4, 0, 0)),  # the left half of the image covers half of the crop
        ((2, 3, 5, 9), (2, 3, 1, 1)),  # inside the crop
        ((16, 24, 0, 0), (8, 8, 0, 0)),  # everything
        ((100, 100, 8, 12), (4, 4, 4, 4)),  # beyond the image, as the host allows
        ((16, 8, 0, 16), OUTSIDE),
        ((4, 24, 0, 0), OUTSIDE),  # ends where the crop begins
        (("percentage", 1.0, 0.5, 0.0, 0.0), (8, 4, 0, 0)),
        (("percentage", 0.5, 0.5, 0.5, 0.5), (4, 4, 4, 4)),
        (("percentage", 0.2, 1.0, 0.0, 0.0), OUTSIDE),
        ((1, 16, 12, 0, 0, 0), (8, 4, 0, 0)),  # with a time axis
        ((4, 16, 12, 1, 0, 0), OUTSIDE),  # begins after the only frame
        (("percentage", 1.0, 1.0, 0.5, 0.0, 0.0, 0.0), (8, 4, 0, 0)),
        (("percentage", 0.1, 1.0, 0.5, 0.9, 0.0, 0.0), OUTSIDE),
    ],
)
def test_move_area(area: tuple, expected: Any, scale: int) -> None:
    expected = expected if expected is OUTSIDE else tuple(scale * number for number in expected)
    assert move("area", area, make_placement(scale=scale)) == expected


@pytest.mark.parametrize("area", [(2, 3, 5, 9), ("percentage", 0.3, 0.3, 0.3, 0.3)])
def test_move_area_in_whole_image_is_the_hosts(area: tuple) -> None:
    expected = area if area[0] != "percentage" else (5, 7, 5, 7)  # 0.3 of 16 and of 24, rounded
    assert move("area", area, make_placement(WHOLE)) == expected


def test_move_area_keeps_one_cell() -> None:
    placement = make_placement(Box(60, 28, 124, 92))
    assert move("area", (4, 8, 0, 0), placement) == (1, 1, 0, 0), "4 x 4 pixels of it are in the crop"
    assert move("area", (16, 9, 8, 15), placement) == (4, 1, 4, 7)


def test_move_area_with_unaligned_image() -> None:
    """The last cell of the latent reaches the border of the image."""
    placement = Placement(Box(0, 0, 190, 128), SamplingFrame(Box(126, 32, 190, 96), 64, 64), 8)
    assert move("area", (16, 23, 0, 0), placement) == (8, 8, 0, 0)


def test_move_mask() -> None:
    placement, mask = make_placement(), torch.rand(2, 128, 192)
    half, flat = torch.rand(1, 61, 97), torch.rand(128, 192)
    assert torch.equal(move("mask", mask, placement), mask[:1, 32:96, 64:128])
    assert torch.equal(move("mask", mask, replace(placement, index=3)), mask[1:, 32:96, 64:128])
    assert torch.equal(move("mask", half, placement), half[:, 15:46, 32:65]), "partial pixels are included"
    assert torch.equal(move("mask", flat, placement), flat[32:96, 64:128])
    mask[:, 32:96, 64:128] = 0
    assert move("mask", mask, placement) is OUTSIDE


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((4, 4, 6, 10), [(4, 4, 2, 2)]),
        ((8, 8, 0, 4), [(4, 4, 0, 0)]),  # its lower right quarter
        ((2, 2, 0, 0), []),
    ],
)
def test_move_gligen(box: tuple, expected: list) -> None:
    kind, model, boxes = move("gligen", ("position", "model", [("text", *box)]), make_placement())
    assert (kind, model, boxes) == ("position", "model", [("text", *numbers) for numbers in expected])


def test_move_gligen_keeps_fractions() -> None:
    placement = make_placement(Box(60, 32, 124, 96))
    assert move("gligen", ("position", "model", [("text", 1, 1, 4, 8)]), placement)[2] == [("text", 1, 1, 0, 0.5)]


LATENT = torch.rand(1, 4, 16, 24)


@pytest.mark.parametrize(
    ("name", "value", "window"),
    [
        ("concat_latent_image", LATENT, (4, 12, 8, 16)),
        ("concat_latent_image", torch.rand(1, 16, 1, 16, 24), (4, 12, 8, 16)),  # a video model's
        ("concat_mask", torch.rand(1, 1, 128, 192), (32, 96, 64, 128)),
    ],
)
def test_move_concat_is_exact(name: str, value: torch.Tensor, window: tuple) -> None:
    top, bottom, left, right = window
    expected = value[..., top:bottom, left:right]
    assert torch.equal(move(name, value, make_placement()), expected)
    scaled = move(name, value, make_placement(scale=2))
    assert scaled.shape == (*value.shape[:-2], 2 * (bottom - top), 2 * (right - left))
    torch.testing.assert_close(scaled.mean(), expected.mean(), atol=0.02, rtol=0)


def test_crop_pixels_matches_crop_of_image() -> None:
    """A hint that is the image itself is cropped and scaled to the crop's own pixels, bit for bit."""
    image, placement = torch.rand(3, 128, 192, 3), make_placement(Box(60, 33, 131, 97), scale=3, index=1)
    hint = tensors.image_to_bchw(image)
    crop = placement.frame.window.crop(image[1:2])
    expected = filters.resize_lanczos(crop, placement.frame.height, placement.frame.width)
    assert torch.equal(placement.crop_pixels(hint), tensors.image_to_bchw(expected))
    assert torch.equal(placement.crop_image(image), expected)


@pytest.mark.parametrize("factor", [0.5, 0.37, 2])
def test_crop_pixels_of_another_size_does_not_shift(factor: float) -> None:
    """A ramp over the image stays at its place, to half a sampled pixel, although hint pixels are cut."""
    height, width = round(128 * factor), round(192 * factor)
    ramp = ((torch.arange(width) + 0.5) / width).expand(1, 1, height, width)
    cropped = make_placement(Box(61, 35, 103, 77), scale=4).crop_pixels(ramp)
    expected = (61 + (torch.arange(168) + 0.5) / 4) / 192
    shift = (cropped[0, 0, 84] - expected)[16:-16] * 192 * 4  # in sampled pixels, away from the filter's borders
    assert cropped.shape[-2:] == (168, 168) and shift.abs().max() < 0.75


def test_crop_pixels_of_another_shape_uses_center() -> None:
    """The host crops hints to the image's aspect ratio."""
    hint = torch.rand(1, 3, 128, 256)
    assert torch.equal(make_placement().crop_pixels(hint), hint[..., 32:96, 96:160])


def test_crop_pixels_keeps_markers() -> None:
    """Inpainting hints mark pixels with -1, which must not mix with their neighbors."""
    hint = torch.rand(1, 3, 128, 192)
    hint[..., 40:60, 70:90] = -1
    cropped = make_placement(scale=2).crop_pixels(hint)
    assert cropped.shape[-2:] == (128, 128) and set(cropped[cropped < 0].tolist()) == {-1}


def test_crop_pixels_of_whole_image_leaves_scaling_to_host() -> None:
    hint = torch.rand(1, 3, 50, 70)
    assert torch.equal(make_placement(WHOLE, scale=2).crop_pixels(hint), hint)


# Reference latents.

IMAGE = torch.rand(1, 16, 24, 3).repeat_interleave(8, 1).repeat_interleave(8, 2)


class MeanVae:
    """Encodes to the mean of each 8 x 8 block; counts."""

    def __init__(self, noise: float = 0.0) -> None:
        self.sizes, self.noise = [], noise

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(pixels.shape[1:3]))
        latent = torch.nn.functional.avg_pool2d(tensors.image_to_bchw(pixels), 8)
        return latent + self.noise * torch.randn_like(latent)


def move_reference(reference: torch.Tensor, vae: MeanVae, image: torch.Tensor = IMAGE) -> torch.Tensor:
    target = make_target(make_placement(), References(image, 8, vae.encode), torch.full((1, 3, 8, 8), 7.0))
    moved = MOVES["reference_latents"]([reference, reference], target)
    assert torch.equal(moved[0], moved[1])
    return moved[0]


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_move_references_encodes_crop_of_image_again(noise: float) -> None:
    """Also with an encoder that draws samples; the image is encoded once."""
    vae = MeanVae(noise)
    assert (move_reference(MeanVae().encode(IMAGE), vae) == 7).all()
    assert vae.sizes == [(128, 192)]


def test_move_references_recognizes_resized_image() -> None:
    """Nodes of edit models often resize the image first."""
    vae, half = MeanVae(), MeanVae().encode(tensors.resize_image(IMAGE, 64, 96, "area"))
    assert (move_reference(half, vae) == 7).all() and vae.sizes == [(64, 96)]


def test_move_references_crops_other_latent_of_same_size() -> None:
    other = torch.rand(1, 3, 16, 24)
    assert torch.equal(move_reference(other, MeanVae()), other[..., 4:12, 8:16])


def test_move_references_keeps_other_shapes() -> None:
    vae = MeanVae()
    for shape, sizes in (((1, 3, 20, 20), []), ((1, 3, 32, 48), [(256, 384)]), ((1, 5, 8, 12), [(64, 96)])):
        other, vae.sizes = torch.rand(shape), []
        assert move_reference(other, vae) is other and vae.sizes == sizes


def load_photo() -> torch.Tensor:
    """``[1,360,500,3]``, whose sides fit no latent and no edit model."""
    photo = Image.open(ROOT / "example_workflows" / "assets" / "astronaut.jpg").convert("RGB").resize((500, 360))
    return tensors.from_pil(photo).unsqueeze(0)


def encode_blocks(pixels: torch.Tensor) -> torch.Tensor:
    """All details, as a latent with 192 channels. Like ComfyUI's VAE, crops borders that fill no block."""
    height, width = (length // 8 * 8 for length in pixels.shape[1:3])
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    cropped = pixels[:, top : top + height, left : left + width]
    return torch.nn.functional.pixel_unshuffle(tensors.image_to_bchw(cropped), 8)


def resize_with_pillow(photo: torch.Tensor, width: int, height: int, box: tuple | None = None) -> torch.Tensor:
    return tensors.from_pil(tensors.to_pil(photo[0]).resize((width, height), Image.Resampling.LANCZOS, box)).unsqueeze(
        0
    )


PHOTO = load_photo()


@pytest.mark.parametrize(
    ("reference", "shows"),
    [
        (PHOTO, True),
        (tensors.resize_image(PHOTO, 869, 1207, "area"), True),  # a megapixel, as TextEncodeQwenImageEdit makes it
        (tensors.resize_image(PHOTO, 872, 1208, "area"), True),  # the same in whole cells
        (resize_with_pillow(PHOTO, 1184, 880, (8, 0, 492, 360)), True),  # FluxKontextImageScale: other aspect ratio
        (resize_with_pillow(PHOTO, 248, 176), True),
        (torch.cat([PHOTO[:, :, :50].flip(2), PHOTO[:, :, 50:]], dim=2), False),  # a tenth is changed
        (PHOTO.flip(2), False),
    ],
)
def test_references_recognize_photo_as_nodes_encode_it(reference: torch.Tensor, shows: bool) -> None:
    assert References(PHOTO, 8, encode_blocks).show_image(encode_blocks(reference), 0) == shows


def test_move_references_keeps_other_objects() -> None:
    assert move("reference_latents", ["text", torch.zeros(3)], make_placement())[0] == "text"


def test_references_of_unaligned_image_and_video_latent() -> None:
    """ComfyUI's VAE crops the borders; video models have a time axis."""
    image = torch.rand(2, 133, 197, 4)
    encode: Callable = lambda pixels: tensors.image_to_bchw(pixels)[..., ::8, ::8].unsqueeze(2)  # noqa: E731
    reference = encode(image[:, 2:130, 2:194, :3])
    references = References(image, 8, encode)
    assert references.show_image(reference, 1) and references.show_image(reference[:1], 0)
    assert not references.show_image(reference[:1], 1)


# Whole conditionings.


def test_mover_moves_every_entry_and_keeps_the_rest() -> None:
    mask, area = torch.ones(1, 128, 192), (16, 12, 0, 0)
    details = {"mask": mask, "area": area, "strength": 2, "hooks": "hooks", "start_percent": 0.1, "control": None}
    details |= {"reference_latents": [torch.rand(1, 3, 5, 5)], "reference_latents_method": "offset"}
    conditioning = [["a", details], ["b", {"other": 1}], ["c", {"area": (16, 8, 0, 16)}]]
    moved = Mover(make_target(make_placement())).move_conditioning(conditioning)
    assert [tokens for tokens, _ in moved] == ["a", "b"], "the area of c is outside the crop"
    assert moved[0][1]["area"] == (8, 4, 0, 0) and moved[0][1]["mask"].shape == (1, 64, 64)
    assert moved[0][1]["reference_latents"][0] is details["reference_latents"][0]
    unchanged = ("strength", "hooks", "start_percent", "control", "reference_latents_method")
    assert {name: moved[0][1][name] for name in unchanged} == {name: details[name] for name in unchanged}
    assert moved[1] == conditioning[1]
    assert details["mask"] is mask and details["area"] is area, "changed in place"


def test_mover_leaves_area_that_the_host_replaces() -> None:
    """With set_area_to_bounds, the host takes the bounds of the mask."""
    details = {"mask": torch.ones(1, 128, 192), "area": (16, 8, 0, 16), "set_area_to_bounds": True}
    assert not is_outside(details, make_placement())
    assert is_outside({**details, "set_area_to_bounds": False}, make_placement())
    ((_, moved),) = Mover(make_target(make_placement())).move_conditioning([["a", details]])
    assert moved["area"] == (16, 8, 0, 16) and moved["set_area_to_bounds"]


@pytest.mark.parametrize(
    "conditioning",
    [
        "NegativePlaceholder",
        [["a", {}]],
        [["a", {"mask": None}]],
        [["a", {"reference_latents": [LATENT[..., :16], "text"]}]],
        [],
        None,
    ],
)
def test_mover_keeps_conditioning_without_places(conditioning: Any) -> None:
    pipe = Pipe("model", conditioning, conditioning)
    assert not RegionPipes(pipe, WHOLE).has_places
    moved = Mover(make_target(make_placement())).move_pipe(pipe)
    assert moved.positive is conditioning and moved.negative is conditioning


def test_mover_moves_shared_objects_once() -> None:
    """ComfyUI runs both prompts in one batch only if they have the same ControlNet object."""

    class Objects:
        calls = 0

        def crop_control(self, control: Any, cropper: Any) -> list:
            self.calls += 1
            return [control, cropper]

        def crop_model(self, model: Any, cropper: Any) -> tuple:
            return model, cropper

    placement, objects, control = make_placement(), Objects(), "ControlNet"
    mover = Mover(replace(make_target(placement), objects=objects))
    pipe = Pipe("model", [["a", {"control": control}]], [["b", {"control": control}]])
    moved, refiner = mover.move_pipe(pipe), mover.move_pipe(pipe)
    assert moved.positive[0][1]["control"] == [control, placement] and moved.model == ("model", placement)
    controls = [each[0][1]["control"] for each in (moved.positive, moved.negative, refiner.positive)]
    assert all(each is controls[0] for each in controls) and objects.calls == 1


@pytest.mark.parametrize(("prompt", "name"), [("positive", "basic_pipe"), ("negative", "refiner_basic_pipe_opt")])
def test_region_pipes_with_nothing_left_name_region_and_input(prompt: str, name: str) -> None:
    outside = [["a", {"area": (16, 8, 0, 16)}], ["b", {"mask": torch.zeros(1, 128, 192)}]]
    pipes = RegionPipes(replace(Pipe("model", "text", "text"), **{prompt: outside}), WHOLE, name=name)
    with pytest.raises(InputError) as raised:
        pipes.for_region(2, make_placement(index=1))
    assert f"{prompt} prompt of {name}" in str(raised.value) and "region 3 of image 2" in str(raised.value)
    assert "(64, 32) to (128, 96)" in str(raised.value)
    pipes.for_region(2, make_placement(Box(100, 0, 164, 64)))


def test_region_pipes_share_equal_texts() -> None:
    texts = []

    def add_text(positive: list, text: str) -> list:
        texts.append(text)
        return [*positive, [text, {}]]

    placement = make_placement()
    pipe = Pipe("model", [["tokens", {"mask": torch.ones(1, 128, 192)}]], "placeholder", add_text)
    pipes = RegionPipes(pipe, WHOLE, (" a hat", "a hat ", " "))
    first, same, no_text, beyond = (pipes.for_region(i, placement) for i in range(4))
    assert texts == ["a hat"] and pipes.has_places
    assert first.positive is same.positive and no_text.positive is beyond.positive is pipe.positive
    assert [len(each.positive) for each in (first, no_text)] == [2, 1]


def test_region_pipes_without_text_encoder() -> None:
    """A refiner may have none."""
    pipe = Pipe("model", "positive", "negative")
    assert RegionPipes(pipe, WHOLE, ("a hat",)).for_region(0, make_placement()).positive == "positive"
