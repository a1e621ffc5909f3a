"""Install ComfyUI with comfy-cli in its default workspace, unless a working one is found.

`COMFYUI_SOURCE` names another git repository (a mirror, a local path); `COMFYUI_REF` a tag or branch of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import environment
from find_comfyui import default_workspace, find_comfyui
from pack import ROOT

SOURCE = os.environ.get("COMFYUI_SOURCE", "https://github.com/Comfy-Org/ComfyUI.git")
REF = os.environ.get("COMFYUI_REF", "")


def main() -> int:
    comfyui, target = find_comfyui(), default_workspace()
    if comfyui.usable:
        return 0
    try:
        if os.environ.get("COMFYUI_PATH") or comfyui.path is not None:
            raise OSError(comfyui.why)  # one was named or exists, and a second one would not be found
        if target.exists():
            raise OSError(f"{target} exists, but is not a ComfyUI")
        probe = ["git", "ls-remote", "--exit-code", SOURCE, "HEAD"]  # comfy-cli would wait for minutes
        quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        subprocess.run(probe, check=True, capture_output=True, timeout=15, env=quiet)
        install(target)
    except (OSError, subprocess.SubprocessError, KeyboardInterrupt) as error:
        print(f"ComfyUI was not installed: {error or 'stopped'}", flush=True)
        return 1
    return 0


def install(target: Path) -> None:
    """Install ComfyUI and this pack's requirements. Raises: `subprocess.CalledProcessError`, with nothing left."""
    print(f"installing ComfyUI from {SOURCE} into {target} (several GB with PyTorch)", flush=True)
    device = "--m-series" if sys.platform == "darwin" else "--nvidia" if environment.has_nvidia_gpu() else "--cpu"
    command = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", f"--workspace={target}"]
    command += ["install", "--skip-manager", "--url", SOURCE + (f"@{REF}" if REF else ""), device]
    # comfy-cli creates a virtual environment in the workspace unless these name one.
    variables = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    try:
        subprocess.run(command, check=True, env=variables)
        requirements = environment.requirements(ROOT / "requirements.txt")
        environment.pip(environment.python_in(target / ".venv"), *requirements)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)  # a partial installation would be mistaken for a complete one
        raise


if __name__ == "__main__":
    sys.exit(main())
