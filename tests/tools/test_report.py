"""`--check`: what a file needs, and its faults, without a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import builtin_engine
import pytest
import run_workflow
from maskwright import NODE_CLASS_MAPPINGS
from workflow.read_workflow import Workflow
from workflow.report import report
from workflow.to_prompt import convert
from workflow_cases import load

NEEDS = "needs ComfyUI"


def test_check_of_a_good_file_runs_nothing(run: Callable, tmp_path: Path) -> None:
    code, out, err = run(load("edges_api.json"), "--check")
    assert code == run_workflow.OK
    assert (out, "no problems" in err) == ("", True)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (99, 'problem: node 5 (GradientRegion "Edges"): kernel_size=99 above max 31'),
        ("wide", "problem: node 5 (GradientRegion \"Edges\"): kernel_size: expected INT, got str 'wide'"),
        (2.7, ""),
        ("7", ""),
    ],
)
def test_check_judges_each_value(run: Callable, value: object, message: str) -> None:
    prompt = load("edges_api.json")
    prompt["5"]["inputs"]["kernel_size"] = value
    code, out, _ = run(prompt, "--check")
    assert message in out
    assert code == (run_workflow.WRONG if message else run_workflow.OK)


def test_check_refuses_a_number_beyond_floats(run: Callable) -> None:
    prompt = load("edges_api.json")
    prompt["5"]["inputs"]["kernel_size"] = "@"
    code, out, _ = run(json.dumps(prompt).replace('"@"', "1e999"), "--check")
    assert (code, 'node 5 (GradientRegion "Edges"): kernel_size' in out) == (run_workflow.WRONG, True), out


@pytest.mark.parametrize("name", ["edges_api.json", "edges_editor.json"])
def test_check_reports_faults_beside_an_unknown_node(run: Callable, name: str) -> None:
    if "editor" in name:
        pytest.importorskip("comfy_cli")
    text = json.dumps(load(name)).replace("ImageToMask", "TheirNode")
    code, out, _ = run(text, "--check")
    assert code == run_workflow.WRONG
    assert "problem: node 3 (TheirNode" in out and NEEDS in out
    assert out.count("problem:") == 1
    out = run(text.replace('"both"', '"neither"'), "--check")[1]
    assert out.count("problem:") == 2 and "'neither' not in 3 known options for edge" in out


@pytest.mark.parametrize(
    "link", [["3"], ["3", None], ["3", "0"], ["3", True], [], ["3", 0, 1], [["3", 0]], [99, 0], [3, 0]]
)
def test_check_reports_a_malformed_link(run: Callable, link: list) -> None:
    prompt = load("edges_api.json")
    prompt["5"]["inputs"]["masks"] = link
    code, out, _ = run(prompt, "--check")
    assert code == run_workflow.WRONG
    assert "problem: node 5 (GradientRegion \"Edges\"): input 'masks' " in out, out
    assert run(prompt)[0] == run_workflow.WRONG


def test_check_reports_a_link_of_the_wrong_type(run: Callable) -> None:
    prompt = load("edges_api.json")
    prompt["5"]["inputs"]["masks"] = ["1", 0]
    code, out, _ = run(prompt, "--check")
    assert code == run_workflow.WRONG
    assert "input 'masks' expects MASK but LoadImage[0] produces IMAGE" in out


@pytest.mark.parametrize("value", [None, "a mask", 3, {}])
def test_check_reports_a_value_in_place_of_a_link(run: Callable, value: object) -> None:
    prompt = load("edges_api.json")
    prompt["5"]["inputs"]["masks"] = value
    code, out, _ = run(prompt, "--check")
    assert code == run_workflow.WRONG
    assert f"input 'masks' is a MASK connection but holds the literal {value!r}" in out


def test_check_explains_a_group_node(run: Callable) -> None:
    pytest.importorskip("comfy_cli")
    text = json.dumps(load("edges_editor.json")).replace('"GradientRegion"', '"workflow>my group"')
    code, out, _ = run(text, "--check")
    assert code == run_workflow.WRONG
    assert 'problem: node 5 (workflow>my group "Edges") is an old group node; open the workflow' in out


def test_check_explains_a_subgraph_without_definition(run: Callable) -> None:
    pytest.importorskip("comfy_cli")
    data = load("subgraph_editor.json")
    del data["definitions"]
    code, out, _ = run(data, "--check")
    assert code == run_workflow.WRONG
    assert "is a subgraph whose definition is missing from the file" in out


@pytest.mark.parametrize("editor", [False, True])
def test_check_handles_ten_thousand_nodes(run: Callable, editor: bool) -> None:
    prompt = {"1": {"class_type": "LoadImageMask", "inputs": {"image": "photo.png", "channel": "red"}}}
    for number in range(2, 10_000):
        prompt[str(number)] = {"class_type": "InvertMask", "inputs": {"mask": [str(number - 1), 0]}}
    prompt["10000"] = {"class_type": "MaskToImage", "inputs": {"mask": ["9999", 0]}}
    prompt["10001"] = {"class_type": "PreviewImage", "inputs": {"images": ["10000", 0]}}
    prompt["9000"]["inputs"]["mask"] = ["8999", 7]
    if editor:
        pytest.importorskip("comfy_cli")
        code, out, err = run(as_editor_file(prompt), "--check")
        assert "link 8999 into node 9000 reads output slot 7 of node 8999, which has 1 output" in err
    else:
        code, out, err = run(prompt, "--check")
        assert "node 9000 (InvertMask): input 'mask' references InvertMask[7] but InvertMask has 1 output" in out
    assert code == run_workflow.WRONG
    assert "Traceback" not in err


def as_editor_file(prompt: dict) -> dict:
    nodes, links = [], []
    for key, node in prompt.items():
        inputs = []
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                links.append([len(links) + 1, int(value[0]), value[1], int(key), 0, "*"])
                inputs.append({"name": name, "type": "*", "link": len(links)})
        outputs = [{"name": "out", "type": "*", "links": [int(key)]}]
        nodes.append({"id": int(key), "type": node["class_type"], "mode": 0, "inputs": inputs, "outputs": outputs})
    return {"nodes": nodes, "links": links, "version": 0.4}


def detailer(**switches: object) -> tuple[Workflow, dict]:
    """A prompt of the detailer alone, and what an engine knows of it."""
    kind = NODE_CLASS_MAPPINGS["MaskDetailerPipe"]
    required = kind.INPUT_TYPES()["required"]
    inputs = {name: spec[1]["default"] for name, spec in required.items() if "default" in spec[1]}
    prompt = {"7": {"class_type": "MaskDetailerPipe", "inputs": {**inputs, **switches}}}
    info = {"MaskDetailerPipe": builtin_engine.node_info("MaskDetailerPipe", kind, "Mask Detailer (pipe)")}
    return Workflow(prompt, is_editor=False), info


@pytest.mark.parametrize(
    ("name", "text", "taken"),
    [
        ("bbox_fill", "false", False),
        ("bbox_fill", "True", True),
        ("contour_fill", "disabled", False),
        ("guide_size_for", "crop region", False),
        ("mask_mode", "masked only", True),
    ],
)
def test_convert_reads_a_switch_saved_as_text(name: str, text: str, taken: bool) -> None:
    """ComfyUI would take any text for on."""
    workflow, info = detailer(**{name: text})
    notes: list[str] = []
    assert convert(workflow, info, notes.append)["7"]["inputs"][name] is taken
    note = f"widget {name}: the text {text.lower()} is read as {json.dumps(taken)}"
    assert note in notes[0] and note in report(workflow, info, str, lambda kind: [])[0][0]


@pytest.mark.parametrize("text", ["", "maybe", "normal"])
def test_report_refuses_other_text_for_a_switch(text: str) -> None:
    workflow, info = detailer(bbox_fill=text)
    problems = [text for text in report(workflow, info, str, lambda kind: [])[1] if "bbox_fill" in text]
    assert len(problems) == 1 and problems[0].startswith("node 7 (MaskDetailerPipe): bbox_fill: expected BOOLEAN")


@pytest.mark.parametrize(
    ("about", "problems"), [(NODE_CLASS_MAPPINGS["CLIPSegModelLoader"].DESCRIPTION, 0), ("Another pack's loader.", 1)]
)
def test_report_leaves_model_names_to_the_pack_s_own_nodes(about: str, problems: int) -> None:
    node = "CLIPSegModelLoader"
    info = {
        "input": {"required": {"model": [["here.pth"], {}]}},
        "output": ["CLIPSEG_MODEL"],
        "name": node,
        "display_name": node,
        "description": about,
    }
    prompt = {"7": {"class_type": node, "inputs": {"model": "gone.pth"}}}
    notes, faults = report(Workflow(prompt, is_editor=False), {node: info}, str, lambda kind: [])
    assert len([text for text in faults if "known options for model" in text]) == problems
    model_sentences = [text for text in notes + faults if "the model gone.pth" in text]
    assert len(model_sentences) == 1 - problems


def test_check_reports_a_missing_input(run: Callable) -> None:
    prompt = load("edges_api.json")
    del prompt["5"]["inputs"]["masks"]
    code, out, _ = run(prompt, "--check")
    assert (code, "required input 'masks' is missing" in out) == (run_workflow.WRONG, True)


@pytest.mark.parametrize(
    ("node", "message", "code"),
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
def test_check_names_models_and_their_source(run: Callable, node: dict, message: str, code: int) -> None:
    pytest.importorskip("transformers")
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
    result, out, _ = run(prompt, "--check")
    assert message in out.replace("\\", "/")
    assert result == code
