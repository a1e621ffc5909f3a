"""Scenes with one or two composed objects that stand out, for the demo salient-object network.

`draw_salient_scene` is a pure function of its arguments: the same seed and size give the same bytes. The published
network was trained on more varied objects of the same kinds (salient_scenes.py at commit f0c9076).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .drawing import directions, draw_shape, pattern, ramp, random_color, shaded, to_uint8

# The parts of each object from back to front, around its center and in units of its size:
# (center, radii, wobble) is a blob, (start, end, widths there) a limb, and (center, outer and inner radius) a ring.
OBJECTS: dict[str, tuple[tuple, ...]] = {
    "figure": (
        (-0.43j, (0.58, 0.70), 0.1),  # hair
        (1.3j, (1.1, 1.1), 0.04),  # shoulders
        (1.3j, 5j, (2.0, 2.0)),  # trunk
        (-0.35j, 0.6j, (0.40, 0.43)),  # neck
        (-0.35j, (0.43, 0.54), 0.04),  # head
        (-0.17 - 0.40j, (0.06, 0.04), 0.1),  # eyes and mouth
        (0.17 - 0.40j, (0.06, 0.04), 0.1),
        (-0.08j, (0.13, 0.04), 0.1),
    ),
    "creature": (
        (-0.4 + 0.16j, -0.4 + 0.8j, (0.20, 0.15)),  # legs
        (0 + 0.16j, 0.05 + 0.8j, (0.20, 0.15)),
        (0.4 + 0.16j, 0.4 + 0.8j, (0.20, 0.15)),
        (-0.5 + 0j, -1.0 - 0.3j, (0.14, 0.08)),  # tail
        (0j, (0.60, 0.40), 0.15),  # body
        (0.43 - 0.48j, 0.37 - 0.68j, (0.14, 0.05)),  # ears
        (0.65 - 0.48j, 0.71 - 0.68j, (0.14, 0.05)),
        (0.54 - 0.24j, (0.29, 0.25), 0.08),  # head
        (0.64 - 0.28j, (0.035, 0.035), 0.0),  # eye
    ),
    "plant": (
        (0.6j, -0.5 - 0.6j, (0.16, 0.10)),  # stems
        (0.6j, 0.1 - 0.8j, (0.16, 0.10)),
        (0.6j, 0.6 - 0.3j, (0.16, 0.10)),
        (-0.25 - 0.0j, -0.55 + 0.05j, (0.08, 0.22)),  # leaves
        (0.3 + 0.15j, 0.25 - 0.2j, (0.08, 0.22)),
        (-0.5 - 0.6j, (0.30, 0.30), 0.3),  # blossoms
        (0.1 - 0.8j, (0.30, 0.30), 0.3),
        (0.55j, 0.8j, (0.80, 0.60)),  # pot
    ),
    "thing": (
        (0.75 + 0j, (0.40, 0.26)),  # handle
        (0j, -0.9 - 0.9j, (0.15, 0.10)),  # rod
        (0j, (0.80, 0.80), 0.3),
        (0.1 - 0.1j, (0.20, 0.16), 0.3),  # spots
        (-0.2 + 0.2j, (0.20, 0.16), 0.3),
    ),
}
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
    """Draw one or two objects that stand out: a figure from the chest up, a creature with limbs, a plant, or a thing.

    Args:
        seed: any integer >= 0. The same seed and size draw the same scene.
        size: (height, width) in pixels, each at least 64.
    """
    rng = np.random.default_rng([seed, 3])
    height, width = size
    palette = [random_color(rng, *ANY) for _ in range(3)]
    image = _draw_background(rng, palette, height, width)
    alpha = np.zeros(size, dtype=np.float32)
    several = rng.random() < 0.25
    for column in (0.28, 0.72) if several else (0.5,):
        center = complex((column + rng.uniform(-0.08, 0.08)) * width, (0.5 + rng.uniform(-0.08, 0.08)) * height)
        reach = (rng.uniform(0.20, 0.27) if several else rng.uniform(0.26, 0.42)) * min(size)
        mirror = rng.random() < 0.5
        for part in OBJECTS[str(rng.choice(list(OBJECTS)))]:
            outlines = [(-outline.conj() if mirror else outline) * reach + center for outline in _outlines(rng, part)]
            window, cover = draw_shape(image, outlines, lambda *side: _texture(rng, palette, *side))
            alpha[window] = np.maximum(alpha[window], cover)
    return SalientScene(to_uint8(image, rng, 0.03), alpha)


def _outlines(rng: np.random.Generator, part: tuple) -> list[np.ndarray]:
    """Outlines of a part of `OBJECTS`, with all its numbers varied; the second, if any, is a hole."""
    center = part[0] + complex(*rng.normal(0, 0.04, 2))
    sizes = np.array(part[-1] if isinstance(part[1], complex) else part[1]) * rng.uniform(0.75, 1.3, 2)
    if len(part) == 2:
        return [center + sizes[0] * directions(72), center + min(sizes[1], 0.8 * sizes[0]) * directions(72)]
    if isinstance(part[1], complex):  # a bar with round ends
        end = part[1] + complex(*rng.normal(0, 0.08, 2))
        cap = (end - center) / abs(end - center) * 1j * np.exp(1j * np.linspace(0, np.pi, 12))
        return [np.concatenate([center + cap * sizes[0] / 2, end - cap * sizes[1] / 2])]
    corners = directions(72, rng.uniform(0, 2 * np.pi))
    lengths = np.ones(72)
    for waves in range(2, 6):
        lengths += part[2] / waves * rng.normal() * np.cos(waves * np.angle(corners) + rng.uniform(0, 2 * np.pi))
    return [center + (sizes[0] * corners.real + 1j * sizes[1] * corners.imag) * np.maximum(lengths, 0.3)]


def _texture(rng: np.random.Generator, palette: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """A plane `[H, W, 3]` for a part of an object, in a color unlike those of the background."""
    choices = [random_color(rng, *ANY) for _ in range(8)]
    color = max(choices, key=lambda choice: min(float(np.abs(choice - ground).sum()) for ground in palette))
    if rng.random() < 0.4:
        return shaded(rng, color, height, width)
    mix = pattern(rng, height, width) * np.float32(rng.uniform(0.1, 0.8))
    return color + mix[..., None] * np.float32(0.5) * (random_color(rng, *ANY) - color)


def _draw_background(rng: np.random.Generator, palette: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """A background float32 `[H, W, 3]`, 0..1, in three colors: texture, perhaps a floor, perhaps out of focus."""
    first, second, third = palette
    mix = 0.5 + 0.5 * ramp(rng, height, width) if rng.random() < 0.3 else pattern(rng, height, width)
    image = first + (mix * np.float32(rng.uniform(0.1, 0.6)))[..., None] * (second - first)
    if rng.random() < 0.4:
        horizon = int(height * rng.uniform(0.45, 0.9))
        image[horizon:] = third + 0.2 * pattern(rng, height - horizon, width)[..., None] * (first - third)
    if rng.random() < 0.6:
        soft = ImageFilter.GaussianBlur(rng.uniform(0.004, 0.02) * min(height, width))
        blurred = Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8)).filter(soft)
        image = np.asarray(blurred, dtype=np.float32) / 255
    return image.astype(np.float32)
