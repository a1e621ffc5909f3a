"""Faults of the graph, told before an engine is asked: broken links and loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import run_workflow
from workflow.graph import find_loop
from workflow_cases import load


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ([3, 77, 0, 5, 0, "MASK"], "link 3 (node 77 output 0 -> node 5 input 0) is broken: there is no node 77"),
        ([3, 3, 4, 5, 0, "MASK"], "link 3 (node 3 output 4 -> node 5 input 0) is broken: node 3 (ImageToMask) has no"),
        ([3, 3, 0, 5, 9, "MASK"], 'is broken: node 5 (GradientRegion "Edges") has no input 9'),
        ([3, 3], "an entry of links is not a link: [3, 3]"),
    ],
)
def test_broken_link_is_named_with_both_ends(run: Callable, link: list, said: str) -> None:
    data = load("edges_editor.json")
    data["links"][2] = link
    code, _, err = run(data)
    assert code == run_workflow.WRONG
    assert said in err


def test_input_that_names_a_missing_link_is_an_error_and_a_leftover_link_is_not(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    data = load("edges_editor.json")
    data["links"].append([99, 70, 0, 71, 0, "MASK"])
    assert run(data, "--input", photo)[0] == run_workflow.OK
    data["links"] = [link for link in data["links"] if link[0] != 3]
    code, _, err = run(data)
    assert code == run_workflow.WRONG
    assert 'node 5 (GradientRegion "Edges"): input masks names link 3, which does not exist' in err


def test_broken_links_in_the_api_format_are_errors(run: Callable) -> None:
    prompt = load("edges_api.json")
    prompt["5"]["inputs"]["masks"] = ["44", 0]
    code, _, err = run(prompt)
    assert (code, "input masks comes from node 44, which does not exist" in err) == (run_workflow.WRONG, True)
    prompt["5"]["inputs"]["masks"] = ["3", 2]
    code, _, err = run(prompt)
    assert (code, "linked to output 2 of node 3 (ImageToMask), which has 1" in err) == (run_workflow.WRONG, True)


def test_loop_is_named_in_both_formats(run: Callable) -> None:
    prompt = load("edges_api.json")
    prompt["3"] = {"class_type": "InvertMask", "inputs": {"mask": ["5", 0]}}
    code, _, err = run(prompt)
    assert code == run_workflow.WRONG
    assert "5 -> 3 -> 5 feed each other in a loop" in err
    data = load("edges_editor.json")
    data["links"][2] = [3, 6, 0, 5, 0, "MASK"]
    code, _, err = run(data)
    assert code == run_workflow.WRONG
    assert "feed each other in a loop" in err


def test_a_long_loop_is_told_in_short(run: Callable) -> None:
    prompt = {str(n): {"class_type": "InvertMask", "inputs": {"mask": [str((n + 1) % 5000), 0]}} for n in range(5000)}
    code, _, err = run(prompt)
    assert code == run_workflow.WRONG
    assert "-> ... ->" in err and len(err) < 400


def test_a_subgraph_that_holds_itself_is_told(run: Callable) -> None:
    data = load("subgraph_editor.json")
    definition = data["definitions"]["subgraphs"][0]
    definition["nodes"][0]["type"] = definition["id"]
    code, _, err = run(data, "--check")
    assert code == run_workflow.WRONG
    name = definition["name"]
    assert f'the subgraphs "{name}" -> "{name}" hold each other in a loop' in err


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda sub: sub.update(inputs=99), 'subgraph "{}": inputs is not a list: 99'),
        (lambda sub: sub["inputs"][0].update(name=["a"]), 'subgraph "{}": an entry of inputs is not a socket'),
        (lambda sub: sub["nodes"][1].update(inputs=1.5), 'in subgraph "{}": inputs is not a list: 1.5'),
        (lambda sub: sub["nodes"][1]["inputs"].__setitem__(0, []), 'in subgraph "{}": an entry of inputs is not a'),
        (lambda sub: sub["links"][0].update(origin_id={}), 'an entry of links in subgraph "{}" is not a link'),
    ],
)
def test_sockets_that_are_none_are_told_with_the_place(run: Callable, spoil: Callable, said: str) -> None:
    data = load("subgraph_editor.json")
    definition = data["definitions"]["subgraphs"][0]
    spoil(definition)
    code, _, err = run(data, "--check")
    assert code == run_workflow.WRONG
    assert said.format(definition["name"]) in err


def test_long_chain_is_no_problem_for_the_loop_search() -> None:
    edges = [(str(index), str(index + 1)) for index in range(5000)]
    assert find_loop(edges) == []
    assert find_loop([*edges, ("5000", "4998")]) == ["4998", "4999", "5000", "4998"]


def test_workflow_that_shows_nothing_is_an_error(run: Callable) -> None:
    prompt = load("edges_api.json")
    del prompt["8"]
    code, _, err = run(prompt)
    assert code == run_workflow.WRONG
    assert "no active node that saves or shows anything" in err
