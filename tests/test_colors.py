"""Color matching in Oklab."""

from __future__ import annotations

import pytest
import torch
from maskwright.core import colors


def random_image(low: float, high: float, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 40, 50, 3, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


EVERYWHERE = torch.ones(1, 40, 50)


def test_oklab_of_known_colors() -> None:
    """White has lightness 1 and no chroma; red is the published value."""
    white, red = torch.ones(1, 1, 1, 3), torch.tensor([1.0, 0, 0]).view(1, 1, 1, 3)
    torch.testing.assert_close(colors._to_oklab(white).flatten(), torch.tensor([1.0, 0, 0]), atol=1e-4, rtol=0)
    expected = torch.tensor([0.628, 0.225, 0.126])
    torch.testing.assert_close(colors._to_oklab(red).flatten(), expected, atol=1e-3, rtol=0)


def test_oklab_round_trip() -> None:
    image = random_image(0, 1)
    torch.testing.assert_close(colors._from_oklab(colors._to_oklab(image)), image, atol=1e-4, rtol=0)


def test_match_colors_matches_mean_and_deviation() -> None:
    image, reference = random_image(0.4, 0.9), random_image(0.3, 0.5, seed=1)
    matched = colors.match_colors(image, EVERYWHERE, reference, EVERYWHERE, 1.0)
    for actual, expected in zip(
        colors._compute_statistics(colors._to_oklab(matched), EVERYWHERE),
        colors._compute_statistics(colors._to_oklab(reference), EVERYWHERE),
    ):
        torch.testing.assert_close(actual, expected, atol=2e-3, rtol=0)


def test_match_colors_uses_weights() -> None:
    image, reference = random_image(0.2, 0.5), random_image(0.4, 0.6, seed=1)
    image[:, :20], reference[:, 20:] = 1, 0
    weights, reference_weights = EVERYWHERE.clone(), EVERYWHERE.clone()
    weights[:, :20], reference_weights[:, 20:] = 0, 0
    matched = colors.match_colors(image, weights, reference, reference_weights, 1.0)
    assert (matched[:, 20:].mean() - 0.5).abs() < 0.02


@pytest.mark.parametrize("strength", (0.0, 0.3, 1.0))
def test_match_colors_to_itself_changes_nothing(strength: float) -> None:
    image = random_image(0, 1)
    torch.testing.assert_close(
        colors.match_colors(image, EVERYWHERE, image, EVERYWHERE, strength), image, atol=1e-3, rtol=0
    )


def test_match_colors_keeps_flat_images_flat() -> None:
    flat = torch.full((1, 40, 50, 3), 0.8)
    matched = colors.match_colors(flat, EVERYWHERE, random_image(0, 1), EVERYWHERE, 1.0)
    assert matched.std(dim=(1, 2)).max() < 1e-4


def test_match_colors_without_weights_returns_input() -> None:
    image = random_image(0, 1)
    none = torch.zeros_like(EVERYWHERE)
    assert colors.match_colors(image, none, image, EVERYWHERE, 1.0) is image
    assert colors.match_colors(image, EVERYWHERE, image, none, 1.0) is image
