"""Widgets: bad values, --set, and placeholders in file names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import builtin_engine
import pytest
import run_workflow
from workflow.engine_interface import WorkflowError
from workflow.widgets import apply_settings, expand_prefixes, parse_settings
from workflow_cases import load


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("5.kernel_size=99", "kernel_size=99 above max 31; use a value <= 31"),
        ("5.kernel_size=-1", "kernel_size=-1 below min 1"),
        ("5.kernel_size=wide", 'widget kernel_size: "wide" is not of type INT'),
        (
            "3.channel=gray",
            "node 3 (ImageToMask): 'gray' not in 4 known options for channel",
        ),
    ],
)
def test_set_of_a_bad_value_names_node_and_limit(run: Callable, photo: Path, setting: str, message: str) -> None:
    code, _, err = run(load("edges_api.json"), "--input", photo, "--set", setting)
    assert code == run_workflow.WRONG
    assert message in err


def test_check_prompt_reports_all_faults_at_once(run: Callable, photo: Path) -> None:
    prompt = load("edges_api.json")
    prompt["5"]["inputs"]["kernel_size"] = 99
    del prompt["3"]["inputs"]["channel"]
    prompt["7"]["inputs"]["mask"] = ["1", 0]
    prompt["10"] = {"class_type": "MaskPreview", "inputs": {"mask": ["5", 0]}}
    code, _, err = run(prompt, "--input", photo)
    assert code == run_workflow.WRONG
    assert "for 3 reasons" in err
    assert "node 3 (ImageToMask): required input 'channel' is missing" in err
    assert "node 7 (MaskToImage): input 'mask' expects MASK but LoadImage[0] produces IMAGE" in err


@pytest.mark.parametrize("name", ["5", "GradientRegion", "Edges"])
def test_apply_settings_finds_a_node_by_id_type_and_title(name: str) -> None:
    prompt = load("edges_api.json")
    with builtin_engine.BuiltinEngine() as engine:
        apply_settings(prompt, parse_settings([f"{name}.kernel_size=9"]), engine.object_info())
    assert prompt["5"]["inputs"]["kernel_size"] == 9


def test_apply_settings_reads_json_but_not_text_and_choices() -> None:
    info = {
        "N": {
            "input": {
                "required": {"s": ["STRING", {}], "c": [["true", "false"]], "b": ["BOOLEAN", {}], "f": ["FLOAT", {}]},
                "optional": {"n": ["COMFY_DYNAMICCOMBO_V3", {}], "i": ["INT", {}], "m": ["MASK"]},
            }
        }
    }
    prompt = {"1": {"class_type": "N", "inputs": {}}}
    settings = ["1.s=1.50", "1.c=true", "1.b=true", "1.f=2.5", "1.n=[1, 2]", "1.i=3"]
    apply_settings(prompt, parse_settings(settings), info)
    values = {"s": "1.50", "c": "true", "b": True, "f": 2.5, "n": {"__value__": [1, 2]}, "i": 3}
    assert prompt["1"]["inputs"] == values
    with pytest.raises(WorkflowError, match="has no widget m. Its widgets: s, c, b, f, n, i"):
        apply_settings(prompt, parse_settings(["1.m=3"]), info)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("5.width=3", 'node 5 (GradientRegion "Edges") has no widget width. Its widgets: kernel_size, shape, edge'),
        (
            "Blur.width=3",
            "no node has the id, type or title Blur. The nodes: node 1 (LoadImage); node 3 (",
        ),
        ("kernel_size=3", "write it as NODE.WIDGET=VALUE"),
        ("5.kernel_size", "write it as NODE.WIDGET=VALUE"),
    ],
)
def test_set_of_an_unknown_widget_lists_the_known_ones(run: Callable, photo: Path, setting: str, message: str) -> None:
    code, _, err = run(load("edges_api.json"), "--input", photo, "--set", setting)
    assert code == run_workflow.WRONG
    assert message in err


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT", "3.0"), ("INT", "true"), ("INT", '"5"'), ("INT", "1e999"), ("INT", "wide"), ("INT", "[1, 2]"),
        ("FLOAT", "false"), ("FLOAT", "NaN"), ("FLOAT", "null"),
        ("BOOLEAN", "no"), ("BOOLEAN", "True"), ("BOOLEAN", "1"),
    ],
)  # fmt: skip
def test_apply_settings_refuses_values_of_another_type(kind: str, value: str) -> None:
    info = {"N": {"input": {"required": {"w": [kind, {}]}}}}
    prompt = {"1": {"class_type": "N", "inputs": {"w": 0}}}
    with pytest.raises(WorkflowError) as caught:
        apply_settings(prompt, parse_settings([f"1.w={value}"]), info)
    assert f"--set 1.w={value}: node 1 (N), widget w: " in str(caught.value)
    assert str(caught.value).endswith(f"is not of type {kind}")
    assert prompt["1"]["inputs"] == {"w": 0}


@pytest.mark.parametrize("setting", ["nonsense", "5.=3", ".kernel_size=3"])
def test_parse_settings_fails_before_an_engine_is_searched(
    run: Callable, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setattr(run_workflow, "find_comfyui", lambda: pytest.fail("too late"))
    code, _, err = run(load("edges_api.json"), "--set", setting, engine="auto")
    assert code == run_workflow.WRONG
    assert f"error: --set {setting}: " in err


@pytest.mark.parametrize("file", ["edges_api.json", "edges_editor.json"])
@pytest.mark.parametrize("node", ["99", "5:1"])
def test_apply_settings_refuses_a_node_that_the_file_lacks(run: Callable, file: str, node: str) -> None:
    code, _, err = run(load(file), "--set", f"{node}.kernel_size=3")
    assert code == run_workflow.WRONG
    assert f"error: --set {node}.kernel_size=3: no node has the id, type or title {node}" in err


def test_apply_settings_refuses_an_ambiguous_type(run: Callable, photo: Path) -> None:
    prompt = load("edges_api.json")
    prompt["20"] = {"class_type": "InvertMask", "inputs": {"mask": ["3", 0]}}
    prompt["21"] = {"class_type": "InvertMask", "inputs": {"mask": ["3", 0]}}
    code, _, err = run(prompt, "--input", photo, "--set", "InvertMask.x=1")
    assert code == run_workflow.WRONG
    assert "2 nodes are called InvertMask; use an id: 20, 21" in err


def test_expand_prefixes_matches_the_editor() -> None:
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a/b.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "%date:yyyy-MM-dd%/%LoadImage.image%_%width%"}},
    }
    expand_prefixes(prompt, datetime(2024, 3, 5))
    assert prompt["2"]["inputs"]["filename_prefix"] == "2024-03-05/a_b.png_%width%"
