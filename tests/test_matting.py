"""Alpha matting against rembg, exact solutions and the full matting Laplacian."""

from __future__ import annotations

import importlib
import logging
import re
import sys
import threading
from collections.abc import Callable

import exact_matting
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core import tensors
from maskwright.core.batching import NO_STAGE_PROGRESS
from maskwright.core.cutout import closed_form, downscaled, matting
from maskwright.core.cutout.matting import MattingSettings, explain_unsolvable
from maskwright.core.errors import DependencyError, InputError

scipy_ndimage = pytest.importorskip("scipy.ndimage")


def need_pymatting() -> None:
    pytest.importorskip("pymatting", reason="pymatting is not installed")


def import_rembg_bg() -> object:
    need_pymatting()
    pytest.importorskip("onnxruntime", reason="rembg needs onnxruntime")  # without it `import rembg` ends the process
    return pytest.importorskip("rembg.bg", reason="rembg is not installed")


Scene = tuple[torch.Tensor, torch.Tensor]


def make_scene(
    inside: Callable[[np.ndarray, np.ndarray], np.ndarray],
    height: int = 160,
    width: int = 130,
    edge: float = 6,
    noise: float = 0.02,
    blur: float = 2,
) -> Scene:
    """An 8-bit image whose subject is where ``inside(y, x)`` > 0, and its mask as from a network.

    ``edge`` is the width of the subject's edge in pixels, ``blur`` the sigma of the mask's edge.
    """
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    depth = inside(y, x)
    alpha = np.clip(0.5 + depth * max(height, width) / edge, 0, 1)[..., None]
    subject = np.stack([0.7 - 0.2 * y, 0.45 + 0.1 * np.sin(9 * x), 0.3 + 0.2 * x], axis=-1)
    background = np.stack([0.2 + 0.3 * x, 0.5 + 0.2 * y, 0.7 - 0.2 * x], axis=-1)
    image = alpha * subject + (1 - alpha) * background
    image = image + np.random.default_rng(0).normal(0, noise, image.shape)
    mask = scipy_ndimage.gaussian_filter((depth > 0).astype(float), blur)
    levels = (image.clip(0, 1) * 255).astype(np.uint8)
    return tensors.from_8bit(levels), tensors.from_8bit((mask * 255).astype(np.uint8))


def head(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 0.28 - np.hypot((x - 0.4) * 1.2, y - 0.42)


def curls(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return head(y, x) + 0.03 * np.sin(40 * np.arctan2(y - 0.42, x - 0.4))


def bust(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.maximum(0.17 - np.hypot(x - 0.4, y - 0.3), 0.4 - np.hypot((x - 0.4) * 1.3, y - 0.95))


def two_people(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.maximum(0.12 - np.hypot(x - 0.2, y - 0.25), 0.15 - np.hypot(x - 0.55, y - 0.75))


def ring(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 0.11 - np.abs(0.25 - np.hypot(x - 0.4, y - 0.5))


PORTRAITS = {
    "a smooth head": make_scene(head),
    "curls": make_scene(curls, edge=12),
    "a bust at the image border": make_scene(bust, 150, 140),
    "two people far apart": make_scene(two_people, 200, 160),
    "a hole": make_scene(ring, 180, 150),
    "hardly any noise": make_scene(curls, 170, 120, noise=0.004),
    "flat colors": make_scene(curls, 140, 140, noise=0),
    "strong noise": make_scene(bust, noise=0.08),
    "a sharp edge and a soft mask": make_scene(head, edge=1, blur=6),
}


def cut_out(image: torch.Tensor, mask: torch.Tensor, matting_settings: MattingSettings | None = None) -> torch.Tensor:
    return matting.compose_cutout(image, *matting.matte(image, mask, matting_settings))


# --- compared with rembg ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("erode_size", [0, 10, 25])
@pytest.mark.parametrize("name", PORTRAITS)
def test_matte_matches_rembg(name: str, erode_size: int) -> None:
    image, mask = PORTRAITS[name]
    bg = import_rembg_bg()
    theirs = np.array(bg.alpha_matting_cutout(tensors.to_pil(image), tensors.to_pil(mask), 240, 20, erode_size))
    ours = tensors.to_8bit(cut_out(image, mask, MattingSettings(240, 20, erode_size)))
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference[..., 3].max() <= 2
    assert difference[ours[..., 3] > 0].max() <= 2
    assert (theirs[..., 3] % 255 > 0).any(), "nothing to solve"


def test_post_process_matches_rembg() -> None:
    bg = import_rembg_bg()
    if not hasattr(bg, "gaussian_filter"):
        pytest.skip("this rembg is older and blurs with another filter")
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 1, 12, 15, generator=generator)
    masks = torch.nn.functional.interpolate(coarse, (121, 98), mode="bicubic").squeeze(1).clamp(0, 1)
    masks = torch.cat(
        (masks, torch.rand(2, 121, 98, generator=generator), PORTRAITS["a smooth head"][1][None, :121, :98])
    )
    for mask, result in zip(masks, matting.post_process(masks)):
        np.testing.assert_array_equal(tensors.to_8bit(result), bg.post_process(tensors.to_8bit(mask)))


# --- the trimap -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("erode_size", [0, 1, 2, 3, 9, 10, 11, 60, 5000, 10**30])
@pytest.mark.parametrize("sides", range(4))
def test_make_trimap_erodes_like_rembg(erode_size: int, sides: int) -> None:
    mask = torch.rot90(make_scene(bust, 61, 47)[1], sides).contiguous()  # the bust touches one side of the image
    levels = tensors.to_8bit(mask)
    square = None if erode_size == 0 else np.ones((min(erode_size, 130),) * 2)
    foreground = scipy_ndimage.binary_erosion(levels > 240, square)
    background = scipy_ndimage.binary_erosion(levels < 20, square, border_value=1)
    result = matting.make_trimap(mask, MattingSettings(240, 20, erode_size)).numpy()
    np.testing.assert_array_equal(result == 1, foreground)
    np.testing.assert_array_equal(result == 0, background)
    assert set(np.unique(result)) <= {0, 0.5, 1}


def test_make_trimap_small_example() -> None:
    mask = torch.tensor([[0, 0, 0, 0.5, 1, 1, 1, 1]]).repeat(5, 1)
    top, middle = [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0, 0, 0.5, 0.5, 0.5, 1, 1, 0.5]
    assert matting.make_trimap(mask, MattingSettings(240, 20, 3)).tolist() == [top, middle, middle, middle, top]


def test_make_trimap_thresholds_are_exclusive() -> None:
    mask = tensors.from_8bit(np.array([[19, 20, 240, 241]], np.uint8)).repeat_interleave(3, 1).repeat(3, 1)
    assert matting.make_trimap(mask, MattingSettings(240, 20, 1))[1].tolist() == [0] * 3 + [0.5] * 6 + [1] * 3


@pytest.mark.parametrize(("foreground", "background"), [(100, 250), (100, 200), (0, 250), (128, 129), (100, 100)])
@pytest.mark.parametrize("erode_size", [0, 1, 4, 9])
def test_make_trimap_crossed_thresholds(
    foreground: int, background: int, erode_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in rembg, a pixel in both areas is background."""
    bg = import_rembg_bg()
    image, mask = make_scene(bust, 61, 47, blur=5)
    trimaps = []

    def record(image: np.ndarray, trimap: np.ndarray) -> None:
        trimaps.append(trimap)
        raise ValueError("stop after the trimap")

    monkeypatch.setattr(bg, "estimate_alpha_cf", record)
    with pytest.raises(ValueError, match="stop after the trimap"):
        bg.alpha_matting_cutout(tensors.to_pil(image), tensors.to_pil(mask), foreground, background, erode_size)
    expected = np.select([trimaps[0] == 0, trimaps[0] == 1], [0, 1], 0.5)
    np.testing.assert_array_equal(
        matting.make_trimap(mask, MattingSettings(foreground, background, erode_size)).numpy(), expected
    )


@pytest.mark.parametrize(("foreground", "background"), [(100, 250), (60, 180)])
def test_matte_crossed_thresholds(foreground: int, background: int) -> None:
    bg = import_rembg_bg()
    image, mask = make_scene(head, blur=5)
    theirs = np.array(bg.alpha_matting_cutout(tensors.to_pil(image), tensors.to_pil(mask), foreground, background, 10))
    ours = tensors.to_8bit(cut_out(image, mask, MattingSettings(foreground, background, 10)))
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert 0 < (ours[..., 3] > 127).mean() < 1
    assert difference[..., 3].max() <= 2
    assert difference[ours[..., 3] > 0].max() <= 2


def test_matte_logs_crossed_thresholds(caplog: pytest.LogCaptureFixture) -> None:
    image = torch.rand(40, 40, 3)
    alpha, _ = matting.matte(image, torch.full((40, 40), 0.7), MattingSettings(100, 250, 3))
    assert torch.equal(alpha, torch.full((40, 40), 0.7))
    assert "definite foreground (above 100 and not below 250 after eroding by 3)" in caplog.text


@pytest.mark.parametrize(
    "arguments", [{"foreground_threshold": 300}, {"background_threshold": -1}, {"erode_size": 2.5}]
)
def test_matting_settings_reject_invalid_values(arguments: dict) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(InputError, match=f"alpha_matting_{name} is {value}"):
        MattingSettings(**arguments)


# --- the equations ----------------------------------------------------------------------------------------------------


def matting_laplacian(colors: np.ndarray) -> np.ndarray:
    """Equation 12 of Levin et al., pair by pair, for a small image."""
    height, width, _ = colors.shape
    laplacian = np.zeros((height * width,) * 2)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            window = [(v * width + u) for v in (y - 1, y, y + 1) for u in (x - 1, x, x + 1)]
            c = colors.reshape(-1, 3)[window]
            mean = c.mean(axis=0)
            spread = sum(np.outer(each - mean, each - mean) for each in c) / 9 + 1e-7 / 9 * np.eye(3)
            for a, i in enumerate(window):
                for b, j in enumerate(window):
                    affinity = (1 + (c[a] - mean) @ np.linalg.inv(spread) @ (c[b] - mean)) / 9
                    laplacian[i, j] += (i == j) - affinity
    return laplacian


def test_build_equations_matches_full_laplacian() -> None:
    random = np.random.default_rng(0)
    colors = random.random((9, 11, 3))
    trimap_values = random.choice([0, 0.5, 0.5, 1], (9, 11))
    unknown = trimap_values == 0.5
    whole = matting_laplacian(colors)
    u, k = unknown.ravel(), ~unknown.ravel()
    matrix, right = closed_form._build_equations(colors, trimap_values == 1, unknown)
    np.testing.assert_allclose(matrix.toarray(), whole[u][:, u], atol=1e-9)
    np.testing.assert_allclose(right, -whole[u][:, k] @ (trimap_values.ravel()[k] == 1), atol=1e-9)


# Collinear colors ``a + t b`` as (a, b): the covariance of every window is nearly singular.
COLOR_LINES = {
    "gray": ((0, 0, 0), (1, 1, 1)),
    "blue to orange": ((0.05, 0.25, 0.9), (0.9, 0.3, -0.85)),
    "dark to light red": ((0.1, 0.02, 0.01), (0.8, 0.31, 0.27)),
}


@pytest.mark.parametrize("erode_size", [8, 30])
@pytest.mark.parametrize("line", COLOR_LINES)
def test_matte_of_collinear_colors_is_exact(line: str, erode_size: int) -> None:
    need_pymatting()
    t = pytest.importorskip("skimage.data").camera()[180:270, 300:390] / 255  # a leg of the tripod in front of grass
    a, b = (np.array(each, np.float32) for each in COLOR_LINES[line])
    mask = tensors.from_8bit((255 * scipy_ndimage.gaussian_filter((t < 0.27).astype(float), 2)).astype(np.uint8))
    mask[:40] *= mask[:40] > 0.6  # so that an erosion by 30 leaves some background
    mask[60:, :40] = 1
    trimap_values = matting.make_trimap(mask, MattingSettings(240, 20, erode_size)).numpy()
    assert {0, 0.5, 1} == set(np.unique(trimap_values))
    alpha, _ = matting.matte(
        torch.from_numpy(a + t.astype(np.float32)[..., None] * b), mask, MattingSettings(240, 20, erode_size)
    )
    exact = exact_matting.solve(t, float(b @ b), trimap_values)
    assert np.abs(alpha.numpy() - exact).max() < 0.5 / 255


def test_matte_of_huge_gray_values_is_finite() -> None:
    """Rounding errors of their variance exceed the regularization."""
    need_pymatting()
    image, mask = make_scene(head)
    image = image[..., :1].repeat(1, 1, 3) * 1e7
    alpha, foreground = matting.matte(image, mask)
    assert alpha.isfinite().all() and foreground.isfinite().all()
    assert ((alpha > 0) & (alpha < 1)).any()


def test_matte_of_gray_image_is_more_exact_than_rembg() -> None:
    bg = import_rembg_bg()
    levels = pytest.importorskip("skimage.data").camera()[180:270, 300:390]
    image = tensors.from_8bit(np.repeat(levels[..., None], 3, axis=-1))
    mask = tensors.from_8bit((255 * scipy_ndimage.gaussian_filter((levels < 70).astype(float), 2)).astype(np.uint8))
    exact = 255 * exact_matting.solve(levels / 255, 3, matting.make_trimap(mask, MattingSettings(240, 20, 8)).numpy())
    theirs = np.array(bg.alpha_matting_cutout(tensors.to_pil(image), tensors.to_pil(mask), 240, 20, 8))[..., 3]
    ours = 255 * matting.matte(image, mask, MattingSettings(240, 20, 8))[0].numpy()
    assert np.abs(ours - exact).max() < 0.5
    assert (np.abs(theirs - exact) > 2).sum() > 100


def test_build_equations_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = PORTRAITS["curls"]
    trimap_values = matting.make_trimap(mask).numpy()
    whole, _ = closed_form._build_equations(image.numpy(), trimap_values == 1, trimap_values == 0.5)
    monkeypatch.setattr(closed_form, "_PIXELS_PER_STRIP", 100)
    parts, _ = closed_form._build_equations(image.numpy(), trimap_values == 1, trimap_values == 0.5)
    assert abs(parts - whole).max() < 1e-12


def test_solve_conjugate_gradients() -> None:
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(0)
    half = random.random((30, 30))
    matrix = csr_matrix(half @ half.T + np.eye(30))
    expected = random.random(30)
    diagonal = 1 / matrix.diagonal()
    solution = closed_form._solve_conjugate_gradients(
        matrix, matrix @ expected, random.random(30), lambda v: diagonal * v, NO_STAGE_PROGRESS, 1e-12
    )
    np.testing.assert_allclose(solution, expected, atol=1e-8)


def test_solve_conjugate_gradients_warns_if_not_converged(caplog: pytest.LogCaptureFixture) -> None:
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(0)
    half = random.random((30, 30))
    matrix, right = csr_matrix(half @ half.T + 1e-3 * np.eye(30)), random.random(30)
    start = np.zeros(30)
    closed_form._solve_conjugate_gradients(matrix, right, start, lambda v: v, NO_STAGE_PROGRESS, max_steps=3)
    assert re.search(r"stopped before it reached its tolerance \(residual .*, tolerance 1e-06\)", caplog.text)
    assert "Lower the edge width" in caplog.text
    caplog.clear()
    closed_form._solve_conjugate_gradients(
        -matrix, right, start, lambda v: v, NO_STAGE_PROGRESS
    )  # not positive definite
    assert "stopped before it reached its tolerance" in caplog.text
    caplog.clear()
    closed_form._solve_conjugate_gradients(matrix, right, start, lambda v: v, NO_STAGE_PROGRESS)
    assert not caplog.text


def test_matte_without_incomplete_cholesky(monkeypatch: pytest.MonkeyPatch) -> None:
    need_pymatting()
    image, mask = PORTRAITS["a smooth head"]
    expected, _ = matting.matte(image, mask)

    def fail(*_: object, **__: object) -> None:
        raise ValueError("not positive definite")

    monkeypatch.setattr(importlib.import_module("pymatting.preconditioner.ichol"), "ichol", fail)
    alpha, _ = matting.matte(image, mask)
    torch.testing.assert_close(alpha, expected, atol=1 / 255, rtol=0)


# --- large images -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["curls", "a bust at the image border", "two people far apart"])
def test_solve_downscaled_is_close_and_keeps_trimap(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need_pymatting()
    image, mask = PORTRAITS[name]
    alpha, foreground = matting.matte(image, mask)
    trimap_values = matting.make_trimap(mask)
    unknown = int((trimap_values == 0.5).sum())
    monkeypatch.setattr(downscaled, "MAX_UNKNOWNS", unknown - 1)
    monkeypatch.setattr(downscaled, "MAX_PIXELS", image.shape[0] * image.shape[1] // 3)
    small_alpha, small_foreground = matting.matte(image, mask)
    assert torch.equal(small_alpha[trimap_values != 0.5], trimap_values[trimap_values != 0.5])
    assert (small_alpha - alpha).abs()[trimap_values == 0.5].mean() < 4 / 255
    visible = (alpha > 0.2) & (trimap_values == 0.5)
    assert (small_foreground - foreground).abs()[visible].mean() < 2 / 255
    assert small_alpha.min() >= 0 and small_alpha.max() <= 1
    assert small_foreground.min() >= 0 and small_foreground.max() <= 1


def test_solve_downscaled_edge_is_finer_than_small_image(monkeypatch: pytest.MonkeyPatch) -> None:
    need_pymatting()
    image, mask = make_scene(head, noise=0, edge=1, blur=4)
    monkeypatch.setattr(downscaled, "MAX_UNKNOWNS", 100)
    monkeypatch.setattr(downscaled, "REDUCTION", 16)
    y, x = np.mgrid[0:160, 0:130] / 160
    truth = torch.from_numpy((head(y, x) > 0).astype(np.float32))
    unknown = matting.make_trimap(mask) == 0.5
    alpha, _ = matting.matte(image, mask)
    blurred = torch.nn.functional.avg_pool2d(truth[None], 4)[:, None]  # the best possible result of a smaller image
    blurred = torch.nn.functional.interpolate(blurred, truth.shape, mode="bilinear")[0, 0]
    assert (alpha - truth).abs()[unknown].mean() < (blurred - truth).abs()[unknown].mean() / 2


def test_estimate_foreground_of_large_image_crops_to_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    need_pymatting()
    image, mask = make_scene(two_people, 300, 260)
    mask[150:] = 0  # keep one person, so that the crop is smaller than the image
    alpha, foreground = matting.matte(image, mask)
    monkeypatch.setattr(downscaled, "MAX_PIXELS", 200 * 200)
    _, part = matting.matte(image, mask)
    assert (part - foreground).abs()[alpha > 0.2].mean() < 4 / 255
    assert torch.equal(part[200:], image[200:])


# --- cutouts ----------------------------------------------------------------------------------------------------------


def test_compose_cutout_uses_straight_alpha() -> None:
    image = torch.full((1, 4, 3), 0.8)
    alpha = torch.tensor([[0, 0.001, 0.5, 1]])
    expected = torch.tensor([[[0, 0, 0, 0], [0.8, 0.8, 0.8, 0.001], [0.8, 0.8, 0.8, 0.5], [0.8, 0.8, 0.8, 1]]])
    assert torch.equal(matting.compose_cutout(image, alpha), expected)
    foreground = torch.full((1, 4, 3), 0.3)
    assert torch.equal(matting.compose_cutout(image, alpha, foreground)[0, 2], torch.tensor([0.3, 0.3, 0.3, 0.5]))


def test_compose_cutout_of_batches_and_rgba() -> None:
    image, alpha = torch.rand(2, 5, 6, 4), torch.rand(2, 5, 6)
    result = matting.compose_cutout(image, alpha)
    assert torch.equal(result[1], matting.compose_cutout(image[1, ..., :3], alpha[1]))
    assert torch.equal(result[..., 3], alpha)


def test_matte_removes_background_color() -> None:
    """A soft red disc, cut out of black and put on white, has no dark edge."""
    need_pymatting()
    y, x = np.mgrid[0:120, 0:120] - 60
    truth = torch.from_numpy(np.clip((40 - np.hypot(y, x)) / 8, 0, 1).astype(np.float32))
    red = torch.tensor([0.9, 0.1, 0.1])
    image = truth[..., None] * red
    result = cut_out(image, truth, MattingSettings(240, 20, 6))
    colors, alpha = result[..., :3], result[..., 3:]
    expected = truth[..., None] * red + (1 - truth[..., None])
    edge = (truth > 0.05) & (truth < 0.95)
    assert (colors * alpha + 1 - alpha - expected)[edge].abs().max() < 0.05
    assert (colors - red)[edge & (result[..., 3] > 0.1)].abs().max() < 0.1


def test_post_process_removes_specks_and_is_binary() -> None:
    mask = torch.zeros(2, 60, 60)
    mask[0, 10:50, 10:50] = 0.9
    mask[0, 3, 3] = 1
    mask[1, 20:24, 20:40] = 1
    result = matting.post_process(mask)
    assert set(result.unique().tolist()) == {0, 1}
    assert result[0, 3, 3] == 0
    assert result[0, 12:48, 12:48].min() == 1
    assert torch.equal(result[1:], matting.post_process(mask[1:]))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(40, 40), "no pixel of the mask is definite foreground .above 240 after eroding by 10"),
        (torch.ones(40, 40), "no pixel of the mask is definite background"),
        (torch.full((40, 40), 0.5), "definite foreground"),
        (torch.ones(1, 1), "definite foreground"),
        (torch.cat((torch.zeros(2, 40), torch.ones(2, 40)), 1), "definite foreground"),
    ],
)
def test_matte_unsolvable_uses_mask_and_logs_reason(
    mask: torch.Tensor, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    image = torch.rand(*mask.shape, 3)
    with caplog.at_level(logging.WARNING):
        alpha, foreground = matting.matte(image, mask)
    assert torch.equal(alpha, mask) and torch.equal(foreground, image)
    assert alpha.data_ptr() != mask.data_ptr() and foreground.data_ptr() != image.data_ptr()
    (record,) = caplog.records
    assert re.search(message, record.getMessage())


def test_explain_unsolvable_for_small_image() -> None:
    trimap_values = np.array([[0, 0.5, 0.5, 1]] * 2, np.float32)
    assert "the image has 4 x 2 pixels" in explain_unsolvable(trimap_values, MattingSettings())


def test_matte_rejects_mask_of_other_size() -> None:
    with pytest.raises(InputError, match=r"mask has shape \[4, 5\] and image has shape \[5, 4, 3\]"):
        matting.matte(torch.zeros(5, 4, 3), torch.zeros(4, 5))


def fail_import(monkeypatch: pytest.MonkeyPatch, package: str, error: BaseException) -> None:
    """Make the next import of a package or one of its modules raise ``error``."""

    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name.split(".")[0] == package:
                raise error

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])


FAILED_IMPORTS = [
    ModuleNotFoundError("No module named 'it'"),
    OSError("libgomp.so.1: cannot open shared object file"),
    RuntimeError("cannot cache function"),
    SystemError("initialization of _internal failed"),
    AttributeError("_ARRAY_API"),
    SystemExit(1),
]


@pytest.mark.parametrize("error", FAILED_IMPORTS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("package", ["pymatting", "scipy"])
def test_matte_with_broken_package_raises(package: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_import(monkeypatch, package, error)
    exits = isinstance(error, SystemExit)
    cause = r"its import calls sys\.exit" if exits else f"{type(error).__name__}: {re.escape(str(error))}"
    reason = rf"the Python package {package} is missing or does not work \({cause}\)"
    with pytest.raises(DependencyError, match=f"{reason}.*pip install --upgrade {package}"):
        matting.matte(*PORTRAITS["curls"])


def test_matte_without_numba_names_pymatting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pymatting"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(DependencyError, match="numba.*pip install --upgrade pymatting"):
        matting.matte(*PORTRAITS["curls"])


def test_post_process_without_scipy_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_import(monkeypatch, "scipy", SystemExit(1))
    with pytest.raises(DependencyError, match="pip install --upgrade scipy"):
        matting.post_process(torch.zeros(1, 4, 4))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), MemoryError()], ids=repr)
def test_matte_propagates_interrupts_of_imports(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_import(monkeypatch, "pymatting", error)
    with pytest.raises(type(error)):
        matting.matte(*PORTRAITS["curls"])


# --- output -----------------------------------------------------------------------------------------------------------


def make_photograph() -> Scene:
    """Smoothed camera noise, for which pymatting's first factorization fails and prints a warning."""
    image, mask = make_scene(head, edge=12)
    image = scipy_ndimage.gaussian_filter(image.numpy(), (1.5, 1.5, 0))
    return tensors.from_8bit(tensors.to_8bit(torch.from_numpy(image))), mask


def factorize_like_pymatting(image: torch.Tensor, mask: torch.Tensor) -> None:
    trimap_values = matting.make_trimap(mask).numpy()
    matrix, _ = closed_form._build_equations(image.numpy(), trimap_values == 1, trimap_values == 0.5)
    importlib.import_module("pymatting.preconditioner.ichol").ichol(matrix, discard_threshold=5e-3)


def test_matte_prints_nothing(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    need_pymatting()
    factorize_like_pymatting(*make_photograph())
    assert "PERFORMANCE WARNING" in capfd.readouterr().out, "this image does not make pymatting print"
    matting.matte(*make_photograph())
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_matte_keeps_output_of_other_threads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output of other threads appears, and so does pymatting's own if others call it."""
    need_pymatting()
    module = importlib.import_module("pymatting.preconditioner.ichol")
    factorize = module._ichol

    def print_meanwhile(*args: object) -> int:
        thread = threading.Thread(target=print, args=["another node"])
        thread.start()
        thread.join()
        return factorize(*args)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_ichol", print_meanwhile)
        matting.matte(*make_photograph())
    assert set(capsys.readouterr().out.splitlines()) == {"another node"}
    factorize_like_pymatting(*make_photograph())
    assert "PERFORMANCE WARNING" in capsys.readouterr().out


def test_matte_propagates_interrupts() -> None:
    need_pymatting()

    class Interrupt(BaseException):
        pass

    class Stopped:
        def step(self, count: int = 1) -> None:
            assert count == 0
            raise Interrupt

    with pytest.raises(Interrupt):
        matting.matte(*PORTRAITS["curls"], progress=Stopped())


@pytest.mark.parametrize("name", list(PORTRAITS))
def test_matte_reports_all_its_steps(name: str) -> None:
    need_pymatting()
    steps = []

    class Steps:
        def step(self, count: int = 1) -> None:
            steps.append(count)

    matting.matte(*PORTRAITS[name], progress=Steps())
    assert sum(steps) == matting.STEPS and min(steps) == 0


def test_matte_reports_steps_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the equations are built and solved, and while foreground colors are estimated."""
    need_pymatting()
    monkeypatch.setattr(closed_form, "_PIXELS_PER_STRIP", 1000)
    steps = []

    class Steps:
        def step(self, count: int = 1) -> None:
            steps.append(count)

    matting.matte(*PORTRAITS["curls"], progress=Steps())
    assert len([count for count in steps if count]) > 10 and max(steps) < matting.STEPS / 3


def test_matte_of_a_mask_without_unknown_pixels_reports_all_its_steps() -> None:
    steps = []

    class Steps:
        def step(self, count: int = 1) -> None:
            steps.append(count)

    image = torch.rand(20, 20, 3)
    for mask in (torch.zeros(20, 20), torch.ones(20, 20)):
        steps.clear()
        matting.matte(image, mask, progress=Steps())
        assert sum(steps) == matting.STEPS


def test_matte_accepts_rgba_and_half_precision() -> None:
    need_pymatting()
    image, mask = PORTRAITS["a smooth head"]
    alpha, _ = matting.matte(image, mask)
    more = torch.cat((image, torch.rand(*mask.shape, 1)), dim=-1)
    assert torch.equal(matting.matte(more, mask)[0], alpha)
    halves, colors = matting.matte(image.half(), mask)
    assert halves.dtype == colors.dtype == torch.float32
    assert (halves - alpha).abs().mean() < 1 / 255


@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    kind=st.sampled_from(["noise", "halves", "flat", "blobs"]),
    erode_size=st.integers(0, 4),
    thresholds=st.tuples(st.integers(0, 250), st.integers(0, 250)),
    seed=st.integers(0, 1000),
)
def test_matte_properties(
    height: int, width: int, kind: str, erode_size: int, thresholds: tuple[int, int], seed: int
) -> None:
    need_pymatting()
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(height, width, 3, generator=generator)
    mask = torch.rand(height, width, generator=generator)
    if kind == "halves":
        mask = (torch.arange(width) > width // 2).float().repeat(height, 1)
    elif kind == "flat":
        image = torch.full((height, width, 3), 0.5)
    elif kind == "blobs":
        mask = torch.nn.functional.avg_pool2d(mask.round()[None], 3, 1, 1)[0]
    originals = image.clone(), mask.clone()
    matting_settings = MattingSettings(*thresholds, erode_size)
    alpha, foreground = matting.matte(image, mask, matting_settings)
    assert alpha.shape == mask.shape and foreground.shape == image.shape
    for result in (alpha, foreground):
        assert result.dtype == torch.float32
        assert torch.isfinite(result).all()
        assert result.min() >= 0 and result.max() <= 1
    assert torch.equal(image, originals[0]) and torch.equal(mask, originals[1]), "changed in place"
    repeated, _ = matting.matte(image, mask, matting_settings)
    assert torch.equal(repeated, alpha)
    trimap_values = matting.make_trimap(mask, matting_settings)
    assert torch.equal(alpha, mask) or torch.equal(alpha[trimap_values != 0.5], trimap_values[trimap_values != 0.5])


@pytest.mark.parametrize("width", [1, 3, 10])
def test_make_trimap_equals_rembg(width: int) -> None:
    rng = np.random.default_rng(0)
    mask = np.kron(rng.choice([0, 19, 20, 100, 240, 241, 255], (6, 7)), np.ones((15, 15)))
    trimap_values = matting.make_trimap(torch.from_numpy(mask).float() / 255, MattingSettings(240, 20, width))
    np.testing.assert_array_equal(exact_matting.rembg_trimap(mask, width), trimap_values.numpy())
