"""The results that a run saves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import run_workflow
from workflow.run_files import next_number
from workflow_cases import load, saved


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


def test_prepare_folder_fails_before_the_engine_starts(
    run: Callable, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_workflow.BuiltinEngine, "__enter__", lambda engine: pytest.fail("it started"))
    for folder in (photo, photo / "deeper" / "down"):
        code, _, err = run(load("edges_api.json"), "--input", photo, "--output", folder)
        assert code == run_workflow.WRONG
        assert f"error: --output {folder}: " in err


def test_next_number_counts_as_comfyui_does(tmp_path: Path) -> None:
    assert next_number(tmp_path, "a") == 1
    for name in ("a_00002_.png", "a_00007_.webp", "a_x_.png", "ab_00009_.png", "b_00011_.png"):
        (tmp_path / name).touch()
    assert next_number(tmp_path, "a") == 8
