#!/usr/bin/env python3
"""The commands for developing the pack. Needs only Python 3.10 or newer.

    python3 tools/dev.py run [WORKFLOW.json] ...   run a workflow, or two examples; see run --help
    python3 tools/dev.py test [pytest arguments]   run all tests; --deep: property tests only, 10,000 examples each
    python3 tools/dev.py lint                      check style and types, and what the registry checks
    python3 tools/dev.py bench [names]             run the benchmarks; --merge FILE: add results of tools/gpu_check.py
    python3 tools/dev.py quality                   write docs/quality.md; downloads u2netp and u2net (181 MB)
    python3 tools/dev.py setup                     only set up the environment, and fetch the weights for the examples

The first call creates a virtual environment in `.venv` and installs the requirements. Only `setup`, `run` without a
workflow (u2netp, 5 MB) and `quality` fetch weights. `run --comfyui` installs ComfyUI first if none is found. `test`
tries that too, and skips the tests that need it if it fails; `test --no-comfyui` does not try.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import environment
from find_comfyui import install_comfyui

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = environment.python_in(VENV)
EXAMPLES = ROOT / "example_workflows"
REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "tools" / "requirements-dev.txt")


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - an older Python should get this sentence
        return _fail(f"Python 3.10 or newer is needed; this is {sys.version.split()[0]} ({sys.executable})")
    commands = {"run": run, "test": test, "lint": lint, "setup": setup}
    commands["bench"] = lambda names: _python(str(ROOT / "bench" / "suite.py"), *names)
    commands["quality"] = lambda _: _tool("measure_quality.py")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if arguments[0] not in commands:
        return _fail(f"there is no command {arguments[0]!r}; choose one of: {', '.join(commands)}")
    try:
        set_up()
        return commands[arguments[0]](arguments[1:])
    except subprocess.CalledProcessError as error:
        return _fail(f"this command failed with exit code {error.returncode}: {' '.join(map(str, error.cmd))}")
    except KeyboardInterrupt:
        return 130


def run(arguments: list[str]) -> int:
    """Run `tools/run_workflow.py`, after installing ComfyUI on request; without a workflow, run two examples."""
    if "--comfyui" in arguments:
        arguments = [argument for argument in arguments if argument != "--comfyui"]
        if not install_comfyui(PYTHON):
            return _fail("without --comfyui the built-in engine runs what it can")
        arguments += ["--engine", "comfyui"]
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--output", "--engine"):
        parser.add_argument(option)
    for option in ("--cpu", "--debug"):
        parser.add_argument(option, action="store_true")
    if parser.parse_known_args(arguments)[1]:  # more than the options that both examples take
        return _become(str(ROOT / "tools" / "run_workflow.py"), *arguments)
    arguments = ["--engine", "builtin", *arguments]  # the last --engine counts
    fetch_code = _tool("fetch_weights.py")
    if fetch_code not in (0, 1):  # Ctrl-C
        return fetch_code
    model = [] if fetch_code else ["--set", "ImageSegmentation.model=u2netp"]  # else the demo model
    code = _tool("run_workflow.py", str(EXAMPLES / "text_to_mask.json"), *arguments)
    return code or _tool("run_workflow.py", str(EXAMPLES / "remove_background.json"), *model, *arguments)


def setup(_: list[str]) -> int:
    """Fetch the weights. A failure is no error, since the examples run without them."""
    return 130 if _tool("fetch_weights.py") == 130 else 0


def test(arguments: list[str]) -> int:
    """Run the tests, after installing ComfyUI for the host tests if none is found."""
    if "--deep" in arguments:  # no property needs ComfyUI
        arguments = ["tests", "--hypothesis-profile=deep", "-m", "hypothesis", "--no-comfyui", *arguments]
        arguments.remove("--deep")
    if "--no-comfyui" in arguments:
        arguments = [argument for argument in arguments if argument != "--no-comfyui"]
    else:
        install_comfyui(PYTHON)  # if it fails, it prints why, and tests that need ComfyUI are skipped
    os.chdir(ROOT)
    # All tests run in two processes, file by file: half of the time goes by in waiting for servers and browsers.
    arguments = arguments or ["tests", "-n", "2", "--dist", "loadfile"]
    return _become("-m", "pytest", "-c", "tests/pytest.ini", "--rootdir", ".", *arguments)


def lint(_: list[str]) -> int:
    """Run ruff, the type checker, the registry's three rules (which comments cannot silence) and its validator, and
    comfy-test."""
    os.chdir(ROOT)
    steps = (
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
        ("-m", "basedpyright"),
        ("-m", "ruff", "check", "--select", "S102,S307,E702", "--ignore-noqa", "."),
        ("-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", "node", "validate"),
        ("-m", "comfy_test", "lint", "--strict"),
    )
    return max(_python(*step) for step in steps)


def set_up() -> None:
    """Create `.venv` and install the requirements, unless exactly these are installed."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in REQUIREMENTS)).hexdigest()
    stamp = VENV / "installed-requirements.sha256"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    if not PYTHON.exists():
        _say(f"creating a virtual environment in {VENV}")
        environment.make_venv(VENV)
    _say("installing the requirements, once; PyTorch takes some minutes")
    environment.install_torch(PYTHON)
    environment.pip(PYTHON, *environment.requirements(*REQUIREMENTS))
    stamp.write_text(digest)


def _tool(name: str, *arguments: str) -> int:
    return _python(str(ROOT / "tools" / name), *arguments)


def _python(*arguments: str) -> int:
    """Run the Python of `.venv` and return its exit code. The child handles Ctrl-C."""
    child = subprocess.Popen([str(PYTHON), *arguments])
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def _become(*arguments: str) -> int:
    """Like `_python`, but replace this process where the system can, so that signals reach the child."""
    if os.name == "nt":
        return _python(*arguments)
    os.execv(PYTHON, [str(PYTHON), *arguments])


def _say(text: str) -> None:
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


def _fail(text: str) -> int:
    _say(text)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
