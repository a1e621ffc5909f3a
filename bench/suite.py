"""Runs benchmarks, stores their rows in `results/<machine>.json`, and writes docs/performance.md from all results.

    python3 tools/dev.py bench [NAME ...] [--quick]
    python3 tools/dev.py bench --merge FILE

Each `bench_<NAME>.py` runs in its own process. Results of other benchmarks are kept. With ``--quick``, small inputs
only test that everything runs, and nothing is stored. ``--merge`` adds the results of another machine, from
`tools/gpu_check.py`.
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
import time
from pathlib import Path

import torch
import write_docs
from rows import ROWS_FILE
from write_docs import RESULTS

HERE = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    if "--merge" in arguments:
        return merge(arguments[1:])
    every = [script.stem.removeprefix("bench_") for script in sorted(HERE.glob("bench_*.py"))]
    names = [argument for argument in arguments if not argument.startswith("-")] or every
    unknown = [name for name in names if name not in every]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; choose from {', '.join(every)}", file=sys.stderr)
        return 2
    quick, failed = "--quick" in arguments, []
    for name in names:
        start = time.monotonic()
        rows, problem = measure(HERE / f"bench_{name}.py", quick)
        seconds = time.monotonic() - start
        print(f"bench_{name} took {seconds:.0f} s", flush=True)
        if problem:
            failed.append(name)
        elif rows and not quick:
            facts = describe_machine()
            store(RESULTS / f"{name_file(facts)}.json", facts, f"bench_{name}", rows, seconds)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    if not quick:
        write_docs.write()
    return 1 if failed else 0


def measure(script: Path, quick: bool, time_limit: float | None = None, **variables: str) -> tuple[list[dict], str]:
    """Run a benchmark in a separate process.

    Args:
        time_limit: In seconds.
        variables: Of the environment.

    Returns:
        Its rows, also those before a failure; and what failed, or "".
    """
    with tempfile.TemporaryDirectory() as folder:
        file, problem = Path(folder) / "rows", ""
        command = [sys.executable, str(HERE / "start.py"), str(script), *(["--quick"] if quick else [])]
        environment = {**os.environ, **variables, ROWS_FILE: str(file)}
        try:
            code = subprocess.run(command, env=environment, timeout=time_limit).returncode
            problem = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            problem = f"stopped after {time_limit:.0f} s"
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else [], problem


def store(file: Path, facts: dict, name: str, rows: list[dict], seconds: float = 0) -> None:
    """Replace the rows of a benchmark in ``file``; also store the machine's facts, the date, the commit and the
    versions. Benchmarks that no longer exist are dropped.

    Args: ``seconds``, how long the benchmark takes.
    """
    results = read(file)
    results["machine"] = facts
    results["benches"] = {old: bench for old, bench in results["benches"].items() if (HERE / f"{old}.py").exists()}
    results["benches"][name] = {
        "date": datetime.date.today().isoformat(),
        "commit": find_commit(),
        "versions": [row.pop("versions") for row in rows][-1],
        **({"seconds": round(seconds)} if seconds else {}),
        "rows": rows,
    }
    write(file, results)


def merge(files: list[str]) -> int:
    """Add the results of `tools/gpu_check.py` to those of the same machine, and write docs/performance.md."""
    try:
        (file,) = files
        new = json.loads(Path(file).read_text("utf-8"))
        if not all("job" in row for bench in new["benches"].values() for row in bench["rows"]):
            raise ValueError("it is from an older version")
        target = RESULTS / f"{name_file(new['machine'])}.json"
        results = read(target)
        write(target, {**results, **new, "benches": {**results["benches"], **new["benches"]}})
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"--merge needs a file that tools/gpu_check.py wrote ({error!r})", file=sys.stderr)
        return 2
    write_docs.write()
    return 0


def read(file: Path) -> dict:
    return json.loads(file.read_text("utf-8")) if file.exists() else {"benches": {}}


def write(file: Path, results: dict) -> None:
    """Write results as a whole, or not at all."""
    file.parent.mkdir(exist_ok=True)
    partial = file.with_suffix(".tmp")
    partial.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(file)


def describe_machine() -> dict:
    """The machine's processor, memory and GPU."""
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text("utf-8"), re.MULTILINE) if cpuinfo.exists() else None
    processor = match[1].strip() if match else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "processor": f"{processor}, {cores} cores",
        "memory": f"{memory / 1e9:.0f} GB" if memory else "an unknown amount",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def name_file(facts: dict) -> str:
    """The name of the file with a machine's results, without its extension."""
    gpu = "" if facts["gpu"] == "none" else facts["gpu"]
    return re.sub(r"[^a-z0-9]+", "-", f"{facts['processor']} {gpu}".lower()).strip("-")


def find_commit() -> str:
    """The measured commit, marked if files differ from it."""

    def git(*command: str) -> str:
        try:
            return subprocess.run(["git", *command], cwd=HERE, capture_output=True, text=True).stdout.rstrip()
        except OSError:  # git is not installed
            return ""

    changed = git("status", "--porcelain", ":/", ":!/bench/results", ":!/docs/performance*")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + (" and changes" if changed else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
