"""Where a crop is in its image, and the crops of tensors that cover the whole image: hints, masks, latents.

Such tensors may have any size. As in the host, they cover the image's center if their aspect ratio differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .. import filters, tensors
from ..geometry import Box, SamplingFrame

Resize = Callable[[torch.Tensor, int, int], torch.Tensor]


@dataclass(frozen=True)
class Placement:
    """A crop's place in its image, and its size while it is sampled.

    Attributes:
        image: The whole image.
        frame: The window that is cropped, and the sampling size in pixels.
        ratio: Pixels per latent cell on each axis.
        index: Which image of the batch this is.
    """

    image: Box
    frame: SamplingFrame
    ratio: int
    index: int = 0

    @property
    def covers_image(self) -> bool:
        """Whether the crop is the whole image."""
        return self.frame.window == self.image

    @property
    def image_cells(self) -> tuple[int, int]:
        """Height and width of the whole image's latent."""
        return max(1, self.image.height // self.ratio), max(1, self.image.width // self.ratio)

    @property
    def sampled_cells(self) -> tuple[int, int]:
        """Height and width of the latent that is sampled."""
        return max(1, self.frame.height // self.ratio), max(1, self.frame.width // self.ratio)

    def move_cells(
        self, size: tuple[float, float], start: tuple[float, float]
    ) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Move a rectangle from the whole image's latent to the sampled one, and clip it to the crop.

        Args:
            size: Height and width in latent cells.
            start: y and x of the first cell.

        Returns:
            Begin and end on the y axis and on the x axis, in cells; None if nothing of it is in the crop.
        """
        window, image = self.frame.window, self.image
        bounds = (window.y1, window.y2, image.height), (window.x1, window.x2, image.width)
        axes = []
        for i, (first, last, length) in enumerate(bounds):
            pixels, scale = length / self.image_cells[i], self.sampled_cells[i] / (last - first)
            begin, end = max(first, start[i] * pixels), min(last, (start[i] + size[i]) * pixels)
            if begin >= end:
                return None
            axes.append(((begin - first) * scale, (end - first) * scale))
        return axes[0], axes[1]

    def pick_row(self, values: torch.Tensor) -> torch.Tensor:
        """This image's row of ``[B,...]``: the host pairs rows and images in order, and repeats the rows."""
        row = self.index % len(values)
        return values[row : row + 1]

    def crop_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Crop a hint ``[B,C,h,w]`` and scale it to the sampling size as `blend.crop_out` does: ``[1,C,height,width]``.

        Values below 0 are markers, such as -1 for "to be inpainted"; such a hint is scaled without mixing values. For
        a crop of the whole image, scaling is left to the host.
        """
        pixels = self.pick_row(pixels)
        if self.covers_image:
            return pixels
        resize = _resize_nearest if pixels.amin() < 0 else _resize_lanczos
        return self._crop_scaled(pixels, self.frame.height, self.frame.width, resize)

    def crop_image(self, image: torch.Tensor) -> torch.Tensor:
        """Like `crop_pixels`, for an image ``[B,h,w,C]``."""
        return tensors.bchw_to_image(self.crop_pixels(tensors.image_to_bchw(image)))

    def crop_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Crop a mask ``[B,...,h,w]`` and scale it to the sampling size: ``[1,...,height,width]``. For a crop of the
        whole image, scaling is left to the host."""
        mask = self.pick_row(mask)
        if self.covers_image:
            return mask
        return self._crop_scaled(mask, self.frame.height, self.frame.width, _resize_bilinear)

    def crop_latent(self, latent: torch.Tensor) -> torch.Tensor:
        """Crop a latent ``[B,...,h,w]`` and scale it to the sampled latent: ``[1,...,h',w']``."""
        return self._crop_scaled(self.pick_row(latent), *self.sampled_cells, _resize_bilinear)

    def _crop_scaled(self, values: torch.Tensor, height: int, width: int, resize: Resize) -> torch.Tensor:
        """The window of ``[...,h,w]`` in the size ``height`` x ``width``, at most half a pixel of that size off.

        Where the window begins or ends inside a pixel of ``values``, the whole pixel is scaled, and the rest cropped.
        """
        rows, columns = self._cuts(values, height, width)
        part = values[..., rows.start : rows.stop, columns.start : columns.stop]
        if part.shape[-2:] != (rows.scaled, columns.scaled):
            part = resize(part.float(), rows.scaled, columns.scaled).to(values.dtype)
        return part[..., rows.offset : rows.offset + height, columns.offset : columns.offset + width]

    def _cuts(self, values: torch.Tensor, height: int, width: int) -> tuple[_Cut, _Cut]:
        whole, window = self.image, self.frame.window
        rows, columns = values.shape[-2:]
        aspect, image_aspect = columns / rows, whole.width / whole.height
        x = round((columns - columns * image_aspect / aspect) / 2) if aspect > image_aspect else 0
        y = round((rows - rows * aspect / image_aspect) / 2) if aspect < image_aspect else 0
        return (
            _cut(window.y1, window.y2, whole.height, rows, y, height),
            _cut(window.x1, window.x2, whole.width, columns, x, width),
        )


class _Cut(NamedTuple):
    """One axis of `Placement._crop_scaled`.

    Attributes:
        start, stop: The pixels that the window touches.
        scaled: Their number after scaling.
        offset: Where the window begins among the scaled pixels.
    """

    start: int
    stop: int
    scaled: int
    offset: int


def _cut(first: int, last: int, length: int, source: int, margin: int, target: int) -> _Cut:
    """Cut ``first`` to ``last`` of an image of ``length`` pixels from ``source`` pixels, whose ``margin`` on both sides
    is outside the image, and scale it to ``target``."""
    inner = source - 2 * margin
    begin, end = (margin + place * inner / length for place in (first, last))
    start, stop, scale = math.floor(begin), math.ceil(end), target / (end - begin)
    offset = math.floor((begin - start) * scale + 0.5)
    return _Cut(start, stop, max(offset + target, math.floor((stop - start) * scale + 0.5)), offset)


def _resize_lanczos(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """``[B,C,h,w]`` in 0..1, the filter of all crops."""
    return tensors.image_to_bchw(filters.resize_lanczos(tensors.bchw_to_image(pixels), height, width))


def _resize_nearest(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return F.interpolate(pixels, (height, width), mode="nearest-exact")


def _resize_bilinear(values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """``[...,h,w]``, the filter of the host for latents and masks of conditionings."""
    flat = values.reshape(-1, 1, *values.shape[-2:])  # [...,h,w] -> [N,1,h,w]
    return F.interpolate(flat, (height, width), mode="bilinear").reshape(*values.shape[:-2], height, width)
