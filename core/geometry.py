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
    """One flag per side of a box."""

    left: bool = False
    top: bool = False
    right: bool = False
    bottom: bool = False


NO_SIDES = Sides()


@dataclass(frozen=True)
class Box:
    """A rectangle of at least one pixel: columns ``x1 <= x < x2``, rows ``y1 <= y < y2``.

    Raises:
        InputError: A coordinate is not a whole number of at least 0, or the box is empty.
    """

    x1: int
    y1: int
    x2: int
    y2: int

    def __post_init__(self) -> None:
        for name in ("x1", "y1", "x2", "y2"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:  # skip the slow check for valid values: there may be many boxes
                object.__setattr__(self, name, check_whole_number(value, name, low=0))
        if self.x1 >= self.x2 or self.y1 >= self.y2:
            raise InputError(
                f"a box from {describe((self.x1, self.y1))} to {describe((self.x2, self.y2))} contains no pixels",
                "x1 must be less than x2, and y1 less than y2",
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
        """The common part of two boxes, or None."""
        if not self.overlaps(other):
            return None
        return Box(max(self.x1, other.x1), max(self.y1, other.y1), min(self.x2, other.x2), min(self.y2, other.y2))

    def union(self, other: Box) -> Box:
        """The smallest box that contains both."""
        return Box(min(self.x1, other.x1), min(self.y1, other.y1), max(self.x2, other.x2), max(self.y2, other.y2))

    def overlaps(self, other: Box) -> bool:
        """Whether two boxes share a pixel."""
        return self.x1 < other.x2 and other.x1 < self.x2 and self.y1 < other.y2 and other.y1 < self.y2

    def expand(self, pixels: int, within: Box) -> Box:
        """The box expanded by ``pixels`` on every side and clipped to ``within``, which it must overlap."""
        larger = Box(max(0, self.x1 - pixels), max(0, self.y1 - pixels), self.x2 + pixels, self.y2 + pixels)
        return larger.intersection(within) or self

    def relative_to(self, outer: Box) -> Box:
        """The same box in coordinates relative to the top left corner of ``outer``, which must contain it."""
        return Box(self.x1 - outer.x1, self.y1 - outer.y1, self.x2 - outer.x1, self.y2 - outer.y1)

    def crop(self, batch: torch.Tensor) -> torch.Tensor:
        """This part of an image ``[B,H,W,C]`` or a mask ``[B,H,W]``, as a view."""
        return batch[:, self.y1 : self.y2, self.x1 : self.x2]

    def inner_sides(self, outer: Box) -> Sides:
        """Which sides are inside ``outer``, not on its border."""
        return Sides(
            left=self.x1 > outer.x1, top=self.y1 > outer.y1, right=self.x2 < outer.x2, bottom=self.y2 < outer.y2
        )


def compute_crop_region(bbox: Box, crop_factor: float, width: int, height: int) -> Box:
    """Scale ``bbox`` by ``crop_factor`` around its center, and move it inside an image of ``width`` x ``height``.

    Truncates where the original node did, so that saved workflows keep their crops.
    """
    x1, x2 = _crop_side(bbox.x1, bbox.x2, crop_factor, width)
    y1, y2 = _crop_side(bbox.y1, bbox.y2, crop_factor, height)
    return Box(x1, y1, x2, y2)


def _crop_side(start: int, stop: int, factor: float, limit: int) -> tuple[int, int]:
    length = min((stop - start) * factor, 4.0 * limit)  # larger lengths give the same crop; infinity would fail
    first = int(start + (stop - start) / 2 - length / 2)
    if first < 0:
        return 0, int(min(limit, length))
    if first + length > limit:
        return int(max(0, limit - length)), limit
    return first, int(min(limit, first + length))


@dataclass(frozen=True)
class SamplingFrame:
    """The part of the image to sample for a region, and its sampling size.

    Attributes:
        window: The crop region, possibly slightly larger (see `fit_sampling_frame`).
        width, height: Sampling size in pixels, multiples of what the VAE requires.
    """

    window: Box
    width: int
    height: int


def fit_sampling_frame(
    bbox: Box, crop: Box, image: Box, guide_size: float, guide_size_for: bool, max_size: float, multiple: int
) -> SamplingFrame:
    """Choose the window of a region and its sampling size.

    The crop is scaled by `sampling_scale`. The result is brought to multiples of ``multiple``, so that the VAE neither
    crops nor stretches it:

    - A scaled crop is rounded to the nearest multiple on each axis. This distorts its aspect ratio by at most half a
      multiple, and resizing back undoes that.
    - An unscaled crop is expanded to the next multiple inside the image, so that its pixels are not resized. An axis is
      resized only if the image or ``max_size`` leaves no room.

    Args:
        bbox, crop: The region's bbox and crop region.
        image: The whole image.
        guide_size, guide_size_for, max_size: See `sampling_scale`.
        multiple: The VAE requires multiples of this many pixels.
    """
    scale = sampling_scale(bbox, crop, guide_size, guide_size_for, max_size)
    width, height = int(crop.width * scale), int(crop.height * scale)
    if (width, height) != (crop.width, crop.height):
        width, height = (nearest_multiple(length, multiple, max_size) for length in (width, height))
        return SamplingFrame(crop, width, height)
    x1, x2, width = _unscaled_side(crop.x1, crop.x2, image.x2, multiple, max_size)
    y1, y2, height = _unscaled_side(crop.y1, crop.y2, image.y2, multiple, max_size)
    return SamplingFrame(Box(x1, y1, x2, y2), width, height)


def sampling_scale(bbox: Box, crop: Box, guide_size: float, guide_size_for: bool, max_size: float) -> float:
    """Scale factor at which a crop is sampled.

    Small regions are enlarged until their shorter side is ``guide_size``, as far as the crop's longer side stays within
    ``max_size``. Larger regions keep their size. Only crops longer than ``max_size`` are reduced, to ``max_size``.

    Args:
        bbox, crop: The region's bbox and crop region.
        guide_size: Desired shorter side, in pixels.
        guide_size_for: Which box ``guide_size`` measures: true for ``bbox``, false for ``crop``.
        max_size: Limit of the crop's longer side, in pixels.
    """
    measured = bbox if guide_size_for else crop
    # Larger guide sizes would overflow; max_size limits the scale anyway.
    scale = min(guide_size, 1e100) / min(measured.width, measured.height)
    longest = max(int(crop.width * scale), int(crop.height * scale))
    if longest > max_size:
        scale *= max_size / longest
    return scale if scale > 1 else min(1.0, max_size / max(crop.width, crop.height))


def nearest_multiple(length: int, multiple: int, max_size: float = math.inf) -> int:
    """The multiple nearest to ``length`` that does not exceed ``max_size``; at least ``multiple`` itself."""
    count = (length + multiple // 2) // multiple
    if count * multiple > max_size:
        count = int(max_size) // multiple
    return max(1, count) * multiple


def _unscaled_side(start: int, stop: int, limit: int, multiple: int, max_size: float) -> tuple[int, int, int]:
    """Start and stop of the window, and the sampling length, on one axis of an unscaled crop."""
    length = stop - start
    target = -(-length // multiple) * multiple
    if target > min(limit, max_size):
        return start, stop, nearest_multiple(length, multiple, max_size)
    first = min(max(0, start - (target - length) // 2), limit - target)
    return first, first + target, target
