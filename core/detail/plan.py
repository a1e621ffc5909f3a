"""Finds the regions of each image, and makes a task for each region of each version. Samples nothing."""

from __future__ import annotations

import logging

import numpy as np
import torch

from ..checks import check_mask_count
from ..engine import Vae
from ..geometry import Box, fit_sampling_frame
from ..regions import (
    FAINT,
    Region,
    find_regions,
    only_faint_values_cover_all,
    scale_region,
    warn_if_stretched,
)
from .batches import Task
from .blend import color_ring
from .conditionings import RegionPipes
from .placement import Placement
from .settings import SEEDS, DetailerSettings

logger = logging.getLogger(__name__)


def find_image_regions(
    image: torch.Tensor, mask: torch.Tensor, crop_factor: float, drop_size: int, bbox_fill: bool, contour_fill: bool
) -> list[list[Region]]:
    """Find the regions of each image, in image pixels.

    Args:
        image: ``[B,H,W,C]``.
        mask: ``[M,h,w]``: one mask for all images, one for each, or several for a single image, whose regions are
            in the order of the masks. M = 0 selects nothing. Masks of another size are scaled to the image.
        crop_factor, drop_size, bbox_fill, contour_fill: See `regions.find_regions`.

    Raises:
        InputError: The numbers of images and masks do not match.
    """
    if len(mask) == 0:
        logger.info("mask is a batch of 0: nothing is selected, and the image is unchanged")
        return [[] for _ in image]
    check_mask_count(len(mask), len(image))
    per_mask = [find_regions(one, crop_factor, drop_size, bbox_fill, contour_fill) for one in mask.split(1)]
    if any(only_faint_values_cover_all(one, regions) for one, regions in zip(mask.split(1), per_mask)):
        logger.warning(
            "A region covers the whole image only because of mask values below %g: every pixel of at least 1/255 is "
            "selected. To drop such pixels, threshold the mask first, for example at %g",
            FAINT, FAINT,
        )  # fmt: skip
    (height, width), (mask_height, mask_width) = image.shape[1:3], mask.shape[1:]
    if (mask_width, mask_height) != (width, height):
        x_scale, y_scale = width / mask_width, height / mask_height
        whole = Box(0, 0, width, height)
        per_mask = [[scale_region(region, x_scale, y_scale, whole) for region in regions] for regions in per_mask]
        if any(per_mask):
            warn_if_stretched(mask, height, width)
    if len(image) == 1:
        return [[region for regions in per_mask for region in regions]]
    return per_mask * len(image) if len(per_mask) == 1 else per_mask


def plan(
    regions: list[list[Region]],
    settings: DetailerSettings,
    image: Box,
    vae: Vae,
    pipes: RegionPipes,
    refiner_pipes: RegionPipes | None = None,
) -> list[Task]:
    """Make the tasks for all versions of all images, in order.

    Args:
        regions: The regions of each image. Those without a selected pixel are skipped.
        image: The whole image.
        vae: Its sizes decide the sampled sizes.
        pipes, refiner_pipes: The pipes of each region; None for no refiner.

    Raises:
        InputError: No part of a prompt applies to a region's crop.
    """
    tasks = []
    has_places = pipes.has_places or (refiner_pipes is not None and refiner_pipes.has_places)
    for version in range(len(regions) * settings.batch_size):
        index, repeat = divmod(version, settings.batch_size)
        number = 0
        for i, region in enumerate(regions[index]):
            selected = _selected_box(region)
            if selected is None:
                continue
            size = settings.guide_size, settings.guide_size_for, settings.max_size
            frame = fit_sampling_frame(region.bbox, region.crop_region, image, *size, vae.multiple)
            placement = Placement(image, frame, vae.ratio, index)
            ring = [color_ring(region, image)] if settings.color_match else []
            task = Task(
                version=version,
                number=number,
                region=region,
                frame=frame,
                seed=(settings.seed + repeat + i) % SEEDS,
                pipe=pipes.for_region(i, placement),
                refiner=refiner_pipes.for_region(i, placement) if refiner_pipes else None,
                placement=placement if has_places else None,
                reads=(frame.window, *ring),
                writes=selected.expand(settings.feather, region.crop_region),
            )
            tasks.append(task)
            number += 1
    return tasks


def _selected_box(region: Region) -> Box | None:
    """The tight box around the selected pixels; None if there are none."""
    rows, columns = (np.flatnonzero(region.mask[0].numpy().any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return None
    x, y = region.crop_region.x1, region.crop_region.y1
    return Box(x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1)
