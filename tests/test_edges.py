"""Refining masks: trimaps from masks, thin parts, and results on composites whose alpha is known."""

from __future__ import annotations

import logging

import mattes
import numpy as np
import pytest
import torch
from maskwright.core import batching
from maskwright.core.cutout import closed_form, downscaled, edges, matting
from maskwright.core.cutout.edges import (
    CLOSED_FORM,
    GUIDED_FILTER,
    METHODS,
    THE_IMAGE,
    RefineSettings,
    find_edge_width,
    make_band,
    refine_masks,
)
from maskwright.core.cutout.thin_parts import ThinParts
from maskwright.core.errors import InputError
from maskwright.core.tensors import from_8bit

scipy_ndimage = pytest.importorskip("scipy.ndimage")
pytest.importorskip("pymatting", reason="pymatting is not installed")

BOTH = pytest.mark.parametrize("method", [CLOSED_FORM, GUIDED_FILTER])


def disc(side: int = 64, radius: float = 20, softness: float = 2) -> torch.Tensor:
    y, x = np.mgrid[0:side, 0:side] - side / 2
    return torch.from_numpy(np.clip((radius - np.hypot(y, x)) / softness + 0.5, 0, 1).astype(np.float32))


def paint(alpha: torch.Tensor) -> torch.Tensor:
    """A subject in one color over a backdrop in another, both with a gradient."""
    ramp = torch.linspace(0, 0.2, alpha.shape[1]).expand(alpha.shape).unsqueeze(-1)
    subject, backdrop = torch.tensor((0.7, 0.2, 0.1)) + ramp, torch.tensor((0.1, 0.4, 0.6)) + ramp
    return backdrop + alpha.unsqueeze(-1) * (subject - backdrop)


# --- the trimap -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("softness, expected", [(0.1, 0.64), (10, 16), (200, 3.2)])
def test_find_edge_width(softness: float, expected: float) -> None:
    """Twice the distance in which the edge passes through the uncertain values (86 % of a linear edge), within 1 to 5 %
    of the longer side."""
    mask = disc(64 if softness != 10 else 400, 20 if softness != 10 else 150, softness)
    assert find_edge_width(mask) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_find_edge_width_of_a_constant(value: float) -> None:
    assert find_edge_width(torch.full((40, 100), value)) == 1


def test_make_band_measures_euclidean_distance() -> None:
    mask = disc(softness=0.01)
    band = make_band(mask, 8)
    inside = torch.from_numpy(scipy_ndimage.distance_transform_edt(mask > 0.5))
    outside = torch.from_numpy(scipy_ndimage.distance_transform_edt(mask < 0.5))
    assert torch.equal(band == 1, inside > 8)
    assert torch.equal(band == 0, outside > 4)
    assert set(band.unique().tolist()) == {0, 0.5, 1}


# --- thin parts -------------------------------------------------------------------------------------------------------


def test_thin_parts_weigh_only_what_is_lost() -> None:
    mask = np.zeros((20, 40), np.float32)
    mask[8:12] = 1
    unknown = np.zeros_like(mask, bool)
    unknown[4:16] = True
    half = np.zeros_like(mask)
    half[8:12, :20] = 1  # the left half of the bar
    nothing = np.zeros_like(unknown)
    parts = ThinParts(mask, weight=0.5, reach=4)
    weights, values = parts.weigh(half[unknown], nothing, unknown) or (None, None)
    assert weights is not None
    full = np.zeros_like(mask)
    full[unknown] = weights
    assert (full[8:12, 24:] == 0.5).all() and (full[:, :20] == 0).all() and (full[mask == 0] == 0).all()
    assert (np.diff(full[10, 19:25]) >= 0).all()  # fades toward the part that is kept
    np.testing.assert_array_equal(values, mask[unknown])
    assert parts.weigh(mask[unknown], nothing, unknown) is None
    assert ThinParts(mask, 0, 4).weigh(half[unknown], nothing, unknown) is None


def test_solve_with_a_prior_solves_the_equations_with_the_prior() -> None:
    """Exact: against the dense system with the weights on its diagonal."""
    generator = np.random.default_rng(0)
    colors = generator.random((12, 14, 3)).astype(np.float32)
    trimap = np.full((12, 14), 0.5)
    trimap[:, :3], trimap[:, -3:] = 1, 0
    unknown = trimap == 0.5
    weights, values = generator.random(unknown.sum()), generator.random(unknown.sum())

    class Fixed:
        def weigh(self, *_: object) -> tuple[np.ndarray, np.ndarray]:
            return weights, values

    matrix, right = closed_form._build_equations(colors, trimap == 1, unknown)
    exact = np.linalg.solve(matrix.toarray() + np.diag(weights), right + weights * values)
    solved = closed_form.solve(colors, trimap, unknown, batching.NO_STAGE_PROGRESS, Fixed())
    np.testing.assert_allclose(solved, exact.clip(0, 1), atol=1e-4)


def bar(color: tuple[float, float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """A block with a bar that is thinner than the unknown band and has ``color``; and the mask of both."""
    mask = torch.zeros(60, 120)
    mask[10:50, 5:45], mask[28:32, 45:110] = 1, 1
    image = paint(mask)
    image[28:32, 45:110] = torch.tensor(color)
    return image, mask


def test_refine_masks_keeps_thin_parts() -> None:
    image, mask = bar((0.1, 0.9, 0.2))  # nothing like the block: the equations alone lose it
    means = {}
    for weight in (0.0, RefineSettings.keep_thin_parts):
        alpha, _, _ = refine_masks(image[None], mask[None], RefineSettings(edge_width=10, keep_thin_parts=weight))
        means[weight] = alpha[0, 28:32, 60:].mean().item()
    assert means[0.0] < 0.3 and means[RefineSettings.keep_thin_parts] > 0.8


def test_refine_masks_needs_no_foreground_for_thin_parts() -> None:
    mask = torch.zeros(40, 60)
    mask[18:22, 5:55] = 1
    alpha, _, _ = refine_masks(paint(mask)[None], mask[None], RefineSettings(edge_width=8))
    assert alpha[0, 18:22, 10:50].mean() > 0.8 and alpha[0, :10].max() == 0


# --- quality ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_refine_masks_is_nearer_to_the_true_alpha_than_rembg(seed: int) -> None:
    pytest.importorskip("rembg.bg")
    import measure_refine

    for name, image, true, mask in mattes.draw_composites(seed):
        ours, theirs = measure_refine.refine(image, mask), measure_refine.matte_with_rembg(image, mask)
        errors = [np.abs(each - true.astype(float)).sum() for each in (ours, theirs, mask.astype(float))]
        assert errors[0] < min(errors[1:]), name


# --- contracts --------------------------------------------------------------------------------------------------------


def test_refine_masks_of_a_composite_recovers_alpha_and_colors() -> None:
    true = disc(softness=6)
    image = paint(true)
    mask = (true > 0.3).float()
    alpha, cutout, foreground = refine_masks(image[None], mask[None], RefineSettings(edge_width=10))
    assert (alpha[0] - true).abs().mean() < 0.01 < (mask - true).abs().mean()
    edge = (true > 0.2) & (true < 0.8)
    subject = paint(torch.ones_like(true))
    assert (foreground[0] - subject)[edge].abs().mean() < 0.05 < (image - subject)[edge].abs().mean()
    assert torch.equal(cutout[0, ..., 3], alpha[0])
    assert torch.equal(cutout[0, ..., :3], torch.where(alpha[0, ..., None] > 0, foreground[0], 0))


def test_refine_masks_of_many_unknown_pixels_solves_a_smaller_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alpha and colors stay near the truth; ImageSegmentation's matting does not change."""
    alpha, mask, settings = disc(128, 40, 6), disc(128, 41, 16), RefineSettings(CLOSED_FORM)
    image = paint(alpha)
    exact, matted = refine_masks(image[None], mask[None], settings), matting.matte(image, mask)
    monkeypatch.setattr(downscaled, "FEW_UNKNOWNS", 100)
    monkeypatch.setattr(downscaled, "FEW_PIXELS", 100)
    fast = refine_masks(image[None], mask[None], settings)
    assert not any(map(torch.equal, fast, exact))
    assert (fast[0][0] - alpha).abs().max() < 8 / 255
    subject = paint(torch.ones_like(alpha))
    assert (fast[2][0] - subject)[alpha > 0.1].abs().mean() < 2 / 255
    assert all(map(torch.equal, matting.matte(image, mask), matted))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_solve_downscaled_ignores_values_outside_crop(value: float, monkeypatch) -> None:
    """An unknown patch inside one value has that value, although the other one occurs far away."""
    trimap = torch.full((60, 80), value)
    trimap[:, :2] = 1 - value
    trimap[20:50, 30:70] = 0.5
    monkeypatch.setattr(downscaled, "FEW_UNKNOWNS", 100)
    image, mask = torch.full((1, 60, 80, 3), 0.4), torch.full((1, 60, 80), value)
    alpha = refine_masks(image, mask, RefineSettings(CLOSED_FORM, keep_thin_parts=0.0), trimap[None])[0]
    assert (alpha[0, 20:50, 30:70] - value).abs().max() < 0.02


def test_refine_masks_with_colors_of_a_single_row() -> None:
    trimap = torch.full((1, 1, downscaled.FEW_PIXELS + 100), 0.0)
    trimap[..., :200], trimap[..., -200:] = 0.5, 0.5
    image = torch.rand(*trimap.shape, 3)
    results = refine_masks(image, trimap, RefineSettings(GUIDED_FILTER), trimap)
    assert all(bool(each.isfinite().all()) for each in results)


@BOTH
def test_refine_masks_batch_equals_singles(method: str) -> None:
    masks = torch.stack([disc(softness=4), disc(radius=14)])
    images = torch.stack([paint(each) for each in masks])
    before = images.clone(), masks.clone()
    together = refine_masks(images, masks, RefineSettings(method))
    for i in range(2):
        for both, single in zip(together, refine_masks(images[i : i + 1], masks[i : i + 1], RefineSettings(method))):
            assert torch.equal(both[i], single[0])
            assert both.dtype == torch.float32 and both.min() >= 0 and both.max() <= 1
    assert torch.equal(images, before[0]) and torch.equal(masks, before[1])


@pytest.mark.parametrize("images, masks, results", [(1, 1, 1), (3, 1, 3), (2, 2, 2), (1, 4, 4), (2, 0, 2)])
def test_refine_masks_pairs_masks_with_images(images: int, masks: int, results: int) -> None:
    alpha, cutouts, foregrounds = refine_masks(
        paint(disc()).expand(images, -1, -1, -1), disc().expand(masks, -1, -1), RefineSettings(GUIDED_FILTER)
    )
    assert len(alpha) == len(cutouts) == len(foregrounds) == results
    assert (alpha.max() == 0) == (masks == 0)


def test_refine_masks_keeps_the_alpha_of_the_image() -> None:
    image = torch.cat((paint(disc()), torch.full((64, 64, 1), 0.5)), dim=-1)
    alpha, cutout, foreground = refine_masks(image[None], disc()[None], RefineSettings(GUIDED_FILTER))
    assert alpha.max() == 0.5 and cutout.shape[-1] == 4 and foreground.shape[-1] == 3


def test_refine_masks_background_and_decontaminate() -> None:
    image = paint(disc(softness=6))
    settings = RefineSettings(edge_width=8, decontaminate=False, background=THE_IMAGE)
    alpha, cutout, foreground = refine_masks(image[None], disc(softness=6)[None], settings)
    assert (alpha == 0).any()
    assert torch.equal(foreground[0], image) and torch.equal(cutout[0, ..., :3], image)


def test_refine_masks_uses_a_trimap() -> None:
    true = disc(softness=6)
    trimap = torch.where((true > 0) & (true < 1), 0.4, true)
    alpha, _, _ = refine_masks(paint(true)[None], torch.zeros(1, 64, 64), RefineSettings(), trimap[None])
    assert (alpha[0] - true).abs().max() < 0.1
    hard = (true > 0.5).float()
    alpha, _, _ = refine_masks(paint(true)[None], true[None], RefineSettings(), hard[None])
    assert torch.equal(alpha[0], hard)  # nothing is unknown


@pytest.mark.parametrize(
    "mask, settings, reason",
    [
        (torch.full((20, 20), 0.5), {}, "no pixel is definite background"),
        (disc(30, 10), {"edge_width": 500}, "no pixel is definite background"),
        (disc(64, 10), {"edge_width": 30, "keep_thin_parts": 0}, "no pixel is definite foreground"),
        (0.6 * disc(64, 10), {}, "no pixel is definite foreground"),
    ],
)
def test_refine_masks_keeps_a_mask_that_it_cannot_refine(
    mask: torch.Tensor, settings: dict, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    alpha, cutout, _ = refine_masks(paint(mask)[None], mask[None], RefineSettings(**settings))
    assert torch.equal(alpha[0], mask) and torch.isfinite(cutout).all()
    assert caplog.text.count("The mask is used as it is") == 1 and reason in caplog.text


@pytest.mark.parametrize(("known", "color"), [(0.0, "white"), (1.0, "black")])
def test_refine_masks_keeps_the_known_pixels_of_a_trimap_that_it_cannot_solve(
    known: float, color: str, caplog: pytest.LogCaptureFixture
) -> None:
    mask = disc(20, 5)
    trimap = torch.full_like(mask, 0.5)
    trimap[:, :10] = known
    settings = RefineSettings(keep_thin_parts=0)
    alpha, _, _ = refine_masks(paint(mask)[None], mask[None], settings, trimap[None])
    assert torch.equal(alpha[0], torch.where(trimap == 0.5, mask, trimap))
    assert f"add {color} to the trimap" in caplog.text


@BOTH
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (3, 3)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_refine_masks_of_a_tiny_image(method: str, shape: tuple[int, int], value: float) -> None:
    mask = torch.full((1, *shape), value)
    for edge_width in (0, 1000):
        alpha, _, _ = refine_masks(torch.full((1, *shape, 3), 0.3), mask, RefineSettings(method, edge_width))
        torch.testing.assert_close(alpha, mask, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "masks, trimaps, problem",
    [
        (torch.zeros(2, 64, 64), None, "image is a batch of 3, and mask is a batch of 2"),
        (torch.zeros(1, 32, 64), None, r"mask has shape \[1, 32, 64\] and image has shape \[3, 64, 64, 3\]"),
        (torch.zeros(1, 64, 64), torch.zeros(1, 9, 9), r"trimap has shape \[1, 9, 9\]"),
        (torch.zeros(1, 64, 64), torch.zeros(2, 64, 64), "trimap is a batch of 2, and the result is a batch of 3"),
    ],
)
def test_refine_masks_rejects_what_does_not_match(masks, trimaps, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        refine_masks(torch.zeros(3, 64, 64, 3), masks, RefineSettings(), trimaps)


@pytest.mark.parametrize(
    "name, value",
    [("method", "magic"), ("edge_width", -1), ("edge_width", "wide"), ("keep_thin_parts", 1.5),
     ("decontaminate", "yes"), ("background", "green")],
)  # fmt: skip
def test_refine_settings_name_a_bad_value(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        RefineSettings(**{name: value})


# --- progress and interrupt -------------------------------------------------------------------------------------------


class Interrupt(BaseException):
    pass


class Bar:
    """Counts steps, and interrupts at the check with number ``stop``."""

    def __init__(self, stop: int = -1) -> None:
        self.done, self.checks, self.stop = 0, 0, stop

    def step(self, count: int = 1) -> None:
        self.done += count
        self.checks += 1
        if self.checks == self.stop:
            raise Interrupt


class BarHost(edges.STANDALONE_HOST.__class__):
    def __init__(self, stop: int = -1) -> None:
        self.stop = stop

    def progress(self, total: int) -> Bar:
        self.bar, self.total = Bar(self.stop), total
        return self.bar


@pytest.mark.parametrize("method", METHODS[:2])
def test_refine_masks_reports_progress_and_phases(method: str) -> None:
    host, phases = BarHost(), []
    images = paint(disc(softness=6)).expand(2, -1, -1, -1)
    refine_masks(images, disc(softness=6)[None], RefineSettings(method), host=host, on_phase=phases.append)
    assert host.bar.done == host.total
    assert phases == ["edges", "colors"] * 2


def test_run_interruptibly_checks_while_it_waits() -> None:
    import threading

    release = threading.Event()
    stage = batching.StageProgress(Bar(stop=2), 10)
    with pytest.raises(Interrupt):
        batching.run_interruptibly(release.wait, stage)
    release.set()
    assert batching.run_interruptibly(lambda: 7, batching.NO_STAGE_PROGRESS) == 7
    with pytest.raises(ZeroDivisionError):
        batching.run_interruptibly(lambda: 1 // 0, batching.NO_STAGE_PROGRESS)


def test_run_interruptibly_keeps_modes_of_torch() -> None:
    assert not batching.run_interruptibly(torch.is_grad_enabled, batching.NO_STAGE_PROGRESS)
    for mode in (True, False):
        with torch.inference_mode(mode):
            assert batching.run_interruptibly(torch.is_inference_mode_enabled, batching.NO_STAGE_PROGRESS) == mode


def test_matting_logs_one_sentence_if_it_does_not_converge(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(closed_form, "_MAX_STEPS", 1)
    image = from_8bit(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    with caplog.at_level(logging.WARNING):
        refine_masks(image[None], disc()[None], RefineSettings(edge_width=10, keep_thin_parts=0))
    assert caplog.text.count("stopped before it reached its tolerance") == 1
