"""Scenes with one or two composed objects that stand out, for the demo salient-object network.

`draw_salient_scene` is a pure function of its arguments: the same seed and size give the same bytes. The network was
trained on figures, creatures, plants and things (tools/demo_models/salient_scenes.py at commit f0c9076); these objects
are simpler.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .drawing import background, directions, draw_shape, pattern, random_color, shaded, to_uint8

ANY = (0, 360), (0.0, 1.0), (0.05, 1.0)


@dataclass(frozen=True)
class SalientScene:
    """`image` is uint8 `[H, W, 3]` RGB; `alpha` is float32 `[H, W]`, 0..1, how much of each pixel the objects cover."""

    image: np.ndarray
    alpha: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Where the objects cover at least half of the pixel, bool `[H, W]`."""
        return self.alpha >= 0.5


def draw_salient_scene(seed: int, size: tuple[int, int] = (320, 320)) -> SalientScene:
    """Draw one or two objects that stand out: limbs around a body, with spots on it.

    Args:
        seed: any integer >= 0. The same seed and size draw the same scene.
        size: (height, width) in pixels, each at least 64.
    """
    rng = np.random.default_rng([seed, 3])
    height, width = size
    palette = [random_color(rng, *ANY) for _ in range(2)]
    image, alpha = background(rng, *palette, height, width), np.zeros(size, dtype=np.float32)
    several = rng.random() < 0.25
    for column in (0.28, 0.72) if several else (0.5,):
        center = complex((column + rng.uniform(-0.08, 0.08)) * width, (0.5 + rng.uniform(-0.08, 0.08)) * height)
        reach = (rng.uniform(0.20, 0.27) if several else rng.uniform(0.26, 0.42)) * min(size)
        for outline in _object(rng):
            paint = lambda *side: _texture(rng, palette, *side)  # noqa: E731
            window, cover = draw_shape(image, [center + reach * outline], paint)
            alpha[window] = np.maximum(alpha[window], cover)
    return SalientScene(to_uint8(image, rng, 0.03), alpha)


def _object(rng: np.random.Generator) -> list[np.ndarray]:
    """The outlines of an object's parts from back to front, around 0 and within about 1."""
    limbs = [_limb(0.4 * turn, turn * rng.uniform(0.8, 1.1), *rng.uniform(0.08, 0.25, 2)) for turn in _turns(rng, 5)]
    body = _blob(rng, 0j, *rng.uniform(0.4, 0.8, 2))
    heads = [_blob(rng, 0.7 * turn, *rng.uniform(0.2, 0.4, 2)) for turn in _turns(rng, 1)]
    spots = [_blob(rng, 0.3 * turn, *rng.uniform(0.05, 0.2, 2)) for turn in _turns(rng, 2)]
    return [*limbs, body, *heads, *spots]


def _turns(rng: np.random.Generator, most: int) -> np.ndarray:
    """Up to `most` random directions."""
    return np.exp(2j * np.pi * rng.random(int(rng.integers(0, most + 1))))


def _blob(rng: np.random.Generator, center: complex, across: float, down: float) -> np.ndarray:
    """An ellipse with a wavering radius."""
    corners, lengths = directions(72), np.ones(72)
    for waves in range(2, 6):
        lengths += rng.normal(0, 0.25 / waves) * np.cos(waves * np.angle(corners) + rng.uniform(0, 2 * np.pi))
    return center + (across * corners.real + 1j * down * corners.imag) * np.maximum(lengths, 0.3)


def _limb(start: complex, end: complex, first: float, last: float) -> np.ndarray:
    """A bar with round ends, of these widths there."""
    cap = (end - start) / abs(end - start) * 1j * np.exp(1j * np.linspace(0, np.pi, 12))
    return np.concatenate([start + cap * first / 2, end - cap * last / 2])


def _texture(rng: np.random.Generator, palette: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """A plane `[H, W, 3]` for a part of an object, in a color unlike those of the background."""
    choices = [random_color(rng, *ANY) for _ in range(8)]
    color = max(choices, key=lambda choice: min(float(np.abs(choice - ground).sum()) for ground in palette))
    plane = shaded(rng, color, height, width)
    if rng.random() < 0.5:
        plane += 0.25 * pattern(rng, height, width)[..., None] * (random_color(rng, *ANY) - color)
    return plane
