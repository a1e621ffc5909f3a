"""Recognizes the reference latents of edit models that show the image being detailed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from .. import tensors

# Root mean square difference between a reference and the encoded image, relative to the deviation of the latter. With
# photographs, and blocks of 8 x 8 pixels in place of a VAE: up to 0.07 between two filters that resize, at least 0.28
# where 3 % of the image are replaced, at least 1.2 between two images. Encoders that draw samples add little noise.
TOLERANCE = 0.2
MAX_ASPECT_CHANGE = 1.15  # factor by which nodes change the aspect ratio when they crop the image's borders
MEGAPIXEL = 1024 * 1024  # edit models expect this many pixels


def may_show(reference: Any, height: int, width: int) -> bool:
    """Whether a reference has about the aspect ratio of an image of ``height`` x ``width``. All others show something
    else."""
    if not isinstance(reference, torch.Tensor) or reference.ndim < 4:
        return False
    rows, columns = reference.shape[-2:]
    return 1 / MAX_ASPECT_CHANGE <= columns * height / (rows * width) <= MAX_ASPECT_CHANGE


class Fit(NamedTuple):
    """A way to make an image fit a VAE: it is resized, then its borders are cropped to whole latent cells.

    Attributes:
        height, width: The size before its borders are cropped.
        stretch: Whether it is stretched to that size; otherwise its center is used.
    """

    height: int
    width: int
    stretch: bool = True


class References:
    """Compares references with the image, encoded as the host's nodes encode it.

    A reference shows the image if it has about its aspect ratio (see `may_show`), and nearly the values that the VAE
    gives for the image in the reference's size. The image is encoded at most once for each way to resize it.

    Args:
        images: ``[B,H,W,C]``, before any region is refined.
        ratio: Pixels per latent cell on each axis.
        encode: ``[1,H,W,3]`` -> latent ``[1,C,h,w]``, with a time axis if the model has one.
    """

    def __init__(self, images: torch.Tensor, ratio: int, encode: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._images, self._ratio, self._encode = images, ratio, encode
        self._results: dict[tuple[int, int], tuple[torch.Tensor, bool]] = {}  # with the reference, to keep its id
        self._encoded: dict[tuple[int, int, int, Fit], torch.Tensor] = {}  # by image, rows and columns

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
        row = reference[index % len(reference)]
        return any(_are_near(row, self._encode_as(index, rows, columns, fit)) for fit in self._fits(rows, columns))

    def _fits(self, rows: int, columns: int) -> Iterator[Fit]:
        """The ways in which nodes make the image fit a latent of ``rows`` x ``columns`` cells."""
        height, width = self._images.shape[1:3]
        if (height // self._ratio, width // self._ratio) == (rows, columns):
            yield Fit(height, width)
            return
        target = rows * self._ratio, columns * self._ratio
        same_aspect = abs(columns * height - rows * width) <= max(height, width)  # to one cell
        yield Fit(*target, same_aspect)
        scale = math.sqrt(MEGAPIXEL / (height * width))
        scaled = round(height * scale), round(width * scale)
        if scaled != target and (scaled[0] // self._ratio, scaled[1] // self._ratio) == (rows, columns):
            yield Fit(*scaled)

    def _encode_as(self, index: int, rows: int, columns: int, fit: Fit) -> torch.Tensor:
        key = index, rows, columns, fit
        if key not in self._encoded:
            image = tensors.drop_alpha(self._images[index : index + 1]).float().clamp(0, 1)
            if not fit.stretch:
                scale = min(image.shape[1] / fit.height, image.shape[2] / fit.width)
                image = _crop_center(image, round(fit.height * scale), round(fit.width * scale))
            image = tensors.resize_image(image, fit.height, fit.width, mode="area")
            self._encoded[key] = self._encode(_crop_center(image, rows * self._ratio, columns * self._ratio))
        return self._encoded[key]


def _crop_center(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """``[B,H,W,C]`` -> ``[B,height,width,C]``."""
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def _are_near(latent: torch.Tensor, encoded: torch.Tensor) -> bool:
    """Whether ``latent`` ``[C,h,w]`` is nearly ``encoded`` ``[1,C,h,w]``; both may have a time axis."""
    if latent.shape != encoded.shape[1:]:
        return False
    deviation = encoded.flatten(2).std(dim=2, correction=0).square().mean().sqrt()
    difference = (latent.to(encoded) - encoded[0]).square().mean().sqrt()
    return bool(difference <= TOLERANCE * deviation + 1e-6)
