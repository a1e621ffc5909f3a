"""Where regions are cropped for other nodes, and the sizes of their crops, in whole pixels. See `crop_stitch`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..checks import Settings, check_choice, check_number, check_switch, check_whole_number, setting
from ..geometry import Box, nearest_multiple
from ..instances.instances import SPLITS
from ..instances.picking import ORDERS
from ..morphology import MAX_SIZE

REGIONS = (*SPLITS[:2], "all as one")
SIZES = ("keep", "same area", "longer side", "exact")
TOGETHER = "together where sizes are equal"
BATCHING = ("one by one", TOGETHER)
MAX_LENGTH = 16384  # of a crop, in pixels: ComfyUI's own limit


@dataclass(frozen=True)
class CropSettings(Settings):
    """Which regions to crop, their context, and the sizes of their crops.

    Attributes:
        regions: One of `REGIONS`: what counts as a region.
        order: One of `picking.ORDERS`: the order of an image's regions.
        fill_holes: Select the holes of a region, too.
        grow: Distance by which each region grows, in pixels.
        context_factor: Size of the context relative to the region's bbox, at least 1.
        context_pixels: Minimum context on every side, in pixels.
        size: One of `SIZES`: the image's scale, the area of ``width`` x ``height``, a longer side of ``width``, or
            ``width`` x ``height``.
        width, height: In pixels.
        multiple_of: Both sides of a crop are multiples of this many pixels. Sizes are rounded to the nearest multiple;
            those of ``keep`` and ``exact`` are rounded up.
        blend: Width of the seam on both sides of the mask's edge, in pixels. Crops have room for it.
        batching: One of `BATCHING`: one batch per crop, or one per size.

    Raises:
        InputError: A value is out of range or of the wrong type.
    """

    regions: str = setting("connected parts", check_choice, choices=REGIONS)
    order: str = setting("as found", check_choice, choices=ORDERS)
    fill_holes: bool = setting(False, check_switch)
    grow: float = setting(0.0, check_number, low=0, high=MAX_SIZE)
    context_factor: float = setting(1.5, check_number, low=1)
    context_pixels: int = setting(32, check_whole_number, low=0)
    size: str = setting("same area", check_choice, choices=SIZES)
    width: int = setting(1024, check_whole_number, low=1, high=MAX_LENGTH)
    height: int = setting(1024, check_whole_number, low=1, high=MAX_LENGTH)
    multiple_of: int = setting(8, check_whole_number, low=1, high=MAX_LENGTH)
    blend: int = setting(8, check_whole_number, low=0)
    batching: str = setting("one by one", check_choice, choices=BATCHING)


class Extension(NamedTuple):
    """How many pixels a crop extends beyond each side of the image."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class CropFrame:
    """Where a region is cropped, and the size of its crop.

    Attributes:
        window: The part of the crop inside the image.
        extension: The rest of the crop, which repeats the image's edge.
        width, height: Size of the crop in pixels, after scaling.
    """

    window: Box
    extension: Extension
    width: int
    height: int

    @property
    def unscaled(self) -> Box:
        """The whole crop before scaling, relative to its own top left corner."""
        left, top, right, bottom = self.extension
        return Box(0, 0, left + self.window.width + right, top + self.window.height + bottom)

    def locate(self, box: Box) -> Box:
        """The position in `unscaled` of a box inside the window."""
        x, y = self.extension.left - self.window.x1, self.extension.top - self.window.y1
        return Box(box.x1 + x, box.y1 + y, box.x2 + x, box.y2 + y)


def fit_crop_frame(bbox: Box, image: Box, settings: CropSettings) -> CropFrame:
    """Choose where to crop a region.

    The crop contains the bbox and its context, and takes more context to reach the proportions of its size: scaling
    changes them by less than a pixel. It is moved inside the image; only crops longer than the image extend beyond it.

    Args:
        bbox: The region's bbox, inside the image.
        image: The whole image.
        settings: The crop's context and size.
    """
    context_width = _add_context(bbox.width, image.width, settings)
    context_height = _add_context(bbox.height, image.height, settings)
    width, height = _compute_size(context_width, context_height, settings)
    scale = 1.0 if settings.size == "keep" else max(context_width / width, context_height / height)
    x, left, right = _place(bbox.x1, bbox.x2, max(context_width, round(width * scale)), image.width)
    y, top, bottom = _place(bbox.y1, bbox.y2, max(context_height, round(height * scale)), image.height)
    return CropFrame(Box(x.start, y.start, x.stop, y.stop), Extension(left, top, right, bottom), width, height)


def _add_context(length: int, limit: int, settings: CropSettings) -> int:
    """The length of a region with its context, at most ``limit``."""
    # With a seam as wide as the crop, feathering would narrow it.
    margin = max(settings.context_pixels, settings.blend + 1)
    return min(max(math.ceil(min(length * settings.context_factor, limit)), length + 2 * margin), limit)


def _compute_size(width: int, height: int, settings: CropSettings) -> tuple[int, int]:
    """The size of the crop for a context of ``width`` x ``height`` pixels."""
    multiple = settings.multiple_of
    if settings.size == "keep":
        return _next_multiple(width, multiple), _next_multiple(height, multiple)
    if settings.size == "exact":
        return _next_multiple(settings.width, multiple), _next_multiple(settings.height, multiple)
    if settings.size == "same area":
        scale = math.sqrt(settings.width * settings.height / (width * height))
    else:
        scale = settings.width / max(width, height)
    return nearest_multiple(round(width * scale), multiple), nearest_multiple(round(height * scale), multiple)


def _next_multiple(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _place(start: int, stop: int, length: int, limit: int) -> tuple[range, int, int]:
    """Center ``length`` pixels on ``start`` to ``stop``, and move them inside ``limit`` pixels.

    Returns:
        The pixels inside, and the number of pixels before and after them.
    """
    first = start + (stop - start - length) // 2
    first = min(max(first, min(0, limit - length)), max(0, limit - length))
    inside = range(max(0, first), min(limit, first + length))
    return inside, inside.start - first, first + length - inside.stop


def match_proportions(width: int, height: int, new_width: int, new_height: int) -> bool:
    """Whether an image of one size, scaled by a single factor and rounded to pixels, can have the new size."""
    low = max((new_width - 1) / width, (new_height - 1) / height)
    return low < min((new_width + 1) / width, (new_height + 1) / height)
