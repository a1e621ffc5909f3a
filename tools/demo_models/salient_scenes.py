"""Scenes with one or two composed objects that stand out, for the demo salient-object network.

`draw_salient_scene` is a pure function of its arguments: the same seed and size give the same bytes.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .drawing import coverage, paint, pattern, ramp, shaded, to_uint8


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
    short = min(height, width)
    palette = [_any_color(rng) for _ in range(3)]
    image = _busy_background(rng, palette, height, width)
    alpha = np.zeros((height, width), dtype=np.float32)

    makers = (_figure, _creature, _plant, _thing, _thing)
    several = rng.random() < 0.25
    for index in range(2 if several else 1):
        maker = makers[int(rng.integers(len(makers)))]
        middle = 0.5 if not several else 0.28 + 0.44 * index
        x = (middle + rng.uniform(-0.08, 0.08)) * width
        y = (0.5 + rng.uniform(-0.08, 0.08)) * height
        reach = (rng.uniform(0.20, 0.27) if several else rng.uniform(0.26, 0.42)) * short
        for outlines in maker(rng, np.array([x, y]), reach, height):
            window, cover = coverage(outlines, height, width)
            if cover.size:
                paint(image, window, cover, _own_texture(rng, palette, *cover.shape))
                alpha[window] = np.maximum(alpha[window], cover)

    image += np.float32(rng.uniform(0.0, 0.03)) * rng.standard_normal(image.shape, dtype=np.float32)
    return SalientScene(to_uint8(image), alpha)


# A maker takes the object's middle (x, y), its reach in pixels and the image's height, and gives the parts from back
# to front, each a list of outlines `[N, 2]` in pixels, of which all but the first are holes.


def _blob(
    rng: np.random.Generator, middle: np.ndarray, radii: tuple[float, float], wobble: float, corners: int = 72
) -> np.ndarray:
    """An ellipse whose radius wavers by about `wobble` of itself; with few corners, a polygon."""
    angles = np.arange(corners) * (2 * np.pi / corners) + rng.uniform(0, 2 * np.pi)
    lengths = np.ones(corners)
    for waves in range(2, 6):
        lengths += wobble / waves * rng.normal() * np.cos(waves * angles + rng.uniform(0, 2 * np.pi))
    lengths = np.maximum(lengths, 0.3)
    return middle + np.stack([radii[0] * np.cos(angles), radii[1] * np.sin(angles)], axis=1) * lengths[:, None]


def _limb(start: np.ndarray, end: np.ndarray, widths: tuple[float, float]) -> np.ndarray:
    """A bar from `start` to `end` with round ends, of these widths in pixels there."""
    along = np.arctan2(*(end - start)[::-1])
    turn = np.linspace(np.pi / 2, 3 * np.pi / 2, 12)
    caps = [
        point + np.stack([np.cos(along + angles), np.sin(along + angles)], axis=1) * (wide / 2)
        for point, wide, angles in ((start, widths[0], turn), (end, widths[1], turn + np.pi))
    ]
    return np.concatenate(caps)


def _towards(angle: float, length: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)]) * length


def _beside(point: np.ndarray, right: float, down: float) -> np.ndarray:
    return point + np.array([right, down])


def _figure(rng: np.random.Generator, middle: np.ndarray, reach: float, height: int) -> list[list[np.ndarray]]:
    """Hair, shoulders, neck, head and face, cut off by the image's lower edge."""
    head = np.array([middle[0], middle[1] - 0.35 * reach])
    wide, tall = reach * rng.uniform(0.38, 0.48), reach * rng.uniform(0.48, 0.60)
    shoulders = np.array([middle[0] + rng.uniform(-0.1, 0.1) * reach, head[1] + rng.uniform(1.5, 1.8) * reach])
    chest = np.array([shoulders[0], (height + shoulders[1]) / 2])
    body = (reach * rng.uniform(0.95, 1.25), reach * rng.uniform(1.0, 1.2))
    hair = (wide * rng.uniform(1.1, 1.5), tall * rng.uniform(1.1, 1.5))
    parts = [[_blob(rng, _beside(head, 0, -0.15 * tall), hair, 0.1)], [_blob(rng, shoulders, body, 0.04)]]
    if height > shoulders[1]:  # the trunk goes on to the lower edge
        parts.append([_limb(shoulders, np.array([chest[0], height + reach]), (1.8 * body[0], 1.8 * body[0]))])
    parts.append([_limb(head, _beside(shoulders, 0, -0.7 * reach), (0.9 * wide, 1.0 * wide))])
    parts.append([_blob(rng, head, (wide, tall), 0.04)])
    for side in (-1, 1):
        eye = _beside(head, side * 0.4 * wide, -0.1 * tall)
        parts.append([_blob(rng, eye, (0.14 * wide, 0.08 * tall), 0.1)])
    parts.append([_blob(rng, _beside(head, 0, 0.5 * tall), (0.3 * wide, 0.07 * tall), 0.1)])
    return parts


def _creature(rng: np.random.Generator, middle: np.ndarray, reach: float, height: int) -> list[list[np.ndarray]]:
    """A body with a head, legs and a thin tail."""
    body = (reach * rng.uniform(0.45, 0.75), reach * rng.uniform(0.30, 0.50))
    side = rng.choice([-1, 1])
    parts = []
    for along in np.linspace(-0.7, 0.7, int(rng.integers(2, 5))):
        hip = _beside(middle, along * body[0], 0.4 * body[1])
        foot = _beside(hip, rng.uniform(-0.2, 0.2) * reach, rng.uniform(0.5, 0.8) * reach)
        thick = rng.uniform(0.14, 0.26) * reach
        parts.append([_limb(hip, foot, (thick, thick * rng.uniform(0.5, 1.0)))])
    tail = _beside(middle, -side * 0.8 * body[0], 0.0)
    parts.append([_limb(tail, tail + _towards(rng.uniform(-1, 1), -side * 0.6 * reach), (0.14 * reach, 0.08 * reach))])
    parts.append([_blob(rng, middle, body, 0.15)])
    head = _beside(middle, side * 0.9 * body[0], -rng.uniform(0.2, 1.0) * body[1])
    size = reach * rng.uniform(0.22, 0.36)
    for lean in (-0.4, 0.4):
        ear = head + _towards(-np.pi / 2 + lean, 0.9 * size)
        parts.append([_limb(ear, ear + _towards(-np.pi / 2 + lean, 0.5 * size), (0.4 * size, 0.15 * size))])
    parts.append([_blob(rng, head, (size, 0.85 * size), 0.08)])
    parts.append([_blob(rng, _beside(head, 0.35 * side * size, -0.15 * size), (0.12 * size, 0.12 * size), 0.0)])
    return parts


def _plant(rng: np.random.Generator, middle: np.ndarray, reach: float, height: int) -> list[list[np.ndarray]]:
    """Thin stems with leaves and blossoms out of a pot."""
    pot = _beside(middle, 0, 0.6 * reach)
    parts = []
    for _ in range(int(rng.integers(2, 5))):
        angle = -np.pi / 2 + rng.uniform(-0.7, 0.7)
        tip = pot + _towards(angle, reach * rng.uniform(0.9, 1.5))
        parts.append([_limb(pot, tip, (0.16 * reach, 0.10 * reach))])
        for _ in range(int(rng.integers(0, 3))):
            at = pot + (tip - pot) * rng.uniform(0.3, 0.9)
            out = _towards(angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2), reach * rng.uniform(0.2, 0.45))
            parts.append([_limb(at, at + out, (0.08 * reach, rng.uniform(0.16, 0.28) * reach))])
        if rng.random() < 0.6:
            size = reach * rng.uniform(0.22, 0.38)
            parts.append([_blob(rng, tip, (size, size), 0.3)])
    width = reach * rng.uniform(0.4, 0.6)
    corners = [(-1, -0.2), (1, -0.2), (0.7, 0.9), (-0.7, 0.9)]
    parts.append([pot + np.array(corners) * (width, 0.45 * reach)])
    return parts


def _thing(rng: np.random.Generator, middle: np.ndarray, reach: float, height: int) -> list[list[np.ndarray]]:
    """A polygon or a blob, perhaps with a ring for a handle, a rod and a patch on it."""
    size = (reach * rng.uniform(0.6, 1.0), reach * rng.uniform(0.6, 1.0))
    corners = int(rng.integers(4, 9)) if rng.random() < 0.5 else 72
    parts = []
    if rng.random() < 0.3:
        side = _beside(middle, rng.choice([-1, 1]) * size[0], 0)
        hoop = reach * rng.uniform(0.3, 0.5)
        parts.append([_blob(rng, side, (hoop, hoop), 0.0), _blob(rng, side, (0.65 * hoop, 0.65 * hoop), 0.0)])
    if rng.random() < 0.3:
        rod = _towards(rng.uniform(0, 2 * np.pi), reach * rng.uniform(1.1, 1.5))
        parts.append([_limb(middle, middle + rod, (0.15 * reach, rng.uniform(0.06, 0.15) * reach))])
    parts.append([_blob(rng, middle, size, 0.1 if corners < 9 else rng.uniform(0.0, 0.4), corners)])
    for _ in range(int(rng.integers(0, 3))):
        spot = middle + rng.uniform(-0.3, 0.3, 2) * size
        parts.append([_blob(rng, spot, (0.25 * size[0], 0.2 * size[1]), 0.3)])
    return parts


def _any_color(rng: np.random.Generator) -> np.ndarray:
    hue, saturation, value = rng.random(), rng.beta(1.2, 1.5), rng.uniform(0.05, 1.0)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def _own_texture(rng: np.random.Generator, palette: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """A plane `[H, W, 3]` for a part of an object, in a color unlike those of the background."""
    choices = [_any_color(rng) for _ in range(8)]
    color = max(choices, key=lambda choice: min(float(np.abs(choice - ground).sum()) for ground in palette))
    if rng.random() < 0.4:
        return shaded(rng, color, height, width)
    mix = pattern(rng, height, width) * np.float32(rng.uniform(0.1, 0.8))
    return color + mix[..., None] * np.float32(0.5) * (_any_color(rng) - color)


def _busy_background(rng: np.random.Generator, palette: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """A background float32 `[H, W, 3]`, 0..1, in three colors: texture, perhaps a floor or faint things or blur."""
    first, second, third = palette
    mix = 0.5 + 0.5 * ramp(rng, height, width) if rng.random() < 0.3 else pattern(rng, height, width)
    image = first + (mix * np.float32(rng.uniform(0.1, 0.6)))[..., None] * (second - first)
    if rng.random() < 0.4:
        horizon = int(height * rng.uniform(0.45, 0.9))
        depth = height - horizon
        floor = pattern(rng, depth, width) * np.float32(rng.uniform(0.0, 0.4))
        image[horizon:] = third + floor[..., None] * (first - third)
    for _ in range(int(rng.integers(0, 12))):
        spot = rng.uniform(0, 1, 2) * (width, height)
        size = rng.uniform(0.02, 0.10, 2) * min(height, width)
        window, cover = coverage([_blob(rng, spot, tuple(size), 0.3)], height, width)
        if cover.size:
            paint(image, window, cover * np.float32(rng.uniform(0.1, 0.35)), third + np.zeros((*cover.shape, 3)))
    if rng.random() < 0.6:  # out of focus, as behind most things that are photographed
        soft = ImageFilter.GaussianBlur(rng.uniform(0.004, 0.02) * min(height, width))
        image = np.asarray(Image.fromarray(to_uint8(image)).filter(soft), dtype=np.float32) / 255
    return image
