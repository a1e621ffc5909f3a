"""MaskDetailerPipe against the node it replaces, the Impact Pack's, where that is installed in the ComfyUI found.

For one region that needs no other size than the earlier node takes, the same seed gives the same image but for the
earlier node's 8 bits. ``IMPACT_PACK_PATH`` names the pack's folder where it lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import comfyui
import pytest
import torch
from detailer_prompts import Detailer, impact_pack, squares, wave_image

IMAGE = wave_image()
MASK = squares(IMAGE, (64, 32))
# No blur that reaches the edge of the crop, where this node blends and the earlier one does not.
OPTIONS = {"crop_factor": 1.5, "feather": 5, "noise_mask_feather": 0, "denoise": 0.6, "steps": 6, "scheduler": "karras"}


@pytest.fixture(scope="module")
def detailer(found: comfyui.ComfyUI) -> Iterator[Detailer]:
    pack = impact_pack(found)
    if pack is None:
        pytest.skip("the Impact Pack is not installed in the ComfyUI found, and IMPACT_PACK_PATH is not set")
    with comfyui.Server(found, packs=[Path(__file__).parent / "fixture_nodes", pack]) as server:
        yield Detailer(server)


def check_against_impact(detailer: Detailer, image: torch.Tensor = IMAGE, **options: object) -> None:
    options = {"model": {"spread": 0.1}, **OPTIONS, **options}
    theirs, ours = (detailer(image, MASK, whose=whose, **options) for whose in ("Impact", "Maskwright"))
    difference = (ours.image - theirs.image).abs()
    assert difference.max() <= 6 / 255
    assert difference.mean() <= 1.5 / 255
    assert (ours.image - image).abs().mean() > 4 / 255  # and something was done
    assert [crop.shape for crop in ours.crops] == [crop.shape for crop in theirs.crops]
    # Levels, prompts and images that the model was given, in order; dpm_adaptive chooses levels by what it sees.
    assert [call[2:] for call in ours.calls] == [call[2:] for call in theirs.calls]
    levels = (torch.tensor([call[1] for call in each.calls]) for each in (ours, theirs))
    torch.testing.assert_close(*levels, rtol=0.01, atol=1e-4)


def test_both_packs_in_one_workflow(detailer: Detailer) -> None:
    info = detailer.server.object_info()
    for name in ("MaskDetailerPipe", "ToBasicPipe", "FromBasicPipe", "EditBasicPipe"):
        assert "impact" in info[name]["python_module"].lower(), name
        assert info[f"{name} (Maskwright)"]["python_module"].endswith(comfyui.LINK_NAME)
    assert info["CLIPSeg"]["python_module"].endswith(comfyui.LINK_NAME)
    result = detailer(IMAGE, MASK, node="MaskDetailerPipe (Maskwright)", **OPTIONS)  # its pipe is the other pack's
    ours = detailer(IMAGE, MASK, whose="Maskwright", **OPTIONS)
    assert torch.equal(result.image, ours.image)


def test_detailer_matches_impact_for_samplers(detailer: Detailer) -> None:
    """Those that draw noise on the way, too."""
    for sampler_name in detailer.server.object_info()["KSampler"]["input"]["required"]["sampler_name"][0]:
        check_against_impact(detailer, sampler_name=sampler_name)


def test_detailer_matches_impact_for_schedulers(detailer: Detailer) -> None:
    for scheduler in detailer.server.object_info()["KSampler"]["input"]["required"]["scheduler"][0]:
        check_against_impact(detailer, scheduler=scheduler)


@pytest.mark.parametrize(
    "options",
    [
        {"vae": {"kind": "means"}, "model": {"channels": 4, "spread": 0.1, "unet": 0.1}, "cfg": 5.0},
        {"model": {"kind": "flow", "spread": 0.1}},
        {"noise_mask_feather": 20, "crop_factor": 2.0},
        {"inpaint_model": True, "model": {"kind": "inpaint", "spread": 0.1}},
        {"cycle": 3},
        {"guide_size": 128},
        {"mask_mode": False},
        {"refiner": {"level": 0.8, "spread": 0.1}},
        {"denoise": 1.0},
        {"seed": 2**64 - 1},
        {"levels": "straight", "denoise": 0.3},
    ],
    ids=str,
)
def test_detailer_matches_impact_for_options(detailer: Detailer, options: dict) -> None:
    check_against_impact(detailer, **options)
