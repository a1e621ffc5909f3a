"""Files of every age: each saved value lands in its own widget, and newer widgets take their defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
from builtin_engine import _node_info
from maskwright import NODE_CLASS_MAPPINGS
from saved_layouts import DETAILER, LAYOUTS, editor_file
from workflow.read_workflow import Workflow
from workflow.report import report
from workflow.to_prompt import converted

INFO = {name: _node_info(name, node, name) for name, node in NODE_CLASS_MAPPINGS.items()}


def prompt_of(node: str, values: list) -> dict:
    pytest.importorskip("comfy_cli")
    workflow = Workflow(Path("old.json"), editor_file(node, values), is_editor=True)
    return converted(workflow, INFO, lambda kind: "is unknown", lambda text: None)["7"]["inputs"]


@pytest.mark.parametrize(("node", "values", "names"), LAYOUTS)
def test_each_value_lands_in_its_own_widget(node: str, values: list, names: tuple[str, ...]) -> None:
    expected = {name: value for name, value in zip(names, values) if name != "control_after_generate"}
    found = prompt_of(node, values)
    assert {name: found[name] for name in expected} == expected
    assert list(expected) == [name for name in found if name in expected]


@pytest.mark.parametrize(("node", "values", "names"), LAYOUTS)
def test_none_of_them_is_refused_or_changed(node: str, values: list, names: tuple[str, ...]) -> None:
    pytest.importorskip("comfy_cli")
    prompt = {"7": {"class_type": node, "inputs": prompt_of(node, values)}}
    notes, problems = report(Workflow(Path("old.json"), prompt, is_editor=False), INFO, str, None)
    wrong = [text for text in problems if "widget" in text]
    assert not wrong
    assert not [text for text in notes if "is taken as" in text]


@pytest.mark.parametrize("missing", ["guide_size", "seed", "sampler_name"])
def test_values_shifted_by_one_are_refused_by_name(missing: str) -> None:
    """As a file has them that was written by a version with one widget less."""
    pytest.importorskip("comfy_cli")
    (_, values, names) = LAYOUTS[5]
    assert names == DETAILER
    shifted = [value for name, value in zip(names, values) if name != missing]
    prompt = {"7": {"class_type": "MaskDetailerPipe", "inputs": prompt_of("MaskDetailerPipe", shifted)}}
    _, problems = report(Workflow(Path("old.json"), prompt, is_editor=False), INFO, str, None)
    assert any("MaskDetailerPipe), widget " in text for text in problems), problems
