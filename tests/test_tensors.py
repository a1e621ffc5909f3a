"""Resizing in 8 bits: Pillow's results, on every device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maskwright.core import tensors
from PIL import Image

MODES = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# The last but three: middles of new pixels that lie on the line between two old ones. Then either pass goes first.
SIZES = [
    ((64, 64), (35, 35)),
    ((40, 90), (64, 64)),
    ((1, 1), (8, 8)),
    ((3, 50), (20, 7)),
    ((30, 30), (30, 30)),
    ((64, 50), (30, 100)),
    ((150, 100), (32, 32)),
    ((100, 150), (32, 32)),
    ((150, 100), (32, 90)),
]


def random_values(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def pillow(values: torch.Tensor, size: tuple[int, int], mode: str) -> np.ndarray:
    pictures = [Image.fromarray((each.numpy() * 255).astype(np.uint8)) for each in values]
    return np.stack([np.asarray(picture.resize(size[::-1], MODES[mode])) for picture in pictures])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resizing_in_8_bits_is_pillows(old: tuple, new: tuple, channels: tuple, mode: str) -> None:
    values = random_values(2, *old, *channels)
    before = values.clone()
    result = tensors.resize_8bit(values, *new, mode)
    assert result.dtype == torch.float32
    np.testing.assert_array_equal((result * 255).round().numpy(), pillow(values, new, mode))
    assert torch.equal(values, before)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_accelerators_do_the_same_arithmetic(old: tuple, new: tuple, mode: str) -> None:
    values = torch.nn.functional.avg_pool2d(random_values(2, 3, *(side + 2 for side in old)), 3, stride=1)
    on_device = tensors._resize_levels(values, *new, mode)  # as on an accelerator, here on the CPU
    on_cpu = tensors.resize_8bit(tensors.bchw_to_image(values), *new, mode)
    difference = (tensors.bchw_to_image(on_device) - on_cpu).abs() * 255
    assert difference.max() <= (2.001 if mode != "nearest" else 0)
    assert difference.mean() < 0.05


def test_a_mask_as_image_is_grey_and_takes_no_memory() -> None:
    mask = random_values(2, 5, 6)
    image = tensors.mask_to_image(mask)
    assert image.shape == (2, 5, 6, 3)
    assert torch.equal(image[..., 0], mask) and torch.equal(image[..., 2], mask)
    assert image.untyped_storage().nbytes() == mask.untyped_storage().nbytes()


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 5)])
def test_8_bits_are_cut_downwards_and_to_their_range(shape: tuple) -> None:
    values = torch.tensor([-0.5, 0.0, 0.999, 1.0, 1.5]).repeat(6)[: max(1, int(np.prod(shape)))].reshape(shape)
    before = values.clone()
    expected = torch.tensor([0, 0, 254, 255, 255]).repeat(6)[: values.numel()].reshape(shape)
    levels = tensors.to_8bit(values)
    assert levels.dtype == np.uint8
    assert levels.tolist() == expected.tolist()
    assert torch.equal(values, before)
