"""RefineMask in a real ComfyUI: its outputs with ComfyUI's own nodes, and its blueprint."""

from __future__ import annotations

import json
from pathlib import Path

import comfyui
import numpy as np
import pytest
import run_workflow
from PIL import Image
from workflow_cases import SharedServer

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ROOT / "example_workflows" / "assets" / "shapes.png"


def test_blueprint(server: comfyui.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI lists it, and it cuts out what its text describes."""
    pytest.importorskip("comfy_cli")
    pytest.importorskip("pymatting")
    listed = server.get("/global_subgraphs")
    ((key, entry),) = [(key, each) for key, each in listed.items() if each["name"] == "Find, refine, cut out"]
    assert entry["source"] == "custom_node"
    blueprint = json.loads(server.get(f"/global_subgraphs/{key}")["data"])
    inner = {node["type"]: node for node in blueprint["definitions"]["subgraphs"][0]["nodes"]}
    inner["CLIPSegModelLoader"]["widgets_values"] = ["demo: coloured shapes (bundled)"]
    inner["CLIPSeg"]["widgets_values"][0] = "red star"
    (node,) = blueprint["nodes"]
    node |= {"id": 2}
    node["inputs"][0]["link"], node["outputs"][1]["links"] = 1, [2]
    load = {"id": 1, "type": "LoadImage", "widgets_values": ["shapes.png", "image"], "inputs": [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}]}  # fmt: skip
    save = {"id": 3, "type": "SaveImage", "widgets_values": ["cutout"], "outputs": [],
            "inputs": [{"name": "images", "type": "IMAGE", "link": 2}]}  # fmt: skip
    nodes = [{**each, "mode": 0, "flags": {}, "order": i, "pos": [0, 0]} for i, each in enumerate((load, node, save))]
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 1, 3, 0, "IMAGE"]]
    workflow = {"version": 0.4, "nodes": nodes, "links": links, "definitions": blueprint["definitions"]}
    (tmp_path / "workflow.json").write_text(json.dumps(workflow), encoding="utf-8")
    monkeypatch.setattr(run_workflow, "Server", lambda *_, **__: SharedServer(server))
    command = [str(tmp_path / "workflow.json"), "--engine", "comfyui", "--output", str(tmp_path / "out")]
    assert run_workflow.main([*command, "--input", str(SHAPES)]) == 0
    cutout = np.array(Image.open(tmp_path / "out" / "cutout_00001_.png")).astype(int)
    source = np.array(Image.open(SHAPES).convert("RGB")).astype(int)
    sure = cutout[..., 3] > 250
    assert 0.002 < sure.mean() < 0.2 and (cutout[..., 3] == 0).mean() > 0.7
    assert np.abs(cutout[sure][:, :3] - source[sure]).mean() < 5
    red, green, blue = cutout[sure][:, :3].mean(axis=0)
    assert red > green + 50 and red > blue + 50
