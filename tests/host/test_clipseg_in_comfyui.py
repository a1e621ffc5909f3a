"""Text to mask on ComfyUI's terms: saved prompts, its memory management, its models folders, its interrupt."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import comfyui
import numpy as np
import pytest
from maskwright.models.clipseg_store import DEMO
from PIL import Image
from workflow.engine_interface import NodeFailed

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ROOT / "example_workflows" / "assets" / "shapes.png"


def build_prompt(
    server: comfyui.Server, node: str, image_file: Path = SHAPES, repeat: int = 1, **inputs: object
) -> dict:
    """A prompt that shows the masks of ``repeat`` copies of an image, by the demo model."""
    images = "images" if node == "CLIPSegMasking" else "image"
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": server.copy_input(image_file)}},
        "2": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": repeat}},
        "3": {"class_type": "CLIPSegModelLoader", "inputs": {"model": DEMO}},
        "4": {"class_type": node, "inputs": {images: ["2", 0], "clipseg_model": ["3", 0], **inputs}},
        "5": {"class_type": "MaskPreview", "inputs": {"mask": ["4", 0]}},
    }


@pytest.mark.parametrize(
    ("node", "saved"),
    [
        ("CLIPSeg", {"text": "red star", "blur": 7, "threshold": 0.4, "dilation_factor": 5}),
        ("CLIPSeg", {"text": "red star", "blur": 7.0, "threshold": 0.35000000000000003, "dilation_factor": 30}),
        ("CLIPSeg", {"text": "red star"}),
        ("CLIPSegMasking", {"text": "red star"}),
    ],
)
def test_clipseg_nodes_run_saved_prompts(server: comfyui.Server, node: str, saved: dict) -> None:
    result = server.queue(build_prompt(server, node, **saved))
    mask = np.array(Image.open(result.files[-1].path).convert("L"))
    assert mask.shape == np.array(Image.open(SHAPES)).shape[:2]
    assert mask.min() == 0 and mask.max() > 200


def test_clipseg_takes_kjnodes_model(server: comfyui.Server) -> None:
    prompt = build_prompt(server, "CLIPSeg", text="red star")
    prompt["6"] = {"class_type": "FixtureKjnodesModel", "inputs": {"clipseg_model": ["3", 0]}}
    prompt["4"]["inputs"]["clipseg_model"] = ["6", 0]
    mask = np.array(Image.open(server.queue(prompt).files[-1].path).convert("L"))
    assert mask.min() == 0 and mask.max() > 200


def test_clipseg_masking_stops_on_interrupt(
    server: comfyui.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng()  # never the same image, or ComfyUI would answer from its cache
    image_file = tmp_path / "noise.png"
    Image.fromarray(generator.integers(0, 256, (352, 352, 3), np.uint8)).save(image_file)
    steps: list[int] = []
    total = 400

    def watch(_: str, done: int | None, of: int | None) -> None:
        if of == total:
            steps.append(done)
            if len(steps) == 1:
                threading.Thread(target=server.interrupt).start()

    prompt = build_prompt(server, "CLIPSegMasking", image_file, total, text="red star")
    monkeypatch.setattr(server, "progress", watch)
    with pytest.raises(NodeFailed, match="interrupted"):
        server.queue(prompt)
    assert steps and steps[-1] < total


def run_in_comfyui_python(found: comfyui.ComfyUI, script: str, *arguments: str) -> str:
    """What ``script`` prints, with ComfyUI's modules and the pack loaded as ``maskwright``, without a server."""
    start = (
        "import sys\n"
        "sys.path[:0] = sys.argv[1:4]\n"
        "import utils.extra_config\n"  # before ComfyUI puts a module of that name in the way
        "import comfy.cli_args\n"
        "comfy.cli_args.args.cpu = True\n"
        "import comfy.model_management, folder_paths\n"
        "import pack\n"
        "pack.load_pack()\n"
        "from maskwright.nodes import _host as host\n"
    )
    paths = [str(found.path), str(ROOT / "tools"), str(ROOT / "tests")]
    command = [str(found.python), "-c", start + script, *paths, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=found.path)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_model_loader_uses_extra_model_paths(found: comfyui.ComfyUI, tmp_path: Path) -> None:
    config = tmp_path / "extra_model_paths.yaml"
    config.write_text("theirs:\n  base_path: BASE\n  clipseg: segmenters\n".replace("BASE", tmp_path.as_posix()))
    script = (
        "import tiny_clipseg\n"
        "from pathlib import Path\n"
        "from utils.extra_config import load_extra_path_config\n"
        "load_extra_path_config(sys.argv[4])\n"
        "tiny_clipseg.write(Path(sys.argv[5]) / 'my model')\n"
        "from maskwright import NODE_CLASS_MAPPINGS\n"
        "loader = NODE_CLASS_MAPPINGS['CLIPSegModelLoader']\n"
        "names = loader.INPUT_TYPES()['required']['model'][0]\n"
        "print('my model' in names)\n"
        "processor, model = getattr(loader(), loader.FUNCTION)('my model')[0]\n"
        "print(type(model).__name__)\n"
    )
    output = run_in_comfyui_python(found, script, str(config), str(tmp_path / "segmenters"))
    assert output.split() == ["True", "CLIPSegForImageSegmentation"]


def test_comfyui_loads_and_unloads_clipseg_model(found: comfyui.ComfyUI, tmp_path: Path) -> None:
    """A real ModelPatcher on ComfyUI's CPU; where models run on the CPU the node itself makes no copy."""
    script = (
        "import torch, tiny_clipseg\n"
        "from pathlib import Path\n"
        "from maskwright.core.text import clipseg_engine\n"
        "from maskwright.core.text.query import Query\n"
        "from maskwright.core.text.segment import score\n"
        "processor, model = tiny_clipseg.make(Path(sys.argv[4]))\n"
        "held = host._make_copy(model, clipseg_engine.copy_with_dtype, torch.device('cpu'))\n"
        "host._COPIES[model] = {('cpu', 0): held}\n"
        "host.call_on_unload(host._empty_copies)\n"
        "management = comfy.model_management\n"
        "management.load_models_gpu([held], force_full_load=True)\n"
        "print(any(loaded.model is held for loaded in management.current_loaded_models))\n"
        "image, query = torch.rand(1, 40, 40, 3), Query('red star')\n"
        # Not stretched: that rounds to 8 bits, and weights that lie elsewhere in memory may change a sum's last bit.
        "one, two = (score(image, clipseg_engine.Segmenter(processor, each), query, 'none').masks\n"
        "            for each in (model, held.model.to('cpu').model))\n"
        "print(bool((one - two).abs().max() < 1e-3))\n"
        "print(all(a.data_ptr() != b.data_ptr() for a, b in zip(model.parameters(), held.model.parameters())))\n"
        "management.free_memory(1e15, torch.device('cpu'))\n"  # room for another model
        "print(len(management.current_loaded_models), held.model.model is None)\n"
        "management.load_models_gpu([held])\n"
        "management.unload_all_models()\n"
        "print(len(management.current_loaded_models), held.model.model is None)\n"
    )
    output = run_in_comfyui_python(found, script, str(tmp_path)).split()
    assert output == ["True", "True", "True", "1", "False", "0", "True"]
