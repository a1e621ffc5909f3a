"""Operations on masks: morphology (dilate, erode, gradient), threshold, Gaussian blur, combination, feathering.

Grey-scale morphology with a flat structuring element: a dilation takes the maximum of the mask over the
element around each pixel, an erosion the minimum (Serra, *Image Analysis and Mathematical Morphology*, 1982).
Outside the picture there is nothing: the border never wins a maximum or a minimum, as in OpenCV's
``morphologyEx`` with its default border. An element of even size reaches one pixel further left and up than
right and down, again as in OpenCV.

All functions take and give float32 masks ``[B,H,W]``, on any device, and change nothing in place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

from . import separable, tensors
from .checks import check_choice, check_number, check_whole_number
from .errors import InputError
from .interfaces import WITHOUT_PROGRESS, Progress

# The arithmetic below is written once for both: numpy on a CPU, torch on an accelerator. Numpy's threads, one a band,
# keep their speed when other programs use the cores; torch's, which meet at a barrier after every operation, do not.
_Array: TypeAlias = np.ndarray | torch.Tensor

SHAPES = ("rectangle", "ellipse", "cross")
EDGES = ("both", "inner", "outer")
LARGEST_SIZE = 65535  # of an element, in pixels; what reaches out of the picture costs nothing
COMBINATIONS = ("union", "intersection", "difference", "sum")

# How many pixels are worked on at a time, with three buffers of that size alive. On a CPU, so few that they stay in
# the cache; on an accelerator, so many that a whole batch goes through each kernel launch.
_CPU_PIXELS = 1 << 18
_ACCELERATOR_PIXELS = 1 << 27
# With fewer for each, threads cost more than they save: what they save grows with the element, what they cost does not.
_PIXELS_A_THREAD = 1 << 19


def dilate(
    mask: torch.Tensor, size: int, shape: str = "rectangle", progress: Progress = WITHOUT_PROGRESS
) -> torch.Tensor:
    """Grow what is selected: the maximum over an element of ``size`` x ``size``.

    Args:
        mask: ``[B,H,W]``.
        size: Width of the element in pixels, 1 or more; 1 changes nothing.
        shape: One of `SHAPES`.
        progress: Gets one step a mask.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: ``size`` is not a whole number from 1 to `LARGEST_SIZE`, ``shape`` is unknown.
    """
    return _morphology(mask, _Element(size, shape), _write_maximum, progress)


def erode(
    mask: torch.Tensor, size: int, shape: str = "rectangle", progress: Progress = WITHOUT_PROGRESS
) -> torch.Tensor:
    """Shrink what is selected: the minimum over an element of ``size`` x ``size``. Otherwise as `dilate`."""
    return _morphology(mask, _Element(size, shape), _write_minimum, progress)


def gradient(
    mask: torch.Tensor,
    size: int | Sequence[int] = 3,
    shape: str = "rectangle",
    edge: str = "both",
    progress: Progress = WITHOUT_PROGRESS,
) -> torch.Tensor:
    """Morphological gradient: a line along the edges of what is selected, as strong as the edge is steep.

    ``both`` is dilation - erosion (the Beucher gradient), ``inner`` mask - erosion, ``outer`` dilation - mask
    (Rivest, Soille and Beucher, *Morphological gradients*, 1993).

    Args:
        mask: ``[B,H,W]``.
        size: Width of the element in pixels, 1 or more, for all masks; or a list, one a mask, its last entry
            repeated. 1 gives an empty mask.
        shape: One of `SHAPES`.
        edge: One of `EDGES`: on which side of the edge the line lies.
        progress: Gets one step a mask.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: A size is not a whole number from 1 to `LARGEST_SIZE`, the list of sizes is empty or longer than
            the batch, ``shape`` or ``edge`` is unknown.
    """
    check_choice(edge, "edge", EDGES)

    def line(band: _Band, out: _Array) -> None:
        out[...] = band.itself() if edge == "inner" else band.maximum()
        out -= band.itself() if edge == "outer" else band.minimum()

    sizes = _one_size_a_mask(size, len(mask))
    if len(set(sizes)) == 1:
        return _morphology(mask, _Element(sizes[0], shape), line, progress)
    return torch.cat([_morphology(mask[i : i + 1], _Element(s, shape), line, progress) for i, s in enumerate(sizes)])


def threshold(mask: torch.Tensor, level: float) -> torch.Tensor:
    """Keep the values above ``level`` as they are, and make the others 0.

    Args:
        mask: ``[B,H,W]``.
        level: 0..1. A value equal to it is not above it.

    Raises:
        InputError: ``level`` is not a number in 0..1.
    """
    return torch.where(mask > check_number(level, "threshold", 0, 1), mask, torch.zeros((), device=mask.device))


def gaussian_blur(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """Convolve with a Gaussian, cut off at 4 sigma, the picture mirrored at its border (the border pixel repeated).

    The same as ``scipy.ndimage.gaussian_filter`` with its defaults.

    Args:
        mask: ``[B,H,W]``.
        sigma: Standard deviation in pixels, from 0 to `LARGEST_SIZE`; 0 changes nothing.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: ``sigma`` is not a number in that range.
    """
    sigma = check_number(sigma, "blur", 0, LARGEST_SIZE)
    radius = int(4.0 * sigma + 0.5)
    if radius == 0:
        return mask
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).to(mask.device, torch.float32)

    rows, columns = (_mirrored(length, radius, mask.device) for length in mask.shape[1:])
    blurred = []
    for one in mask.split(1):  # one by one, since torch sums a batch in a different order
        down = one.unsqueeze(1).index_select(2, rows)  # [1,H,W] -> [1,1,H,W]
        across = F.conv2d(down, weights.view(1, 1, -1, 1)).index_select(3, columns)
        blurred.append(F.conv2d(across, weights.view(1, 1, 1, -1)).squeeze(1).clamp(0, 1))
    return torch.cat(blurred)


def _mirrored(length: int, reach: int, device: torch.device) -> torch.Tensor:
    """Indices of a row of ``length`` pixels and ``reach`` more on both sides: ... 1 0 | 0 1 2 ... | n-1 n-2 ..."""
    position = torch.arange(-reach, length + reach, device=device) % (2 * length)
    return torch.where(position < length, position, 2 * length - 1 - position)


def combine(first: torch.Tensor, second: torch.Tensor, combination: str) -> torch.Tensor:
    """Two masks as one: the larger value (union), the smaller (intersection), ``first`` less ``second``
    (difference) or both together (sum), cut to 0..1.

    Args:
        first, second: ``[B,H,W]``; a batch of one goes with every mask of the other.
        combination: One of `COMBINATIONS`.

    Raises:
        InputError: The sizes differ, or ``combination`` is unknown.
    """
    check_choice(combination, "combination", COMBINATIONS)
    if first.shape[1:] != second.shape[1:] or (len(first) != len(second) and 1 not in (len(first), len(second))):
        raise InputError(
            f"masks of shapes {list(first.shape)} and {list(second.shape)} cannot be combined",
            "Give masks of one size, as many of one as of the other, or a single one",
        )
    if combination == "union":
        return torch.maximum(first, second)
    if combination == "intersection":
        return torch.minimum(first, second)
    return (first - second if combination == "difference" else first + second).clamp(0, 1)


def _one_size_a_mask(size: int | Sequence[int], batch: int) -> list[int]:
    name = "kernel_size"
    if not isinstance(size, (list, tuple)):
        return [check_whole_number(size, name, 1, LARGEST_SIZE)] * batch
    sizes = [check_whole_number(entry, f"{name}[{i}]", 1, LARGEST_SIZE) for i, entry in enumerate(size)]
    if not sizes or len(sizes) > batch:
        raise InputError(
            f"{name} is a list of {len(sizes)} sizes for {batch} masks",
            "Give a single size, or a list of one size a mask (a shorter list repeats its last size)",
        )
    return sizes + [sizes[-1]] * (batch - len(sizes))


@dataclass(frozen=True)
class _Element:
    """A flat structuring element: its rows, each a run of pixels around the anchor."""

    size: int
    shape: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", check_whole_number(self.size, "size", 1, LARGEST_SIZE))
        check_choice(self.shape, "shape", SHAPES)

    def reach(self, length: int) -> tuple[int, int]:
        """How far it reaches before and behind the anchor, in a picture of ``length`` pixels: never out of it."""
        before = self.size // 2
        return min(before, length - 1), min(self.size - 1 - before, length - 1)

    def ellipse_runs(self, height: int, width: int) -> Iterator[tuple[int, int, int]]:
        """For each row of the ellipse, in a picture of that size: its offset from the anchor, and how far its run
        reaches to the left and to the right.

        The half-width at height y is r * sqrt(1 - (y / r)^2), rounded, as OpenCV's ``MORPH_ELLIPSE`` draws it.
        """
        radius = self.size // 2
        (up, down), (left, right) = self.reach(height), self.reach(width)
        for y in range(-up, down + 1):
            half = round(math.sqrt(radius**2 - y**2))
            yield y, min(half, left), min(half, right)


def _flat_buffer(like: _Array, length: int) -> _Array:
    """Uninitialised."""
    return np.empty(length, np.float32) if isinstance(like, np.ndarray) else like.new_empty(length)


def _copy(array: _Array) -> _Array:
    return array.copy() if isinstance(array, np.ndarray) else array.clone()


class _Band:
    """Some rows of some masks, with as many rows and columns around them as the element reaches.

    A window of 2n pixels has the larger of the maxima of two windows of n pixels beside each other, so a run of k
    pixels takes log2(k) passes over the memory and not k (Gil and Werman, *Computing 2-D min, median, and max
    filters*, 1993). Each pass shifts the rows laid end to end: what it mixes across the end of a row are windows
    that begin in the last columns, and no result reads those.
    """

    def __init__(self, source: _Array, top: int, bottom: int, element: _Element) -> None:
        count, self._full_height, self._width = source.shape
        self._source, self._top, self._height, self._element = source, top, bottom - top, element
        (self._up, down), (self._left, right) = element.reach(self._full_height), element.reach(self._width)
        self._down_window, self._across_window = self._up + down + 1, self._left + right + 1
        self._grown = (count, self._height + self._down_window - 1, self._width + self._across_window - 1)
        # What the element reaches, cut off at the picture's edge.
        rows = slice(max(0, top - self._up), min(self._full_height, bottom + down))
        self._inner = slice(rows.start - top + self._up, rows.stop - top + self._up)
        self._padded, *scratch = (_flat_buffer(source, math.prod(self._grown)) for _ in range(3))
        padded = self._padded.reshape(self._grown)
        padded[:, self._inner, self._left : self._left + self._width] = source[:, rows]
        self._scratch = itertools.cycle(scratch)

    def itself(self) -> _Array:
        """The rows as they are, ``[b,h,W]``."""
        return self._source[:, self._top : self._top + self._height]

    def maximum(self) -> _Array:
        """The maximum over the element, ``[b,h,W]``, valid until the next call."""
        return self._extreme(torch.maximum if isinstance(self._source, torch.Tensor) else np.maximum, -math.inf)

    def minimum(self) -> _Array:
        """The minimum over the element, ``[b,h,W]``, valid until the next call."""
        return self._extreme(torch.minimum if isinstance(self._source, torch.Tensor) else np.minimum, math.inf)

    def _extreme(self, reduce: Callable, nothing: float) -> _Array:
        row = self._grown[2]  # the length of a row in memory
        padded = self._padded.reshape(self._grown)
        padded[:, : self._inner.start] = padded[:, self._inner.stop :] = nothing
        padded[:, :, : self._left] = padded[:, :, self._left + self._width :] = nothing

        if self._element.shape == "rectangle":
            across = self._slide(self._padded, 1, self._across_window, 1, reduce)
            return self._pixels(self._slide(across, 1, self._down_window, row, reduce), 0, 0)
        if self._element.shape == "cross":
            across = _copy(self._pixels(self._slide(self._padded, 1, self._across_window, 1, reduce), self._up, 0))
            down = self._pixels(self._slide(self._padded, 1, self._down_window, row, reduce), 0, self._left)
            return reduce(across, down)
        result = None
        windows, have = self._padded, 1
        runs = self._element.ellipse_runs(self._full_height, self._width)
        for y, left, right in sorted(runs, key=lambda run: run[1] + run[2]):  # ever wider
            windows, have = self._slide(windows, have, left + right + 1, 1, reduce), left + right + 1
            run = self._pixels(windows, self._up + y, self._left - left)
            result = _copy(run) if result is None else reduce(result, run, out=result)
        return result

    def _slide(self, windows: _Array, have: int, want: int, stride: int, reduce: Callable) -> _Array:
        """From the extremes of windows of ``have`` pixels, each kept at its first pixel, those of ``want`` pixels.

        ``stride`` is the distance between a window's pixels in memory: 1 along a row, the row's length down a column.
        """
        while have < want:
            step = min(have, want - have)
            length = len(windows) - step * stride
            wider = next(self._scratch)  # never the one that `windows` is
            reduce(windows[:length], windows[step * stride :], out=wider[:length])
            windows, have = wider, have + step
        return windows

    def _pixels(self, windows: _Array, y: int, x: int) -> _Array:
        """``[b,h,W]``, a view: for each pixel of the band the window that begins ``y`` down and ``x`` right of it."""
        return windows.reshape(self._grown)[:, y : y + self._height, x : x + self._width]


def _write_maximum(band: _Band, out: _Array) -> None:
    out[...] = band.maximum()


def _write_minimum(band: _Band, out: _Array) -> None:
    out[...] = band.minimum()


def _morphology(
    mask: torch.Tensor, element: _Element, write: Callable[[_Band, _Array], None], progress: Progress
) -> torch.Tensor:
    """What ``write(band, out)`` writes for every band of the batch; one step of ``progress`` a mask."""
    result = tensors.empty(mask.shape, mask.device)
    count, height, width = mask.shape
    if mask.device.type != "cpu":
        at_once = max(1, _ACCELERATOR_PIXELS // (height * width))
        for source, out in zip(mask.split(at_once), result.split(at_once)):
            write(_Band(source, 0, height, element), out)
            progress.step(len(source))
        return result

    source, out = mask.numpy(), result.numpy()
    workers = min(torch.get_num_threads(), mask.numel() // _PIXELS_A_THREAD)
    # Half as large for one thread: the second band of a small mask finds the first one's memory. What is computed
    # twice, at the seams, stays below a quarter.
    pixels = _CPU_PIXELS if workers > 1 else _CPU_PIXELS // 2
    rows = max(4 * sum(element.reach(height)), pixels // width, 1)

    def one_band(i: int, top: int) -> None:
        bottom = min(height, top + rows)
        write(_Band(source[i : i + 1], top, bottom, element), out[i : i + 1, top:bottom])

    tops = range(0, height, rows)
    if workers < 2:
        for i in range(count):
            for top in tops:
                one_band(i, top)
            progress.step()
        return result

    with ThreadPoolExecutor(workers) as threads:
        bands = [[threads.submit(one_band, i, top) for top in tops] for i in range(count)]
        try:
            for bands_of_one in bands:
                for band in bands_of_one:
                    band.result()
                progress.step()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)  # whoever stops us waits for no more than is begun
            raise
    return result


class Sides(NamedTuple):
    """The four sides of a crop, each true or false for something."""

    left: bool = False
    top: bool = False
    right: bool = False
    bottom: bool = False


NO_SIDE = Sides()


def feather(mask: torch.Tensor, width: int, fade: Sides = NO_SIDE) -> torch.Tensor:
    """Blur the edge of a mask, for a blend about ``width`` pixels wide to both sides of it.

    The blur is a Gaussian over 2 x ``width`` + 1 pixels, the mask mirrored at its border. Its sigma is 10 up to a
    ``width`` of 30, where the window ends at three sigma, and ``width`` / 3 above, so that it grows on. In a mask
    whose shorter side is not longer than the window, the window is half that side (and odd).

    Outside the window around every selected pixel the result is exactly 0.

    Args:
        mask: ``[B,H,W]``.
        width: In pixels, 0 or more; 0 changes nothing.
        fade: The sides of the mask beyond which the picture goes on though the mask ends. There the blend is made to
            reach 0: what the blur left at that side is taken off, falling linearly to nothing at the blur's radius
            inside. A mask that comes nowhere near its sides is not changed by this.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: ``width`` is not a whole number of 0 or more.
    """
    width = check_whole_number(width, "feather", low=0)
    radius = _blur_radius(width, min(mask.shape[1:]))
    if radius == 0:
        return mask
    sigma = max(10.0, width / 3)
    height, length = mask.shape[1:]
    soft = separable.filter_lines(mask, separable.gaussian(height, radius, sigma, mask.device))
    soft = soft.transpose(1, 2)  # [B,H,W] -> [B,W,H]
    soft = separable.filter_lines(soft, separable.gaussian(length, radius, sigma, mask.device))
    return _fade(soft.transpose(1, 2), radius, fade).clamp(0, 1)  # back to [B,H,W]


def _blur_radius(width: int, shorter_side: int) -> int:
    window = 2 * width + 1
    if shorter_side <= window:
        window = shorter_side // 2
    return window // 2


def _fade(soft: torch.Tensor, radius: int, fade: Sides) -> torch.Tensor:
    """``soft`` ``[B,H,W]`` less what it holds at the sides of ``fade``, the more the nearer to that side."""
    excess = soft.new_zeros(())
    for wanted, axis, at_end in (
        (fade.left, 2, False),
        (fade.top, 1, False),
        (fade.right, 2, True),
        (fade.bottom, 1, True),
    ):
        length = soft.shape[axis]
        held = soft.narrow(axis, length - 1 if at_end else 0, 1)
        if wanted and held.any():
            inside = torch.arange(1, length + 1, device=soft.device) / (radius + 1)
            nearness = 1 - (inside.flip(0) if at_end else inside).clamp(max=1)
            nearness = nearness.view((1, -1, 1) if axis == 1 else (1, 1, -1))
            excess = torch.maximum(excess, nearness * held)
    return soft - excess if excess.ndim else soft
