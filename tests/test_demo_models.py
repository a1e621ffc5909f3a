"""Quality of the demo models, run through the nodes on scenes they were not trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from demo_scenes import HELD_OUT, overlap_of, salient_scenes, shape_scenes
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.models import background_models, clipseg_loader
from maskwright.models.clipseg_store import DEMO, DEMO_FOLDER, ClipsegStore
from pack import ROOT

SCENES = range(HELD_OUT, HELD_OUT + 20)


@pytest.fixture(scope="module")
def demo_clipseg() -> tuple:
    return clipseg_loader.load(DEMO, ClipsegStore())


def select_with_node(image: np.ndarray, prompts: list[str], model: tuple) -> np.ndarray:
    """The selection of the CLIPSeg node at threshold 0.5 for each prompt, bool ``[prompts,H,W]``."""
    node = NODE_CLASS_MAPPINGS["CLIPSeg"]()
    image_batch = torch.from_numpy(image).float().div(255).unsqueeze(0)
    selections = [
        node.segment_image(image_batch, prompt, blur=0.0, threshold=0.5, dilation_factor=0, clipseg_model=model)[0]
        for prompt in prompts
    ]
    return torch.cat(selections).numpy() > 0.5


@pytest.mark.slow
def test_demo_clipseg_finds_only_present_objects(demo_clipseg: tuple) -> None:
    overlaps, false_areas = [], []
    for seed in SCENES:
        scene = shape_scenes.draw_scene(seed, (352, 352))
        present = shape_scenes.present_prompts(scene)
        absent = shape_scenes.absent_prompts(scene)[:6]  # the hard ones come first
        masks = select_with_node(scene.image, [*present, *absent], demo_clipseg)
        for mask, truth in zip(masks, present.values()):
            overlaps.append(overlap_of(mask, truth))
        false_areas += [mask.mean() for mask in masks[len(present) :]]
    assert len(overlaps) > 60
    assert np.mean(overlaps) >= 0.8
    assert np.mean(false_areas) < 0.005


def test_demo_clipseg_is_available_and_small(demo_clipseg: tuple) -> None:
    assert DEMO in ClipsegStore().available()
    assert sum(file.stat().st_size for file in DEMO_FOLDER.iterdir()) < 3_000_000
    assert (DEMO_FOLDER / "model.safetensors").is_file()
    processor, model = demo_clipseg
    assert type(processor).__name__ == "CLIPSegProcessor" and type(model).__name__ == "CLIPSegForImageSegmentation"


@pytest.mark.slow
def test_demo_salient_finds_subjects() -> None:
    pytest.importorskip("rembg", exc_type=ImportError)
    node = NODE_CLASS_MAPPINGS["ImageSegmentation"]()
    overlaps = []
    for seed in SCENES:
        scene = salient_scenes.draw_salient_scene(seed, (300, 400))
        image_batch = torch.from_numpy(scene.image).float().div(255).unsqueeze(0)
        cutout, mask = node.node(image_batch, background_models.DEMO, "false", 240, 20, 10, "false")
        overlaps.append(overlap_of(mask[0].numpy() > 0.5, scene.mask))
        assert torch.equal(cutout[..., 3], mask)
    assert np.mean(overlaps) >= 0.9


def test_demo_salient_is_available_and_small() -> None:
    assert background_models.DEMO in background_models.BackgroundStore().available()
    assert background_models.DEMO_FILE.stat().st_size < 1_000_000


def test_demo_models_readme_names_origin_and_license() -> None:
    text = (ROOT / "models" / "demo" / "README.md").read_text(encoding="utf-8")
    assert "train_demo_models.py" in text and "GPL-3.0-or-later" in text
