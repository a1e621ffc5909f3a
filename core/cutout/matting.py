"""Background removal: cuts the subject out of images, and refines its edges by alpha matting.

A mask from a segmentation network is reliable except along edges. A *trimap* marks every pixel as foreground (1),
background (0) or unknown (0.5). *Alpha matting* estimates, for every unknown pixel, which fraction of it is foreground
(alpha), and the color of that foreground without the background.

- Alpha: closed-form matting (Levin, Lischinski and Weiss, *A Closed-Form Solution to Natural Image Matting*, 2008).
- Foreground colors: multi-level estimation (Germer et al., *Fast Multi-Level Foreground Estimation*, 2020).

The results match ``rembg.remove(alpha_matting=True)``. rembg builds the equations of the whole image; this code builds
only those of the unknown pixels. If there are too many of them, alpha is solved on a smaller image
and upsampled by the guided filter. In gray images, whose colors are collinear, rembg is inaccurate; this code is close
to the exact solution.

Each image has its own equations, so images are single here, ``[H,W,C]`` and ``[H,W]``. Matting runs on the CPU.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from .. import tensors
from ..batching import NO_PROGRESS, NO_STAGE_PROGRESS, STANDALONE_HOST, StageProgress, iterate_chunks, run_interruptibly
from ..checks import check_number, check_whole_number
from ..engine import Host, MaskSource, Progress
from ..errors import InputError
from ..packages import import_pymatting, import_scipy
from . import closed_form, downscaled

logger = logging.getLogger(__name__)

# The phases of one image, and their progress steps. Finding the subject usually takes less than a quarter of the time
# of alpha matting.
SUBJECT, EDGES = "subject", "edges"
_SUBJECT_STEPS, STEPS = 24, 100


@dataclass(frozen=True)
class MattingSettings:
    """How to derive a trimap from a mask. See `make_trimap`.

    Attributes:
        foreground_threshold: 0..255; 8-bit values above it are foreground.
        background_threshold: 0..255; 8-bit values below it are background.
        erode_size: Width in pixels of the square that erodes both, at least 0.

    Raises:
        InputError: A value is not a number or out of range.
    """

    foreground_threshold: float = 240
    background_threshold: float = 20
    erode_size: int = 10

    def __post_init__(self) -> None:
        check_number(self.foreground_threshold, "alpha_matting_foreground_threshold", 0, 255)
        check_number(self.background_threshold, "alpha_matting_background_threshold", 0, 255)
        check_whole_number(self.erode_size, "alpha_matting_erode_size", 0)


def remove_background(
    images: torch.Tensor,
    source: MaskSource,
    settings: MattingSettings | None = None,
    clean_up: bool = False,
    host: Host = STANDALONE_HOST,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut the subject out of every image, one image at a time: apart from the results, memory is needed only for one.

    The images' own alpha multiplies the new alpha, so existing transparency is kept.

    Args:
        images: ``[B,H,W,3 or 4]``.
        source: Finds n masks per image (see `MaskSource`).
        settings: Settings of alpha matting; None uses the masks as alpha.
        clean_up: Clean up the masks by `post_process`, before alpha matting.
        on_phase: Called at the start of each phase, `SUBJECT` and `EDGES`, of every image.

    Returns:
        Cutouts ``[B,n*H,W,4]`` with straight alpha, the n of each image stacked vertically; and their alpha as masks
        ``[B*n,H,W]``, those of each image in succession. Both are on the images' device.
    """
    batch, height, width, channels = images.shape
    n = source.masks_per_image
    progress = host.progress(batch * (1 if settings is None else 1 + _SUBJECT_STEPS + n * STEPS))

    cutouts = tensors.empty((batch, n, height, width, 4), images.device)
    alphas = tensors.empty((batch, n, height, width), images.device)
    for chunk in iterate_chunks(batch, 1, host, progress):
        with chunk as entries:
            image = images[entries.start]
            on_phase(SUBJECT)
            masks = source.predict_masks(image)
            if clean_up:
                masks = post_process(masks)
            if settings is not None:
                progress.step(_SUBJECT_STEPS)
                on_phase(EDGES)
            for i, mask in enumerate(masks.to(images.device)):
                alpha, foreground = (mask, None) if settings is None else matte(image, mask, settings, progress)
                alpha = alpha * image[..., 3] if channels == 4 else alpha
                compose_cutout(image, alpha, foreground, out=cutouts[entries.start, i])
                alphas[entries.start, i] = alpha
    return cutouts.view(batch, n * height, width, 4), alphas.view(batch * n, height, width)


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
    ndimage = import_scipy("ndimage")
    cross = ndimage.generate_binary_structure(2, 1)
    opened = (ndimage.grey_opening(each, footprint=cross, mode="nearest") for each in tensors.to_8bit(mask))
    binary = [ndimage.gaussian_filter(each.astype(np.float64), sigma=2) >= 127 for each in opened]
    return torch.from_numpy(np.stack(binary).astype(np.float32)).to(mask.device)


def matte(
    image: torch.Tensor,
    mask: torch.Tensor,
    settings: MattingSettings | None = None,
    progress: Progress = NO_PROGRESS,
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
    stage = StageProgress(progress, STEPS)
    if image.ndim != 3 or mask.shape != image.shape[:2]:
        raise InputError(
            f"mask has shape {list(mask.shape)} and image has shape {list(image.shape)}",
            "Use a mask [height, width] with the size of the image [height, width, channels]",
        )
    device = image.device
    colors = tensors.drop_alpha(image).detach().to("cpu", torch.float32)
    mask = mask.detach().to("cpu", torch.float32)
    trimap = make_trimap(mask, settings).numpy()

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


def make_trimap(mask: torch.Tensor, settings: MattingSettings | None = None) -> torch.Tensor:
    """Classify pixels as definite foreground (1), definite background (0) or unknown (0.5).

    As in rembg, both definite areas are eroded by a square, the foreground also from the image border inwards. Also as
    in rembg, an ``erode_size`` of 0 still erodes by a 3 x 3 cross. If the thresholds cross, a pixel in both areas is
    background.

    Args:
        mask: ``[H,W]`` in 0..1; rounded down to 8 bits.

    Returns:
        ``[H,W]`` of 0, 0.5 and 1.
    """
    settings, ndimage = settings or MattingSettings(), import_scipy("ndimage")
    levels = tensors.to_8bit(mask)
    size = min(int(settings.erode_size), 2 * max(mask.shape) + 1)  # larger squares make no difference
    shape = {"size": size} if size else {"footprint": ndimage.generate_binary_structure(2, 1)}
    erode = partial(ndimage.minimum_filter, mode="constant", **shape)
    trimap = np.full(levels.shape, 0.5, np.float32)
    trimap[erode(levels > settings.foreground_threshold, cval=0)] = 1
    trimap[erode(levels < settings.background_threshold, cval=1)] = 0
    return torch.from_numpy(trimap).to(mask.device)


def explain_unsolvable(trimap: np.ndarray, settings: MattingSettings) -> str | None:
    """Explain why matting cannot solve a trimap; None if it can."""
    foreground, background, width = settings.foreground_threshold, settings.background_threshold, settings.erode_size
    if not (trimap == 1).any():
        limit = f" and not below {background:g}" if background > foreground else ""
        return f"no pixel of the mask is definite foreground (above {foreground:g}{limit} after eroding by {width})"
    if not (trimap == 0).any():
        return f"no pixel of the mask is definite background (below {background:g} after eroding by {width})"
    if min(trimap.shape) < 3:
        return f"the image has {trimap.shape[1]} x {trimap.shape[0]} pixels, and matting needs at least 3 x 3"
    return None


def solve_alpha(
    colors: np.ndarray,
    trimap: np.ndarray,
    unknown: np.ndarray,
    stage: StageProgress,
    prior: closed_form.Prior | None = None,
    exact: bool = True,
) -> np.ndarray:
    """Alpha ``[H,W]``, float32, from colors ``[H,W,3]``: solved where the trimap is unknown, else the trimap itself.

    Args:
        prior: See `closed_form.solve`.
        exact: Solve at full size up to `downscaled.MAX_UNKNOWNS` unknown pixels; if false, only up to `FEW_UNKNOWNS`.
    """
    stage.advance_to(0)
    crop = tensors.find_bounding_slices(unknown, closed_form.REACH)
    max_unknowns = downscaled.MAX_UNKNOWNS if exact else downscaled.FEW_UNKNOWNS
    solve = closed_form.solve if np.count_nonzero(unknown) <= max_unknowns else downscaled.solve_downscaled
    alpha = trimap.copy()
    alpha[unknown] = solve(colors[crop], trimap[crop], unknown[crop], stage, prior and prior.crop(crop))
    return alpha


_MULTI_LEVEL = "pymatting.foreground.estimate_foreground_ml"


def estimate_foreground(
    colors: np.ndarray,
    alpha: np.ndarray,
    unknown: np.ndarray,
    stage: StageProgress = NO_STAGE_PROGRESS,
    exact: bool = True,
) -> np.ndarray:
    """Estimate foreground colors ``[H,W,3]``, float32, from colors ``[H,W,3]``, alpha and unknown pixels ``[H,W]``.

    Args:
        exact: Work at full size up to `downscaled.MAX_PIXELS` pixels; if false, larger images than
            `FEW_PIXELS` are reduced to a third of their pixels, but not below `FEW_PIXELS`.
    """
    if alpha.size == 1:
        return colors  # pymatting divides by the logarithm of the size
    import_pymatting(_MULTI_LEVEL)  # imports belong in the main thread
    max_pixels = downscaled.MAX_PIXELS if exact else downscaled.FEW_PIXELS
    if alpha.size <= max_pixels:
        return run_interruptibly(lambda: estimate_multi_level(colors, alpha)[0], stage)
    if not exact:
        max_pixels = min(max(max_pixels, alpha.size // downscaled.REDUCTION), downscaled.MAX_PIXELS)
    estimate = partial(downscaled.estimate_foreground_near, estimate_multi_level, colors, alpha, unknown, max_pixels)
    return run_interruptibly(estimate, stage)


_NUMBA_LOCK = threading.Lock()  # numba's workqueue threading layer aborts the process on concurrent use


def estimate_multi_level(colors: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate foreground and background colors, ``[H,W,3]`` each, from colors ``[H,W,3]`` and alpha ``[H,W]``."""
    numba = import_pymatting("numba")
    # Its parallel steps are so short that a single thread is up to ten times as fast.
    with _NUMBA_LOCK:
        threads = numba.get_num_threads()
        numba.set_num_threads(1)  # for the calling thread alone
        try:
            return import_pymatting(_MULTI_LEVEL).estimate_foreground_ml(colors, alpha, return_background=True)
        finally:
            numba.set_num_threads(threads)


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
