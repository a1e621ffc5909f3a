"""Runs benchmarks, keeps their rows in `results/<machine>.json`, and writes docs/performance.md from all results.

    python3 tools/dev.py bench [names] [--quick]

Each `bench_*.py` runs in a process of its own. With names only those run that are called so, or where none is, whose
names contain it; the rows of the others stay as they are. With ``--quick`` small inputs show that everything runs;
nothing is kept.
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
    names = [argument for argument in arguments if not argument.startswith("-")]
    scripts = sorted(HERE.glob("bench_*.py"))
    if names:
        called = {script.stem.removeprefix("bench_") for script in scripts}
        scripts = [
            script
            for script in scripts
            if any(script.stem == f"bench_{name}" or (name not in called and name in script.stem) for name in names)
        ]
    if not scripts:
        print(f"no benchmark is called like {', '.join(names)}", file=sys.stderr)
        return 2
    quick = "--quick" in arguments
    failed = [script.name for script in scripts if not _run(script, quick)]
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    if not quick:
        import write_docs

        write_docs.write()
    return 1 if failed else 0


def _run(script: Path, quick: bool) -> bool:
    """Whether a benchmark ran to its end; its rows are kept then."""
    from _rows import ROWS_FILE

    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        command = [sys.executable, str(script), *(["--quick"] if quick else [])]
        if subprocess.run(command, env=os.environ | {ROWS_FILE: str(rows)}).returncode:
            return False
        if not quick and rows.exists():
            _keep(script.stem, [json.loads(line) for line in rows.read_text("utf-8").splitlines()])
    return True


def _keep(name: str, rows: list[dict]) -> None:
    """Put the rows in the place of this benchmark's earlier ones, with the day and the commit."""
    machine, facts, now = _machine()
    file = RESULTS / f"{machine}.json"
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {"benches": {}}
    kept["machine"] = facts
    kept["benches"][name] = {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        **now,
        "rates": [row.pop("rates") for row in rows][-1],  # the last row knows all that were measured
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    unfinished.replace(file)


def _machine() -> tuple[str, dict, dict]:
    """What results are filed under, what the machine is, and what is true of it today."""
    import torch
    from _measuring import cores

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    processor, memory = f"{_processor()}, {cores()} cores", _memory()
    facts = {
        "processor": processor,
        "memory": f"{memory / 1e9:.0f} GB" if memory else "unknown",
        "gpu": gpu or "none",
    }
    now = {
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{package} {version}" for package in PACKAGES if (version := _version(package))),
    }
    return re.sub(r"[^a-z0-9]+", "-", f"{processor} {gpu}".lower()).strip("-"), facts, now


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*: (.+)$", lines, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    """The commit that was measured, with a mark where files differ from it."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=HERE, capture_output=True, text=True)
        return done.stdout.rstrip()

    written_here = ("bench/results", "docs/performance")
    changed = [line for line in git("status", "--porcelain").splitlines() if not line[3:].startswith(written_here)]
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + (" and changes" if changed else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
