"""Crops regions out of an image and blends them back: crop, resize, match colors, blend."""

from __future__ import annotations

import torch

from .. import colors, filters, masks, morphology, tensors
from ..geometry import Box, SamplingFrame
from ..regions import Region, embed_mask


def crop_out(image: torch.Tensor, frame: SamplingFrame, device: torch.device) -> torch.Tensor:
    """Crop the frame's window from an image ``[1,H,W,C]`` and resize it to the sampling size: ``[1,h,w,3]`` in 0..1 on
    ``device``. Never a view of the image."""
    crop = tensors.drop_alpha(frame.window.crop(image)).to(device).clamp(0, 1)
    return filters.resize_lanczos(crop, frame.height, frame.width)


def reduce(pixels: torch.Tensor, window: Box, crop: Box) -> torch.Tensor:
    """Undo `crop_out`: resize the sampled ``pixels`` ``[1,h,w,3]`` to ``window``, and crop them to its crop region."""
    return crop.relative_to(window).crop(filters.resize_lanczos(pixels, window.height, window.width))


def color_ring(region: Region, image: Box) -> Box:
    """The bounding box of the ring that `match_colors` uses as reference."""
    return region.bbox.expand(_ring_width(region), image)


def match_colors(refined: torch.Tensor, image: torch.Tensor, region: Region, weight: float) -> torch.Tensor:
    """Move a refined crop's colors towards those of a ring around the region's mask.

    Args:
        refined: ``[1,h,w,3]``, in the size of the crop region.
        image: ``[1,H,W,C]``, the whole image.
        weight: 0 for no change, 1 for a full match.
    """
    ring_box = color_ring(region, Box(0, 0, image.shape[2], image.shape[1]))
    mask = region.mask.to(refined.device)
    inside = (embed_mask(mask, region.crop_region, ring_box) > 0).float()
    ring = morphology.gradient(inside, 2 * _ring_width(region) + 1, edge="outer")
    surroundings = tensors.drop_alpha(ring_box.crop(image)).to(refined.device).clamp(0, 1)
    return colors.match_colors(refined, mask, surroundings, ring, weight)


def _ring_width(region: Region) -> int:
    """Width of the color ring in pixels."""
    return max(8, min(region.bbox.width, region.bbox.height) // 4)


def soft_mask(region: Region, feather: int, image: Box, device: torch.device) -> torch.Tensor:
    """The blend weights ``[1,h,w]`` of a region's crop: its mask, feathered by ``feather`` pixels. They reach 0 at the
    crop's edges, except where those are the image's own."""
    return masks.feather(region.mask.to(device), feather, region.crop_region.inner_sides(image))


def paste(image: torch.Tensor, refined: torch.Tensor, weights: torch.Tensor, crop: Box, part: Box) -> None:
    """Blend a refined crop into the image, in place.

    Where the weight is 0, the image does not change by a bit. Its alpha changes only if the refined crop has alpha.

    Args:
        image: ``[1,H,W,C]``.
        refined: ``[1,h,w,3 or C]``, in the size of ``crop``.
        weights: ``[1,h,w]``, 1 for the refined crop.
        crop: Where the refined crop belongs.
        part: The part of ``crop`` to blend; all weights outside it are 0.
    """
    target, source = part.crop(image)[..., : refined.shape[-1]], part.relative_to(crop)
    # lerp_ is exact at both ends.
    blended = target.to(refined.device)  # the target itself on the same device
    blended.lerp_(source.crop(refined), source.crop(weights).unsqueeze(-1))
    if blended is not target:
        target.copy_(blended)
