"""Blends crops back into the images they come from. See `crop_stitch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .. import tensors
from ..batching import NO_PROGRESS
from ..checks import as_image_batch, as_mask_batch, check_number, check_whole_number
from ..detail import blend
from ..engine import Progress
from ..errors import InputError
from ..geometry import Box
from ..regions import Region, embed_mask
from .crop_frames import match_proportions
from .crop_stitch import Stitch, StitchRegion, run_regions

_MAX_CHUNK = 64  # regions that are compared with each other


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
        crop_masks: Other masks for blending, batches ``[k,h,w]`` in the proportions of the crops; a batch of 0 is an
            empty mask for one crop. None for those of the regions.
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
        _stitch(stitch, own, masks, color_match, stitch.blend if blend_width is None else blend_width, progress)
        for stitch, own, masks in zip(stitches, rows, mask_rows)
    ]


def _no_change(images: torch.Tensor) -> torch.Tensor:
    return tensors.zeros(tuple(images.shape[:3]), images.device)


def _deal(stitches: Sequence[Stitch], batches: Sequence[torch.Tensor], name: str) -> list[list[torch.Tensor]]:
    """Divide ``batches`` into one row per region of each stitch. Check their number and proportions."""
    item = name.removeprefix("crop_").removesuffix("s")
    rows = [row for batch in batches for row in batch.split(1)]  # one empty row for an empty batch
    expected = sum(stitch.crop_count for stitch in stitches)
    if len(rows) != expected:
        problem = f"the number of {name} is {len(rows)}, but stitch needs {expected}"
        raise _mismatch(problem, name)
    result, first = [], 0
    for stitch in stitches:
        own = rows[first : first + stitch.crop_count] if stitch.regions else []  # drops the placeholder
        for i, (row, region) in enumerate(zip(own, stitch.regions), first + 1):  # as in the previews
            height, width = row.shape[1:3]
            frame = region.frame
            if len(row) and not match_proportions(frame.width, frame.height, width, height):
                problem = f"{item} {i} of {name} is {width} x {height}, but was {frame.width} x {frame.height}"
                allowed = "; they may be larger or smaller, but only in the same proportions"
                raise _mismatch(problem, name, allowed)
        result.append(own)
        first += stitch.crop_count
    return result


def _mismatch(problem: str, name: str, allowed: str = "") -> InputError:
    if name == "crop_masks":
        return InputError(problem, "Use one mask per crop, in the proportions of the crop, or disconnect crop_masks")
    return InputError(problem, f"Use all crops of this stitch, in their order{allowed}", code="crops")


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

    def stitch_region(job: tuple[StitchRegion, torch.Tensor, torch.Tensor | None]) -> None:
        region, crop, mask = job
        index = slice(region.image, region.image + 1)
        patch = _make_patch(region, crop, mask, images[index], color_match, width)
        blend.paste(result[index], patch.pixels, patch.weights, patch.box, patch.changes)
        target = patch.changes.crop(weights[index])
        torch.maximum(target, patch.changes.relative_to(patch.box).crop(patch.weights), out=target)

    jobs = sorted(zip(stitch.regions, crops, crop_masks), key=lambda job: job[0].number)
    for chunk in _split_at_overlaps(jobs):
        run_regions(stitch_region, chunk, images.device, progress)
    return result, weights


def _split_at_overlaps(jobs: Sequence[tuple[StitchRegion, Any, Any]]) -> list[list[tuple[StitchRegion, Any, Any]]]:
    """Consecutive jobs whose windows do not overlap, so that their order does not matter."""
    chunks: list[list] = [[]]
    for job in jobs:
        region = job[0]
        others = (other for other, _, _ in chunks[-1] if other.image == region.image)
        if len(chunks[-1]) == _MAX_CHUNK or any(region.frame.window.overlaps(other.frame.window) for other in others):
            chunks.append([])
        chunks[-1].append(job)
    return chunks


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
        crop_mask: ``[1,h,w]``, in the proportions of the crop, or empty; None for the region's own mask.
        image: The unchanged image ``[1,H,W,C]``.
        width: Of the seam, in pixels.
    """
    frame, whole, device = region.frame, Box(0, 0, image.shape[2], image.shape[1]), image.device
    bbox, mask = region.bbox, region.mask
    if crop_mask is not None:
        crop_mask = crop_mask if len(crop_mask) else crop_mask.new_zeros(1, 1, 1)  # nothing is selected
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
