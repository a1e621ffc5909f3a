"""Recognizes the reference latents of edit models that show the image being detailed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import tensors

# Root mean square difference between a reference and the encoded image, relative to the deviation of the latter. Equal
# images differ by the noise of encoders that draw samples, and by the filter that resized one of them; other images by
# about 1.4, and the same image with 3 % of it replaced by about 0.2.
TOLERANCE = 0.2


def may_show(reference: Any, height: int, width: int) -> bool:
    """Whether a reference has the aspect ratio of an image of ``height`` x ``width``, to one latent cell. All others
    show something else."""
    if not isinstance(reference, torch.Tensor) or reference.ndim < 4:
        return False
    rows, columns = reference.shape[-2:]
    return abs(columns * height - rows * width) <= max(height, width)


class References:
    """Compares references with the image, encoded once for each size of reference.

    A reference shows the image if it has the image's aspect ratio (see `may_show`), and nearly the values that the VAE
    gives for the image in the reference's size.

    Args:
        images: ``[B,H,W,C]``, before any region is refined.
        ratio: Pixels per latent cell on each axis.
        encode: ``[1,H,W,3]`` -> latent ``[1,C,h,w]``, with a time axis if the model has one.
    """

    def __init__(self, images: torch.Tensor, ratio: int, encode: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._images, self._ratio, self._encode = images, ratio, encode
        self._results: dict[tuple[int, int], tuple[torch.Tensor, bool]] = {}  # with the reference, to keep its id
        self._encoded: dict[tuple[int, int, int], torch.Tensor] = {}  # by image, height and width in cells

    def show_image(self, reference: torch.Tensor, index: int) -> bool:
        """Whether ``reference`` ``[B,C,h,w]`` or ``[B,C,t,h,w]``, or its row for image ``index``, shows that image."""
        key = id(reference), index
        if key not in self._results:
            self._results[key] = reference, self._compare(reference, index)
        return self._results[key][1]

    def _compare(self, reference: torch.Tensor, index: int) -> bool:
        if not may_show(reference, *self._images.shape[1:3]):
            return False
        rows, columns = reference.shape[-2:]
        key = index, rows, columns
        if key not in self._encoded:
            self._encoded[key] = self._encode(self._resized(index, rows * self._ratio, columns * self._ratio))
        encoded = self._encoded[key]
        row = reference[index % len(reference)].to(encoded)
        if row.shape != encoded.shape[1:]:
            return False
        deviation = encoded.flatten(2).std(dim=2, correction=0).square().mean().sqrt()
        return bool((row - encoded[0]).square().mean().sqrt() <= TOLERANCE * deviation + 1e-6)

    def _resized(self, index: int, height: int, width: int) -> torch.Tensor:
        """``[1,height,width,3]``, as the host's nodes make images fit a VAE and an edit model: a few pixels are cropped
        from the borders, or all are resized."""
        image = tensors.drop_alpha(self._images[index : index + 1]).float().clamp(0, 1)
        rows, columns = image.shape[1] - height, image.shape[2] - width
        if 0 <= rows < self._ratio and 0 <= columns < self._ratio:
            top, left = rows // 2, columns // 2
            return image[:, top : top + height, left : left + width]
        return tensors.resize_image(image, height, width, mode="area")
