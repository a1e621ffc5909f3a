"""Closed-form matting (Levin, Lischinski and Weiss, *A Closed-Form Solution to Natural Image Matting*, 2008)."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np

from ..batching import NO_STAGE_PROGRESS, StageProgress
from ..packages import import_scipy
from .pymatting import import_pymatting

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
_Preconditioner: TypeAlias = Callable[[np.ndarray], np.ndarray]

# Fraction of the work that is done after each step, measured at 12 megapixels.
_AFTER_EQUATIONS = 0.3
_AFTER_PRECONDITIONER = 0.5
AFTER_ALPHA = 0.85

_MAX_STEPS = 2000  # of the solver; photographs take 20 to 300
_EPSILON = 1e-7  # regularizes the color lines; same as pymatting (and rembg)
_FEW = 1 << 17  # unknown pixels; more take noticeable time
_WINDOWS_PER_CHUNK = 1 << 15  # as many as fit into the cache
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
    matrix, right = _build_equations(colors, trimap == 1, unknown, stage)
    stage.advance_to(_AFTER_EQUATIONS)
    alpha = _solve_equations(matrix, right, stage)
    pull = None if prior is None else prior.weigh(alpha, trimap, unknown)
    if pull is None:
        return alpha
    weights, values = pull  # each adds a term ``weight (alpha - value)^2`` to the energy
    matrix = matrix + import_scipy("sparse").diags(weights, format="csr")
    return _solve_equations(matrix, right + weights * values, stage)


def _solve_equations(matrix: csr_matrix, right: np.ndarray, stage: StageProgress) -> np.ndarray:
    precondition = _build_preconditioner(matrix, stage)
    stage.advance_to(_AFTER_PRECONDITIONER)
    return _solve_conjugate_gradients(matrix, right, precondition, stage).clip(0, 1)


class Prior(Protocol):
    """Knowledge about alpha in addition to the equations."""

    def crop(self, part: tuple[slice, slice]) -> Prior: ...

    def resize(self, height: int, width: int) -> Prior: ...

    def weigh(self, alpha: np.ndarray, trimap: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """For the ``[n]`` unknown pixels, whose solution so far is ``alpha``: weights of at least 0, and the values
        that they pull alpha to. None keeps the solution."""
        ...


def run_interruptibly(work: Callable[[], Result], stage: StageProgress) -> Result:
    """Call ``work`` in another thread, and check for an interrupt meanwhile. ``work`` must release Python's lock.

    On interrupt, the thread ends in the background, and its result is dropped.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not wait([future], timeout=0.2).done:
        stage.advance_to(0)
    return future.result()


def _build_equations(
    colors: np.ndarray, foreground: np.ndarray, unknown: np.ndarray, stage: StageProgress = NO_STAGE_PROGRESS
) -> tuple[csr_matrix, np.ndarray]:
    """Build the linear equations of closed-form matting for only the unknown pixels: ``matrix @ alpha = right``.

    The matting Laplacian of the whole image splits into ``[[L_U, R], [R^T, L_K]]`` for unknown and known pixels. Alpha
    of the known pixels is m, so ``L_U x = -R m`` remains. Only windows with an unknown pixel contribute, and
    each row has at most 5 x 5 entries: the pixels that share a window with its own.
    """
    csr_matrix = import_scipy("sparse").csr_matrix
    count = np.count_nonzero(unknown)
    width = unknown.shape[1] + 2 * REACH  # a border of known pixels, so that every pixel has 5 x 5 neighbors
    padded = np.pad(unknown, REACH)
    row_of = np.full(padded.size, count, np.int32)  # row of a pixel's equation; known pixels share an unused row
    pixels = np.flatnonzero(padded)
    row_of[pixels] = np.arange(count, dtype=np.int32)

    # stencil[k] is L(i, j) for every pixel i, where j is the k-th of its 5 x 5 neighbors in raster order.
    stencil = np.zeros((25, count + 1))
    for rows, laplacian, done in _iterate_windows(colors, unknown, row_of, width):
        stage.advance_to(_AFTER_EQUATIONS * done)
        for (i, j), value in laplacian:
            stencil[_NEIGHBOR[i][j]][rows[i]] += value
            if i != j:
                stencil[_NEIGHBOR[j][i]][rows[j]] += value
    stencil = stencil[:, :count]

    known_alpha = np.pad(foreground, REACH).ravel()
    right = np.zeros(count)
    columns = np.empty((count, 25), np.int32)
    for k, (dy, dx) in enumerate(itertools.product(range(-REACH, REACH + 1), repeat=2)):
        stage.advance_to(0)
        neighbors = pixels + (dy * width + dx)
        columns[:, k] = row_of[neighbors]
        right -= stencil[k] * known_alpha[neighbors]
    is_unknown = columns < count
    starts = np.concatenate(([0], np.cumsum(np.count_nonzero(is_unknown, axis=1))))
    return csr_matrix((stencil.T[is_unknown], columns[is_unknown], starts), (count, count)), right


# The nine pixels of a window in raster order, as (dy, dx) from its center; and for each pair of them, the index of the
# second among the 5 x 5 neighbors of the first.
_WINDOW = tuple(itertools.product((-1, 0, 1), repeat=2))
_NEIGHBOR = [[(yj - yi + 2) * 5 + (xj - xi + 2) for yj, xj in _WINDOW] for yi, xi in _WINDOW]

_Entry: TypeAlias = tuple[tuple[int, int], np.ndarray]


def _iterate_windows(
    colors: np.ndarray, unknown: np.ndarray, row_of: np.ndarray, padded_width: int
) -> Iterator[tuple[np.ndarray, Iterator[_Entry], float]]:
    """Iterate over the 3 x 3 windows with an unknown pixel, in chunks of n.

    Yields:
        The rows of the windows' pixels, ``[9,n]``; for each pair (i, j >= i) of the nine, the windows' contribution to
        the matting Laplacian, ``[n]``; and the fraction of windows before this chunk.
    """
    near = import_scipy("ndimage").binary_dilation(unknown, np.ones((3, 3), bool))
    y, x = np.nonzero(near[1:-1, 1:-1])  # centers whose window is inside the image
    dy, dx = np.array(_WINDOW).T[:, :, None]
    for start in range(0, len(y), _WINDOWS_PER_CHUNK):
        chunk = slice(start, start + _WINDOWS_PER_CHUNK)
        ys, xs = y[chunk] + 1 + dy, x[chunk] + 1 + dx  # both [9,n]
        values = np.stack([channel[ys, xs] for channel in np.moveaxis(colors, -1, 0)]).astype(np.float64)  # [3,9,n]
        yield row_of[(ys + REACH) * padded_width + xs + REACH], _window_laplacian(values), start / len(y)


def _window_laplacian(colors: np.ndarray) -> Iterator[_Entry]:
    """Equation 12 of Levin et al., for windows of nine pixels ``[3,9,n]``:

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
    # Dropping more of the factor saves time and memory here, but costs solver steps.
    factorize = partial(ichol, matrix, discard_threshold=1e-2, max_nnz=128 * (count + 1))
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

    solution = np.zeros_like(right)
    residual = right.copy()
    right_norm = math.sqrt(inner(right, right))
    goal = tolerance * right_norm
    if goal == 0:
        return solution  # no unknown pixel is near the foreground
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
