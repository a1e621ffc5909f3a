"""Places cutouts over backgrounds."""

from __future__ import annotations

import torch

from .. import tensors
from ..errors import InputError


def place_over(cutouts: torch.Tensor, backgrounds: torch.Tensor) -> torch.Tensor:
    """Place cutouts over backgrounds, which are scaled to fill the image and cropped in the center.

    Args:
        cutouts: ``[B,H,W,4]``, straight alpha.
        backgrounds: ``[K,h,w,3 or 4]``; one for all cutouts or one for each; a fourth channel is ignored.

    Returns:
        ``[B,H,W,3]``.

    Raises:
        InputError: The numbers of cutouts and backgrounds do not match.
    """
    check_backgrounds(backgrounds, len(cutouts))
    height, width = cutouts.shape[1:3]
    old_height, old_width = backgrounds.shape[1:3]
    scale = max(height / old_height, width / old_width)
    sides = [min(old, max(1, round(new / scale))) for old, new in ((old_height, height), (old_width, width))]
    top, left = (old_height - sides[0]) // 2, (old_width - sides[1]) // 2
    part = tensors.drop_alpha(backgrounds)[:, top : top + sides[0], left : left + sides[1]].to(cutouts)
    alpha = cutouts[..., 3:]
    return torch.lerp(tensors.resize_image(part, height, width), tensors.drop_alpha(cutouts), alpha)


def check_backgrounds(backgrounds: torch.Tensor, images: int) -> None:
    """Raise an error unless there is one background for all images, or one per image."""
    if len(backgrounds) not in (1, images):
        raise InputError(
            f"background is a batch of {len(backgrounds)}, and images is a batch of {images}",
            "Use one background for all images, or one per image",
        )
