"""Time and modules for loading the pack and others, in new processes that have imported ComfyUI's modules.

Also loads an empty pack, the packs of `hosted.PACKS`, and the folders in ``PACKS`` (in the format of PATH).
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
from find_comfyui import find_comfyui
from rows import OURS, Cell, Figure, Report, Row, Spread

ROUNDS = 4  # of which the first only compiles
EMPTY = "an empty pack"
LOAD = "import sys; sys.path.insert(0, sys.argv[1]); from bench_load import load_alone; load_alone()"

ABOUT = """Loading only the package, already compiled, as ComfyUI {version} does at startup, after its own modules and
nodes. Reading the files takes most of the time; heavy libraries are imported when a node runs. The Impact Pack has some
of the same nodes; the other packs, which differ in size, are listed for comparison."""

NOTE = "Python finds, opens and runs each of the pack's modules; it has more and smaller ones than the Impact Pack."


def load_alone() -> None:
    """In a new process: write the seconds that a pack takes to load, and the modules that it adds."""
    _, folder, scratch = sys.argv[1:]
    hosted.start_comfyui(scratch)
    sys.dont_write_bytecode, sys.pycache_prefix = False, scratch
    loaded = set(sys.modules)
    start = time.perf_counter()
    hosted.import_pack(Path(folder))
    result = [time.perf_counter() - start, len(set(sys.modules) - loaded)]
    Path(scratch, "result").write_text(json.dumps(result), "utf-8")  # not printed: packs print
    os._exit(0)  # the pack may have started threads


def main(quick: bool) -> None:
    comfy = find_comfyui()
    if not comfy.usable:
        print(f"skipped: {comfy.why}")
        return
    more = [Path(name).absolute() for name in os.environ.get("PACKS", "").split(os.pathsep) if name]
    report = Report("Load the pack", ABOUT.format(version=comfy.version))
    with tempfile.TemporaryDirectory() as folder:
        scratch, empty = Path(folder), Path(folder) / "empty"
        empty.mkdir()
        (empty / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}", "utf-8")

        def load(pack: Path) -> list[float]:
            command = [str(comfy.python), "-c", LOAD, str(Path(__file__).parent), str(pack), str(scratch)]
            run = subprocess.run(command, cwd=comfy.path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if run.returncode:
                raise SystemExit(f"{pack} does not load: {run.stderr.strip()[-500:]}")
            return json.loads((scratch / "result").read_text("utf-8"))

        packs = {OURS: ROOT, EMPTY: empty, **hosted.pack_folders(), **{path.name: path for path in more}}
        rounds = [{name: load(path) for name, path in packs.items()} for _ in range(2 if quick else ROUNDS)]
    cells = {name: Cell(Spread.of([each[name][0] for each in rounds[1:]])) for name in packs}
    ours, blank = cells.pop(OURS), cells.pop(EMPTY).time.median
    goals = {name: 0 for name in hosted.PACKS if name != "Impact Pack"}  # these have other nodes
    report.store(Row("load", ours, cells, goals=goals, max_seconds=0.1, note=NOTE, headline=True))
    report.store(Figure("load an empty pack", 1000 * blank, " ms"))
    for name in packs:
        report.store(Figure(f"modules that {name} adds", rounds[-1][name][1]))
