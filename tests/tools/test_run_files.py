"""The files that a run reads, from --input and from the workflow, and the results that it saves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import builtin_engine
import pytest
import run_workflow
from PIL import Image
from workflow.run_files import assign_inputs, next_number
from workflow_cases import load, loaders, saved


def test_provide_files_names_a_missing_file_and_the_folders(run: Callable, tmp_path: Path) -> None:
    code, _, err = run(load("edges_api.json"))
    assert code == run_workflow.WRONG
    assert 'node 1 (LoadImage), widget image: there is no file "photo.png"' in err
    assert str(tmp_path) in err
    assert "--input FILE" in err


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
def test_assign_inputs_fills_the_loading_nodes(widgets: list[str], files: list[str], expected: list[str]) -> None:
    prompt = loaders(*widgets)
    with builtin_engine.BuiltinEngine({}, {}) as engine:
        info = engine.object_info()
    assign_inputs(prompt, files, info)
    assert [prompt[str(number)]["inputs"]["image"] for number in range(1, len(widgets) + 1)] == expected


@pytest.mark.parametrize("value", [5, None, True, {"a": 1}])
def test_provide_files_refuses_values_that_are_not_text(run: Callable, photo: Path, value: object) -> None:
    text = json.dumps(value)
    message = f"node 1 (LoadImage), widget image: {text} is not a file name in the input folder"
    code, _, err = run(loaders(value))
    assert (code, message in err) == (run_workflow.WRONG, True)
    code, _, err = run(loaders("a.png"), "--set", f"1.image={text}")
    assert (code, message in err) == (run_workflow.WRONG, True)
    assert run(loaders(value), "--input", photo)[0] == run_workflow.OK


def test_assign_inputs_refuses_files_that_fit_nowhere(run: Callable, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(photo.read_bytes())
    code, _, err = run(loaders("a.png", "b.png", "c.png"), "--input", photo, other)
    assert code == run_workflow.WRONG
    assert "2 file(s) (photo.png, other.png) for 3 nodes that load a file" in err
    assert "node 1 (LoadImage) image=a.png; node 2 (LoadImage) image=b.png" in err
    code, _, err = run(load("edges_api.json"), "--input", photo, "--input", other)
    assert "no node is left that loads a file, for other.png" in err
    code, _, err = run(load("edges_api.json"), "--input", tmp_path / "none.png")
    assert (code, "there is no file" in err) == (run_workflow.WRONG, True)


def test_main_keeps_two_input_files_of_one_name(run: Callable, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    second = tmp_path / "else" / "photo.png"
    Image.new("RGB", (8, 8), "red").save(second)
    code, out, err = run(loaders("a.png", "b.png"), "--input", photo, second)
    assert code == run_workflow.OK, err
    assert [Image.open(file).size for file in saved(out)] == [(32, 24), (8, 8)]


def test_provide_files_finds_a_file_beside_the_workflow(run: Callable, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo.read_bytes())
    assert run(load("edges_api.json"))[0] == run_workflow.OK


def test_provide_files_stays_inside_the_input_folder(run: Callable, photo: Path) -> None:
    code, _, err = run(loaders("../../etc/passwd"))
    assert code == run_workflow.WRONG
    assert "is not a file name in the input folder" in err


def test_save_results_continues_numbers_and_overwrites_nothing(run: Callable, photo: Path, tmp_path: Path) -> None:
    prompt = load("edges_api.json")
    prompt["8"]["inputs"]["filename_prefix"] = "sub/edges"
    prompt["9"] = {"class_type": "MaskPreview", "inputs": {"mask": ["5", 0]}}
    for number in (1, 2):
        code, out, err = run(prompt, "--input", photo, "--output", tmp_path / "out")
        assert code == run_workflow.OK
        folder = tmp_path / "out"
        assert saved(out) == [folder / "sub" / f"edges_{number:05}_.png", folder / f"preview-9_{number:05}_.png"]
    assert err == "engine: built-in (requested)\n"


def test_main_creates_the_output_folder_before_the_engine_starts(
    run: Callable, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_workflow.BuiltinEngine, "__enter__", lambda engine: pytest.fail("it started"))
    for folder in (photo, photo / "deeper" / "down"):
        code, _, err = run(load("edges_api.json"), "--input", photo, "--output", folder)
        assert code == run_workflow.WRONG
        assert f"--output: cannot write to {folder}" in err


def test_next_number_counts_as_comfyui_does(tmp_path: Path) -> None:
    assert next_number(tmp_path, "a") == 1
    for name in ("a_00002_.png", "a_00007_.webp", "a_x_.png", "ab_00009_.png", "b_00011_.png"):
        (tmp_path / name).touch()
    assert next_number(tmp_path, "a") == 8
