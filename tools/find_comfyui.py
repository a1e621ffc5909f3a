"""Find a ComfyUI on this machine, and the Python that can run it, or install one. Standard library only."""

from __future__ import annotations

import functools
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import environment
from pack import ROOT

NEEDED_MODULES = ("torch", "torchvision", "aiohttp", "yaml", "safetensors", "transformers")
SOURCE = "https://github.com/Comfy-Org/ComfyUI.git"
_MISSING = "import importlib.util as u, json, sys; print(json.dumps([m for m in sys.argv[1:] if not u.find_spec(m)]))"


@dataclass(frozen=True)
class ComfyUI:
    """An installation; if `usable` is False, `why` says what is missing."""

    path: Path | None
    python: Path | None
    version: str
    why: str

    @property
    def usable(self) -> bool:
        """True if both the folder and a Python that can run it are known."""
        return self.path is not None and self.python is not None

    def __str__(self) -> str:
        return f"ComfyUI {self.version} in {self.path}" if self.usable else self.why


def find_comfyui(root: Path = ROOT) -> ComfyUI:
    """Look for ComfyUI: COMFYUI_PATH, `custom_nodes` around the pack in `root`, then comfy-cli's default workspace."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        places = [Path(named).expanduser().absolute()]
        why = f"COMFYUI_PATH is {named}, which is not a ComfyUI folder: it has no comfyui_version.py, or is too old"
    else:
        places = [root.parent.parent] if root.parent.name == "custom_nodes" else []
        places.append(default_workspace())
        searched = " or ".join(map(str, places))
        why = f"no ComfyUI found: COMFYUI_PATH is not set, and there is none in {searched}"
    for path in places:
        if (path / "comfyui_version.py").is_file():
            return _with_python(path)
    return ComfyUI(None, None, "", why)


def default_workspace() -> Path:
    """Where comfy-cli installs ComfyUI: under Documents on Windows and macOS."""
    return (Path.home() if sys.platform.startswith("linux") else Path.home() / "Documents") / "comfy" / "ComfyUI"


def _with_python(path: Path) -> ComfyUI:
    version = runpy.run_path(str(path / "comfyui_version.py"))["__version__"]
    if os.environ.get("COMFYUI_PYTHON"):
        pythons = [Path(os.environ["COMFYUI_PYTHON"]).expanduser().absolute()]
    else:
        venvs = (path / ".venv", path / "venv", path.parent / ".venv")
        pythons = [environment.python_in(venv) for venv in venvs]
        pythons.append(path.parent / "python_embeded" / "python.exe")  # sic: the Windows portable build
        pythons += [Path(shutil.which("python") or sys.executable), Path(sys.executable)]  # the active environment
        # Not resolved: the python of a virtual environment is a link to the base Python.
        pythons = [python for python in dict.fromkeys(pythons) if python.is_file()]
    problems = []
    for python in pythons:
        problem = _find_problem(python)
        if not problem:
            return ComfyUI(path, python, version, "")
        problems.append(f"{python} {problem}")
    why = f"ComfyUI {version} is in {path}, but no Python can run it: {'; '.join(problems)}. "
    why += "Install ComfyUI's requirements.txt into one of them, or let COMFYUI_PYTHON name another Python"
    return ComfyUI(path, None, version, why)


def _find_problem(python: Path) -> str:
    """Why `python` cannot run ComfyUI, or "". Looks for the modules without importing them."""
    command = [str(python), "-c", _MISSING, *NEEDED_MODULES]
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "cwd": tempfile.gettempdir()}
    try:
        missing = json.loads(subprocess.run(command, check=True, timeout=30, **options).stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"does not run ({error})"
    return f"lacks {', '.join(missing)}" if missing else ""


def install_comfyui(python: Path) -> bool:
    """Install ComfyUI in comfy-cli's default workspace, unless a usable one is found. If that fails, print why.

    Args: `python`, an interpreter with comfy-cli. The variable `COMFYUI_REF` may name a tag or branch of ComfyUI.
    """
    comfyui, target, ref = find_comfyui(), default_workspace(), os.environ.get("COMFYUI_REF")
    if comfyui.usable:
        return True
    # A second one would not be found.
    if os.environ.get("COMFYUI_PATH") or comfyui.path is not None or target.exists():
        why = f"{target} exists, but is not a ComfyUI" if target.exists() and comfyui.path is None else comfyui.why
        print(f"ComfyUI was not installed: {why}", flush=True)
        return False
    device = "--m-series" if sys.platform == "darwin" else "--nvidia" if environment.has_nvidia_gpu() else "--cpu"
    command = [str(python), "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", f"--workspace={target}"]
    command += ["install", "--skip-manager", "--url", SOURCE + (f"@{ref}" if ref else ""), device]
    # comfy-cli creates a virtual environment in the workspace unless these name one.
    variables = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    installed = False
    try:
        probe = ["git", "ls-remote", "--exit-code", SOURCE, "HEAD"]  # comfy-cli would wait for minutes
        subprocess.run(probe, check=True, capture_output=True, timeout=15)
        print(f"installing ComfyUI from {SOURCE} into {target} (several GB with PyTorch)", flush=True)
        subprocess.run(command, check=True, env=variables)
        environment.pip(environment.python_in(target / ".venv"), *environment.requirements(ROOT / "requirements.txt"))
        installed = True
    except (OSError, subprocess.SubprocessError) as error:
        print(f"ComfyUI was not installed: {error}", flush=True)
    finally:
        if not installed:  # a partial installation would be mistaken for a complete one
            shutil.rmtree(target, ignore_errors=True)
    return installed


@functools.cache
def has_accelerator(python: Path) -> bool:
    """Whether torch in `python` sees a device other than the CPU."""
    probe = "import torch; print(getattr(torch, 'accelerator', torch.cuda).is_available())"
    result = subprocess.run([str(python), "-c", probe], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return result.stdout.strip().endswith("True")
