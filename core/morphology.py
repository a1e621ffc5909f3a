"""Grayscale morphology with a flat structuring element: dilation, erosion, gradient.

Dilation is the maximum of the mask over the element around each pixel, erosion the minimum (Serra, *Image Analysis and
Mathematical Morphology*, 1982). Pixels outside the image are ignored, as in OpenCV's ``morphologyEx`` with its default
border. Also as in OpenCV, an element of even size reaches one pixel further left and up than right and down.

All functions take and return float32 masks ``[B,H,W]`` on any device, and change nothing in place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from . import tensors
from .batching import NO_PROGRESS
from .checks import check_choice, check_whole_number
from .engine import Progress
from .errors import InputError

# The code below works on both: numpy arrays on the CPU, torch tensors on accelerators. With one thread per band, numpy
# stays fast while other programs use the cores. Torch does not: its threads synchronize after every operation.
_Array = TypeVar("_Array", np.ndarray, torch.Tensor)

SHAPES = ("rectangle", "ellipse", "cross")
EDGES = ("both", "inner", "outer")
MAX_SIZE = 65535  # of an element, in pixels; parts that reach beyond the image cost nothing

# Pixels processed at a time, with three buffers of that size. On the CPU the buffers fit into the cache; on an
# accelerator each kernel launch processes a whole batch.
_CPU_PIXELS = 1 << 18
_ACCELERATOR_PIXELS = 1 << 27
# Below this many pixels per thread, threading does not pay.
_PIXELS_PER_THREAD = 1 << 19


def dilate(mask: torch.Tensor, size: int, shape: str = "rectangle", progress: Progress = NO_PROGRESS) -> torch.Tensor:
    """Expand the selection: the maximum over an element of ``size`` x ``size`` pixels.

    Args:
        mask: ``[B,H,W]``.
        size: Width of the element in pixels, from 1 to `MAX_SIZE`; 1 changes nothing.
        shape: One of `SHAPES`.
        progress: Advances by one step per mask.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: ``size`` is not a whole number in that range, or ``shape`` is unknown.
    """
    return _process_bands(mask, _Element(size, shape), _write_maximum, progress)


def erode(mask: torch.Tensor, size: int, shape: str = "rectangle", progress: Progress = NO_PROGRESS) -> torch.Tensor:
    """Shrink the selection: the minimum over the element. Arguments, result and errors are those of `dilate`."""
    return _process_bands(mask, _Element(size, shape), _write_minimum, progress)


def dilate_by_disc(mask: torch.Tensor, radius: float) -> torch.Tensor:
    """Expand the selection: the maximum over all pixels whose centers are within ``radius``.

    Args:
        mask: ``[B,H,W]``.
        radius: In pixels, at least 0; fractions count.

    Returns:
        ``[B,H,W]``.
    """
    return _process_bands(mask, _Disc(radius), _write_maximum, NO_PROGRESS)


def erode_by_disc(mask: torch.Tensor, radius: float) -> torch.Tensor:
    """Shrink the selection: the minimum over the disc. Arguments and result are those of `dilate_by_disc`."""
    return _process_bands(mask, _Disc(radius), _write_minimum, NO_PROGRESS)


def gradient(
    mask: torch.Tensor,
    size: int | Sequence[int] = 3,
    shape: str = "rectangle",
    edge: str = "both",
    progress: Progress = NO_PROGRESS,
) -> torch.Tensor:
    """Morphological gradient: a line along the edges of the selection, stronger at steeper edges.

    ``both`` is dilation - erosion (the Beucher gradient), ``inner`` mask - erosion, ``outer`` dilation - mask
    (Rivest, Soille and Beucher, *Morphological gradients*, 1993).

    Args:
        mask: ``[B,H,W]``.
        size: Width of the element in pixels, from 1 to `MAX_SIZE`, for all masks; or a list of one size per mask, whose
            last entry repeats. Size 1 gives an empty mask.
        shape: One of `SHAPES`.
        edge: One of `EDGES`: the side of the edge on which to draw the line.
        progress: Advances by one step per mask.

    Returns:
        ``[B,H,W]``.

    Raises:
        InputError: A size is not a whole number in that range, the list of sizes is empty or longer than the batch, or
            ``shape`` or ``edge`` is unknown.
    """
    check_choice(edge, "edge", EDGES)
    check_choice(shape, "shape", SHAPES)

    def write_gradient(band: _Band[_Array], out: _Array) -> None:
        out[...] = band.values() if edge == "inner" else band.maximum()
        out -= band.values() if edge == "outer" else band.minimum()

    elements = [_Element(each, shape) for each in _sizes_per_mask(size, len(mask))]
    if not elements:
        return mask
    if len(set(elements)) == 1:
        return _process_bands(mask, elements[0], write_gradient, progress)
    masks = zip(mask.split(1), elements)
    return torch.cat([_process_bands(one, element, write_gradient, progress) for one, element in masks])


def _sizes_per_mask(size: int | Sequence[int], batch: int) -> list[int]:
    name = "kernel_size"
    if not isinstance(size, (list, tuple)):
        return [check_whole_number(size, name, 1, MAX_SIZE)] * batch
    sizes = [check_whole_number(entry, f"{name}[{i}]", 1, MAX_SIZE) for i, entry in enumerate(size)]
    if not sizes or 0 < batch < len(sizes):
        raise InputError(
            f"{name} is a list of {len(sizes)} sizes for {batch} masks",
            "Use a single size, or a list with one size per mask (a shorter list repeats its last size)",
        )
    return (sizes + [sizes[-1]] * (batch - len(sizes)))[:batch]


@dataclass(frozen=True)
class _Element:
    """A flat structuring element. Each of its rows is a run of pixels around the anchor."""

    size: int
    shape: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", check_whole_number(self.size, "size", 1, MAX_SIZE))
        check_choice(self.shape, "shape", SHAPES)

    def reach(self, length: int) -> tuple[int, int]:
        """How far it reaches before and after the anchor, limited to an image of ``length`` pixels."""
        before = self.size // 2
        return min(before, length - 1), min(self.size - 1 - before, length - 1)

    def runs(self, height: int, width: int) -> Iterator[tuple[int, int, int]]:
        """For each row of an ellipse: its offset from the anchor, and the reach of its run to the left and right,
        limited to an image of that size.

        The half-width at height y is sqrt(r^2 - y^2), rounded, as in OpenCV's ``MORPH_ELLIPSE``.
        """
        radius = self.size // 2
        (up, down), (left, right) = self.reach(height), self.reach(width)
        for y in range(-up, down + 1):
            half = round(math.sqrt(radius**2 - y**2))
            yield y, min(half, left), min(half, right)


@dataclass(frozen=True)
class _Disc:
    """The pixels whose centers are within a radius of the anchor, as an element."""

    radius: float
    shape = "disc"

    def reach(self, length: int) -> tuple[int, int]:
        side = min(math.floor(self.radius), length - 1)
        return side, side

    def runs(self, height: int, width: int) -> Iterator[tuple[int, int, int]]:
        reach_y, reach_x = self.reach(height)[0], self.reach(width)[0]
        for y in range(-reach_y, reach_y + 1):
            half = min(math.isqrt(int(self.radius * self.radius) - y * y), reach_x)
            yield y, half, half


def _flat_buffer(like: _Array, length: int) -> _Array:
    """An uninitialized array of the same type and device as ``like``."""
    return np.empty_like(like, shape=length) if isinstance(like, np.ndarray) else like.new_empty(length)


def _copy(array: _Array) -> _Array:
    return np.array(array, subok=True) if isinstance(array, np.ndarray) else array.clone()


class _Band(Generic[_Array]):
    """Some rows of some masks, padded by the reach of the element.

    The maximum of a window of 2n pixels is the larger of the maxima of its two halves, so a run of k pixels takes
    log2(k) passes over the memory instead of k (Gil and Werman, *Computing 2-D min, median, and max filters*, 1993).
    Each pass shifts the rows as one flat array. Windows that begin in the last columns wrap into the next row, but no
    result reads them.
    """

    def __init__(self, source: _Array, top: int, bottom: int, element: _Element | _Disc) -> None:
        count, self._full_height, self._width = source.shape
        self._source, self._top, self._height, self._element = source, top, bottom - top, element
        (self._up, down), (self._left, right) = element.reach(self._full_height), element.reach(self._width)
        self._down_window, self._across_window = self._up + down + 1, self._left + right + 1
        self._padded_shape = (count, self._height + self._down_window - 1, self._width + self._across_window - 1)
        # The rows that the element reaches, clipped to the image.
        rows = slice(max(0, top - self._up), min(self._full_height, bottom + down))
        self._inner = slice(rows.start - top + self._up, rows.stop - top + self._up)
        length = math.prod(self._padded_shape)
        self._padded = _flat_buffer(source, length)
        self._scratch = itertools.cycle((_flat_buffer(source, length), _flat_buffer(source, length)))
        padded: Any = self._padded.reshape(self._padded_shape)  # its type and that of `source` agree
        padded[:, self._inner, self._left : self._left + self._width] = source[:, rows]

    def values(self) -> _Array:
        """The unchanged rows, ``[b,h,W]``."""
        return self._source[:, self._top : self._top + self._height]

    def maximum(self) -> _Array:
        """The maximum over the element, ``[b,h,W]``, valid until the next call."""
        return self._extreme(torch.maximum if isinstance(self._source, torch.Tensor) else np.maximum, -math.inf)

    def minimum(self) -> _Array:
        """The minimum over the element, ``[b,h,W]``, valid until the next call."""
        return self._extreme(torch.minimum if isinstance(self._source, torch.Tensor) else np.minimum, math.inf)

    def _extreme(self, reduce: Callable, identity: float) -> _Array:
        row = self._padded_shape[2]
        padded = self._padded.reshape(self._padded_shape)
        padded[:, : self._inner.start] = padded[:, self._inner.stop :] = identity
        padded[:, :, : self._left] = padded[:, :, self._left + self._width :] = identity

        if self._element.shape == "rectangle":
            across = self._slide(self._padded, 1, self._across_window, 1, reduce)
            return self._pixels(self._slide(across, 1, self._down_window, row, reduce), 0, 0)
        if self._element.shape == "cross":
            across = _copy(self._pixels(self._slide(self._padded, 1, self._across_window, 1, reduce), self._up, 0))
            down = self._pixels(self._slide(self._padded, 1, self._down_window, row, reduce), 0, self._left)
            return reduce(across, down)
        result = None
        windows, length = self._padded, 1
        runs = self._element.runs(self._full_height, self._width)
        for y, left, right in sorted(runs, key=lambda run: run[1] + run[2]):  # widen the windows step by step
            windows, length = self._slide(windows, length, left + right + 1, 1, reduce), left + right + 1
            run = self._pixels(windows, self._up + y, self._left - left)
            result = _copy(run) if result is None else reduce(result, run, out=result)
        assert result is not None  # an element has at least the row of its anchor
        return result

    def _slide(self, windows: _Array, length: int, target: int, stride: int, reduce: Callable) -> _Array:
        """Widen windows of ``length`` pixels to ``target`` pixels. A window's extreme is stored at its first pixel.

        ``stride`` is the distance between a window's pixels in memory: 1 within a row, the row length in a column.
        """
        while length < target:
            step = min(length, target - length)
            count = len(windows) - step * stride
            wider = next(self._scratch)  # never the buffer of `windows`
            reduce(windows[:count], windows[step * stride :], out=wider[:count])
            windows, length = wider, length + step
        return windows

    def _pixels(self, windows: _Array, y: int, x: int) -> _Array:
        """For each pixel of the band, the window that begins ``y`` rows and ``x`` columns later, ``[b,h,W]``."""
        return windows.reshape(self._padded_shape)[:, y : y + self._height, x : x + self._width]


class _Write(Protocol):
    """Writes the result for a band to ``out``, ``[b,h,W]``."""

    def __call__(self, band: _Band[_Array], out: _Array) -> None: ...


def _write_maximum(band: _Band[_Array], out: _Array) -> None:
    out[...] = band.maximum()


def _write_minimum(band: _Band[_Array], out: _Array) -> None:
    out[...] = band.minimum()


def _process_bands(mask: torch.Tensor, element: _Element | _Disc, write: _Write, progress: Progress) -> torch.Tensor:
    """Call ``write(band, out)`` for every band of the batch, and return the output ``[B,H,W]``."""
    result = tensors.empty(mask.shape, mask.device)
    count, height, width = mask.shape
    if mask.device.type != "cpu":
        chunk = max(1, _ACCELERATOR_PIXELS // (height * width))
        for source, out in zip(mask.split(chunk), result.split(chunk)):
            write(_Band(source, 0, height, element), out)
            progress.step(len(source))
        return result

    source, out = mask.numpy(), result.numpy()
    workers = min(torch.get_num_threads(), mask.numel() // _PIXELS_PER_THREAD)
    # Half for a single thread, so that the second band of a small mask can reuse the memory of the first. Overlaps
    # between bands add less than a quarter of the work.
    pixels = _CPU_PIXELS if workers > 1 else _CPU_PIXELS // 2
    rows = max(4 * sum(element.reach(height)), pixels // width, 1)

    def write_band(i: int, top: int) -> None:
        bottom = min(height, top + rows)
        write(_Band(source[i : i + 1], top, bottom, element), out[i : i + 1, top:bottom])

    tops = range(0, height, rows)
    if workers < 2:
        for i in range(count):
            for top in tops:
                write_band(i, top)
            progress.step()
        return result

    with ThreadPoolExecutor(workers) as pool:
        futures = [[pool.submit(write_band, i, top) for top in tops] for i in range(count)]
        try:
            for bands_of_mask in futures:
                for band in bands_of_mask:
                    band.result()
                progress.step()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # on interrupt, wait only for bands already running
            raise
    return result
