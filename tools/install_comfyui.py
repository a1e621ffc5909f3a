"""Install ComfyUI with comfy-cli in its default workspace, unless a working one is found.

`COMFYUI_SOURCE` names another git repository (a mirror, a local path); `COMFYUI_REF` a tag or branch of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import environment
from find_comfyui import ComfyUI, default_workspace, find_comfyui
from pack import ROOT

SOURCE = os.environ.get("COMFYUI_SOURCE", "https://github.com/Comfy-Org/ComfyUI.git")
REF = os.environ.get("COMFYUI_REF", "")


def main() -> int:
    comfyui, target = find_comfyui(), default_workspace()
    if comfyui.usable:
        return 0
    reason = find_obstacle(comfyui)
    if not reason:
        print(f"installing ComfyUI from {SOURCE} into {target} (several GB with PyTorch)", flush=True)
        device = "--m-series" if sys.platform == "darwin" else "--nvidia" if shutil.which("nvidia-smi") else "--cpu"
        url = SOURCE + (f"@{REF}" if REF else "")
        cli = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", f"--workspace={target}"]
        # comfy-cli creates a virtual environment in the workspace unless these name one.
        variables = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
        try:
            command = [*cli, "install", "--skip-manager", "--url", url, device]
            subprocess.run(command, check=True, env=variables)
            python = environment.python_in(target / ".venv")
            environment.pip(python, *environment.requirements(ROOT / "requirements.txt"))
            return 0
        except BaseException as error:
            shutil.rmtree(target, ignore_errors=True)  # a partial installation would be mistaken for a complete one
            if not isinstance(error, subprocess.CalledProcessError):
                raise
            reason = str(error)
    print(f"ComfyUI was not installed: {reason}", flush=True)
    return 1


def find_obstacle(comfyui: ComfyUI) -> str:
    """The reason why ComfyUI cannot be installed, or ""."""
    target = default_workspace()
    if os.environ.get("COMFYUI_PATH") or comfyui.path is not None:
        return comfyui.why  # one was named or exists, and a second one would not be found
    if target.exists():
        return f"{target} exists, but is not a ComfyUI"
    if shutil.which("git") is None:
        return "git is missing"
    command = ["git", "ls-remote", "--exit-code", SOURCE, "HEAD"]
    try:
        options = {"capture_output": True, "timeout": 15, "env": {**os.environ, "GIT_TERMINAL_PROMPT": "0"}}
        return f"{SOURCE} cannot be reached" if subprocess.run(command, **options).returncode else ""
    except subprocess.TimeoutExpired:
        return f"{SOURCE} does not respond"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
