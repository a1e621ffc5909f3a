"""Faults of the graph: broken links, loops, malformed entries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import run_workflow
from workflow_cases import load

pytest.importorskip("comfy_cli")


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ([3, 77, 0, 5, 0, "MASK"], "link 3 into node 5 comes from node 77, which does not exist"),
        ([3, 3, 4, 5, 0, "MASK"], "link 3 into node 5 reads output slot 4 of node 3, which has 1 output"),
    ],
)
def test_check_structure_names_a_broken_link(run: Callable, link: list, message: str) -> None:
    data = load("edges_editor.json")
    data["links"][2] = link
    code, _, err = run(data)
    assert (code, message in err) == (run_workflow.WRONG, True)


def test_check_structure_ignores_leftover_links(run: Callable, photo: Path) -> None:
    data = load("edges_editor.json")
    data["links"].append([99, 70, 0, 71, 0, "MASK"])
    assert run(data, "--input", photo)[0] == run_workflow.OK
    data["links"] = [link for link in data["links"] if link[0] != 3]  # now an input names a missing link
    code, out, _ = run(data, "--check")
    assert (code, 'node 5 (GradientRegion "Edges"): required input' in out) == (run_workflow.WRONG, True)


def test_check_prompt_names_broken_links(run: Callable) -> None:
    prompt = load("edges_api.json")
    for link, message in (
        (["44", 0], "'masks' references node '44' which does not exist"),
        (["3", 2], "ImageToMask has 1 output"),
    ):
        prompt["5"]["inputs"]["masks"] = link
        code, out, _ = run(prompt, "--check")
        assert (code, message in out) == (run_workflow.WRONG, True)


def test_check_prompt_names_a_loop_in_both_formats(run: Callable) -> None:
    prompt = load("edges_api.json")
    prompt["3"] = {"class_type": "InvertMask", "inputs": {"mask": ["5", 0]}}
    data = load("edges_editor.json")
    data["links"][2] = [3, 5, 0, 5, 0, "MASK"]
    for workflow in (prompt, data):
        code, out, _ = run(workflow, "--check")
        assert (code, "dependency cycle: " in out) == (run_workflow.WRONG, True), out


def test_check_prompt_shortens_a_long_loop(run: Callable) -> None:
    prompt = {str(n): {"class_type": "InvertMask", "inputs": {"mask": [str((n + 1) % 500), 0]}} for n in range(500)}
    prompt["500"] = {"class_type": "MaskPreview", "inputs": {"mask": ["0", 0]}}
    code, out, _ = run(prompt, "--check")
    assert (code, "dependency cycle" in out, len(out) < 1000) == (run_workflow.WRONG, True, True)


def test_flatten_refuses_a_subgraph_that_holds_itself(run: Callable) -> None:
    data = load("subgraph_editor.json")
    definition = data["definitions"]["subgraphs"][0]
    definition["nodes"][0]["type"] = definition["id"]
    code, out, err = run(data, "--check")
    assert (code, "are nested more than 100 deep" in out + err) == (run_workflow.WRONG, True)


def test_check_structure_names_a_malformed_node(run: Callable) -> None:
    data = load("subgraph_editor.json")
    definition = data["definitions"]["subgraphs"][0]
    definition["nodes"].append({"id": 1})
    code, _, err = run(data, "--check")
    assert (code, f'node 1 in subgraph "{definition["name"]}" has no type' in err) == (run_workflow.WRONG, True)


def test_check_prompt_names_a_workflow_that_shows_nothing(run: Callable) -> None:
    prompt = {number: node for number, node in load("edges_api.json").items() if number in "13"}
    code, out, _ = run(prompt, "--check")
    assert (code, "no output nodes" in out) == (run_workflow.WRONG, True)
