"""Closed-form matting (Levin, Lischinski and Weiss, *A Closed-Form Solution to Natural Image Matting*, 2008)."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import torch

from ..batching import NO_STAGE_PROGRESS, StageProgress, parallel_map, run_interruptibly
from ..packages import import_pymatting, import_scipy

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

logger = logging.getLogger(__name__)

_Preconditioner: TypeAlias = Callable[[np.ndarray], np.ndarray]

# Fraction of the work that is done after each step, measured at 12 megapixels.
_AFTER_EQUATIONS = 0.3
_AFTER_PRECONDITIONER = 0.5
AFTER_ALPHA = 0.85

_MAX_STEPS = 2000  # of the solver; photographs take 20 to 300
_EPSILON = 1e-7  # regularizes the color lines; same as pymatting (and rembg)
_FEW = 1 << 17  # unknown pixels; more take noticeable time
_PIXELS_PER_STRIP = 1 << 13
_SHIFTS = (0.003, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0, 100.0)  # see `_build_preconditioner`
REACH = 2  # two pixels share a 3x3 window if they are at most this far apart in x and in y


def solve(
    colors: np.ndarray,
    trimap: np.ndarray,
    unknown: np.ndarray,
    stage: StageProgress,
    prior: Prior | None = None,
) -> np.ndarray:
    """Solve for alpha of the unknown pixels, in raster order: float64 in 0..1.

    Args:
        colors: ``[H,W,3]``.
        trimap: ``[H,W]``; 1 for definite foreground.
        unknown: ``[H,W]`` bool.
        stage: Advances to `AFTER_ALPHA`.
        prior: Called once, with the solution that ignores it.
    """
    if not unknown.any():
        return np.empty(0)
    foreground = trimap == 1
    matrix, right = _build_equations(colors, foreground, unknown, stage)
    # Start at 0: pixels that the equations hardly tie to known ones would keep the value they start with.
    solution = _solve_equations(matrix, right, np.zeros_like(right), stage)
    weigh = partial(prior.weigh, solution, foreground, unknown) if prior else None
    pull = weigh and run_interruptibly(weigh, stage)
    if pull is None:
        return solution
    weights, values = pull  # each adds a term ``weight (alpha - value)^2`` to the energy
    matrix = matrix + import_scipy("sparse").diags(weights, format="csr")
    return _solve_equations(matrix, right + weights * values, solution, stage)


def _solve_equations(matrix: csr_matrix, right: np.ndarray, start: np.ndarray, stage: StageProgress) -> np.ndarray:
    precondition = _build_preconditioner(matrix, stage)
    stage.advance_to(_AFTER_PRECONDITIONER)
    return _solve_conjugate_gradients(matrix, right, start, precondition, stage).clip(0, 1)


class Prior(Protocol):
    """Knowledge about alpha in addition to the equations."""

    def crop(self, part: tuple[slice, slice]) -> Prior: ...

    def resize(self, height: int, width: int) -> Prior: ...

    def weigh(
        self, alpha: np.ndarray, foreground: np.ndarray, unknown: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """For the ``[n]`` unknown pixels, whose solution so far is ``alpha``: weights of at least 0, and the values
        that they pull alpha to. None keeps the solution. ``foreground`` and ``unknown`` are ``[H,W]`` bool."""
        ...


# The nine pixels of a window and the 5 x 5 neighbors of a pixel, as (dy, dx) from the center in raster order; and for
# each pair of pixels of a window, the index of the second among the neighbors of the first.
_WINDOW = np.array(list(itertools.product((-1, 0, 1), repeat=2)))
_NEIGHBORS = np.array(list(itertools.product(range(-REACH, REACH + 1), repeat=2)))
_NEIGHBOR = [[(yj - yi + 2) * 5 + (xj - xi + 2) for yj, xj in _WINDOW] for yi, xi in _WINDOW]


def _build_equations(
    colors: np.ndarray, foreground: np.ndarray, unknown: np.ndarray, stage: StageProgress = NO_STAGE_PROGRESS
) -> tuple[csr_matrix, np.ndarray]:
    """Build the linear equations of closed-form matting for only the unknown pixels: ``matrix @ alpha = right``.

    The matting Laplacian of the whole image splits into ``[[L_U, R], [R^T, L_K]]`` for unknown and known pixels. Alpha
    of the known pixels is m, so ``L_U x = -R m`` remains. Only windows with an unknown pixel contribute, and
    each row has at most 5 x 5 entries: the pixels that share a window with its own.
    """
    csr_matrix = import_scipy("sparse").csr_matrix
    count, height = int(np.count_nonzero(unknown)), len(unknown)
    # The equation of each pixel. Known pixels share an unused one. Padded, so that every pixel has 5 x 5 neighbors.
    equation_of = np.full([side + 2 * REACH for side in unknown.shape], count, np.int32)
    equation_of[REACH:-REACH, REACH:-REACH][unknown] = np.arange(count, dtype=np.int32)
    known_alpha = np.pad(foreground, REACH)

    # Strips of rows with so few unknown pixels each that their work fits into the cache.
    strip_of_row = np.cumsum(np.count_nonzero(unknown, axis=1)) // _PIXELS_PER_STRIP
    starts = [0, *(np.flatnonzero(np.diff(strip_of_row)) + 1), height]
    strips = [slice(*ends) for ends in itertools.pairwise(starts)]
    build, cores = partial(_build_strip, colors, equation_of, known_alpha, count), torch.get_num_threads()
    parts = []
    for first in range(0, len(strips), cores):
        stage.advance_to(_AFTER_EQUATIONS * first / len(strips))
        parts += parallel_map(build, strips[first : first + cores])
    stage.advance_to(_AFTER_EQUATIONS)
    values, columns, lengths, right = (np.concatenate(each) for each in zip(*parts))
    return csr_matrix((values, columns, np.concatenate(([0], np.cumsum(lengths)))), (count, count)), right


def _build_strip(
    colors: np.ndarray, equation_of: np.ndarray, known_alpha: np.ndarray, count: int, rows: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The equations of the n unknown pixels in some rows of the image.

    Returns:
        Values and columns of the matrix, row by row; the length of each row, ``[n]``; and the right side, ``[n]``.
    """
    bordered = slice(rows.start, rows.stop + 2 * REACH)
    equation_of, known_alpha = equation_of[bordered], known_alpha[bordered]
    width = equation_of.shape[1]
    pixels = np.flatnonzero(equation_of[REACH:-REACH] < count) + REACH * width  # [n]
    windows, window_of = _find_windows(pixels, equation_of.shape, rows.start, len(colors))
    y, x = np.divmod(windows, width) + np.array([[rows.start], [0]]) - REACH  # in the image
    image_width = colors.shape[1]
    inside = y * image_width + x + (_WINDOW @ (image_width, 1))[:, None]  # [9,windows]
    window_colors = np.zeros((3, 9, len(windows) + 1))
    window_colors[..., :-1] = np.moveaxis(colors.reshape(-1, 3)[inside], -1, 0)  # [9,windows,3] -> [3,9,windows]

    # stencil[k] is L(i, j) for every unknown pixel i, where j is the k-th of its 5 x 5 neighbors.
    stencil = np.zeros((25, len(pixels)))
    for (i, j), value in _window_laplacian(window_colors):
        value[-1] = 0  # of the unused window
        stencil[_NEIGHBOR[i][j]] += value.take(window_of[i])
        if i != j:
            stencil[_NEIGHBOR[j][i]] += value.take(window_of[j])

    neighbors = pixels[:, None] + _NEIGHBORS @ (width, 1)  # [n,25]
    columns = equation_of.ravel()[neighbors]
    stencil = np.ascontiguousarray(stencil.T)  # [25,n] -> [n,25]
    right = -np.einsum("nk,nk->n", stencil, known_alpha.ravel()[neighbors])
    is_unknown = columns < count
    return stencil[is_unknown], columns[is_unknown], np.count_nonzero(is_unknown, axis=1), right


def _find_windows(
    pixels: np.ndarray, shape: tuple[int, int], top: int, height: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The 3 x 3 windows inside the image that contain one of n pixels.

    Args:
        pixels: ``[n]``, raster indices in a bordered strip of shape ``shape``.
        top, height: The first row of the strip, and the number of rows of the image.

    Returns:
        The centers of the windows, ``[windows]``, and for each i the index of the window whose i-th pixel is that
        pixel, ``[n]``, or the number of windows if there is none.
    """
    offsets = _WINDOW @ (shape[1], 1)
    is_center = np.zeros(shape, bool)
    for offset in offsets:
        is_center.ravel()[pixels - offset] = True
    first, last = REACH + 1 - top, height + REACH - 2 - top  # centers are at least a pixel away from the image's border
    is_center[: max(0, first)] = is_center[max(0, last + 1) :] = False
    is_center[:, : REACH + 1] = is_center[:, shape[1] - REACH - 1 :] = False
    windows = np.flatnonzero(is_center)
    number = np.full(is_center.size, len(windows))
    number[windows] = np.arange(len(windows))
    return windows, [number[pixels - offset] for offset in offsets]


def _window_laplacian(colors: np.ndarray) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Equation 12 of Levin et al., for windows of nine pixels ``[3,9,n]``, for each pair (i, j >= i) of the nine:

    ``delta_ij - (1 + (c_i - mean)^T (covariance + epsilon / 9)^-1 (c_j - mean)) / 9``
    """
    c = colors - colors.mean(axis=1, keepdims=True)
    covariance = np.einsum("pin,qin->pqn", c, c) / 9
    covariance[(0, 1, 2), (0, 1, 2)] += _EPSILON / 9
    # With ``covariance = L L^T`` and ``L w = c``, the product is ``w_i . w_j``. An explicit inverse loses all precision
    # if the colors of a window are collinear, as in gray images.
    whitened = np.empty_like(c)
    factor = np.empty_like(covariance)
    for p in range(3):
        for q in range(p):
            factor[p, q] = (covariance[p, q] - (factor[p, :q] * factor[q, :q]).sum(axis=0)) / factor[q, q]
        pivot = covariance[p, p] - (factor[p, :p] ** 2).sum(axis=0)
        factor[p, p] = np.sqrt(np.maximum(pivot, _EPSILON / 9))  # smaller only by rounding errors
        whitened[p] = (c[p] - (factor[p, :p, None] * whitened[:p]).sum(axis=0)) / factor[p, p]
    for i in range(9):
        affinity = (1 + np.einsum("pn,pjn->jn", whitened[:, i], whitened[:, i:])) / 9
        for j in range(i, 9):
            yield (i, j), (i == j) - affinity[j - i]


def _build_preconditioner(matrix: csr_matrix, stage: StageProgress) -> _Preconditioner:
    """An incomplete Cholesky factorization, or the diagonal if that fails."""
    ichol = _silence(import_pymatting("pymatting.preconditioner.ichol").ichol)
    diagonal = matrix.diagonal()
    count = len(diagonal)
    # Dropping more of the factor saves time and memory here, but costs solver steps. The diagonal is shifted by the
    # first of `_SHIFTS` that works: in photographs, smaller ones fail.
    factorize = partial(ichol, matrix, discard_threshold=1e-2, shifts=_SHIFTS, max_nnz=128 * (count + 1))
    try:
        return run_interruptibly(factorize, stage) if count > _FEW else factorize()
    except ValueError as error:  # too many entries, or not positive definite
        logger.info("Incomplete Cholesky failed: %s", error)
    inverse = 1 / diagonal
    return lambda vector: inverse * vector


def _silence(function: Callable) -> Callable:
    """Copy a function with a no-op ``print``: `ichol` prints a warning for each larger shift it tries.

    Redirecting stdout would also discard the output of other threads.
    """
    if not isinstance(function, FunctionType):
        return function
    names = {**function.__globals__, "print": lambda *_, **__: None}
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _solve_conjugate_gradients(
    matrix: csr_matrix,
    right: np.ndarray,
    start: np.ndarray,
    precondition: _Preconditioner,
    stage: StageProgress,
    tolerance: float = 1e-6,
    max_steps: int | None = None,
) -> np.ndarray:
    """Solve ``matrix @ x = right`` by preconditioned conjugate gradients (Hestenes and Stiefel, 1952).

    Stops when the norm of the residual is ``tolerance`` times that of ``right``. With 1e-6, alpha was measured to be
    exact within 0.1/255.
    """

    def inner(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.einsum("i,i", a, b))  # single-threaded: steps are too short for threads

    right_norm = math.sqrt(inner(right, right))
    goal = tolerance * right_norm
    if goal == 0:
        return np.zeros_like(right)  # no unknown pixel is near the foreground
    solution = start.astype(np.float64)
    residual = right - matrix @ solution
    preconditioned = precondition(residual)
    direction = preconditioned.copy()
    energy = inner(residual, preconditioned)
    for _ in range(max_steps or _MAX_STEPS):
        product = matrix @ direction
        curvature = inner(direction, product)
        if not (curvature > 0 and math.isfinite(energy)):  # no progress beyond rounding errors
            break
        step = energy / curvature
        solution += step * direction
        residual -= step * product
        norm = math.sqrt(inner(residual, residual))
        if norm <= goal:
            return solution
        # The residual shrinks by about the same factor at each step.
        done = math.log(right_norm / norm) / math.log(right_norm / goal) if 0 < norm < right_norm else 0
        stage.advance_to(_AFTER_PRECONDITIONER + (AFTER_ALPHA - _AFTER_PRECONDITIONER) * done)
        preconditioned = precondition(residual)
        energy, previous = inner(residual, preconditioned), energy
        direction *= energy / previous
        direction += preconditioned
    logger.warning(
        "Alpha matting stopped before it reached its tolerance (residual %.1e, tolerance %.0e), so transparency along "
        "the edges may be wrong. Lower the edge width.",
        math.sqrt(inner(residual, residual)) / right_norm,
        tolerance,
    )
    return solution
