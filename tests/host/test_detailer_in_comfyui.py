"""MaskDetailerPipe in a real ComfyUI, with models whose right answers are known."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from pathlib import Path

import comfyui
import numpy as np
import pytest
import run_workflow
import torch
import torch.nn.functional as F
from detailer_prompts import LATENT_SCALE, Detailer, squares, wave_image
from PIL import Image
from workflow.engine_interface import NodeFailed, WorkflowError
from workflow.read_workflow import read_workflow
from workflow.to_prompt import to_prompt
from workflow_cases import SharedServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def detailer(server: comfyui.Server) -> Detailer:
    return Detailer(server)


IMAGE = wave_image()
ONE = squares(IMAGE, (64, 32))
CROP = (slice(None), slice(32, 96), slice(64, 128))  # what is selected, and with crop_factor 1 the crop as well
DEFAULTS = {"guide_size": 64, "noise_mask_feather": 0}  # no enlarging


def encode_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """What SD 1.5's model sees of pixels ``[1,H,W,3]`` through the VAE that loses nothing."""
    return F.pixel_unshuffle(pixels.permute(0, 3, 1, 2) * 2 - 1, 8) * LATENT_SCALE


def pixels(samples: torch.Tensor) -> torch.Tensor:
    return (F.pixel_shuffle(samples / LATENT_SCALE, 8).permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1)


def make_noise(seed: int) -> torch.Tensor:
    return torch.randn(1, 192, 8, 8, generator=torch.Generator().manual_seed(seed))


def follow_flow(x: torch.Tensor, level: float, spread: float, sigma: float, end: float = 0.0, flow: bool = False):
    """Where the probability flow takes ``x`` from ``sigma`` to ``end`` for x0 ~ N(level, spread^2): its distance from
    the mean grows and shrinks with the deviation of x at each level."""
    mean = (level * 2 - 1) * LATENT_SCALE
    share = (lambda s: 1 - s) if flow else (lambda s: 1.0)
    deviation = lambda s: math.sqrt(spread**2 * share(s) ** 2 + s**2)  # noqa: E731
    return share(end) * mean + (x - share(sigma) * mean) * deviation(end) / deviation(sigma)


def add_noise(clean: torch.Tensor, seed: int, sigma: float, flow: bool = False) -> torch.Tensor:
    return (1 - sigma) * clean + sigma * make_noise(seed) if flow else clean + sigma * make_noise(seed)


# -- the right image


def test_detailer_with_each_sampler_and_scheduler(detailer: Detailer) -> None:
    inputs = detailer.server.object_info()["MaskDetailerPipe"]["input"]["required"]
    samplers, schedulers = ([*inputs[name][0]] for name in ("sampler_name", "scheduler"))
    assert {"euler", "dpmpp_2m", "dpmpp_sde_gpu", "ddim", "uni_pc"} <= {*samplers}
    assert schedulers[-8:] == [
        "AYS SDXL", "AYS SD1", "AYS SVD", "GITS[coeff=1.2]", "LTXV[default]", "OSS FLUX", "OSS Wan", "OSS Chroma",
    ]  # fmt: skip
    for sampler_name, scheduler in [*((s, "normal") for s in samplers), *(("euler", s) for s in schedulers)]:
        result = detailer(
            IMAGE, ONE, model={"level": 0.25}, **DEFAULTS, sampler_name=sampler_name, scheduler=scheduler, denoise=0.8
        )
        what = f"{sampler_name}, {scheduler}"
        torch.testing.assert_close(result.image[CROP], torch.full((1, 64, 64, 3), 0.25), atol=2e-3, rtol=0, msg=what)
        assert torch.equal(result.image[:, :32], IMAGE[:, :32]), what


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m"])
@pytest.mark.parametrize("denoise", [0.3, 0.6, 1.0])
def test_detailer_matches_probability_flow(detailer: Detailer, kind: str, sampler_name: str, denoise: float) -> None:
    steps = 60 if sampler_name == "dpmpp_2m" else 200  # Euler's method needs more for the same error
    options = {"sampler_name": sampler_name, "scheduler": "karras", "denoise": denoise, "steps": steps}
    level, spread = 0.6, 0.1
    model = {"kind": kind, "level": level, "spread": spread}
    result = detailer(IMAGE, ONE, model=model, **DEFAULTS, **options)
    first = result.calls[0][1]
    x = add_noise(encode_pixels(IMAGE[CROP]), 7, first, kind == "flow")
    right = pixels(follow_flow(x, level, spread, first, flow=kind == "flow"))
    assert (result.image[CROP] - right).abs().mean() < 4 / 255
    if denoise < 1:
        assert (IMAGE[CROP] - right).abs().mean() > 8 / 255  # or this would say nothing
    assert torch.equal(result.image[:, :32], IMAGE[:, :32])


@pytest.mark.parametrize("sampler_name", ["euler_ancestral", "dpmpp_2m_sde", "lcm"])
def test_detailer_stochastic_samplers_are_reproducible(detailer: Detailer, sampler_name: str) -> None:
    options = {**DEFAULTS, "model": {"spread": 0.1}, "sampler_name": sampler_name, "denoise": 0.6}
    one, again, other = (detailer(IMAGE, ONE, **options, seed=seed).image for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_detailer_cycles_continue_from_previous_result(detailer: Detailer) -> None:
    options = {
        **DEFAULTS,
        "model": {"level": 0.6, "spread": 0.1},
        "steps": 40,
        "denoise": 0.3,
        "sampler_name": "dpmpp_2m",
    }
    result = detailer(IMAGE, ONE, **options, cycle=3)
    x = encode_pixels(IMAGE[CROP])
    for seed in (7, 8, 9):
        x = follow_flow(add_noise(x, seed, result.calls[0][1]), 0.6, 0.1, result.calls[0][1])
    assert (result.image[CROP] - pixels(x)).abs().mean() < 4 / 255
    assert len(result.calls) == 120


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_detailer_refiner_continues_from_remaining_noise(detailer: Detailer, kind: str) -> None:
    flow = kind == "flow"
    base, second = {"level": 0.8, "spread": 0.05}, {"level": 0.2, "spread": 0.12}
    result = detailer(
        IMAGE, ONE, **DEFAULTS, model={"kind": kind, **base}, refiner={"kind": kind, **second}, steps=160, denoise=0.7,
        refiner_ratio=0.75, scheduler="karras",
    )  # fmt: skip
    alone = detailer(IMAGE, ONE, **DEFAULTS, model={"kind": kind, **base}, steps=160, denoise=0.7, scheduler="karras")
    assert len(result.calls) == 40 and len(alone.calls) == 160
    first, switch = alone.calls[0][1], alone.calls[40][1]
    x = follow_flow(add_noise(encode_pixels(IMAGE[CROP]), 7, first, flow), 0.8, 0.05, first, switch, flow)
    right = pixels(follow_flow(x, 0.2, 0.12, switch, flow=flow))
    assert (result.image[CROP] - right).abs().mean() < 4 / 255
    assert (alone.image[CROP] - right).abs().mean() > 8 / 255


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("noise_mask_feather", [0, 20])
@pytest.mark.parametrize("sampler_name", ["euler", "euler_ancestral", "dpmpp_sde"])
def test_detailer_refiner_equal_to_model_changes_nothing(
    detailer: Detailer, kind: str, noise_mask_feather: int, sampler_name: str
) -> None:
    """With samplers that do not remember earlier steps: they begin without any at the refiner's first. Along a blurred
    mask too: what lies on both sides of it is always at one noise level."""
    model = {"kind": kind, "spread": 0.1}
    options = {**DEFAULTS, "crop_factor": 2.0, "steps": 6, "denoise": 0.6, "sampler_name": sampler_name}
    options |= {"noise_mask_feather": noise_mask_feather, "model": model}
    alone = detailer(IMAGE, ONE, **options)
    for refiner_ratio in (0.4, 1.0):
        result = detailer(IMAGE, ONE, **options, refiner=model, refiner_ratio=refiner_ratio)
        torch.testing.assert_close(result.image, alone.image, atol=1e-4, rtol=0)


def test_detailer_ignores_refiner_pipe_with_only_a_vae(detailer: Detailer) -> None:
    alone = detailer(IMAGE, ONE, **DEFAULTS, model={"spread": 0.1})
    options = {"refiner": {"level": 0.9}, "spoil_refiner": "model clip positive negative"}
    assert torch.equal(detailer(IMAGE, ONE, **DEFAULTS, model={"spread": 0.1}, **options).image, alone.image)


def test_detailer_applies_differential_diffusion_once(detailer: Detailer) -> None:
    options = {**DEFAULTS, "model": {"spread": 0.1}, "crop_factor": 2.0, "steps": 8}
    hard, soft = (detailer(IMAGE, ONE, **options | {"noise_mask_feather": n}).image for n in (0, 20))
    assert (hard - soft).abs().max() > 2 / 255
    had_it = detailer(IMAGE, ONE, **options | {"noise_mask_feather": 20}, soften=True).image
    assert torch.equal(soft, had_it)
    for image in (hard, soft):
        assert torch.equal(image[:, :32], IMAGE[:, :32])


def test_detailer_inpainting_model_gets_image_around_mask(detailer: Detailer) -> None:
    model = {"kind": "inpaint", "level": 0.3}
    result = detailer(IMAGE, ONE, **DEFAULTS, model=model, inpaint_model=True)
    assert all(call[3] for call in result.calls)
    torch.testing.assert_close(result.image[CROP], torch.full((1, 64, 64, 3), 0.3), atol=2e-3, rtol=0)


def test_detailer_negative_placeholder(detailer: Detailer) -> None:
    options = {**DEFAULTS, "model": {"level": 0.25}, "cfg": 3.5}
    result = detailer(IMAGE, ONE, **options, negative=-1)
    torch.testing.assert_close(result.image[CROP], torch.full((1, 64, 64, 3), 0.25), atol=2e-3, rtol=0)
    assert {call[0] for call in result.calls} == {1}  # nothing negative is computed
    inpaint_result = detailer(IMAGE, ONE, **options | {"model": {"kind": "inpaint"}}, negative=-1, inpaint_model=True)
    assert {tuple(call[::3]) for call in inpaint_result.calls} == {(1, True)}


@pytest.mark.parametrize("ratio", [4, 8, 16, 32])
def test_detailer_fits_size_to_vae_ratio(detailer: Detailer, ratio: int) -> None:
    image = wave_image(131, 155)
    model, vae = {"level": 0.25, "channels": 3 * ratio**2}, {"ratio": ratio}
    mask = squares(image, (61, 23), side=67)
    result = detailer(image, mask, **DEFAULTS | {"crop_factor": 1.7}, model=model, vae=vae)
    assert result.image.shape == image.shape
    # Where a latent's pixel is only partly masked, the image is only partly changed.
    inside = result.image[:, 23 + ratio : 90 - ratio, 61 + ratio : 128 - ratio]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.25), atol=2e-3, rtol=0)
    assert torch.equal(result.image[mask == 0], image[mask == 0])


def test_detailer_with_comfyui_unet(detailer: Detailer) -> None:
    options = {**DEFAULTS, "guide_size": 128, "vae": {"kind": "means"}, "cfg": 4.0}
    plain, unet = (
        detailer(IMAGE, ONE, **options, model={"channels": 4, "spread": 0.1, "unet": share}) for share in (0.0, 0.1)
    )
    assert 1 / 255 < (plain.image[CROP] - unet.image[CROP]).abs().mean() < 0.2
    assert {call[0] for call in unet.calls} == {2}  # both prompts in one batch


# -- batches of regions


WIDE = wave_image(144, 304)
FOUR = squares(WIDE, (0, 0), (72, 0), (240, 0), (72, 72))


@pytest.mark.parametrize("sampler_name", ["euler", "dpmpp_2m", "lms", "uni_pc", "dpm_fast", "gradient_estimation"])
def test_detailer_region_batch_keeps_result(detailer: Detailer, sampler_name: str) -> None:
    model = {"channels": 4, "spread": 0.1, "unet": 0.1}
    options = {**DEFAULTS, "vae": {"kind": "means"}, "model": model, "cfg": 4.0, "sampler_name": sampler_name}
    one, all_ = (detailer(WIDE, FOUR, **options, region_batch=n) for n in (1, 4))
    assert max(call[0] for call in all_.calls) == 4 * max(call[0] for call in one.calls)
    assert len(all_.calls) * 4 == len(one.calls)
    torch.testing.assert_close(all_.image, one.image, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sampler_name", ["euler_ancestral", "dpmpp_sde", "dpm_adaptive", "ddim", "lcm", "sa_solver"])
def test_detailer_does_not_batch_with_dependent_rows(detailer: Detailer, sampler_name: str) -> None:
    result = detailer(WIDE, FOUR, **DEFAULTS, sampler_name=sampler_name, region_batch=4)
    assert {call[0] for call in result.calls} == {1}


def test_detailer_inpainting_model_with_region_batch(detailer: Detailer) -> None:
    model = {"kind": "inpaint", "channels": 4, "spread": 0.1, "unet": 0.2}
    options = {**DEFAULTS, "vae": {"kind": "means"}, "model": model, "inpaint_model": True}
    one, all_ = (detailer(WIDE, FOUR, **options, region_batch=n) for n in (1, 4))
    assert {call[0] for call in all_.calls} == {4}
    torch.testing.assert_close(all_.image, one.image, atol=1e-4, rtol=0)


def test_detailer_region_prompts(detailer: Detailer) -> None:
    # The first region is the lowest: regions come in the order in which contours are found.
    result = detailer(WIDE, FOUR, **DEFAULTS, region_prompts="four\n\n  \nlonger text", steps=1)
    assert sorted(call[2] for call in result.calls) == [8, 8 + len("four"), 8 + len("longer text")]
    assert sum(call[0] for call in result.calls) == 4


# -- what is around it


def test_detailer_image_batch_and_versions(detailer: Detailer) -> None:
    images = torch.cat([IMAGE, 1 - IMAGE])
    options = {**DEFAULTS, "model": {"spread": 0.1}}
    result = detailer(images, ONE, **options, batch_size=2)
    assert len(result.image) == len(result.crops) == len(result.alphas) == 4
    for number, (image, seed) in enumerate([(IMAGE, 7), (IMAGE, 8), (1 - IMAGE, 7), (1 - IMAGE, 8)]):
        single = detailer(image, ONE, **options, seed=seed)
        torch.testing.assert_close(result.image[number : number + 1], single.image, atol=1e-5, rtol=0)
        torch.testing.assert_close(result.crops[number], single.crops[0], atol=1e-5, rtol=0)
    assert result.pipe == [["ModelPatcher", "Clip", "VAE", "list", "list"]]
    assert result.refiner == [True]


def test_detailer_empty_mask_changes_nothing(detailer: Detailer) -> None:
    result = detailer(IMAGE, torch.zeros_like(ONE), **DEFAULTS)
    assert torch.equal(result.image, IMAGE)
    assert [crop.shape for crop in (*result.crops, *result.alphas)] == [(1, 64, 64, 3), (1, 64, 64, 4)]
    assert result.calls == []


@pytest.mark.parametrize("inpaint", [False, True])
def test_detailer_keeps_alpha(detailer: Detailer, inpaint: bool) -> None:
    alpha = torch.linspace(0, 1, IMAGE.shape[2]).expand(IMAGE.shape[:3])
    options = {**DEFAULTS, "model": {"kind": "inpaint" if inpaint else "eps", "spread": 0.1}, "inpaint_model": inpaint}
    result = detailer(torch.cat([IMAGE, alpha.unsqueeze(-1)], dim=-1), ONE, **options)
    assert torch.equal(result.image[..., 3], alpha)
    assert torch.equal(result.image[..., :3], detailer(IMAGE, ONE, **options).image)
    assert [crop.shape[-1] for crop in (*result.crops, *result.alphas)] == [3, 4]


def test_detailer_noise_mask_feather_defaults_to_0_in_prompts(detailer: Detailer) -> None:
    options = {"guide_size": 64, "model": {"spread": 0.1}, "crop_factor": 2.0}
    left_out, none = (detailer(IMAGE, ONE, **options, **more).image for more in ({}, {"noise_mask_feather": 0}))
    assert torch.equal(left_out, none)


def test_detailer_progress_and_previews(detailer: Detailer) -> None:
    mask = FOUR.clone()
    mask[:, 80:140, 0:48] = 1  # of another size
    options = {**DEFAULTS, "vae": {"kind": "means"}, "steps": 6, "cycle": 2, "region_batch": 4}
    model = {"channels": 4}
    result = detailer(WIDE, mask, **options, model=model, refiner=model)
    values = [value for value, _, _ in result.progress]
    assert {total for _, total, _ in result.progress} == {5 * 2 * 6}
    assert values == sorted(values) and values[-1] == 60
    assert sum(preview for _, _, preview in result.progress) >= 2 * 2 * 6


def test_detailer_stops_on_interrupt(detailer: Detailer) -> None:
    prompt, name = detailer.prompt(IMAGE, ONE, **DEFAULTS, model={"delay": 0.1}, steps=600)
    timer = threading.Timer(1.5, detailer.server.interrupt)
    timer.start()
    start = time.monotonic()
    with pytest.raises(NodeFailed, match="interrupted"):
        detailer.server.queue(prompt)
    assert time.monotonic() - start < 20
    assert not (detailer.server.base / "output" / name).exists()
    assert torch.equal(detailer(IMAGE, torch.zeros_like(ONE), **DEFAULTS).image, IMAGE)  # and the next one runs


def test_detailer_hook_call_order(detailer: Detailer) -> None:
    mask = squares(IMAGE, (0, 0), (72, 64))
    result = detailer(IMAGE, mask, **DEFAULTS, model={"spread": 0.1}, hook="", cycle=2, seed=2**64 - 1)
    pixels_, samples, image = [1, 64, 64, 3], [1, 192, 8, 8], [1, 128, 192, 3]
    expected = []
    for region in range(2):
        expected += [
            ["touch_scaled_size", 64, 64],
            ["post_upscale", pixels_, [1, 64, 64]],
            ["get_skip_sampling"],
            ["post_encode", samples],
            ["get_custom_sampler"],
        ]
        for cycle in range(2):
            seed = (2**64 - 1 + region + cycle) % 2**64
            expected += [
                ["set_steps", [cycle, 2]],
                ["cycle_latent", samples],
                ["pre_ksample", seed, 4, 1.0, "euler", "normal", samples, 0.5],
                ["get_custom_noise", seed, samples, False],
            ]
        expected += [["pre_decode", samples], ["post_decode", pixels_], ["post_paste", image]]
    assert result.hook == expected
    assert {call[0] for call in result.calls} == {1}


def test_detailer_hook_sampler_noise_and_size(detailer: Detailer) -> None:
    options = {**DEFAULTS, "model": {"level": 0.25, "spread": 0.1}, "steps": 4}
    usual = detailer(IMAGE, ONE, **options)
    heun = detailer(IMAGE, ONE, **options, hook="sampler")
    assert len(heun.calls) == 2 * 4 - 1
    assert torch.equal(heun.image, detailer(IMAGE, ONE, **options, sampler_name="heun").image)
    noise = detailer(IMAGE, ONE, **options, hook="noise")
    assert (noise.image - usual.image).abs().max() > 2 / 255
    size = detailer(IMAGE, ONE, **options, hook="size")
    assert ["post_encode", [1, 192, 10, 8]] in size.hook
    assert detailer(IMAGE, ONE, **options, hook="skip").calls == []
    refined_result = detailer(IMAGE, ONE, **options, hook="sampler", refiner=options["model"])
    torch.testing.assert_close(refined_result.image, heun.image, atol=1e-4, rtol=0)


def test_detailer_scheduler_function(detailer: Detailer) -> None:
    result = detailer(IMAGE, ONE, **DEFAULTS, levels="straight", steps=4, denoise=0.4)
    assert [round(call[1], 3) for call in result.calls] == [4, 3, 2, 1]


def test_detailer_large_crops_use_tiled_vae(detailer: Detailer) -> None:
    image = wave_image(600, 640)
    mask = squares(image, (8, 8), side=584)
    options = {**DEFAULTS, "vae": {"trouble": "large"}, "model": {"level": 0.25}, "steps": 1}
    for tiled_vae in (False, True):
        result = detailer(image, mask, **options, tiled_vae=tiled_vae)
        torch.testing.assert_close(result.image[:, 8:592, 8:592], torch.full((1, 584, 584, 3), 0.25), atol=2e-3, rtol=0)


# -- saved files


def test_detailer_example_workflow(server: comfyui.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is in the file, but for the models: the tests' checkpoint, and the demo model with its image."""
    pytest.importorskip("comfy_cli")
    workflow = json.loads((ROOT / "example_workflows" / "detail_masked_regions.json").read_text(encoding="utf-8"))
    nodes = {node["type"]: node for node in workflow["nodes"]}
    nodes["CheckpointLoaderSimple"].update(type="FixtureCheckpoint", widgets_values=[])
    nodes["LoadImage"]["widgets_values"] = ["shapes.png", "image"]
    nodes["CLIPSegModelLoader"]["widgets_values"] = ["demo: coloured shapes (bundled)"]
    nodes["CLIPSeg"]["widgets_values"][0] = "red star"
    (tmp_path / "example.json").write_text(json.dumps(workflow), encoding="utf-8")
    shapes = ROOT / "example_workflows" / "assets" / "shapes.png"
    monkeypatch.setattr(run_workflow, "Server", lambda *_, **__: SharedServer(server))
    command = [str(tmp_path / "example.json"), "--engine", "comfyui", "--output", str(tmp_path / "out")]
    assert run_workflow.main([*command, "--input", str(shapes)]) == 0
    before = np.array(Image.open(shapes).convert("RGB")).astype(int)
    after = np.array(Image.open(tmp_path / "out" / "detail_masked_regions_00001_.png")).astype(int)
    changed = np.abs(after - before).max(axis=-1) > 1
    assert 0.002 < changed.mean() < 0.2
    assert before[changed].std() > 20 + after[changed].std()  # it was colored, and is nearly gray
    assert (tmp_path / "out" / "detail_masked_regions_crop_00001_.png").exists()


@pytest.mark.parametrize(
    "values",
    [
        [512, True, 1024, True, 1003, "fixed", 20, 8, "euler", "normal", 0.75, 5, 3, 10, 0.2, 1, 1, False, 20, False,
         False],
        [512, True, 1024, True, 0, "randomize", 20, 8, "euler", "normal", 0.5, 5, 3, 10, 0.2, 1, 1, False, 20, False,
         True],
        [384, False, 768, True, 5, "fixed", 12, 7.5, "dpmpp_2m", "karras", 0.4, 5, 3, 10, 0.2, 1],
    ],
    ids=["all of them", "randomize", "an older file"],
)  # fmt: skip
def test_detailer_widgets_by_position(server: comfyui.Server, tmp_path: Path, values: list) -> None:
    pytest.importorskip("comfy_cli")
    workflow = json.loads((ROOT / "example_workflows" / "detail_masked_regions.json").read_text(encoding="utf-8"))
    node = next(node for node in workflow["nodes"] if node["type"] == "MaskDetailerPipe")
    node["widgets_values"] = values
    (tmp_path / "saved.json").write_text(json.dumps(workflow), encoding="utf-8")
    prompt = to_prompt(read_workflow(tmp_path / "saved.json"), server.object_info(), server.unknown)
    names = [
        "guide_size", "guide_size_for", "max_size", "mask_mode", "seed", None, "steps", "cfg", "sampler_name",
        "scheduler", "denoise", "feather", "crop_factor", "drop_size", "refiner_ratio", "batch_size", "cycle",
        "inpaint_model", "noise_mask_feather", "bbox_fill", "contour_fill",
    ]  # fmt: skip
    inputs = prompt[str(node["id"])]["inputs"]
    for name, value in zip(names, values):
        if name not in (None, "seed") or (name == "seed" and "fixed" in values):
            assert inputs[name] == value, name


def test_basic_pipe_nodes_build_edit_and_split(server: comfyui.Server) -> None:
    prompt = {
        "all": {"class_type": "FixtureCheckpoint", "inputs": {}},
        "one": {"class_type": "FixtureConditioning", "inputs": {"seed": 0}},
        "two": {"class_type": "FixtureConditioning", "inputs": {"seed": -1}},
    }
    parts = {"model": ["all", 0], "clip": ["all", 1], "vae": ["all", 2], "positive": ["one", 0], "negative": ["one", 0]}
    prompt["pipe"] = {"class_type": "ToBasicPipe", "inputs": parts}
    edit_inputs = {"basic_pipe": ["pipe", 0], "negative": ["two", 0]}
    prompt["edited"] = {"class_type": "EditBasicPipe", "inputs": edit_inputs}
    prompt["apart"] = {"class_type": "FromBasicPipe", "inputs": {"basic_pipe": ["edited", 0]}}
    again = {name: ["apart", slot] for slot, name in enumerate(parts)}
    prompt["again"] = {"class_type": "ToBasicPipe", "inputs": again}
    for number, source in enumerate(("pipe", "edited", "again")):
        inputs = {"name": f"pipe{number}.npz", "basic_pipe": [source, 0]}
        prompt[f"save{number}"] = {"class_type": "FixtureSave", "inputs": inputs}
    server.queue(prompt)
    kinds = []
    for number in range(3):
        with np.load(server.base / "output" / f"pipe{number}.npz") as arrays:
            kinds += json.loads(str(arrays["record"]))["pipe"]
    assert kinds[0] == ["ModelPatcher", "Clip", "VAE", "list", "list"]
    assert kinds[1] == kinds[2] == ["ModelPatcher", "Clip", "VAE", "list", "str"]


# -- what cannot be done


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spoil": "short"}, "basic_pipe has 4 parts, not the 5"),
        ({"spoil": "vae"}, "basic_pipe is missing vae"),
        ({"spoil": "model negative"}, "basic_pipe is missing model, negative"),
        ({"spoil": "clip", "region_prompts": "a cat"}, "region_prompts has text, but the pipe has no CLIP"),
        ({"refiner": {}, "spoil_refiner": "negative"}, r"refiner pipe \(refiner_basic_pipe_opt\) is missing negative"),
        ({"vae": {"trouble": "nan"}}, "The VAE returned NaN .* when it decoded"),
        ({"vae": {"trouble": "encode"}}, "The VAE ran out of memory, even in tiles"),
        ({"hook": "fails"}, "The detailer hook RecordingHook.pre_ksample failed: ValueError: on purpose"),
        ({"hook": "sampler_name"}, r"sampler \(sampler_name\) is 'unknown'"),
        ({"levels": "nothing"}, r"scheduler func \(scheduler_func_opt\) returned None"),
    ],
)
def test_detailer_error_messages(detailer: Detailer, options: dict, message: str) -> None:
    with pytest.raises(NodeFailed, match=message) as caught:
        detailer(IMAGE, ONE, **DEFAULTS, **options)
    assert "MaskDetailerPipe" in str(caught.value)


def test_detailer_names_unequal_batch_sizes(detailer: Detailer) -> None:
    with pytest.raises(NodeFailed, match="3.*2|2.*3"):
        detailer(wave_image(count=3), ONE.expand(2, -1, -1).clone(), **DEFAULTS)


def test_detailer_without_clip(detailer: Detailer) -> None:
    with_, without = (detailer(IMAGE, ONE, **DEFAULTS, spoil=spoil).image for spoil in ("", "clip"))
    assert torch.equal(with_, without)


@pytest.mark.parametrize(("widget", "value"), [("sampler_name", "unknown"), ("scheduler", "unknown"), ("steps", 0)])
def test_detailer_names_invalid_widget(detailer: Detailer, widget: str, value: object) -> None:
    with pytest.raises(WorkflowError, match=re.escape(widget)):
        detailer(IMAGE, ONE, **{**DEFAULTS, widget: value})
