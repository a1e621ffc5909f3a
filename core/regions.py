"""Finds the regions of a mask: its connected parts, with their boxes.

Saved workflows depend on which parts are regions, on their order and their boxes. None may change.
"""

from __future__ import annotations

import logging
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
from .parts import fill_outlines

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Region:
    """One connected part of a mask.

    Attributes:
        bbox: The tight box around the part.
        crop_region: ``bbox`` enlarged by the crop factor and moved inside the image. With crop factors near 1, rounding
            may exclude a column or row of ``bbox``.
        mask: The part's mask, cropped to ``crop_region``: ``[1,h,w]``, float32 on the CPU.
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
    """Find the connected parts of a mask, in the order of OpenCV's contours (from the bottom up).

    Pixels of at least 1/255 are selected, and corner neighbors are connected. A part inside a hole of another part is
    not a separate region.

    Args:
        mask: A single mask, ``[H,W]`` or ``[1,H,W]``.
        crop_factor: Size of the crop region relative to the bbox, at least 1.
        drop_size: Regions whose width or height is at most this many pixels are dropped; at least 1.
        bbox_fill: Select the whole bbox of each region.
        contour_fill: Fully select everything inside a region's outline, including holes. If false, keep the mask's soft
            values and holes.

    Raises:
        InputError: More than one mask, or a number is out of range.
    """
    mask = as_mask_batch(mask)
    if len(mask) != 1:
        raise InputError(f"mask contains {len(mask)} masks", "Find the regions of one mask at a time")
    crop_factor = check_number(crop_factor, "crop_factor", low=1)
    drop_size = check_whole_number(drop_size, "drop_size", low=1)

    values = mask[0].cpu()
    height, width = values.shape
    regions = []
    for bbox, outline in _find_outlines(tensors.is_selected(values), drop_size):
        crop = compute_crop_region(bbox, crop_factor, width, height)
        selected = torch.from_numpy(outline).unsqueeze(0).float()
        if not contour_fill:
            selected = selected * bbox.crop(values.unsqueeze(0))
        if bbox_fill:
            selected = torch.ones_like(selected)
        regions.append(Region(bbox, crop, embed_mask(selected, bbox, crop)))
    return regions


FAINT = 0.02  # mask values below this (about 5/255) look black


def only_faint_values_cover_all(mask: torch.Tensor, regions: Sequence[Region]) -> bool:
    """Whether a region covers the whole mask only because of values below `FAINT`. Usually the mask's black is then not
    quite 0."""
    values = as_mask_batch(mask)[0].cpu()
    whole = Box(0, 0, values.shape[1], values.shape[0])
    if all(region.bbox != whole for region in regions):
        return False
    return all(box != whole for box, _ in _find_outlines(values.numpy() >= FAINT, drop_size=0))


def _find_outlines(selected: np.ndarray, drop_size: int) -> Iterator[tuple[Box, np.ndarray]]:
    """Yield the bbox and the filled outline (bool, in the bbox's size) of each outermost connected part of ``[H,W]``,
    from the bottom up. Skip parts whose width or height is at most ``drop_size``.

    Filling all holes merges a part inside a hole with the part around it, so only the outermost parts remain. The
    result equals that of OpenCV's findContours and drawContours. OpenCV itself is not used: four distributions share
    one folder, and ComfyUI requires none of them.
    """
    ndimage = import_scipy("ndimage")
    whole = tight_box(selected)
    if whole is None:
        return
    filled = fill_outlines(selected[whole.y1 : whole.y2, whole.x1 : whole.x2])
    parts, _ = ndimage.label(filled, np.ones((3, 3)))  # 8-connected
    for number, (rows, columns) in reversed([*enumerate(ndimage.find_objects(parts), 1)]):
        if columns.stop - columns.start > drop_size and rows.stop - rows.start > drop_size:
            box = Box(whole.x1 + columns.start, whole.y1 + rows.start, whole.x1 + columns.stop, whole.y1 + rows.stop)
            yield box, parts[rows, columns] == number


def tight_box(selected: np.ndarray) -> Box | None:
    """The tight box around the selected pixels of ``[H,W]`` (bool); None if there are none."""
    rows, columns = tensors.find_bounding_slices(selected)
    return Box(columns.start, rows.start, columns.stop, rows.stop) if rows.stop else None


def scale_region(region: Region, x_scale: float, y_scale: float, image: Box) -> Region:
    """Scale a region from the mask's size to the image's: its boxes per axis, and its mask to the new crop region. The
    boxes stay inside ``image`` and contain at least one pixel."""

    def scale_axis(start: int, stop: int, factor: float, limit: int) -> tuple[int, int]:
        first = min(_round_half_up(start * factor), limit - 1)
        return first, min(limit, max(first + 1, _round_half_up(stop * factor)))

    def scale_box(box: Box) -> Box:
        x1, x2 = scale_axis(box.x1, box.x2, x_scale, image.x2)
        y1, y2 = scale_axis(box.y1, box.y2, y_scale, image.y2)
        return Box(x1, y1, x2, y2)

    crop = scale_box(region.crop_region)
    return Region(scale_box(region.bbox), crop, tensors.resize_mask(region.mask, crop.height, crop.width))


def warn_if_stretched(mask: torch.Tensor, height: int, width: int) -> None:
    """Log a warning if a mask ``[M,h,w]`` has another aspect ratio than the image that it is scaled to.

    Not for empty masks: the host's are square, whatever the image is.
    """
    mask_height, mask_width = mask.shape[1:]
    # Ignore a pixel of rounding in either size.
    if abs(mask_height * width - height * mask_width) >= max(width, mask_width):
        logger.warning(
            "The mask is %d x %d and the image %d x %d: the mask was stretched to fit the image",
            mask_width, mask_height, width, height,
        )  # fmt: skip


def _round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


def embed_mask(mask: torch.Tensor, box: Box, outer: Box) -> torch.Tensor:
    """Embed the mask ``[B,h,w]`` of ``box`` in a mask of ``outer`` that is 0 elsewhere. Parts outside ``outer`` are
    cropped."""
    if box == outer:
        return mask
    result = mask.new_zeros(len(mask), outer.height, outer.width)
    common = box.intersection(outer)
    if common:
        common.relative_to(outer).crop(result).copy_(common.relative_to(box).crop(mask))
    return result
