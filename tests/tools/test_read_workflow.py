"""Reading workflow files: both formats, and files that hold none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import run_workflow
from PIL import Image, PngImagePlugin
from workflow.read_workflow import read_workflow
from workflow_cases import WORKFLOWS, load, saved


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


def test_pictures_that_are_cut_short_or_damaged_are_errors(run: Callable, tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("workflow", (WORKFLOWS / "edges_editor.json").read_text(encoding="utf-8"), zip=True)
    file = tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(file, pnginfo=texts)
    raw = file.read_bytes()
    start = raw.index(b"workflow")
    told = {
        start - 4: "without a workflow",
        start + 300: "cut short: it ends in the middle of the JSON",
    }
    for length in told:
        file.write_bytes(raw[:length])
        code, _, err = run(file)
        assert (code, "Traceback" in err) == (run_workflow.WRONG, False)
        assert told[length] in err
    file.write_bytes(raw[: start + 20] + b"\xff" * 20 + raw[start + 40 :])
    code, _, err = run(file)
    assert code == run_workflow.WRONG and "is damaged: a text in it cannot be unpacked" in err


def test_api_format_is_found_inside_the_body_of_a_call_to_prompt(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps({"prompt": load("edges_api.json"), "client_id": "x"}), encoding="utf-8")
    workflow = read_workflow(tmp_path / "w.json")
    assert not workflow.is_editor
    assert workflow.data == load("edges_api.json")


def test_both_formats_and_a_saved_picture_give_the_same_pixels(run: Callable, photo: Path) -> None:
    pytest.importorskip("comfy_cli")
    first = saved(run(WORKFLOWS / "edges_editor.json", "--input", photo)[1])
    second = saved(run(WORKFLOWS / "edges_api.json", "--input", photo)[1])
    again = saved(run(first[0], "--input", photo)[1])  # the picture holds the workflow that made it
    pictures = [np.array(Image.open(file)) for (file,) in (first, second, again)]
    assert pictures[0].any()
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] == pictures[2]).all()
