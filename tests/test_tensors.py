"""Conversion and resizing, against Pillow; banded filters, against Pillow and scipy."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core import tensors
from maskwright.core.errors import DependencyError
from PIL import Image
from properties import examples
from scipy import ndimage

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


# Separable filters


CPU = torch.device("cpu")


def resize_float_with_pillow(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize each channel with Pillow in float."""
    resized = [
        np.array(Image.fromarray(channel.contiguous().numpy()).resize((width, height), Image.Resampling.LANCZOS))
        for channel in image[0].permute(2, 0, 1)  # [H,W,C] -> [C,H,W]
    ]
    return torch.from_numpy(np.stack(resized, axis=-1)).clamp(0, 1).unsqueeze(0)


@pytest.mark.parametrize(
    ("before", "after"),
    [((40, 30), (97, 64)), ((97, 64), (40, 30)), ((50, 50), (50, 31)), ((33, 90), (120, 17)), ((1, 5), (8, 8)),
     ((8, 8), (1, 1)), ((200, 3), (7, 300)), ((90, 90), (60, 20))],
)  # fmt: skip
def test_resize_lanczos_matches_pillow(before: tuple[int, int], after: tuple[int, int]) -> None:
    image = random_values(1, *before, 3)
    torch.testing.assert_close(
        tensors.resize_lanczos(image, *after), resize_float_with_pillow(image, *after), atol=1e-5, rtol=0
    )


def test_resize_lanczos_same_size_returns_input() -> None:
    image = random_values(2, 9, 7, 3)
    assert tensors.resize_lanczos(image, 9, 7) is image


def test_resize_lanczos_accepts_views_and_batches() -> None:
    view = random_values(3, 40, 60, 4)[:, 3:30, 5:40, :3]
    result = tensors.resize_lanczos(view, 50, 20)
    assert torch.equal(result, tensors.resize_lanczos(view.contiguous(), 50, 20))
    assert torch.equal(result, torch.cat([tensors.resize_lanczos(each, 50, 20) for each in view.split(1)]))


@examples(60)
@given(before=st.integers(1, 300), after=st.integers(1, 300), radius=st.integers(1, 40))
def test_filter_lines_blocks_match_sparse(before: int, after: int, radius: int) -> None:
    values = random_values(2, before, 3, 2)
    for lines, weights in (
        tensors._lanczos_weights(before, after),
        tensors._gaussian_weights(before, min(radius, before - 1), 10.0, "mirror"),
        tensors._gaussian_weights(before, radius, 10.0, "reflect"),
    ):
        blocks = tensors.filter_lines(values, tensors._build_blocks(lines, weights, before, CPU))
        sparse = tensors.filter_lines(values, tensors._build_sparse(lines, weights, before))
        torch.testing.assert_close(blocks, sparse, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("border", "radius"), [("reflect", 5), ("reflect", 40), ("reflect", 200), ("mirror", 8)])
def test_gaussian_matrix_matches_scipy(border: str, radius: int) -> None:
    """Also for a Gaussian several times as wide as the image."""
    lines = random_values(1, 9, 4, 1)[0, ..., 0]
    sigma = radius / 3
    expected = ndimage.gaussian_filter1d(lines.double().numpy(), sigma, axis=0, mode=border, radius=radius)
    blurred = tensors.filter_lines(lines[None], tensors.gaussian_matrix(9, radius, sigma, border, CPU))
    np.testing.assert_allclose(blurred[0].numpy(), expected, atol=1e-6)


def test_gaussian_matrix_keeps_zeros_exact() -> None:
    lines = torch.zeros(1, 100, 4)
    lines[:, 40] = 1
    blurred = tensors.filter_lines(lines, tensors.gaussian_matrix(100, 7, 3.0, "mirror", CPU))
    assert blurred[:, :33].eq(0).all() and blurred[:, 48:].eq(0).all() and blurred[:, 33:48].gt(0).all()


def test_resize_lanczos_on_cuda(cuda: torch.device) -> None:
    image = random_values(2, 90, 70, 3)
    result = tensors.resize_lanczos(image.to(cuda), 200, 33)
    assert result.device == cuda
    torch.testing.assert_close(result.cpu(), tensors.resize_lanczos(image, 200, 33), atol=1e-5, rtol=0)


def test_resize_lanczos_without_scipy_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(DependencyError, match=r"scipy.*missing or does not work.*pip install"):
        tensors.resize_lanczos(random_values(1, 7, 19, 3), 111, 113)
