"""Closed-form matting (Levin, Lischinski and Weiss, *A Closed-Form Solution to Natural Image Matting*, 2008)."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..packages import import_scipy
from ..progress import NO_STAGE_PROGRESS, StageProgress
from .pymatting import import_pymatting

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

logger = logging.getLogger(__name__)

_Preconditioner: TypeAlias = Callable[[np.ndarray], np.ndarray]

# Fractions of the work that are done after each stage, as measured at 12 megapixels.
_AFTER_EQUATIONS = 0.3
_AFTER_PRECONDITIONER = 0.5
AFTER_ALPHA = 0.85

_EPSILON = 1e-7  # regularises the colour lines; pymatting's and so rembg's value
_WINDOWS_AT_ONCE = 1 << 15  # as many as the cache holds
REACH = 2  # two pixels share a 3x3 window if they are at most this far apart in x and in y


def solve(colours: np.ndarray, sure: np.ndarray, unknown: np.ndarray, work: StageProgress) -> np.ndarray:
    """Alpha of the unknown pixels, in raster order, float64 in 0..1."""
    if not unknown.any():
        return np.empty(0)
    matrix, right = _equations(colours, sure == 1, unknown, work)
    work.advance_to(_AFTER_EQUATIONS)
    precondition = _preconditioner(matrix)
    work.advance_to(_AFTER_PRECONDITIONER)
    return _conjugate_gradient(matrix, right, precondition, work).clip(0, 1)


def _equations(
    colours: np.ndarray, foreground: np.ndarray, unknown: np.ndarray, work: StageProgress = NO_STAGE_PROGRESS
) -> tuple[csr_matrix, np.ndarray]:
    """The linear equations of closed-form matting for the unknown pixels alone: ``matrix @ alpha = right``.

    The matting Laplacian of the whole picture splits into ``[[L_U, R], [R^T, L_K]]`` for unknown and known pixels.
    Alpha of the known ones, m, is given, so ``L_U x = -R m`` remains. Its rows need only the windows that hold an
    unknown pixel, and each row has at most 5 x 5 entries: the pixels with which this one shares a window.
    """
    csr_matrix = import_scipy("sparse").csr_matrix
    count = np.count_nonzero(unknown)
    width = unknown.shape[1] + 2 * REACH  # a frame of known pixels, so that every pixel has 5 x 5 around it
    framed = np.pad(unknown, REACH)
    row_of = np.full(framed.size, count, np.int32)  # row of a pixel's equation; known pixels share one that is not used
    pixels = np.flatnonzero(framed)
    row_of[pixels] = np.arange(count, dtype=np.int32)

    # stencil[k] holds L(i, j) of every pixel i with j = the k-th of the 5 x 5 pixels around it, in raster order.
    stencil = np.zeros((25, count + 1))
    for rows, laplacian, done in _windows(colours, unknown, row_of, width):
        work.advance_to(_AFTER_EQUATIONS * done)
        for (i, j), value in laplacian:
            stencil[_PLACE[i][j]][rows[i]] += value
            if i != j:
                stencil[_PLACE[j][i]][rows[j]] += value
    stencil = stencil[:, :count]

    given = np.pad(foreground, REACH).ravel()
    right = np.zeros(count)
    columns = np.empty((count, 25), np.int32)
    for k, (dy, dx) in enumerate(itertools.product(range(-REACH, REACH + 1), repeat=2)):
        around = pixels + (dy * width + dx)
        columns[:, k] = row_of[around]
        right -= stencil[k] * given[around]
    solved = columns < count
    starts = np.concatenate(([0], np.cumsum(np.count_nonzero(solved, axis=1))))
    return csr_matrix((stencil.T[solved], columns[solved], starts), (count, count)), right


# The nine pixels of a window in raster order, as (dy, dx) from its centre, and for each pair of them the place of the
# second in the 5 x 5 around the first.
_WINDOW = tuple(itertools.product((-1, 0, 1), repeat=2))
_PLACE = [[(yj - yi + 2) * 5 + (xj - xi + 2) for yj, xj in _WINDOW] for yi, xi in _WINDOW]

_Entry: TypeAlias = tuple[tuple[int, int], np.ndarray]


def _windows(
    colours: np.ndarray, unknown: np.ndarray, row_of: np.ndarray, framed_width: int
) -> Iterator[tuple[np.ndarray, Iterator[_Entry], float]]:
    """The 3 x 3 windows that hold an unknown pixel, some thousand (n) at a time.

    Yields:
        ``rows [9,n]``, the rows of the windows' pixels, and for each pair (i, j >= i) of the nine what the windows add
        to the matting Laplacian, ``[n]``; and the fraction of all windows before these.
    """
    near = import_scipy("ndimage").binary_dilation(unknown, np.ones((3, 3), bool))
    y, x = np.nonzero(near[1:-1, 1:-1])  # centres whose window lies within the picture
    dy, dx = np.array(_WINDOW).T[:, :, None]
    for start in range(0, len(y), _WINDOWS_AT_ONCE):
        part = slice(start, start + _WINDOWS_AT_ONCE)
        ys, xs = y[part] + 1 + dy, x[part] + 1 + dx  # both [9,n]
        values = np.stack([channel[ys, xs] for channel in np.moveaxis(colours, -1, 0)]).astype(np.float64)  # [3,9,n]
        yield row_of[(ys + REACH) * framed_width + xs + REACH], _window_laplacian(values), start / len(y)


def _window_laplacian(colours: np.ndarray) -> Iterator[_Entry]:
    """Levin et al., equation 12, for windows of nine pixels ``[3,9,n]``.

    ``delta_ij - (1 + (c_i - mean)^T (covariance + epsilon / 9)^-1 (c_j - mean)) / 9``
    """
    c = colours - colours.mean(axis=1, keepdims=True)
    covariance = np.einsum("pin,qin->pqn", c, c) / 9
    covariance[(0, 1, 2), (0, 1, 2)] += _EPSILON / 9
    # With ``covariance = L L^T`` and ``L w = c`` the product is ``w_i . w_j``. An explicit inverse loses all its digits
    # where the colours of a window lie on a line, as in grey images.
    whitened = np.empty_like(c)
    factor = np.empty_like(covariance)
    for p in range(3):
        for q in range(p):
            factor[p, q] = (covariance[p, q] - (factor[p, :q] * factor[q, :q]).sum(axis=0)) / factor[q, q]
        left = covariance[p, p] - (factor[p, :p] ** 2).sum(axis=0)
        factor[p, p] = np.sqrt(np.maximum(left, _EPSILON / 9))  # never less, but for rounding
        whitened[p] = (c[p] - (factor[p, :p, None] * whitened[:p]).sum(axis=0)) / factor[p, p]
    for i in range(9):
        affinity = (1 + np.einsum("pn,pjn->jn", whitened[:, i], whitened[:, i:])) / 9
        for j in range(i, 9):
            yield (i, j), (i == j) - affinity[j - i]


def _preconditioner(matrix: csr_matrix) -> _Preconditioner:
    """An incomplete Cholesky factorisation, or the diagonal where that fails."""
    ichol = _without_prints(import_pymatting("pymatting.preconditioner.ichol").ichol)
    count = matrix.shape[0]
    # The more of the factor is dropped, the less memory it takes and the more steps the solver needs. For small
    # systems 5e-3 was measured fastest, for large ones only less of it fits.
    for threshold in (5e-3, 1e-2) if count <= 1 << 18 else (1e-2,):
        try:
            return ichol(matrix, discard_threshold=threshold, max_nnz=128 * (count + 1))
        except ValueError as error:  # too many entries, or not positive definite
            logger.info("Incomplete Cholesky with a threshold of %g failed: %s", threshold, error)
    inverse = 1 / matrix.diagonal()
    return lambda vector: inverse * vector


def _without_prints(function: Callable) -> Callable:
    """Copy a function with a ``print`` that does nothing: `ichol` prints a warning before each larger shift it tries.

    Redirecting stdout instead would swallow the output of other threads.
    """
    if not isinstance(function, FunctionType):
        return function
    names = {**function.__globals__, "print": lambda *_, **__: None}
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _conjugate_gradient(
    matrix: csr_matrix,
    right: np.ndarray,
    precondition: _Preconditioner,
    work: StageProgress,
    tolerance: float = 1e-6,
    most_steps: int = 2000,
) -> np.ndarray:
    """Preconditioned conjugate gradients (Hestenes and Stiefel, 1952).

    They end when the residual is ``tolerance`` of ``right``: at 1e-6 alpha was measured to be within 0.1 / 255.
    """

    def inner(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.einsum("i,i", a, b))  # on one thread: a step is too short to share, and waits for the slowest

    solution = np.zeros_like(right)
    residual = right.copy()
    size = math.sqrt(inner(right, right))
    goal = tolerance * size
    if goal == 0:
        return solution  # nothing unknown touches foreground
    towards = precondition(residual)
    direction = towards.copy()
    energy = inner(residual, towards)
    for _ in range(most_steps):
        product = matrix @ direction
        curvature = inner(direction, product)
        if not (curvature > 0 and math.isfinite(energy)):  # rounding has used up what the equations say
            break
        step = energy / curvature
        solution += step * direction
        residual -= step * product
        left = math.sqrt(inner(residual, residual))
        if left <= goal:
            return solution
        # The residual shrinks by about the same factor at each step.
        done = math.log(size / left) / math.log(size / goal) if 0 < left < size else 0
        work.advance_to(_AFTER_PRECONDITIONER + (AFTER_ALPHA - _AFTER_PRECONDITIONER) * done)
        towards = precondition(residual)
        energy, before = inner(residual, towards), energy
        direction *= energy / before
        direction += towards
    logger.warning(
        "Alpha matting stopped before it reached its tolerance (residual %.1e, tolerance %.0e), so transparency along "
        "the edges may be wrong. Lower alpha_matting_erode_size, or turn alpha_matting off.",
        math.sqrt(inner(residual, residual)) / size,
        tolerance,
    )
    return solution
