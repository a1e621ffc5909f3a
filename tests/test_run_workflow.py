"""Running workflow files from the shell: reading, checking, the built-in engine, and the life of a server.

No ComfyUI is needed here. What a server does is tested against a small stand-in that speaks the few routes in use;
`host/test_run_workflow_host.py` holds both engines to the same pixels in a real one.
"""

from __future__ import annotations

import copy
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import builtin_engine
import comfyui
import numpy as np
import pytest
import run_workflow
import torch
import workflow_files
from PIL import Image

WORKFLOWS = Path(__file__).parent / "fixtures" / "workflows"
TOOLS = Path(__file__).parent.parent / "tools"

posix_only = pytest.mark.skipif(os.name != "posix", reason="signals of this kind exist on POSIX only")


def load(name: str) -> dict:
    return json.loads((WORKFLOWS / name).read_text(encoding="utf-8"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture named photo.png, as the fixture workflows load it; in a folder apart from the workflow file's."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(7).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return folder / "photo.png"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Runs a workflow (a dict, text or file) with the built-in engine and gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(workflow: dict | str | Path, *arguments: object, engine: str = "builtin") -> tuple[int, str, str]:
        if not isinstance(workflow, Path):
            text = workflow if isinstance(workflow, str) else json.dumps(workflow)
            workflow = tmp_path / "workflow.json"
            workflow.write_text(text, encoding="utf-8")
        code = run_workflow.main([str(workflow), "--engine", engine, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def saved(out: str) -> list[Path]:
    return [Path(line) for line in out.splitlines() if not line.startswith("engine:")]


# -- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ('{"nodes": [{"id": 1, "type": "LoadIm', "cut short: it ends in the middle of the JSON, at line 1"),
        ('{"nodes": [', "cut short"),
        ("{'nodes': []}", "not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ("[1, 2]", "holds no workflow: it is a JSON list"),
        ('{"a": 1}', "holds no workflow: neither"),
        ('{"nodes": []}', "it has no links"),
        ('{"nodes": {}, "links": []}', "nodes is a JSON object"),
    ],
)
def test_file_that_holds_no_workflow_is_named_with_the_place(run: Callable, text: str, said: str) -> None:
    code, _, err = run(text)
    assert code == run_workflow.WRONG
    assert said in err
    assert "workflow.json" in err
    assert "Traceback" not in err


def test_file_that_is_not_there_or_not_text_is_an_error(run: Callable, tmp_path: Path) -> None:
    code, _, err = run(tmp_path / "none.json")
    assert code == run_workflow.WRONG
    assert "none.json" in err
    (tmp_path / "binary.json").write_bytes(b'{"a": "\xff\xfe"}')
    assert "not text (byte 7" in run(tmp_path / "binary.json")[2]


def test_api_format_is_found_inside_the_body_of_a_call_to_prompt(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps({"prompt": load("edges_api.json"), "client_id": "x"}), encoding="utf-8")
    workflow = workflow_files.read_workflow(tmp_path / "w.json")
    assert not workflow.is_editor
    assert workflow.data == load("edges_api.json")


# -- both formats -------------------------------------------------------------------------------------------------


def test_editor_format_becomes_the_same_prompt_as_the_api_export() -> None:
    """Reroute, bypassed, muted, primitive and note nodes are in the editor's file, and gone from the prompt."""
    pytest.importorskip("comfy_cli")
    with builtin_engine.BuiltinEngine() as engine:
        workflow = workflow_files.read_workflow(WORKFLOWS / "edges_editor.json")
        prompt = workflow_files.to_prompt(workflow, engine.object_info(), engine.unknown)
    without_titles = {key: {k: v for k, v in node.items() if k != "_meta"} for key, node in prompt.items()}
    assert without_titles == {
        key: {k: v for k, v in node.items() if k != "_meta"} for key, node in load("edges_api.json").items()
    }


def test_primitive_wins_over_the_value_saved_with_the_node_it_feeds() -> None:
    pytest.importorskip("comfy_cli")
    data = load("edges_editor.json")
    primitive = next(node for node in data["nodes"] if node["type"] == "PrimitiveNode")
    fed = next(node for node in data["nodes"] if node["type"] == "GradientRegion")
    assert primitive["widgets_values"][0] != fed["widgets_values"][0]
    workflow = workflow_files.Workflow(Path("w.json"), data, is_editor=True)
    with builtin_engine.BuiltinEngine() as engine:
        prompt = workflow_files.to_prompt(workflow, engine.object_info(), engine.unknown)
    assert prompt["5"]["inputs"]["kernel_size"] == primitive["widgets_values"][0]


def test_links_in_the_newer_form_convert_like_those_in_the_older() -> None:
    pytest.importorskip("comfy_cli")
    data = load("edges_editor.json")
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    newer = {**data, "links": [dict(zip(keys, link)) for link in data["links"]]}
    with builtin_engine.BuiltinEngine() as engine:
        prompts = [
            workflow_files.to_prompt(
                workflow_files.Workflow(Path("w"), each, is_editor=True), engine.object_info(), engine.unknown
            )
            for each in (data, newer)
        ]
    assert prompts[0] == prompts[1]


def test_both_formats_and_a_saved_picture_give_the_same_pixels(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    first = saved(run(WORKFLOWS / "edges_editor.json", "--input", photo)[1])
    second = saved(run(WORKFLOWS / "edges_api.json", "--input", photo)[1])
    again = saved(run(first[0], "--input", photo)[1])  # the picture holds the workflow that made it
    pictures = [np.array(Image.open(file)) for (file,) in (first, second, again)]
    assert pictures[0].any()
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] == pictures[2]).all()


def test_subgraph_runs(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    code, out, err = run(WORKFLOWS / "subgraph_editor.json", "--input", photo)
    assert code == run_workflow.OK, err
    assert np.array(Image.open(saved(out)[0])).any()


def test_editor_format_without_the_converter_names_the_pip_command(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_workflow.importlib.util, "find_spec", lambda name: None)
    code, _, err = run(WORKFLOWS / "edges_editor.json")
    assert code == run_workflow.WRONG
    assert "-m pip install comfy-cli" in err


# -- faults in the graph --------------------------------------------------------------------------------------------


def change(data: dict, **changes: Callable[[dict], None]) -> dict:
    """A copy of an editor workflow with the nodes named `n<id>` changed."""
    data = copy.deepcopy(data)
    for node in data["nodes"]:
        if f"n{node['id']}" in changes:
            changes[f"n{node['id']}"](node)
    return data


def test_unknown_node_is_named_with_id_type_and_title_and_what_to_do(run: Callable) -> None:
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


def test_unknown_node_wired_to_nothing_is_left_out_with_a_note(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    data = load("edges_editor.json")
    data["nodes"].append({"id": 50, "type": "Label (rgthree)", "inputs": [], "outputs": []})
    code, _, err = run(data, "--input", photo)
    assert code == run_workflow.OK
    assert "note: node 50 (Label (rgthree)) is left out" in err


def test_muted_and_bypassed_unknown_nodes_do_no_harm(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    change_type = lambda node: node.update(type="NotInstalled")  # noqa: E731 - the same change, twice
    code, _, err = run(change(load("edges_editor.json"), n6=change_type, n9=change_type), "--input", photo)
    assert code == run_workflow.OK, err


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


def test_input_fed_by_a_muted_node_names_that_node(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    data = change(load("edges_editor.json"), n3=lambda node: node.update(mode=workflow_files.MUTED))
    code, _, err = run(data, "--input", photo)
    assert code == run_workflow.WRONG
    assert 'node 5 (GradientRegion "Edges"): input masks comes from node 3 (ImageToMask), which is muted' in err


def test_long_chain_is_no_problem_for_the_loop_search() -> None:
    edges = [(str(index), str(index + 1)) for index in range(5000)]
    assert workflow_files._find_loop(edges) == []
    assert workflow_files._find_loop([*edges, ("5000", "4998")]) == ["4998", "4999", "5000", "4998"]


def test_workflow_that_shows_nothing_is_an_error(run: Callable) -> None:
    prompt = load("edges_api.json")
    del prompt["8"]
    code, _, err = run(prompt)
    assert code == run_workflow.WRONG
    assert "no active node that saves or shows anything" in err


# -- faults in the values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("5.kernel_size=99", "widget kernel_size: 99 is too large; allowed: a whole number from 1 to 31 in steps of 2"),
        ("5.kernel_size=-1", "widget kernel_size: -1 is too small; allowed: a whole number from 1 to 31"),
        ("5.kernel_size=wide", 'widget kernel_size: "wide" is of the wrong type; allowed: a whole number'),
        (
            "3.channel=grey",
            'node 3 (ImageToMask), widget channel: "grey" is not in the list; allowed: red, green, blue',
        ),
    ],
)
def test_bad_value_is_named_with_node_widget_value_and_what_is_allowed(
    run: Callable, photo: Path, setting: str, said: str
) -> None:
    code, _, err = run(load("edges_api.json"), "--input", photo, "--set", setting)
    assert code == run_workflow.WRONG
    assert said in err


def test_every_fault_is_told_at_once(run: Callable, photo: Path) -> None:
    prompt = load("edges_api.json")
    prompt["5"]["inputs"]["kernel_size"] = 99
    del prompt["3"]["inputs"]["channel"]
    prompt["7"]["inputs"]["mask"] = ["1", 0]
    prompt["10"] = {"class_type": "MaskPreview", "inputs": {"mask": ["5", 0]}}
    code, _, err = run(prompt, "--input", photo)
    assert code == run_workflow.WRONG
    assert "for 3 reasons" in err
    assert "node 3 (ImageToMask), widget channel: it is required and not given" in err
    assert "node 7 (MaskToImage), input mask: it is linked to node 1, which gives IMAGE; it takes MASK" in err


def test_missing_file_is_named_with_where_it_was_looked_for(run: Callable, tmp_path: Path) -> None:
    code, _, err = run(load("edges_api.json"))
    assert code == run_workflow.WRONG
    assert 'node 1 (LoadImage), widget image: there is no file "photo.png"' in err
    assert str(tmp_path) in err
    assert "--input FILE" in err


# -- --input and --set ----------------------------------------------------------------------------------------------


def loaders(*names: str) -> dict:
    """A prompt with a LoadImage for each file name, ids 1, 2, ..., each shown."""
    prompt = {}
    for number, name in enumerate(names, 1):
        prompt[str(number)] = {"class_type": "LoadImage", "inputs": {"image": name}}
        prompt[str(100 + number)] = {"class_type": "PreviewImage", "inputs": {"images": [str(number), 0]}}
    return prompt


@pytest.mark.parametrize(
    ("widgets", "files", "expected"),
    [
        (["a.png", "b.png"], ["x.png", "y.png"], ["x.png", "y.png"]),  # as many as nodes: in order
        (["a.png", "b.png"], ["b.png", "x.png"], ["x.png", "b.png"]),  # by name first, then in order
        (["a.png", "a.png"], ["x.png"], ["x.png", "x.png"]),  # one for each distinct name
        (["a.png", "a.png"], ["x.png", "y.png"], ["x.png", "y.png"]),
        (["sub/a.png [input]"], ["a.png"], ["a.png"]),
        (["a.png", "b.png"], ["a.png"], ["a.png", "b.png"]),
    ],
)
def test_input_files_go_to_the_loading_nodes(widgets: list[str], files: list[str], expected: list[str]) -> None:
    prompt = loaders(*widgets)
    with builtin_engine.BuiltinEngine({}, {}) as engine:
        info = engine.object_info()
    workflow_files.assign_inputs(prompt, [Path(file) for file in files], files, info)
    assert [prompt[str(number)]["inputs"]["image"] for number in range(1, len(widgets) + 1)] == expected


def test_input_files_that_fit_nowhere_are_an_error(run: Callable, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(photo.read_bytes())
    code, _, err = run(loaders("a.png", "b.png", "c.png"), "--input", photo, other)
    assert code == run_workflow.WRONG
    assert "2 file(s) (photo.png, other.png) for 3 nodes that load a file" in err
    assert "--set 1.image=photo.png" in err
    code, _, err = run(load("edges_api.json"), "--input", photo, "--input", other)
    assert "no node left that loads a file, so nothing can take other.png" in err
    code, _, err = run(load("edges_api.json"), "--input", tmp_path / "none.png")
    assert (code, "there is no file" in err) == (run_workflow.WRONG, True)


def test_two_input_files_of_one_name_stay_apart(run: Callable, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    second = tmp_path / "else" / "photo.png"
    Image.new("RGB", (8, 8), "red").save(second)
    code, out, err = run(loaders("a.png", "b.png"), "--input", photo, second)
    assert code == run_workflow.OK, err
    assert [Image.open(file).size for file in saved(out)] == [(32, 24), (8, 8)]


def test_file_beside_the_workflow_is_found(run: Callable, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo.read_bytes())
    assert run(load("edges_api.json"))[0] == run_workflow.OK


def test_widget_cannot_reach_outside_the_input_folder(run: Callable, photo: Path) -> None:
    code, _, err = run(loaders("../../etc/passwd"))
    assert code == run_workflow.WRONG
    assert "is not a file name in the input folder" in err


@pytest.mark.parametrize("name", ["5", "GradientRegion", "Edges"])
def test_set_finds_a_node_by_id_type_and_title(name: str) -> None:
    prompt = load("edges_api.json")
    with builtin_engine.BuiltinEngine() as engine:
        workflow_files.apply_settings(prompt, [f"{name}.kernel_size=9"], engine.object_info())
    assert prompt["5"]["inputs"]["kernel_size"] == 9


def test_set_reads_json_but_leaves_text_and_choices_as_they_stand() -> None:
    info = {
        "N": {
            "input": {
                "required": {"s": ["STRING", {}], "c": [["true", "false"]], "b": ["BOOLEAN", {}], "f": ["FLOAT", {}]},
                "optional": {"n": ["INT", {}], "m": ["MASK"]},
            }
        }
    }
    prompt = {"1": {"class_type": "N", "inputs": {}}}
    settings = ["1.s=1.50", "1.c=true", "1.b=true", "1.f=2.5", "1.n=[1, 2]"]
    workflow_files.apply_settings(prompt, settings, info)
    values = {"s": "1.50", "c": "true", "b": True, "f": 2.5, "n": {"__value__": [1, 2]}}
    assert prompt["1"]["inputs"] == values
    with pytest.raises(workflow_files.WorkflowError, match="m is a link that carries MASK.*Its widgets: s, c, b, f, n"):
        workflow_files.apply_settings(prompt, ["1.m=3"], info)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("5.width=3", 'width is not there in node 5 (GradientRegion "Edges"). Its widgets: kernel_size, shape, edge'),
        ("Blur.width=3", "no node has the id, type or title Blur. There are: node 1 (LoadImage); node 3 (ImageToMask)"),
        ("kernel_size=3", "write it as NODE.WIDGET=VALUE"),
        ("5.kernel_size", "write it as NODE.WIDGET=VALUE"),
    ],
)
def test_setting_that_fits_nothing_lists_what_there_is(run: Callable, photo: Path, setting: str, said: str) -> None:
    code, _, err = run(load("edges_api.json"), "--input", photo, "--set", setting)
    assert code == run_workflow.WRONG
    assert said in err


def test_type_that_two_nodes_have_is_ambiguous(run: Callable, photo: Path) -> None:
    prompt = load("edges_api.json")
    prompt["20"] = {"class_type": "InvertMask", "inputs": {"mask": ["3", 0]}}
    prompt["21"] = {"class_type": "InvertMask", "inputs": {"mask": ["3", 0]}}
    code, _, err = run(prompt, "--input", photo, "--set", "InvertMask.x=1")
    assert code == run_workflow.WRONG
    assert "2 nodes are called InvertMask; take an id: 20, 21" in err


def test_prefix_is_filled_in_as_the_editor_does() -> None:
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a/b.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "%date:yyyy-MM-dd%/%LoadImage.image%_%width%"}},
    }
    workflow_files.expand_prefixes(prompt, datetime(2024, 3, 5))
    assert prompt["2"]["inputs"]["filename_prefix"] == "2024-03-05/a_b.png_%width%"


# -- results and progress -------------------------------------------------------------------------------------------


def test_results_count_on_and_overwrite_nothing(run: Callable, photo: Path, tmp_path: Path) -> None:
    prompt = load("edges_api.json")
    prompt["8"]["inputs"]["filename_prefix"] = "sub/edges"
    prompt["9"] = {"class_type": "MaskPreview", "inputs": {"mask": ["5", 0]}}
    for number in (1, 2):
        code, out, _ = run(prompt, "--input", photo, "--output", tmp_path / "out")
        assert code == run_workflow.OK
        folder = tmp_path / "out"
        assert saved(out) == [folder / "sub" / f"edges_{number:05}_.png", folder / f"preview-9_{number:05}_.png"]
    assert out.startswith("engine: built-in (asked for)\n")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_quiet_for_a_second_and_uses_no_carriage_returns_in_a_file() -> None:
    clock, stream = Clock(), io.StringIO()
    line = run_workflow.ProgressLine(stream, clock)
    for clock.now in (0.0, 0.5):
        line.show("starting ComfyUI")
    assert stream.getvalue() == ""
    for clock.now in (1.5, 3.0, 9.0, 12.0):
        line.tick()
    line.show("node 1")
    line.end()
    assert stream.getvalue() == "starting ComfyUI (2 s)\nstarting ComfyUI (12 s)\n"


def test_progress_on_a_terminal_is_one_line_that_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), Terminal()
    monkeypatch.setattr(run_workflow, "_tqdm", lambda: None)
    line = run_workflow.ProgressLine(stream, clock)
    clock.now = 2.0
    line.show("node 4 (CLIPSeg)", 1, 3)
    assert stream.getvalue() == "\rnode 4 (CLIPSeg) 1/3 (0 s)"
    line.end()
    assert stream.getvalue().endswith("\r")
    assert "\n" not in stream.getvalue()


def test_progress_with_a_count_on_a_terminal_is_a_tqdm_bar() -> None:
    pytest.importorskip("tqdm")
    clock, stream = Clock(), Terminal()
    line = run_workflow.ProgressLine(stream, clock)
    clock.now = 2.0
    line.show("node 4", 1, 4)
    line.end()
    assert "node 4" in stream.getvalue()
    assert "1/4" in stream.getvalue()


# -- the built-in engine ----------------------------------------------------------------------------------------------


class Doubled:
    """A node that gives its inputs back, so that a test sees how it was called."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"value": ("*",), "other": ("*",)}})
    RETURN_TYPES, FUNCTION = ("*", "*"), "run"
    OUTPUT_IS_LIST = (False, True)

    def run(self, value: object, other: object) -> tuple:
        return ((value, other), [value, value])


class Listing:
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES, FUNCTION, OUTPUT_IS_LIST = ("*",), "run", (True,)

    def run(self) -> tuple:
        return ([1, 2, 3],)


class Show:
    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {"value": ("*",)},
            "optional": {"extra": ("INT", {"default": 4})},
            "hidden": {"me": "UNIQUE_ID", "whole": "PROMPT", "png": "EXTRA_PNGINFO"},
        }
    )
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, INPUT_IS_LIST = (), "run", True, True

    def run(self, value: list, me: list, whole: list, png: list, extra: object = "not given") -> dict:
        return {"ui": {"seen": [value, me, sorted(whole[0]), png, extra]}}


class Failing:
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE = (), "run", True
    error: Exception

    def run(self) -> tuple:
        raise self.error


class Picky:
    INPUT_TYPES = classmethod(lambda cls: {"required": {"mode": (["a"],), "size": ("INT", {"max": 3})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE = (), "run", True

    @classmethod
    def VALIDATE_INPUTS(cls, mode: str) -> bool | str:
        return True if mode.startswith("a") else "modes start with a"

    def run(self, mode: str, size: int) -> dict:
        return {"ui": {"mode": [mode], "size": [size]}}


def engine_of(**classes: type) -> builtin_engine.BuiltinEngine:
    return builtin_engine.BuiltinEngine(classes, {})


def test_lists_are_mapped_as_comfyui_maps_them() -> None:
    prompt = {
        "1": {"class_type": "Listing", "inputs": {}},
        "2": {"class_type": "Doubled", "inputs": {"value": ["1", 0], "other": "x"}},
        "3": {"class_type": "Show", "inputs": {"value": ["2", 0]}},
        "4": {"class_type": "Show", "inputs": {"value": ["2", 1]}},
    }
    with engine_of(Listing=Listing, Doubled=Doubled, Show=Show) as engine:
        shown = engine.queue(prompt, extra_pnginfo={"workflow": 1}).outputs
    assert shown["3"]["seen"] == [
        [(1, "x"), (2, "x"), (3, "x")],
        ["3"],
        ["1", "2", "3", "4"],
        [{"workflow": 1}],
        "not given",
    ]
    assert shown["4"]["seen"][0] == [1, 1, 2, 2, 3, 3]


def test_node_runs_once_however_many_draw_on_it() -> None:
    calls = []

    class Counting(Listing):
        def run(self) -> tuple:
            calls.append(1)
            return ([1],)

    prompt = {"1": {"class_type": "Counting", "inputs": {}}}
    prompt |= {str(n): {"class_type": "Show", "inputs": {"value": ["1", 0]}} for n in (2, 3)}
    prompt["9"] = {"class_type": "Counting", "inputs": {}}  # drawn on by nothing, so never run
    with engine_of(Counting=Counting, Show=Show) as engine:
        engine.queue(prompt)
    assert len(calls) == 1


def test_validate_inputs_replaces_the_checks_of_the_inputs_it_names() -> None:
    with engine_of(Picky=Picky) as engine:
        shown = engine.queue({"1": {"class_type": "Picky", "inputs": {"mode": "also", "size": "2"}}}).outputs
        assert shown["1"] == {"mode": ["also"], "size": [2]}
        with pytest.raises(workflow_files.BadWorkflow, match="modes start with a"):
            engine.queue({"1": {"class_type": "Picky", "inputs": {"mode": "b", "size": 2}}})
        with pytest.raises(workflow_files.BadWorkflow, match=r"size: 4 is too large; allowed: a whole number up to 3"):
            engine.queue({"1": {"class_type": "Picky", "inputs": {"mode": "a", "size": 4}}})


def test_failing_node_is_named_and_own_errors_are_shown_without_their_type() -> None:
    from maskwright.core.errors import InputError

    with engine_of(Failing=Failing) as engine:
        for error, said in (
            (InputError("mask is empty", "Draw one"), "node 7 (Failing) failed: mask is empty. Draw one."),
            (KeyError("x"), "node 7 (Failing) failed: KeyError: 'x'"),
        ):
            Failing.error = error
            with pytest.raises(workflow_files.NodeFailed) as caught:
                engine.queue({"7": {"class_type": "Failing", "inputs": {}}})
            assert str(caught.value) == said
            assert "Traceback" in caught.value.trace


def test_failed_run_exits_with_1_and_shows_a_traceback_only_on_demand(run: Callable, photo: Path) -> None:
    prompt = load("edges_api.json")
    code, _, err = run(prompt, "--input", photo, "--set", "3.channel=alpha")  # the picture has no alpha
    assert code == run_workflow.FAILED
    assert "node 3 (ImageToMask) failed: IndexError" in err
    assert "Traceback" not in err
    assert "Traceback" in run(prompt, "--input", photo, "--set", "3.channel=alpha", "--debug")[2]


def test_object_info_has_the_shape_of_the_servers() -> None:
    with builtin_engine.BuiltinEngine() as engine:
        info = engine.object_info()
    keys = {"input", "input_order", "output", "output_is_list", "output_name", "name", "display_name", "description"}
    for schema in info.values():
        assert keys | {"category", "output_node", "python_module"} <= schema.keys()
    assert info["GradientRegion"]["display_name"] == "Gradient Region"
    assert info["SaveImage"]["output_node"] is True


def load_image(tmp_path: Path, picture: Image.Image, name: str = "p.png", **save: object) -> tuple:
    node = type("L", (builtin_engine.LoadImage,), {"folders": builtin_engine.Folders(tmp_path, tmp_path, tmp_path)})
    picture.save(tmp_path / name, **save)
    return node().run(name)


def test_load_image_reads_alpha_turns_by_exif_and_stacks_frames(tmp_path: Path) -> None:
    image, mask = load_image(tmp_path, Image.new("RGBA", (4, 2), (255, 0, 51, 204)))
    assert image.shape == (1, 2, 4, 3)
    assert torch.equal(image[0, 0, 0], torch.tensor([255.0, 0.0, 51.0]) / 255)
    assert torch.allclose(mask, torch.full((1, 2, 4), 0.2))
    image, mask = load_image(tmp_path, Image.new("RGB", (4, 2)))
    assert torch.equal(mask, torch.zeros(1, 64, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert load_image(tmp_path, Image.new("RGB", (4, 2)), "p.jpg", exif=exif)[0].shape == (1, 4, 2, 3)
    frames = [Image.new("RGB", (5, 3), colour) for colour in ("red", "lime", "blue")]
    image, mask = load_image(tmp_path, frames[0], "p.gif", save_all=True, append_images=frames[1:])
    assert image.shape == (3, 3, 5, 3)
    assert mask.shape == (3, 64, 64)


def test_saving_cannot_leave_the_output_folder(run: Callable, photo: Path) -> None:
    code, _, err = run(load("edges_api.json"), "--input", photo, "--set", "8.filename_prefix=../../x")
    assert code == run_workflow.FAILED
    assert "outside the output folder is not allowed" in err


def test_composite_repeats_the_batch_and_cuts_what_falls_outside() -> None:
    node = builtin_engine.ImageCompositeMasked()
    destination, source = torch.zeros(3, 4, 4, 3), torch.ones(2, 3, 3, 3)
    (result,) = node.run(destination, source, 2, 1, False)
    expected = torch.zeros(3, 4, 4, 3)
    expected[:, 1:4, 2:4] = 1
    assert torch.equal(result, expected)
    assert not destination.any()
    (result,) = node.run(torch.zeros(1, 4, 4, 4), source, 9, 0, False, torch.ones(1, 2, 2))
    assert torch.equal(result, torch.zeros(1, 4, 4, 4))


# -- finding ComfyUI, and the life of a server -------------------------------------------------------------------------

# Stands in for ComfyUI: the few routes in use, and nothing else. Its behaviour is chosen by the file "how" beside it.
STAND_IN = """
import argparse, json, os, pathlib, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--base-directory")
options, _ = parser.parse_known_args()
how = (pathlib.Path(__file__).parent / "how").read_text()
print("stand-in", how, flush=True)
if how == "dies":
    for number in range(40):
        print("line", number)
    sys.exit("no such option")
if how == "hangs":
    time.sleep(60)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
(pathlib.Path(options.base_directory) / "child").write_text(str(child.pid))

class Answers(BaseHTTPRequestHandler):
    def answer(self, body, code=200):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        if self.path == "/system_stats":
            self.answer({"system": {"argv": sys.argv}})
        elif self.path == "/object_info":
            self.answer({"N": {"input": {"required": {"n": ["INT", {"min": 1, "max": 3}]}}, "output": []}})
        elif self.path.startswith("/ws"):
            self.answer({}, 404)
        elif how == "dies in the run":
            os._exit(3)
        else:
            status = {"status_str": "success", "messages": []}
            if how == "node fails":
                data = {"node_id": "4", "node_type": "N", "exception_message": "no", "exception_type": "ValueError"}
                status = {"status_str": "error", "messages": [["execution_error", data]]}
            images = [{"filename": "a.png", "subfolder": "s", "type": "output"}]
            self.answer({"1": {"outputs": {"4": {"images": images}}, "status": status}})
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        errors = {"4": {"class_type": "N", "errors": [{"type": "value_bigger_than_max", "message": "",
            "details": "n", "extra_info": {"input_name": "n", "received_value": 9}}]}}
        if how == "refuses":
            self.answer({"error": {"message": "bad"}, "node_errors": errors}, 400)
        elif how == "refuses a part":
            self.answer({"prompt_id": "1", "node_errors": errors})
        else:
            self.answer({"prompt_id": "1", "node_errors": {}})
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", options.port), Answers).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], comfyui.ComfyUI]:
    def make(how: str) -> comfyui.ComfyUI:
        folder = tmp_path / "ComfyUI"
        folder.mkdir()
        (folder / "main.py").write_text(STAND_IN, encoding="utf-8")
        (folder / "how").write_text(how, encoding="utf-8")
        return comfyui.ComfyUI(folder, Path(sys.executable), "0.0.0", "")

    return make


def gone(port: int) -> bool:
    """Whether nothing listens on the port any more; a dying server gets some seconds."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return True
        time.sleep(0.1)
    return False


def runs(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has collected yet does not."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except ProcessLookupError:
        return False


def test_server_runs_a_prompt_and_is_gone_after_the_block(stand_in: Callable) -> None:
    with comfyui.Server(stand_in("works"), cpu=True) as server:
        linked = server.base / "custom_nodes" / comfyui.LINK_NAME
        assert (linked / "__init__.py").is_file()
        result = server.queue({"4": {"class_type": "N", "inputs": {}}})
        assert result.files == [workflow_files.OutputFile("4", server.base / "output/s/a.png", "output", "s")]
    assert gone(server.port)
    assert not server.base.exists()
    assert (comfyui.ROOT / "__init__.py").is_file()  # the link was removed, not what it points at


@posix_only
def test_server_and_its_children_are_gone_after_an_exception(stand_in: Callable) -> None:
    with pytest.raises(ZeroDivisionError), comfyui.Server(stand_in("works"), cpu=True) as server:
        child = int((server.base / "child").read_text())
        assert runs(child)
        raise ZeroDivisionError
    assert gone(server.port)
    assert not runs(server_child := child), server_child


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", 9)])
def test_server_is_gone_when_its_parent_is_killed(stand_in: Callable, tmp_path: Path, number: int) -> None:
    place = stand_in("works")
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import comfyui, pathlib\n"
        "found = comfyui.ComfyUI(pathlib.Path(sys.argv[2]), pathlib.Path(sys.executable), '', '')\n"
        "with comfyui.Server(found, cpu=True) as server:\n"
        "    print(server.port, server.pid, server.base, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(TOOLS), str(place.path)], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    ) as parent:  # fmt: skip
        port, pid, base = parent.stdout.readline().split()
        child = int((Path(base) / "child").read_text())
        parent.send_signal(number)
        parent.wait(20)
    assert gone(int(port))
    until = time.monotonic() + 10
    while (runs(int(pid)) or runs(child) or Path(base).exists()) and time.monotonic() < until:
        time.sleep(0.1)
    assert (runs(int(pid)), runs(child), Path(base).exists()) == (False, False, False)


def test_server_that_dies_early_shows_the_end_of_its_log(stand_in: Callable) -> None:
    with pytest.raises(comfyui.ServerError) as caught:
        comfyui.Server(stand_in("dies"), cpu=True).start()
    text = str(caught.value)
    assert "ended before it answered (exit 1)" in text
    assert "no such option" in text
    assert "line 39" in text
    assert "line 9\n" not in text


def test_server_that_never_answers_runs_into_the_time_limit(stand_in: Callable) -> None:
    server = comfyui.Server(stand_in("hangs"), cpu=True, time_limit=0.8)
    with pytest.raises(comfyui.ServerError, match="did not answer within 1 seconds"):
        server.start()
    assert not server.base.exists()


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("refuses", workflow_files.BadWorkflow, "node 4 .N., widget n: 9 is too large; allowed: a whole number from 1"),
        ("refuses a part", workflow_files.BadWorkflow, "widget n: 9 is too large"),
        ("node fails", workflow_files.NodeFailed, "node 4 .N. failed: ValueError: no"),
        ("dies in the run", comfyui.ServerError, "ComfyUI ended in the middle of the run"),
    ],
)
def test_what_the_server_reports_becomes_a_sentence(stand_in: Callable, how: str, error: type, said: str) -> None:
    with comfyui.Server(stand_in(how), cpu=True) as server, pytest.raises(error, match=said):
        server.queue({"4": {"class_type": "N", "inputs": {"n": 9}}})


def test_models_folder_is_handed_to_comfyui_with_places_for_downloads(tmp_path: Path) -> None:
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    found = comfyui.ComfyUI(tmp_path, Path(sys.executable), "", "")
    server = comfyui.Server(found, models=tmp_path / "models")
    server.base = tmp_path
    section = json.loads(server._write_model_paths().read_text())["models"]
    assert section["base_path"] == str(tmp_path / "models")
    assert section["is_default"] is True
    assert section["checkpoints"] == "checkpoints"
    assert section["clipseg"] == "clipseg"


@pytest.fixture
def no_comfyui(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("COMFYUI_PATH", "COMFYUI_PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(comfyui.Path, "home", lambda: tmp_path / "home")


def make_comfyui(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("main.py", "folder_paths.py"):
        (folder / name).touch()
    (folder / "comfyui_version.py").write_text('__version__ = "1.2.3"\n')
    return folder


def test_comfyui_is_looked_for_in_the_named_places_in_order(
    no_comfyui: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfyui, "_python_problem", lambda python: "")
    pack = tmp_path / "other" / "custom_nodes" / "maskwright"
    none = comfyui.find_comfyui(pack)
    assert not none.usable
    assert "COMFYUI_PATH is not set" in none.why
    documents = [] if sys.platform.startswith("linux") else ["Documents"]
    default = make_comfyui(tmp_path.joinpath("home", *documents, "comfy", "ComfyUI"))
    assert comfyui.find_comfyui(pack).path == default
    around = make_comfyui(tmp_path / "other")
    assert comfyui.find_comfyui(pack).path == around
    named = make_comfyui(tmp_path / "named")
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    found = comfyui.find_comfyui(pack)
    assert (found.path, found.version, found.usable) == (named, "1.2.3", True)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nothing"))
    assert "not a ComfyUI folder" in comfyui.find_comfyui(pack).why


def test_comfyui_that_no_python_can_run_says_what_is_missing(
    no_comfyui: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(make_comfyui(tmp_path / "ComfyUI")))
    monkeypatch.setattr(comfyui, "NEEDED_MODULES", ("json", "surely_not_there"))
    found = comfyui.find_comfyui()
    assert not found.usable
    assert "ComfyUI 1.2.3 is in" in found.why
    assert "lacks surely_not_there" in found.why
    assert "COMFYUI_PYTHON" in found.why


def test_engine_auto_says_why_it_took_the_built_in_one(no_comfyui: None, run: Callable, photo: Path) -> None:
    code, out, _ = run(load("edges_api.json"), "--input", photo, engine="auto")
    assert code == run_workflow.OK
    assert out.startswith("engine: built-in (no ComfyUI found")
    code, _, err = run(load("edges_api.json"), engine="comfyui")
    assert code == run_workflow.WRONG
    assert "--engine comfyui: no ComfyUI found" in err


def test_script_runs_from_any_folder_and_prints_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text("{", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(TOOLS / "run_workflow.py"), "w.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == run_workflow.WRONG
    assert done.stderr.startswith("error: w.json is cut short")
