"""Grey-scale morphology with a flat structuring element: dilation, erosion, gradient.

A dilation takes the maximum of the mask over the element around each pixel, an erosion the minimum (Serra, *Image
Analysis and Mathematical Morphology*, 1982). The border never wins a maximum or a minimum, as in OpenCV's
``morphologyEx`` with its default border. An element of even size reaches one pixel further left and up than right
and down, again as in OpenCV.

All functions take and return float32 masks ``[B,H,W]``, on any device, and change nothing in place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from . import tensors
from .checks import check_choice, check_whole_number
from .engine import NO_PROGRESS, Progress
from .errors import InputError

# The arithmetic below is written once for both: numpy on a CPU, torch on an accelerator. Numpy's threads, one a band,
# keep their speed when other programs use the cores; torch's, which meet at a barrier after every operation, do not.
_Array: TypeAlias = np.ndarray | torch.Tensor

SHAPES = ("rectangle", "ellipse", "cross")
EDGES = ("both", "inner", "outer")
MAX_SIZE = 65535  # of an element, in pixels; what reaches out of the picture costs nothing

# How many pixels are worked on at a time, with three buffers of that size alive. On a CPU, so few that they stay in
# the cache; on an accelerator, so many that a whole batch goes through each kernel launch.
_CPU_PIXELS = 1 << 18
_ACCELERATOR_PIXELS = 1 << 27
# With fewer for each, threads cost more than they save: what they save grows with the element, what they cost does not.
_PIXELS_A_THREAD = 1 << 19


def dilate(mask: torch.Tensor, size: int, shape: str = "rectangle", progress: Progress = NO_PROGRESS) -> torch.Tensor:
    """Grow what is selected: the maximum over an element of ``size`` x ``size``.

    Args:
        mask: ``[B,H,W]``.
        size: Width of the element in pixels, 1 or more; 1 changes nothing.
        shape: One of `SHAPES`.
        progress: Gets one step a mask.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: ``size`` is not a whole number from 1 to `MAX_SIZE`, ``shape`` is unknown.
    """
    return _morphology(mask, _Element(size, shape), _write_maximum, progress)


def erode(mask: torch.Tensor, size: int, shape: str = "rectangle", progress: Progress = NO_PROGRESS) -> torch.Tensor:
    """Shrink what is selected: the minimum over an element of ``size`` x ``size``. Otherwise as `dilate`."""
    return _morphology(mask, _Element(size, shape), _write_minimum, progress)


def gradient(
    mask: torch.Tensor,
    size: int | Sequence[int] = 3,
    shape: str = "rectangle",
    edge: str = "both",
    progress: Progress = NO_PROGRESS,
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
        InputError: A size is not a whole number from 1 to `MAX_SIZE`, the list of sizes is empty or longer than
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


def _one_size_a_mask(size: int | Sequence[int], batch: int) -> list[int]:
    name = "kernel_size"
    if not isinstance(size, (list, tuple)):
        return [check_whole_number(size, name, 1, MAX_SIZE)] * batch
    sizes = [check_whole_number(entry, f"{name}[{i}]", 1, MAX_SIZE) for i, entry in enumerate(size)]
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
        object.__setattr__(self, "size", check_whole_number(self.size, "size", 1, MAX_SIZE))
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
