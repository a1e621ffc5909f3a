"""The demo models do what they are for, on scenes they were not trained on, through the nodes that users run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from demo_models import HELD_OUT, overlap_of, salient_scenes, shape_scenes
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.models import background_store, clipseg_loader
from pack import ROOT

SCENES = range(HELD_OUT, HELD_OUT + 20)


@pytest.fixture(scope="module")
def demo_clipseg() -> tuple:
    return clipseg_loader.load(clipseg_loader.DEMO)


def selected(image: np.ndarray, prompts: list[str], model: tuple) -> np.ndarray:
    """What the CLIPSeg node selects for each prompt at threshold .5, bool `[prompts,H,W]`."""
    node = NODE_CLASS_MAPPINGS["CLIPSeg"]()
    picture = torch.from_numpy(image).float().div(255).unsqueeze(0)
    masks = [
        node.segment_image(picture, prompt, blur=0.0, threshold=0.5, dilation_factor=0, clipseg_model=model)[0]
        for prompt in prompts
    ]
    return torch.cat(masks).numpy() > 0.5


@pytest.mark.slow
def test_demo_clipseg_finds_what_is_there_and_nothing_else(demo_clipseg: tuple) -> None:
    overlaps, absent = [], []
    for seed in SCENES:
        scene = shape_scenes.draw_scene(seed, (352, 352))
        there = shape_scenes.present_prompts(scene)
        missing = shape_scenes.absent_prompts(scene)[:6]  # the hard ones first
        found = selected(scene.image, [*there, *missing], demo_clipseg)
        for mask, true in zip(found, there.values()):
            overlaps.append(overlap_of(mask, true))
        absent += [mask.mean() for mask in found[len(there) :]]
    assert len(overlaps) > 60
    assert np.mean(overlaps) >= 0.8
    assert np.mean(absent) < 0.005


def test_demo_clipseg_is_in_the_list_and_small(demo_clipseg: tuple) -> None:
    assert clipseg_loader.DEMO in clipseg_loader.available([])
    assert sum(file.stat().st_size for file in clipseg_loader.DEMO_FOLDER.iterdir()) < 3_000_000
    assert (clipseg_loader.DEMO_FOLDER / "model.safetensors").is_file()
    processor, model = demo_clipseg
    assert type(processor).__name__ == "CLIPSegProcessor" and type(model).__name__ == "CLIPSegForImageSegmentation"


@pytest.mark.slow
def test_demo_salient_finds_what_stands_out() -> None:
    pytest.importorskip("rembg", exc_type=ImportError)
    node = NODE_CLASS_MAPPINGS["ImageSegmentation"]()
    overlaps = []
    for seed in SCENES:
        scene = salient_scenes.draw_salient_scene(seed, (300, 400))
        picture = torch.from_numpy(scene.image).float().div(255).unsqueeze(0)
        cutout, mask = node.node(picture, background_store.DEMO, "false", 240, 20, 10, "false")
        overlaps.append(overlap_of(mask[0].numpy() > 0.5, scene.mask))
        assert torch.equal(cutout[..., 3], mask)
    assert np.mean(overlaps) >= 0.9


def test_demo_salient_is_in_the_list_and_small() -> None:
    assert background_store.DEMO in background_store.available([])
    assert background_store.DEMO_FILE.stat().st_size < 1_000_000


def test_the_demo_models_say_where_they_come_from() -> None:
    text = (ROOT / "models" / "demo" / "README.md").read_text(encoding="utf-8")
    assert "train_demo_models.py" in text and "GPL-3.0-or-later" in text
