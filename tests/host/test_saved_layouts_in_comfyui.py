"""Files of every age through a real ComfyUI's /prompt: in the API format, and out of the editor's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import comfyui
import pytest
from detailer_prompts import Detailer, squares, wave_image
from maskwright.models.clipseg_store import DEMO_FOLDER
from PIL import Image
from saved_layouts import LAYOUTS, editor_file
from wired_layouts import RUNNABLE, as_editor, wired
from workflow.engine_interface import WorkflowError
from workflow.read_workflow import Workflow
from workflow.to_prompt import convert, to_prompt

SHAPES = Path(__file__).resolve().parents[2] / "example_workflows" / "assets" / "shapes.png"
DETAILED = [each for each in LAYOUTS if each[0] == "MaskDetailerPipe"]


@pytest.fixture
def published_model(server: comfyui.Server) -> Iterator[None]:
    """The demo model in the published one's place, for the node that has no input for another."""
    folder = server.base / "models" / "clipseg" / "CIDAS--clipseg-rd64-refined"
    shutil.copytree(DEMO_FOLDER, folder)
    yield
    shutil.rmtree(folder)  # other tests use the same ComfyUI, and it is not there for them


def convert_to_prompt(server: comfyui.Server, workflow: dict, is_editor: bool) -> dict:
    info = server.object_info()
    return to_prompt(Workflow(workflow, is_editor=is_editor), info, server.unknown)


@pytest.mark.parametrize("is_editor", [False, True], ids=["api", "editor"])
@pytest.mark.parametrize(("node", "values", "names"), RUNNABLE)
def test_saved_layout_runs(
    server: comfyui.Server,
    published_model: None,
    request: pytest.FixtureRequest,
    node: str,
    values: list,
    names: tuple[str, ...],
    is_editor: bool,
) -> None:
    if node == "ImageSegmentation":
        request.getfixturevalue("background_removal")
    if is_editor:
        pytest.importorskip("comfy_cli")
    prompt = wired(node, values, names, server.copy_input(SHAPES))
    saved_workflow = as_editor(prompt, server.object_info()) if is_editor else prompt
    result = server.queue(convert_to_prompt(server, saved_workflow, is_editor))
    assert result.files
    assert {Image.open(file.path).size for file in result.files} == {Image.open(SHAPES).size}


def test_saved_detailer_layout_runs(server: comfyui.Server) -> None:
    """What the editor's file of each age becomes, and the same without the widgets that the file does not have."""
    pytest.importorskip("comfy_cli")
    detailer = Detailer(server)
    image = wave_image()
    mask = squares(image, (64, 32))
    info = server.object_info()
    for _, values, names in DETAILED:
        file = Workflow(editor_file("MaskDetailerPipe", values), is_editor=True)
        whole = convert(file, info, lambda text: None)["7"]["inputs"]
        short = {name: value for name, value in zip(names, values) if name != "control_after_generate"}
        short.setdefault("cycle", 1)  # older than any ComfyUI that still runs: the editor fills it in
        for widgets in (whole, short):
            result = detailer(image, mask, model={"level": 0.25}, **{**widgets, "steps": 2, "crop_factor": 1.5})
            assert (result.image - image).abs().max() > 0.05, names[-1]
            assert (result.image[:, :8] == image[:, :8]).all()


@pytest.mark.parametrize("missing", ["guide_size", "seed", "sampler_name"])
def test_shifted_values_name_widget(server: comfyui.Server, missing: str) -> None:
    detailer = Detailer(server)
    image = wave_image()
    _, values, names = DETAILED[5]
    remaining = [value for name, value in zip(names, values) if name not in (missing, "control_after_generate")]
    widgets = dict(zip([name for name in names if name != "control_after_generate"], remaining))
    prompt, _ = detailer.prompt(image, squares(image, (64, 32)), **widgets)
    with pytest.raises(WorkflowError, match=r"MaskDetailerPipe.*: (guide_size|seed|sampler_name|scheduler)"):
        server.queue(prompt)


def test_old_model_loader_with_linked_name(server: comfyui.Server) -> None:
    prompt = wired("CLIPSeg Model Loader", ["CIDAS/clipseg-rd64-refined"], ("model",), server.copy_input(SHAPES))
    prompt["30"] = {"class_type": "PrimitiveString", "inputs": {"value": prompt["7"]["inputs"]["model"]}}
    prompt["7"]["inputs"]["model"] = ["30", 0]
    assert server.queue(prompt).files
