"""Draws the pictures on which the demo models are trained and tested.

Two kinds of scene, both a pure function of a seed and a size (the same seed and size give the same bytes):

- `draw_scene`: several plain shapes of named colours on a muted background, with the true mask of each. The demo
  CLIPSeg is asked for them by name: `present_prompts` and `absent_prompts` say what may be asked and what is right.
- `draw_salient_scene`: one or two composed objects that stand out from a textured background, with their mask. For the
  demo salient-object network.

Needs numpy and Pillow only, so tests can draw a scene wherever the pack itself runs. Sizes are `(height, width)` in
pixels, images are uint8 `[H, W, 3]` RGB, masks are bool `[H, W]`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

# Models are trained on smaller seeds. Whoever measures or tests one draws its scenes from this seed on.
HELD_OUT = 1_000_000

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

# Shapes are filled at this many times the picture's resolution and averaged down, which is what antialiases them.
OVERSAMPLING = 4


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
    """Draws a scene of coloured shapes.

    Args:
        seed: any integer >= 0. The same seed draws the same scene.
        size: (height, width) in pixels, each at least 64.
        count: how many shapes to try for; None takes 3 to 6. Fewer are drawn where they do not fit.
        radii: (smallest, largest) radius of a shape, as a share of the picture's shorter side.
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
        window, cover = _coverage(_outlines(rng, shape, spot), height, width)
        _paint(image, window, cover, _shaded(rng, _sample_colour(rng, colour), *cover.shape))
        seen = np.zeros((height, width), dtype=bool)
        seen[window] = cover >= 0.5
        for earlier in shapes:
            earlier.mask[seen] = False
        shapes.append(Shape(colour, shape, seen))

    image += np.float32(rng.uniform(0.0, 0.012)) * rng.standard_normal(image.shape, dtype=np.float32)
    return Scene(_to_uint8(image), tuple(s for s in shapes if s.mask.any()))


def present_prompts(scene: Scene, kinds: Sequence[str] = ("colour shape",)) -> dict[str, np.ndarray]:
    """What may be asked for and is there: prompt -> its true mask, bool `[H, W]`.

    Args:
        scene: a scene of `draw_scene`.
        kinds: any of "colour shape" ("red circle"), "shape" ("circle"), "colour" ("red shape") and "background".
    """
    prompts: dict[str, np.ndarray] = {}
    for item in scene.shapes:
        for kind in kinds:
            if kind == "colour shape":
                prompts[f"{item.colour} {item.shape}"] = scene.mask(item.colour, item.shape)
            elif kind == "shape":
                prompts[item.shape] = scene.mask(shape=item.shape)
            elif kind == "colour":
                prompts[f"{item.colour} shape"] = scene.mask(colour=item.colour)
            elif kind == "background":
                prompts["background"] = ~scene.mask()
            else:
                raise ValueError(f"kinds holds {kind!r}; use 'colour shape', 'shape', 'colour' or 'background'.")
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


# --- salient objects ------------------------------------------------------------------------------------------------


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
    """Draws one or two objects that stand out: a figure from the chest up, a creature with limbs, a plant, or a thing.

    Args:
        seed: any integer >= 0. The same seed and size draw the same scene.
        size: (height, width) in pixels, each at least 64.
    """
    rng = np.random.default_rng([seed, 3])
    height, width = size
    short = min(height, width)
    palette = [_any_colour(rng) for _ in range(3)]
    image = _busy_background(rng, palette, height, width)
    alpha = np.zeros((height, width), dtype=np.float32)

    makers = (_figure, _creature, _plant, _thing, _thing)
    several = rng.random() < 0.25
    for index in range(2 if several else 1):
        maker = makers[int(rng.integers(len(makers)))]
        middle = 0.5 if not several else 0.28 + 0.44 * index
        x = (middle + rng.uniform(-0.08, 0.08)) * width
        y = (0.5 + rng.uniform(-0.08, 0.08)) * height
        reach = rng.uniform(0.20, 0.28 if several else 0.42) * short
        for outlines in maker(rng, np.array([x, y]), reach, height):
            window, cover = _coverage(outlines, height, width)
            if cover.size:
                _paint(image, window, cover, _own_texture(rng, palette, *cover.shape))
                alpha[window] = np.maximum(alpha[window], cover)

    image += np.float32(rng.uniform(0.0, 0.03)) * rng.standard_normal(image.shape, dtype=np.float32)
    return SalientScene(_to_uint8(image), alpha)


# A maker takes the object's middle (x, y), its reach in pixels and the picture's height, and gives the parts from back
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
    """Hair, shoulders, neck, head and face, cut off by the picture's lower edge."""
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
        thick = rng.uniform(0.08, 0.2) * reach
        parts.append([_limb(hip, foot, (thick, thick * rng.uniform(0.5, 1.0)))])
    tail = _beside(middle, -side * 0.8 * body[0], 0.0)
    parts.append([_limb(tail, tail + _towards(rng.uniform(-1, 1), -side * 0.6 * reach), (0.1 * reach, 0.05 * reach))])
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
        parts.append([_limb(pot, tip, (0.08 * reach, 0.05 * reach))])
        for _ in range(int(rng.integers(0, 3))):
            at = pot + (tip - pot) * rng.uniform(0.3, 0.9)
            out = _towards(angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2), reach * rng.uniform(0.2, 0.45))
            parts.append([_limb(at, at + out, (0.05 * reach, rng.uniform(0.1, 0.2) * reach))])
        if rng.random() < 0.6:
            size = reach * rng.uniform(0.15, 0.3)
            parts.append([_blob(rng, tip, (size, size), 0.3)])
    width = reach * rng.uniform(0.3, 0.5)
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


def _any_colour(rng: np.random.Generator) -> np.ndarray:
    hue, saturation, value = rng.random(), rng.beta(1.2, 1.5), rng.uniform(0.05, 1.0)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def _own_texture(rng: np.random.Generator, palette: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """A plane `[H, W, 3]` for a part of an object, in a colour unlike those of the background."""
    choices = [_any_colour(rng) for _ in range(5)]
    colour = max(choices, key=lambda choice: min(float(np.abs(choice - ground).sum()) for ground in palette))
    if rng.random() < 0.4:
        return _shaded(rng, colour, height, width)
    mix = _pattern(rng, height, width) * np.float32(rng.uniform(0.1, 0.8))
    return colour + mix[..., None] * np.float32(0.5) * (_any_colour(rng) - colour)


def _busy_background(rng: np.random.Generator, palette: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """A background float32 `[H, W, 3]`, 0..1, of three colours: texture, perhaps a floor, and faint small things."""
    first, second, third = palette
    mix = 0.5 + 0.5 * _ramp(rng, height, width) if rng.random() < 0.3 else _pattern(rng, height, width)
    image = first + (mix * np.float32(rng.uniform(0.1, 1.0)))[..., None] * (second - first)
    if rng.random() < 0.4:
        horizon = int(height * rng.uniform(0.45, 0.9))
        depth = height - horizon
        floor = _pattern(rng, depth, width) * np.float32(rng.uniform(0.0, 0.6))
        image[horizon:] = third + floor[..., None] * (first - third)
    for _ in range(int(rng.integers(0, 12))):
        spot = rng.uniform(0, 1, 2) * (width, height)
        size = rng.uniform(0.02, 0.10, 2) * min(height, width)
        window, cover = _coverage([_blob(rng, spot, tuple(size), 0.3)], height, width)
        if cover.size:
            _paint(image, window, cover * np.float32(rng.uniform(0.1, 0.5)), third + np.zeros((*cover.shape, 3)))
    return image


# --- shapes ---------------------------------------------------------------------------------------------------------


def _next_kind(rng: np.random.Generator, kinds: list[tuple[str, str]]) -> tuple[str, str]:
    """A colour and a shape, often half like one that is there already: those are the cases that are hard to tell."""
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
    """A circle (x, y, radius), inside the picture, that hardly overlaps the placed ones; None where none is found."""
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


def _coverage(outlines: Sequence[np.ndarray], height: int, width: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """How much of each pixel lies inside the first outline and outside the others.

    Returns the window of the picture that holds the outline, (rows, columns), and the cover there, float32, 0..1.
    """
    low = np.clip(np.floor(outlines[0].min(axis=0)).astype(int) - 1, 0, (width, height))
    high = np.clip(np.ceil(outlines[0].max(axis=0)).astype(int) + 1, 0, (width, height))
    high = np.maximum(low, high)
    columns, rows = (slice(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True))
    if (high == low).any():  # outside the picture
        return (rows, columns), np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)
    # Only the window is oversampled: the whole picture would cost twenty times as much.
    patch = Image.new("L", tuple(((high - low) * OVERSAMPLING).tolist()), 0)
    pen = ImageDraw.Draw(patch)
    for index, outline in enumerate(outlines):
        points = (outline - low) * OVERSAMPLING - 0.5  # Pillow puts pixel centres at whole numbers
        pen.polygon([tuple(point) for point in points.tolist()], fill=0 if index else 255)
    return (rows, columns), np.asarray(patch.reduce(OVERSAMPLING), dtype=np.float32) / 255


# --- paint ----------------------------------------------------------------------------------------------------------


def _sample_colour(rng: np.random.Generator, name: str) -> np.ndarray:
    """One RGB colour `[3]`, 0..1, that goes by this name."""
    (hue_low, hue_high), saturations, values = COLOURS[name]
    hue = rng.uniform(hue_low, hue_high) % 360 / 360
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(*saturations), rng.uniform(*values)), dtype=np.float32)


def _shaded(rng: np.random.Generator, colour: np.ndarray, height: int, width: int) -> np.ndarray:
    """The colour as a plane `[H, W, 3]` that is lit a little unevenly."""
    light = 1 + np.float32(rng.uniform(0, 0.10)) * _ramp(rng, height, width)
    return colour * light[..., None]


def _paint(image: np.ndarray, window: tuple[slice, slice], cover: np.ndarray, paint: np.ndarray) -> None:
    """Lays `paint` over a window of `image`, in place, where `cover` is 1."""
    under = image[window]
    under += cover[..., None] * (paint - under)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    """Float `[H, W, 3]`, 0..1, to uint8, rounded to the nearest."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


# --- backgrounds ----------------------------------------------------------------------------------------------------


def _muted_colour(rng: np.random.Generator) -> np.ndarray:
    hue, saturation, value = rng.random(), rng.uniform(0, MUTED_SATURATION), rng.uniform(*MUTED_VALUES)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def _ramp(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A plane `[H, W]` from -1 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    reach = abs(np.sin(angle)) + abs(np.cos(angle))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle) / reach)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(np.cos(angle) / reach)
    return x + y


def _cloud(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise `[H, W]` within about -1..1 whose bumps are 1/cells of the picture wide."""
    grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def _pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A texture, float32 `[H, W]`, 0..1: noise of one or several widths, stripes, checks or speckles."""
    kind = rng.integers(5)
    if kind == 0:
        return 0.5 + 0.5 * np.clip(_cloud(rng, height, width, int(rng.integers(3, 12))), -1, 1)
    if kind == 1:
        octaves = sum(_cloud(rng, height, width, cells) / np.float32(cells**0.5) for cells in (4, 8, 16, 32, 64))
        return np.clip(0.5 + 0.5 * octaves, 0, 1)
    if kind == 2:
        phase, waves = rng.uniform(0, 6), rng.uniform(8, 50)
        wave = np.sin(_ramp(rng, height, width) * np.float32(waves) + np.float32(phase))
        return 0.5 + 0.5 * (np.clip(wave * 4, -1, 1) if rng.random() < 0.5 else wave)
    if kind == 3:
        cell = rng.uniform(0.05, 0.2) * min(height, width)
        rows, columns = np.arange(height) // cell, np.arange(width) // cell
        return ((rows[:, None] + columns) % 2).astype(np.float32)
    return (rng.random((height, width), dtype=np.float32) < rng.uniform(0.02, 0.3)).astype(np.float32)


def _muted_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A background, float32 `[H, W, 3]`, 0..1: flat, a gradient, a texture or both, always of muted colours."""
    first, second = _muted_colour(rng), _muted_colour(rng)
    kind = rng.random()
    if kind < 0.15:
        mix = np.zeros((height, width), dtype=np.float32)
    elif kind < 0.35:
        mix = 0.5 + 0.5 * _ramp(rng, height, width)
    elif kind < 0.85:
        mix = _pattern(rng, height, width) * np.float32(rng.uniform(0.2, 1.0))
    else:
        mix = (0.5 + 0.5 * _ramp(rng, height, width)) * 0.5 + _pattern(rng, height, width) * 0.5
    return first + mix[..., None] * (second - first)
