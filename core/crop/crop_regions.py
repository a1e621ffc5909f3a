"""Chooses the regions to crop: parts of masks, whole masks, or rectangles."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence

import torch

from .. import distance, parts, tensors
from ..errors import InputError
from ..geometry import Box
from ..instances.instances import (
    SPLITS,
    Detection,
    Instance,
    boxes_to_instances,
    check_lists,
    count_images,
    find_instances,
)
from ..instances.picking import sort_instances
from ..regions import warn_if_stretched
from .crop_frames import CropSettings

logger = logging.getLogger(__name__)


def choose_regions(
    mask: torch.Tensor | None, detections: Sequence[Sequence[Detection]], image: torch.Tensor, settings: CropSettings
) -> list[Instance]:
    """Find the regions of all images, image by image in the order that ``settings`` names.

    Args:
        mask: ``[M,h,w]``: one for all images, one per image, or several for a single image. Masks of another size are
            scaled to the image. If there are none (M = 0, or None), the boxes of ``detections`` are the regions.
        detections: Boxes in image pixels, one list for all images or one per image. With masks they only add scores,
            labels, and which image each mask belongs to.
        image: ``[B,H,W,C]``.
        settings: What counts as a region, and their order.

    Raises:
        InputError: The numbers of masks, boxes and images do not match.
    """
    count = len(image)
    check_lists(detections, count)
    if mask is None or len(mask) == 0:
        instances, is_shared = boxes_to_instances(detections, images=count), len(detections) == 1
    else:
        mask = _fit(mask, *image.shape[1:3])
        if settings.fill_holes:
            mask = parts.fill_holes(mask)
        split = settings.regions if settings.regions in SPLITS else "each mask"
        detections = detections if any(detections) else [[]]  # without boxes, lists say nothing about the masks
        instances = find_instances(mask, detections, split, count, name="mask")
        is_shared = count_images(len(mask), detections, count) == 1
    if is_shared:
        instances = [dataclasses.replace(each, image=index) for index in range(count) for each in instances]
    if settings.regions == "all as one":
        instances = list(_join(instances))
    return sort_instances(instances, settings.order)


def _fit(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Scale masks to the size of the image, with a warning if that distorts them."""
    if mask.any():
        warn_if_stretched(mask, height, width)
    return tensors.resize_mask(mask, height, width)


def _join(instances: Sequence[Instance]) -> Iterator[Instance]:
    """Join the instances of each image into one."""
    by_image: dict[int, list[Instance]] = {}
    for instance in instances:
        by_image.setdefault(instance.image, []).append(instance)
    for image, members in by_image.items():
        yield Instance(tuple(part for member in members for part in member.parts), image)


def find_context(context_mask: torch.Tensor | None, image: torch.Tensor) -> list[Box | None]:
    """The box that the crops of each image also contain; None for no such box.

    Args:
        context_mask: ``[M,h,w]``: one mask for all images, or one per image; M = 0 or None for no box.
        image: ``[B,H,W,C]``.

    Raises:
        InputError: The numbers of masks and images do not match.
    """
    count = len(image)
    if context_mask is None or len(context_mask) == 0:
        return [None] * count
    if len(context_mask) not in (1, count):
        raise InputError(
            f"image is a batch of {count}, and context_mask is a batch of {len(context_mask)}",
            "Use one context mask for all images, or one per image",
        )
    instances = find_instances(_fit(context_mask, *image.shape[1:3]), split="each mask", images=len(context_mask))
    boxes = {instance.image: instance.box for instance in instances}
    return [boxes.get(index if len(context_mask) > 1 else 0) for index in range(count)]


def draw_region(instance: Instance, image: Box, grow: float) -> tuple[Box, torch.Tensor]:
    """The bbox of a region grown by ``grow`` pixels, and its mask ``[1,h,w]`` in the size of that box."""
    bbox = instance.box.expand(math.floor(grow), image)
    return bbox, distance.grow(instance.crop_mask(bbox), grow)
