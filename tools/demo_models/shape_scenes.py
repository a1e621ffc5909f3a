"""Scenes of colored shapes, for the demo CLIPSeg: several plain shapes of named colors on a muted background.

`draw_scene` is a pure function of its arguments: the same seed and size give the same bytes. `present_prompts` and
`absent_prompts` return prompts for a scene, and their true masks.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .drawing import coverage, paint, pattern, ramp, shaded, to_uint8

# name -> hue in degrees, then (lowest, highest) saturation and value. The ranges keep clear of each other and of the
# backgrounds, which stay below MUTED_SATURATION, so that a color's name is never a matter of taste.
COLORS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-9, 7), (0.80, 1.00), (0.70, 0.97)),
    "orange": ((24, 34), (0.85, 1.00), (0.90, 1.00)),
    "yellow": ((50, 60), (0.78, 1.00), (0.88, 1.00)),
    "green": ((105, 145), (0.60, 1.00), (0.42, 0.80)),
    "blue": ((208, 236), (0.70, 1.00), (0.60, 0.97)),
    "purple": ((270, 292), (0.55, 0.90), (0.48, 0.80)),
    "white": ((0, 360), (0.00, 0.05), (0.94, 1.00)),
    "black": ((0, 360), (0.00, 0.40), (0.02, 0.10)),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "ring")

MUTED_SATURATION = 0.35
MUTED_VALUES = (0.30, 0.80)

# Shapes are upright, within this many degrees.
MAX_TILT = 15.0


@dataclass(frozen=True)
class Shape:
    """One visible shape: `mask` is bool `[H, W]`, without the parts that later shapes cover."""

    color: str
    shape: str
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """`image` is uint8 `[H, W, 3]` RGB; `shapes` are in the order in which they were drawn, rearmost first."""

    image: np.ndarray
    shapes: tuple[Shape, ...]

    def mask(self, color: str | None = None, shape: str | None = None) -> np.ndarray:
        """The union, bool `[H, W]`, of all shapes of this color (None: any) and this shape (None: any)."""
        union = np.zeros(self.image.shape[:2], dtype=bool)
        for item in self.shapes:
            if color in (None, item.color) and shape in (None, item.shape):
                union |= item.mask
        return union


def draw_scene(
    seed: int,
    size: tuple[int, int] = (352, 352),
    count: int | None = None,
    radii: tuple[float, float] = (0.11, 0.23),
) -> Scene:
    """Draw a scene of colored shapes.

    Args:
        seed: any integer >= 0. The same seed draws the same scene.
        size: (height, width) in pixels, each at least 64.
        count: how many shapes to try; None for 3 to 6. Shapes that do not fit are skipped.
        radii: (smallest, largest) radius of a shape, as a share of the image's shorter side.
    """
    rng = np.random.default_rng([seed, 1])
    height, width = size
    image = _muted_background(rng, height, width)
    short = min(height, width)
    tries = int(rng.integers(3, 7)) if count is None else count

    spots: list[tuple[float, float, float]] = []
    kinds: list[tuple[str, str]] = []
    shapes: list[Shape] = []
    for _ in range(tries):
        spot = _free_spot(rng, spots, height, width, (radii[0] * short, radii[1] * short))
        if spot is None:
            continue
        spots.append(spot)
        color, shape = _next_kind(rng, kinds)
        kinds.append((color, shape))
        window, cover = coverage(_outlines(rng, shape, spot), height, width)
        paint(image, window, cover, shaded(rng, _sample_color(rng, color), *cover.shape))
        visible = np.zeros((height, width), dtype=bool)
        visible[window] = cover >= 0.5
        for earlier in shapes:
            earlier.mask[visible] = False
        shapes.append(Shape(color, shape, visible))

    image += np.float32(rng.uniform(0.0, 0.012)) * rng.standard_normal(image.shape, dtype=np.float32)
    return Scene(to_uint8(image), tuple(s for s in shapes if s.mask.any()))


def present_prompts(scene: Scene, kinds: Sequence[str] = ("color shape",)) -> dict[str, np.ndarray]:
    """Prompts for what the scene shows: prompt -> its true mask, bool `[H, W]`.

    Args:
        scene: a scene of `draw_scene`.
        kinds: any of "color shape" ("red circle"), "shape" ("circle"), "color" ("red shape") and "background".
    """
    prompts: dict[str, np.ndarray] = {}
    for item in scene.shapes:
        by_kind = {
            "color shape": (f"{item.color} {item.shape}", scene.mask(item.color, item.shape)),
            "shape": (item.shape, scene.mask(shape=item.shape)),
            "color": (f"{item.color} shape", scene.mask(color=item.color)),
            "background": ("background", ~scene.mask()),
        }
        prompts |= dict(by_kind[kind] for kind in kinds)
    return prompts


def absent_prompts(scene: Scene, hard_only: bool = False) -> list[str]:
    """Every "<color> <shape>" of which the scene has none, the hard ones first.

    Hard: the scene has that color in another shape, or that shape in another color.

    Args:
        scene: a scene of `draw_scene`.
        hard_only: omit the others.
    """
    kinds = {(s.color, s.shape) for s in scene.shapes}
    colors = {color for color, _ in kinds}
    shapes = {shape for _, shape in kinds}
    absent = [(c, s) for c in COLORS for s in SHAPES if (c, s) not in kinds]
    hard = [(c, s) for c, s in absent if c in colors or s in shapes]
    easy = [] if hard_only else [pair for pair in absent if pair not in set(hard)]
    return [f"{color} {shape}" for color, shape in hard + easy]


# How shapes are spots and drawn


def _next_kind(rng: np.random.Generator, kinds: list[tuple[str, str]]) -> tuple[str, str]:
    """A color and a shape, often half like an earlier one: those are the hard cases."""
    color = str(rng.choice(list(COLORS)))
    shape = str(rng.choice(SHAPES))
    if kinds:
        earlier = kinds[int(rng.integers(len(kinds)))]
        likeness = rng.random()
        if likeness < 0.3:
            color = earlier[0]
        elif likeness < 0.6:
            shape = earlier[1]
    return color, shape


def _free_spot(
    rng: np.random.Generator,
    spots: list[tuple[float, float, float]],
    height: int,
    width: int,
    radii: tuple[float, float],
) -> tuple[float, float, float] | None:
    """A circle (x, y, radius), inside the image, that hardly overlaps the earlier ones; None if there is no room."""
    for attempt in range(40):
        # Large ones become ever less likely to fit, so later attempts ask for less.
        radius = rng.uniform(radii[0], radii[1] if attempt < 20 else (radii[0] + radii[1]) / 2)
        x = rng.uniform(radius + 1, width - radius - 1)
        y = rng.uniform(radius + 1, height - radius - 1)
        if all(np.hypot(x - px, y - py) > 0.95 * (radius + pr) for px, py, pr in spots):
            return float(x), float(y), float(radius)
    return None


def _regular(corners: int, phase: float, radii: Sequence[float] = (1.0,)) -> np.ndarray:
    """Corners `[N, 2]` of a closed outline around the origin, taking the radii in turn."""
    angles = phase + np.arange(corners) * (2 * np.pi / corners)
    lengths = np.resize(np.asarray(radii, dtype=float), corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]


def _outlines(rng: np.random.Generator, shape: str, spot: tuple[float, float, float]) -> list[np.ndarray]:
    """Outlines `[N, 2]` (x, y) in pixels of a shape inside the circle `spot`; the second, if any, is a hole."""
    x, y, radius = spot
    tilt = np.deg2rad(rng.uniform(-MAX_TILT, MAX_TILT))
    up = tilt - np.pi / 2  # y grows downwards
    if shape == "circle":
        unit = [_regular(96, up)]
    elif shape == "ring":
        unit = [_regular(96, up), _regular(96, up, (rng.uniform(0.48, 0.62),))]
    elif shape == "square":
        unit = [_regular(4, up + np.pi / 4)]
    elif shape == "triangle":
        unit = [_regular(3, up)]
    elif shape == "star":
        unit = [_regular(10, up, (1.0, rng.uniform(0.38, 0.46)))]
    elif shape == "cross":
        arm = rng.uniform(0.24, 0.30)  # half the width of an arm, as a share of its length
        corners = [(1, arm), (arm, arm), (arm, 1), (-arm, 1), (-arm, arm), (-1, arm)]
        corners = np.array(corners + [(-cx, -cy) for cx, cy in corners])
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        unit = [corners @ turn / np.hypot(1, arm)]
    else:
        raise ValueError(f"shape is {shape!r}; use one of {', '.join(SHAPES)}.")
    return [outline * radius + (x, y) for outline in unit]


# Colors


def _sample_color(rng: np.random.Generator, name: str) -> np.ndarray:
    """One RGB color `[3]`, 0..1, of this name."""
    (hue_low, hue_high), saturations, values = COLORS[name]
    hue = rng.uniform(hue_low, hue_high) % 360 / 360
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(*saturations), rng.uniform(*values)), dtype=np.float32)


def _muted_color(rng: np.random.Generator) -> np.ndarray:
    hue, saturation, value = rng.random(), rng.uniform(0, MUTED_SATURATION), rng.uniform(*MUTED_VALUES)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def _muted_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A background, float32 `[H, W, 3]`, 0..1: flat, a gradient, a texture or both, always of muted colors."""
    first, second = _muted_color(rng), _muted_color(rng)
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
