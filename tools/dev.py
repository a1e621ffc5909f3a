#!/usr/bin/env python3
"""One entry for people who work on the pack. Needs nothing but Python 3.10 or newer.

    python3 tools/dev.py run [WORKFLOW.json ...]   run a workflow (text to mask on a photograph, if none is named)
    python3 tools/dev.py test [pytest arguments]   run all tests
    python3 tools/dev.py lint                      check style, and what the registry checks
    python3 tools/dev.py bench [names]             run the benchmarks

The first call makes a virtual environment in `.venv` and installs what is needed; later calls start at once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "tools" / "requirements-dev.txt")
EXAMPLE = ROOT / "example_workflows" / "mask_edges.json"
TORCH_FOR_CPUS = "https://download.pytorch.org/whl/cpu"


def python_in(venv: Path) -> Path:
    """The interpreter of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


PYTHON = python_in(VENV)


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - an older Python should get this sentence
        return _fail(f"Python 3.10 or newer is needed; this is {sys.version.split()[0]} ({sys.executable})")
    commands = {"run": run, "test": test, "lint": lint, "bench": bench}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=commands)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on; `dev.py COMMAND --help` lists them")
    options = parser.parse_args(arguments)
    try:
        set_up()
        return commands[options.command](options.arguments)
    except subprocess.CalledProcessError as error:
        return _fail(f"this command failed with exit code {error.returncode}: {' '.join(map(str, error.cmd))}")
    except KeyboardInterrupt:
        return 130


def run(arguments: list[str]) -> int:
    """`tools/run_workflow.py`, with the example where no workflow is named, and with ComfyUI installed on request."""
    if "--comfyui" in arguments:
        arguments = [argument for argument in arguments if argument != "--comfyui"]
        if not _install_comfyui():
            return 1
        arguments += ["--engine", "comfyui"]
    if not any(argument.endswith((".json", ".png")) for argument in arguments[:1]) and "--help" not in arguments:
        arguments = [str(EXAMPLE), *arguments]
    return _python(str(ROOT / "tools" / "run_workflow.py"), *arguments, cwd=None)


def test(arguments: list[str]) -> int:
    """All tests; a ComfyUI is installed for the host tests where none is found and one can be reached."""
    if "--no-comfyui" in arguments:
        arguments = [argument for argument in arguments if argument != "--no-comfyui"]
    else:
        _install_comfyui()
    return _python("-m", "pytest", "-c", "tests/pytest.ini", "--rootdir", ".", *(arguments or ["tests"]))


def lint(arguments: list[str]) -> int:
    """ruff, the three rules that the registry runs (where no comment can silence them), and its validator."""
    steps = (
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
        ("-m", "ruff", "check", "--select", "S102,S307,E702", "--ignore-noqa", "."),
        ("-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", "node", "validate"),
    )
    return max(_python(*step) for step in steps)


def bench(arguments: list[str]) -> int:
    """Every `bench/bench_*.py`, or those whose names contain one of the arguments."""
    named = [argument for argument in arguments if not argument.startswith("-")]
    passed_on = [argument for argument in arguments if argument.startswith("-")]
    scripts = [
        script
        for script in sorted((ROOT / "bench").glob("bench_*.py"))
        if not named or any(name in script.stem for name in named)
    ]
    if not scripts:
        return _fail(f"no benchmark is called like {', '.join(named)}")
    return max(_python(str(script), *passed_on) for script in scripts)


def set_up() -> None:
    """Make `.venv` and install the requirements, unless that was done for these very requirements already."""
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in REQUIREMENTS)).hexdigest()
    stamp = VENV / "installed-requirements.sha256"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    if not PYTHON.exists():
        _say(f"making a virtual environment in {VENV}")
        make_venv(VENV)
    _say("installing what the pack needs (once; PyTorch is the large one)")
    install_torch(PYTHON, ["torch"])
    pip(PYTHON, *requirements(REQUIREMENTS))
    stamp.write_text(wanted)


def requirements(files: Sequence[Path]) -> list[str]:
    """What requirement files list, for pip: ONNX Runtime for CPUs where there is no NVIDIA GPU, a tenth of the size."""
    lines = [line.split("#")[0].strip() for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    if not _has_nvidia_gpu():
        lines = [line.replace("onnxruntime-gpu", "onnxruntime", 1) for line in lines]
    return [line for line in lines if line]


def _has_nvidia_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None


def install_torch(python: Path, packages: list[str]) -> None:
    """Install PyTorch packages: builds for CPUs where there is no NVIDIA GPU, a tenth of the others' size."""
    if sys.platform != "darwin" and not _has_nvidia_gpu():
        builds = [_newest_cpu_build(python, package) for package in packages]
        if all(builds):  # never some of each: they do not work together
            # Only the packages themselves come from that index, which may hold little else.
            pip(python, "--no-deps", "--index-url", TORCH_FOR_CPUS, "--timeout", "10", "--retries", "1", *builds)
            pip(python, *builds)
            return
        _say("no builds of PyTorch for CPUs can be reached; taking the default ones")
    pip(python, *packages)


def _newest_cpu_build(python: Path, package: str) -> str:
    """Such as `torch==2.13.0+cpu`; empty where none is on offer."""
    options = ["--index-url", TORCH_FOR_CPUS, "--timeout", "10", "--retries", "0", "--disable-pip-version-check"]
    command = [str(python), "-m", "pip", "index", "versions", package, *options]
    offered = subprocess.run(command, capture_output=True, text=True).stdout
    builds = re.findall(r"[\d.]+\+cpu", offered)  # newest first
    return f"{package}=={builds[0]}" if builds else ""


def _install_comfyui() -> bool:
    return _python(str(ROOT / "tools" / "install_comfyui.py")) == 0


def make_venv(folder: Path) -> None:
    """Make a virtual environment with pip in it; nothing is left of one that failed."""
    result = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True)
    if result.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        _say(result.stdout + result.stderr)
        _say("on Debian and Ubuntu, `apt install python3-venv` brings what is missing")
        result.check_returncode()


def pip(python: Path, *arguments: str) -> None:
    """`pip install` with that interpreter; raises `CalledProcessError` where it fails."""
    quiet = [] if sys.stdout.isatty() else ["--quiet"]  # on a terminal pip's own progress bars are welcome
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *quiet, *arguments]
    subprocess.run(command, check=True, cwd=ROOT)


def _python(*arguments: str, cwd: Path | None = ROOT) -> int:
    """Run the Python of `.venv` and give its exit code; Ctrl-C is the child's to handle."""
    child = subprocess.Popen([str(PYTHON), *arguments], cwd=cwd)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def _say(text: str) -> None:
    print(f"dev.py: {text}", flush=True)


def _fail(text: str) -> int:
    print(f"dev.py: {text}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
