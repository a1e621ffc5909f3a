"""The command line as a whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import run_workflow
from fake_comfyui import is_process_running, posix_only
from workflow_cases import TOOLS, load


def test_main_says_why_it_uses_the_builtin_engine(no_comfyui: None, run: Callable, photo: Path) -> None:
    code, out, err = run(load("edges_api.json"), "--input", photo, engine="auto")
    assert code == run_workflow.OK
    assert err.startswith("engine: built-in; no ComfyUI found: COMFYUI_PATH is not set, and there is none in ")
    assert "engine" not in out
    code, _, err = run(load("edges_api.json"), engine="comfyui")
    assert code == run_workflow.WRONG
    assert "--engine comfyui: no ComfyUI found" in err


def test_script_runs_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text("{", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(TOOLS / "run_workflow.py"), "w.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == run_workflow.WRONG
    assert done.stderr.startswith("error: w.json is not JSON, or is incomplete")


# Runs the script with the stand-in for ComfyUI, by this Python, which need not have what the real one needs.
IN_FAKE_COMFYUI = """
import runpy, sys
tools, sys.argv = sys.argv[1], sys.argv[2:]
sys.path.insert(0, tools)
import find_comfyui
find_comfyui.NEEDED_MODULES = ("json",)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@posix_only
@pytest.mark.parametrize("how", ["hangs", "hangs when queueing", "runs for ever"])
@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
def test_script_ends_comfyui_on_a_signal(fake_comfyui: Callable, tmp_path: Path, how: str, numbers: list[int]) -> None:
    place = fake_comfyui(how).path
    (place / "comfyui_version.py").write_text('__version__ = "1.2.3"')
    (tmp_path / "w.json").write_text(json.dumps({"4": {"class_type": "N", "inputs": {"n": 2}}}), encoding="utf-8")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "COMFYUI_PATH": str(place), "COMFYUI_PYTHON": sys.executable, "TMPDIR": str(scratch)}
    command = [sys.executable, "-c", IN_FAKE_COMFYUI, str(TOOLS), str(TOOLS / "run_workflow.py"), "w.json", "--cpu"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as parent:
        pid = int(once_there(place / "reached"))
        for number in numbers:  # two at once: the terminal's, and a parent's that passes it on
            parent.send_signal(number)
        _, err = parent.communicate(timeout=30)
    assert parent.returncode == run_workflow.INTERRUPTED
    assert "Traceback" not in err
    assert err.endswith("stopped\n")
    assert not is_process_running(pid)
    assert list(scratch.iterdir()) == []


def once_there(file: Path) -> str:
    """The text of a file that another process is about to write."""
    until = time.monotonic() + 30
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < until, f"{file} was never written"
        time.sleep(0.02)
    return file.read_text()
