"""Virtual environments, and what is installed into them. Standard library only: it runs before anything is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TORCH_FOR_CPUS = "https://download.pytorch.org/whl/cpu"


def python_in(venv: Path) -> Path:
    """The interpreter of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_whole(venv: Path) -> bool:
    """Whether there is a virtual environment that pip works in; not one whose making was interrupted."""
    python = python_in(venv)
    return python.exists() and _quietly(str(python), "-m", "pip", "--version").returncode == 0


def make_venv(venv: Path) -> None:
    """Make a virtual environment with pip in it, in place of what is there. Nothing is left of one that failed.

    Raises: `subprocess.CalledProcessError`, after printing what went wrong.
    """
    try:
        made = _quietly(sys.executable, "-m", "venv", "--clear", str(venv))
        if made.returncode:
            print(made.stdout + made.stderr, file=sys.stderr)
            print("On Debian and Ubuntu `apt install python3-venv` brings what is missing.", file=sys.stderr)
            made.check_returncode()
    except BaseException:
        shutil.rmtree(venv, ignore_errors=True)
        raise


def pip(python: Path, *arguments: str) -> None:
    """`pip install` with that interpreter. Raises `subprocess.CalledProcessError` where it fails."""
    quiet = [] if sys.stdout.isatty() else ["--quiet"]  # on a terminal pip's own progress bars are welcome
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *quiet, *arguments]
    subprocess.run(command, check=True)


def download_wheel(python: Path, requirement: str, folder: Path) -> Path:
    """Download one wheel, of any Python version, into an empty folder. Installs nothing and runs none of its code.

    Raises: `OSError` with pip's reason.
    """
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.10", "--timeout", "10", "--retries", "1"]
    command = [str(python), "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--quiet", *options]
    download = _quietly(*command, "--dest", str(folder), requirement)
    if download.returncode:
        raise OSError(download.stderr.strip().rpartition("\n")[2])
    return next(folder.glob("*.whl"))


def requirements(*files: Path) -> list[str]:
    """What the files list, for `pip`; ONNX Runtime for CPUs where there is no NVIDIA GPU, a tenth of the size."""
    lines = [line.split("#")[0].strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    if not _has_nvidia_gpu():
        lines = [line.replace("onnxruntime-gpu", "onnxruntime", 1) for line in lines]
    return [line for line in lines if line]


def install_torch(python: Path, packages: list[str]) -> None:
    """Install PyTorch packages: builds for CPUs where there is no NVIDIA GPU, a tenth of the others' size."""
    if sys.platform != "darwin" and not _has_nvidia_gpu():
        builds = [_newest_cpu_build(python, package) for package in packages]
        if all(builds):  # never some of each: they do not work together
            # Only the packages themselves come from that index, which may hold little else.
            source = ["--index-url", TORCH_FOR_CPUS, "--timeout", "10", "--retries", "1"]
            pip(python, "--no-deps", *source, *builds)
            pip(python, *builds)
            return
        print(f"{TORCH_FOR_CPUS} offers nothing; taking PyTorch's default builds, which are larger", flush=True)
    pip(python, *packages)


def _has_nvidia_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None


def _newest_cpu_build(python: Path, package: str) -> str:
    """Such as `torch==2.13.0+cpu`; empty where none is on offer."""
    options = ["--index-url", TORCH_FOR_CPUS, "--timeout", "10", "--retries", "0", "--disable-pip-version-check"]
    offered = _quietly(str(python), "-m", "pip", "index", "versions", package, *options).stdout
    builds = re.findall(r"[\d.]+\+cpu", offered)  # newest first
    return f"{package}=={builds[0]}" if builds else ""


def _quietly(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True)
