"""Scenes of colored shapes, for the demo CLIPSeg: several plain shapes of named colors on a muted background.

`draw_scene` is a pure function of its arguments: the same seed and size give the same bytes. `present_prompts` and
`absent_prompts` return prompts for a scene, and their true masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .drawing import background, directions, draw_shape, random_color, shaded, to_uint8

# name -> (lowest, highest) hue in degrees, saturation and value. The ranges keep clear of each other and of the
# backgrounds' MUTED ones, so that a color's name is never a matter of taste.
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
MUTED = (0, 360), (0, 0.35), (0.30, 0.80)
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "ring")
MAX_TILT = 15.0  # degrees from upright


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
    image = background(rng, random_color(rng, *MUTED), random_color(rng, *MUTED), *size)
    spots: list[tuple[complex, float]] = []
    kinds: list[tuple[str, str]] = []
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(3, 7)) if count is None else count):
        spot = _find_spot(rng, spots, size, radii)
        if spot is None:
            continue
        spots.append(spot)
        color, shape = _choose_kind(rng, kinds)
        kinds.append((color, shape))
        center, radius = spot
        outlines = [outline * radius + center for outline in _outlines(rng, shape)]
        paint = lambda *side, ranges=COLORS[color]: shaded(rng, random_color(rng, *ranges), *side)  # noqa: E731
        window, cover = draw_shape(image, outlines, paint)
        visible = np.zeros(size, dtype=bool)
        visible[window] = cover >= 0.5
        for earlier in shapes:
            earlier.mask[visible] = False
        shapes.append(Shape(color, shape, visible))
    return Scene(to_uint8(image, rng, 0.012), tuple(shape for shape in shapes if shape.mask.any()))


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


def absent_prompts(scene: Scene) -> list[str]:
    """Every "<color> <shape>" of which the scene has none; first those whose color or shape another shape has."""
    kinds = {(item.color, item.shape) for item in scene.shapes}
    colors, shapes = {color for color, _ in kinds}, {shape for _, shape in kinds}
    absent = [(color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in kinds]
    absent.sort(key=lambda kind: kind[0] not in colors and kind[1] not in shapes)
    return [f"{color} {shape}" for color, shape in absent]


def _choose_kind(rng: np.random.Generator, kinds: list[tuple[str, str]]) -> tuple[str, str]:
    """A color and a shape, often half like an earlier one: those are the hard cases."""
    color, shape = str(rng.choice(list(COLORS))), str(rng.choice(SHAPES))
    if kinds:
        earlier = kinds[int(rng.integers(len(kinds)))]
        likeness = rng.random()
        if likeness < 0.3:
            color = earlier[0]
        elif likeness < 0.6:
            shape = earlier[1]
    return color, shape


def _find_spot(
    rng: np.random.Generator, spots: list[tuple[complex, float]], size: tuple[int, int], radii: tuple[float, float]
) -> tuple[complex, float] | None:
    """A center and radius, inside the image, that hardly overlaps the earlier ones; None if there is no room."""
    height, width = size
    low, high = (radius * min(size) for radius in radii)
    for attempt in range(40):
        # Large ones become ever less likely to fit, so later attempts ask for less.
        radius = rng.uniform(low, high if attempt < 20 else (low + high) / 2)
        center = complex(rng.uniform(radius + 1, width - radius - 1), rng.uniform(radius + 1, height - radius - 1))
        if all(abs(center - other) > 0.95 * (radius + reach) for other, reach in spots):
            return center, radius
    return None


def _outlines(rng: np.random.Generator, shape: str) -> list[np.ndarray]:
    """Outlines of a shape inside the unit circle, a little tilted; the second, if any, is a hole."""
    tilt = np.deg2rad(rng.uniform(-MAX_TILT, MAX_TILT))
    up = tilt - np.pi / 2  # y grows downwards
    if shape == "ring":
        return [directions(96, up), directions(96, up) * rng.uniform(0.48, 0.62)]
    if shape == "star":
        return [directions(10, up) * np.resize([1.0, rng.uniform(0.38, 0.46)], 10)]
    if shape == "cross":
        arm = rng.uniform(0.24, 0.30)  # half the width of an arm, as a share of its length
        quarter = np.array([1 + arm * 1j, arm + arm * 1j, arm + 1j]) / np.hypot(1, arm)
        return [np.concatenate([quarter * turn for turn in (1, 1j, -1, -1j)]) * np.exp(1j * tilt)]
    corners, phase = {"circle": (96, up), "square": (4, up + np.pi / 4), "triangle": (3, up)}[shape]
    return [directions(corners, phase)]
