"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import run_workflow
from workflow_cases import TOOLS, load


def test_engine_auto_says_why_it_took_the_built_in_one(no_comfyui: None, run: Callable, photo: Path) -> None:
    code, out, _ = run(load("edges_api.json"), "--input", photo, engine="auto")
    assert code == run_workflow.OK
    assert out.startswith("engine: built-in (no ComfyUI found")
    code, _, err = run(load("edges_api.json"), engine="comfyui")
    assert code == run_workflow.WRONG
    assert "--engine comfyui: no ComfyUI found" in err


def test_script_runs_from_any_folder_and_prints_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text("{", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(TOOLS / "run_workflow.py"), "w.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == run_workflow.WRONG
    assert done.stderr.startswith("error: w.json is cut short")
