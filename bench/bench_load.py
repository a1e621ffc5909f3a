"""Time and modules for loading the pack and others, in new processes that have imported ComfyUI's modules.

Also loads an empty pack, and the packs of `hosted.PACKS`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hosted
from _measuring import ROOT
from rows import OURS, Cell, Figure, Row, Spread

ROUNDS = 4  # of which the first only compiles
EMPTY = "an empty pack"
LOAD = "import sys; sys.path.insert(0, sys.argv[1]); from bench_load import load_alone; load_alone(*sys.argv[2:])"
IN_COMFYUI = True

NOTE = "Python finds, opens and runs each of the pack's modules; it has more and smaller ones than the Impact Pack."


def load_alone(folder: str, scratch: str) -> None:
    """In a new process: write the seconds that a pack takes to load, and the number of modules that it adds."""
    hosted.start_comfyui(scratch)
    sys.dont_write_bytecode, sys.pycache_prefix = False, scratch
    loaded = set(sys.modules)
    start = time.perf_counter()
    hosted.import_pack(Path(folder))
    result = [time.perf_counter() - start, len(set(sys.modules) - loaded)]
    Path(scratch, "result").write_text(json.dumps(result), "utf-8")  # not printed: packs print
    os._exit(0)  # the pack may have started threads


def load(folder: Path, scratch: Path) -> list[float]:
    """`load_alone` in a new process. Returns seconds and modules."""
    command = [sys.executable, "-c", LOAD, str(Path(__file__).parent), str(folder), str(scratch)]
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if run.returncode:
        raise SystemExit(f"{folder} does not load: {run.stderr.strip()[-500:]}")
    return json.loads((scratch / "result").read_text("utf-8"))


def main(quick: bool) -> None:
    report = hosted.make_report("Load the pack")
    with tempfile.TemporaryDirectory() as folder:
        scratch, empty = Path(folder), Path(folder) / "empty"
        empty.mkdir()
        (empty / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}", "utf-8")
        packs = {OURS: ROOT, EMPTY: empty, **hosted.pack_folders(*hosted.PACKS)}
        rounds = [{name: load(path, scratch) for name, path in packs.items()} for _ in range(2 if quick else ROUNDS)]
    cells = {name: Cell(Spread.of([each[name][0] for each in rounds[1:]])) for name in packs}
    ours, blank = cells.pop(OURS), cells.pop(EMPTY).time.median
    goals = {name: 0 for name in hosted.PACKS if name != "Impact Pack"}  # these have other nodes
    report.store(Row("load", ours, cells, goals=goals, max_seconds=0.1, note=NOTE, headline=True))
    report.store(Figure("load an empty pack", 1000 * blank, " ms"))
    for name in packs:
        report.store(Figure(f"modules that {name} adds", rounds[-1][name][1]))
