"""The files in subgraphs/ in a real ComfyUI: it offers each in its node library, and each runs with tiny models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import comfyui
import numpy as np
import pytest
import run_workflow
from PIL import Image
from workflow_cases import SharedServer

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ROOT / "example_workflows" / "assets" / "shapes.png"
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
BLUEPRINT_ID = 100
# Nodes that feed a blueprint, and the slot for each type. The mask has four parts.
NODES = {
    1: ("LoadImage", [SHAPES.name, "image"], [], ["IMAGE", "MASK"]),
    2: ("ImageToMask", ["red"], [("image", "IMAGE", 1)], ["MASK"]),
    3: ("EditMask", [False, 0.75], [("mask", "MASK", 2)], ["MASK"]),
    4: ("FixtureCheckpoint", [], [], ["MODEL", "CLIP", "VAE"]),
    5: ("CLIPTextEncode", ["shapes"], [("clip", "CLIP", 4)], ["CONDITIONING"]),
    6: ("CLIPSegModelLoader", ["demo: coloured shapes (bundled)"], [], ["CLIPSEG_MODEL"]),
}
SOURCES = {"IMAGE": 1, "MASK": 3, "MODEL": 4, "CLIP": 4, "VAE": 4, "CONDITIONING": 5, "CLIPSEG_MODEL": 6}
TINY = {"CLIPSegModelLoader": "demo: coloured shapes (bundled)"}  # the first widget of nodes that would download


def make_workflow(blueprint: dict) -> dict:
    """A workflow of the editor's format that feeds a blueprint and saves its images and masks."""
    links: list[list] = []

    def connect(source: int, slot: int, target: int, target_slot: int, kind: str) -> int:
        links.append([len(links) + 1, source, slot, target, target_slot, kind])
        return len(links)

    nodes = [make_node(number, *NODES[number], connect=connect) for number in NODES]
    (blueprint_node,) = blueprint["nodes"]
    blueprint_node["id"] = BLUEPRINT_ID
    for slot, socket in enumerate(blueprint_node["inputs"]):
        if source := SOURCES.get(socket["type"]):
            socket["link"] = connect(source, find_output(source, socket["type"]), BLUEPRINT_ID, slot, socket["type"])
    nodes.append(blueprint_node)
    for slot, output in enumerate(blueprint_node["outputs"]):
        nodes += make_saving_nodes(slot, output, connect)
    for link, source, slot, *_ in links:
        next(node for node in nodes if node["id"] == source)["outputs"][slot].setdefault("links", []).append(link)
    for node in iterate_inner_nodes(blueprint):
        if node["type"] in TINY:
            node["widgets_values"][0] = TINY[node["type"]]
    return {"nodes": nodes, "links": links, "definitions": blueprint["definitions"], "version": 0.4}


def make_node(number: int, kind: str, values: list, inputs: list, outputs: list, connect) -> dict:
    sockets = [
        {"name": name, "type": type_, "link": connect(source, find_output(source, type_), number, slot, type_)}
        for slot, (name, type_, source) in enumerate(inputs)
    ]
    slots = [{"name": name, "type": name, "links": []} for name in outputs]
    return {"id": number, "type": kind, "mode": 0, "inputs": sockets, "outputs": slots, "widgets_values": values}


def find_output(source: int, kind: str) -> int:
    return NODES[source][3].index(kind)


def make_saving_nodes(slot: int, output: dict, connect) -> Iterator[dict]:
    """Save an image or a mask as ``output<slot>``."""
    source, source_slot, number = BLUEPRINT_ID, slot, 200 + 10 * slot
    if output["type"] == "MASK":
        link = connect(source, source_slot, number + 1, 0, "MASK")
        mask = {"name": "mask", "type": "MASK", "link": link}
        image = {"name": "IMAGE", "type": "IMAGE", "links": []}
        yield {"id": number + 1, "type": "MaskToImage", "mode": 0, "inputs": [mask], "outputs": [image]}
        source, source_slot = number + 1, 0
    elif output["type"] != "IMAGE":
        return
    images = {"name": "images", "type": "IMAGE", "link": connect(source, source_slot, number, 0, "IMAGE")}
    save = {"id": number, "type": "SaveImage", "mode": 0, "inputs": [images], "outputs": []}
    yield {**save, "widgets_values": [f"output{slot}"]}


def iterate_inner_nodes(blueprint: dict) -> Iterator[dict]:
    for definition in blueprint["definitions"]["subgraphs"]:
        yield from definition["nodes"]


@pytest.fixture(params=BLUEPRINTS, ids=lambda path: path.stem)
def outputs(
    server: comfyui.Server, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, list[np.ndarray]]]:
    """The name of a blueprint, and what it gave: images by ``output<slot>``."""
    pytest.importorskip("comfy_cli")
    workflow = make_workflow(json.loads(request.param.read_text(encoding="utf-8")))
    (tmp_path / "workflow.json").write_text(json.dumps(workflow), encoding="utf-8")
    monkeypatch.setattr(run_workflow, "Server", lambda *_, **__: SharedServer(server))
    command = [str(tmp_path / "workflow.json"), "--engine", "comfyui", "--output", str(tmp_path / "out")]
    assert run_workflow.main([*command, "--input", str(SHAPES)]) == 0
    images: dict[str, list[np.ndarray]] = {}
    for file in sorted((tmp_path / "out").glob("*.png")):
        images.setdefault(file.name.partition("_")[0], []).append(np.asarray(Image.open(file)))
    return request.param.stem, images


def test_blueprints_are_offered(server: comfyui.Server) -> None:
    listed = server.get("/global_subgraphs")
    own = {entry["name"]: key for key, entry in listed.items() if entry["source"] == "custom_node"}
    assert set(own) == {path.stem for path in BLUEPRINTS}
    for path in BLUEPRINTS:
        data = json.loads(server.get(f"/global_subgraphs/{own[path.stem]}")["data"])
        assert data == json.loads(path.read_text(encoding="utf-8"))
        (node,) = data["nodes"]
        (definition,) = data["definitions"]["subgraphs"]
        assert node["type"] == definition["id"] and node["title"] == definition["name"] == path.stem
        inner = {str(each["id"]) for each in definition["nodes"]}
        assert {node_id for node_id, _ in node["properties"]["proxyWidgets"]} <= inner


def test_blueprint_runs(outputs: tuple[str, dict[str, list[np.ndarray]]]) -> None:
    name, images = outputs
    assert images
    for each in (image for group in images.values() for image in group):
        assert each.shape[:2] == (512, 512), name
    if name == "Detail every instance":
        before = np.asarray(Image.open(SHAPES).convert("RGB")).astype(int)
        ((after,), masks) = (images["output0"], images["output1"])
        assert len(masks) == 4
        selected = np.max([mask[..., 0] for mask in masks], axis=0) > 0
        changed = np.abs(after - before).max(axis=-1) > 1
        assert (changed & selected).mean() > 0.5 * selected.mean()
        assert (changed & ~selected).mean() < 0.1
