"""Background removal: images and a source of masks become cutouts, one image at a time.

A batch of any length needs the memory of its result and of the work on one image, and gives the results of its images
one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import tensors
from ..batching import run_in_chunks
from ..engine import Host, MaskSource
from ..memory import STANDALONE_HOST
from . import matting
from .trimap import MattingSettings

# The phases of the work on one image.
SUBJECT = "subject"
EDGES = "edges"

_SUBJECT_STEPS = 24  # finding the subject usually takes less than a quarter of the time of alpha matting


def remove_background(
    images: torch.Tensor,
    source: MaskSource,
    settings: MattingSettings | None = None,
    post_process: bool = False,
    host: Host = STANDALONE_HOST,
    begin: Callable[[str], None] = lambda phase: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut out of every image what ``source`` selects.

    An alpha channel of the images multiplies the new alpha, so existing transparency is kept.

    Args:
        images: ``[B,H,W,3 or 4]``.
        source: Gives n masks per image (see `MaskSource`).
        settings: For alpha matting along the edges of the masks; None: the masks are used as alpha.
        post_process: Clean the masks and make them hard, before any matting.
        begin: Called with the phase that begins, `SUBJECT` or `EDGES`, for every image.

    Returns:
        Cutouts ``[B,n*H,W,4]`` in straight colors, those of one image stacked vertically, and their alpha as masks
        ``[B*n,H,W]``, those of one image in a row; both on the images' device.
    """
    batch, height, width, channels = images.shape
    n = source.masks_per_image
    steps = 1 if settings is None else 1 + _SUBJECT_STEPS + n * matting.STEPS
    progress = host.progress(batch * steps)

    def work(entries: slice) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        image = images[entries.start]
        begin(SUBJECT)
        masks = source.predict_masks(image)
        if post_process:
            masks = matting.post_process(masks)
        masks = masks.to(images.device)
        if settings is None:
            return [(mask, None) for mask in masks]
        progress.step(_SUBJECT_STEPS)
        begin(EDGES)
        return [matting.matte(image, mask, settings, progress) for mask in masks]

    cutouts = tensors.empty((batch, n, height, width, 4), images.device)
    alphas = tensors.empty((batch, n, height, width), images.device)
    for entries, layers in run_in_chunks(batch, 1, work, host, progress):
        image = images[entries.start]
        for part, (alpha, foreground) in enumerate(layers):
            alpha = alpha * image[..., 3] if channels == 4 else alpha
            matting.compose_cutout(image, alpha, foreground, out=cutouts[entries.start, part])
            alphas[entries.start, part] = alpha
    return cutouts.view(batch, n * height, width, 4), alphas.view(batch * n, height, width)
