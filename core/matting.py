"""Alpha matting and cutouts: a picture and a mask become a picture with soft, clean edges.

A mask from a segmentation network is sure about most of a picture and unsure along the edges. The *trimap* says so: 1
is foreground, 0 background, 0.5 unknown. *Alpha matting* finds, for every unknown pixel, how much of it is foreground
(alpha), and what colour that foreground has once the background's share is taken out.

- Alpha: closed-form matting (Levin, Lischinski and Weiss, *A Closed-Form Solution to Natural Image Matting*, 2008).
- Foreground colours: multi-level estimation (Germer et al., *Fast Multi-Level Foreground Estimation*, 2020).

The results are those of ``rembg.remove(alpha_matting=True)``, which builds the equations of the whole picture to solve
the few of the unknown pixels. Here only those few are built. Where they are so many that memory would run out, alpha
is solved on a smaller image and carried back by the guided filter. In grey images, whose colours are collinear,
rembg loses accuracy; where the two differ, these results are closer to the exact solution.

Pictures are single ones here, ``[H,W,C]`` and ``[H,W]``, since each has its own equations. The work is done on the CPU.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

from . import masks, tensors, threads
from .checks import check_number, check_whole_number
from .errors import InputError
from .interfaces import NoProgress, Progress
from .packages import import_package, import_scipy
from .progress import UNREPORTED, Part

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

_Preconditioner: TypeAlias = Callable[[np.ndarray], np.ndarray]
_Slices: TypeAlias = tuple[slice, slice]

# More unknown pixels than `_MOST_UNKNOWNS` are solved on a smaller picture with at most `_SMALLER_UNKNOWNS` of them. An
# unknown pixel costs about 1 kB, and some ten microseconds.
_MOST_UNKNOWNS = 1 << 21
_SMALLER_UNKNOWNS = 1 << 19
# Foreground colours of a larger picture are estimated on the part around the unknown pixels, and on a smaller copy of
# it where that part is larger too. A pixel costs about 64 bytes.
_MOST_FOREGROUND_PIXELS = 1 << 24

STEPS = 100  # of a `Progress`, for one image

# Fractions of the work that are done after each stage, as measured at 12 megapixels.
_AFTER_EQUATIONS = 0.3
_AFTER_PRECONDITIONER = 0.5
_AFTER_ALPHA = 0.85

_EPSILON = 1e-7  # regularises the colour lines; pymatting's and so rembg's value
_WINDOWS_AT_ONCE = 1 << 15  # as many as the cache holds
_REACH = 2  # two pixels share a 3x3 window if they are at most this far apart in x and in y


@dataclass(frozen=True)
class MattingSettings:
    """Which pixels of a mask are sure. Thresholds are in 8-bit levels. If they cross, background wins.

    Raises:
        InputError: A value is not a number or out of range.
    """

    foreground_threshold: float = 240  # 0..255: above it a pixel is foreground
    background_threshold: float = 20  # 0..255: below it a pixel is background
    erode_size: int = 10  # pixels, 0 or more: width of the square by which both sure parts shrink

    def __post_init__(self) -> None:
        check_number(self.foreground_threshold, "alpha_matting_foreground_threshold", 0, 255)
        check_number(self.background_threshold, "alpha_matting_background_threshold", 0, 255)
        check_whole_number(self.erode_size, "alpha_matting_erode_size", 0)


def trimap(
    mask: torch.Tensor, foreground_threshold: float = 240, background_threshold: float = 20, erode_size: int = 10
) -> torch.Tensor:
    """Which pixels are surely foreground (1), surely background (0), or unknown (0.5).

    Both sure parts are eroded by a square, as rembg does it: foreground also from the picture's edge inwards,
    background not. An ``erode_size`` of 0 still erodes by a cross of 3 x 3, again as rembg does it. If the thresholds
    cross, a pixel in both parts is background.

    Args:
        mask: ``[H,W]`` in 0..1, rounded down to 8-bit levels.
        foreground_threshold: 0..255; levels above it are foreground.
        background_threshold: 0..255; levels below it are background.
        erode_size: Width of the square in pixels, 0 or more.

    Returns:
        ``[H,W]`` of 0, 0.5 and 1.

    Raises:
        InputError: As `MattingSettings`.
        DependencyError: scipy is missing or does not work.
    """
    minimum_filter1d = import_scipy("ndimage").minimum_filter1d
    settings = MattingSettings(foreground_threshold, background_threshold, erode_size)
    levels = tensors.to_8bit(mask)
    # Larger squares than this one erode no more.
    size = min(int(settings.erode_size) or 3, 2 * max(levels.shape) + 1)

    def eroded(selected: np.ndarray, outside: int) -> np.ndarray:
        # Of any size in the time and memory of the smallest, which `masks.erode` does not do.
        def along(selected: np.ndarray, axis: int) -> np.ndarray:
            return minimum_filter1d(selected, size, axis, mode="constant", cval=outside)

        across = along(selected.view(np.uint8), 1)
        if settings.erode_size == 0:
            return across & along(selected.view(np.uint8), 0)
        return along(across, 0)

    foreground = eroded(levels > settings.foreground_threshold, 0)
    background = eroded(levels < settings.background_threshold, 1)
    sure = (np.float32(1) + foreground) / 2
    sure[background > 0] = 0
    return torch.from_numpy(sure).to(mask.device)


def matte(
    image: torch.Tensor,
    mask: torch.Tensor,
    settings: MattingSettings | None = None,
    progress: Progress | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Alpha and foreground colours of a picture, by closed-form matting along the edges of a mask.

    Args:
        image: ``[H,W,C]``, RGB in 0..1; a fourth channel is not looked at.
        mask: ``[H,W]`` in 0..1.
        settings: How the trimap is made.
        progress: Gets `STEPS` steps in all. Steps of 0 check whether to go on.

    Returns:
        Alpha ``[H,W]`` and foreground ``[H,W,3]``, both in 0..1, on the image's device. Where the trimap gives
        nothing to solve (no sure foreground, or no sure background), they are the mask and the image's colours, and
        the log says why.

    Raises:
        InputError: The mask is not of the image's size.
        DependencyError: pymatting or scipy is missing or does not work.
    """
    settings = settings or MattingSettings()
    work = Part(progress or NoProgress(), STEPS)
    if image.ndim != 3 or mask.shape != image.shape[:2]:
        raise InputError(
            f"mask is {list(mask.shape)} and image is {list(image.shape)}",
            "Give a mask [height, width] of the size of the image [height, width, channels]",
        )
    device = image.device
    colours = tensors.rgb(image).detach().to("cpu", torch.float32)
    mask = mask.detach().to("cpu", torch.float32)
    sure = trimap(mask, settings.foreground_threshold, settings.background_threshold, settings.erode_size).numpy()

    reason = _why_not(sure, settings)
    if reason:
        log.warning("Alpha matting was skipped and the plain mask is used: %s.", reason)
        work.reach(1)
        return mask.to(device, copy=True), colours.to(device, copy=True)
    unknown = sure == 0.5
    if not unknown.any():  # a mask with hard edges, every pixel of which is sure
        work.reach(1)
        return torch.from_numpy(sure).to(device), colours.to(device, copy=True)

    work.reach(0)
    alpha = _alpha(colours.numpy(), sure, unknown, work)
    work.reach(_AFTER_ALPHA)
    foreground = _foreground(colours.numpy(), alpha, unknown)
    work.reach(1)
    return torch.from_numpy(alpha).to(device), torch.from_numpy(foreground).to(device)


def cutout(
    image: torch.Tensor,
    alpha: torch.Tensor,
    foreground: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """A picture with alpha, in straight colours: not multiplied by alpha, so no dark halo on a new background.

    Args:
        image: ``[...,H,W,C]``, RGB in 0..1; a fourth channel is dropped.
        alpha: ``[...,H,W]`` in 0..1.
        foreground: ``[...,H,W,3]``, colours to use in place of the image's.
        out: ``[...,H,W,4]``, float32, where to write the result; a new tensor if None.

    Returns:
        ``[...,H,W,4]``; all four channels are 0 where alpha is 0.
    """
    colours = tensors.rgb(image if foreground is None else foreground).float()
    alpha = alpha.to(colours)
    if out is None:
        out = colours.new_empty((*colours.shape[:-1], 4))
    # A product in place takes a fifth of the time of a choice and a join.
    torch.mul(colours, (alpha > 0).to(colours).unsqueeze(-1), out=out[..., :3])
    out[..., 3] = alpha
    return out


def post_process(mask: torch.Tensor) -> torch.Tensor:
    """Clean a mask and make it hard, as rembg (2.0.75 and later) does with ``post_process_mask``.

    Opening by a cross of 3 x 3 removes specks, a Gaussian of sigma 2 rounds the edges, levels of 127 and more become 1.

    Args:
        mask: ``[B,H,W]`` in 0..1, rounded down to 8-bit levels.

    Returns:
        ``[B,H,W]`` of 0 and 1.

    Raises:
        DependencyError: scipy is missing or does not work.
    """
    gaussian_filter = import_scipy("ndimage").gaussian_filter
    levels = torch.from_numpy(tensors.to_8bit(mask)).float()
    opened = masks.dilate(masks.erode(levels, 3, "cross"), 3, "cross")
    hard = [gaussian_filter(each.numpy().astype(np.float64), sigma=2) >= 127 for each in opened]
    return torch.from_numpy(np.stack(hard).astype(np.float32)).to(mask.device)


def _why_not(sure: np.ndarray, settings: MattingSettings) -> str | None:
    """Why a trimap cannot be solved, or None."""
    height, width = sure.shape
    if not (sure == 1).any():
        crossed = settings.background_threshold > settings.foreground_threshold
        limit = f" and not below {settings.background_threshold:g}" if crossed else ""
        return (
            f"no pixel of the mask is surely foreground (above {settings.foreground_threshold:g}{limit} "
            f"after eroding by {settings.erode_size})"
        )
    if not (sure == 0).any():
        return (
            f"no pixel of the mask is surely background (below {settings.background_threshold:g} "
            f"after eroding by {settings.erode_size})"
        )
    if min(height, width) < 3:
        return f"the picture is {width} x {height}, and its colours are compared in windows of 3 x 3"
    return None


# --- alpha ------------------------------------------------------------------------------------------------------------


def _alpha(colours: np.ndarray, sure: np.ndarray, unknown: np.ndarray, work: Part) -> np.ndarray:
    """Alpha ``[H,W]``, float32, from colours ``[H,W,3]`` and a trimap: solved where unknown, the trimap elsewhere."""
    part = _box(unknown, _REACH)
    alpha = sure.copy()
    if np.count_nonzero(unknown) <= _MOST_UNKNOWNS:
        alpha[unknown] = _closed_form(colours[part], sure[part], unknown[part], work)
    else:
        alpha[unknown] = _closed_form_smaller(colours[part], sure[part], unknown[part], work)
    return alpha


def _box(selected: np.ndarray, margin: int) -> _Slices:
    """The rows and columns around what is selected, ``margin`` pixels more on each side where the picture has them."""
    rows, columns = np.flatnonzero(selected.any(axis=1)), np.flatnonzero(selected.any(axis=0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )


def _closed_form(colours: np.ndarray, sure: np.ndarray, unknown: np.ndarray, work: Part) -> np.ndarray:
    """Alpha of the unknown pixels, in raster order, float64 in 0..1."""
    if not unknown.any():
        return np.empty(0)
    matrix, right = _equations(colours, sure == 1, unknown, work)
    work.reach(_AFTER_EQUATIONS)
    precondition = _preconditioner(matrix)
    work.reach(_AFTER_PRECONDITIONER)
    return _conjugate_gradient(matrix, right, precondition, work).clip(0, 1)


def _equations(
    colours: np.ndarray, foreground: np.ndarray, unknown: np.ndarray, work: Part = UNREPORTED
) -> tuple[csr_matrix, np.ndarray]:
    """The linear equations of closed-form matting for the unknown pixels alone: ``matrix @ alpha = right``.

    The matting Laplacian of the whole picture splits into ``[[L_U, R], [R^T, L_K]]`` for unknown and known pixels.
    Alpha of the known ones, m, is given, so ``L_U x = -R m`` remains. Its rows need only the windows that hold an
    unknown pixel, and each row has at most 5 x 5 entries: the pixels with which this one shares a window.
    """
    csr_matrix = import_scipy("sparse").csr_matrix
    count = np.count_nonzero(unknown)
    width = unknown.shape[1] + 2 * _REACH  # a frame of known pixels, so that every pixel has 5 x 5 around it
    framed = np.pad(unknown, _REACH)
    row_of = np.full(framed.size, count, np.int32)  # row of a pixel's equation; known pixels share one that is not used
    pixels = np.flatnonzero(framed)
    row_of[pixels] = np.arange(count, dtype=np.int32)

    # stencil[k] holds L(i, j) of every pixel i with j = the k-th of the 5 x 5 pixels around it, in raster order.
    stencil = np.zeros((25, count + 1))
    for rows, laplacian, done in _windows(colours, unknown, row_of, width):
        work.reach(_AFTER_EQUATIONS * done)
        for (i, j), value in laplacian:
            stencil[_PLACE[i][j]][rows[i]] += value
            if i != j:
                stencil[_PLACE[j][i]][rows[j]] += value
    stencil = stencil[:, :count]

    given = np.pad(foreground, _REACH).ravel()
    right = np.zeros(count)
    columns = np.empty((count, 25), np.int32)
    for k, (dy, dx) in enumerate(itertools.product(range(-_REACH, _REACH + 1), repeat=2)):
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
        yield row_of[(ys + _REACH) * framed_width + xs + _REACH], _window_laplacian(values), start / len(y)


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
    ichol = _without_prints(_import("pymatting.preconditioner.ichol").ichol)
    count = matrix.shape[0]
    # The more of the factor is dropped, the less memory it takes and the more steps the solver needs. For small
    # systems 5e-3 was measured fastest, for large ones only less of it fits.
    for threshold in (5e-3, 1e-2) if count <= 1 << 18 else (1e-2,):
        try:
            return ichol(matrix, discard_threshold=threshold, max_nnz=128 * (count + 1))
        except ValueError as error:  # too many entries, or not positive definite
            log.info("Incomplete Cholesky with a threshold of %g failed: %s", threshold, error)
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
    work: Part,
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
        work.reach(_AFTER_PRECONDITIONER + (_AFTER_ALPHA - _AFTER_PRECONDITIONER) * done)
        towards = precondition(residual)
        energy, before = inner(residual, towards), energy
        direction *= energy / before
        direction += towards
    log.warning(
        "Alpha matting stopped before it reached its tolerance (residual %.1e, tolerance %.0e), so transparency along "
        "the edges may be wrong. Lower alpha_matting_erode_size, or turn alpha_matting off.",
        math.sqrt(inner(residual, residual)) / size,
        tolerance,
    )
    return solution


def _closed_form_smaller(colours: np.ndarray, sure: np.ndarray, unknown: np.ndarray, work: Part) -> np.ndarray:
    """As `_closed_form`, solved on a smaller picture. Closed-form matting takes alpha for a linear function of colour
    in every small window; the guided filter carries just that function to the full size (He and Sun, *Fast Guided
    Filter*, 2015)."""
    height, width = sure.shape
    share = math.sqrt(_SMALLER_UNKNOWNS / np.count_nonzero(unknown))
    while True:
        size = (max(3, int(height * share)), max(3, int(width * share)))
        small_sure = np.full(size, 0.5, np.float32)
        for value in (0, 1):  # known where most of the pixels that fall together are, and somewhere at least
            known = torch.from_numpy((sure == value).astype(np.float32)[None])  # [H,W] -> [1,H,W]
            part = tensors.resize_mask(known, *size, mode="area")[0].numpy()
            small_sure[part >= min(0.5, part.max())] = value
        small_unknown = small_sure == 0.5
        if np.count_nonzero(small_unknown) <= _SMALLER_UNKNOWNS:
            break
        share *= 0.95
    log.info("Alpha matting of %d x %d pixels is solved at %d x %d.", width, height, size[1], size[0])
    image = torch.from_numpy(colours).unsqueeze(0)  # [H,W,3] -> [1,H,W,3]
    small = tensors.resize_image(image, *size, mode="area")
    small_alpha = small_sure
    small_alpha[small_unknown] = _closed_form(small[0].numpy(), small_sure, small_unknown, work)
    lines = _colour_lines(tensors.image_to_bchw(small), torch.from_numpy(small_alpha)[None, None])
    pixels, channels = np.flatnonzero(unknown), colours.reshape(-1, 3)
    result = np.empty(len(pixels))
    for part, at in _sampled(lines, pixels, unknown.shape):
        line = at.numpy()
        result[part] = (line[:3] * channels[pixels[part]].T).sum(axis=0) + line[3]
    return result.clip(0, 1)


def _colour_lines(image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """For every pixel of ``[1,3,h,w]`` the a (3) and b (1) of ``alpha = a . colour + b`` around it: ``[1,4,h,w]``."""
    height, width = alpha.shape[-2:]
    lines = torch.empty(1, 4, height, width)
    rows = max(1, (1 << 20) // width)  # in strips, since the arithmetic takes 200 bytes a pixel
    for top in range(0, height, rows):
        start, stop = max(0, top - 2), min(height, top + rows + 2)  # two means of radius 1 look two rows further
        strip = _colour_lines_of_strip(image[:, :, start:stop].double(), alpha[:, :, start:stop].double())
        lines[:, :, top : top + rows] = strip[:, :, top - start : top - start + rows]
    return lines


def _colour_lines_of_strip(image: torch.Tensor, alpha: torch.Tensor, epsilon: float = 1e-5) -> torch.Tensor:
    def mean(values: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(values, 3, stride=1, padding=1, count_include_pad=False)

    height, width = alpha.shape[-2:]
    m, m_alpha = mean(image), mean(alpha)
    pairs = mean((image[:, :, None] * image[:, None]).flatten(1, 2)).view(3, 3, height, width)
    covariance = (pairs - m[0, :, None] * m[0, None]).permute(2, 3, 0, 1)  # [3,3,h,w] -> [h,w,3,3]
    covariance = covariance + epsilon * torch.eye(3, dtype=covariance.dtype)
    shared = (mean(image * alpha) - m * m_alpha)[0].permute(1, 2, 0)  # [1,3,h,w] -> [h,w,3]
    a = torch.linalg.solve(covariance, shared).permute(2, 0, 1)  # [h,w,3] -> [3,h,w]
    b = m_alpha[0] - (a * m[0]).sum(dim=0, keepdim=True)
    return mean(torch.cat((a, b)).unsqueeze(0))


def _sampled(
    values: torch.Tensor, pixels: np.ndarray, shape: tuple[int, int], chunk: int = 1 << 20
) -> Iterator[tuple[slice, torch.Tensor]]:
    """``values [1,C,h,w]`` bilinearly at the full-size ``pixels`` (raster indices in ``shape``), as ``[C,n]`` each."""
    height, width = shape
    for start in range(0, len(pixels), chunk):
        part = slice(start, start + chunk)
        y, x = np.divmod(pixels[part], width)
        grid = torch.from_numpy(np.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), axis=-1)).to(values)
        at = F.grid_sample(values, grid[None, None], mode="bilinear", padding_mode="border", align_corners=False)
        yield part, at[0, :, 0]  # [1,C,1,n] -> [C,n]


# --- foreground colours -----------------------------------------------------------------------------------------------


def _foreground(colours: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Foreground colours ``[H,W,3]``, float32, from colours ``[H,W,3]`` and alpha ``[H,W]``."""
    if alpha.size <= _MOST_FOREGROUND_PIXELS:
        return _multi_level(colours, alpha)[0]
    # Far from the unknown pixels alpha is 0 or 1, and the foreground is the picture itself.
    foreground = colours.copy()
    part = _box(unknown, 16)
    if alpha[part].size <= _MOST_FOREGROUND_PIXELS:
        foreground[part] = _multi_level(colours[part], alpha[part])[0]
    else:
        foreground[part][unknown[part]] = _foreground_smaller(colours[part], alpha[part], unknown[part])
    return foreground


_ONE_AT_A_TIME = threading.Lock()  # one of numba's ways to run threads ends Python where two begin at once


def _multi_level(colours: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and background colours, ``[H,W,3]`` each."""
    estimate = _import("pymatting.foreground.estimate_foreground_ml").estimate_foreground_ml
    numba = _import("numba")
    # Its many short parallel steps wait for each other longer than they work: one thread is up to ten times as fast.
    with _ONE_AT_A_TIME:
        threads = numba.get_num_threads()
        numba.set_num_threads(1)  # for the calling thread alone
        try:
            return estimate(colours, alpha, return_background=True)
        finally:
            numba.set_num_threads(threads)


def _foreground_smaller(colours: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> np.ndarray:
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
    for part, at in _sampled(both, pixels, unknown.shape):
        foreground, background = at.numpy().T[:, :3], at.numpy().T[:, 3:]
        a = alphas[pixels[part]]
        missing = channels[pixels[part]] - a * foreground - (1 - a) * background
        result[part] = foreground + a * missing / (a * a + (1 - a) * (1 - a))
    return result.clip(0, 1)


def _import(name: str) -> ModuleType:
    """Import a module of pymatting, or numba, which pymatting requires.

    pymatting compiles machine code during its import, which takes up to a minute the first time and a second later.

    Raises:
        DependencyError: The package is missing or does not work.
    """
    remedy = (
        "Install it into the Python that runs ComfyUI: python -m pip install --upgrade pymatting; "
        "or turn alpha_matting off"
    )
    with threads.kept():
        return import_package(name, remedy)
