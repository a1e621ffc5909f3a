"""Foreground colours: multi-level estimation (Germer et al., *Fast Multi-Level Foreground Estimation*, 2020)."""

from __future__ import annotations

import math
import threading

import numpy as np
import torch

from .. import tensors
from .downscaled import bounding_slices, sample_at
from .pymatting import import_pymatting

# Foreground colours of a larger picture are estimated on the part around the unknown pixels, and on a smaller copy of
# it where that part is larger too. A pixel costs about 64 bytes.
_MOST_FOREGROUND_PIXELS = 1 << 24


def estimate_foreground(colours: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Foreground colours ``[H,W,3]``, float32, from colours ``[H,W,3]`` and alpha ``[H,W]``."""
    if alpha.size <= _MOST_FOREGROUND_PIXELS:
        return _multi_level(colours, alpha)[0]
    # Far from the unknown pixels alpha is 0 or 1, and the foreground is the picture itself.
    foreground = colours.copy()
    part = bounding_slices(unknown, 16)
    if alpha[part].size <= _MOST_FOREGROUND_PIXELS:
        foreground[part] = _multi_level(colours[part], alpha[part])[0]
    else:
        foreground[part][unknown[part]] = _estimate_downscaled(colours[part], alpha[part], unknown[part])
    return foreground


_ONE_AT_A_TIME = threading.Lock()  # one of numba's ways to run threads ends Python where two begin at once


def _multi_level(colours: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and background colours, ``[H,W,3]`` each."""
    estimate = import_pymatting("pymatting.foreground.estimate_foreground_ml").estimate_foreground_ml
    numba = import_pymatting("numba")
    # Its many short parallel steps wait for each other longer than they work: one thread is up to ten times as fast.
    with _ONE_AT_A_TIME:
        threads = numba.get_num_threads()
        numba.set_num_threads(1)  # for the calling thread alone
        try:
            return estimate(colours, alpha, return_background=True)
        finally:
            numba.set_num_threads(threads)


def _estimate_downscaled(colours: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Foreground of the unknown pixels ``[n,3]``: estimated on a smaller picture, then moved as little as makes
    ``alpha F + (1 - alpha) B`` the picture again (Forte, *Approximate Fast Foreground Colour Estimation*, 2021)."""
    share = math.sqrt(_MOST_FOREGROUND_PIXELS / alpha.size)
    size = (int(alpha.shape[0] * share), int(alpha.shape[1] * share))
    small = tensors.resize_image(torch.from_numpy(colours).unsqueeze(0), *size, mode="area")[0]
    small_alpha = tensors.resize_mask(torch.from_numpy(alpha).unsqueeze(0), *size, mode="area")[0]
    both = np.concatenate(_multi_level(small.numpy(), small_alpha.numpy()), axis=-1)  # [h,w,6]
    both = torch.from_numpy(both).permute(2, 0, 1).unsqueeze(0)  # [h,w,6] -> [1,6,h,w]
    pixels, channels, alphas = np.flatnonzero(unknown), colours.reshape(-1, 3), alpha.reshape(-1, 1)
    result = np.empty((len(pixels), 3), np.float32)
    for part, at in sample_at(both, pixels, unknown.shape):
        foreground, background = at.numpy().T[:, :3], at.numpy().T[:, 3:]
        a = alphas[pixels[part]]
        missing = channels[pixels[part]] - a * foreground - (1 - a) * background
        result[part] = foreground + a * missing / (a * a + (1 - a) * (1 - a))
    return result.clip(0, 1)
