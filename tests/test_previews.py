"""Color maps and overlays against matplotlib and OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maskwright.core import previews
from maskwright.core.errors import InputError


@pytest.mark.parametrize(("name", "matplotlib_name"), [("viridis", "viridis"), ("greys", "Greys_r")])
def test_apply_color_map_matches_matplotlib(name: str, matplotlib_name: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    mask = torch.cat([torch.linspace(0, 1, 4000), torch.arange(257) / 256]).view(1, 1, -1)
    expected = (matplotlib.colormaps[matplotlib_name](mask[0, 0].numpy())[:, :3] * 255).astype(np.uint8)
    np.testing.assert_array_equal((previews.apply_color_map(mask, name)[0, 0] * 255).round().numpy(), expected)


def test_map_to_greys_matches_color_map() -> None:
    mask = torch.linspace(0, 1, 1000).view(1, 10, 100)
    colors = previews.apply_color_map(mask, "greys")
    assert torch.equal(colors, previews.map_to_greys(mask).unsqueeze(-1).expand(-1, -1, -1, 3))
    assert (colors.diff(dim=2) >= 0).all()
    assert (colors.min(), colors.max()) == (0, 1)


def test_apply_color_map_rejects_unknown_name() -> None:
    with pytest.raises(InputError, match=r"color map is 'jet'.*viridis"):
        previews.apply_color_map(torch.zeros(1, 2, 2), "jet")


def test_overlay_blends_and_drops_alpha() -> None:
    image = torch.rand(2, 5, 6, 4)
    red = torch.tensor([1.0, 0.0, 0.0]).expand(2, 5, 6, 3)
    original = image.clone()
    assert torch.equal(previews.overlay(image, red, 0), image[..., :3])
    assert torch.equal(previews.overlay(image, red, 1), red)
    torch.testing.assert_close(previews.overlay(image, red, 0.25), image[..., :3] * 0.75 + red * 0.25)
    assert torch.equal(image, original)
    with pytest.raises(InputError, match=r"opacity is 1\.5"):
        previews.overlay(image, red, 1.5)


def test_draw_heat_map_matches_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 70, 90, 3), generator=generator) / 255
    mask = torch.rand(1, 31, 47, generator=generator)
    colors = cv2.resize((previews.apply_color_map(mask)[0] * 255).round().byte().numpy(), (90, 70))
    expected = cv2.addWeighted((image[0] * 255).round().byte().numpy(), 0.5, colors, 0.5, 0)
    np.testing.assert_allclose(previews.draw_heat_map(image, mask)[0].numpy() * 255, expected, atol=1.0)


def test_draw_heat_map_keeps_images_of_empty_masks() -> None:
    image = torch.rand(2, 8, 9, 3)
    mask = torch.zeros(2, 4, 4)
    mask[1, 2, 2] = 1
    result = previews.draw_heat_map(image, mask)
    assert torch.equal(result[0], image[0])
    assert not torch.isclose(result[1], image[1]).all(dim=-1).any()
