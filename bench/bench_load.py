"""How long loading the pack takes, and what it imports, in fresh processes that hold torch, numpy and Pillow already.

Beside it, in turns, the packs that it replaces, where ``PACKS`` names their folders (as in PATH, one after the other),
and a pack that holds nothing. In ComfyUI the goal is under 0.1 s.

    python3 tools/dev.py bench load [--quick]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOAD = """
import importlib.util, sys, time
import numpy, PIL.Image, torch
before, folder = set(sys.modules), sys.argv[1]
start, used = time.perf_counter(), time.process_time()
spec = importlib.util.spec_from_file_location("pack", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
try:
    spec.loader.exec_module(module)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(time.perf_counter() - start, time.process_time() - used, len(set(sys.modules) - before))
"""


def main(arguments: list[str]) -> int:
    turns = 3 if "--quick" in arguments else 9
    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / "__init__.py").touch()
        folders = {"this pack": str(ROOT), "an empty pack": empty}
        for folder in filter(None, os.environ.get("PACKS", "").split(os.pathsep)):
            folders[Path(folder).name] = folder
        told: dict[str, list[list[float]]] = {name: [] for name in folders}
        failed: dict[str, str] = {}
        for _ in range(turns):
            for name, folder in folders.items():
                done = subprocess.run([sys.executable, "-c", LOAD, folder], capture_output=True, text=True)
                if done.returncode:
                    failed[name] = done.stderr.strip().splitlines()[-1]
                else:
                    told[name].append([float(each) for each in done.stdout.split()[-3:]])
    print(f"{'':24}{'seconds':>9}{'of a core':>11}{'modules':>9}   medians of {turns}")
    for name, rows in told.items():
        if rows:
            wall, used, modules = (statistics.median(column) for column in zip(*rows))
            print(f"{name:24}{wall:>9.3f}{used:>11.3f}{modules:>9.0f}")
        else:
            print(f"{name:24}does not load: {failed[name]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
