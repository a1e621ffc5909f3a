"""Crops the regions of images for any work in between, and blends the results back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from . import tensors
from .batching import NO_PROGRESS
from .checks import as_image_batch, as_mask_batch, check_number, check_whole_number
from .crop_frames import TOGETHER, CropFrame, CropSettings, fit_crop_frame, match_proportions
from .crop_regions import draw_region
from .detail import blend
from .engine import Progress
from .errors import InputError
from .geometry import Box
from .instances import Instance
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
    found = []
    for number, instance in enumerate(instances):
        bbox, mask = draw_region(instance, whole, settings.grow)
        also = context[instance.image] if context else None
        frame = fit_crop_frame(bbox.union(also) if also else bbox, whole, settings)
        found.append(StitchRegion(instance.image, number, bbox, mask, frame))
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
    stitches: Sequence[Stitch],
    crops: Sequence[torch.Tensor],
    crop_masks: Sequence[torch.Tensor] | None = None,
    color_match: float = 0.0,
    blend_width: int | None = None,
    progress: Progress = NO_PROGRESS,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Blend crops back into their images.

    Where the blend weight is 0, an image does not change by a bit. Its alpha changes only if the crops have alpha, too.
    In an image without alpha, the transparent parts of a crop change nothing.

    Args:
        stitches: From one or more calls of `crop_regions`.
        crops: Batches ``[k,h,w,C]`` that together contain the crops of all stitches, in order; each may be larger or
            smaller than it was, in proportion. Ignored if there are no regions.
        crop_masks: Other masks for blending, batches ``[k,h,w]`` in the proportions of the crops; None for those of the
            regions.
        color_match: How strongly to match the crops' colors to the surroundings of their regions, 0..1.
        blend_width: Width of the seam in pixels; None for that of each stitch.
        progress: Advances by one step per region.

    Returns:
        For each stitch its images ``[B,H,W,C]``, and the blend weights ``[B,H,W]``: how much each pixel was changed.

    Raises:
        InputError: Number or proportions of crops or masks do not match, a crop contains NaN, or a number is out of
            range.
    """
    color_match = check_number(color_match, "color_match", low=0, high=1)
    if blend_width is not None:
        blend_width = check_whole_number(blend_width, "blend", low=0)
    if not any(stitch.regions for stitch in stitches):
        return [(stitch.images, _no_change(stitch.images)) for stitch in stitches]
    batches = [as_image_batch(each, f"crops[{i}]", clamp=False) for i, each in enumerate(crops)]
    rows = _deal(stitches, batches, "crops")
    mask_rows = [[None] * len(each) for each in rows]
    if crop_masks is not None:
        batches = [as_mask_batch(each, f"crop_masks[{i}]") for i, each in enumerate(crop_masks)]
        mask_rows = _deal(stitches, batches, "crop_masks")
    return [
        _stitch(stitch, one, masks, color_match, stitch.blend if blend_width is None else blend_width, progress)
        for stitch, one, masks in zip(stitches, rows, mask_rows)
    ]


def _no_change(images: torch.Tensor) -> torch.Tensor:
    return tensors.zeros(tuple(images.shape[:3]), images.device)


def _deal(stitches: Sequence[Stitch], batches: Sequence[torch.Tensor], name: str) -> list[list[torch.Tensor]]:
    """Divide ``batches`` into one row per region of each stitch. Check their number and proportions."""
    rows = [row for batch in batches for row in batch.split(1)]
    expected = sum(stitch.crop_count for stitch in stitches)
    if len(rows) != expected:
        problem = f"{name} contains {len(rows)} crops, and stitch has {expected}"
        raise InputError(problem, "Use all crops of this stitch, in their order", code="crops")
    dealt, first = [], 0
    for stitch in stitches:
        own = rows[first : first + stitch.crop_count] if stitch.regions else []  # drops the placeholder
        for i, (row, region) in enumerate(zip(own, stitch.regions), first + 1):  # as in the previews
            height, width = row.shape[1:3]
            if not match_proportions(region.frame.width, region.frame.height, width, height):
                raise InputError(
                    f"crop {i} of {name} is {width} x {height}, and was {region.frame.width} x {region.frame.height}",
                    "Use all crops of this stitch, in their order; they may be larger or smaller, but only in the same "
                    "proportions",
                    code="crops",
                )
        dealt.append(own)
        first += stitch.crop_count
    return dealt


def _stitch(
    stitch: Stitch,
    crops: Sequence[torch.Tensor],
    crop_masks: Sequence[torch.Tensor | None],
    color_match: float,
    width: int,
    progress: Progress,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend one crop ``[1,h,w,C]`` per region into a copy of the images."""
    images, weights = stitch.images, _no_change(stitch.images)
    if not stitch.regions:
        return images, weights
    result = tensors.empty(tuple(images.shape), images.device).copy_(images)
    for region, crop, mask in sorted(zip(stitch.regions, crops, crop_masks), key=lambda each: each[0].number):
        index = slice(region.image, region.image + 1)
        patch = _make_patch(region, crop, mask, images[index], color_match, width)
        blend.paste(result[index], patch.pixels, patch.weights, patch.box, patch.changes)
        target = patch.changes.crop(weights[index])
        torch.maximum(target, patch.changes.relative_to(patch.box).crop(patch.weights), out=target)
        progress.step()
    return result, weights


class _Patch(NamedTuple):
    """What to blend into an image: ``pixels`` ``[1,h,w,3 or 4]`` and ``weights`` ``[1,h,w]`` of ``box``. All weights
    outside ``changes`` are 0."""

    box: Box
    pixels: torch.Tensor
    weights: torch.Tensor
    changes: Box


def _make_patch(
    region: StitchRegion,
    crop: torch.Tensor,
    crop_mask: torch.Tensor | None,
    image: torch.Tensor,
    color_match: float,
    width: int,
) -> _Patch:
    """Scale a crop ``[1,h,w,C]`` back, and compute its weights.

    Args:
        crop_mask: ``[1,h,w]``, in the proportions of the crop; None for the region's own mask.
        image: The unchanged image ``[1,H,W,C]``.
        width: Of the seam, in pixels.
    """
    frame, whole, device = region.frame, Box(0, 0, image.shape[2], image.shape[1]), image.device
    bbox, mask = region.bbox, region.mask
    if crop_mask is not None:
        unscaled = tensors.resize_mask(crop_mask, frame.unscaled.height, frame.unscaled.width)
        bbox, mask = frame.window, frame.locate(frame.window).crop(unscaled)
    box = bbox.expand(2 * width + 2, frame.window)  # so that the seam is as wide as in a mask of the whole image
    piece = Region(bbox, box, embed_mask(mask, bbox, box))
    weights = blend.soft_mask(piece, width, whole, device)
    pixels = blend.reduce(crop.to(device), frame.unscaled, frame.locate(box))
    colors, alpha = tensors.drop_alpha(pixels), pixels[..., 3:]
    if color_match:
        colors = blend.match_colors(colors, image, piece, color_match)
    if alpha.shape[-1] and image.shape[-1] == 4:
        colors = torch.cat([colors, alpha], dim=-1)
    elif alpha.shape[-1]:
        weights = weights * alpha[..., 0].clamp(0, 1)
    return _Patch(box, colors, weights, bbox.expand(width, box))
