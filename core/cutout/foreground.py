"""Foreground colors: multi-level estimation (Germer et al., *Fast Multi-Level Foreground Estimation*, 2020)."""

from __future__ import annotations

import math
import threading

import numpy as np
import torch

from .. import tensors
from ..batching import NO_STAGE_PROGRESS, StageProgress
from .closed_form import run_interruptibly
from .downscaled import bounding_slices, sample_at
from .pymatting import import_pymatting

# Larger images are cropped to the surroundings of the unknown pixels, and downscaled if the crop is still larger. Each
# pixel costs about 64 bytes.
_MAX_PIXELS = 1 << 24
_FEW_PIXELS = 1 << 20  # more take noticeable time


def estimate_foreground(
    colors: np.ndarray, alpha: np.ndarray, unknown: np.ndarray, stage: StageProgress = NO_STAGE_PROGRESS
) -> np.ndarray:
    """Estimate foreground colors ``[H,W,3]``, float32, from colors ``[H,W,3]`` and alpha ``[H,W]``."""
    if alpha.size == 1:
        return colors  # pymatting divides by the logarithm of the size
    if alpha.size <= _FEW_PIXELS:
        return _estimate(colors, alpha, unknown)
    import_pymatting("pymatting.foreground.estimate_foreground_ml")  # imports belong in the main thread
    return run_interruptibly(lambda: _estimate(colors, alpha, unknown), stage)


def _estimate(colors: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    if alpha.size <= _MAX_PIXELS:
        return _estimate_multi_level(colors, alpha)[0]
    # Away from the unknown pixels alpha is 0 or 1, and the foreground is the image itself.
    foreground = colors.copy()
    crop = bounding_slices(unknown, 16)
    if alpha[crop].size <= _MAX_PIXELS:
        foreground[crop] = _estimate_multi_level(colors[crop], alpha[crop])[0]
    else:
        foreground[crop][unknown[crop]] = _estimate_downscaled(colors[crop], alpha[crop], unknown[crop])
    return foreground


_NUMBA_LOCK = threading.Lock()  # numba's workqueue threading layer aborts the process on concurrent use


def _estimate_multi_level(colors: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and background colors, ``[H,W,3]`` each."""
    estimate = import_pymatting("pymatting.foreground.estimate_foreground_ml").estimate_foreground_ml
    numba = import_pymatting("numba")
    # Its parallel steps are so short that a single thread is up to ten times as fast.
    with _NUMBA_LOCK:
        threads = numba.get_num_threads()
        numba.set_num_threads(1)  # for the calling thread alone
        try:
            return estimate(colors, alpha, return_background=True)
        finally:
            numba.set_num_threads(threads)


def _estimate_downscaled(colors: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Foreground of the unknown pixels ``[n,3]``, estimated on a smaller image. The result is then adjusted as little
    as possible so that ``alpha F + (1 - alpha) B`` equals the image (Forte, *Approximate Fast Foreground Colour
    Estimation*, 2021)."""
    scale = math.sqrt(_MAX_PIXELS / alpha.size)
    size = (int(alpha.shape[0] * scale), int(alpha.shape[1] * scale))
    small = tensors.resize_image(torch.from_numpy(colors).unsqueeze(0), *size, mode="area")[0]
    small_alpha = tensors.resize_mask(torch.from_numpy(alpha).unsqueeze(0), *size, mode="area")[0]
    both = np.concatenate(_estimate_multi_level(small.numpy(), small_alpha.numpy()), axis=-1)  # [h,w,6]
    both = torch.from_numpy(both).permute(2, 0, 1).unsqueeze(0)  # [h,w,6] -> [1,6,h,w]
    pixels, flat_colors, flat_alpha = np.flatnonzero(unknown), colors.reshape(-1, 3), alpha.reshape(-1, 1)
    result = np.empty((len(pixels), 3), np.float32)
    for chunk, samples in sample_at(both, pixels, unknown.shape):
        foreground, background = samples.numpy().T[:, :3], samples.numpy().T[:, 3:]
        a = flat_alpha[pixels[chunk]]
        error = flat_colors[pixels[chunk]] - a * foreground - (1 - a) * background
        result[chunk] = foreground + a * error / (a * a + (1 - a) * (1 - a))
    return result.clip(0, 1)
