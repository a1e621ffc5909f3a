"""The templates as files: what each needs comes with it, and each runs with an image of any size."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import run_workflow
from maskwright import NODE_CLASS_MAPPINGS
from pack import ROOT
from PIL import Image

TEMPLATES = sorted((ROOT / "example_workflows").glob("*.json"))
ASSETS = ROOT / "example_workflows" / "assets"
APPS = {"edit_mask", "remove_background_app", "text_to_mask_app"}
VIEW = "maskwright_view"

each_template = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@each_template
def test_template_lists_the_images_that_it_loads(path: Path) -> None:
    workflow = read(path)
    loaded = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "LoadImage"]
    assert loaded and sorted(workflow["extra"]["maskwright_images"]) == sorted(set(loaded))
    for name in loaded:
        assert re.fullmatch(r"[\w-]+\.(jpg|png)", name)  # what web/js/templates.mjs accepts
        assert (ASSETS / name).stat().st_size < 1_000_000
        Image.open(ASSETS / name).verify()


@each_template
def test_template_has_a_thumbnail(path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as image:
        assert image.size == (512, 512) and np.asarray(image).std() > 5


@each_template
def test_template_explains_itself_in_a_note(path: Path) -> None:
    (note,) = [node for node in read(path)["nodes"] if node["type"] == "MarkdownNote"]
    assert note["widgets_values"][0].startswith("## ")


def test_templates_name_the_models_that_users_must_fetch() -> None:
    """The editor offers to download what `properties.models` names. The pack's own nodes download theirs."""
    for path in TEMPLATES:
        for node in read(path)["nodes"]:
            if node["type"] != "CheckpointLoaderSimple":
                assert "models" not in node["properties"]
                continue
            (model,) = node["properties"]["models"]
            assert model["name"] == node["widgets_values"][0]
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(f"/{model['name']}")
            assert model["directory"] == "checkpoints"


def test_apps_name_widgets_and_outputs_that_exist() -> None:
    assert {path.stem for path in TEMPLATES if read(path)["extra"].get("linearMode")} == APPS
    for path in TEMPLATES:
        workflow = read(path)
        if path.stem not in APPS:
            assert "linearData" not in workflow["extra"]
            continue
        nodes = {node["id"]: node for node in workflow["nodes"]}
        app = workflow["extra"]["linearData"]
        for node_id, widget in app["inputs"]:
            kind = nodes[node_id]["type"]
            if kind in NODE_CLASS_MAPPINGS and widget != VIEW:
                groups = NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()
                assert widget in {**groups["required"], **groups.get("optional", {})}
        assert VIEW in {widget for _, widget in app["inputs"]}
        assert {nodes[node_id]["type"] for node_id in app["outputs"]} == {"SaveImage"}


@pytest.mark.parametrize("size", [(700, 300), (64, 900), (33, 41)])
def test_remove_background_fits_the_background_to_the_image(
    run: Callable, tmp_path: Path, size: tuple[int, int]
) -> None:
    """The result has the size of the image, and the background reaches its corners."""
    pytest.importorskip("rembg")
    Image.open(ASSETS / "lemur.png").resize(size).save(tmp_path / "lemur.png")
    Image.new("RGB", (512, 512), (10, 20, 200)).save(tmp_path / "hills.png")
    workflow = read(ROOT / "example_workflows" / "remove_background.json")
    for node in workflow["nodes"]:
        if node["type"] == "LoadImage":
            node["widgets_values"][0] = node["widgets_values"][0].replace(".jpg", ".png")
        if node["type"] == "ImageSegmentation":
            node["widgets_values"][1] = "false"
    code, out, err = run(workflow, "--input", tmp_path / "lemur.png", tmp_path / "hills.png")
    assert code == run_workflow.OK, err
    files = {Path(line).name: Path(line) for line in out.split("\n") if line}
    result = np.asarray(Image.open(files["new_background_00001_.png"]).convert("RGB"))
    assert result.shape == (size[1], size[0], 3)
    alpha = np.asarray(Image.open(files["cutout_00001_.png"]))[..., 3]
    assert alpha.shape == result.shape[:2]
    background = result[alpha == 0]
    assert background.size and (background == (10, 20, 200)).all()
