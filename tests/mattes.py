"""Composites with a known alpha, drawn from a seed: hair, fur, smoke, a net, thin wires, hard edges.

Each has a coarse mask such as a segmentation network gives: as wide as the subject, with blurred edges.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

SIDE = 512  # pixels
_FINER = 4  # strokes are drawn at this many times the size
_COARSER = 6  # a coarse mask has one cell for this many pixels
_WIDTH = SIDE * _FINER


def draw_composites(seed: int = 0) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield name, image ``[H,W,3]``, true alpha ``[H,W]`` and coarse mask ``[H,W]``, all 8 bits."""
    for number, (name, draw) in enumerate(_SUBJECTS.items()):
        rng = np.random.default_rng((seed, number))
        alpha = draw(rng)
        subject, backdrop = _texture(rng, 0.15, 0.6), _texture(rng, 0.45, 0.9)
        image = backdrop + alpha[..., None] * (subject - backdrop)
        yield name, *((255 * each.clip(0, 1)).round().astype(np.uint8) for each in (image, alpha, _coarsen(alpha)))


def _texture(rng: np.random.Generator, darkest: float, lightest: float) -> np.ndarray:
    """Colors that vary smoothly, with a little noise, ``[H,W,3]``."""
    shades = gaussian_filter(rng.normal(size=(SIDE, SIDE, 3)), (SIDE / 10, SIDE / 10, 0))
    shades = (shades - shades.min()) / (shades.max() - shades.min())
    return darkest + (lightest - darkest) * shades + rng.normal(0, 0.01, shades.shape)


def _coarsen(alpha: np.ndarray) -> np.ndarray:
    """Select every cell of which more than about a fifth is covered."""
    side = SIDE // _COARSER
    cells = np.array(Image.fromarray(alpha.astype(np.float32)).resize((side, side), Image.Resampling.BOX))
    sure = Image.fromarray(np.clip((cells - 0.1) / 0.25, 0, 1).astype(np.float32))
    return np.array(sure.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


class _Canvas(ImageDraw.ImageDraw):
    """Antialiased drawing in units of the image's side."""

    def __init__(self) -> None:
        self.image = Image.new("L", (_WIDTH, _WIDTH))
        super().__init__(self.image)

    def stroke(self, points: np.ndarray, pixels: float) -> None:
        self.line([tuple(each) for each in points * _WIDTH], 255, max(1, round(pixels * _FINER)), joint="curve")

    def oval(self, x: float, y: float, width: float, height: float) -> None:
        self.ellipse([_WIDTH * each for each in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)], 255)

    def alpha(self) -> np.ndarray:
        return np.array(self.image.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255


def _draw_strands(rng: np.random.Generator, count: int, length: float, bend: float, pixels: float) -> np.ndarray:
    """A head with strands that leave it in all directions and bend."""
    canvas = _Canvas()
    canvas.oval(0.5, 0.55, 0.42, 0.5)
    steps = np.linspace(0, 1, 12)
    for start in rng.uniform(0, 2 * np.pi, count):
        angle = start + bend * rng.normal() * steps
        reach = length * rng.uniform(0.3, 1) * steps
        root = np.array((0.5 + 0.2 * np.cos(start), 0.55 + 0.24 * np.sin(start)))
        canvas.stroke(root + reach[:, None] * np.stack((np.cos(angle), np.sin(angle)), axis=-1), pixels)
    return canvas.alpha()


def _draw_smoke(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    puffs = sum(gaussian_filter(rng.normal(size=(SIDE, SIDE)), size) * size for size in (6, 12, 24, 48))
    plume = 1.6 - np.abs(x - 0.5 - 0.1 * np.sin(5 * y)) / (0.1 + 0.12 * (1 - y)) + 0.7 * puffs
    return np.clip(plume, 0, 1) * np.clip(6 * np.minimum(y, 1 - y), 0, 1)


def _draw_net(rng: np.random.Generator) -> np.ndarray:
    """A frame with a net of strings."""
    canvas, along = _Canvas(), np.array((0.12, 0.5, 0.88))
    canvas.rectangle((0.1 * _WIDTH, 0.1 * _WIDTH, 0.9 * _WIDTH, 0.9 * _WIDTH), outline=255, width=36 * _FINER)
    for place in np.linspace(0.15, 0.85, 12):
        sag = place + 0.01 * rng.normal() + np.array((0, 0.01, 0))
        canvas.stroke(np.stack((along, sag), axis=-1), 2.5)
        canvas.stroke(np.stack((sag, along), axis=-1), 2.5)
    return canvas.alpha()


def _draw_wires(rng: np.random.Generator) -> np.ndarray:
    """Wires between two posts."""
    canvas, x = _Canvas(), np.linspace(0.12, 0.88, 30)
    for post in (0.12, 0.88):
        canvas.rectangle(((post - 0.06) * _WIDTH, 0.1 * _WIDTH, (post + 0.06) * _WIDTH, _WIDTH), 255)
    for top in np.linspace(0.15, 0.8, 6) + 0.02 * rng.normal(size=6):
        canvas.stroke(np.stack((x, top + 0.1 * (1 - ((x - 0.5) / 0.38) ** 2)), axis=-1), 3)
    return canvas.alpha()


def _draw_hard_edges(rng: np.random.Generator) -> np.ndarray:
    """A star and a disk."""
    canvas, angles = _Canvas(), np.pi / 5 * np.arange(10) + rng.uniform(0, 1)
    radii = np.where(np.arange(10) % 2, 0.15, 0.34)[:, None]
    points = np.array((0.38, 0.4)) + radii * np.stack((np.cos(angles), np.sin(angles)), axis=-1)
    canvas.polygon([tuple(each) for each in points * _WIDTH], 255)
    canvas.oval(0.75, 0.77, 0.3, 0.3)
    return canvas.alpha()


_SUBJECTS = {
    "drawn hair": lambda rng: _draw_strands(rng, 260, 0.2, 0.8, 1.3),
    "fur": lambda rng: _draw_strands(rng, 1500, 0.09, 0.4, 1),
    "smoke": _draw_smoke,
    "net": _draw_net,
    "thin wires": _draw_wires,
    "hard edges": _draw_hard_edges,
}
