"""Banded filters against Pillow and scipy, and the block form for accelerators against the sparse form."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maskwright.core import separable, tensors
from maskwright.core.errors import DependencyError
from PIL import Image
from scipy import ndimage

CPU = torch.device("cpu")


def random_image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def resize_with_pillow(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
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
    image = random_image(1, *before, 3)
    torch.testing.assert_close(
        tensors.resize_lanczos(image, *after), resize_with_pillow(image, *after), atol=1e-5, rtol=0
    )


def test_resize_lanczos_same_size_returns_input() -> None:
    image = random_image(2, 9, 7, 3)
    assert tensors.resize_lanczos(image, 9, 7) is image


def test_resize_lanczos_accepts_views_and_batches() -> None:
    view = random_image(3, 40, 60, 4)[:, 3:30, 5:40, :3]
    result = tensors.resize_lanczos(view, 50, 20)
    assert torch.equal(result, tensors.resize_lanczos(view.contiguous(), 50, 20))
    assert torch.equal(result, torch.cat([tensors.resize_lanczos(each, 50, 20) for each in view.split(1)]))


@settings(max_examples=60, deadline=None)
@given(before=st.integers(1, 300), after=st.integers(1, 300), radius=st.integers(1, 40))
def test_filter_lines_blocks_match_sparse(before: int, after: int, radius: int) -> None:
    values = random_image(2, before, 3, 2)
    for lines, weights in (
        separable._lanczos_weights(before, after),
        separable._gaussian_weights(before, min(radius, before - 1), 10.0, "mirror"),
        separable._gaussian_weights(before, radius, 10.0, "reflect"),
    ):
        blocks = separable.filter_lines(values, separable._blocks(lines, weights, before, CPU))
        sparse = separable.filter_lines(values, separable._sparse(lines, weights, before))
        torch.testing.assert_close(blocks, sparse, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("border", "radius"), [("reflect", 5), ("reflect", 40), ("reflect", 200), ("mirror", 8)])
def test_gaussian_matrix_matches_scipy(border: str, radius: int) -> None:
    """Also for a Gaussian several times as wide as the image."""
    lines = random_image(1, 9, 4, 1)[0, ..., 0]
    sigma = radius / 3
    expected = ndimage.gaussian_filter1d(lines.double().numpy(), sigma, axis=0, mode=border, radius=radius)
    blurred = separable.filter_lines(lines[None], separable.gaussian_matrix(9, radius, sigma, border, CPU))
    np.testing.assert_allclose(blurred[0].numpy(), expected, atol=1e-6)


def test_gaussian_matrix_keeps_zeros_exact() -> None:
    lines = torch.zeros(1, 100, 4)
    lines[:, 40] = 1
    blurred = separable.filter_lines(lines, separable.gaussian_matrix(100, 7, 3.0, "mirror", CPU))
    assert blurred[:, :33].eq(0).all() and blurred[:, 48:].eq(0).all() and blurred[:, 33:48].gt(0).all()


def test_resize_lanczos_on_cuda(cuda: torch.device) -> None:
    image = random_image(2, 90, 70, 3)
    result = tensors.resize_lanczos(image.to(cuda), 200, 33)
    assert result.device == cuda
    torch.testing.assert_close(result.cpu(), tensors.resize_lanczos(image, 200, 33), atol=1e-5, rtol=0)


def test_resize_lanczos_without_scipy_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(DependencyError, match=r"scipy.*missing or does not work.*pip install"):
        tensors.resize_lanczos(random_image(1, 7, 19, 3), 111, 113)
