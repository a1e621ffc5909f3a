"""Reading workflow files: both formats, and files that hold none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import run_workflow
from PIL import Image, PngImagePlugin
from workflow_cases import TOOLS, WORKFLOWS, load, saved


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON, or is incomplete: Expecting value: line 1 column 1"),
        ('{"nodes": [{"id": 1, "type": "LoadIm', "incomplete: Unterminated string starting at: line 1 column"),
        ("{'nodes': []}", "not JSON, or is incomplete: Expecting property name enclosed in double quotes: line 1"),
        ("[1, 2]", "contains no workflow: it is not a JSON object"),
        ('{"a": 1}', "contains no workflow: neither"),
        ('{"nodes": []}', "contains no workflow: neither"),
        ('{"nodes": {}, "links": []}', "contains no workflow: neither"),
        ('{"output": {}, "workflow": 3}', "contains no workflow: neither"),
        ("[" * 100_000, "is not a workflow: it is nested too deeply"),
    ],
)
def test_read_workflow_explains_invalid_files(run: Callable, text: str, message: str) -> None:
    code, _, err = run(text)
    assert code == run_workflow.WRONG
    assert message in err
    assert "workflow.json" in err
    assert "Traceback" not in err


def test_read_workflow_refuses_missing_and_binary_files(run: Callable, tmp_path: Path) -> None:
    code, _, err = run(tmp_path / "none.json")
    assert code == run_workflow.WRONG
    assert "none.json" in err
    (tmp_path / "binary.json").write_bytes(b'{"a": "\xff\xfe"}')
    assert "binary.json is neither text nor a PNG: save the workflow as JSON" in run(tmp_path / "binary.json")[2]


def test_read_workflow_of_a_cut_or_damaged_image_is_an_error(run: Callable, tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("workflow", (WORKFLOWS / "edges_editor.json").read_text(encoding="utf-8"), zip=True)
    file = tmp_path / "image.png"
    Image.new("RGB", (8, 8)).save(file, pnginfo=texts)
    raw = file.read_bytes()
    start = raw.index(b"workflow")
    for data in (raw[: start - 4], raw[: start + 300], raw[: start + 20] + b"\xff" * 20 + raw[start + 40 :]):
        file.write_bytes(data)
        code, _, err = run(file)
        assert (code, "Traceback" in err) == (run_workflow.WRONG, False)
        assert "cannot read the workflow file" in err or "an image without a workflow" in err


def test_read_workflow_drops_nan_and_infinity(run: Callable, photo: Path) -> None:
    """Files written by Python may contain NaN, which is not JSON."""
    prompt = load("edges_api.json")
    prompt["5"]["is_changed"] = [float("nan"), float("inf")]
    code, out, err = run(json.dumps(prompt), "--input", photo)
    assert code == run_workflow.OK, err

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    text = Image.open(saved(out)[0]).info["prompt"]
    assert json.loads(text, parse_constant=refuse)["5"]["is_changed"] == [None, None]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["title", "type", "file", "prefix", "id"])
def test_main_prints_no_traceback_for_lone_surrogates(run: Callable, tmp_path: Path, photo: Path, where: str) -> None:
    """JSON may contain a lone surrogate, which cannot be printed."""
    prompt = load("edges_api.json")
    half = "\ud800x"
    if where == "title":
        prompt["5"]["_meta"] = {"title": half}
    elif where == "type":
        prompt["5"]["class_type"] = half
    elif where == "id":
        prompt[half] = prompt["5"]
    else:
        node, name = {"file": ("1", "image"), "prefix": ("8", "filename_prefix")}[where]
        prompt[node]["inputs"][name] = half
    (tmp_path / "w.json").write_text(json.dumps(prompt), encoding="ascii")
    with_input = [] if where == "file" else ["--input", str(photo)]
    for arguments in (["--check"], with_input):
        command = [sys.executable, TOOLS / "run_workflow.py", tmp_path / "w.json", "--engine", "builtin", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
    refused = {"type": "node 5 (\\ud800x", "file": "is not a file name", "prefix": "surrogates not allowed"}
    assert refused.get(where, "") in done.stderr
    assert (done.returncode != run_workflow.OK) == (where in refused)


@pytest.mark.parametrize("name", ["a\0b.png", "a" * 5000 + ".png"])
def test_provide_files_shortens_an_impossible_file_name(run: Callable, name: str) -> None:
    prompt = load("edges_api.json")
    prompt["1"]["inputs"]["image"] = name
    code, _, err = run(prompt)
    assert (code, "is not a file name in the input folder" in err, len(err) < 400) == (run_workflow.WRONG, True, True)


@pytest.mark.parametrize("change", [{"kernel_size": 10**400}, {"masks": ["3", 10**400]}])
def test_check_prompt_shortens_a_long_number(run: Callable, photo: Path, change: dict) -> None:
    prompt = load("edges_api.json")
    prompt["5"]["inputs"].update(change)
    code, _, err = run(prompt, "--input", photo)
    assert (code, 'node 5 (GradientRegion "Edges")' in err, len(err) < 500) == (run_workflow.WRONG, True, True)


def test_main_gives_the_same_pixels_for_both_formats_and_a_saved_image(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    first = saved(run(WORKFLOWS / "edges_editor.json", "--input", photo)[1])
    second = saved(run(WORKFLOWS / "edges_api.json", "--input", photo)[1])
    again = saved(run(first[0], "--input", photo)[1])  # the image contains its workflow
    images = [np.array(Image.open(file)) for (file,) in (first, second, again)]
    assert images[0].any()
    assert (images[0] == images[1]).all()
    assert (images[0] == images[2]).all()
