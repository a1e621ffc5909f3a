"""Time and modules for loading the pack, in new processes that have imported ComfyUI's modules.

Without a ComfyUI, uses this Python with torch, numpy and Pillow. For comparison, in turns: an empty pack, the packs
whose folders or files are in ``PACKS`` (in the format of PATH), and that of ``IMPACT_PACK_PATH``.

    python3 tools/dev.py bench load [--quick]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import _measuring  # makes the tools and the tests importable
import comfyui
from detailer_prompts import impact_pack
from pack import ROOT
from rows import Figure, Report, Timing

MAX_LOAD_SECONDS = 0.1

ABOUT = """Loading only the package, already compiled, as ComfyUI does at startup: after ComfyUI's own modules and
nodes{where}. Earlier: another pack with some of the same nodes{which}. There is no floor; the time of an empty pack is
listed for comparison."""

# What ComfyUI's main.py does before it loads packs, without a listening server; on the CPU, which makes no difference.
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
LOAD = """
import sys
folder, scratch = sys.argv[1:3]
{before}
import importlib.util, json, os, time
sys.dont_write_bytecode, sys.pycache_prefix = False, scratch
loaded = set(sys.modules)
start = time.perf_counter()
alone = folder.endswith(".py")  # a pack of one file
where = {{}} if alone else {{"submodule_search_locations": [folder]}}
spec = importlib.util.spec_from_file_location("pack", folder if alone else folder + "/__init__.py", **where)
sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with open(os.path.join(scratch, "result"), "w") as file:  # not printed: packs print
    json.dump([time.perf_counter() - start, len(set(sys.modules) - loaded)], file)
os._exit(0)  # whatever threads the pack has started
"""


def main(quick: bool) -> None:
    comfy = comfyui.find_comfyui()
    named = [Path(name).absolute() for name in os.environ.get("PACKS", "").split(os.pathsep) if name]
    others = {path.name: path for path in [*named, impact_pack(comfy)] if path}
    where = f" (of ComfyUI {comfy.version})" if comfy.usable else "' libraries (no ComfyUI was found)"
    report = Report("Loading the pack", ABOUT.format(where=where, which="" if others else " (none is installed)"))
    with tempfile.TemporaryDirectory() as folder:
        scratch, empty = Path(folder), Path(folder) / "empty"
        empty.mkdir()
        (empty / "__init__.py").touch()
        code = LOAD.format(before=COMFYUI if comfy.usable else "import numpy, PIL.Image, torch")
        python, cwd = (comfy.python, comfy.path) if comfy.usable else (sys.executable, scratch)

        def load(path: Path) -> tuple[float, int]:
            command = [str(python), "-c", code, str(path), str(scratch)]
            result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if result.returncode:
                raise SystemExit(f"{path} does not load: {result.stderr.strip()[-500:]}")
            return json.loads((scratch / "result").read_text("utf-8"))

        packs = {"this pack": ROOT, "an empty pack": empty, **others}
        rounds = [{name: load(path) for name, path in packs.items()} for _ in range(3 if quick else 6)]
    for name in packs:
        # The first round only compiles.
        seconds = _measuring.Spread.of([each[name][0] for each in rounds[1:]])
        limit = MAX_LOAD_SECONDS if name == "this pack" else None
        report.add(Figure(f"{name}: loaded", seconds.median, " s", at_most=limit))
        report.add(Figure(f"{name}: modules added", rounds[-1][name][1]))
        if name == "this pack":
            now = seconds
        elif name in others:
            headline = name == next(iter(others))
            report.add(Timing(f"compared with {name}", now, earlier=seconds, headline=headline))


if __name__ == "__main__":
    main("--quick" in sys.argv)
