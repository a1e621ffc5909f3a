"""Crops the regions of images, so that other nodes can work on them. `stitch` blends the results back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from .. import filters, tensors
from ..batching import NO_PROGRESS, Item, Result, parallel_map
from ..engine import Progress
from ..geometry import Box
from ..instances.instances import Instance
from ..regions import embed_mask
from .crop_frames import TOGETHER, CropFrame, CropSettings, fit_crop_frame
from .crop_regions import draw_region

PLACEHOLDER = 64  # side of the only crop if nothing is selected, so that no list is empty


class StitchRegion(NamedTuple):
    """What is needed to blend one crop back.

    Attributes:
        image: Index of its image.
        number: Its index in the order of the regions.
        bbox: The tight box around the region.
        mask: The region's mask, ``[1,h,w]`` in the size of ``bbox``.
        frame: Where it was cropped.
    """

    image: int
    number: int
    bbox: Box
    mask: torch.Tensor
    frame: CropFrame


class Stitch(NamedTuple):
    """The images, and where their crops belong. A tuple, since ComfyUI's cache counts tensors in tuples.

    Attributes:
        images: ``[B,H,W,C]``, unchanged.
        regions: In the order of the crops.
        blend: Width of the seam in pixels.
    """

    images: torch.Tensor
    regions: tuple[StitchRegion, ...]
    blend: int

    @property
    def crop_count(self) -> int:
        """How many crops belong to these images, including the placeholder."""
        return max(1, len(self.regions))


@dataclass(frozen=True)
class Crops:
    """Crops and their masks.

    Attributes:
        images: Batches ``[k,h,w,C]``.
        masks: Batches ``[k,h,w]``, one for each of ``images``.
        stitch: What `stitch.stitch_crops` needs.
    """

    images: list[torch.Tensor]
    masks: list[torch.Tensor]
    stitch: Stitch


@torch.no_grad()
def crop_regions(
    image: torch.Tensor,
    instances: Sequence[Instance],
    settings: CropSettings,
    context: Sequence[Box | None] | None = None,
    progress: Progress = NO_PROGRESS,
) -> Crops:
    """Crop every region of every image.

    Args:
        image: ``[B,H,W,C]``, any finite values.
        instances: The regions, from `crop_regions.choose_regions`.
        settings: Size and context of the crops.
        context: For each image a box that its crops also contain, or None; from `crop_regions.find_context`.
        progress: Advances by one step per region.

    Returns:
        Crops in the scale of the image equal it bit for bit; scaled ones are clamped to 0..1. If there are no regions,
        one black crop.
    """
    whole = Box(0, 0, image.shape[2], image.shape[1])

    def locate(numbered: tuple[int, Instance]) -> StitchRegion:
        number, instance = numbered
        bbox, mask = draw_region(instance, whole, settings.grow)
        context_box = context[instance.image] if context else None
        frame = fit_crop_frame(bbox.union(context_box) if context_box else bbox, whole, settings)
        return StitchRegion(instance.image, number, bbox, mask, frame)

    regions = run_regions(locate, [*enumerate(instances)], image.device)
    groups = [[region] for region in regions]
    if settings.batching == TOGETHER:
        by_size: dict[tuple[int, int], list[StitchRegion]] = {}
        for region in regions:
            by_size.setdefault((region.frame.width, region.frame.height), []).append(region)
        groups = list(by_size.values())
    stitch = Stitch(image, tuple(region for group in groups for region in group), settings.blend)
    if not regions:
        side = PLACEHOLDER
        return Crops([image.new_zeros(1, side, side, image.shape[-1])], [image.new_zeros(1, side, side)], stitch)
    if len(groups) > 1 and settings.batching != TOGETHER:
        pairs = run_regions(lambda group: _crop_group(image, group, NO_PROGRESS), groups, image.device, progress)
    else:
        pairs = [_crop_group(image, group, progress) for group in groups]
    return Crops([images for images, _ in pairs], [masks for _, masks in pairs], stitch)


def _crop_group(
    image: torch.Tensor, group: Sequence[StitchRegion], progress: Progress
) -> tuple[torch.Tensor, torch.Tensor]:
    """The crops ``[k,h,w,C]`` of regions of one size, and their masks ``[k,h,w]``."""
    shape = len(group), group[0].frame.height, group[0].frame.width
    crops = tensors.empty((*shape, image.shape[-1]), image.device)
    masks = tensors.empty(shape, image.device)

    def crop_region(row: int) -> None:
        region, frame = group[row], group[row].frame
        source = _extend(image[region.image : region.image + 1], frame)
        crops[row : row + 1].copy_(filters.resize_lanczos(source, frame.height, frame.width))
        selected = embed_mask(region.mask, frame.locate(region.bbox), frame.unscaled)
        masks[row : row + 1].copy_(tensors.resize_mask(selected.to(image.device), frame.height, frame.width))

    run_regions(crop_region, range(len(group)), image.device, progress)
    return crops, masks


def run_regions(
    work: Callable[[Item], Result], items: Sequence[Item], device: torch.device, progress: Progress = NO_PROGRESS
) -> list[Result]:
    """``[work(item) for item in items]``; on the CPU as many at a time as there are threads."""
    size = torch.get_num_threads() if device.type == "cpu" else 1
    results = []
    for first in range(0, len(items), size):
        results += parallel_map(work, items[first : first + size])
        progress.step(len(results) - first)
    return results


def _extend(image: torch.Tensor, frame: CropFrame) -> torch.Tensor:
    """The unscaled crop of ``[1,H,W,C]``; a view unless the crop extends beyond the image."""
    if not any(frame.extension):
        return frame.window.crop(image)
    left, top, right, bottom = frame.extension
    rows = torch.arange(frame.window.y1 - top, frame.window.y2 + bottom, device=image.device)
    columns = torch.arange(frame.window.x1 - left, frame.window.x2 + right, device=image.device)
    rows, columns = rows.clamp(0, image.shape[1] - 1), columns.clamp(0, image.shape[2] - 1)
    return image[:, rows][:, :, columns]
