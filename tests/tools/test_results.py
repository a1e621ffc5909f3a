"""The files that a run leaves to the user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import run_workflow
from workflow_cases import load, saved


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
