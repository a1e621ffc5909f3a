"""Background removal on ComfyUI's terms: its models folder, saved prompts, batches, its interrupt, our errors."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import comfyui
import numpy as np
import pytest
import tiny_onnx
from PIL import Image
from workflow.engine_interface import NodeFailed

OWN = "mine.onnx"  # in models/rembg; selects each pixel as much as it is red


@pytest.fixture(scope="module", autouse=True)
def model(background_removal: None, server: comfyui.Server) -> Iterator[Path]:
    """A model of the user's own."""
    folder = server.base / "models" / "rembg"
    yield tiny_onnx.write(folder / OWN, 64)
    shutil.rmtree(folder)  # other tests use the same ComfyUI


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    """A red disc with a soft rim before a blue wall; never twice the same, or ComfyUI would answer from its cache."""
    y, x = np.mgrid[0:120, 0:90]
    disc = ((30 - np.hypot(y - 60, x - 45)) / 6).clip(0, 1)
    colors = np.stack([0.1 + 0.8 * disc, np.full_like(disc, 0.2), 0.7 - 0.5 * disc], axis=-1)
    colors[..., 1] += np.random.default_rng().uniform(-0.03, 0.03, disc.shape)
    path = tmp_path / "portrait.png"
    Image.fromarray((colors * 255).astype(np.uint8)).save(path)
    return path


def build_prompt(server: comfyui.Server, image_file: Path, repeat: int = 1, **inputs: object) -> dict:
    """A prompt that saves the cutouts and the masks of ``repeat`` copies of an image."""
    widgets = {
        "alpha_matting": "false",
        "alpha_matting_foreground_threshold": 230,
        "alpha_matting_background_threshold": 20,
        "alpha_matting_erode_size": 4,
        "post_process_mask": "false",
    }
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": server.copy_input(image_file)}},
        "2": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": repeat}},
        "3": {"class_type": "ImageSegmentation", "inputs": {"images": ["2", 0], "model": OWN, **widgets, **inputs}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "cutout"}},
        "5": {"class_type": "MaskPreview", "inputs": {"mask": ["3", 1]}},
    }


def test_model_list_includes_user_file(server: comfyui.Server) -> None:
    spec = server.object_info()["ImageSegmentation"]["input"]["required"]["model"]
    names = spec[0] if isinstance(spec[0], list) else spec[1]["options"]
    assert names[0] == "u2net" and OWN in names


@pytest.mark.parametrize("switches", [("false", "false"), ("true", "false"), ("false", "true")])
def test_node_batch_outputs(server: comfyui.Server, portrait: Path, switches: tuple[str, str]) -> None:
    prompt = build_prompt(server, portrait, 2, alpha_matting=switches[0], post_process_mask=switches[1])
    result = server.queue(prompt)
    source = np.array(Image.open(portrait)).astype(int)
    images = {"4": [], "5": []}
    for file in result.files:
        images[file.node_id].append(np.array(Image.open(file.path)).astype(int))
    assert len(images["4"]) == len(images["5"]) == 2
    for cutout, mask in zip(images["4"], images["5"]):
        assert cutout.shape == (120, 90, 4)
        assert np.abs(cutout[..., 3] - mask[..., 0]).max() <= 1
        assert cutout[60, 45, 3] > 200 and cutout[:10, :, 3].max() < 10
        sure = cutout[..., 3] > 250
        assert sure.sum() > 500 and np.abs(cutout[sure][:, :3] - source[sure]).max() <= 8
        soft = len(np.unique(cutout[..., 3]))
        assert soft == 2 if switches[1] == "true" else soft > 10


def test_node_stops_on_interrupt(server: comfyui.Server, portrait: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    total = 600

    def watch(_: str, done: int | None, of: int | None) -> None:
        if of == total:
            steps.append(done)
            if len(steps) == 1:
                threading.Thread(target=server.interrupt).start()

    monkeypatch.setattr(server, "progress", watch)
    with pytest.raises(NodeFailed, match="interrupted"):
        server.queue(build_prompt(server, portrait, total))
    assert steps and steps[-1] < total


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"model": "unknown"}, "model is 'unknown', which is not a background removal model"),
        ({"model": "../rembg/mine.onnx"}, "which is not a background removal model"),
    ],
)
def test_node_error_messages(server: comfyui.Server, portrait: Path, inputs: dict, message: str) -> None:
    with pytest.raises(NodeFailed, match=message) as caught:
        server.queue(build_prompt(server, portrait, **inputs))
    assert "ImageSegmentation" in str(caught.value)


def test_node_names_broken_model_file(server: comfyui.Server, portrait: Path, model: Path) -> None:
    broken = model.with_name("broken.onnx")
    broken.write_bytes(model.read_bytes()[:-40])
    with pytest.raises(NodeFailed, match=r"broken\.onnx .*is incomplete"):
        server.queue(build_prompt(server, portrait, model="broken.onnx"))


def test_node_takes_comfyuis_own_model(server: comfyui.Server, portrait: Path) -> None:
    """BiRefNet with random weights: the mask of ComfyUI's own node, bit for bit, over a color."""
    if "RemoveBackground" not in server.object_info():
        pytest.skip("this ComfyUI has no background removal")
    prompt = build_prompt(server, portrait, 2, background_removal=["6", 0], background=["7", 0])
    prompt["6"] = {"class_type": "FixtureBackgroundRemoval", "inputs": {"seed": 1}}
    prompt["7"] = {"class_type": "PrimitiveString", "inputs": {"value": "#00ff00"}}
    prompt["8"] = {"class_type": "RemoveBackground", "inputs": {"bg_removal_model": ["6", 0], "image": ["2", 0]}}
    prompt["9"] = {"class_type": "MaskPreview", "inputs": {"mask": ["8", 0]}}
    images: dict[str, list[np.ndarray]] = {"4": [], "5": [], "9": []}
    for file in server.queue(prompt).files:
        images[file.node_id].append(np.array(Image.open(file.path)).astype(int))
    assert len(images["4"]) == len(images["5"]) == len(images["9"]) == 2
    source = np.array(Image.open(portrait)).astype(int)
    for over, ours, theirs in zip(images["4"], images["5"], images["9"]):
        assert np.array_equal(ours, theirs) and ours.std() > 0.2, "the model gives the same alpha everywhere"
        alpha = ours[..., :1] / 255
        assert np.abs(over - (alpha * source + (1 - alpha) * (0, 255, 0))).max() <= 2
