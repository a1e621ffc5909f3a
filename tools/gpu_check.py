#!/usr/bin/env python3
"""Checks and measures the pack on an NVIDIA GPU, in less than 8 minutes, without network.

    python tools/gpu_check.py [COMFYUI] [--out FILE]

Needs a Python with PyTorch, such as ComfyUI's. Runs the tests marked ``cuda``, then the benchmarks on the GPU, and
writes a file (gpu_check.json) for `tools/dev.py bench --merge FILE`, which adds it to docs/performance.md. With
COMFYUI, the folder of a ComfyUI, it also measures Mask Detailer there, which takes longer. Tests and benchmarks that
need a missing package, such as pymatting, are skipped with a message. Exit code 1 if something failed; 0 without an
NVIDIA GPU, where there is nothing to check.

``--simulated`` tries this command itself, with small inputs on a simulated GPU; its file contains no GPU times.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCH, TESTS = ROOT / "bench", ROOT / "tests"
sys.path.insert(0, str(BENCH))

BENCHMARKS = {"gradient": [], "on_device": [], "segmentation": [], "clipseg": ["transformers"]}  # and what each needs
IN_COMFYUI = {"detailer_comfyui": ["requests", "websocket"]}
SECONDS, TEST_SECONDS = 460, 150  # for everything without ComfyUI, and for the tests
COMFYUI_SECONDS = 3600


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comfyui", nargs="?", metavar="COMFYUI", type=Path)
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), metavar="FILE")
    parser.add_argument("--simulated", action="store_true", help="try this command on a simulated GPU")
    options = parser.parse_args(arguments)
    why = "" if options.simulated else explain_no_gpu()
    if why:
        print(f"{why}: nothing to check")
        return 0
    return check(options.out, options.comfyui, options.simulated)


def explain_no_gpu() -> str:
    """Explain why there is no NVIDIA GPU to check; "" if there is one."""
    if not importlib.util.find_spec("torch"):
        return f"PyTorch is not installed in {sys.executable}"
    import torch

    return "" if torch.cuda.is_available() and torch.version.cuda else "PyTorch finds no NVIDIA GPU"


def check(out: Path, comfyui: Path | None, simulated: bool) -> int:
    """Run tests and benchmarks, and write the results to ``out``, which grows with each. Returns the exit code."""
    import suite

    facts = suite.describe_machine()
    if simulated:
        facts["gpu"] = "simulated"
    variables = {"MASKWRIGHT_BENCH_DEVICE": "simulated" if simulated else "cuda", "HF_HUB_OFFLINE": "1"}
    end = time.monotonic() + SECONDS
    checks: list[str] = []
    suite.write(out, {"machine": facts, "checks": checks, "benches": {}})

    def note(what: str, problem: str = "", skipped: str = "") -> None:
        checks.append(f"{what}: {problem and f'FAILED ({problem})'}{skipped}".removesuffix(": "))
        print(checks[-1], flush=True)
        suite.write(out, {**suite.read(out), "checks": checks})

    note(*run_tests("fake" if simulated else "", TEST_SECONDS))
    variables |= {"COMFYUI_PATH": str(comfyui)} if comfyui else {}
    for name, needs in {**BENCHMARKS, **(IN_COMFYUI if comfyui else {})}.items():
        missing = [module for module in needs if not importlib.util.find_spec(module)]
        if missing:
            note(f"Benchmark {name}", skipped=f"skipped, since {', '.join(missing)} is not installed")
            continue
        limit = COMFYUI_SECONDS if name in IN_COMFYUI else max(1, end - time.monotonic())
        rows, problem = suite.measure(BENCH / f"bench_{name}.py", simulated, limit, **variables)
        if rows:
            suite.store(out, facts, f"bench_{name}", rows)
        note(f"Benchmark {name}: {len(rows)} rows", problem)
    print(f"\nWritten to {out}; add it to docs/performance.md with: tools/dev.py bench --merge {out}")
    return int(any("FAILED" in check for check in checks))


def find_tests() -> list[str]:
    """The files with tests on the GPU; others may need packages that this Python lacks."""
    return [str(file) for file in sorted(TESTS.glob("test_*.py")) if "cuda" in file.read_text("utf-8")]


def run_tests(keyword: str, limit: float) -> tuple[str, str, str]:
    """Run the tests marked ``cuda``, or those with a keyword. Returns what ran, what failed, and why it was skipped."""
    what = "Tests on the GPU"
    if not importlib.util.find_spec("pytest"):
        return what, "", "skipped, since pytest is not installed"
    chosen = ["-k", keyword] if keyword else ["-m", "cuda"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-p", "no:cacheprovider", "--continue-on-collection-errors", f"--junitxml={report}", *chosen]
        command = [sys.executable, "-m", "pytest", "-c", str(TESTS / "pytest.ini"), "--rootdir", str(ROOT), *options]
        try:
            subprocess.run([*command, *find_tests()], cwd=ROOT, timeout=limit)
        except subprocess.TimeoutExpired:
            return what, f"stopped after {limit:.0f} s", ""
        if not report.exists():
            return what, "pytest did not run", ""
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    counts, missing = collections.Counter(), set()
    for case in cases:
        result = next((each.tag for each in case if each.tag in ("failure", "error", "skipped")), "passed")
        package = find_missing(case)
        counts["skipped" if package else result] += 1
        missing |= {package} - {""}
    reason = f" ({', '.join(sorted(missing))} not installed)" if missing else ""
    bad = counts["failure"] + counts["error"]
    return f"{what}: {counts['passed']} passed, {counts['skipped']} skipped{reason}", f"{bad} tests" if bad else "", ""


def find_missing(case: ElementTree.Element) -> str:
    """The optional package whose absence made a test fail or skip itself; "" if something else did, or nothing."""
    text = "".join(problem.text or "" for problem in case)
    names = re.findall(r"No module named '(\w+)", text)
    return next((name for name in names if not importlib.util.find_spec(name)), "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
