"""What a real ComfyUI keeps: models until "unload models", the views' files until the next run."""

from __future__ import annotations

import json
import random
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import comfyui
import pytest
import tiny_onnx
from maskwright.models.clipseg_store import DEMO

SHAPES = Path(__file__).resolve().parents[2] / "example_workflows" / "assets" / "shapes.png"
OWN = "kept.onnx"  # in models/rembg


@pytest.fixture
def background_model(background_removal: None, server: comfyui.Server) -> Iterator[str]:
    """A background model of the user's own."""
    folder = server.base / "models" / "rembg"
    tiny_onnx.write(folder / OWN, 64)
    yield OWN
    shutil.rmtree(folder)  # other tests use the same ComfyUI


def build_prompt(server: comfyui.Server, text: str) -> dict:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": server.copy_input(SHAPES)}},
        "2": {"class_type": "CLIPSegModelLoader", "inputs": {"model": DEMO}},
        "3": {"class_type": "CLIPSeg", "inputs": {"image": ["1", 0], "text": text, "clipseg_model": ["2", 0]}},
        "4": {"class_type": "MaskPreview", "inputs": {"mask": ["3", 0]}},
    }


def count_cached_models(server: comfyui.Server) -> dict[str, int]:
    prompt = {"1": {"class_type": "FixtureKeptModels", "inputs": {"tag": random.randrange(2**31)}}}
    return server.queue(prompt).outputs["1"]["kept"][0]


def free_memory(server: comfyui.Server, **what: bool) -> None:
    request = urllib.request.Request(
        f"{server.url}/free", json.dumps(what).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()
    count_cached_models(server)  # ComfyUI unloads between runs, after this one at the latest


@pytest.mark.parametrize("what", [{"unload_models": True}, {"unload_models": True, "free_memory": True}])
def test_unload_models_empties_caches(server: comfyui.Server, background_model: str, what: dict) -> None:
    prompt = build_prompt(server, "")
    prompt["5"] = {
        "class_type": "ImageSegmentation",
        "inputs": {
            "images": ["1", 0],
            "model": background_model,
            "alpha_matting": "false",
            "alpha_matting_foreground_threshold": 240,
            "alpha_matting_background_threshold": 20,
            "alpha_matting_erode_size": 10,
            "post_process_mask": "false",
        },
    }
    prompt["6"] = {"class_type": "MaskPreview", "inputs": {"mask": ["5", 1]}}
    free_memory(server, unload_models=True, free_memory=True)
    for cache in ("clipseg_loader", "background_models"):
        prompt["3"]["inputs"]["text"] = f"red star | {random.random()}"  # not in ComfyUI's own cache
        prompt["5"]["inputs"]["alpha_matting_erode_size"] = random.randrange(16384)
        assert {"4", "6"} <= set(server.queue(prompt).outputs)
        # The second time, CLIPSeg may run from the loader's output in ComfyUI's cache.
        assert count_cached_models(server)[cache] == 1
        free_memory(server, **what)
        assert set(count_cached_models(server).values()) == {0}


def test_views_keep_files_of_last_run(server: comfyui.Server) -> None:
    folder = server.base / "temp" / "maskwright"
    editor = {"workflow": {"nodes": [], "id": "the workflow"}}

    def run(text: str) -> tuple[set[str] | None, set[str]]:
        """The files that the view names, None if ComfyUI sends no entries; and those in the folder."""
        entries = server.queue(build_prompt(server, text), extra_pnginfo=editor).outputs.get("3", {}).get("maskwright")
        values = [value for entry in entries or () for value in entry.values() if isinstance(value, dict)]
        view_files = {value["filename"] for value in values if "filename" in value}
        return None if entries is None else view_files, {path.name for path in folder.iterdir()}

    before = {path.name for path in folder.iterdir()} if folder.is_dir() else set()  # other tests'
    for number in range(4):
        view_files, there = run(f"red star {number}")
        assert view_files and there - before == view_files
    again, there = run("red star 3")  # the result is cached, and newer ComfyUI sends its entries again
    assert again in (view_files, None) and view_files <= there
