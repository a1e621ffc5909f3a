"""Alpha matting and cutouts: refines the edges of a mask, and applies it to the image as transparency.

A mask from a segmentation network is reliable except along edges. A *trimap* marks every pixel as foreground (1),
background (0) or unknown (0.5). *Alpha matting* estimates, for every unknown pixel, which fraction of it is foreground
(alpha), and the color of that foreground without the background.

- Alpha: closed-form matting (Levin, Lischinski and Weiss, *A Closed-Form Solution to Natural Image Matting*, 2008).
- Foreground colors: multi-level estimation (Germer et al., *Fast Multi-Level Foreground Estimation*, 2020).

The results match ``rembg.remove(alpha_matting=True)``. rembg builds the equations of the whole image; this code builds
only those of the unknown pixels. If these are too many for the memory, alpha is solved on a smaller image and upsampled
by the guided filter. In gray images, whose colors are collinear, rembg is inaccurate; this code is close to the exact
solution.

Each image has its own equations, so images are single here, ``[H,W,C]`` and ``[H,W]``. All work runs on the CPU.
"""

from __future__ import annotations

import logging

import numpy as np
import torch

from .. import morphology, tensors
from ..batching import NoProgress, StageProgress
from ..engine import Progress
from ..errors import InputError
from ..packages import import_scipy
from . import closed_form
from .downscaled import MAX_UNKNOWNS, bounding_slices, solve_downscaled
from .foreground import estimate_foreground
from .trimap import MattingSettings, explain_unsolvable, make_trimap

logger = logging.getLogger(__name__)

STEPS = 100  # progress steps per image


def matte(
    image: torch.Tensor,
    mask: torch.Tensor,
    settings: MattingSettings | None = None,
    progress: Progress | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute alpha and foreground colors of an image by closed-form matting along the edges of a mask.

    Args:
        image: ``[H,W,C]``, RGB in 0..1; a fourth channel is ignored.
        mask: ``[H,W]`` in 0..1.
        settings: How to derive the trimap from the mask.
        progress: Advances by `STEPS` steps in total. Steps of 0 check for an interrupt.

    Returns:
        Alpha ``[H,W]`` and foreground ``[H,W,3]``, both in 0..1, on the image's device. If the trimap has no definite
        foreground or no definite background, they are the mask and the image's colors, with a warning in the log.

    Raises:
        InputError: The mask and the image differ in size.
        DependencyError: pymatting or scipy is missing or does not work.
    """
    settings = settings or MattingSettings()
    stage = StageProgress(progress or NoProgress(), STEPS)
    if image.ndim != 3 or mask.shape != image.shape[:2]:
        raise InputError(
            f"mask has shape {list(mask.shape)} and image has shape {list(image.shape)}",
            "Use a mask [height, width] with the size of the image [height, width, channels]",
        )
    device = image.device
    colors = tensors.drop_alpha(image).detach().to("cpu", torch.float32)
    mask = mask.detach().to("cpu", torch.float32)
    thresholds = settings.foreground_threshold, settings.background_threshold
    trimap = make_trimap(mask, *thresholds, settings.erode_size).numpy()

    reason = explain_unsolvable(trimap, settings)
    if reason:
        logger.warning("Alpha matting was skipped, and the mask is used as it is: %s.", reason)
        stage.advance_to(1)
        return mask.to(device, copy=True), colors.to(device, copy=True)
    unknown = trimap == 0.5
    if not unknown.any():  # a mask with hard edges
        stage.advance_to(1)
        return torch.from_numpy(trimap).to(device), colors.to(device, copy=True)

    stage.advance_to(0)
    alpha = solve_alpha(colors.numpy(), trimap, unknown, stage)
    stage.advance_to(closed_form.AFTER_ALPHA)
    foreground = estimate_foreground(colors.numpy(), alpha, unknown, stage)
    stage.advance_to(1)
    return torch.from_numpy(alpha).to(device), torch.from_numpy(foreground).to(device)


def compose_cutout(
    image: torch.Tensor,
    alpha: torch.Tensor,
    foreground: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Combine an image and alpha into RGBA with straight (not premultiplied) alpha, which leaves no dark fringe.

    Args:
        image: ``[...,H,W,C]``, RGB in 0..1; a fourth channel is dropped.
        alpha: ``[...,H,W]`` in 0..1.
        foreground: ``[...,H,W,3]``, colors that replace the image's.
        out: ``[...,H,W,4]``, float32, receives the result; None allocates a new tensor.

    Returns:
        ``[...,H,W,4]``; all four channels are 0 where alpha is 0.
    """
    colors = tensors.drop_alpha(image if foreground is None else foreground).float()
    alpha = alpha.to(colors)
    if out is None:
        out = colors.new_empty((*colors.shape[:-1], 4))
    # Five times as fast as torch.where and torch.cat.
    torch.mul(colors, (alpha > 0).to(colors).unsqueeze(-1), out=out[..., :3])
    out[..., 3] = alpha
    return out


def place_over(cutouts: torch.Tensor, backgrounds: torch.Tensor) -> torch.Tensor:
    """Place cutouts over backgrounds, which are scaled to fill the image and cropped in the center.

    Args:
        cutouts: ``[B,H,W,4]``, straight alpha.
        backgrounds: ``[K,h,w,3 or 4]``; one for all cutouts or one for each; a fourth channel is ignored.

    Returns:
        ``[B,H,W,3]``.

    Raises:
        InputError: The numbers do not match.
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


def post_process(mask: torch.Tensor) -> torch.Tensor:
    """Clean up a mask and make it binary, like ``post_process_mask`` of rembg 2.0.75 and later.

    Opening by a 3 x 3 cross removes specks, a Gaussian of sigma 2 smooths the edges, and 8-bit values of at least 127
    become 1.

    Args:
        mask: ``[B,H,W]`` in 0..1; rounded down to 8 bits.

    Returns:
        ``[B,H,W]`` of 0 and 1.

    Raises:
        DependencyError: scipy is missing or does not work.
    """
    gaussian_filter = import_scipy("ndimage").gaussian_filter
    levels = torch.from_numpy(tensors.to_8bit(mask)).float()
    opened = morphology.dilate(morphology.erode(levels, 3, "cross"), 3, "cross")
    binary = [gaussian_filter(each.numpy().astype(np.float64), sigma=2) >= 127 for each in opened]
    return torch.from_numpy(np.stack(binary).astype(np.float32)).to(mask.device)


def solve_alpha(
    colors: np.ndarray,
    trimap: np.ndarray,
    unknown: np.ndarray,
    stage: StageProgress,
    prior: closed_form.Prior | None = None,
) -> np.ndarray:
    """Alpha ``[H,W]``, float32, from colors ``[H,W,3]``: solved where the trimap is unknown, else the trimap itself."""
    crop = bounding_slices(unknown, closed_form.REACH)
    alpha = trimap.copy()
    solve = closed_form.solve if np.count_nonzero(unknown) <= MAX_UNKNOWNS else solve_downscaled
    alpha[unknown] = solve(colors[crop], trimap[crop], unknown[crop], stage, prior and prior.crop(crop))
    return alpha
