"""`--check`: what a file needs and holds, told without running it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import run_workflow
from workflow_cases import load

NEEDS = "needs ComfyUI"


def test_a_good_file_has_no_problems_and_nothing_is_run(run: Callable, tmp_path: Path) -> None:
    code, out, err = run(load("edges_api.json"), "--check")
    assert code == run_workflow.OK
    assert 'node 5 (GradientRegion "Edges"): its values are fine' in out
    assert "no problems" in err
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (99, 'problem: node 5 (GradientRegion "Edges"), widget kernel_size: 99 is too large; allowed:'),
        ("wide", 'problem: node 5 (GradientRegion "Edges"), widget kernel_size: "wide" is of the wrong type'),
        (2.7, 'node 5 (GradientRegion "Edges"), widget kernel_size: 2.7 is taken as 2'),
        ("7", 'node 5 (GradientRegion "Edges"), widget kernel_size: "7" is taken as 7'),
    ],
)
def test_values_are_judged_one_by_one(run: Callable, value: object, said: str) -> None:
    prompt = load("edges_api.json")
    prompt["5"]["inputs"]["kernel_size"] = value
    code, out, _ = run(prompt, "--check")
    assert said in out
    assert code == (run_workflow.WRONG if "problem" in said else run_workflow.OK)


@pytest.mark.parametrize("name", ["edges_api.json", "edges_editor.json"])
def test_an_unknown_node_does_not_hide_the_others(run: Callable, name: str) -> None:
    if "editor" in name:
        pytest.importorskip("comfy_cli")
    text = json.dumps(load(name)).replace("ImageToMask", "TheirNode")
    code, out, _ = run(text, "--check")
    assert code == run_workflow.WRONG
    assert "problem: node 3 (TheirNode" in out and NEEDS in out
    assert 'node 5 (GradientRegion "Edges"): its values are fine' in out
    assert out.count("problem:") == 1


def test_a_missing_input_is_a_problem(run: Callable) -> None:
    prompt = load("edges_api.json")
    del prompt["5"]["inputs"]["masks"]
    code, out, _ = run(prompt, "--check")
    assert (code, "input masks: it is required and not given" in out) == (run_workflow.WRONG, True)


@pytest.mark.parametrize(
    ("node", "said", "code"),
    [
        (
            {"class_type": "CLIPSegModelLoader", "inputs": {"model": "CIDAS/clipseg-rd64-refined"}},
            "is not on this computer; a run downloads it from https://huggingface.co/CIDAS",
            run_workflow.OK,
        ),
        (
            {"class_type": "CLIPSegModelLoader", "inputs": {"model": "somebody/else"}},
            "problem: node 7 (CLIPSegModelLoader): the model somebody/else is not on this computer",
            run_workflow.WRONG,
        ),
        (
            {"class_type": "SaltCLIPSegLoader", "inputs": {"model": "demo: coloured shapes (bundled)"}},
            "models/demo/clipseg",
            run_workflow.OK,
        ),
        (
            {"class_type": "CLIPSeg", "inputs": {"image": ["1", 0], "text": "sky"}},
            "node 7 (CLIPSeg): the model CIDAS/clipseg-rd64-refined is not on this computer; a run downloads it",
            run_workflow.OK,
        ),
        (
            {"class_type": "ImageSegmentation", "inputs": {"images": ["1", 0], "model": "no such model"}},
            "problem: node 7 (ImageSegmentation): model is 'no such model'",
            run_workflow.WRONG,
        ),
        (
            {"class_type": "ImageSegmentation", "inputs": {"images": ["1", 0], "model": "u2netp"}},
            "node 7 (ImageSegmentation): the model u2netp is not on this computer; a run downloads it from",
            run_workflow.OK,
        ),
    ],
)
def test_models_are_named_with_where_they_are_or_come_from(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, node: dict, said: str, code: int
) -> None:
    pytest.importorskip("transformers")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "u2net"))
    prompt = load("edges_api.json")
    defaults = {
        "alpha_matting": "true",
        "alpha_matting_foreground_threshold": 240,
        "alpha_matting_background_threshold": 20,
        "alpha_matting_erode_size": 10,
        "post_process_mask": "false",
    }
    if node["class_type"] == "ImageSegmentation":
        node = {**node, "inputs": {**defaults, **node["inputs"]}}
    prompt["7"] = node
    prompt["8"]["inputs"].pop("images", None)
    prompt["9"] = {"class_type": "MaskToImage", "inputs": {"mask": ["5", 0]}}
    prompt["8"]["inputs"]["images"] = ["9", 0]
    found = run(prompt, "--check")
    assert said in found[1].replace("\\", "/")
    assert found[0] == code
