"""Background removal, one image at a time.

Apart from the results, it needs memory for only one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import tensors
from ..batching import STANDALONE_HOST, iterate_chunks
from ..engine import Host, MaskSource
from . import matting
from .trimap import MattingSettings

# The phases of one image.
SUBJECT = "subject"
EDGES = "edges"

_SUBJECT_STEPS = 24  # finding the subject usually takes less than a quarter of the time of alpha matting


def remove_background(
    images: torch.Tensor,
    source: MaskSource,
    settings: MattingSettings | None = None,
    post_process: bool = False,
    host: Host = STANDALONE_HOST,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut the subject out of every image.

    The images' own alpha multiplies the new alpha, so existing transparency is kept.

    Args:
        images: ``[B,H,W,3 or 4]``.
        source: Finds n masks per image (see `MaskSource`).
        settings: Settings of alpha matting; None uses the masks as alpha.
        post_process: Clean up the masks and make them binary, before alpha matting.
        on_phase: Called at the start of each phase, `SUBJECT` and `EDGES`, of every image.

    Returns:
        Cutouts ``[B,n*H,W,4]`` with straight alpha, the n of each image stacked vertically; and their alpha as masks
        ``[B*n,H,W]``, those of each image in succession. Both are on the images' device.
    """
    batch, height, width, channels = images.shape
    n = source.masks_per_image
    steps = 1 if settings is None else 1 + _SUBJECT_STEPS + n * matting.STEPS
    progress = host.progress(batch * steps)

    cutouts = tensors.empty((batch, n, height, width, 4), images.device)
    alphas = tensors.empty((batch, n, height, width), images.device)
    for chunk in iterate_chunks(batch, 1, host, progress):
        with chunk as entries:
            image = images[entries.start]
            on_phase(SUBJECT)
            masks = source.predict_masks(image)
            if post_process:
                masks = matting.post_process(masks)
            if settings is not None:
                progress.step(_SUBJECT_STEPS)
                on_phase(EDGES)
            for i, mask in enumerate(masks.to(images.device)):
                alpha, foreground = (mask, None) if settings is None else matting.matte(image, mask, settings, progress)
                alpha = alpha * image[..., 3] if channels == 4 else alpha
                matting.compose_cutout(image, alpha, foreground, out=cutouts[entries.start, i])
                alphas[entries.start, i] = alpha
    return cutouts.view(batch, n * height, width, 4), alphas.view(batch * n, height, width)
