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

import environment
from comfyui import find_comfyui

ROOT = Path(__file__).resolve().parent.parent
SOURCE = os.environ.get("COMFYUI_SOURCE", "https://github.com/Comfy-Org/ComfyUI.git")
REF = os.environ.get("COMFYUI_REF", "")
TARGET = Path.home() / "comfy" / "ComfyUI"


def main() -> int:
    found = find_comfyui()
    if found.usable:
        return 0
    why_not = _why_not(found)
    if why_not:
        return _give_up(why_not)
    try:
        _install(TARGET)
    except BaseException:
        shutil.rmtree(TARGET, ignore_errors=True)  # half an installation would be taken for a whole one
        raise
    print(f"ComfyUI is installed in {TARGET}", flush=True)
    return 0


def _why_not(found) -> str:
    if os.environ.get("COMFYUI_PATH") or found.path is not None:
        return found.why  # one was named, or is there; another beside it would not be found
    if TARGET.exists():
        return f"{TARGET} is in the way: it is there, but is no ComfyUI"
    if shutil.which("git") is None:
        return "git is needed to fetch it"
    return "" if _reachable() else f"{SOURCE} cannot be reached"


def _reachable() -> bool:
    try:
        asked = subprocess.run(
            ["git", "ls-remote", "--exit-code", SOURCE, "HEAD"],
            capture_output=True,
            timeout=15,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def _install(target: Path) -> None:
    print(f"installing ComfyUI from {SOURCE} into {target} (several GB with PyTorch)", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    branch = ["--branch", REF] if REF else []
    subprocess.run(["git", "clone", "--depth", "1", *branch, SOURCE, str(target)], check=True)
    environment.make_venv(target / ".venv")
    python = environment.python_in(target / ".venv")
    environment.install_torch(python, ["torch", "torchvision", "torchaudio"])
    ours = environment.requirements(ROOT / "requirements.txt")
    environment.pip(python, "-r", str(target / "requirements.txt"), *ours)


def _give_up(reason: str) -> int:
    print(f"ComfyUI was not installed: {reason}", flush=True)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(_give_up(f"`{' '.join(map(str, error.cmd))}` failed with exit code {error.returncode}"))
    except KeyboardInterrupt:
        sys.exit(130)
