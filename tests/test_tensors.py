"""Conversion and resizing, against Pillow."""

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
# Fourth from last: centers of new pixels fall between two old ones. The last three: either pass comes first.
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


def resize_with_pillow(values: torch.Tensor, size: tuple[int, int], mode: str) -> np.ndarray:
    images = [Image.fromarray((each.numpy() * 255).astype(np.uint8)) for each in values]
    return np.stack([np.asarray(image.resize(size[::-1], MODES[mode])) for image in images])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resize_8bit_matches_pillow(old: tuple, new: tuple, channels: tuple, mode: str) -> None:
    values = random_values(2, *old, *channels)
    original = values.clone()
    result = tensors.resize_8bit(values, *new, mode)
    assert result.dtype == torch.float32
    np.testing.assert_array_equal((result * 255).round().numpy(), resize_with_pillow(values, new, mode))
    assert torch.equal(values, original)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resize_8bit_on_accelerators_matches_pillow(old: tuple, new: tuple, mode: str) -> None:
    values = torch.nn.functional.avg_pool2d(random_values(2, 3, *(side + 2 for side in old)), 3, stride=1)
    on_device = tensors._resize_levels(values, *new, mode)  # the code path of accelerators, on the CPU
    on_cpu = tensors.resize_8bit(tensors.bchw_to_image(values), *new, mode)
    difference = (tensors.bchw_to_image(on_device) - on_cpu).abs() * 255
    assert difference.max() <= (2.001 if mode != "nearest" else 0)
    assert difference.mean() < 0.05


def test_mask_to_image_is_a_gray_view() -> None:
    mask = random_values(2, 5, 6)
    image = tensors.mask_to_image(mask)
    assert image.shape == (2, 5, 6, 3)
    assert torch.equal(image[..., 0], mask) and torch.equal(image[..., 2], mask)
    assert image.untyped_storage().nbytes() == mask.untyped_storage().nbytes()


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 5)])
def test_to_8bit_rounds_down_and_clips(shape: tuple) -> None:
    values = torch.tensor([-0.5, 0.0, 0.999, 1.0, 1.5]).repeat(6)[: max(1, int(np.prod(shape)))].reshape(shape)
    original = values.clone()
    expected = torch.tensor([0, 0, 254, 255, 255]).repeat(6)[: values.numel()].reshape(shape)
    levels = tensors.to_8bit(values)
    assert levels.dtype == np.uint8
    assert levels.tolist() == expected.tolist()
    assert torch.equal(values, original)
