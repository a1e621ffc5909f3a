"""Runs benchmarks, stores their rows in `results/<machine>.json`, and writes docs/performance.md from all results.

    python3 tools/dev.py bench [NAME ...] [--quick]

Each `bench_<NAME>.py` runs in its own process. Results of other benchmarks are kept. With
``--quick``, small inputs only test that everything runs, and nothing is stored.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PACKAGES = ("torch", "numpy", "opencv-python-headless", "pillow", "transformers", "rembg", "onnxruntime", "pymatting")


def main(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    scripts = {script.stem.removeprefix("bench_"): script for script in sorted(HERE.glob("bench_*.py"))}
    names = [argument for argument in arguments if not argument.startswith("-")] or list(scripts)
    unknown = [name for name in names if name not in scripts]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; choose from {', '.join(scripts)}", file=sys.stderr)
        return 2
    quick = "--quick" in arguments
    failed = [name for name in names if not run(scripts[name], quick)]
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    if not quick:
        import write_docs

        write_docs.write()
    return 1 if failed else 0


def run(script: Path, quick: bool) -> bool:
    """Run a benchmark and store its rows. Returns whether it succeeded."""
    from rows import ROWS_FILE

    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        command = [sys.executable, str(script), *(["--quick"] if quick else [])]
        if subprocess.run(command, env=os.environ | {ROWS_FILE: str(rows)}).returncode:
            return False
        if not quick and rows.exists():
            store(script.stem, [json.loads(line) for line in rows.read_text("utf-8").splitlines()])
    return True


def store(name: str, rows: list[dict]) -> None:
    """Replace the stored rows of this benchmark; also store the date, the commit and the versions."""
    machine, facts = describe_machine()
    file = RESULTS / f"{machine}.json"
    results = json.loads(file.read_text("utf-8")) if file.exists() else {"benches": {}}
    results["machine"] = facts
    results["benches"][name] = {
        "date": datetime.date.today().isoformat(),
        "commit": find_commit(),
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{package} {version}" for package in PACKAGES if (version := find_version(package))),
        "rates": [row.pop("rates") for row in rows][-1],  # the last row has all rates of the run
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    partial = file.with_suffix(".tmp")
    partial.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(file)


def describe_machine() -> tuple[str, dict]:
    """The name that results are stored under, and the machine's processor, memory and GPU."""
    import psutil
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text("utf-8"), re.MULTILINE) if cpuinfo.exists() else None
    processor = match[1].strip() if match else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = f"{processor}, {cores} cores"
    facts = {"processor": processor, "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB", "gpu": gpu or "none"}
    return re.sub(r"[^a-z0-9]+", "-", f"{processor} {gpu}".lower()).strip("-"), facts


def find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def find_commit() -> str:
    """The measured commit, marked if files differ from it."""

    def git(*command: str) -> str:
        return subprocess.run(["git", *command], cwd=HERE, capture_output=True, text=True).stdout.rstrip()

    generated = ("bench/results", "docs/performance")
    changed = [line for line in git("status", "--porcelain").splitlines() if not line[3:].startswith(generated)]
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + (" and changes" if changed else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
