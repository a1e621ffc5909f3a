"""Install ComfyUI where comfy-cli would, `~/comfy/ComfyUI`, with a virtual environment of its own; or say why not.

Does nothing where a ComfyUI that can be run is found already. `COMFYUI_SOURCE` names another git repository to
clone (a mirror, a local path); `COMFYUI_REF` a tag or branch of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dev
from comfyui import find_comfyui

SOURCE = os.environ.get("COMFYUI_SOURCE", "https://github.com/Comfy-Org/ComfyUI.git")
REF = os.environ.get("COMFYUI_REF", "")
TARGET = Path.home() / "comfy" / "ComfyUI"


def main() -> int:
    found = find_comfyui()
    if found.usable:
        return 0
    if found.path is not None:
        return _give_up(found.why)
    if shutil.which("git") is None:
        return _give_up("git is needed to fetch it")
    if not _reachable():
        return _give_up(f"{SOURCE} cannot be reached")
    if TARGET.exists():
        return _give_up(f"{TARGET} is in the way: it is there, but is no ComfyUI")
    try:
        _install(TARGET)
    except (subprocess.CalledProcessError, KeyboardInterrupt):
        shutil.rmtree(TARGET, ignore_errors=True)  # half an installation would be taken for a whole one
        raise
    print(f"ComfyUI is installed in {TARGET}", flush=True)
    return 0


def _reachable() -> bool:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        asked = subprocess.run(
            ["git", "ls-remote", "--exit-code", SOURCE, "HEAD"], capture_output=True, timeout=15, env=environment
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def _install(target: Path) -> None:
    print(f"installing ComfyUI from {SOURCE} into {target} (several GB with PyTorch)", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    branch = ["--branch", REF] if REF else []
    subprocess.run(["git", "clone", "--depth", "1", *branch, SOURCE, str(target)], check=True)
    dev.make_venv(target / ".venv")
    python = dev.python_in(target / ".venv")
    dev.install_torch(python, ["torch", "torchvision", "torchaudio"])
    dev.pip(python, "-r", str(target / "requirements.txt"), *dev.requirements([dev.ROOT / "requirements.txt"]))


def _give_up(reason: str) -> int:
    print(f"ComfyUI was not installed: {reason}", flush=True)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(_give_up(f"`{' '.join(error.cmd)}` failed with exit code {error.returncode}"))
