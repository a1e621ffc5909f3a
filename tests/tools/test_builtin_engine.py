"""The built-in engine: how nodes are called, checked and described."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import builtin_engine
import pytest
import run_workflow
from pack import ROOT
from workflow.engine_interface import BadWorkflow, NodeFailed
from workflow_cases import load


class Doubled:
    """A node that returns its inputs, which shows how it was called."""

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
    INPUT_TYPES = classmethod(lambda cls: {"required": {"mode": (["a", "b"],), "size": ("INT", {"max": 3})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE = (), "run", True

    @classmethod
    def VALIDATE_INPUTS(cls, mode: str) -> bool | str:
        return True if mode.startswith("a") else "modes start with a"

    def run(self, mode: str, size: int) -> dict:
        return {"ui": {"mode": [mode], "size": [size]}}


def engine_of(**classes: type) -> builtin_engine.BuiltinEngine:
    return builtin_engine.BuiltinEngine(classes, {})


def test_queue_maps_lists_as_comfyui_does() -> None:
    prompt = {
        "1": {"class_type": "Listing", "inputs": {}},
        "2": {"class_type": "Doubled", "inputs": {"value": ["1", 0], "other": "x"}},
        "3": {"class_type": "Show", "inputs": {"value": ["2", 0]}},
        "4": {"class_type": "Show", "inputs": {"value": ["2", 1]}},
    }
    with engine_of(Listing=Listing, Doubled=Doubled, Show=Show) as engine:
        outputs = engine.queue(prompt, {"workflow": 1}).outputs
    assert outputs["3"]["seen"] == [
        [(1, "x"), (2, "x"), (3, "x")],
        ["3"],
        ["1", "2", "3", "4"],
        [{"workflow": 1}],
        "not given",
    ]
    assert outputs["4"]["seen"][0] == [1, 1, 2, 2, 3, 3]


def test_queue_runs_a_node_once() -> None:
    calls = []

    class Counting(Listing):
        def run(self) -> tuple:
            calls.append(1)
            return ([1],)

    prompt = {"1": {"class_type": "Counting", "inputs": {}}}
    prompt |= {str(n): {"class_type": "Show", "inputs": {"value": ["1", 0]}} for n in (2, 3)}
    prompt["9"] = {"class_type": "Counting", "inputs": {}}  # feeds nothing, so it never runs
    with engine_of(Counting=Counting, Show=Show) as engine:
        engine.queue(prompt)
    assert len(calls) == 1


def test_queue_refuses_what_a_node_or_its_schema_refuses() -> None:
    with engine_of(Picky=Picky) as engine:
        outputs = engine.queue({"1": {"class_type": "Picky", "inputs": {"mode": "a", "size": "2"}}}).outputs
        assert outputs["1"] == {"mode": ["a"], "size": [2]}
        with pytest.raises(BadWorkflow, match=r"node 1 \(Picky\) rejects its values: modes start with a"):
            engine.queue({"1": {"class_type": "Picky", "inputs": {"mode": "b", "size": 2}}})
        with pytest.raises(BadWorkflow, match="size=4 above max 3"):
            engine.queue({"1": {"class_type": "Picky", "inputs": {"mode": "a", "size": 4}}})


def test_queue_names_a_failing_node() -> None:
    from maskwright.core.errors import InputError

    with engine_of(Failing=Failing) as engine:
        for error, message in (
            (InputError("mask is empty", "Draw one"), "node 7 (Failing) failed: mask is empty. Draw one."),
            (KeyError("x"), "node 7 (Failing) failed: KeyError: 'x'"),
        ):
            Failing.error = error
            with pytest.raises(NodeFailed) as caught:
                engine.queue({"7": {"class_type": "Failing", "inputs": {}}})
            assert str(caught.value) == message
            assert "Traceback" in caught.value.trace


def test_main_shows_a_traceback_only_with_debug(run: Callable, photo: Path) -> None:
    prompt = load("edges_api.json")
    code, _, err = run(prompt, "--input", photo, "--set", "3.channel=alpha")  # the image has no alpha
    assert code == run_workflow.FAILED
    assert "node 3 (ImageToMask) failed: IndexError" in err
    assert "Traceback" not in err
    assert "Traceback" in run(prompt, "--input", photo, "--set", "3.channel=alpha", "--debug")[2]


def test_object_info_has_the_keys_of_the_server() -> None:
    with builtin_engine.BuiltinEngine() as engine:
        info = engine.object_info()
    keys = {"input", "input_order", "output", "output_is_list", "output_name", "name", "display_name", "description"}
    for schema in info.values():
        assert keys | {"category", "output_node", "python_module"} <= schema.keys()
    assert info["GradientRegion"]["display_name"] == "Mask Edges"
    assert info["SaveImage"]["output_node"] is True


def test_queue_runs_a_node_of_the_pack_with_nothing_behind_it() -> None:
    """It is an output node that shows nothing here, where no editor asked for a view."""
    pytest.importorskip("transformers")
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "shapes.png"}},
        "2": {"class_type": "CLIPSegModelLoader", "inputs": {"model": "demo: coloured shapes (bundled)"}},
        "3": {"class_type": "CLIPSeg", "inputs": {"image": ["1", 0], "text": "red star", "clipseg_model": ["2", 0]}},
    }
    steps = []
    with builtin_engine.BuiltinEngine() as engine:
        engine.copy_input(ROOT / "example_workflows" / "assets" / "shapes.png")
        engine.progress = lambda label, done, total: steps.append(label)
        result = engine.queue(prompt)
    assert any("CLIPSeg)" in step for step in steps)
    assert result.files == []
