"""Linear filters along the rows and the columns of a picture, each as a banded matrix: resizing, blurring.

Every output line is a weighted sum of a few neighbouring input lines, so the matrix from input to output lines is
zero but for a band around its diagonal. It is multiplied in blocks of some output lines, each with just the input
lines that it needs. That keeps the values in float (Pillow resizes pictures in 8 bits), gives exact zeros where all
inputs are zero (a convolution through Fourier transforms does not), and is the same arithmetic on every device.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

_BLOCK = 32  # output lines a multiplication; 16 to 64 take the same time


class _Block(NamedTuple):
    """Output lines ``top..bottom`` = ``weights`` ``[bottom-top, last-first]`` x input lines ``first..last``."""

    top: int
    bottom: int
    first: int
    last: int
    weights: torch.Tensor


Bands = tuple[_Block, ...]


def filter_lines(values: torch.Tensor, bands: Bands) -> torch.Tensor:
    """Apply ``bands`` along the second axis: ``[B,lines,...]`` float32 -> ``[B,bands' lines,...]``."""
    result = values.new_empty(values.shape[0], bands[-1].bottom, *values.shape[2:])
    for source, out in zip(values.flatten(2), result.flatten(2)):
        for top, bottom, first, last, weights in bands:
            torch.mm(weights, source[first:last], out=out[top:bottom])
    return result


@functools.lru_cache(maxsize=64)
def lanczos(before: int, after: int, device: torch.device) -> Bands:
    """Bands that resize ``before`` lines to ``after`` with a Lanczos window of 3 lobes.

    The kernel is sinc(x) sinc(x / 3) (Duchon, *Lanczos Filtering in One and Two Dimensions*, 1979); where lines get
    fewer it widens with the scale, so that nothing aliases. Positions, support and normalisation are Pillow's, so
    that the values are those of Pillow's float resize.
    """
    scale = before / after
    widened = max(scale, 1.0)
    support = 3 * widened
    centres = (torch.arange(after, dtype=torch.float64) + 0.5) * scale
    first = (centres - support + 0.5).floor().clamp(min=0).long()
    last = (centres + support + 0.5).floor().clamp(max=before).long()
    lines = first[:, None] + torch.arange(int((last - first).max()))  # [after, taps]
    x = (lines + 0.5 - centres[:, None]) / widened
    weights = torch.sinc(x) * torch.sinc(x / 3)
    weights = torch.where((x.abs() < 3) & (lines < last[:, None]), weights, 0.0)
    return _blocks(lines.clamp(max=before - 1), weights, device)


@functools.lru_cache(maxsize=64)
def gaussian(length: int, radius: int, sigma: float, device: torch.device) -> Bands:
    """Bands that blur ``length`` lines with a Gaussian cut off at ``radius`` lines, the lines mirrored at both ends
    (2 1 | 0 1 2 ... without the first line twice); ``radius`` is less than ``length``."""
    offsets = torch.arange(-radius, radius + 1)
    lines = (torch.arange(length)[:, None] + offsets).abs()
    lines = torch.where(lines < length, lines, 2 * (length - 1) - lines)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    return _blocks(lines, weights.expand(length, -1), device)


def _blocks(lines: torch.Tensor, weights: torch.Tensor, device: torch.device) -> Bands:
    """The banded matrix from the input lines ``[after, taps]`` of every output line and their weights."""
    weights = weights / weights.sum(dim=1, keepdim=True)
    blocks = []
    for top in range(0, len(lines), _BLOCK):
        here, share = lines[top : top + _BLOCK], weights[top : top + _BLOCK]
        first, last = int(here.min()), int(here.max()) + 1
        dense = torch.zeros(len(here), last - first, dtype=torch.float64)
        dense.scatter_add_(1, here - first, share)
        blocks.append(_Block(top, top + len(here), first, last, dense.to(device, torch.float32)))
    return tuple(blocks)
