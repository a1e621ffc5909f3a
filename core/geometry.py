"""Boxes, crop regions and sampling sizes, in whole pixels.

Saved workflows depend on crop regions (`compute_crop_region`), and on sampling sizes (`fit_sampling_frame`) that the
VAE accepts unchanged. Neither may change by a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .checks import check_whole_number, describe
from .errors import InputError

if TYPE_CHECKING:
    import torch


class Sides(NamedTuple):
    """The four sides of a crop, each true or false for something."""

    left: bool = False
    top: bool = False
    right: bool = False
    bottom: bool = False


NO_SIDES = Sides()


@dataclass(frozen=True)
class Box:
    """A rectangle of at least one pixel: columns ``x1 <= x < x2``, rows ``y1 <= y < y2``.

    Raises:
        InputError: A side is not a whole number of 0 or more, or the box is empty.
    """

    x1: int
    y1: int
    x2: int
    y2: int

    def __post_init__(self) -> None:
        for name in ("x1", "y1", "x2", "y2"):
            side = getattr(self, name)
            if type(side) is not int or side < 0:  # skip the slower check for valid values: there may be many boxes
                object.__setattr__(self, name, check_whole_number(side, name, low=0))
        if self.x1 >= self.x2 or self.y1 >= self.y2:
            raise InputError(
                f"a box from {describe((self.x1, self.y1))} to {describe((self.x2, self.y2))} has no pixel in it",
                "Its right side must lie right of its left one, its bottom below its top",
            )

    def __iter__(self) -> Iterator[int]:
        return iter((self.x1, self.y1, self.x2, self.y2))

    @property
    def width(self) -> int:
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        return self.y2 - self.y1

    def intersection(self, other: Box) -> Box | None:
        """What both have in common, None where that is nothing."""
        if not self.overlaps(other):
            return None
        return Box(max(self.x1, other.x1), max(self.y1, other.y1), min(self.x2, other.x2), min(self.y2, other.y2))

    def overlaps(self, other: Box) -> bool:
        """Whether they have a pixel in common."""
        return self.x1 < other.x2 and other.x1 < self.x2 and self.y1 < other.y2 and other.y1 < self.y2

    def expand(self, pixels: int, within: Box) -> Box:
        """Larger by ``pixels`` on every side, cut off at ``within``, which it must touch."""
        larger = Box(max(0, self.x1 - pixels), max(0, self.y1 - pixels), self.x2 + pixels, self.y2 + pixels)
        return larger.intersection(within) or self

    def relative_to(self, outer: Box) -> Box:
        """The same rectangle in coordinates whose origin is ``outer``'s corner; it must lie inside ``outer``."""
        return Box(self.x1 - outer.x1, self.y1 - outer.y1, self.x2 - outer.x1, self.y2 - outer.y1)

    def crop(self, batch: torch.Tensor) -> torch.Tensor:
        """These pixels of an image ``[B,H,W,C]`` or a mask ``[B,H,W]``, a view."""
        return batch[:, self.y1 : self.y2, self.x1 : self.x2]

    def inner_sides(self, picture: Box) -> Sides:
        """Which of its sides are not the picture's own."""
        return Sides(
            left=self.x1 > picture.x1, top=self.y1 > picture.y1, right=self.x2 < picture.x2, bottom=self.y2 < picture.y2
        )


def compute_crop_region(bbox: Box, crop_factor: float, width: int, height: int) -> Box:
    """The box around ``bbox`` that is ``crop_factor`` times as wide and high, moved inside a picture of that size.

    Cuts towards 0 where the earlier node did, so that saved workflows keep their crops.
    """
    x1, x2 = _crop_side(bbox.x1, bbox.x2, crop_factor, width)
    y1, y2 = _crop_side(bbox.y1, bbox.y2, crop_factor, height)
    return Box(x1, y1, x2, y2)


def _crop_side(start: int, stop: int, factor: float, limit: int) -> tuple[int, int]:
    length = min((stop - start) * factor, 4.0 * limit)  # larger lengths give the same crop, and infinity would fail
    first = int(start + (stop - start) / 2 - length / 2)
    if first < 0:
        return 0, int(min(limit, length))
    if first + length > limit:
        return int(max(0, limit - length)), limit
    return first, int(min(limit, first + length))


@dataclass(frozen=True)
class SamplingFrame:
    """How a region is shown to the model.

    Attributes:
        window: What is cut out of the picture: the crop region, or a little more (see `fit_sampling_frame`).
        width, height: The size it is sampled at, multiples of what the VAE needs.
    """

    window: Box
    width: int
    height: int


def fit_sampling_frame(
    bbox: Box, crop: Box, picture: Box, guide_size: float, guide_size_for: bool, max_size: float, multiple: int
) -> SamplingFrame:
    """The window of a region and the size it is sampled at.

    The crop is scaled by `sampling_scale`. The result is rounded to multiples of ``multiple``, so that the VAE neither
    crops nor stretches it:

    - A crop that is scaled takes the nearest multiple in each axis. That changes its proportions by at most half a
      step, and resizing the result back takes that away again.
    - A crop that is not scaled grows to the next multiple inside the picture, so that none of its pixels need
      resizing. Only where the picture or ``max_size`` has no room for that it is resized in this axis.

    Args:
        bbox, crop: The region's boxes.
        picture: The whole picture.
        guide_size, guide_size_for, max_size: See `sampling_scale`.
        multiple: Width and height of what the VAE takes are multiples of this, in pixels.
    """
    scale = sampling_scale(bbox, crop, guide_size, guide_size_for, max_size)
    width, height = int(crop.width * scale), int(crop.height * scale)
    if (width, height) != (crop.width, crop.height):
        width, height = (nearest_multiple(length, multiple, max_size) for length in (width, height))
        return SamplingFrame(crop, width, height)
    x1, x2, width = _unscaled_side(crop.x1, crop.x2, picture.x2, multiple, max_size)
    y1, y2, height = _unscaled_side(crop.y1, crop.y2, picture.y2, multiple, max_size)
    return SamplingFrame(Box(x1, y1, x2, y2), width, height)


def sampling_scale(bbox: Box, crop: Box, guide_size: float, guide_size_for: bool, max_size: float) -> float:
    """How many times larger than it is a crop is sampled.

    That is ``guide_size`` / the shorter side, bounded so that the crop's longer side stays within ``max_size``, and
    1 where that is less than 1: small regions are enlarged, large ones are not reduced to the guide size. Only a crop
    longer than ``max_size`` is reduced, to just that.

    Args:
        bbox, crop: The region's boxes.
        guide_size: The wanted shorter side, in pixels.
        guide_size_for: Of which box that is the shorter side: true for ``bbox``, false for ``crop``.
        max_size: The longest side, in pixels.
    """
    measured = bbox if guide_size_for else crop
    # Larger sizes overflow; max_size limits the scale anyway.
    scale = min(guide_size, 1e100) / min(measured.width, measured.height)
    longest = max(int(crop.width * scale), int(crop.height * scale))
    if longest > max_size:
        scale *= max_size / longest
    return scale if scale > 1 else min(1.0, max_size / max(crop.width, crop.height))


def nearest_multiple(length: int, multiple: int, max_size: float = math.inf) -> int:
    """The multiple nearest to ``length`` that does not exceed ``max_size``; at least one ``multiple``."""
    steps = (length + multiple // 2) // multiple
    if steps * multiple > max_size:
        steps = int(max_size) // multiple
    return max(1, steps) * multiple


def _unscaled_side(start: int, stop: int, limit: int, multiple: int, max_size: float) -> tuple[int, int, int]:
    """Start and stop of the window and the sampled length, for one axis of a crop whose scale is 1."""
    length = stop - start
    target = -(-length // multiple) * multiple
    if target > min(limit, max_size):
        return start, stop, nearest_multiple(length, multiple, max_size)
    first = min(max(0, start - (target - length) // 2), limit - target)
    return first, first + target, target
