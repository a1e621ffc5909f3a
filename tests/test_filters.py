"""Gaussian blur and Lanczos resizing, against Pillow and scipy."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from maskwright.core import filters
from maskwright.core.errors import DependencyError, InputError
from PIL import Image
from scipy import ndimage

CPU = torch.device("cpu")


def random_values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", (0, 0.1, 0.5, 3, 7.5, 8, 9.3, 40, 300))
@pytest.mark.parametrize("size", ((1, 1), (1, 30), (60, 81), (37, 300)))
def test_gaussian_blur_matches_scipy(size: tuple[int, int], sigma: float) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = random_values(2, *size)
    original = mask.clone()
    truncate = 4 if sigma < 8 else 8  # scipy's default, or the whole Gaussian
    expected = np.stack([ndimage.gaussian_filter(each.double().numpy(), sigma, truncate=truncate) for each in mask])
    np.testing.assert_allclose(filters.gaussian_blur(mask, sigma).numpy(), expected, atol=1e-5)
    assert torch.equal(mask, original)


@pytest.mark.parametrize("sigma", (0, 0.1, 3, 40))
def test_truncated_blur_matches_scipy(sigma: float) -> None:
    mask = random_values(2, 60, 81)
    expected = np.stack([ndimage.gaussian_filter(each.numpy(), sigma) for each in mask])
    np.testing.assert_allclose(filters.truncated_blur(mask, sigma).numpy(), expected, atol=1e-5)


@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    sigma=st.floats(0.2, 12),
    seed=st.integers(0, 1000),
)
@example(size=(2, 1, 1), sigma=2.0, seed=0)
@example(size=(4, 352, 352), sigma=3.0, seed=0)
def test_gaussian_blur_batch_equals_singles(size: tuple, sigma: float, seed: int) -> None:
    mask = random_values(*size, seed=seed)
    singles = torch.cat([filters.gaussian_blur(one, sigma) for one in mask.split(1)])
    assert torch.equal(filters.gaussian_blur(mask, sigma), singles)


@pytest.mark.parametrize("sigma", [-1, 1e6, 1e308])
def test_gaussian_blur_rejects_sigma_out_of_range(sigma: float) -> None:
    with pytest.raises(InputError, match="blur is .*out of range"):
        filters.gaussian_blur(torch.zeros(1, 4, 4), sigma)


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
        filters.resize_lanczos(image, *after), resize_float_with_pillow(image, *after), atol=1e-5, rtol=0
    )


def test_resize_lanczos_same_size_returns_input() -> None:
    image = random_values(2, 9, 7, 3)
    assert filters.resize_lanczos(image, 9, 7) is image


def test_resize_lanczos_accepts_views_and_batches() -> None:
    view = random_values(3, 40, 60, 4)[:, 3:30, 5:40, :3]
    result = filters.resize_lanczos(view, 50, 20)
    assert torch.equal(result, filters.resize_lanczos(view.contiguous(), 50, 20))
    assert torch.equal(result, torch.cat([filters.resize_lanczos(each, 50, 20) for each in view.split(1)]))


@given(before=st.integers(1, 300), after=st.integers(1, 300), radius=st.integers(1, 40))
def test_filter_lines_blocks_match_sparse(before: int, after: int, radius: int) -> None:
    values = random_values(2, before, 3, 2)
    for lines, weights in (
        filters._lanczos_weights(before, after),
        filters._gaussian_weights(before, min(radius, before - 1), 10.0, "mirror"),
        filters._gaussian_weights(before, radius, 10.0, "reflect"),
    ):
        blocks = filters.filter_lines(values, filters._build_blocks(lines, weights, before, CPU))
        sparse = filters.filter_lines(values, filters._build_sparse(lines, weights, before))
        torch.testing.assert_close(blocks, sparse, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("border", "radius"), [("reflect", 5), ("reflect", 40), ("reflect", 200), ("mirror", 8)])
def test_gaussian_matrix_matches_scipy(border: str, radius: int) -> None:
    """Also for a Gaussian several times as wide as the image."""
    lines = random_values(1, 9, 4, 1)[0, ..., 0]
    sigma = radius / 3
    expected = ndimage.gaussian_filter1d(lines.double().numpy(), sigma, axis=0, mode=border, radius=radius)
    blurred = filters.filter_lines(lines[None], filters.gaussian_matrix(9, radius, sigma, border, CPU))
    np.testing.assert_allclose(blurred[0].numpy(), expected, atol=1e-6)


def test_gaussian_matrix_keeps_zeros_exact() -> None:
    lines = torch.zeros(1, 100, 4)
    lines[:, 40] = 1
    blurred = filters.filter_lines(lines, filters.gaussian_matrix(100, 7, 3.0, "mirror", CPU))
    assert blurred[:, :33].eq(0).all() and blurred[:, 48:].eq(0).all() and blurred[:, 33:48].gt(0).all()


def test_resize_lanczos_on_cuda(cuda: torch.device) -> None:
    image = random_values(2, 90, 70, 3)
    result = filters.resize_lanczos(image.to(cuda), 200, 33)
    assert result.device == cuda
    torch.testing.assert_close(result.cpu(), filters.resize_lanczos(image, 200, 33), atol=1e-5, rtol=0)


def test_resize_lanczos_without_scipy_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(DependencyError, match=r"scipy.*missing or does not work.*pip install"):
        filters.resize_lanczos(random_values(1, 7, 19, 3), 111, 113)
