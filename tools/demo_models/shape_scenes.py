"""Scenes of coloured shapes, for the demo CLIPSeg: several plain shapes of named colours on a muted background.

`draw_scene` is a pure function of its arguments: the same seed and size give the same bytes. `present_prompts` and
`absent_prompts` say what may be asked of a scene, and what is right.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .drawing import coverage, paint, pattern, ramp, shaded, to_uint8

# name -> hue in degrees, then (lowest, highest) saturation and value. The ranges keep clear of each other and of the
# backgrounds, which stay below MUTED_SATURATION, so that a colour's name is never a matter of taste.
COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
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

# Shapes stand upright, but for this many degrees either way.
MOST_TILT = 15.0


@dataclass(frozen=True)
class Shape:
    """One shape as it is seen: `mask` is bool `[H, W]`, without the parts that a later shape covers."""

    colour: str
    shape: str
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """`image` is uint8 `[H, W, 3]` RGB; `shapes` are in the order in which they were drawn, rearmost first."""

    image: np.ndarray
    shapes: tuple[Shape, ...]

    def mask(self, colour: str | None = None, shape: str | None = None) -> np.ndarray:
        """The union, bool `[H, W]`, of all shapes of this colour (None: any) and this shape (None: any)."""
        union = np.zeros(self.image.shape[:2], dtype=bool)
        for item in self.shapes:
            if colour in (None, item.colour) and shape in (None, item.shape):
                union |= item.mask
        return union


def draw_scene(
    seed: int,
    size: tuple[int, int] = (352, 352),
    count: int | None = None,
    radii: tuple[float, float] = (0.11, 0.23),
) -> Scene:
    """Draw a scene of coloured shapes.

    Args:
        seed: any integer >= 0. The same seed draws the same scene.
        size: (height, width) in pixels, each at least 64.
        count: how many shapes to try for; None takes 3 to 6. Fewer are drawn where they do not fit.
        radii: (smallest, largest) radius of a shape, as a share of the image's shorter side.
    """
    rng = np.random.default_rng([seed, 1])
    height, width = size
    image = _muted_background(rng, height, width)
    short = min(height, width)
    wanted = int(rng.integers(3, 7)) if count is None else count

    placed: list[tuple[float, float, float]] = []
    kinds: list[tuple[str, str]] = []
    shapes: list[Shape] = []
    for _ in range(wanted):
        spot = _free_spot(rng, placed, height, width, (radii[0] * short, radii[1] * short))
        if spot is None:
            continue
        placed.append(spot)
        colour, shape = _next_kind(rng, kinds)
        kinds.append((colour, shape))
        window, cover = coverage(_outlines(rng, shape, spot), height, width)
        paint(image, window, cover, shaded(rng, _sample_colour(rng, colour), *cover.shape))
        seen = np.zeros((height, width), dtype=bool)
        seen[window] = cover >= 0.5
        for earlier in shapes:
            earlier.mask[seen] = False
        shapes.append(Shape(colour, shape, seen))

    image += np.float32(rng.uniform(0.0, 0.012)) * rng.standard_normal(image.shape, dtype=np.float32)
    return Scene(to_uint8(image), tuple(s for s in shapes if s.mask.any()))


def present_prompts(scene: Scene, kinds: Sequence[str] = ("colour shape",)) -> dict[str, np.ndarray]:
    """Prompts for what the scene shows: prompt -> its true mask, bool `[H, W]`.

    Args:
        scene: a scene of `draw_scene`.
        kinds: any of "colour shape" ("red circle"), "shape" ("circle"), "colour" ("red shape") and "background".
    """
    prompts: dict[str, np.ndarray] = {}
    for item in scene.shapes:
        by_kind = {
            "colour shape": (f"{item.colour} {item.shape}", scene.mask(item.colour, item.shape)),
            "shape": (item.shape, scene.mask(shape=item.shape)),
            "colour": (f"{item.colour} shape", scene.mask(colour=item.colour)),
            "background": ("background", ~scene.mask()),
        }
        prompts |= dict(by_kind[kind] for kind in kinds)
    return prompts


def absent_prompts(scene: Scene, hard_only: bool = False) -> list[str]:
    """Every "<colour> <shape>" of which the scene has none, the hard ones first.

    Hard: the scene has that colour in another shape, or that shape in another colour.

    Args:
        scene: a scene of `draw_scene`.
        hard_only: leave the others out.
    """
    there = {(s.colour, s.shape) for s in scene.shapes}
    colours = {colour for colour, _ in there}
    shapes = {shape for _, shape in there}
    absent = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in there]
    hard = [(c, s) for c, s in absent if c in colours or s in shapes]
    easy = [] if hard_only else [pair for pair in absent if pair not in set(hard)]
    return [f"{colour} {shape}" for colour, shape in hard + easy]


# How shapes are placed and drawn


def _next_kind(rng: np.random.Generator, kinds: list[tuple[str, str]]) -> tuple[str, str]:
    """A colour and a shape, often half like an earlier one: those are the hard cases."""
    colour = str(rng.choice(list(COLOURS)))
    shape = str(rng.choice(SHAPES))
    if kinds:
        earlier = kinds[int(rng.integers(len(kinds)))]
        likeness = rng.random()
        if likeness < 0.3:
            colour = earlier[0]
        elif likeness < 0.6:
            shape = earlier[1]
    return colour, shape


def _free_spot(
    rng: np.random.Generator,
    placed: list[tuple[float, float, float]],
    height: int,
    width: int,
    radii: tuple[float, float],
) -> tuple[float, float, float] | None:
    """A circle (x, y, radius), inside the image, that hardly overlaps the placed ones; None if there is no room."""
    for attempt in range(40):
        # Large ones become ever less likely to fit, so later attempts ask for less.
        radius = rng.uniform(radii[0], radii[1] if attempt < 20 else (radii[0] + radii[1]) / 2)
        x = rng.uniform(radius + 1, width - radius - 1)
        y = rng.uniform(radius + 1, height - radius - 1)
        if all(np.hypot(x - px, y - py) > 0.95 * (radius + pr) for px, py, pr in placed):
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
    tilt = np.deg2rad(rng.uniform(-MOST_TILT, MOST_TILT))
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


# Colours


def _sample_colour(rng: np.random.Generator, name: str) -> np.ndarray:
    """One RGB colour `[3]`, 0..1, that goes by this name."""
    (hue_low, hue_high), saturations, values = COLOURS[name]
    hue = rng.uniform(hue_low, hue_high) % 360 / 360
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(*saturations), rng.uniform(*values)), dtype=np.float32)


def _muted_colour(rng: np.random.Generator) -> np.ndarray:
    hue, saturation, value = rng.random(), rng.uniform(0, MUTED_SATURATION), rng.uniform(*MUTED_VALUES)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def _muted_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A background, float32 `[H, W, 3]`, 0..1: flat, a gradient, a texture or both, always of muted colours."""
    first, second = _muted_colour(rng), _muted_colour(rng)
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
