"""Refines masks from any source: accurate alpha along the edges, and foreground colors without the background."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch

from .. import tensors
from ..batching import STANDALONE_HOST, StageProgress, iterate_chunks, run_interruptibly
from ..checks import Settings, check_choice, check_mask_count, check_number, check_switch, setting
from ..distance import is_within
from ..engine import Host
from ..errors import InputError
from .closed_form import AFTER_ALPHA
from .guided_filter import apply_guided_filter
from .matting import EDGES, STEPS, compose_cutout, estimate_foreground, solve_alpha
from .thin_parts import SURE, ThinParts

logger = logging.getLogger(__name__)

CLOSED_FORM, GUIDED_FILTER, VITMATTE = METHODS = ("closed form", "guided filter", "ViTMatte")
TRANSPARENT, THE_IMAGE = BACKGROUNDS = ("transparent", "the image")
COLORS = "colors"  # the phase after `EDGES`

_KNOWN = 0.05  # values of a connected trimap this close to 0 or 1 are known
_REST = 0.01  # the equations leave alpha about this far from 0 and 1


class Matter(Protocol):
    """A loaded model that computes alpha from a trimap."""

    def predict_alpha(self, image: torch.Tensor, trimap: torch.Tensor, stage: StageProgress) -> torch.Tensor:
        """``[H,W,3]`` in 0..1 and ``[H,W]`` of 0, 0.5 and 1 -> ``[H,W]`` in 0..1, on any device."""
        ...


@dataclass(frozen=True)
class RefineSettings(Settings):
    """How to refine masks.

    Attributes:
        method: One of `METHODS`.
        edge_width: Width of the band to refine, in pixels: this far inside the edge, half as far outside.
            0: see `find_edge_width`.
        keep_thin_parts: See `ThinParts.weight`; for closed form.
        decontaminate: Estimate the colors of the foreground without the background; if false, use the image's.
        background: One of `BACKGROUNDS`: the colors of the cutout where alpha is 0.

    Raises:
        InputError: A value is out of range or of the wrong type.
    """

    method: str = setting(CLOSED_FORM, check_choice, choices=METHODS)
    edge_width: float = setting(0.0, check_number, low=0, high=16384)
    keep_thin_parts: float = setting(0.2, check_number, low=0, high=1)
    decontaminate: bool = setting(True, check_switch)
    background: str = setting(TRANSPARENT, check_choice, choices=BACKGROUNDS)


def refine_masks(
    images: torch.Tensor,
    masks: torch.Tensor,
    settings: RefineSettings,
    trimaps: torch.Tensor | None = None,
    matter: Matter | None = None,
    host: Host = STANDALONE_HOST,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Refine the edges of masks, and cut out what they select.

    Args:
        images: ``[B,H,W,3 or 4]``. Their own alpha multiplies the new alpha.
        masks: ``[M,H,W]``: one for all images, one for each, any number for a single image, or none (M = 0), which
            selects nothing.
        trimaps: ``[T,H,W]`` with 1 for definite foreground, 0 for definite background and other values for unknown
            pixels: one for all results, or one for each. None derives them from the masks.
        matter: For the method `VITMATTE`.
        on_phase: Called at the start of each phase, `EDGES` and `COLORS`, of every result.

    Returns:
        Alpha ``[N,H,W]``, cutouts with straight alpha ``[N,H,W,4]``, and foreground colors ``[N,H,W,3]``, on the
        images' device; N is the larger of B and M.

    Raises:
        InputError: The numbers of images, masks and trimaps do not match, or their sizes.
        DependencyError: A package is missing or does not work.
    """
    count = _count_results(images, masks, trimaps)
    if len(masks) == 0:
        masks = images.new_zeros(1, *images.shape[1:3])
    height, width = images.shape[1:3]
    alphas = tensors.empty((count, height, width), images.device)
    cutouts = tensors.empty((count, height, width, 4), images.device)
    foregrounds = tensors.empty((count, height, width, 3), images.device)
    progress = host.progress(count * (STEPS + 1))

    for chunk in iterate_chunks(count, 1, host, progress):
        with chunk as entries:
            i = entries.start
            image, mask = _entry(images, i), _entry(masks, i).to(images.device)
            trimap = None if trimaps is None else _entry(trimaps, i).to(images.device)
            stage, colors = StageProgress(progress, STEPS), tensors.drop_alpha(image)
            on_phase(EDGES)
            alpha, unknown = _refine(colors, mask, trimap, settings, matter, stage)
            stage.advance_to(AFTER_ALPHA)
            alphas[i] = alpha * image[..., 3] if image.shape[-1] == 4 else alpha
            if settings.decontaminate and unknown.any():
                on_phase(COLORS)
                foregrounds[i] = _decontaminate(colors, alpha, unknown, stage)
            else:
                foregrounds[i] = colors
            stage.advance_to(0)
            compose_cutout(image, alphas[i], foregrounds[i], out=cutouts[i])
            if settings.background == THE_IMAGE:
                cutouts[i, ..., :3] = torch.where((alphas[i] == 0).unsqueeze(-1), colors, cutouts[i, ..., :3])
            stage.advance_to(1)
    return alphas, cutouts, foregrounds


def _decontaminate(
    image: torch.Tensor, alpha: torch.Tensor, unknown: torch.Tensor, stage: StageProgress
) -> torch.Tensor:
    """Foreground colors ``[H,W,3]`` of an image ``[H,W,3]``; its alpha, and where that was unknown, are ``[H,W]``."""
    colors, alphas, is_unknown = (each.cpu().contiguous().numpy() for each in (image, alpha, unknown))
    return torch.from_numpy(estimate_foreground(colors, alphas, is_unknown, stage, exact=False))


def _count_results(images: torch.Tensor, masks: torch.Tensor, trimaps: torch.Tensor | None) -> int:
    check_mask_count(len(masks), len(images))
    count = max(len(images), len(masks))
    for name, each in (("mask", masks), ("trimap", trimaps)):
        if each is not None and each.shape[1:] != images.shape[1:3]:
            raise InputError(
                f"{name} has shape {list(each.shape)} and image has shape {list(images.shape)}",
                f"Use a {name} of the same height and width as the image",
            )
    if trimaps is not None and len(trimaps) not in (1, count):
        raise InputError(
            f"trimap is a batch of {len(trimaps)}, and the result is a batch of {count}",
            "Use one trimap for all masks, or one per mask",
        )
    return count


def _entry(batch: torch.Tensor, index: int) -> torch.Tensor:
    return batch[index if len(batch) > 1 else 0]


def _refine(
    image: torch.Tensor,
    mask: torch.Tensor,
    user_trimap: torch.Tensor | None,
    settings: RefineSettings,
    matter: Matter | None,
    stage: StageProgress,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Alpha of one image ``[H,W,3]`` and mask ``[H,W]``, and where it was unknown, both ``[H,W]``.

    Args:
        user_trimap: A connected trimap ``[H,W]``, or None.
    """
    edge_width = settings.edge_width or find_edge_width(mask)
    # On an accelerator, these take milliseconds and need no interrupt.
    run = partial(run_interruptibly, stage=stage) if mask.device.type == "cpu" else lambda work: work()
    trimap = run(lambda: make_band(mask, edge_width)) if user_trimap is None else _snap(user_trimap)
    unknown = trimap == 0.5
    if not unknown.any():
        return trimap, unknown
    if settings.method == GUIDED_FILTER:
        radius = max(1, round(edge_width))
        filtered = run(lambda: apply_guided_filter(image[None], mask[None], radius))[0]  # [H,W,3] -> [1,H,W,3]
        return torch.where(unknown, filtered, trimap), unknown

    keep = settings.keep_thin_parts if settings.method == CLOSED_FORM else 0.0
    reason = _explain_unsolvable(trimap, mask, keep, user_trimap is not None)
    if reason:
        logger.warning("The mask is used as it is, because %s.", reason)
        return (mask if user_trimap is None else torch.where(unknown, mask, trimap)), unknown
    if settings.method == VITMATTE:
        assert matter is not None  # the node loads it
        return torch.where(unknown, matter.predict_alpha(image, trimap, stage).to(trimap), trimap), unknown

    colors, values, is_unknown = (each.cpu().contiguous().numpy() for each in (image, trimap, unknown))
    thin_parts = ThinParts(mask.cpu().numpy(), keep, edge_width / 2)
    alpha = torch.from_numpy(solve_alpha(colors, values, is_unknown, stage, thin_parts, exact=False)).to(trimap)
    return ((alpha - _REST) / (1 - 2 * _REST)).clamp(0, 1), unknown


_FOREGROUND, _BACKGROUND = 240 / 255, 20 / 255  # values above and below are reliable, except near the edge
# Factors of the edge width, chosen by measurement: see docs/quality.md.
_OUTSIDE = 0.5  # masks of networks are too wide more often than too narrow
_PER_SOFTNESS = 2.0
_LEAST, _MOST = 0.01, 0.05  # of the longer side of the image


def find_edge_width(mask: torch.Tensor) -> float:
    """Choose the width of the band to refine from the softness of the mask's edge.

    The softness is the mean distance over which the edge passes through uncertain values: their area, divided by
    the length of the edge (the total variation of the mask).

    Args:
        mask: ``[H,W]`` in 0..1.

    Returns:
        The ``edge_width`` of `make_band` in pixels: twice the softness, between 1 and 5 % of the longer side.
    """
    longest, values = max(mask.shape), mask.cpu().numpy()
    uncertain = np.count_nonzero((values >= _BACKGROUND) & (values <= _FOREGROUND))
    down, across = np.diff(values, axis=0)[:, :-1], np.diff(values, axis=1)[:-1]
    length = np.sqrt(down * down + across * across).sum(dtype=np.float64)
    softness = uncertain / length if length else 0.0
    width = min(max(_PER_SOFTNESS * softness, _LEAST * longest), _MOST * longest)
    return round(width, 1)  # so that rounding errors, which differ between machines, do not change the result


def make_band(mask: torch.Tensor, edge_width: float) -> torch.Tensor:
    """Classify pixels like `matting.make_trimap`, but by Euclidean distance, and with a band wider inside than outside.

    Args:
        mask: ``[H,W]`` in 0..1.
        edge_width: In pixels. Pixels farther than this from all that are not foreground are definite foreground;
            pixels farther than half of it from all that are not background are definite background.

    Returns:
        ``[H,W]`` of 0, 0.5 and 1.
    """
    values = mask.unsqueeze(0)  # [H,W] -> [1,H,W]
    foreground = ~is_within(values <= _FOREGROUND, edge_width)
    background = ~is_within(values >= _BACKGROUND, _OUTSIDE * edge_width)
    return torch.where(background, 0.0, (1 + foreground.float()) / 2)[0]


def _snap(trimap: torch.Tensor) -> torch.Tensor:
    """Known values of a connected trimap as exactly 0 and 1, all others as 0.5."""
    half = torch.full_like(trimap, 0.5)
    return torch.where(trimap <= _KNOWN, 0.0, torch.where(trimap >= 1 - _KNOWN, 1.0, half))


def _explain_unsolvable(
    trimap: torch.Tensor, mask: torch.Tensor, keep_thin_parts: float, is_connected: bool
) -> str | None:
    """Explain why alpha cannot be computed from a trimap, which is the user's if ``is_connected``; None if it can."""
    remedy = "add {} to the trimap" if is_connected else "lower edge_width, or connect a trimap"
    if not (trimap == 0).any():
        return f"no pixel is definite background: {remedy.format('black')}"
    if not (trimap == 1).any() and not (keep_thin_parts and (mask > SURE).any()):
        return f"no pixel is definite foreground: {remedy.format('white')}"
    height, width = trimap.shape
    if min(height, width) < 3:
        return f"the image has {width} x {height} pixels, and matting needs at least 3 x 3"
    return None
