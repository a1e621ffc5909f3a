"""How long loading the pack takes, and which modules it adds, in fresh processes that hold ComfyUI's modules already.

Where no ComfyUI is found, in this Python with torch, numpy and Pillow. Beside it, in turns, a pack that holds nothing,
and the packs that it replaces: those whose folders or files ``PACKS`` names (as in PATH, one after the other) and that
of ``IMPACT_PACK_PATH``.

    python3 tools/dev.py bench load [--quick]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import _measuring  # puts the tools and the tests where they are found
import comfyui
from _rows import Figure, Report, Timing
from detailer_prompts import impact_pack
from pack import ROOT

MOST_SECONDS = 0.1

ABOUT = """Loading the package alone, its files compiled already, as ComfyUI does when it starts: after ComfyUI's own
modules and nodes{where}. The earlier way: another pack that holds some of the same nodes{which}. No floor is counted:
the time of a pack that holds nothing stands beside it."""

# What ComfyUI's main.py has done before it loads packs; a server that listens is not part of it. Told to be on a CPU,
# since where it runs makes no difference here.
COMFYUI = """
import asyncio, logging, os, sys
sys.path[0] = os.getcwd()
sys.argv = ["main.py", "--cpu", "--base-directory", sys.argv[2]]
import comfy.options
comfy.options.enable_args_parsing()
logging.disable(logging.WARNING)
import folder_paths, utils.extra_config, execution, server, nodes
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
server.PromptServer(loop)
loop.run_until_complete(nodes.init_builtin_extra_nodes())
"""
BARE = "import numpy, PIL.Image, torch"
LOAD = """
import sys
folder, scratch = sys.argv[1:3]
{before}
import importlib.util, json, os, time
sys.dont_write_bytecode, sys.pycache_prefix = False, scratch
held = set(sys.modules)
start, used = time.perf_counter(), time.process_time()
alone = folder.endswith(".py")  # a pack of one file
where = {{}} if alone else {{"submodule_search_locations": [folder]}}
spec = importlib.util.spec_from_file_location("pack", folder if alone else folder + "/__init__.py", **where)
sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
try:
    spec.loader.exec_module(module)
except Exception as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
taken = time.perf_counter() - start, time.process_time() - used
with open(os.path.join(scratch, "taken"), "w") as file:  # not printed: packs print, in threads too
    json.dump([*taken, len(set(sys.modules) - held), len(getattr(module, "NODE_CLASS_MAPPINGS", ()))], file)
os._exit(0)  # whatever threads the pack has started
"""


class Loads:
    """Loads of one pack, each in a process of its own."""

    def __init__(self, folder: Path, found: comfyui.ComfyUI, scratch: Path) -> None:
        python = found.python if found.usable else sys.executable
        code = LOAD.format(before=COMFYUI if found.usable else BARE)
        self.command = [str(python), "-c", code, str(folder), str(scratch)]
        self.scratch, self.folder = scratch, found.path if found.usable else scratch
        self.wall, self.used, self.modules, self.nodes = [], [], 0, 0
        self.failure = ""

    def once(self, counts: bool = True) -> None:
        done = subprocess.run(self.command, cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            self.failure = [f"exit {done.returncode}", *done.stderr.strip().splitlines()][-1]
        elif counts:
            wall, used, self.modules, self.nodes = json.loads((self.scratch / "taken").read_text("utf-8"))
            self.wall.append(wall)
            self.used.append(used)


def replaced(found: comfyui.ComfyUI) -> dict[str, Path]:
    named = [Path(folder) for folder in filter(None, os.environ.get("PACKS", "").split(os.pathsep))]
    impact = impact_pack(found)
    return {folder.name: folder.absolute() for folder in [*named, *([impact] if impact else [])]}


def main(quick: bool) -> None:
    found = comfyui.find_comfyui()
    others = replaced(found)
    where = f" (of ComfyUI {found.version})" if found.usable else "' libraries (no ComfyUI was found)"
    report = Report("Loading the pack", ABOUT.format(where=where, which="" if others else " (none is installed)"))
    with tempfile.TemporaryDirectory() as folder:
        scratch, empty = Path(folder), Path(folder) / "empty"
        empty.mkdir()
        (empty / "__init__.py").touch()
        packs = {"this pack": ROOT, "an empty pack": empty, **others}
        loads = {name: Loads(path, found, scratch) for name, path in packs.items()}
        for turn in range(3 if quick else 6):
            for each in loads.values():
                if not each.failure:
                    each.once(counts=turn > 0)
    for name, each in list(loads.items()):
        failure = each.failure or ("" if each.nodes or name == "an empty pack" else "it registers no node")
        if failure and name not in others:
            raise SystemExit(f"{name} does not load: {failure}")
        if failure:
            print(f"{name} does not load: {failure}")
            del loads[name]
    add_rows(report, loads)


def add_rows(report: Report, loads: dict[str, Loads]) -> None:
    taken = {name: _measuring.Spread.of(each.wall) for name, each in loads.items()}
    this, _, *others = loads
    for name in others:
        report.add(Timing(f"beside {name}", taken[this], earlier=taken[name], headline=name == others[0]))
    for name, each in loads.items():
        if name not in others:
            limit = MOST_SECONDS if name == this else None
            report.add(Figure(f"{name}: loaded", taken[name].median, " s", at_most=limit))
        report.add(Figure(f"{name}: time of a core", _measuring.Spread.of(each.used).median, " s"))
        report.add(Figure(f"{name}: modules added", each.modules))


if __name__ == "__main__":
    main("--quick" in sys.argv)
