"""Draws outlines, textures and colors for the scenes of both demo models.

Points are complex numbers, x + y j in pixels, so that a rotation is a product. Colors and images are float32 in 0..1
until `to_uint8`: an image is `[H, W, 3]`, a plane or a cover `[H, W]`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

# For antialiasing, shapes are filled at this multiple of the image's resolution and averaged.
OVERSAMPLING = 4


def directions(count: int, phase: float = 0.0) -> np.ndarray:
    """`count` points on the unit circle, evenly spaced."""
    return np.exp(1j * (phase + np.arange(count) * (2 * np.pi / count)))


def draw_shape(image: np.ndarray, outlines: Sequence[np.ndarray], color_of) -> tuple[tuple[slice, slice], np.ndarray]:
    """Draw the inside of the first outline, without that of the others, into the image, in place.

    Args:
        color_of: takes the height and width of the changed window, and returns its colors `[h, w, 3]`.

    Returns:
        The window, (rows, columns), and how much of each of its pixels is covered, float32, 0..1.
    """
    height, width = image.shape[:2]
    corners = np.stack([outlines[0].real, outlines[0].imag], axis=1)
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, (width, height))
    high = np.maximum(low, np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, (width, height)))
    columns, rows = (slice(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True))
    if (high == low).any():  # outside the image
        return (rows, columns), np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)
    # Only the window is oversampled: the whole image would cost twenty times as much.
    patch = Image.new("L", tuple(((high - low) * OVERSAMPLING).tolist()), 0)
    pen = ImageDraw.Draw(patch)
    for index, outline in enumerate(outlines):
        points = (outline - complex(*low)) * OVERSAMPLING - (0.5 + 0.5j)  # Pillow's pixel centers are whole numbers
        pen.polygon([(point.real, point.imag) for point in points.tolist()], fill=0 if index else 255)
    cover = np.asarray(patch.reduce(OVERSAMPLING), dtype=np.float32) / 255
    under = image[rows, columns]
    under += cover[..., None] * (color_of(*cover.shape) - under)
    return (rows, columns), cover


def random_color(rng: np.random.Generator, hues: tuple, saturations: tuple, values: tuple) -> np.ndarray:
    """An RGB color `[3]`, 0..1. The ranges are (lowest, highest), hues in degrees."""
    hue, saturation, value = rng.uniform(*hues) % 360 / 360, rng.uniform(*saturations), rng.uniform(*values)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def ramp(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A plane `[H, W]` from -1 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    reach = abs(np.sin(angle)) + abs(np.cos(angle))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle) / reach)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(np.cos(angle) / reach)
    return x + y


def _cloud(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise `[H, W]` within about -1..1 whose bumps are 1/cells of the image wide."""
    grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A texture, float32 `[H, W]`, 0..1: noise of one or several widths, stripes, checks or speckles."""
    kind = rng.integers(5)
    if kind == 0:
        return 0.5 + 0.5 * np.clip(_cloud(rng, height, width, int(rng.integers(3, 12))), -1, 1)
    if kind == 1:
        octaves = sum(_cloud(rng, height, width, cells) / np.float32(cells**0.5) for cells in (4, 8, 16, 32, 64))
        return np.clip(0.5 + 0.5 * octaves, 0, 1)
    if kind == 2:
        phase, waves = rng.uniform(0, 6), rng.uniform(8, 50)
        wave = np.sin(ramp(rng, height, width) * np.float32(waves) + np.float32(phase))
        return 0.5 + 0.5 * (np.clip(wave * 4, -1, 1) if rng.random() < 0.5 else wave)
    if kind == 3:
        cell = rng.uniform(0.05, 0.2) * min(height, width)
        rows, columns = np.arange(height) // cell, np.arange(width) // cell
        return ((rows[:, None] + columns) % 2).astype(np.float32)
    return (rng.random((height, width), dtype=np.float32) < rng.uniform(0.02, 0.3)).astype(np.float32)


def background(rng: np.random.Generator, first: np.ndarray, second: np.ndarray, height: int, width: int) -> np.ndarray:
    """A background `[H, W, 3]` of two colors: flat, a gradient, a texture or both."""
    kind = rng.random()
    if kind < 0.15:
        mix = np.zeros((height, width), dtype=np.float32)
    elif kind < 0.35:
        mix = 0.5 + 0.5 * ramp(rng, height, width)
    elif kind < 0.85:
        mix = pattern(rng, height, width) * np.float32(rng.uniform(0.2, 1.0))
    else:
        mix = (0.5 + 0.5 * ramp(rng, height, width)) * 0.5 + pattern(rng, height, width) * 0.5
    return first + mix[..., None] * (second - first)


def shaded(rng: np.random.Generator, color: np.ndarray, height: int, width: int) -> np.ndarray:
    """The color as a plane `[H, W, 3]` that is lit a little unevenly."""
    light = 1 + np.float32(rng.uniform(0, 0.10)) * ramp(rng, height, width)
    return color * light[..., None]


def to_uint8(image: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """Float `[H, W, 3]`, 0..1, with random noise of at most that deviation, to uint8, rounded to the nearest."""
    image += np.float32(rng.uniform(0.0, noise)) * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
