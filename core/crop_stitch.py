"""Crops the regions of images for any work in between, and blends the results back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from . import tensors
from .checks import as_image_batch, as_mask_batch, check_number, check_whole_number
from .crop_frames import TOGETHER, CropFrame, CropSettings, fit_crop_frame, match_proportions
from .detail import blend
from .engine import NO_PROGRESS, Progress
from .errors import InputError
from .geometry import Box
from .regions import Region, embed_mask

PLACEHOLDER = 64  # side of the only crop if nothing is selected, so that no list is empty


class StitchRegion(NamedTuple):
    """What is needed to blend one crop back.

    Attributes:
        image: Index of its image.
        number: Its place in the order of the regions.
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
        stitch: What `stitch_crops` needs.
    """

    images: list[torch.Tensor]
    masks: list[torch.Tensor]
    stitch: Stitch


@torch.no_grad()
def crop_regions(
    image: torch.Tensor, regions: Sequence[Sequence[Region]], settings: CropSettings, progress: Progress = NO_PROGRESS
) -> Crops:
    """Crop every region of every image.

    Args:
        image: ``[B,H,W,C]``, any finite values.
        regions: The regions of each image, whose masks have the size of their bbox.
        settings: Size and context of the crops.
        progress: Advances by one step per region.

    Returns:
        Crops in the scale of the image equal it bit for bit; scaled ones are clamped to 0..1.
    """
    whole = Box(0, 0, image.shape[2], image.shape[1])
    found = []
    for index, image_regions in enumerate(regions):
        for region in image_regions:
            frame = fit_crop_frame(region.bbox, whole, settings)
            found.append(StitchRegion(index, len(found), region.bbox, region.mask, frame))
    groups = [[region] for region in found]
    if settings.batching == TOGETHER:
        by_size: dict[tuple[int, int], list[StitchRegion]] = {}
        for region in found:
            by_size.setdefault((region.frame.width, region.frame.height), []).append(region)
        groups = list(by_size.values())
    stitch = Stitch(image, tuple(region for group in groups for region in group), settings.blend)
    if not found:
        side = PLACEHOLDER
        return Crops([image.new_zeros(1, side, side, image.shape[-1])], [image.new_zeros(1, side, side)], stitch)
    pairs = [_crop_group(image, group, progress) for group in groups]
    return Crops([images for images, _ in pairs], [masks for _, masks in pairs], stitch)


def _crop_group(
    image: torch.Tensor, group: Sequence[StitchRegion], progress: Progress
) -> tuple[torch.Tensor, torch.Tensor]:
    """The crops ``[k,h,w,C]`` of regions of one size, and their masks ``[k,h,w]``."""
    shape = len(group), group[0].frame.height, group[0].frame.width
    crops = tensors.empty((*shape, image.shape[-1]), image.device)
    masks = tensors.empty(shape, image.device)
    for crop, mask, region in zip(crops.split(1), masks.split(1), group):
        frame = region.frame
        source = _extend(image[region.image : region.image + 1], frame)
        crop.copy_(tensors.resize_lanczos(source, frame.height, frame.width))
        selected = embed_mask(region.mask, frame.locate(region.bbox), frame.unscaled)
        mask.copy_(tensors.resize_mask(selected.to(image.device), frame.height, frame.width))
        progress.step()
    return crops, masks


def _extend(image: torch.Tensor, frame: CropFrame) -> torch.Tensor:
    """The unscaled crop of ``[1,H,W,C]``; a view unless the crop extends beyond the image."""
    if not any(frame.extension):
        return frame.window.crop(image)
    left, top, right, bottom = frame.extension
    rows = torch.arange(frame.window.y1 - top, frame.window.y2 + bottom, device=image.device)
    columns = torch.arange(frame.window.x1 - left, frame.window.x2 + right, device=image.device)
    rows, columns = rows.clamp(0, image.shape[1] - 1), columns.clamp(0, image.shape[2] - 1)
    return image[:, rows][:, :, columns]


@torch.no_grad()
def stitch_crops(
    stitch: Stitch,
    crops: Sequence[torch.Tensor],
    crop_masks: Sequence[torch.Tensor] | None = None,
    color_match: float = 0.0,
    blend_width: int | None = None,
    progress: Progress = NO_PROGRESS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend crops back into their images.

    Where the blend weight is 0, an image does not change by a bit. Its alpha changes only if the crops have alpha, too.
    In an image without alpha, the transparent parts of a crop change nothing.

    Args:
        stitch: From `crop_regions`.
        crops: Batches ``[k,h,w,C]``, together one crop per region in the same order; larger or smaller in proportion.
        crop_masks: Other blend masks, batches ``[k,h,w]`` in the proportions of the crops; None for the regions' own.
        color_match: How strongly to match the crops' colors to the surroundings of their regions, 0..1.
        blend_width: Width of the seam in pixels; None for that of ``stitch``.
        progress: Advances by one step per region.

    Returns:
        The images ``[B,H,W,C]``, and the blend weights ``[B,H,W]``: how much each pixel was changed.

    Raises:
        InputError: Number or proportions of crops or masks do not match, a crop contains NaN, or a number is out of
            range.
    """
    color_match = check_number(color_match, "color_match", low=0, high=1)
    width = stitch.blend if blend_width is None else check_whole_number(blend_width, "blend", low=0)
    images, weights = stitch.images, stitch.images.new_zeros(stitch.images.shape[:3])
    if not stitch.regions:
        return images, weights
    batches = [as_image_batch(each, f"crops[{i}]", clamp=False) for i, each in enumerate(crops)]
    rows = _match_rows(stitch, batches, "crops")
    mask_rows: Sequence[torch.Tensor | None] = [None] * len(rows)
    if crop_masks is not None:
        batches = [as_mask_batch(each, f"crop_masks[{i}]") for i, each in enumerate(crop_masks)]
        mask_rows = _match_rows(stitch, batches, "crop_masks")
    result = tensors.empty(tuple(images.shape), images.device).copy_(images)
    for region, crop, mask in sorted(zip(stitch.regions, rows, mask_rows), key=lambda each: each[0].number):
        index = slice(region.image, region.image + 1)
        _blend_in(region, crop, mask, images[index], result[index], weights[index], color_match, width)
        progress.step()
    return result, weights


def _match_rows(stitch: Stitch, batches: Sequence[torch.Tensor], name: str) -> list[torch.Tensor]:
    """Split ``batches`` into one row per region, and check their number and proportions."""
    rows = [row for batch in batches for row in batch.split(1)]
    if len(rows) != len(stitch.regions):
        raise InputError(
            f"{name} contains {len(rows)}, and stitch has {len(stitch.regions)} regions",
            "Use all crops of the same stitch, in the same order",
            code="crops",
        )
    for number, (row, region) in enumerate(zip(rows, stitch.regions), 1):
        height, width = row.shape[1:3]
        if not match_proportions(region.frame.width, region.frame.height, width, height):
            raise InputError(
                f"number {number} of {name} is {width} x {height}, but its crop was "
                f"{region.frame.width} x {region.frame.height}",
                "Use all crops of the same stitch, in the same order; they may be larger or smaller, but only in the "
                "same proportions",
                code="crops",
            )
    return rows


def _blend_in(
    region: StitchRegion,
    crop: torch.Tensor,
    mask: torch.Tensor | None,
    original: torch.Tensor,
    image: torch.Tensor,
    image_weights: torch.Tensor,
    color_match: float,
    width: int,
) -> None:
    """Blend a crop ``[1,h,w,C]`` into ``image`` ``[1,H,W,C]``, and its weights into ``image_weights``, in place."""
    frame, whole = region.frame, Box(0, 0, image.shape[2], image.shape[1])
    bbox, selected = (region.bbox, region.mask) if mask is None else _locate_mask(mask, frame)
    part = bbox.expand(2 * width + 2, frame.window)  # beyond this, the seam's width does not depend on the size
    piece = Region(bbox, part, embed_mask(selected, bbox, part))
    weights = blend.soft_mask(piece, width, whole, image.device)
    refined = blend.reduce(crop.to(image.device), frame.unscaled, frame.locate(part))
    colors, alpha = tensors.drop_alpha(refined), refined[..., 3:]
    if color_match:
        colors = blend.match_colors(colors, original, piece, color_match)
    if alpha.shape[-1] and image.shape[-1] == 4:
        colors = torch.cat([colors, alpha], dim=-1)
    elif alpha.shape[-1]:
        weights = weights * alpha[..., 0].clamp(0, 1)
    changed = bbox.expand(width, part)
    blend.paste(image, colors, weights, part, changed)
    target = changed.crop(image_weights)
    torch.maximum(target, changed.relative_to(part).crop(weights), out=target)


def _locate_mask(mask: torch.Tensor, frame: CropFrame) -> tuple[Box, torch.Tensor]:
    """The box and the mask in the image of a mask ``[1,h,w]`` of a crop."""
    whole = frame.unscaled
    resized = tensors.resize_mask(mask, whole.height, whole.width)
    return frame.window, frame.locate(frame.window).crop(resized)
