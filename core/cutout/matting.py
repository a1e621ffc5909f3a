"""Alpha matting and cutouts: a picture and a mask become a picture with soft, clean edges.

A mask from a segmentation network is sure about most of a picture and unsure along the edges. The *trimap* says so: 1
is foreground, 0 background, 0.5 unknown. *Alpha matting* finds, for every unknown pixel, how much of it is foreground
(alpha), and what colour that foreground has once the background's share is taken out.

- Alpha: closed-form matting (Levin, Lischinski and Weiss, *A Closed-Form Solution to Natural Image Matting*, 2008).
- Foreground colours: multi-level estimation (Germer et al., *Fast Multi-Level Foreground Estimation*, 2020).

The results are those of ``rembg.remove(alpha_matting=True)``, which builds the equations of the whole picture to solve
the few of the unknown pixels. Here only those few are built. Where they are so many that memory would run out, alpha
is solved on a smaller image and carried back by the guided filter. In grey images, whose colours are collinear,
rembg loses accuracy; where the two differ, these results are closer to the exact solution.

Pictures are single ones here, ``[H,W,C]`` and ``[H,W]``, since each has its own equations. The work is done on the CPU.
"""

from __future__ import annotations

import logging

import numpy as np
import torch

from .. import morphology, tensors
from ..engine import NoProgress, Progress
from ..errors import InputError
from ..packages import import_scipy
from ..progress import StageProgress
from . import closed_form
from .downscaled import MAX_UNKNOWNS, bounding_slices, solve_downscaled
from .foreground import estimate_foreground
from .trimap import MattingSettings, explain_unsolvable, make_trimap

logger = logging.getLogger(__name__)

STEPS = 100  # of a `Progress`, for one image


def matte(
    image: torch.Tensor,
    mask: torch.Tensor,
    settings: MattingSettings | None = None,
    progress: Progress | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Alpha and foreground colours of a picture, by closed-form matting along the edges of a mask.

    Args:
        image: ``[H,W,C]``, RGB in 0..1; a fourth channel is not looked at.
        mask: ``[H,W]`` in 0..1.
        settings: How the trimap is made.
        progress: Gets `STEPS` steps in all. Steps of 0 check whether to go on.

    Returns:
        Alpha ``[H,W]`` and foreground ``[H,W,3]``, both in 0..1, on the image's device. Where the trimap gives
        nothing to solve (no sure foreground, or no sure background), they are the mask and the image's colours, and
        the log says why.

    Raises:
        InputError: The mask is not of the image's size.
        DependencyError: pymatting or scipy is missing or does not work.
    """
    settings = settings or MattingSettings()
    work = StageProgress(progress or NoProgress(), STEPS)
    if image.ndim != 3 or mask.shape != image.shape[:2]:
        raise InputError(
            f"mask is {list(mask.shape)} and image is {list(image.shape)}",
            "Give a mask [height, width] of the size of the image [height, width, channels]",
        )
    device = image.device
    colours = tensors.drop_alpha(image).detach().to("cpu", torch.float32)
    mask = mask.detach().to("cpu", torch.float32)
    sure = make_trimap(mask, settings.foreground_threshold, settings.background_threshold, settings.erode_size).numpy()

    reason = explain_unsolvable(sure, settings)
    if reason:
        logger.warning("Alpha matting was skipped and the plain mask is used: %s.", reason)
        work.advance_to(1)
        return mask.to(device, copy=True), colours.to(device, copy=True)
    unknown = sure == 0.5
    if not unknown.any():  # a mask with hard edges, every pixel of which is sure
        work.advance_to(1)
        return torch.from_numpy(sure).to(device), colours.to(device, copy=True)

    work.advance_to(0)
    alpha = _alpha(colours.numpy(), sure, unknown, work)
    work.advance_to(closed_form.AFTER_ALPHA)
    foreground = estimate_foreground(colours.numpy(), alpha, unknown)
    work.advance_to(1)
    return torch.from_numpy(alpha).to(device), torch.from_numpy(foreground).to(device)


def compose_cutout(
    image: torch.Tensor,
    alpha: torch.Tensor,
    foreground: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """A picture with alpha, in straight colours: not multiplied by alpha, so no dark halo on a new background.

    Args:
        image: ``[...,H,W,C]``, RGB in 0..1; a fourth channel is dropped.
        alpha: ``[...,H,W]`` in 0..1.
        foreground: ``[...,H,W,3]``, colours to use in place of the image's.
        out: ``[...,H,W,4]``, float32, where to write the result; a new tensor if None.

    Returns:
        ``[...,H,W,4]``; all four channels are 0 where alpha is 0.
    """
    colours = tensors.drop_alpha(image if foreground is None else foreground).float()
    alpha = alpha.to(colours)
    if out is None:
        out = colours.new_empty((*colours.shape[:-1], 4))
    # A product in place takes a fifth of the time of a choice and a join.
    torch.mul(colours, (alpha > 0).to(colours).unsqueeze(-1), out=out[..., :3])
    out[..., 3] = alpha
    return out


def post_process(mask: torch.Tensor) -> torch.Tensor:
    """Clean a mask and make it hard, as rembg (2.0.75 and later) does with ``post_process_mask``.

    Opening by a cross of 3 x 3 removes specks, a Gaussian of sigma 2 rounds the edges, levels of 127 and more become 1.

    Args:
        mask: ``[B,H,W]`` in 0..1, rounded down to 8-bit levels.

    Returns:
        ``[B,H,W]`` of 0 and 1.

    Raises:
        DependencyError: scipy is missing or does not work.
    """
    gaussian_filter = import_scipy("ndimage").gaussian_filter
    levels = torch.from_numpy(tensors.to_8bit(mask)).float()
    opened = morphology.dilate(morphology.erode(levels, 3, "cross"), 3, "cross")
    hard = [gaussian_filter(each.numpy().astype(np.float64), sigma=2) >= 127 for each in opened]
    return torch.from_numpy(np.stack(hard).astype(np.float32)).to(mask.device)


def _alpha(colours: np.ndarray, sure: np.ndarray, unknown: np.ndarray, work: StageProgress) -> np.ndarray:
    """Alpha ``[H,W]``, float32, from colours ``[H,W,3]`` and a trimap: solved where unknown, the trimap elsewhere."""
    part = bounding_slices(unknown, closed_form.REACH)
    alpha = sure.copy()
    if np.count_nonzero(unknown) <= MAX_UNKNOWNS:
        alpha[unknown] = closed_form.solve(colours[part], sure[part], unknown[part], work)
    else:
        alpha[unknown] = solve_downscaled(colours[part], sure[part], unknown[part], work)
    return alpha
