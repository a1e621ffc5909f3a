"""Fixtures of the tests of `tools/`: an image, a run, a stand-in for ComfyUI. No ComfyUI is needed here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import comfyui
import numpy as np
import pytest
import run_workflow
from fake_comfyui import FAKE_COMFYUI
from PIL import Image


@pytest.fixture(autouse=True)
def isolated_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model, cache or setting of the user who runs the tests."""
    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "caches" / "huggingface"))
    if constants := sys.modules.get("huggingface_hub.constants"):  # it read these when it was imported
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "caches" / "huggingface" / "hub"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """An image named photo.png, as the fixture workflows load it, in another folder than the workflow."""
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(7).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return folder / "photo.png"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Runs a workflow (a dict, text or file) with the built-in engine and returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(workflow: dict | str | Path, *arguments: object, engine: str = "builtin") -> tuple[int, str, str]:
        if not isinstance(workflow, Path):
            text = workflow if isinstance(workflow, str) else json.dumps(workflow)
            workflow = tmp_path / "workflow.json"
            workflow.write_text(text, encoding="utf-8")
        code = run_workflow.main([str(workflow), "--engine", engine, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def fake_comfyui(tmp_path: Path) -> Callable[[str], comfyui.ComfyUI]:
    def make(how: str) -> comfyui.ComfyUI:
        folder = tmp_path / "ComfyUI"
        folder.mkdir()
        (folder / "main.py").write_text(FAKE_COMFYUI, encoding="utf-8")
        (folder / "how").write_text(how, encoding="utf-8")
        return comfyui.ComfyUI(folder, Path(sys.executable), "0.0.0", "")

    return make


@pytest.fixture
def no_comfyui(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("COMFYUI_PATH", "COMFYUI_PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
