"""From a mask to the regions that the detailer works on.

Saved workflows depend on which parts of a mask are regions, on their order and their boxes: none may change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from . import tensors
from .checks import as_mask_batch, check_number, check_whole_number
from .errors import InputError
from .geometry import Box, compute_crop_region
from .packages import import_scipy


@dataclass(frozen=True, eq=False)
class Region:
    """One connected part of a mask.

    Attributes:
        bbox: Its tight box.
        crop_region: ``bbox`` made larger by the crop factor and moved into the picture. With a crop factor
            near 1 rounding may leave a column or a row of ``bbox`` outside.
        mask: What of ``crop`` is selected, ``[1,h,w]``, float32 on the CPU.
    """

    bbox: Box
    crop_region: Box
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
        crop = compute_crop_region(bbox, crop_factor, width, height)
        selected = torch.from_numpy(outline).unsqueeze(0).float()
        if not contour_fill:
            selected = selected * bbox.crop(values.unsqueeze(0))
        if bbox_fill:
            selected = torch.ones_like(selected)
        regions.append(Region(bbox, crop, embed_mask(selected, bbox, crop)))
    return regions


FAINT = 0.02  # mask values below this (5 of 255 levels) look black


def covers_all_only_by_faint_values(mask: torch.Tensor, regions: Sequence[Region]) -> bool:
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


def scale_region(region: Region, x_scale: float, y_scale: float, picture: Box) -> Region:
    """A region found in a mask of another size than the picture: its boxes scaled for each axis on its own, its mask
    resized to its new crop. It stays inside ``picture`` and keeps a pixel at least."""

    def axis(start: int, stop: int, factor: float, limit: int) -> tuple[int, int]:
        first = min(_nearest(start * factor), limit - 1)
        return first, min(limit, max(first + 1, _nearest(stop * factor)))

    def box(old: Box) -> Box:
        x1, x2 = axis(old.x1, old.x2, x_scale, picture.x2)
        y1, y2 = axis(old.y1, old.y2, y_scale, picture.y2)
        return Box(x1, y1, x2, y2)

    crop = box(region.crop_region)
    return Region(box(region.bbox), crop, tensors.resize_mask(region.mask, crop.height, crop.width))


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


def embed_mask(mask: torch.Tensor, box: Box, outer: Box) -> torch.Tensor:
    """The mask ``[B,h,w]`` of ``box`` as a mask of ``outer``, 0 around it; what lies outside ``outer`` is cut off."""
    if box == outer:
        return mask
    result = mask.new_zeros(len(mask), outer.height, outer.width)
    common = box.intersection(outer)
    if common:
        common.relative_to(outer).crop(result).copy_(common.relative_to(box).crop(mask))
    return result
