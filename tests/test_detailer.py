"""The detailer with a VAE and a model whose right results are known; see `exact_diffusion`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from exact_diffusion import EulerSampler, IdleSampler, KnownTarget, SpaceToDepthVae, noise_for, sigmas
from fake_host import FakeHost
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core import masks, morphology, tensors
from maskwright.core.detail.detail import Backend, DetailerResult, detail
from maskwright.core.detail.settings import DetailerSettings, schedule
from maskwright.core.engine import Pipe
from maskwright.core.errors import InputError, PackError
from maskwright.core.geometry import Box
from maskwright.core.regions import find_regions
from PIL import Image

RED = 0.9  # what the model of most tests wants everywhere, as a latent value
RED_PIXEL = (RED + 1) / 2
RED_MODEL = KnownTarget(RED)

# A crop of 64 x 64 around a mask of 32 x 32, sampled in its own size.
SIZE = 96
PLAIN = DetailerSettings(
    guide_size=64, guide_size_for=False, crop_factor=2, feather=0, noise_mask_feather=0, steps=4, denoise=1.0
)


def make_image(*size: int, batch: int = 1, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Smooth random colors."""
    height, width = size or (SIZE, SIZE)
    coarse = torch.rand(batch, channels, 7, 9, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return fine.clamp(0, 1).permute(0, 2, 3, 1).contiguous()  # [B,C,H,W] -> [B,H,W,C]


@functools.cache
def load_photo() -> torch.Tensor:
    from pack import ROOT

    shot = Image.open(ROOT / "example_workflows" / "assets" / "astronaut.jpg").convert("RGB")
    return tensors.from_pil(shot).unsqueeze(0)


def draw_squares(*corners: tuple[int, int], side: int = 32, size: tuple[int, int] = (SIZE, SIZE)) -> torch.Tensor:
    mask = torch.zeros(1, *size)
    for x, y in corners:
        mask[:, y : y + side, x : x + side] = 1
    return mask


MIDDLE = draw_squares((32, 32))


def run(
    image: torch.Tensor,
    mask: torch.Tensor = MIDDLE,
    options: DetailerSettings = PLAIN,
    model: Any = RED_MODEL,
    sampler: EulerSampler | None = None,
    vae: SpaceToDepthVae | None = None,
    refiner: Pipe | None = None,
    pipe: Pipe | None = None,
    **backend: Any,
) -> DetailerResult:
    backend = Backend(sampler or EulerSampler(), vae or SpaceToDepthVae(), **backend)
    return detail(image, mask, pipe or Pipe(model, "positive", "negative"), backend, options, refiner)


def blend_mask(image: torch.Tensor, mask: torch.Tensor, options: DetailerSettings) -> torch.Tensor:
    """The blend of all regions over the image, ``[1,H,W]``."""
    whole = Box(0, 0, image.shape[2], image.shape[1])
    total = torch.zeros(1, *image.shape[1:3])
    for region in find_regions(
        mask, options.crop_factor, options.drop_size, options.bbox_fill, options.contour_fill
    ):  # fmt: skip
        soft = masks.feather(region.mask, options.feather, region.crop_region.inner_sides(whole))
        region.crop_region.crop(total).copy_(torch.maximum(region.crop_region.crop(total), soft))
    return total


# The right image comes out.


@pytest.mark.parametrize("feather", (0, 5, 12))
def test_detail_blends_with_feathered_mask(feather: int) -> None:
    image, options = make_image(), replace(PLAIN, feather=feather)
    soft = blend_mask(image, MIDDLE, options).unsqueeze(-1)
    expected = (1 - soft) * image + soft * RED_PIXEL
    if feather:  # the noise mask is hard, so the blend's outer half has the image itself
        inside = MIDDLE.unsqueeze(-1)
        expected = torch.where(inside > 0, expected, image)
    torch.testing.assert_close(run(image, options=options).image, expected, atol=1e-5, rtol=0)


def test_detail_without_noise_mask_samples_whole_crop() -> None:
    image, options = make_image(), replace(PLAIN, feather=9, mask_mode=False)
    result = run(image, options=options)
    soft = blend_mask(image, MIDDLE, options).unsqueeze(-1)
    torch.testing.assert_close(result.image, (1 - soft) * image + soft * RED_PIXEL, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.crops[0], torch.full((1, 64, 64, 3), RED_PIXEL))
    assert torch.equal(result.alpha_crops[0][..., 3], Box(16, 16, 80, 80).crop(soft[..., 0]))


@pytest.mark.parametrize("denoise", (0.3, 0.6, 1.0))
@pytest.mark.parametrize("cycle", (1, 3))
def test_detail_matches_probability_flow(denoise: float, cycle: int) -> None:
    """Crop, noise of the seed, share of the schedule, cycles: all must be right for this to come out."""
    image = make_image()
    model = KnownTarget(0.2, spread=0.5)
    options = replace(PLAIN, steps=400, denoise=denoise, mask_mode=False, seed=11, cycle=cycle)
    result = run(image, options=options, model=model)

    vae = SpaceToDepthVae()
    x = vae.encode(Box(16, 16, 80, 80).crop(image))
    start, _, total = schedule(400, denoise, 0)
    sigma = sigmas(total)[start].item()
    for i in range(cycle):
        x = model.flow_end(x + sigma * noise_for(x, (11 + i,)), sigma)
    expected = vae.decode(x).clamp(0, 1)
    assert (result.crops[0] - expected).abs().max() < 0.03
    assert (result.crops[0] - expected).abs().mean() < 0.004


def test_schedule_runs_the_last_steps() -> None:
    assert schedule(20, 1.0, 0) == (0, 20, 20)
    assert schedule(20, 0.5, 0) == (20, 40, 40)
    assert schedule(20, 0.75, 0) == (6, 26, 26)
    assert schedule(20, 0.3, 0) == (46, 66, 66)
    assert schedule(20, 0.5, 0.2) == (20, 36, 40)
    assert schedule(20, 0.5, 1.0) == (20, 20, 40)
    assert schedule(1, 0.0001, 0) == (9999, 10000, 10000)


def test_schedule_base_steps_survive_rounding() -> None:
    """In floating point 10 x (1 - 0.9) is less than 1."""
    assert [schedule(steps, 1.0, 0.9)[1] for steps in (9, 10, 20, 30)] == [0, 1, 2, 3]
    assert schedule(10, 1.0, 0.1 + 0.2) == (0, 7, 10), "a ratio that has a rounding error itself"
    for steps in (*range(1, 60), 1000, 9999, 10000):
        for hundredths in range(101):
            _, switch, total = schedule(steps, 1.0, hundredths / 100)
            assert (switch, total) == (steps * (100 - hundredths) // 100, steps)


# Nothing is lost.


def test_detail_with_idle_sampler_keeps_image() -> None:
    image = make_image()
    for options in (PLAIN, replace(PLAIN, feather=7), replace(PLAIN, mask_mode=False, cycle=2)):
        result = run(image, options=options, sampler=IdleSampler())
        torch.testing.assert_close(result.image, image, atol=1e-5, rtol=0)


def test_detail_does_not_resize_crop_of_odd_size() -> None:
    image, mask = make_image(101, 99), draw_squares((41, 30), side=27, size=(101, 99))
    result = run(image, mask, replace(PLAIN, guide_size=54), sampler=IdleSampler())
    torch.testing.assert_close(result.image, image, atol=1e-5, rtol=0)
    assert result.crops[0].shape == (1, 54, 54, 3), "the crops are those of the crop region all the same"
    torch.testing.assert_close(result.crops[0], image[:, 16:70, 27:81], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("guide_size", "side"), [(384, 97), (512, 131), (640, 64), (100, 64), (1024, 300)])
def test_detail_resizing_loses_about_one_level(guide_size: int, side: int) -> None:
    image = load_photo()[:, :480, :500]
    mask = draw_squares((120, 90), side=side, size=(480, 500))
    options = DetailerSettings(guide_size=guide_size, crop_factor=1.5, max_size=1024)
    result = run(image, mask, options, sampler=IdleSampler())
    changed = Box(120, 90, 120 + side, 90 + side).crop((result.image - image).abs())
    assert changed.mean() * 255 < 1
    assert changed.max() * 255 < 40


def test_detail_with_max_size_does_not_shift_region() -> None:
    """The earlier node cut and stretched crops whose size was no multiple: a ramp then comes back shifted."""
    ramp = torch.linspace(0, 1, 300).view(1, 1, -1, 1).expand(1, 200, 300, 3)
    mask = draw_squares((30, 30), side=130, size=(200, 300))
    for guide_size, max_size in ((64, 101), (211, 1024), (333, 1024)):
        options = DetailerSettings(guide_size=guide_size, max_size=max_size, crop_factor=1.3)
        result = run(ramp, mask, options, sampler=IdleSampler())
        assert (result.image - ramp)[:, 40:150, 40:150].abs().max() < 1e-3


@pytest.mark.slow
@given(
    size=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    options=st.builds(
        DetailerSettings,
        guide_size=st.floats(8, 90),
        guide_size_for=st.booleans(),
        max_size=st.floats(16, 128),
        mask_mode=st.booleans(),
        steps=st.integers(1, 3),
        denoise=st.floats(0.1, 1),
        feather=st.integers(0, 40),
        crop_factor=st.floats(1, 4),
        drop_size=st.integers(1, 5),
        batch_size=st.integers(1, 2),
        cycle=st.integers(1, 2),
        inpaint_model=st.booleans(),
        noise_mask_feather=st.integers(0, 40),
        bbox_fill=st.booleans(),
        contour_fill=st.booleans(),
        region_batch=st.integers(1, 4),
        color_match=st.sampled_from((0.0, 0.7)),
    ),
    channels=st.sampled_from((3, 4)),
    dtype=st.sampled_from((torch.float32, torch.float16)),
    multiple=st.sampled_from((8, 16)),
    seed=st.integers(0, 1000),
)
def test_detail_invariants(
    size: tuple[int, int], options: DetailerSettings, channels: int, dtype: torch.dtype, multiple: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    image = make_image(*size, channels=channels, seed=seed).to(dtype)
    mask = morphology.dilate((torch.rand(1, *size, generator=random) > 0.998).float(), 7, "ellipse")
    mask = mask * torch.rand(1, *size, generator=random).clamp(min=0.2)
    images, masks_before = image.clone(), mask.clone()
    result = run(image, mask, options, vae=SpaceToDepthVae(multiple))
    assert torch.equal(image, images) and torch.equal(mask, masks_before), "changed in place"
    assert result.image.shape == (options.batch_size, *size, channels)
    assert result.image.dtype == torch.float32
    assert result.image.min() >= 0 and result.image.max() <= 1
    soft = blend_mask(image, mask, options)
    untouched = (soft == 0).expand(options.batch_size, -1, -1)
    sources = image.float().expand_as(result.image)
    assert torch.equal(result.image[untouched], sources[untouched]), "outside the feathered mask: bit for bit"
    assert torch.equal(result.image[..., 3:], sources[..., 3:]), "alpha is kept"
    regions = find_regions(mask, options.crop_factor, options.drop_size, options.bbox_fill, options.contour_fill)
    if regions:
        assert [crop.shape[1:3] for crop in result.crops] == [
            (region.crop_region.height, region.crop_region.width) for region in regions
        ] * options.batch_size


# Seeds, versions, batches.


def test_detail_seeds_by_region_version_and_cycle() -> None:
    sampler = EulerSampler()
    options = replace(PLAIN, guide_size=16, crop_factor=1, seed=100, batch_size=2, cycle=3, region_batch=1)
    mask = draw_squares((4, 60), (50, 10), side=16)
    run(make_image(), mask, options, sampler=sampler)
    assert [one.seeds for one in sampler.runs] == [
        (seed + i,) for seed in (100, 101, 101, 102) for i in range(3)
    ]  # fmt: skip
    assert sampler.expected == [2 * 2 * 3 * options.steps]


def test_detail_wraps_largest_seed_to_0() -> None:
    sampler = EulerSampler()
    run(make_image(), options=replace(PLAIN, seed=2**64 - 1, cycle=2), sampler=sampler)
    assert [one.seeds for one in sampler.runs] == [(2**64 - 1,), (0,)]


SOFT_MODEL = KnownTarget(0.1, spread=0.7)  # what comes out depends on image and noise


@pytest.mark.parametrize("own_masks", (True, False))
def test_detail_batch_equals_single_images(own_masks: bool) -> None:
    images = make_image(80, 96, batch=3)
    each = torch.cat([draw_squares((32 - 8 * i, 24), side=20 + 2 * i, size=(80, 96)) for i in range(3)])
    each[1] = 0 if own_masks else each[1]
    options = replace(PLAIN, guide_size=40, feather=4, batch_size=2, seed=5)
    together = run(images, each if own_masks else each[:1], options, SOFT_MODEL)
    singles = [
        run(images[i : i + 1], each[i : i + 1] if own_masks else each[:1], options, SOFT_MODEL) for i in range(3)
    ]
    torch.testing.assert_close(together.image, torch.cat([one.image for one in singles]), atol=1e-5, rtol=0)
    for name in ("crops", "alpha_crops"):
        lists = [crop for one in singles for crop in getattr(one, name)]
        assert len(getattr(together, name)) == len(lists)
        for got, expected in zip(getattr(together, name), lists):
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, {"inpaint_model": True}, {"mask_mode": False}, {"color_match": 0.5}])
def test_detail_region_batch_keeps_result(options: dict) -> None:
    # Eight of several sizes; two so near that the second is cut from what the first made.
    mask = torch.zeros(1, 200, 300)
    for x, y, side in ((10, 10, 24), (90, 12, 24), (123, 20, 24), (200, 15, 30), (20, 90, 24), (90, 100, 27),
                       (180, 100, 24), (250, 150, 24)):  # fmt: skip
        mask[:, y : y + side, x : x + side] = 1
    settings = replace(PLAIN, guide_size=32, guide_size_for=True, feather=6, noise_mask_feather=3, seed=3, **options)
    results, calls = [], []
    for region_batch in (1, 4):
        sampler = EulerSampler()
        results.append(
            run(make_image(200, 300), mask, replace(settings, region_batch=region_batch), SOFT_MODEL, sampler)
        )
        calls.append([len(one.seeds) for one in sampler.runs])
    torch.testing.assert_close(results[0].image, results[1].image, atol=2e-5, rtol=0)
    for one, other in zip(results[0].crops, results[1].crops):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)
    assert calls[0] == [1] * 8
    assert sum(calls[1]) == 8 and max(calls[1]) > 1, "some were sampled together"


def test_detail_does_not_batch_dependent_regions() -> None:
    sampler = EulerSampler()
    near = draw_squares((10, 30), (46, 30), side=16, size=(96, 200))
    near[:, 30:46, 150:166] = 1
    options = replace(PLAIN, guide_size=32, crop_factor=4, feather=3)
    assert len(find_regions(near)) == 3
    run(make_image(96, 200), near, options, sampler=sampler)
    assert sorted(len(one.seeds) for one in sampler.runs) == [1, 2]


def count_region_batches(image: torch.Tensor, mask: torch.Tensor, options: DetailerSettings) -> list[int]:
    """How many regions are sampled together at a time; the result must be that of one at a time."""
    sampler = EulerSampler()
    one = run(image, mask, replace(options, region_batch=1), SOFT_MODEL)
    all_ = run(image, mask, replace(options, region_batch=4), SOFT_MODEL, sampler)
    torch.testing.assert_close(all_.image, one.image, atol=2e-5, rtol=0)
    return [len(each.seeds) for each in sampler.runs]


def test_detail_color_match_uses_ring_after_earlier_regions() -> None:
    mask = draw_squares((20, 30), (56, 30))  # crops that do not meet, 4 pixels apart
    options = replace(PLAIN, crop_factor=1, guide_size=32, mask_mode=False)
    assert count_region_batches(make_image(), mask, replace(options, color_match=1.0)) == [1, 1]
    assert count_region_batches(make_image(), mask, options) == [2]


def test_detail_keeps_order_if_a_crop_contains_a_later_region() -> None:
    mask = draw_squares((250, 100), (96, 20), side=16, size=(130, 300))
    mask[:, 45:85, 40:80] = 1  # its crop has the second of these in it, and comes before it
    _, wide, last = find_regions(mask, 3)
    assert wide.crop_region.overlaps(last.bbox) and not last.crop_region.overlaps(wide.bbox)
    options = replace(PLAIN, crop_factor=3, guide_size=1, mask_mode=False)
    assert count_region_batches(make_image(130, 300), mask, options) == [1, 1, 1]


def test_detail_batches_versions() -> None:
    assert count_region_batches(make_image(), MIDDLE, replace(PLAIN, batch_size=3)) == [3]


def test_detail_crops_have_their_own_storage() -> None:
    mask = draw_squares((4, 4), (60, 60))
    result = run(make_image(), mask, replace(PLAIN, crop_factor=1, guide_size=32))
    assert [crop.untyped_storage().nbytes() for crop in result.crops] == [32 * 32 * 3 * 4] * 2


def test_detail_overlapping_crop_includes_earlier_region() -> None:
    mask = draw_squares((10, 30), (46, 30), side=32)
    options = replace(PLAIN, crop_factor=2, guide_size=64)
    vae = SpaceToDepthVae()
    encoder_inputs = []
    vae.trouble = lambda work, values, tiled: encoder_inputs.append(values.clone()) if work == "encode" else None
    run(make_image(), mask, options, vae=vae)
    first, second = find_regions(mask, 2)
    common = first.bbox.intersection(second.crop_region)
    in_second = common.relative_to(second.crop_region).crop(encoder_inputs[1])
    torch.testing.assert_close(in_second, torch.full_like(in_second, RED_PIXEL), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampler_name", ("euler", "ancestral"))
def test_detail_does_not_batch_with_dependent_rows(sampler_name: str) -> None:
    sampler = EulerSampler()
    mask = draw_squares((4, 4), (60, 60), side=16)
    options = replace(PLAIN, guide_size=16, crop_factor=1, sampler_name=sampler_name)
    run(make_image(), mask, options, sampler=sampler)
    assert [len(one.seeds) for one in sampler.runs] == ([2] if sampler_name == "euler" else [1, 1])


# The refiner.


@pytest.mark.parametrize("ratio", (0.0, 0.25, 0.5, 1.0))
@pytest.mark.parametrize("noise_mask_feather", (0, 12))
def test_detail_refiner_equal_to_model_changes_nothing(ratio: float, noise_mask_feather: int) -> None:
    """Only if both sides of a soft noise mask are at one noise level when it takes over."""
    options = replace(
        PLAIN, steps=8, denoise=0.8, refiner_ratio=ratio, noise_mask_feather=noise_mask_feather, feather=5
    )
    sampler = EulerSampler()
    alone = run(make_image(), options=options, model=SOFT_MODEL)
    refiner = Pipe(SOFT_MODEL, "refiner positive", "refiner negative")
    refined = run(make_image(), options=options, model=SOFT_MODEL, sampler=sampler, refiner=refiner)
    torch.testing.assert_close(refined.image, alone.image, atol=1e-4, rtol=0)
    steps = [(one.positive, one.start_step, one.end_step, one.total_steps, one.leave_noise) for one in sampler.runs]
    base = 2 + int(8 * (1 - ratio))
    assert steps == [
        one
        for one in (
            ("positive", 2, base, 10, base < 10),
            ("refiner positive", base, 10, 10, False),
        )
        if one[1] < one[2]
    ]


def test_detail_refiner_decides_final_image() -> None:
    refiner = Pipe(KnownTarget(-0.4), "positive", "negative")
    options = replace(PLAIN, refiner_ratio=0.5)
    result = run(make_image(), options=options, refiner=refiner)
    torch.testing.assert_close(result.image[:, 32:64, 32:64], torch.full((1, 32, 32, 3), 0.3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("masked", ["pipe", "refiner"])
def test_detail_crops_prompt_masks_by_region(masked: str) -> None:
    sampler, whole = EulerSampler(), torch.arange(SIZE * SIZE).reshape(1, SIZE, SIZE).float()
    pipe = Pipe(SOFT_MODEL, "positive", "negative")
    with_masks = replace(pipe, positive=[["tokens", {"mask": whole}]])
    pipe, refiner = (with_masks, pipe) if masked == "pipe" else (pipe, with_masks)
    options = replace(PLAIN, crop_factor=1, guide_size=32, refiner_ratio=0.5)
    run(make_image(), draw_squares((4, 4), (60, 60)), options, sampler=sampler, pipe=pipe, refiner=refiner)
    assert [len(one.seeds) for one in sampler.runs] == [1] * 4, "their conditionings differ"
    prompt_masks = [one.positive[0][1]["mask"] for one in sampler.runs if one.positive != "positive"]
    assert torch.equal(prompt_masks[0], whole[:, 60:92, 60:92]) and torch.equal(prompt_masks[1], whole[:, 4:36, 4:36])


@pytest.mark.parametrize("edited", ["pipe", "refiner"])
def test_detail_gives_edit_models_the_crop(edited: str) -> None:
    """A reference that shows the image becomes the latent of each crop; the image is encoded once for that."""
    image, sampler, vae = make_image(batch=2), EulerSampler(), SpaceToDepthVae()
    references = [torch.cat([vae.encode(row) for row in image.split(1)])]
    pipe = Pipe(RED_MODEL, "positive", "negative")
    with_references = replace(pipe, positive=[["tokens", {"reference_latents": references}]])
    pipe, refiner = (with_references, pipe) if edited == "pipe" else (pipe, with_references)
    options = replace(PLAIN, refiner_ratio=0.5, batch_size=2)
    vae.encoded.clear()
    run(image, draw_squares((4, 4), (60, 60)), options, sampler=sampler, vae=vae, pipe=pipe, refiner=refiner)
    runs = [one for one in sampler.runs if one.positive != "positive"]
    assert [len(one.seeds) for one in runs] == [2] * 4, "versions are sampled together, regions are not"
    for one in runs:
        assert torch.equal(one.positive[0][1]["reference_latents"][0], one.latent["samples"])
    assert [tuple(shape[1:3]) for shape in vae.encoded].count((SIZE, SIZE)) == 2, "each image once"
    assert len(vae.encoded) == 2 + 8


def test_detail_encodes_whole_image_for_references_in_tiles_if_memory_runs_out() -> None:
    """Crops, which fit into memory, are still encoded without tiles."""

    def fail_for_whole_image(work: str, values: torch.Tensor, tiled: bool) -> None:
        if work == "encode" and values.shape[1] == SIZE and not tiled:
            raise torch.cuda.OutOfMemoryError("out of memory")

    sampler, vae, image = EulerSampler(), SpaceToDepthVae(trouble=fail_for_whole_image), make_image()
    positive = [["tokens", {"reference_latents": [SpaceToDepthVae().encode(image)]}]]
    run(image, sampler=sampler, vae=vae, pipe=Pipe(RED_MODEL, positive, "negative"))
    reference = sampler.runs[0].positive[0][1]["reference_latents"][0]
    assert torch.equal(reference, SpaceToDepthVae().encode(image[:, 16:80, 16:80]))
    assert vae.tiled.count(True) == 1 and vae.encoded == [(1, SIZE, SIZE, 3), (1, 64, 64, 3)]


def test_detail_reference_does_not_follow_hooks() -> None:
    class Hook:
        def post_encode(self, latent: dict) -> dict:
            latent["samples"].zero_()
            return latent

    sampler, vae, image = EulerSampler(), SpaceToDepthVae(), make_image()
    positive = [["tokens", {"reference_latents": [vae.encode(image)]}]]
    run(image, sampler=sampler, vae=vae, pipe=Pipe(RED_MODEL, positive, "negative"), hook=Hook())
    reference = sampler.runs[0].positive[0][1]["reference_latents"][0]
    assert torch.equal(reference, vae.encode(image[:, 16:80, 16:80])) and not sampler.runs[0].latent["samples"].any()


def test_detail_with_size_hook_moves_areas_to_its_size() -> None:
    class Hook:
        def touch_scaled_size(self, width: int, height: int) -> tuple[int, int]:
            return 2 * width, height

    sampler, positive = EulerSampler(), [["tokens", {"area": (12, 6, 0, 0)}]]
    run(make_image(), sampler=sampler, pipe=Pipe(RED_MODEL, positive, "negative"), hook=Hook())
    assert sampler.runs[0].latent["samples"].shape[-2:] == (8, 16)
    assert sampler.runs[0].positive[0][1]["area"] == (8, 8, 0, 0)


def test_detail_with_nothing_left_of_prompt_fails_before_sampling() -> None:
    sampler, positive = EulerSampler(), [["tokens", {"area": (4, 12, 8, 0)}]]
    with pytest.raises(InputError, match=r"positive prompt of basic_pipe applies to region 2: .* \(4, 4\) to"):
        run(
            make_image(), draw_squares((4, 4), (60, 60)), replace(PLAIN, crop_factor=1), sampler=sampler,
            pipe=Pipe(RED_MODEL, positive, "negative"),
        )  # fmt: skip
    assert not sampler.runs


# Noise masks.


def test_detail_noise_mask_is_blurred_region_mask() -> None:
    for feather in (0, 9):
        sampler = EulerSampler()
        run(make_image(), options=replace(PLAIN, noise_mask_feather=feather), sampler=sampler)
        noise_mask = sampler.runs[0].latent["noise_mask"]
        assert torch.equal(noise_mask, masks.feather(Box(16, 16, 80, 80).crop(MIDDLE), feather))


def test_detail_noise_mask_in_larger_window_does_not_move() -> None:
    mask, sampler = draw_squares((41, 30), side=27, size=(101, 99)), EulerSampler()
    run(make_image(101, 99), mask, replace(PLAIN, guide_size=54), sampler=sampler)
    assert torch.equal(sampler.runs[0].latent["noise_mask"], Box(26, 15, 82, 71).crop(mask))


def test_detail_without_mask_mode_has_no_noise_mask() -> None:
    sampler = EulerSampler()
    run(make_image(), options=replace(PLAIN, mask_mode=False, inpaint_model=True), sampler=sampler)
    assert "noise_mask" not in sampler.runs[0].latent
    assert sampler.runs[0].positive == "positive", "nothing to inpaint without a mask"


@pytest.mark.parametrize(("mask_mode", "feather", "soft"), [(True, 20, True), (True, 0, False), (False, 20, False)])
def test_detail_uses_differential_diffusion_for_blurred_masks(mask_mode: bool, feather: int, soft: bool) -> None:
    class Sampler(IdleSampler):
        def add_differential_diffusion(self, model):
            return ("soft", model)

    sampler = Sampler()
    options = replace(PLAIN, mask_mode=mask_mode, noise_mask_feather=feather, refiner_ratio=0.5)
    refiner = Pipe("refiner", "positive", "negative")
    run(make_image(), options=options, model="model", sampler=sampler, refiner=refiner)
    models = ["model", "refiner"]
    assert [one.model for one in sampler.runs] == ([("soft", name) for name in models] if soft else models)


def test_detail_encodes_inpainting_conditionings() -> None:
    sampler = EulerSampler()
    run(make_image(), options=replace(PLAIN, inpaint_model=True), sampler=sampler)
    assert sampler.runs[0].positive == ("inpaint", "positive")
    assert sampler.runs[0].negative == ("inpaint", "negative")


# Conditionings.


def test_detail_region_prompts_by_line() -> None:
    sampler, texts = EulerSampler(), []

    def add_text(positive: str, text: str) -> str:
        texts.append(text)
        return f"{positive} + {text}"

    mask = draw_squares((4, 4), (60, 4), (4, 60), (60, 60), side=16)
    options = replace(PLAIN, guide_size=16, crop_factor=1, region_prompts=("a hat", " ", "a hat"), batch_size=2)
    pipe = Pipe(KnownTarget(RED), "positive", "negative", add_text)
    run(make_image(), mask, options, sampler=sampler, pipe=pipe)
    prompts = {seed - version: one.positive for one in sampler.runs for version, seed in enumerate(one.seeds[:1])}
    assert texts == ["a hat"], "encoded once"
    assert {one.positive for one in sampler.runs} == {"positive + a hat", "positive"}
    assert prompts[0] == "positive + a hat"
    for one in sampler.runs:
        if one.positive == "positive + a hat":
            assert set(one.seeds) <= {0, 2, 1, 3}


def test_detail_region_prompts_without_clip_fail() -> None:
    with pytest.raises(InputError, match="region_prompts.*CLIP"):
        run(make_image(), options=replace(PLAIN, region_prompts=("", "a hat")))


# Hooks.


class RecordingHook:
    """Has every method, notes every call, changes nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def touch_scaled_size(self, w, h):
        self.calls.append(("touch_scaled_size", w, h))
        return w, h

    def post_upscale(self, pixels, mask=None):
        self.calls.append(("post_upscale", tuple(pixels.shape), tuple(mask.shape)))
        return pixels

    def get_skip_sampling(self):
        self.calls.append(("get_skip_sampling",))
        return False

    def post_encode(self, latent):
        self.calls.append(("post_encode", sorted(latent)))
        return latent

    def get_custom_sampler(self):
        self.calls.append(("get_custom_sampler",))

    def set_steps(self, info):
        self.calls.append(("set_steps", info))

    def cycle_latent(self, latent):
        self.calls.append(("cycle_latent", sorted(latent)))
        return latent

    def pre_ksample(self, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise):
        self.calls.append(("pre_ksample", seed, steps, cfg, sampler_name, scheduler, positive, negative, denoise))
        return model, seed, steps, cfg, sampler_name, scheduler, positive, negative, "ignored", denoise

    def get_custom_noise(self, seed, noise, is_touched):
        self.calls.append(("get_custom_noise", seed, tuple(noise.shape), noise.any().item(), is_touched))
        return noise, is_touched

    def pre_decode(self, latent):
        self.calls.append(("pre_decode", sorted(latent)))
        return latent

    def post_decode(self, pixels):
        self.calls.append(("post_decode", tuple(pixels.shape)))
        return pixels

    def post_paste(self, image):
        self.calls.append(("post_paste", tuple(image.shape)))
        return image


def test_hook_call_order() -> None:
    hook = RecordingHook()
    mask = draw_squares((4, 60), (60, 4), side=16)
    options = replace(PLAIN, guide_size=32, crop_factor=1, seed=7, cycle=2, cfg=3.5)
    result = run(make_image(), mask, options, hook=hook)

    expected = []
    for i in range(2):
        expected += [
            ("touch_scaled_size", 32, 32),
            ("post_upscale", (1, 32, 32, 3), (1, 16, 16)),
            ("get_skip_sampling",),
            ("post_encode", ["noise_mask", "samples"]),
            ("get_custom_sampler",),
        ]
        for cycle in range(2):
            expected += [
                ("set_steps", (cycle, 2)),
                ("cycle_latent", ["noise_mask", "samples"]),
                ("pre_ksample", 7 + i + cycle, 4, 3.5, "euler", "normal", "positive", "negative", 1.0),
                ("get_custom_noise", 7 + i + cycle, (1, 192, 4, 4), False, False),
            ]
        expected += [
            ("pre_decode", ["noise_mask", "samples"]),
            ("post_decode", (1, 32, 32, 3)),
            ("post_paste", (1, 96, 96, 3)),
        ]
    assert hook.calls == expected
    torch.testing.assert_close(result.image, run(make_image(), mask, options).image, atol=1e-6, rtol=0)


def test_hook_without_methods_is_accepted() -> None:
    class Empty:
        set_steps = "not a method"

    torch.testing.assert_close(run(make_image(), hook=Empty()).image, run(make_image()).image, atol=1e-6, rtol=0)


def test_hook_post_upscale_without_mask_parameter() -> None:
    class Older:
        def post_upscale(self, pixels):
            return 1 - pixels

    image = make_image()
    result = run(image, hook=Older(), sampler=IdleSampler())
    torch.testing.assert_close(result.crops[0], 1 - image[:, 16:80, 16:80], atol=1e-5, rtol=0)


def test_hook_may_modify_arguments_in_place() -> None:
    """Neither the image around the mask nor the mask of later images changes with it."""

    class Writes:
        def post_upscale(self, pixels, mask):
            pixels.zero_()
            mask.fill_(1)
            return pixels

    images = make_image(batch=2)
    result = run(images, hook=Writes())
    outside = (MIDDLE == 0).expand(2, -1, -1)
    assert torch.equal(result.image[outside], images[outside])
    for alpha in result.alpha_crops:
        assert torch.equal(alpha[..., 3], Box(16, 16, 80, 80).crop(MIDDLE))


def test_hook_seed_wraps_into_range() -> None:
    class Below:
        def pre_ksample(self, *ten):
            return (ten[0], -5, *ten[2:])

    sampler = EulerSampler()
    run(make_image(), sampler=sampler, hook=Below())
    assert sampler.runs[0].seeds == (2**64 - 5,)


def test_hook_size_is_rounded_for_vae() -> None:
    class Resizes:
        def touch_scaled_size(self, w, h):
            return 100, 49.0

    vae = SpaceToDepthVae()
    run(make_image(), vae=vae, hook=Resizes())
    assert vae.encoded == [(1, 48, 104, 3)]


def test_hook_skip_sampling_pastes_post_upscale_pixels() -> None:
    class Skips(RecordingHook):
        def get_skip_sampling(self):
            return True

        def post_upscale(self, pixels, mask):
            return torch.full_like(pixels, 0.25)

        def post_decode(self, pixels):
            self.calls.append(("post_decode",))
            return pixels * 2

    hook, sampler, vae = Skips(), EulerSampler(), SpaceToDepthVae()
    result = run(make_image(), sampler=sampler, vae=vae, hook=hook)
    assert sampler.runs == [] and vae.encoded == []
    assert [call[0] for call in hook.calls] == ["touch_scaled_size", "post_decode", "post_paste"]
    assert torch.all(result.image[:, 32:64, 32:64] == 0.5)


def test_hook_changes_reach_sampler() -> None:
    class Changes:
        def get_custom_sampler(self):
            return "own sampler"

        def pre_ksample(self, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise):
            return KnownTarget(-0.2), 77, 3, 1.5, "heun", "karras", "other", "another", None, 0.5

        def get_custom_noise(self, seed, noise, is_touched):
            return noise + 1, True

    sampler = EulerSampler()
    run(make_image(), sampler=sampler, hook=Changes())
    (one,) = sampler.runs
    assert (one.model.target, one.seeds, one.cfg, one.sampler_name, one.scheduler) == (
        -0.2,
        (77,),
        1.5,
        "heun",
        "karras",
    )
    assert (one.positive, one.negative, one.custom_sampler) == ("other", "another", "own sampler")
    assert (one.start_step, one.end_step, one.total_steps) == (3, 6, 6)
    assert one.noise.min() == one.noise.max() == 1


@pytest.mark.parametrize("answer", [(0.0, True), (1.0, False)])
def test_hook_noise_if_zero_or_untouched_is_ignored(answer: tuple[float, bool]) -> None:
    class Noise:
        def get_custom_noise(self, seed, noise, is_touched):
            return noise + answer[0], answer[1]

    sampler = EulerSampler()
    run(make_image(), sampler=sampler, hook=Noise())
    assert sampler.runs[0].noise is None


def test_hook_may_repeat_latent_rows() -> None:
    class TwoRows:
        def post_encode(self, latent):
            return {**latent, "samples": latent["samples"].repeat(2, 1, 1, 1)}

        def pre_decode(self, latent):
            return {**latent, "samples": latent["samples"][:1]}

    torch.testing.assert_close(run(make_image(), hook=TwoRows()).image, run(make_image()).image, atol=1e-5, rtol=0)


def test_hook_denoise_0_skips_cycle() -> None:
    class Fades:
        cycle = 0

        def set_steps(self, info):
            self.cycle = info[0]

        def pre_ksample(self, *ten):
            return (*ten[:9], 0.5 if self.cycle == 0 else 0.0)

    sampler = EulerSampler()
    run(make_image(), options=replace(PLAIN, cycle=2), sampler=sampler, hook=Fades())
    assert len(sampler.runs) == 1


@pytest.mark.parametrize("denoise", [1e-7, 1e-300, -0.5])
def test_hook_denoise_near_0_skips_cycle(denoise: float) -> None:
    """It would change nothing, and its schedule might not fit into memory."""

    class Fades:
        def pre_ksample(self, *ten):
            return (*ten[:9], denoise)

    sampler = EulerSampler()
    image = make_image()
    result = run(image, sampler=sampler, hook=Fades())
    assert sampler.runs == []
    torch.testing.assert_close(result.image, image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["steps", "seed"])
def test_hook_pre_ksample_infinite_number_fails(name: str) -> None:
    class Endless:
        def pre_ksample(self, *ten):
            place = {"seed": 1, "steps": 2}[name]
            return (*ten[:place], float("inf"), *ten[place + 1 :])

    with pytest.raises(PackError, match=r"Endless\.pre_ksample returned"):
        run(make_image(), hook=Endless())


def test_hook_nan_in_noise_or_noise_mask_fails() -> None:
    class Noise:
        def get_custom_noise(self, seed, noise, is_touched):
            return noise / 0, True

    class NoiseMask:
        def post_encode(self, latent):
            return {**latent, "noise_mask": latent["noise_mask"] / 0}

    with pytest.raises(PackError, match=r"Noise\.get_custom_noise returned .*not finite noise"):
        run(make_image(), hook=Noise())
    with pytest.raises(PackError, match=r"NoiseMask\.post_encode returned .*NaN or infinite values in noise_mask"):
        run(make_image(), hook=NoiseMask())


@pytest.mark.parametrize("answer", [torch.ones(2), np.ones(2)], ids=["tensor", "array"])
def test_hook_skip_sampling_with_several_values_fails(answer: Any) -> None:
    class Undecided:
        def get_skip_sampling(self):
            return answer

    with pytest.raises(PackError, match=r"Undecided\.get_skip_sampling returned .* of shape \[2\], not true or false"):
        run(make_image(), hook=Undecided())


def test_hook_error_gives_tensor_shapes() -> None:
    class Odd:
        def post_encode(self, latent):
            return {"latent": latent["samples"]}

    with pytest.raises(PackError, match=r"returned \{'latent': a tensor of shape \[1, 192, 8, 8\]\}, not a latent"):
        run(make_image(), hook=Odd())


def test_hook_post_paste_result_is_used() -> None:
    class Brightens:
        def post_paste(self, image):
            return image * 0 + 0.75

    image = make_image()
    result = run(image, hook=Brightens())
    assert torch.all(result.image == 0.75)
    rgba = run(make_image(channels=4), hook=Brightens())
    assert rgba.image.shape == (1, SIZE, SIZE, 4)


def test_hook_post_paste_in_place_is_clamped() -> None:
    class Writes:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def post_paste(self, image):
            image.mul_(self.factor)
            return image

    image = make_image()
    before = image.clone()
    result = run(image, hook=Writes(2))
    assert torch.equal(image, before)
    torch.testing.assert_close(result.image, (run(image).image * 2).clamp(max=1))
    with pytest.raises(PackError, match=r"Writes\.post_paste returned .*NaN"):
        run(image, hook=Writes(float("nan")))


@pytest.mark.parametrize("method", ["post_encode", "cycle_latent", "pre_decode"])
def test_hook_invalid_latent_fails(method: str) -> None:
    """Not the sampler or the VAE, which cannot help it."""

    class Spoils:
        pass

    setattr(Spoils, method, lambda self, latent: {**latent, "samples": latent["samples"] / 0})
    with pytest.raises(PackError, match=rf"Spoils\.{method} returned .*NaN"):
        run(make_image(), hook=Spoils())


METHODS = [name for name in vars(RecordingHook) if not name.startswith("_")]


@pytest.mark.parametrize("method", METHODS)
def test_hook_exception_names_method(method: str) -> None:
    class BrokenHook(RecordingHook):
        pass

    def fails(self, *given, **named):
        raise KeyError("no such thing")

    setattr(BrokenHook, method, fails)
    with pytest.raises(PackError, match=rf"BrokenHook\.{method} failed: KeyError: 'no such thing'") as caught:
        run(make_image(), hook=BrokenHook())
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("set_steps", "get_skip_sampling")])
def test_hook_invalid_result_fails(method: str) -> None:
    class OddHook(RecordingHook):
        pass

    setattr(OddHook, method, lambda self, *given, **named: 5)
    if method == "get_custom_sampler":
        sampler = EulerSampler()
        run(make_image(), sampler=sampler, hook=OddHook())
        assert sampler.runs[0].custom_sampler == 5, "whatever it is, the host must take it"
        return
    with pytest.raises(PackError, match=rf"OddHook\.{method} returned 5"):
        run(make_image(), hook=OddHook())


class Stop(Exception):
    """As the interrupt of older hosts."""


@pytest.mark.parametrize("wish", [Stop, KeyboardInterrupt, MemoryError])
def test_hook_interrupt_propagates(wish: type[BaseException]) -> None:
    class Interrupted:
        def cycle_latent(self, latent):
            raise wish

    expected = PackError if wish is MemoryError else wish
    with pytest.raises(expected) as caught:
        run(make_image(), hook=Interrupted(), host=FakeHost(interrupt=Stop))
    assert "Interrupted" not in str(caught.value)


# Memory.


def test_detail_out_of_memory_halves_region_batch() -> None:
    def too_much(one) -> None:
        if len(one.seeds) > 1:
            raise torch.cuda.OutOfMemoryError("no memory left")

    host = FakeHost()
    mask = draw_squares(*((x, y) for x in (4, 34, 64) for y in (4, 64)), side=16)
    options = replace(PLAIN, guide_size=16, crop_factor=1, region_batch=6)
    small, ample = EulerSampler(trouble=too_much), EulerSampler()
    result = run(make_image(), mask, options, SOFT_MODEL, small, host=host)
    wanted = run(make_image(), mask, options, SOFT_MODEL, ample)
    torch.testing.assert_close(result.image, wanted.image, atol=1e-5, rtol=0)
    assert [len(one.seeds) for one in ample.runs] == [6]
    assert [len(one.seeds) for one in small.runs] == [6, 3, 1, 1, 1, 1, 1, 1]
    assert host.freed == 2


def fail_for_several(error: type[BaseException]) -> Callable[[Any], None]:
    def trouble(one: Any) -> None:
        if len(one.seeds) > 1:
            raise error("Batch size > 1 currently not supported")

    return trouble


SIX = draw_squares(*((x, y) for x in (4, 34, 64) for y in (4, 64)), side=16)
SMALL = replace(PLAIN, guide_size=16, crop_factor=1, region_batch=4)


@pytest.mark.parametrize("error", [ValueError, RuntimeError, AssertionError, NotImplementedError])
def test_detail_falls_back_to_single_rows_for_model(error: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    image, host = make_image(), FakeHost()
    sampler = EulerSampler(trouble=fail_for_several(error))
    result = run(image, SIX, SMALL, SOFT_MODEL, sampler, host=host)
    expected = run(image, SIX, replace(SMALL, region_batch=1), SOFT_MODEL)
    assert torch.equal(result.image, expected.image)
    assert [len(one.seeds) for one in sampler.runs] == [4, 1, 1, 1, 1, 1, 1], "stays at one at a time"
    (record,) = caplog.records
    assert (
        "Sampling failed with 4 regions" in record.getMessage()
        and "Batch size > 1 currently not supported" in record.getMessage()
    )
    assert host.freed == 1


def test_detail_falls_back_to_single_rows_for_inpainting_encoder() -> None:
    class OneRow(SpaceToDepthVae):
        def encode_for_inpainting(self, positive, negative, image, mask, tiled=False):
            if len(image) > 1:
                raise RuntimeError("one image, please")
            return super().encode_for_inpainting(positive, negative, image, mask, tiled)

    options = replace(SMALL, inpaint_model=True)
    result = run(make_image(), SIX, options, SOFT_MODEL, vae=OneRow())
    assert torch.equal(result.image, run(make_image(), SIX, replace(options, region_batch=1), SOFT_MODEL).image)


@pytest.mark.parametrize("error", [ValueError, MemoryError])
def test_detail_counts_repeated_steps_once(error: type[Exception]) -> None:
    """The second of two cycles fails: the first cycle is repeated, and the progress bar must go back."""

    def trouble(one: Any) -> None:
        if len(one.seeds) > 1 and len(sampler.runs) == 4:
            raise error

    sampler = EulerSampler(trouble=trouble)
    run(make_image(), SIX, replace(SMALL, region_batch=2, cycle=2), SOFT_MODEL, sampler)
    total = 6 * 2 * 4
    assert sampler.expected == [total, total - 2 * 2 * 4], "two regions were done before"


def test_detail_raises_model_error_if_single_row_fails() -> None:
    class Incompatible(Exception):
        pass

    def trouble(one: Any) -> None:
        raise Incompatible(f"mat1 and mat2 cannot be multiplied, with {len(one.seeds)}")

    with pytest.raises(Incompatible, match="cannot be multiplied, with 1"):
        run(make_image(), SIX, SMALL, sampler=EulerSampler(trouble=trouble))


@pytest.mark.parametrize("error", [KeyboardInterrupt, "stop", PackError])
def test_detail_does_not_retry_interrupt_or_pack_error(error: Any) -> None:
    kind = Stop if error == "stop" else error
    raised = PackError("no such sampler", "Take another") if kind is PackError else kind()

    def trouble(one: Any) -> None:
        raise raised

    sampler = EulerSampler(trouble=trouble)
    with pytest.raises(kind) as caught:
        run(make_image(), SIX, SMALL, sampler=sampler, host=FakeHost(interrupt=Stop))
    assert caught.value is raised
    assert len(sampler.runs) == 1


def test_detail_out_of_memory_with_single_crop_fails() -> None:
    def never(one) -> None:
        raise RuntimeError("the host's own out of memory")

    with pytest.raises(PackError, match="^Sampling ran out of memory with a single crop of 64 x 64.*max_size"):
        run(make_image(), sampler=EulerSampler(trouble=never))


MEMORY_RAN_OUT = (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"))


@pytest.mark.parametrize("error", MEMORY_RAN_OUT, ids=repr)
@pytest.mark.parametrize("work", ("encode", "decode"))
@pytest.mark.parametrize("inpaint_model", (False, True))
def test_detail_vae_out_of_memory_falls_back_to_tiles(
    work: str, inpaint_model: bool, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def too_much(now: str, values: torch.Tensor, tiled: bool) -> None:
        if now == work and not tiled:
            raise error

    vae = SpaceToDepthVae(trouble=too_much)
    options = replace(PLAIN, inpaint_model=inpaint_model)
    result = run(make_image(), options=options, vae=vae)
    torch.testing.assert_close(result.image, run(make_image(), options=options).image)
    assert vae.tiled == ([False, True, True] if work == "encode" else [False, False, True])
    assert "tiles" in caplog.text


def test_detail_vae_out_of_memory_in_tiles_fails() -> None:
    def never(now: str, values: torch.Tensor, tiled: bool) -> None:
        raise MemoryError

    with pytest.raises(PackError, match="VAE ran out of memory, even in tiles"):
        run(make_image(), vae=SpaceToDepthVae(trouble=never))


def test_detail_tiled_vae() -> None:
    vae = SpaceToDepthVae()
    run(make_image(), options=replace(PLAIN, tiled_vae=True), vae=vae)
    assert vae.tiled == [True, True]


def test_detail_copies_image_once() -> None:
    """Blending goes into the crop's rectangle of the one copy."""
    image = make_image(64, 64)
    storages = set()

    class Looks:
        def post_paste(self, whole):
            storages.add(whole.data_ptr())
            return whole

    result = run(
        image, draw_squares((4, 4), (40, 40), side=16, size=(64, 64)), replace(PLAIN, guide_size=16), hook=Looks()
    )
    assert storages == {result.image.data_ptr()}


# Colors.


def test_detail_color_match_matches_ring_mean() -> None:
    image = torch.zeros(1, SIZE, SIZE, 3)
    image[:] = torch.tensor([0.2, 0.5, 0.3])
    image[:, ::2] += 0.1
    model = KnownTarget(RED)
    plain = run(image, model=model)
    half = run(image, options=replace(PLAIN, color_match=0.5), model=model)
    full = run(image, options=replace(PLAIN, color_match=1.0), model=model)
    inside = Box(32, 32, 64, 64)
    ring_mean = image.mean(dim=(1, 2))
    torch.testing.assert_close(inside.crop(full.image).mean(dim=(1, 2)), ring_mean, atol=5e-3, rtol=0)
    between = (inside.crop(plain.image) + inside.crop(full.image)) / 2
    torch.testing.assert_close(inside.crop(half.image), between, atol=1e-5, rtol=0)


def test_detail_color_match_keeps_matching_colors() -> None:
    random = torch.rand(1, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    result = run(random, options=replace(PLAIN, color_match=1.0), sampler=IdleSampler())
    assert (result.image - random).abs().mean() < 5e-3


def test_detail_color_match_without_ring_keeps_colors() -> None:
    options = replace(PLAIN, color_match=1.0)
    result = run(make_image(), torch.ones(1, SIZE, SIZE), options)
    torch.testing.assert_close(result.image, torch.full((1, SIZE, SIZE, 3), RED_PIXEL), atol=1e-5, rtol=0)


# Inputs.


def test_detail_without_regions_returns_image_and_black_crops() -> None:
    image = make_image()
    sampler = EulerSampler()
    dot = torch.zeros(1, SIZE, SIZE)
    dot[0, 5, 5] = 1
    for mask in (torch.zeros(1, SIZE, SIZE), dot):
        result = run(image, mask, replace(PLAIN, batch_size=2), sampler=sampler)
        assert torch.equal(result.image, image.expand(2, -1, -1, -1))
        assert [crop.shape for crop in result.crops] == [(1, 64, 64, 3)]
        assert [crop.shape for crop in result.alpha_crops] == [(1, 64, 64, 4)]
        assert result.crops[0].max() == result.alpha_crops[0].max() == 0
    assert sampler.runs == []


def test_detail_crops_in_region_order() -> None:
    """The earlier node sorted them by shape."""
    mask = torch.zeros(1, 200, 200)
    for x, y, side in ((10, 10, 20), (100, 20, 50), (20, 100, 30), (120, 120, 40)):
        mask[:, y : y + side, x : x + side] = 1
    result = run(make_image(200, 200), mask, replace(PLAIN, guide_size=32, max_size=96))
    regions = find_regions(mask, 2)
    assert len({region.crop_region.width for region in regions}) == 4
    assert [crop.shape[1] for crop in result.crops] == [region.crop_region.height for region in regions]
    for crop, alpha, region in zip(result.crops, result.alpha_crops, regions):
        assert torch.equal(crop, alpha[..., :3])
        assert torch.equal(alpha[..., 3], region.mask)


def test_detail_refuses_mask_batch_of_another_length() -> None:
    with pytest.raises(InputError, match="image is a batch of 3, and mask is a batch of 2"):
        run(make_image(batch=3), torch.ones(2, SIZE, SIZE))


def test_detail_applies_several_masks_in_order() -> None:
    """As if each mask were detailed on the result of the one before, with the seeds going on."""
    masks = torch.cat(
        [draw_squares((40, 40)), draw_squares((32, 32)), draw_squares((0, 0), (SIZE - 20, SIZE - 20), side=20)]
    )  # the first two overlap
    options = replace(PLAIN, steps=2, seed=7)
    together = run(make_image(), masks, options)
    image, crops, seed = make_image(), [], options.seed
    for mask in masks.split(1):
        result = run(image, mask, replace(options, seed=seed))
        image, seed = result.image, seed + len(result.crops)
        crops += result.crops
    assert torch.equal(together.image, image)
    assert len(together.crops) == len(crops) == 4
    assert all(torch.equal(one, other) for one, other in zip(together.crops, crops))


def test_detail_empty_mask_batch_returns_image(caplog: pytest.LogCaptureFixture) -> None:
    sampler, image = EulerSampler(), make_image(batch=2)
    with caplog.at_level(logging.INFO):
        result = run(image, torch.zeros(0, SIZE, SIZE), sampler=sampler)
    assert torch.equal(result.image, image) and sampler.runs == []
    assert [crop.shape for crop in result.crops] == [(1, 64, 64, 3)] * 2 and not torch.cat(result.crops).any()
    assert result.boxes == [[], []]
    assert "nothing is selected" in caplog.text


def test_detail_scales_mask_to_image(caplog: pytest.LogCaptureFixture) -> None:
    image = make_image(96, 192)
    small = draw_squares((16, 32), side=16, size=(48, 96))
    result = run(image, small, replace(PLAIN, mask_mode=False))
    changed = (result.image != image).any(dim=-1)[0]
    assert changed[64:95, 32:64].all()
    assert caplog.text == ""
    outside = changed.clone()
    outside[62:96, 30:66] = False
    assert not outside.any()


def test_detail_scales_mask_per_axis(caplog: pytest.LogCaptureFixture) -> None:
    image = make_image(96, 192)
    square = draw_squares((16, 32), side=16, size=(96, 96))
    with caplog.at_level(logging.WARNING):
        result = run(image, square, replace(PLAIN, mask_mode=False))
    changed = (result.image != image).any(dim=-1)[0]
    assert changed[33:47, 33:63].all()
    assert "96 x 96" in caplog.text and "192 x 96" in caplog.text
    outside = changed.clone()
    outside[31:49, 30:66] = False
    assert not outside.any()

    caplog.clear()
    run(image, torch.zeros(1, 64, 64))  # what LoadImage gives for an image without transparency
    assert caplog.text == ""


def test_detail_blends_soft_mask() -> None:
    image = make_image()
    result = run(image, MIDDLE * 0.5, replace(PLAIN, contour_fill=False, mask_mode=False))
    expected = torch.where(MIDDLE.unsqueeze(-1) > 0, (image + RED_PIXEL) / 2, image)
    torch.testing.assert_close(result.image, expected, atol=1e-5, rtol=0)


def test_detail_contour_fill() -> None:
    image, mask = make_image(), MIDDLE.clone()
    mask[:, 40:56, 40:56] = 0
    filled_result = run(image, mask)
    torch.testing.assert_close(
        filled_result.image[:, 32:64, 32:64], torch.full((1, 32, 32, 3), RED_PIXEL), atol=1e-5, rtol=0
    )
    hollow = run(image, mask, replace(PLAIN, contour_fill=False, mask_mode=False)).image
    assert torch.equal(hollow[:, 40:56, 40:56], image[:, 40:56, 40:56])
    assert not torch.equal(hollow[:, 32:40, 32:64], image[:, 32:40, 32:64])


@pytest.mark.parametrize("mask_size", [1, 2, 3])
def test_detail_tiny_masks_and_images(mask_size: int) -> None:
    options = replace(PLAIN, drop_size=1, color_match=0.5)
    for image in (make_image(), make_image(1, 1), make_image(1, 90)):
        result = run(image, torch.ones(1, mask_size, mask_size), options)
        if mask_size == 1:  # not above drop_size
            assert torch.equal(result.image, image)
        else:
            assert [crop.shape for crop in result.crops] == [image.shape]


def test_detail_max_size_limits_large_region() -> None:
    vae = SpaceToDepthVae()
    run(make_image(300, 500), torch.ones(1, 300, 500), replace(PLAIN, max_size=200), vae=vae)
    assert vae.encoded == [(1, 120, 200, 3)]


@pytest.mark.parametrize("feather", (0, 8))
def test_detail_feathers_mask_at_crop_edge(feather: int) -> None:
    image = torch.zeros(1, SIZE, SIZE, 3)
    result = run(image, options=replace(PLAIN, crop_factor=1, feather=feather, guide_size=32))
    across = result.image[0, 48, 28:68, 0]
    steps = (across[1:] - across[:-1]).abs().max()
    assert steps > 0.9 if feather == 0 else steps < 0.15
    assert across[20] > 0.9


def test_detail_does_not_feather_mask_at_image_edge() -> None:
    image = torch.zeros(1, SIZE, SIZE, 3)
    result = run(image, torch.ones(1, SIZE, SIZE), replace(PLAIN, feather=8))
    assert result.image.min() > 0.94


def make_wide_range_image(*size: int, channels: int = 3, batch: int = 1) -> torch.Tensor:
    """Values far outside 0..1 on both sides, as in upscaled or high dynamic range images."""
    random = torch.Generator().manual_seed(0)
    return torch.randn(batch, *(size or (SIZE, SIZE)), channels, generator=random) * 3


@pytest.mark.parametrize("options", [{}, {"feather": 6}, {"color_match": 0.7}, {"guide_size": 100}, {"batch_size": 2}])
@pytest.mark.parametrize("channels", [3, 4])
def test_detail_keeps_out_of_range_values_outside_blend(channels: int, options: dict) -> None:
    image, settings_ = make_wide_range_image(channels=channels, batch=2), replace(PLAIN, mask_mode=False, **options)
    before = image.clone()
    result = run(image, options=settings_)
    assert torch.equal(image, before), "changed in place"
    soft = blend_mask(image, MIDDLE, settings_)
    sources = image.repeat_interleave(settings_.batch_size, dim=0)
    untouched = (soft == 0).expand(len(sources), -1, -1)
    assert untouched.any() and torch.equal(result.image[untouched], sources[untouched])
    assert torch.equal(result.image[..., 3:], sources[..., 3:]), "alpha too"
    assert all(crop.min() >= 0 and crop.max() <= 1 for crop in result.crops)
    inside = (soft == 1).expand(len(sources), -1, -1)
    assert result.image[inside][..., :3].min() >= 0 and result.image[inside][..., :3].max() <= 1


def test_detail_samples_clamped_image() -> None:
    """A VAE takes 0..1."""
    image, encoder_inputs = make_wide_range_image(), []

    def note(work: str, values: torch.Tensor, tiled: bool) -> None:
        if work == "encode":
            encoder_inputs.append(values.clone())

    results = [
        run(each, options=replace(PLAIN, feather=4), model=SOFT_MODEL, vae=SpaceToDepthVae(trouble=note))
        for each in (image, image.clamp(0, 1))
    ]
    assert torch.equal(encoder_inputs[0], encoder_inputs[1])
    assert torch.equal(results[0].crops[0], results[1].crops[0])


def test_hook_post_paste_is_clamped_to_image_range() -> None:
    """It gets the whole image, whereas results of other hooks are clamped to 0..1."""

    class Looks:
        def post_paste(self, image):
            return image.clone()

    images = torch.cat([make_wide_range_image(), make_image()])
    outside = (MIDDLE == 0).expand(2, -1, -1)
    assert torch.equal(run(images, hook=Looks()).image[outside], images[outside])

    class Brightens:
        def post_paste(self, image):
            return image * 1e6

    bright = run(images, hook=Brightens()).image
    assert bright[0].max() == images[0].max() and bright[1].max() == 1, "clamped to the image's own range"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_detail_refuses_non_finite_image(value: float) -> None:
    with pytest.raises(InputError, match="image contains NaN or infinity in 3 of"):
        run(make_image().index_fill(1, torch.tensor([5]), value)[:, :6, :1])


FAINT_BLACK = torch.where(MIDDLE > 0, 1.0, 1 / 255)


@pytest.mark.parametrize(
    ("mask", "warned"),
    [
        (FAINT_BLACK, True),
        (torch.cat([MIDDLE, FAINT_BLACK]), True),
        (torch.full((1, SIZE, SIZE), 0.01), True),
        (MIDDLE, False),
        (torch.where(MIDDLE > 0, 1.0, 0.5 / 255), False),
        (torch.where(MIDDLE > 0, 1.0, 0.1), False),  # intended: a soft mask over the whole image
        (torch.ones(1, SIZE, SIZE), False),
        (torch.zeros(1, SIZE, SIZE), False),
    ],
)
def test_detail_warns_of_mask_with_faint_black(
    mask: torch.Tensor, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Saved workflows depend on selecting every pixel of at least 1/255, but users do not expect it."""
    result = run(make_image(batch=len(mask)), mask)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == warned
    if warned:
        assert "whole image" in messages[0] and "1/255" in messages[0] and "threshold the mask" in messages[0]
        assert result.boxes[-1] == [Box(0, 0, SIZE, SIZE)], "saved workflows keep their result"


def test_detail_does_not_round_to_8_bits() -> None:
    image = torch.full((1, SIZE, SIZE, 3), 0.5 + 1 / 1024)
    result = run(image, options=replace(PLAIN, guide_size=200), sampler=IdleSampler())
    torch.testing.assert_close(result.image, image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("work", ("encode", "decode"))
def test_detail_nan_from_vae_fails(work: str) -> None:
    class Broken(SpaceToDepthVae):
        def encode(self, image, tiled=False):
            return super().encode(image, tiled) * (np.nan if work == "encode" else 1)

        def decode(self, samples, tiled=False):
            return super().decode(samples, tiled) * (np.nan if work == "decode" else 1)

    with pytest.raises(PackError, match=f"VAE returned NaN or infinite values when it {work}d a crop.*full precision"):
        run(make_image(), vae=Broken())


def test_nan_from_the_sampler_is_an_error() -> None:
    with pytest.raises(PackError, match="sampler 'euler' returned NaN"):
        run(make_image(), model=KnownTarget(float("nan")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guide_size": 0}, "guide_size is 0"),
        ({"max_size": float("nan")}, "max_size is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"cfg": "8"}, "cfg is '8'"),
        ({"denoise": 0}, "denoise is 0"),
        ({"denoise": 1.5}, "denoise is 1.5"),
        ({"feather": -1}, "feather is -1"),
        ({"crop_factor": 0.5}, "crop_factor is 0.5"),
        ({"drop_size": 0}, "drop_size is 0"),
        ({"refiner_ratio": 2}, "refiner_ratio is 2"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"cycle": 0}, "cycle is 0"),
        ({"noise_mask_feather": None}, "noise_mask_feather is None"),
        ({"region_batch": 0}, "region_batch is 0"),
        ({"color_match": -0.5}, "color_match is -0.5"),
        ({"guide_size_for": "false"}, "guide_size_for is 'false'"),
        ({"mask_mode": "whole"}, "mask_mode is 'whole'"),
        ({"bbox_fill": "disabled"}, "bbox_fill is 'disabled'"),
        ({"guide_size": 10**400}, "guide_size is 1000.*which is too large"),
        ({"steps": 10**400}, "steps is 1000.*which is out of range"),
        ({"steps": 1e308}, r"steps is 1e\+308, which is out of range"),
        ({"batch_size": 2**63}, "batch_size is 9223372036854775808, which is out of range"),
        ({"cycle": 1e308}, r"cycle is 1e\+308, which is out of range"),
        ({"feather": 10**5000}, "feather is an int of about 5000 digits, which is too large"),
        ({"cfg": 10**400}, "cfg is 1000.*which is too large"),
        ({"sampler_name": 3}, "sampler_name is 3, which is not text"),
        ({"scheduler": None}, "scheduler is None, which is not text"),
        ({"region_prompts": "abc"}, "region_prompts is 'abc', which is not a list of texts"),
        ({"region_prompts": None}, "region_prompts is None, which is not a list of texts"),
        ({"region_prompts": ("a", 3)}, r"region_prompts\[1\] is 3, which is not text"),
    ],
)
def test_settings_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DetailerSettings(**options)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")], ids=repr)
def test_detail_out_of_memory_names_batch_size(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(torch.Tensor, "repeat_interleave", fail)
    with pytest.raises(PackError, match=r"memory for 500 images of 64 x 48\. Lower batch_size, which is 500") as caught:
        run(torch.rand(1, 48, 64, 3), torch.ones(1, 48, 64), DetailerSettings(batch_size=500))
    assert caught.value.__cause__ is error


def test_settings_convert_whole_floats() -> None:
    options = DetailerSettings(guide_size=512, steps=20.0, seed=2**64 - 1)
    assert (options.guide_size, options.steps, options.seed) == (512.0, 20, 2**64 - 1)
    assert isinstance(options.steps, int)


@pytest.mark.parametrize("inpaint_model", (False, True))
@pytest.mark.parametrize("sampler", (IdleSampler, EulerSampler))
def test_detail_on_device_returns_image_to_cpu(
    cuda: torch.device, sampler: type[EulerSampler], inpaint_model: bool
) -> None:
    class LatentsOnTheCpu(SpaceToDepthVae):  # as ComfyUI's
        def encode(self, image: torch.Tensor, tiled: bool = False) -> torch.Tensor:
            return super().encode(image.cpu(), tiled)

    image = make_image()
    options = replace(PLAIN, guide_size=200, feather=5, noise_mask_feather=9, inpaint_model=inpaint_model)
    there = run(image, options=options, sampler=sampler(), vae=LatentsOnTheCpu(), device=cuda)
    here = run(image, options=options, sampler=sampler())
    assert there.image.device == there.crops[0].device == image.device
    torch.testing.assert_close(there.image, here.image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("skip", (False, True))
@pytest.mark.parametrize("method", ("post_upscale", "post_decode"))
def test_hook_pixels_from_another_device(cuda: torch.device, method: str, skip: bool) -> None:
    """Hooks that work with NumPy return CPU tensors."""

    class Hook:
        def get_skip_sampling(self):
            return skip

    setattr(Hook, method, lambda self, pixels, *mask: pixels.cpu() * 0.5)
    image, options = make_image(), replace(PLAIN, color_match=0.5, feather=5)
    there, here = (
        run(image, options=options, sampler=IdleSampler(), hook=Hook(), device=device) for device in (cuda, None)
    )
    torch.testing.assert_close(there.image, here.image, atol=1e-5, rtol=0)


def test_detail_calls_on_region_with_image_and_boxes() -> None:
    """Before each batch of regions: the image as refined so far, its boxes, and the number of the first."""
    image = make_image(batch=2)
    mask = torch.cat([draw_squares((0, 0), (64, 64)), MIDDLE])
    calls: list[tuple[float, list[tuple[int, ...]], int]] = []

    def record(preview: torch.Tensor, boxes: list[Box], current: int) -> None:
        calls.append(
            ((preview - image[int(len(boxes) == 1)]).abs().sum().item(), [tuple(box) for box in boxes], current)
        )

    options = replace(PLAIN, region_batch=1, batch_size=1)
    backend = Backend(EulerSampler(), SpaceToDepthVae())
    result = detail(image, mask, Pipe(RED_MODEL, "positive", "negative"), backend, options, on_region=record)
    assert [current for _, _, current in calls] == [0, 1, 0]
    assert [boxes for _, boxes, _ in calls] == [[tuple(box) for box in boxes] for boxes in result.boxes for _ in boxes]
    assert [len(boxes) for boxes in result.boxes] == [2, 1]
    assert calls[0][0] == 0 and calls[1][0] > 1 and calls[2][0] == 0
