"""The same workflows in a real ComfyUI and in the built-in engine: the same pixels, the same errors.

One server serves most of the tests; three more are started to see the command line through, for models in folders of
their own, and to see a real server end when its parent is killed.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import comfyui
import numpy as np
import pytest
import run_workflow
import tiny_clipseg
from builtin_engine import BuiltinEngine
from PIL import Image
from workflow.engine_interface import BadWorkflow, NodeFailed, RunResult
from workflow.read_workflow import Workflow, read_workflow
from workflow.report import report
from workflow.run_files import provide_files
from workflow.to_prompt import to_prompt
from workflow.widgets import input_specs

WORKFLOWS = Path(__file__).parent.parent / "fixtures" / "workflows"
TOOLS = Path(__file__).parent.parent.parent / "tools"


@pytest.fixture(scope="module")
def builtin() -> Iterator[BuiltinEngine]:
    with BuiltinEngine() as engine:
        yield engine


def make_noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def encode_png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


IMAGES: dict[str, Callable[[], bytes]] = {
    "rgb.png": lambda: encode_png(make_noise(40, 52, 3)),
    "rgba.png": lambda: encode_png(make_noise(41, 53, 4)),
}


def add_save_node(prompt: dict, node: str, slot: int, prefix: str, is_mask: bool) -> None:
    if is_mask:
        prompt[f"m{prefix}"] = {"class_type": "MaskToImage", "inputs": {"mask": [node, slot]}}
        node, slot = f"m{prefix}", 0
    prompt[f"s{prefix}"] = {"class_type": "SaveImage", "inputs": {"images": [node, slot], "filename_prefix": prefix}}


def build_full_prompt(image: str) -> dict:
    """A prompt that sends an image through every node the built-in engine has."""
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "ImageToMask", "inputs": {"image": ["1", 0], "channel": "blue"}},
        "3": {"class_type": "InvertMask", "inputs": {"mask": ["2", 0]}},
        "4": {"class_type": "GradientRegion", "inputs": {"masks": ["3", 0], "kernel_size": 5}},
        "9": {"class_type": "MaskPreview", "inputs": {"mask": ["3", 0]}},
        "10": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    # Without alpha, ComfyUI's LoadImageMask gives 64 x 64; before 0.33 it gave a mask of the image's size.
    for channel in ("alpha", "red", "green") if image == "rgba.png" else ("red", "green"):
        inputs = {"image": image, "channel": channel}
        prompt[channel] = {"class_type": "LoadImageMask", "inputs": inputs}
        add_save_node(prompt, channel, 0, f"mask-{channel}", True)
    second = {"class_type": "LoadImage", "inputs": {"image": "rgba.png"}}
    common = {"destination": ["1", 0], "source": ["20", 0]}
    composite_inputs = [
        {"x": 5, "y": 3, "resize_source": False, "mask": ["20", 1]},
        {"x": 7, "y": 0, "resize_source": True, "mask": ["2", 0]},
        {"x": 9000, "y": 2, "resize_source": False},
        {"x": 0, "y": 0, "resize_source": True},
    ]
    prompt["20"] = second
    for number, inputs in enumerate(composite_inputs):
        prompt[f"3{number}"] = {"class_type": "ImageCompositeMasked", "inputs": {**common, **inputs}}
        add_save_node(prompt, f"3{number}", 0, f"pasted-{number}", False)
    prompt["size"] = {"class_type": "GetImageSize", "inputs": {"image": ["20", 0]}}
    scale_options = [
        ("lanczos", ["size", 0], ["size", 1], "center"),
        ("lanczos", 30, 90, "center"),
        ("bilinear", 90, 30, "center"),
        ("bicubic", 64, 0, "disabled"),
        ("area", 0, 20, "center"),
        ("nearest-exact", 33, 44, "disabled"),
        ("bilinear", 0, 0, "center"),
    ]
    for number, (method, width, height, crop) in enumerate(scale_options):
        inputs = {"image": ["1", 0], "upscale_method": method, "width": width, "height": height, "crop": crop}
        prompt[f"4{number}"] = {"class_type": "ImageScale", "inputs": inputs}
        add_save_node(prompt, f"4{number}", 0, f"scaled-{number}", False)
    add_save_node(prompt, "1", 0, "image", False)
    add_save_node(prompt, "1", 1, "alpha", True)
    add_save_node(prompt, "3", 0, "inverted", True)
    add_save_node(prompt, "4", 0, "edges", True)
    return prompt


def read_images(result: RunResult) -> dict[tuple[str, int], np.ndarray]:
    """The images of a run by node id and number in the batch."""
    counts: dict[str, int] = {}
    images = {}
    for file in result.files:
        number = counts.get(file.node_id, 0)
        counts[file.node_id] = number + 1
        images[file.node_id, number] = np.array(Image.open(file.path))
    return images


@pytest.mark.parametrize("image", IMAGES)
def test_engines_give_same_pixels(server: comfyui.Server, builtin: BuiltinEngine, image: str) -> None:
    """For 8-bit RGB and RGBA PNG files. Decoders of other formats differ."""
    for engine in (server, builtin):
        for name in IMAGES:
            (engine.input_folder / name).write_bytes(IMAGES[name]())
    ours, theirs = (
        read_images(builtin.queue(build_full_prompt(image))),
        read_images(server.queue(build_full_prompt(image))),
    )
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        assert expected.shape == ours[key].shape, key
        assert (expected == ours[key]).all(), key
    assert len(theirs) >= 12


def test_object_info_of_host_nodes_matches(server: comfyui.Server, builtin: BuiltinEngine) -> None:
    """As far as files depend on it: ComfyUI renames and moves its nodes between versions."""
    theirs = server.object_info()
    for name, ours in builtin.object_info().items():
        for key in ("output_node", "input_order"):
            assert ours[key] == theirs[name][key], (name, key)
        for key in ("output", "output_is_list", "output_name"):  # older SaveImage nodes have no outputs
            expected = theirs[name][key] or (ours[key] if ours["output_node"] else [])
            assert ours[key] == expected, (name, key)
        specs = input_specs(ours), input_specs(theirs[name])
        assert [(n, kind) for n, (kind, _) in specs[0].items()] == [(n, kind) for n, (kind, _) in specs[1].items()]
        for input_name, (_, options) in specs[0].items():
            same = ("default", "min", "max", "step", "options", "image_upload")
            if not options.get("image_upload"):
                theirs_options = specs[1][input_name][1]
                assert {k: options.get(k) for k in same} == {k: theirs_options.get(k) for k in same}, (name, input_name)


def test_object_info_of_pack_nodes_matches(server: comfyui.Server, builtin: BuiltinEngine) -> None:
    theirs = server.object_info()
    for name, ours in builtin.object_info().items():
        if ours["python_module"].startswith("custom_nodes"):
            shared_keys = ours.keys() & theirs[name].keys() - {"python_module"}  # newer ComfyUI has more keys
            assert shared_keys >= {"input", "output", "description", "category", "display_name"}
            assert {key: ours[key] for key in shared_keys} == {key: theirs[name][key] for key in shared_keys}


def test_to_prompt_matches_for_editor_file(server: comfyui.Server, builtin: BuiltinEngine) -> None:
    pytest.importorskip("comfy_cli")
    for name in ("edges_editor.json", "subgraph_editor.json"):
        workflow = read_workflow(WORKFLOWS / name)
        prompts = [to_prompt(workflow, e.object_info(), e.unknown) for e in (server, builtin)]
        for prompt in prompts:
            for node in prompt.values():
                node.pop("_meta")  # titles that the file leaves out come from the engine
        assert prompts[0] == prompts[1]


def make_invalid_prompt(change: dict, remove: str | None = None) -> dict:
    prompt = json.loads((WORKFLOWS / "edges_api.json").read_text(encoding="utf-8"))
    for node_id, inputs in change.items():
        prompt[node_id]["inputs"].update(inputs)
    if remove:
        del prompt[remove]["inputs"]["channel"]
    return prompt


@pytest.mark.parametrize(
    ("prompt", "node", "name"),
    [
        (make_invalid_prompt({"5": {"kernel_size": 99}}), "node 5 (GradientRegion", "kernel_size"),
        (make_invalid_prompt({"5": {"kernel_size": "wide"}}), "node 5 (GradientRegion", "kernel_size"),
        (make_invalid_prompt({"3": {"channel": "gray"}}), "node 3 (ImageToMask", "channel"),
        (make_invalid_prompt({}, remove="3"), "node 3 (ImageToMask", "channel"),
        (make_invalid_prompt({"7": {"mask": ["1", 0]}}), "node 7 (MaskToImage", "mask"),
    ],
)
def test_queue_refuses_same_values(
    server: comfyui.Server, builtin: BuiltinEngine, prompt: dict, node: str, name: str
) -> None:
    for engine in (server, builtin):
        (engine.input_folder / "photo.png").write_bytes(IMAGES["rgb.png"]())
        with pytest.raises(BadWorkflow) as caught:
            engine.queue(prompt)
        (problem,) = caught.value.problems
        assert problem.startswith(node) and name in problem


def test_queue_reports_failing_node_alike(server: comfyui.Server, builtin: BuiltinEngine) -> None:
    texts = []
    for engine in (server, builtin):
        (engine.input_folder / "photo.png").write_bytes(IMAGES["rgb.png"]())
        with pytest.raises(NodeFailed) as caught:
            engine.queue(make_invalid_prompt({"3": {"channel": "alpha"}}))
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert texts[0].startswith("node 3 (ImageToMask) failed: IndexError: index 3 is out of bounds")


def test_to_prompt_unknown_node(server: comfyui.Server) -> None:
    prompt = make_invalid_prompt({})
    prompt["5"]["class_type"] = "NodeOfNobody"
    workflow = Workflow(prompt, is_editor=False)
    with pytest.raises(BadWorkflow, match="node 5 .NodeOfNobody .Edges.. is not a node of this ComfyUI"):
        to_prompt(workflow, server.object_info(), server.unknown)
    assert "could not load" not in server.unknown("NodeOfNobody")


def test_provide_files_names_missing_file(server: comfyui.Server, tmp_path: Path) -> None:
    prompt = make_invalid_prompt({"1": {"image": "nowhere.png"}})
    with pytest.raises(BadWorkflow, match='node 1 .LoadImage., widget image: there is no file "nowhere.png"'):
        provide_files(prompt, server.object_info(), server, [tmp_path])


def test_run_workflow_through_comfyui(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The whole way from the editor's file to images, with the same pixels from both engines."""
    pytest.importorskip("comfy_cli")
    (tmp_path / "photo.png").write_bytes(IMAGES["rgb.png"]())
    arguments = [
        str(WORKFLOWS / "edges_editor.json"),
        "--input",
        str(tmp_path / "photo.png"),
        "--set",
        "Edges.edge=outer",
    ]
    images = []
    for engine in ("comfyui", "builtin"):
        output = tmp_path / engine
        code = run_workflow.main([*arguments, "--engine", engine, "--output", str(output)])
        streams = capsys.readouterr()
        assert code == run_workflow.OK, streams.err
        assert streams.out.splitlines() == [str(output / "edges_00001_.png")]
        images.append(np.array(Image.open(output / "edges_00001_.png")))
    assert images[0].any()
    assert (images[0] == images[1]).all()


def test_report_uses_extra_model_paths(found: comfyui.ComfyUI, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = tmp_path / "extra_model_paths.yaml"
    config.write_text(f"theirs:\n  base_path: {tmp_path.as_posix()}\n  clipseg: segmenters\n", "utf-8")
    tiny_clipseg.write(tmp_path / "segmenters" / "one of theirs")
    tiny_clipseg.write(tmp_path / "models" / "clipseg" / "one of ours")
    names = ["one of theirs", "one of ours", "missing"]
    prompt = {name: {"class_type": "CLIPSegModelLoader", "inputs": {"model": name}} for name in names}
    arguments = ["--extra-model-paths-config", str(config)]
    with comfyui.Server(found, models=tmp_path / "models", arguments=arguments) as server:
        workflow = Workflow(prompt, is_editor=False)
        notes, problems = report(workflow, server.object_info(), str, server.model_folders)
    assert [name for name in names if any(f"the model {name} is in " in note for note in notes)] == names[:2]
    assert any("the model missing is not on this computer" in problem for problem in problems)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX only")
def test_server_ends_if_parent_is_killed() -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import comfyui\n"
        "with comfyui.Server(comfyui.find_comfyui(), root=None) as server:\n"
        "    print(server.url, server.base, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(TOOLS)], stdout=subprocess.PIPE, text=True) as parent:
        url, base = parent.stdout.readline().split()
        assert urllib.request.urlopen(url + "/system_stats", timeout=5).status == 200
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
    until = time.monotonic() + 10
    while Path(base).exists() and time.monotonic() < until:
        time.sleep(0.1)
    with pytest.raises(OSError):
        urllib.request.urlopen(url + "/system_stats", timeout=5)
    assert not Path(base).exists()
