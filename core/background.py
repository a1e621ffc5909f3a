"""Background removal: pictures and a source of masks become cutouts, one picture at a time.

So a batch of any length needs the memory of its result and of one picture's work, progress and interrupt are a picture
apart, and the result of a batch is that of its pictures one by one.
"""

from __future__ import annotations

import torch

from . import matting, tensors
from .chunks import WITHOUT_HOST, Chunks
from .interfaces import MaskSource
from .matting import MattingSettings


def remove(
    images: torch.Tensor,
    source: MaskSource,
    settings: MattingSettings | None = None,
    post_process: bool = False,
    chunks: Chunks = WITHOUT_HOST,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut out of every picture what ``source`` selects.

    Where a picture comes with transparency, what it shows through stays transparent: its alpha multiplies the new one.

    Args:
        images: ``[B,H,W,3 or 4]``.
        source: Gives n masks a picture (see `MaskSource`).
        settings: For alpha matting along the edges of the masks; None: the masks are alpha as they are.
        post_process: Clean the masks and make them hard, before any matting.

    Returns:
        Cutouts ``[B,n*H,W,4]`` in straight colours, those of one picture below each other, and their alpha as masks
        ``[B*n,H,W]``, those of one picture after each other; both on the images' device.
    """
    batch, height, width, channels = images.shape
    n = source.masks_per_picture
    cutouts = tensors.empty((batch, n, height, width, 4), images.device)
    alphas = tensors.empty((batch, n, height, width), images.device)

    def work(entries: slice) -> None:
        for index in range(entries.start, entries.stop):
            picture = images[index]
            masks = source.masks(picture)
            if post_process:
                masks = matting.post_process(masks)
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
