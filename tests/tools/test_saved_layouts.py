"""Files of every age: each saved value lands in its own widget, and newer widgets take their defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import run_workflow
import torch
from builtin_engine import node_info
from host_nodes import HOST_NODES
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.models.clipseg_store import DEMO
from maskwright.nodes import _host as host
from maskwright.nodes import _text
from PIL import Image
from saved_layouts import DETAILER, LAYOUTS, editor_file
from wired_layouts import RUNNABLE, as_editor, wired
from workflow.read_workflow import Workflow
from workflow.report import check_prompt, report
from workflow.to_prompt import convert
from workflow_cases import saved

INFO = {name: node_info(name, node, name) for name, node in NODE_CLASS_MAPPINGS.items()}


def prompt_of(node: str, values: list) -> dict:
    pytest.importorskip("comfy_cli")
    workflow = Workflow(editor_file(node, values), is_editor=True)
    return convert(workflow, INFO, lambda text: None)["7"]["inputs"]


@pytest.mark.parametrize(("node", "values", "names"), LAYOUTS)
def test_convert_puts_each_saved_value_into_its_widget(node: str, values: list, names: tuple[str, ...]) -> None:
    expected = {name: value for name, value in zip(names, values) if name != "control_after_generate"}
    inputs = prompt_of(node, values)
    assert {name: inputs[name] for name in expected} == expected
    assert list(expected) == [name for name in inputs if name in expected]


@pytest.mark.parametrize(("node", "values", "names"), LAYOUTS)
def test_report_accepts_all_saved_values(node: str, values: list, names: tuple[str, ...]) -> None:
    pytest.importorskip("comfy_cli")
    prompt = {"7": {"class_type": node, "inputs": prompt_of(node, values)}}
    notes, problems = report(Workflow(prompt, is_editor=False), INFO, str, lambda kind: [])
    assert not [text for text in problems if "required input" not in text and "no output nodes" not in text]
    assert not [text for text in notes if "is read as" in text]


@pytest.mark.parametrize("missing", ["guide_size", "seed", "sampler_name"])
def test_report_refuses_values_shifted_by_one(missing: str) -> None:
    """As a file has them that was written by a version with one widget less."""
    pytest.importorskip("comfy_cli")
    (_, values, names) = LAYOUTS[5]
    assert names == DETAILER
    shifted = [value for name, value in zip(names, values) if name != missing]
    prompt = {"7": {"class_type": "MaskDetailerPipe", "inputs": prompt_of("MaskDetailerPipe", shifted)}}
    _, problems = report(Workflow(prompt, is_editor=False), INFO, str, lambda kind: [])
    names = ("guide_size", "seed", "sampler_name", "scheduler", "steps", "cfg", "denoise")
    assert any(f"MaskDetailerPipe): {name}" in text for text in problems for name in names) or any(
        "not in" in text for text in problems
    ), problems


# Through the built-in engine, in both formats: each earlier node that it can run, wired up, by the bundled models.

OUTPUTS_OF = {
    **INFO,
    **{name: {"output": kind.RETURN_TYPES, "output_name": kind.RETURN_TYPES} for name, kind in HOST_NODES.items()},
}


@pytest.fixture
def published_is_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled model where a node without a model link takes the published one."""
    load = _text.load
    monkeypatch.setattr(_text, "load", lambda *_: load(DEMO))
    monkeypatch.setattr(host, "device", lambda: torch.device("cpu"))


@pytest.mark.parametrize("is_editor", [False, True], ids=["api", "editor"])
@pytest.mark.parametrize(("node", "values", "names"), RUNNABLE, ids=lambda value: str(value)[:30])
def test_main_runs_each_saved_layout_in_both_formats(
    published_is_bundled: None,
    node: str,
    values: list,
    names: tuple[str, ...],
    is_editor: bool,
    run: Callable,
    photo: Path,
) -> None:
    pytest.importorskip("onnxruntime" if node == "ImageSegmentation" else "transformers")
    if is_editor:
        pytest.importorskip("comfy_cli")
    prompt = wired(node, values, names, photo.name)
    code, out, err = run(as_editor(prompt, OUTPUTS_OF) if is_editor else prompt, "--input", photo)
    assert code == run_workflow.OK, err
    images = [np.array(Image.open(file)) for file in saved(out)]
    rows = sum(name.startswith("image_") for name in prompt["7"]["inputs"]) or 1
    kinds = [kind for kind in NODE_CLASS_MAPPINGS[node].RETURN_TYPES if kind != "INT"]
    assert len(images) == rows * len(kinds)
    size = np.array(Image.open(photo)).shape[:2]
    assert {image.shape[:2] for image in images} == {size}


def test_check_prompt_lets_text_be_linked_to_the_old_loader() -> None:
    """Its widget was one for text, so a file may hold a node that gives it the name."""
    prompt = {
        "1": {"class_type": "Text", "inputs": {}},
        "7": {"class_type": "CLIPSeg Model Loader", "inputs": {"model": ["1", 0]}},
    }
    text = {"input": {"required": {}}, "output": ["STRING"], "output_node": True, "name": "Text"}
    problems = check_prompt(prompt, {**INFO, "Text": text})
    assert not [problem for problem in problems if "model" in problem]
