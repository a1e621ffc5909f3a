"""Creates virtual environments and installs packages. Standard library only: runs before anything is installed."""

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


def make_venv(venv: Path) -> None:
    """Create a virtual environment with pip, replacing an existing one. Remove it if that fails.

    Raises: `subprocess.CalledProcessError`, after printing the error.
    """
    try:
        result = _run_quietly(sys.executable, "-m", "venv", "--clear", str(venv))
        if result.returncode:
            print(result.stdout + result.stderr, file=sys.stderr)
            print("On Debian and Ubuntu, run `apt install python3-venv`.", file=sys.stderr)
            result.check_returncode()
    except BaseException:
        shutil.rmtree(venv, ignore_errors=True)
        raise


def pip(python: Path, *arguments: str) -> None:
    """Run `pip install` with that interpreter. Raises: `subprocess.CalledProcessError` if it fails."""
    quiet = [] if sys.stdout.isatty() else ["--quiet"]  # show pip's progress bars only on a terminal
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *quiet, *arguments]
    subprocess.run(command, check=True)


def download_wheel(python: Path, requirement: str, folder: Path) -> Path:
    """Download one wheel, of any Python version, into an empty folder. Installs nothing and runs none of its code.

    Raises: `OSError` with pip's reason.
    """
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.10", "--timeout", "10", "--retries", "1"]
    command = [str(python), "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--quiet", *options]
    download = _run_quietly(*command, "--dest", str(folder), requirement)
    if download.returncode:
        raise OSError(download.stderr.strip().rpartition("\n")[2])
    return next(folder.glob("*.whl"))


def requirements(*files: Path) -> list[str]:
    """The requirements in the files, for `pip`; without an NVIDIA GPU, ONNX Runtime for CPUs, a tenth of the size."""
    lines = [line.split("#")[0].strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    if not has_nvidia_gpu():
        lines = [line.replace("onnxruntime-gpu", "onnxruntime", 1) for line in lines]
    return [line for line in lines if line]


def install_torch(python: Path) -> None:
    """Install PyTorch: without an NVIDIA GPU, the newest build for CPUs, a tenth of the size."""
    build = "" if sys.platform == "darwin" or has_nvidia_gpu() else _newest_cpu_build(python)
    if build:
        # Get only PyTorch itself from that index, which may lack its dependencies.
        pip(python, "--no-deps", "--index-url", TORCH_FOR_CPUS, "--timeout", "10", "--retries", "1", build)
    pip(python, build or "torch")


def _newest_cpu_build(python: Path) -> str:
    """The newest build of PyTorch for CPUs, such as `torch==2.13.0+cpu`; empty if there is none."""
    options = ["--index-url", TORCH_FOR_CPUS, "--timeout", "10", "--retries", "0", "--disable-pip-version-check"]
    versions = _run_quietly(str(python), "-m", "pip", "index", "versions", "torch", *options).stdout
    builds = re.findall(r"[\d.]+\+cpu", versions)  # newest first
    return f"torch=={builds[0]}" if builds else ""


def has_nvidia_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None


def _run_quietly(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True)
