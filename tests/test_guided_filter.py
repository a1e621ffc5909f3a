"""The guided filter against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maskwright.core.cutout import guided_filter
from maskwright.core.cutout.guided_filter import apply_guided_filter, box_mean


def windows(size: int, radius: int) -> list[slice]:
    return [slice(max(0, i - radius), i + radius + 1) for i in range(size)]


@pytest.mark.parametrize("radius", [1, 2, 5, 40])
def test_box_mean_is_exact_at_borders(radius: int) -> None:
    values = torch.rand(2, 3, 11, 7, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(
        [
            torch.stack([values[:, :, rows, columns].mean(dim=(2, 3)) for columns in windows(7, radius)], dim=-1)
            for rows in windows(11, radius)
        ],
        dim=-2,
    )
    torch.testing.assert_close(box_mean(values, radius), expected, atol=1e-6, rtol=0)


def test_apply_guided_filter_equals_its_definition() -> None:
    """Equations 14 to 16 of He et al., with every window's system solved directly."""
    generator = torch.Generator().manual_seed(1)
    image, mask = torch.rand(1, 9, 12, 3, generator=generator), torch.rand(1, 9, 12, generator=generator)
    radius, epsilon = 2, 1e-3
    colors, values = image[0].double().numpy(), mask[0].double().numpy()
    rows, columns = windows(9, radius), windows(12, radius)
    lines = np.empty((9, 12, 4))
    for y, x in np.ndindex(9, 12):
        c, v = colors[rows[y], columns[x]].reshape(-1, 3), values[rows[y], columns[x]].ravel()
        covariance = np.cov(c.T, bias=True) + epsilon * np.eye(3)
        lines[y, x, :3] = np.linalg.solve(covariance, (c * v[:, None]).mean(axis=0) - c.mean(axis=0) * v.mean())
        lines[y, x, 3] = v.mean() - lines[y, x, :3] @ c.mean(axis=0)
    expected = np.empty((9, 12))
    for y, x in np.ndindex(9, 12):
        line = lines[rows[y], columns[x]].reshape(-1, 4).mean(axis=0)
        expected[y, x] = np.clip(line[:3] @ colors[y, x] + line[3], 0, 1)
    np.testing.assert_allclose(apply_guided_filter(image, mask, radius, epsilon)[0].numpy(), expected, atol=1e-5)


def test_apply_guided_filter_follows_the_edge_of_the_image() -> None:
    image = torch.zeros(1, 40, 48, 3)
    image[:, :, 24:] = torch.tensor((0.8, 0.6, 0.2))
    mask = (torch.arange(48) >= 21).float().expand(1, 40, 48)  # three columns too wide
    filtered = apply_guided_filter(image, mask, 12)
    assert filtered[:, :, :24].max() < 0.5 < filtered[:, :, 24:].min()


@pytest.mark.parametrize("radius", [1, 4, 12, 300])
def test_apply_guided_filter_keeps_a_constant(radius: int) -> None:
    image = torch.rand(1, 40, 48, 3, generator=torch.Generator().manual_seed(3))
    constant = torch.full((1, 40, 48), 0.25)
    torch.testing.assert_close(apply_guided_filter(image, constant, radius), constant, atol=1e-5, rtol=0)


def test_apply_guided_filter_batch_equals_singles() -> None:
    generator = torch.Generator().manual_seed(2)
    images, masks = torch.rand(3, 20, 30, 3, generator=generator), torch.rand(3, 20, 30, generator=generator)
    singles = [apply_guided_filter(images[i : i + 1], masks[i : i + 1], 6) for i in range(3)]
    torch.testing.assert_close(apply_guided_filter(images, masks, 6), torch.cat(singles), atol=1e-6, rtol=0)


def test_apply_guided_filter_one_pixel() -> None:
    assert guided_filter.apply_guided_filter(torch.rand(1, 1, 1, 3), torch.ones(1, 1, 1), 10).item() == pytest.approx(1)
