"""The pack in a real ComfyUI: it loads, shows its nodes as the editor wants them, works, and refuses what is wrong."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import comfyui
import numpy as np
import pytest
import run_workflow
from maskwright import NODE_CLASS_MAPPINGS
from PIL import Image
from workflow.engine_interface import NodeFailed, WorkflowError
from workflow_cases import SharedServer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "example_workflows"


def test_pack_loads_from_folder_with_dash(server: comfyui.Server) -> None:
    assert "-" in comfyui.LINK_NAME
    log, ready, _ = server.log.read_text(encoding="utf-8", errors="replace").partition("To see the GUI go to")
    assert ready  # what comes after it are the other tests' runs
    assert re.search(rf"{comfyui.LINK_NAME}$", log, re.MULTILINE), "not in ComfyUI's list of loaded packs"
    about_us = [line for line in log.splitlines() if "maskwright" in line.lower()]
    assert not [line for line in about_us if re.search(r"warn|error|fail|cannot", line, re.IGNORECASE)]


def test_object_info_describes_nodes(server: comfyui.Server) -> None:
    info = server.object_info()
    for name, node in NODE_CLASS_MAPPINGS.items():
        node_info = info[name]
        assert node_info["description"] == node.DESCRIPTION
        assert node_info["python_module"] == f"custom_nodes.{comfyui.LINK_NAME}"
        assert tuple(node_info["output_name"]) == node.RETURN_NAMES
        assert tuple(node_info["output_tooltips"]) == node.OUTPUT_TOOLTIPS
        for group in ("required", "optional"):
            assert node_info["input_order"].get(group, []) == list(node.INPUT_TYPES().get(group, {}))
            for spec in node_info["input"].get(group, {}).values():
                assert spec[1]["tooltip"]


def test_web_directory_is_served(server: comfyui.Server) -> None:
    with urllib.request.urlopen(f"{server.url}/extensions/{comfyui.LINK_NAME}/icon.svg", timeout=10) as answer:
        assert b"<svg" in answer.read()


# Every example but those whose model has to be downloaded; and what samples runs in ComfyUI only, and is tested there.
DOWNLOADS = {EXAMPLES / "text_to_mask_photo.json"}
SAMPLES = {EXAMPLES / "detail_masked_regions.json", EXAMPLES / "crop_sample_stitch.json"}


def convert_inputs_to_png(example: Path, folder: Path) -> tuple[Path, list[Path]]:
    """A copy of an example that loads PNG files, and those files: JPEG decoders differ."""
    text, images = example.read_text("utf-8"), []
    for asset in sorted((EXAMPLES / "assets").glob("*.*g")):
        if asset.name in text:
            images.append(folder / f"{asset.stem}.png")
            Image.open(asset).save(images[-1])
            text = text.replace(asset.name, images[-1].name)
    workflow = folder / example.name
    workflow.write_text(text, "utf-8")
    return workflow, images


@pytest.mark.parametrize(
    "example", sorted({*EXAMPLES.glob("*.json")} - DOWNLOADS - SAMPLES), ids=lambda path: path.stem
)
def test_example_pixels_match_builtin_engine(
    example: Path,
    server: comfyui.Server,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "ImageSegmentation" in example.read_text("utf-8"):
        request.getfixturevalue("background_removal")
    workflow, images = convert_inputs_to_png(example, tmp_path)
    written = {}
    for engine in ("comfyui", "builtin"):
        if engine == "comfyui":  # the one that is running already, not another
            monkeypatch.setattr(run_workflow, "Server", lambda *_, **__: SharedServer(server))
        arguments = ["--engine", engine, "--output", str(tmp_path / engine), "--input", *map(str, images)]
        assert run_workflow.main([str(workflow), *arguments]) == 0
        written[engine] = {path.name: np.array(Image.open(path)) for path in sorted((tmp_path / engine).iterdir())}
    assert list(written["comfyui"]) == list(written["builtin"])
    assert len(written["builtin"]) >= example.read_text("utf-8").count('"type": "SaveImage"') > 0
    for name, pixels in written["builtin"].items():
        np.testing.assert_array_equal(pixels, written["comfyui"][name], err_msg=name)
        assert pixels.std() > 1, f"{name} is blank"


def test_missing_model_names_address_and_folder(
    server: comfyui.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The tests' ComfyUI runs without network, and its models folder is empty."""
    monkeypatch.setattr(run_workflow, "Server", lambda *_, **__: SharedServer(server))
    (example,) = DOWNLOADS
    assert run_workflow.main([str(example), "--engine", "comfyui", "--output", str(tmp_path)]) == 1
    error_output = capsys.readouterr().err
    assert "node 2 (CLIPSegModelLoader" in error_output
    assert "huggingface.co/CIDAS/clipseg-rd64-refined" in error_output
    assert "model.safetensors" in error_output
    assert str(server.base / "models" / "clipseg") in error_output


def build_edges_prompt(server: comfyui.Server, **inputs: object) -> dict:
    return {
        "1": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 32, "height": 24}},
        "2": {"class_type": "GradientRegion", "inputs": {"masks": ["1", 0], "kernel_size": 3, **inputs}},
        "3": {"class_type": "MaskPreview", "inputs": {"mask": ["2", 0]}},
    }


def test_gradient_region_runs_old_prompt(server: comfyui.Server) -> None:
    result = server.queue(build_edges_prompt(server))
    assert np.array(Image.open(result.files[0].path)).max() == 0  # a mask that is all selected has no edge


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"kernel_size": 0}, "kernel_size"),
        ({"kernel_size": "wide"}, "kernel_size"),
        ({"shape": "disc"}, "shape"),
        ({"masks": ["9", 0]}, "9"),
    ],
)
def test_gradient_region_names_invalid_input(server: comfyui.Server, inputs: dict, message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        server.queue(build_edges_prompt(server, **inputs))


def test_pack_error_message_reaches_user(server: comfyui.Server) -> None:
    prompt = build_edges_prompt(server)
    prompt["4"] = {"class_type": "PrimitiveInt", "inputs": {"value": -7}}
    prompt["2"]["inputs"]["kernel_size"] = ["4", 0]  # a link is not checked by ComfyUI, so the node must
    with pytest.raises(NodeFailed, match="kernel_size is -7.*whole number from 1 to 65535") as caught:
        server.queue(prompt)
    assert "GradientRegion" in str(caught.value)
    assert json.dumps(str(caught.value)).count("Traceback") == 0


def test_unknown_link_is_named(server: comfyui.Server) -> None:
    """ComfyUI drops unknown values, but passes on unknown links."""
    assert server.queue(build_edges_prompt(server, strength=0.5)).files
    with pytest.raises(NodeFailed, match="no input called mask_2"):
        server.queue(build_edges_prompt(server, mask_2=["1", 0]))
