"""Background removal: images and a source of masks become cutouts, one image at a time.

A batch of any length needs the memory of its result and of the work on one image, and its result is that of its images
one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from . import matting, tensors
from .chunks import WITHOUT_HOST, Chunks
from .engine import MaskSource
from .matting import MattingSettings

# The phases of the work on one image.
SUBJECT = "subject"
EDGES = "edges"

_SUBJECT_STEPS = 24  # finding the subject usually takes less than a quarter of the time of alpha matting


def progress_steps(images: int, source: MaskSource, settings: MattingSettings | None) -> int:
    """How many steps `remove` reports for a number of images: one per image without alpha matting, else more."""
    if settings is None:
        return images
    return images * (1 + _SUBJECT_STEPS + source.masks_per_picture * matting.STEPS)


def remove(
    images: torch.Tensor,
    source: MaskSource,
    settings: MattingSettings | None = None,
    post_process: bool = False,
    chunks: Chunks = WITHOUT_HOST,
    begin: Callable[[str], None] = lambda phase: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut out of every image what ``source`` selects.

    An alpha channel of the images multiplies the new alpha, so existing transparency is kept.

    Args:
        images: ``[B,H,W,3 or 4]``.
        source: Gives n masks per image (see `MaskSource`).
        settings: For alpha matting along the edges of the masks; None: the masks are used as alpha.
        post_process: Clean the masks and make them hard, before any matting.
        chunks: Its progress gets `progress_steps` steps.
        begin: Called with the phase that begins, `SUBJECT` or `EDGES`, for every image.

    Returns:
        Cutouts ``[B,n*H,W,4]`` in straight colours, those of one image stacked vertically, and their alpha as masks
        ``[B*n,H,W]``, those of one image in a row; both on the images' device.
    """
    batch, height, width, channels = images.shape
    n = source.masks_per_picture
    cutouts = tensors.empty((batch, n, height, width, 4), images.device)
    alphas = tensors.empty((batch, n, height, width), images.device)

    def work(entries: slice) -> None:
        for index in range(entries.start, entries.stop):
            picture = images[index]
            begin(SUBJECT)
            masks = source.masks(picture)
            if post_process:
                masks = matting.post_process(masks)
            if settings is not None:
                chunks.progress.step(_SUBJECT_STEPS)
                begin(EDGES)
            for part, mask in enumerate(masks.to(images.device)):
                alpha, foreground = mask, None
                if settings is not None:
                    alpha, foreground = matting.matte(picture, mask, settings, chunks.progress)
                if channels == 4:
                    alpha = alpha * picture[..., 3]
                matting.cutout(picture, alpha, foreground, out=cutouts[index, part])
                alphas[index, part] = alpha

    chunks.run(batch, 1, work)
    return cutouts.view(batch, n * height, width, 4), alphas.view(batch * n, height, width)
