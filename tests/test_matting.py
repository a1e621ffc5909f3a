"""Alpha matting: rembg's results, the equations behind them, and what holds for every picture."""

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
from hypothesis import given, settings
from hypothesis import strategies as st
from maskwright.core import tensors
from maskwright.core.cutout import closed_form, downscaled, matting, trimap
from maskwright.core.cutout import foreground as foreground_colors
from maskwright.core.cutout.trimap import MattingSettings, explain_unsolvable
from maskwright.core.errors import DependencyError, InputError
from maskwright.core.progress import NO_STAGE_PROGRESS

scipy_ndimage = pytest.importorskip("scipy.ndimage")


def pymatting() -> None:
    pytest.importorskip("pymatting", reason="pymatting is not installed")


def rembg_bg() -> object:
    pymatting()
    pytest.importorskip("onnxruntime", reason="rembg needs onnxruntime")  # without it `import rembg` ends the process
    return pytest.importorskip("rembg.bg", reason="rembg is not installed")


Scene = tuple[torch.Tensor, torch.Tensor]


def scene(
    inside: Callable[[np.ndarray, np.ndarray], np.ndarray],
    height: int = 160,
    width: int = 130,
    edge: float = 6,
    noise: float = 0.02,
    blur: float = 2,
) -> Scene:
    """A picture, 8 bits deep, whose subject is where ``inside(y, x)`` is above 0, and a network's mask of it.

    ``edge`` is the width in pixels over which the subject fades, ``blur`` the sigma of the mask's edge.
    """
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    depth = inside(y, x)
    alpha = np.clip(0.5 + depth * max(height, width) / edge, 0, 1)[..., None]
    subject = np.stack([0.7 - 0.2 * y, 0.45 + 0.1 * np.sin(9 * x), 0.3 + 0.2 * x], axis=-1)
    background = np.stack([0.2 + 0.3 * x, 0.5 + 0.2 * y, 0.7 - 0.2 * x], axis=-1)
    picture = alpha * subject + (1 - alpha) * background
    picture = picture + np.random.default_rng(0).normal(0, noise, picture.shape)
    mask = scipy_ndimage.gaussian_filter((depth > 0).astype(float), blur)
    levels = (picture.clip(0, 1) * 255).astype(np.uint8)
    return tensors.from_8bit(levels), tensors.from_8bit((mask * 255).astype(np.uint8))


def head(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 0.28 - np.hypot((x - 0.4) * 1.2, y - 0.42)


def curls(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return head(y, x) + 0.03 * np.sin(40 * np.arctan2(y - 0.42, x - 0.4))


def bust(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.maximum(0.17 - np.hypot(x - 0.4, y - 0.3), 0.4 - np.hypot((x - 0.4) * 1.3, y - 0.95))


def two(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.maximum(0.12 - np.hypot(x - 0.2, y - 0.25), 0.15 - np.hypot(x - 0.55, y - 0.75))


def ring(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 0.11 - np.abs(0.25 - np.hypot(x - 0.4, y - 0.5))


PORTRAITS = {
    "a smooth head": scene(head),
    "curls": scene(curls, edge=12),
    "a bust that reaches the picture's edge": scene(bust, 150, 140),
    "two people far apart": scene(two, 200, 160),
    "a hole": scene(ring, 180, 150),
    "hardly any noise": scene(curls, 170, 120, noise=0.004),
    "flat colours": scene(curls, 140, 140, noise=0),
    "strong noise": scene(bust, noise=0.08),
    "a sharp edge and a soft mask": scene(head, edge=1, blur=6),
}


def cut_out(image: torch.Tensor, mask: torch.Tensor, given: MattingSettings | None = None) -> torch.Tensor:
    return matting.compose_cutout(image, *matting.matte(image, mask, given))


# --- beside rembg -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("erode_size", [0, 10, 25])
@pytest.mark.parametrize("name", PORTRAITS)
def test_equals_rembg(name: str, erode_size: int) -> None:
    image, mask = PORTRAITS[name]
    bg = rembg_bg()
    theirs = np.array(bg.alpha_matting_cutout(tensors.to_pil(image), tensors.to_pil(mask), 240, 20, erode_size))
    ours = tensors.to_8bit(cut_out(image, mask, MattingSettings(240, 20, erode_size)))
    differ = np.abs(ours.astype(int) - theirs.astype(int))
    assert differ[..., 3].max() <= 2
    assert differ[ours[..., 3] > 0].max() <= 2
    assert (theirs[..., 3] % 255 > 0).any(), "nothing was solved here"


def test_post_process_equals_rembg() -> None:
    bg = rembg_bg()
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
def test_a_trimap_erodes_both_sure_parts_as_rembg_does(erode_size: int, sides: int) -> None:
    mask = torch.rot90(scene(bust, 61, 47)[1], sides).contiguous()  # the bust reaches one of the picture's edges
    levels = tensors.to_8bit(mask)
    square = None if erode_size == 0 else np.ones((min(erode_size, 130),) * 2)
    foreground = scipy_ndimage.binary_erosion(levels > 240, square)
    background = scipy_ndimage.binary_erosion(levels < 20, square, border_value=1)
    result = trimap.make_trimap(mask, 240, 20, erode_size).numpy()
    np.testing.assert_array_equal(result == 1, foreground)
    np.testing.assert_array_equal(result == 0, background)
    assert set(np.unique(result)) <= {0, 0.5, 1}


def test_a_trimap_drawn_by_hand() -> None:
    mask = torch.tensor([[0, 0, 0, 0.5, 1, 1, 1, 1]]).repeat(5, 1)
    top, middle = [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0, 0, 0.5, 0.5, 0.5, 1, 1, 0.5]
    assert trimap.make_trimap(mask, 240, 20, 3).tolist() == [top, middle, middle, middle, top]


def test_levels_at_the_thresholds_are_unknown() -> None:
    mask = tensors.from_8bit(np.array([[19, 20, 240, 241]], np.uint8)).repeat_interleave(3, 1).repeat(3, 1)
    assert trimap.make_trimap(mask, 240, 20, 1)[1].tolist() == [0] * 3 + [0.5] * 6 + [1] * 3


@pytest.mark.parametrize(("foreground", "background"), [(100, 250), (100, 200), (0, 250), (128, 129), (100, 100)])
@pytest.mark.parametrize("erode_size", [0, 1, 4, 9])
def test_trimap_crossed_thresholds(
    foreground: int, background: int, erode_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in rembg, a pixel in both parts is background."""
    bg = rembg_bg()
    image, mask = scene(bust, 61, 47, blur=5)
    trimaps = []

    def record(image: np.ndarray, trimap: np.ndarray) -> None:
        trimaps.append(trimap)
        raise ValueError("stop after the trimap")

    monkeypatch.setattr(bg, "estimate_alpha_cf", record)
    with pytest.raises(ValueError, match="stop after the trimap"):
        bg.alpha_matting_cutout(tensors.to_pil(image), tensors.to_pil(mask), foreground, background, erode_size)
    expected = np.select([trimaps[0] == 0, trimaps[0] == 1], [0, 1], 0.5)
    np.testing.assert_array_equal(trimap.make_trimap(mask, foreground, background, erode_size).numpy(), expected)


@pytest.mark.parametrize(("foreground", "background"), [(100, 250), (60, 180)])
def test_matte_crossed_thresholds(foreground: int, background: int) -> None:
    bg = rembg_bg()
    image, mask = scene(head, blur=5)
    theirs = np.array(bg.alpha_matting_cutout(tensors.to_pil(image), tensors.to_pil(mask), foreground, background, 10))
    ours = tensors.to_8bit(cut_out(image, mask, MattingSettings(foreground, background, 10)))
    differ = np.abs(ours.astype(int) - theirs.astype(int))
    assert 0 < (ours[..., 3] > 127).mean() < 1
    assert differ[..., 3].max() <= 2
    assert differ[ours[..., 3] > 0].max() <= 2


def test_matte_names_both_crossed_thresholds(caplog: pytest.LogCaptureFixture) -> None:
    image = torch.rand(40, 40, 3)
    alpha, _ = matting.matte(image, torch.full((40, 40), 0.7), MattingSettings(100, 250, 3))
    assert torch.equal(alpha, torch.full((40, 40), 0.7))
    assert "definite foreground (above 100 and not below 250 after eroding by 3)" in caplog.text


@pytest.mark.parametrize("given", [{"foreground_threshold": 300}, {"background_threshold": -1}, {"erode_size": 2.5}])
def test_impossible_settings_are_named(given: dict) -> None:
    ((name, value),) = given.items()
    with pytest.raises(InputError, match=f"alpha_matting_{name} is {value}"):
        MattingSettings(**given)


# --- the equations ----------------------------------------------------------------------------------------------------


def matting_laplacian(colours: np.ndarray) -> np.ndarray:
    """Levin et al., equation 12, pixel pair by pixel pair, for the whole of a small picture."""
    height, width, _ = colours.shape
    laplacian = np.zeros((height * width,) * 2)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            window = [(v * width + u) for v in (y - 1, y, y + 1) for u in (x - 1, x, x + 1)]
            c = colours.reshape(-1, 3)[window]
            mean = c.mean(axis=0)
            spread = sum(np.outer(each - mean, each - mean) for each in c) / 9 + 1e-7 / 9 * np.eye(3)
            for a, i in enumerate(window):
                for b, j in enumerate(window):
                    affinity = (1 + (c[a] - mean) @ np.linalg.inv(spread) @ (c[b] - mean)) / 9
                    laplacian[i, j] += (i == j) - affinity
    return laplacian


def test_the_equations_are_those_of_the_unknown_pixels_in_the_whole_picture() -> None:
    random = np.random.default_rng(0)
    colours = random.random((9, 11, 3))
    sure = random.choice([0, 0.5, 0.5, 1], (9, 11))
    unknown = sure == 0.5
    whole = matting_laplacian(colours)
    u, k = unknown.ravel(), ~unknown.ravel()
    matrix, right = closed_form._build_equations(colours, sure == 1, unknown)
    np.testing.assert_allclose(matrix.toarray(), whole[u][:, u], atol=1e-9)
    np.testing.assert_allclose(right, -whole[u][:, k] @ (sure.ravel()[k] == 1), atol=1e-9)


# Colours on one line, as (a, b) of ``a + t b``: the covariance of every window is as good as singular.
LINES = {
    "grey": ((0, 0, 0), (1, 1, 1)),
    "blue to orange": ((0.05, 0.25, 0.9), (0.9, 0.3, -0.85)),
    "dark to light red": ((0.1, 0.02, 0.01), (0.8, 0.31, 0.27)),
}


@pytest.mark.parametrize("erode_size", [8, 30])
@pytest.mark.parametrize("line", LINES)
def test_matte_colours_on_a_line_are_solved_exactly(line: str, erode_size: int) -> None:
    pymatting()
    t = pytest.importorskip("skimage.data").camera()[180:270, 300:390] / 255  # a leg of the tripod before grass
    a, b = (np.array(each, np.float32) for each in LINES[line])
    mask = tensors.from_8bit((255 * scipy_ndimage.gaussian_filter((t < 0.27).astype(float), 2)).astype(np.uint8))
    mask[:40] *= mask[:40] > 0.6  # so that an erosion by 30 leaves some background
    mask[60:, :40] = 1
    sure = trimap.make_trimap(mask, 240, 20, erode_size).numpy()
    assert {0, 0.5, 1} == set(np.unique(sure))
    alpha, _ = matting.matte(
        torch.from_numpy(a + t.astype(np.float32)[..., None] * b), mask, MattingSettings(240, 20, erode_size)
    )
    exact = exact_matting.solve(t, float(b @ b), sure)
    assert np.abs(alpha.numpy() - exact).max() < 0.5 / 255


def test_matte_grey_values_far_beyond_1_give_finite_results() -> None:
    """Their variance is so large that rounding takes more from it than the regularisation adds."""
    pymatting()
    image, mask = scene(head)
    image = image[..., :1].repeat(1, 1, 3) * 1e7
    alpha, foreground = matting.matte(image, mask)
    assert alpha.isfinite().all() and foreground.isfinite().all()
    assert ((alpha > 0) & (alpha < 1)).any()


def test_matte_of_a_grey_image_is_closer_to_the_exact_solution_than_rembg() -> None:
    bg = rembg_bg()
    levels = pytest.importorskip("skimage.data").camera()[180:270, 300:390]
    image = tensors.from_8bit(np.repeat(levels[..., None], 3, axis=-1))
    mask = tensors.from_8bit((255 * scipy_ndimage.gaussian_filter((levels < 70).astype(float), 2)).astype(np.uint8))
    exact = 255 * exact_matting.solve(levels / 255, 3, trimap.make_trimap(mask, 240, 20, 8).numpy())
    theirs = np.array(bg.alpha_matting_cutout(tensors.to_pil(image), tensors.to_pil(mask), 240, 20, 8))[..., 3]
    ours = 255 * matting.matte(image, mask, MattingSettings(240, 20, 8))[0].numpy()
    assert np.abs(ours - exact).max() < 0.5
    assert (np.abs(theirs - exact) > 2).sum() > 100


def test_windows_are_taken_in_parts_without_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = PORTRAITS["curls"]
    sure = trimap.make_trimap(mask).numpy()
    whole, _ = closed_form._build_equations(image.numpy(), sure == 1, sure == 0.5)
    monkeypatch.setattr(closed_form, "_WINDOWS_PER_CHUNK", 100)
    parts, _ = closed_form._build_equations(image.numpy(), sure == 1, sure == 0.5)
    assert abs(parts - whole).max() < 1e-12


def test_conjugate_gradients_solve_a_system() -> None:
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(0)
    half = random.random((30, 30))
    matrix = csr_matrix(half @ half.T + np.eye(30))
    expected = random.random(30)
    diagonal = 1 / matrix.diagonal()
    solution = closed_form._solve_conjugate_gradients(
        matrix, matrix @ expected, lambda v: diagonal * v, NO_STAGE_PROGRESS, 1e-12
    )
    np.testing.assert_allclose(solution, expected, atol=1e-8)


def test_conjugate_gradients_log_that_the_tolerance_was_not_reached(caplog: pytest.LogCaptureFixture) -> None:
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(0)
    half = random.random((30, 30))
    matrix, right = csr_matrix(half @ half.T + 1e-3 * np.eye(30)), random.random(30)
    closed_form._solve_conjugate_gradients(matrix, right, lambda v: v, NO_STAGE_PROGRESS, max_steps=3)
    assert re.search(r"stopped before it reached its tolerance \(residual .*, tolerance 1e-06\)", caplog.text)
    assert "alpha_matting_erode_size" in caplog.text
    caplog.clear()
    closed_form._solve_conjugate_gradients(-matrix, right, lambda v: v, NO_STAGE_PROGRESS)  # not positive definite
    assert "stopped before it reached its tolerance" in caplog.text
    caplog.clear()
    closed_form._solve_conjugate_gradients(matrix, right, lambda v: v, NO_STAGE_PROGRESS)
    assert not caplog.text


def test_without_a_factorisation_the_diagonal_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    pymatting()
    image, mask = PORTRAITS["a smooth head"]
    expected, _ = matting.matte(image, mask)

    def fails(*_: object, **__: object) -> None:
        raise ValueError("not positive definite")

    monkeypatch.setattr(importlib.import_module("pymatting.preconditioner.ichol"), "ichol", fails)
    alpha, _ = matting.matte(image, mask)
    torch.testing.assert_close(alpha, expected, atol=1 / 255, rtol=0)


# --- large pictures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["curls", "a bust that reaches the picture's edge", "two people far apart"])
def test_solved_smaller_it_stays_close_and_keeps_what_is_sure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pymatting()
    image, mask = PORTRAITS[name]
    alpha, foreground = matting.matte(image, mask)
    sure = trimap.make_trimap(mask)
    unknown = int((sure == 0.5).sum())
    monkeypatch.setattr(matting, "MAX_UNKNOWNS", unknown - 1)
    monkeypatch.setattr(downscaled, "_DOWNSCALED_UNKNOWNS", unknown // 3)
    monkeypatch.setattr(foreground_colors, "_MAX_PIXELS", image.shape[0] * image.shape[1] // 3)
    small_alpha, small_foreground = matting.matte(image, mask)
    assert torch.equal(small_alpha[sure != 0.5], sure[sure != 0.5])
    assert (small_alpha - alpha).abs()[sure == 0.5].mean() < 4 / 255
    visible = (alpha > 0.2) & (sure == 0.5)
    assert (small_foreground - foreground).abs()[visible].mean() < 2 / 255
    assert small_alpha.min() >= 0 and small_alpha.max() <= 1
    assert small_foreground.min() >= 0 and small_foreground.max() <= 1


def test_solved_smaller_the_edge_is_finer_than_the_smaller_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    pymatting()
    image, mask = scene(head, noise=0, edge=1, blur=4)
    monkeypatch.setattr(matting, "MAX_UNKNOWNS", 100)
    monkeypatch.setattr(downscaled, "_DOWNSCALED_UNKNOWNS", int((trimap.make_trimap(mask) == 0.5).sum()) // 16)
    y, x = np.mgrid[0:160, 0:130] / 160
    truth = torch.from_numpy((head(y, x) > 0).astype(np.float32))
    unknown = trimap.make_trimap(mask) == 0.5
    alpha, _ = matting.matte(image, mask)
    blurred = torch.nn.functional.avg_pool2d(truth[None], 4)[:, None]  # what a smaller picture could hold at best
    blurred = torch.nn.functional.interpolate(blurred, truth.shape, mode="bilinear")[0, 0]
    assert (alpha - truth).abs()[unknown].mean() < (blurred - truth).abs()[unknown].mean() / 2


def test_colours_of_a_large_picture_are_estimated_around_its_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    pymatting()
    image, mask = scene(two, 300, 260)
    mask[150:] = 0  # one of the two, so that the part around it is smaller than the picture
    alpha, foreground = matting.matte(image, mask)
    monkeypatch.setattr(foreground_colors, "_MAX_PIXELS", 200 * 200)
    _, part = matting.matte(image, mask)
    assert (part - foreground).abs()[alpha > 0.2].mean() < 4 / 255
    assert torch.equal(part[200:], image[200:])


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_a_cutout_has_straight_colours_and_nothing_where_alpha_is_0() -> None:
    image = torch.full((1, 4, 3), 0.8)
    alpha = torch.tensor([[0, 0.001, 0.5, 1]])
    expected = torch.tensor([[[0, 0, 0, 0], [0.8, 0.8, 0.8, 0.001], [0.8, 0.8, 0.8, 0.5], [0.8, 0.8, 0.8, 1]]])
    assert torch.equal(matting.compose_cutout(image, alpha), expected)
    foreground = torch.full((1, 4, 3), 0.3)
    assert torch.equal(matting.compose_cutout(image, alpha, foreground)[0, 2], torch.tensor([0.3, 0.3, 0.3, 0.5]))


def test_cutouts_of_batches_and_of_pictures_that_have_alpha() -> None:
    image, alpha = torch.rand(2, 5, 6, 4), torch.rand(2, 5, 6)
    result = matting.compose_cutout(image, alpha)
    assert torch.equal(result[1], matting.compose_cutout(image[1, ..., :3], alpha[1]))
    assert torch.equal(result[..., 3], alpha)


def test_the_background_does_not_shine_through() -> None:
    """A red disc with a soft edge, cut out of black, has no dark edge on white; the plain cutout has one."""
    pymatting()
    y, x = np.mgrid[0:120, 0:120] - 60
    truth = torch.from_numpy(np.clip((40 - np.hypot(y, x)) / 8, 0, 1).astype(np.float32))
    red = torch.tensor([0.9, 0.1, 0.1])
    image = truth[..., None] * red
    result = cut_out(image, truth, MattingSettings(240, 20, 6))
    colours, alpha = result[..., :3], result[..., 3:]
    wanted = truth[..., None] * red + (1 - truth[..., None])
    edge = (truth > 0.05) & (truth < 0.95)
    assert (colours * alpha + 1 - alpha - wanted)[edge].abs().max() < 0.05
    assert (colours - red)[edge & (result[..., 3] > 0.1)].abs().max() < 0.1


def test_post_process_removes_specks_and_hardens_edges() -> None:
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
    ("mask", "told"),
    [
        (torch.zeros(40, 40), "no pixel of the mask is definite foreground .above 240 after eroding by 10"),
        (torch.ones(40, 40), "no pixel of the mask is definite background"),
        (torch.full((40, 40), 0.5), "definite foreground"),
        (torch.ones(1, 1), "definite foreground"),
        (torch.cat((torch.zeros(2, 40), torch.ones(2, 40)), 1), "definite foreground"),
    ],
)
def test_where_nothing_can_be_solved_the_plain_mask_is_used_and_the_log_says_why(
    mask: torch.Tensor, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    image = torch.rand(*mask.shape, 3)
    with caplog.at_level(logging.WARNING):
        alpha, foreground = matting.matte(image, mask)
    assert torch.equal(alpha, mask) and torch.equal(foreground, image)
    assert alpha.data_ptr() != mask.data_ptr() and foreground.data_ptr() != image.data_ptr()
    (record,) = caplog.records
    assert re.search(told, record.getMessage())


def test_a_picture_too_narrow_for_a_window_of_colours() -> None:
    sure = np.array([[0, 0.5, 0.5, 1]] * 2, np.float32)
    assert "the image has 4 x 2 pixels" in explain_unsolvable(sure, MattingSettings())


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"mask is \[4, 5\] and image is \[5, 4, 3\]"):
        matting.matte(torch.zeros(5, 4, 3), torch.zeros(4, 5))


def fail_import(monkeypatch: pytest.MonkeyPatch, package: str, error: BaseException) -> None:
    """Make the next import of a package, or of any of its modules, raise ``error``."""

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
def test_matte_names_a_package_that_does_not_work(
    package: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_import(monkeypatch, package, error)
    exits = isinstance(error, SystemExit)
    cause = r"its import calls sys\.exit" if exits else f"{type(error).__name__}: {re.escape(str(error))}"
    reason = rf"the Python package {package} is missing or does not work \({cause}\)"
    with pytest.raises(DependencyError, match=f"{reason}.*pip install --upgrade {package}"):
        matting.matte(*PORTRAITS["curls"])


def test_matte_names_pymatting_if_numba_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pymatting"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(DependencyError, match="numba.*pip install --upgrade pymatting"):
        matting.matte(*PORTRAITS["curls"])


def test_post_process_names_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_import(monkeypatch, "scipy", SystemExit(1))
    with pytest.raises(DependencyError, match="pip install --upgrade scipy"):
        matting.post_process(torch.zeros(1, 4, 4))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), MemoryError()], ids=repr)
def test_matte_lets_interrupts_and_memory_errors_of_an_import_pass(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_import(monkeypatch, "pymatting", error)
    with pytest.raises(type(error)):
        matting.matte(*PORTRAITS["curls"])


# --- output -----------------------------------------------------------------------------------------------------------


def photograph() -> Scene:
    """Smoothed camera noise, for which pymatting's factorisation fails at first and prints a warning."""
    image, mask = scene(head, edge=12)
    image = scipy_ndimage.gaussian_filter(image.numpy(), (1.5, 1.5, 0))
    return tensors.from_8bit(tensors.to_8bit(torch.from_numpy(image))), mask


def factorise_as_pymatting_does(image: torch.Tensor, mask: torch.Tensor) -> None:
    sure = trimap.make_trimap(mask).numpy()
    matrix, _ = closed_form._build_equations(image.numpy(), sure == 1, sure == 0.5)
    importlib.import_module("pymatting.preconditioner.ichol").ichol(matrix, discard_threshold=5e-3)


def test_matte_prints_and_warns_nothing(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    pymatting()
    factorise_as_pymatting_does(*photograph())
    assert "PERFORMANCE WARNING" in capfd.readouterr().out, "this scene does not make pymatting print"
    matting.matte(*photograph())
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_matte_keeps_output_of_others(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The output of other threads appears, and so does pymatting's when others call it."""
    pymatting()
    module = importlib.import_module("pymatting.preconditioner.ichol")
    factorise = module._ichol

    def print_meanwhile(*args: object) -> int:
        thread = threading.Thread(target=print, args=["another node"])
        thread.start()
        thread.join()
        return factorise(*args)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_ichol", print_meanwhile)
        matting.matte(*photograph())
    assert set(capsys.readouterr().out.splitlines()) == {"another node"}
    factorise_as_pymatting_does(*photograph())
    assert "PERFORMANCE WARNING" in capsys.readouterr().out


def test_the_hosts_interrupt_ends_the_work() -> None:
    pymatting()

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
    pymatting()
    steps = []

    class Steps:
        def step(self, count: int = 1) -> None:
            steps.append(count)

    matting.matte(*PORTRAITS[name], progress=Steps())
    assert sum(steps) == matting.STEPS and min(steps) == 0


def test_matte_reports_steps_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the equations are built, while they are solved, and while the colours are estimated."""
    pymatting()
    monkeypatch.setattr(closed_form, "_WINDOWS_PER_CHUNK", 1000)
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


def test_alpha_of_the_input_and_half_precision_are_taken() -> None:
    pymatting()
    image, mask = PORTRAITS["a smooth head"]
    alpha, _ = matting.matte(image, mask)
    more = torch.cat((image, torch.rand(*mask.shape, 1)), dim=-1)
    assert torch.equal(matting.matte(more, mask)[0], alpha)
    halves, colours = matting.matte(image.half(), mask)
    assert halves.dtype == colours.dtype == torch.float32
    assert (halves - alpha).abs().mean() < 1 / 255


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    kind=st.sampled_from(["noise", "halves", "flat", "blobs"]),
    erode_size=st.integers(0, 4),
    thresholds=st.tuples(st.integers(0, 250), st.integers(0, 250)),
    seed=st.integers(0, 1000),
)
def test_every_picture(
    height: int, width: int, kind: str, erode_size: int, thresholds: tuple[int, int], seed: int
) -> None:
    pymatting()
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(height, width, 3, generator=generator)
    mask = torch.rand(height, width, generator=generator)
    if kind == "halves":
        mask = (torch.arange(width) > width // 2).float().repeat(height, 1)
    elif kind == "flat":
        image = torch.full((height, width, 3), 0.5)
    elif kind == "blobs":
        mask = torch.nn.functional.avg_pool2d(mask.round()[None], 3, 1, 1)[0]
    before = image.clone(), mask.clone()
    given_settings = MattingSettings(*thresholds, erode_size)
    alpha, foreground = matting.matte(image, mask, given_settings)
    assert alpha.shape == mask.shape and foreground.shape == image.shape
    for result in (alpha, foreground):
        assert result.dtype == torch.float32
        assert torch.isfinite(result).all()
        assert result.min() >= 0 and result.max() <= 1
    assert torch.equal(image, before[0]) and torch.equal(mask, before[1]), "changed in place"
    again, _ = matting.matte(image, mask, given_settings)
    assert torch.equal(again, alpha)
    sure = trimap.make_trimap(mask, *thresholds, erode_size)
    assert torch.equal(alpha, mask) or torch.equal(alpha[sure != 0.5], sure[sure != 0.5])
