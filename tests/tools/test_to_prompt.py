"""From the editor's format to a prompt; unknown, muted and primitive nodes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import builtin_engine
import numpy as np
import pytest
import run_workflow
from PIL import Image
from workflow.graph import MUTED
from workflow.read_workflow import Workflow, read_workflow
from workflow.to_prompt import to_prompt
from workflow_cases import WORKFLOWS, load, saved


def change(data: dict, **changes: Callable[[dict], None]) -> dict:
    """A copy of an editor workflow with the nodes named `n<id>` changed."""
    data = copy.deepcopy(data)
    for node in data["nodes"]:
        if f"n{node['id']}" in changes:
            changes[f"n{node['id']}"](node)
    return data


def test_to_prompt_equals_the_api_export() -> None:
    """Reroute, bypassed, muted, primitive and note nodes are in the editor's file, and gone from the prompt."""
    pytest.importorskip("comfy_cli")
    with builtin_engine.BuiltinEngine() as engine:
        workflow = read_workflow(WORKFLOWS / "edges_editor.json")
        prompt = to_prompt(workflow, engine.object_info(), engine.unknown)
    without_titles = {key: {k: v for k, v in node.items() if k != "_meta"} for key, node in prompt.items()}
    assert without_titles == {
        key: {k: v for k, v in node.items() if k != "_meta"} for key, node in load("edges_api.json").items()
    }


def test_to_prompt_prefers_the_value_of_a_primitive() -> None:
    pytest.importorskip("comfy_cli")
    data = load("edges_editor.json")
    primitive = next(node for node in data["nodes"] if node["type"] == "PrimitiveNode")
    fed = next(node for node in data["nodes"] if node["type"] == "GradientRegion")
    assert primitive["widgets_values"][0] != fed["widgets_values"][0]
    workflow = Workflow(data, is_editor=True)
    with builtin_engine.BuiltinEngine() as engine:
        prompt = to_prompt(workflow, engine.object_info(), engine.unknown)
    assert prompt["5"]["inputs"]["kernel_size"] == primitive["widgets_values"][0]


def test_to_prompt_reads_links_saved_as_objects() -> None:
    pytest.importorskip("comfy_cli")
    data = load("edges_editor.json")
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    newer = {**data, "links": [dict(zip(keys, link)) for link in data["links"]]}
    with builtin_engine.BuiltinEngine() as engine:
        prompts = [
            to_prompt(Workflow(each, is_editor=True), engine.object_info(), engine.unknown) for each in (data, newer)
        ]
    assert prompts[0] == prompts[1]


def test_main_runs_a_subgraph(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    code, out, err = run(WORKFLOWS / "subgraph_editor.json", "--input", photo)
    assert code == run_workflow.OK, err
    assert np.array(Image.open(saved(out)[0])).any()


def test_to_prompt_names_an_unknown_node_and_the_remedy(run: Callable) -> None:
    pytest.importorskip("comfy_cli")
    data = change(load("edges_editor.json"), n5=lambda node: node.update(type="KSampler"))
    code, _, err = run(data)
    assert code == run_workflow.WRONG
    assert 'node 5 (KSampler "Edges") needs ComfyUI: the built-in engine runs only mask nodes' in err
    assert "tools/dev.py run --comfyui" in err
    prompt = load("edges_api.json")
    prompt["5"]["class_type"] = "KSampler"
    code, _, err = run(prompt)
    assert code == run_workflow.WRONG
    assert 'node 5 (KSampler "Edges") needs ComfyUI' in err


def test_to_prompt_leaves_out_an_unconnected_unknown_node(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    data = load("edges_editor.json")
    data["nodes"].append({"id": 50, "type": "Label (rgthree)", "inputs": [], "outputs": []})
    code, _, err = run(data, "--input", photo)
    assert code == run_workflow.OK
    assert "note: node 50 (Label (rgthree)) is left out" in err


def test_to_prompt_ignores_muted_and_bypassed_unknown_nodes(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    change_type = lambda node: node.update(type="NotInstalled")  # noqa: E731 - the same change, twice
    code, _, err = run(change(load("edges_editor.json"), n6=change_type, n9=change_type), "--input", photo)
    assert code == run_workflow.OK, err


def test_check_prompt_names_an_input_fed_by_a_muted_node(run: Callable) -> None:
    pytest.importorskip("comfy_cli")
    data = change(load("edges_editor.json"), n3=lambda node: node.update(mode=MUTED))
    code, out, _ = run(data, "--check")
    assert code == run_workflow.WRONG
    assert "node 5 (GradientRegion \"Edges\"): required input 'masks' is missing" in out
