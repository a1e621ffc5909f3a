"""From a mask to the regions that the detailer works on, and at which size each is sampled.

Boxes are half-open and in whole pixels. What earlier saved workflows depend on, and what therefore must not change
by a pixel: which parts of a mask are regions and in which order, their boxes and crop regions (`find_regions`), and
the size a crop is scaled to where that size is one the VAE takes (`frame`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from . import tensors
from .checks import as_mask_batch, check_number, check_whole_number, describe
from .errors import InputError
from .masks import Sides
from .packages import import_scipy


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
        if not self.meets(other):
            return None
        return Box(max(self.x1, other.x1), max(self.y1, other.y1), min(self.x2, other.x2), min(self.y2, other.y2))

    def meets(self, other: Box) -> bool:
        """Whether they have a pixel in common."""
        return self.x1 < other.x2 and other.x1 < self.x2 and self.y1 < other.y2 and other.y1 < self.y2

    def grown(self, pixels: int, within: Box) -> Box:
        """Larger by ``pixels`` on every side, cut off at ``within``, which it must touch."""
        larger = Box(max(0, self.x1 - pixels), max(0, self.y1 - pixels), self.x2 + pixels, self.y2 + pixels)
        return larger.intersection(within) or self

    def seen_from(self, outer: Box) -> Box:
        """The same rectangle in coordinates whose origin is ``outer``'s corner; it must lie inside ``outer``."""
        return Box(self.x1 - outer.x1, self.y1 - outer.y1, self.x2 - outer.x1, self.y2 - outer.y1)

    def cut(self, batch: torch.Tensor) -> torch.Tensor:
        """These pixels of an image ``[B,H,W,C]`` or a mask ``[B,H,W]``, a view."""
        return batch[:, self.y1 : self.y2, self.x1 : self.x2]

    def sides_inside(self, picture: Box) -> Sides:
        """Which of its sides are not the picture's own."""
        return Sides(
            left=self.x1 > picture.x1, top=self.y1 > picture.y1, right=self.x2 < picture.x2, bottom=self.y2 < picture.y2
        )


@dataclass(frozen=True, eq=False)
class Region:
    """One connected part of a mask.

    Attributes:
        bbox: Its tight box.
        crop: The crop region: ``bbox`` made larger by the crop factor and moved into the picture. With a crop factor
            near 1 rounding may leave a column or a row of ``bbox`` outside.
        mask: What of ``crop`` is selected, ``[1,h,w]``, float32 on the CPU.
    """

    bbox: Box
    crop: Box
    mask: torch.Tensor


def find_regions(
    mask: torch.Tensor,
    crop_factor: float = 3.0,
    drop_size: int = 10,
    bbox_fill: bool = False,
    contour_fill: bool = True,
) -> list[Region]:
    """The connected parts of a mask, in the order in which OpenCV finds their contours (from the bottom up).

    Pixels of 1/255 and more are selected, and those that touch at a corner are connected. A part inside the hole of
    another one is no region of its own.

    Args:
        mask: One mask, ``[H,W]`` or ``[1,H,W]``.
        crop_factor: How many times as wide and as high as its bbox a region's crop is, 1 or more.
        drop_size: Regions whose width or height is not above this many pixels are dropped; at least 1.
        bbox_fill: Select the whole bbox of each region.
        contour_fill: Select all inside a region's outline, holes too, and all of it fully. If false, the region
            keeps the mask's own soft values and holes.

    Raises:
        InputError: Not one mask, or a number is out of range.
    """
    mask = as_mask_batch(mask)
    if len(mask) != 1:
        raise InputError(f"mask holds {len(mask)} masks", "Find the regions of one mask at a time")
    crop_factor = check_number(crop_factor, "crop_factor", low=1)
    drop_size = check_whole_number(drop_size, "drop_size", low=1)

    values = mask[0].cpu()
    height, width = values.shape
    regions = []
    for bbox, outline in _outlines(tensors.to_8bit(values) > 0, drop_size):
        crop = crop_region(bbox, crop_factor, width, height)
        selected = torch.from_numpy(outline).unsqueeze(0).float()
        if not contour_fill:
            selected = selected * bbox.cut(values.unsqueeze(0))
        if bbox_fill:
            selected = torch.ones_like(selected)
        regions.append(Region(bbox, crop, placed(selected, bbox, crop)))
    return regions


FAINT = 0.02  # mask values below this (5 of 255 levels) look black


def is_whole_by_faint_values(mask: torch.Tensor, regions: Sequence[Region]) -> bool:
    """Whether one of a mask's ``regions`` reaches all edges only because values below `FAINT` are selected: usually the
    mask's black is not quite 0."""
    values = as_mask_batch(mask)[0].cpu()
    whole = Box(0, 0, values.shape[1], values.shape[0])
    if all(region.bbox != whole for region in regions):
        return False
    return all(box != whole for box, _ in _outlines(values.numpy() >= FAINT, drop_size=0))


def _outlines(selected: np.ndarray, drop_size: int) -> Iterator[tuple[Box, np.ndarray]]:
    """The outermost connected parts of ``[H,W]`` from the bottom up, each with its bbox and, in the size of that, all
    that lies inside its outline. Those not wider or not higher than ``drop_size`` are left out.

    Filling all holes merges a part inside a hole with the part around it, so only the outermost parts remain. The
    result is that of OpenCV's findContours and drawContours, without OpenCV: four distributions share its one folder,
    and ComfyUI requires none of them.
    """
    ndimage = import_scipy("ndimage")
    rows, columns = np.flatnonzero(selected.any(axis=1)), np.flatnonzero(selected.any(axis=0))
    if len(rows) == 0:
        return
    top, left = int(rows[0]), int(columns[0])
    around = np.pad(~selected[top : rows[-1] + 1, left : columns[-1] + 1], 1, constant_values=True)
    background, _ = ndimage.label(around)  # no connection at corners; label 1 is outside all outlines
    parts, _ = ndimage.label(background[1:-1, 1:-1] != 1, np.ones((3, 3)))  # corners connect
    del background
    for number, (rows, columns) in reversed([*enumerate(ndimage.find_objects(parts), 1)]):
        if columns.stop - columns.start > drop_size and rows.stop - rows.start > drop_size:
            box = Box(left + columns.start, top + rows.start, left + columns.stop, top + rows.stop)
            yield box, parts[rows, columns] == number


def crop_region(bbox: Box, crop_factor: float, width: int, height: int) -> Box:
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


def scaled(region: Region, x_scale: float, y_scale: float, picture: Box) -> Region:
    """A region found in a mask of another size than the picture: its boxes scaled for each axis on its own, its mask
    resized to its new crop. It stays inside ``picture`` and keeps a pixel at least."""

    def axis(start: int, stop: int, factor: float, limit: int) -> tuple[int, int]:
        first = min(_nearest(start * factor), limit - 1)
        return first, min(limit, max(first + 1, _nearest(stop * factor)))

    def box(old: Box) -> Box:
        x1, x2 = axis(old.x1, old.x2, x_scale, picture.x2)
        y1, y2 = axis(old.y1, old.y2, y_scale, picture.y2)
        return Box(x1, y1, x2, y2)

    crop = box(region.crop)
    return Region(box(region.bbox), crop, tensors.resize_mask(region.mask, crop.height, crop.width))


@dataclass(frozen=True)
class Frame:
    """How a region is shown to the model.

    Attributes:
        window: What is cut out of the picture: the crop region, or a little more (see `frame`).
        width, height: The size it is sampled at, multiples of what the VAE needs.
    """

    window: Box
    width: int
    height: int


def frame(
    region: Region, picture: Box, guide_size: float, guide_size_for: bool, max_size: float, multiple: int
) -> Frame:
    """The window of a region and the size it is sampled at.

    The scale is `upscale`. The scaled size is then brought to multiples of ``multiple``, so that nothing is cut off
    or stretched inside the VAE:

    - A crop that is scaled takes the nearest multiple in each axis. That changes its proportions by at most half a
      step, and resizing the result back takes that away again.
    - A crop that is not scaled grows to the next multiple inside the picture, so that none of its pixels need
      resizing. Only where the picture or ``max_size`` has no room for that it is resized in this axis.

    Args:
        region: The region.
        picture: The whole picture.
        guide_size, guide_size_for, max_size: See `upscale`.
        multiple: Width and height of what the VAE takes are multiples of this, in pixels.
    """
    crop = region.crop
    scale = upscale(region.bbox, crop, guide_size, guide_size_for, max_size)
    width, height = int(crop.width * scale), int(crop.height * scale)
    if (width, height) != (crop.width, crop.height):
        return Frame(crop, nearest_multiple(width, multiple, max_size), nearest_multiple(height, multiple, max_size))
    x1, x2, width = _unscaled_side(crop.x1, crop.x2, picture.x2, multiple, max_size)
    y1, y2, height = _unscaled_side(crop.y1, crop.y2, picture.y2, multiple, max_size)
    return Frame(Box(x1, y1, x2, y2), width, height)


def upscale(bbox: Box, crop: Box, guide_size: float, guide_size_for: bool, max_size: float) -> float:
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


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


def placed(mask: torch.Tensor, box: Box, outer: Box) -> torch.Tensor:
    """The mask ``[B,h,w]`` of ``box`` as a mask of ``outer``, 0 around it; what lies outside ``outer`` is cut off."""
    if box == outer:
        return mask
    result = mask.new_zeros(len(mask), outer.height, outer.width)
    common = box.intersection(outer)
    if common:
        common.seen_from(outer).cut(result).copy_(common.seen_from(box).cut(mask))
    return result
