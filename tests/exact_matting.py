"""Exact closed-form matting of images with collinear colors, such as gray ones.

If every color is ``a + t b`` with one number t per pixel, the inverse covariance of a window acts on t alone, and
``(c_i - mean)^T (covariance + epsilon / 9)^-1 (c_j - mean)`` is
``(t_i - mean) (t_j - mean) |b|^2 / (epsilon / 9 + |b|^2 variance(t))``.
"""

from __future__ import annotations

import itertools

import numpy as np

_EPSILON = 1e-7  # same as pymatting (and rembg)
_WINDOW = tuple(itertools.product((0, 1, 2), repeat=2))


def solve(t: np.ndarray, squared_length: float, trimap: np.ndarray) -> np.ndarray:
    """Alpha by a direct solver.

    Args:
        t: ``[H,W]``, position of each color on the line; the red channel of a gray image in 0..1.
        squared_length: ``|b|^2``; 3 for gray images.
        trimap: The trimap ``[H,W]`` of 0, 0.5 and 1.

    Returns:
        ``[H,W]`` in 0..1, float64.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    height, width = t.shape
    pixels = np.arange(height * width).reshape(height, width)
    window = np.stack([pixels[y : height - 2 + y, x : width - 2 + x].ravel() for y, x in _WINDOW])  # [9,n]
    c = t.astype(np.float64).ravel()[window]
    c -= c.mean(axis=0)
    scale = squared_length / (_EPSILON / 9 + squared_length * (c * c).mean(axis=0))
    pairs = list(itertools.product(range(9), repeat=2))
    values = np.concatenate([(i == j) - (1 + c[i] * c[j] * scale) / 9 for i, j in pairs])
    rows, columns = (np.concatenate([window[pair[k]] for pair in pairs]) for k in (0, 1))
    laplacian = coo_matrix((values, (rows, columns)), (pixels.size,) * 2).tocsr()

    alpha = trimap.ravel().astype(np.float64)
    unknown = alpha == 0.5
    right = -laplacian[unknown][:, ~unknown] @ alpha[~unknown]
    alpha[unknown] = spsolve(laplacian[unknown][:, unknown].tocsc(), right).clip(0, 1)
    return alpha.reshape(height, width)


def rembg_trimap(mask: np.ndarray, width: int) -> np.ndarray:
    """rembg's trimap of a mask in levels of 255, at its thresholds of 240 and 20."""
    from scipy.ndimage import binary_erosion

    sure = np.full(mask.shape, 0.5)
    sure[binary_erosion(mask > 240, np.ones((width, width)))] = 1
    sure[binary_erosion(mask < 20, np.ones((width, width)), border_value=1)] = 0
    return sure
