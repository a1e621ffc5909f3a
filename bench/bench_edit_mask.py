"""EditMask compared with ComfyUI's GrowMask and other packs' nodes that grow or blur masks.

All nodes run in turns in one process with ComfyUI's Python, on the CPU. The packs whose folders are in ``PACKS`` (in
the format of PATH) are loaded into it. Times are those of all cores together, so that other programs matter less.

    python3 tools/dev.py bench edit_mask [--quick]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _measuring import Spread  # first: makes the tools importable
from bench_load import COMFYUI
from comfyui import ComfyUI, find_comfyui
from pack import ROOT
from rows import Figure, Report, Timing

SIZES = [(1, 1024), (16, 1024), (1, 4096), (16, 4096)]  # masks and their side
MAX_GROWTH_WITH_DISTANCE = 1.3  # of the time, from a growth of 4 pixels to one of 64
KJ = {
    "tapered_corners": True,
    "flip_input": False,
    "incremental_expandrate": 0.0,
    "lerp_alpha": 1.0,
    "decay_factor": 1.0,
}


def grow_nodes(pixels: int) -> dict[str, dict]:
    return {
        "EditMask": {"grow": float(pixels)},
        "GrowMask": {"expand": pixels, "tapered_corners": True},
        "GrowMaskWithBlur": {"expand": pixels, "blur_radius": 0.0, **KJ},
        "INPAINT_ExpandMask": {"grow": pixels, "blur": 0, "blur_type": "gaussian"},
    }


BLUR_NODES = {
    "EditMask": {"blur": 32.0},
    "GrowMaskWithBlur": {"expand": 0, "blur_radius": 32.0, **KJ},
    "MaskBlur+": {"amount": 32, "device": "cpu"},
    "INPAINT_ExpandMask": {"grow": 0, "blur": 32, "blur_type": "gaussian"},
}
FEATHER = {"EditMask": {"feather_inside": 16.0, "feather_outside": 16.0}}  # no other node fades by distance
WORK = {"grow 4": grow_nodes(4), "grow 64": grow_nodes(64), "blur 32": BLUR_NODES, "feather 32": FEATHER}

ABOUT = """A disc with a wavy outline that covers a third of the mask. EditMask grows by Euclidean distance, ComfyUI's
GrowMask by diamonds, the others by diamonds, squares or octagons. No other node feathers by distance. Earlier: other
nodes, in ComfyUI's Python, in turns with EditMask. Times are seconds of CPU, all cores together."""
NOTE_BLUR = """GrowMaskWithBlur blurs with Pillow: 8 bits, with boxes in place of a Gaussian. MaskBlur+ and
INPAINT_ExpandMask take 32 as the width of a window, with a smaller sigma."""

# Writes, per piece of work, {node: [seconds]}. Nodes that are missing or fail are left out.
RUN = """
import sys
arguments = sys.argv[1:3]
{before}
import importlib.util, json, math, time, torch
with open(arguments[0]) as file:
    job = json.load(file)
found = dict(nodes.NODE_CLASS_MAPPINGS)
for number, folder in enumerate(job["packs"]):
    name = f"pack{{number}}"
    spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py", submodule_search_locations=[folder])
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if hasattr(module, "comfy_entrypoint") and not hasattr(module, "NODE_CLASS_MAPPINGS"):
            extension = loop.run_until_complete(module.comfy_entrypoint())
            listed = loop.run_until_complete(extension.get_node_list())
            found.update((node.define_schema().node_id, node) for node in listed)
        else:
            found.update(module.NODE_CLASS_MAPPINGS)
    except Exception as error:
        print(f"{{folder}} does not load: {{error}}", file=sys.stderr)
side, count = job["side"], job["count"]
y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
depth = 0.6 + 0.06 * torch.sin(12 * torch.atan2(y, x)) - torch.hypot(x, y)
mask = (depth * side / 60 + 0.5).clamp(0, 1) if job["soft"] else (depth > 0).float()
mask = mask.expand(count, side, side).contiguous()

def run(name, inputs):
    node = found[name]
    start = time.process_time()
    if hasattr(node, "define_schema"):
        node.execute(mask=mask, **inputs)
    else:
        getattr(node(), node.FUNCTION)(mask=mask, **inputs)
    return time.process_time() - start

result = {{}}
for work, inputs_of in job["work"].items():
    times = result[work] = {{}}
    slow = set()
    for turn in range(job["rounds"] + 1):  # the first does not count, unless it takes long
        for name, inputs in inputs_of.items():
            if name not in found or name in slow:
                continue
            try:
                seconds = run(name, inputs)
            except Exception as error:
                print(f"{{name}} failed: {{error}}", file=sys.stderr)
                slow.add(name)
                continue
            if seconds > 20:
                slow.add(name)
            if turn or name in slow:
                times.setdefault(name, []).append(seconds)
with open(arguments[1], "w") as file:
    json.dump(result, file)
import os
os._exit(0)
"""


def time_nodes(comfy: ComfyUI, count: int, side: int, rounds: int, soft: bool = False) -> dict[str, dict[str, Spread]]:
    """The times of all nodes for all work, on ``count`` masks of ``side`` x ``side``."""
    packs = [ROOT, *(Path(name).absolute() for name in os.environ.get("PACKS", "").split(os.pathsep) if name)]
    job = {"packs": [str(pack) for pack in packs], "work": WORK, "count": count, "side": side, "rounds": rounds}
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / name for name in ("job.json", "result.json")]
        files[0].write_text(json.dumps(job | {"soft": soft}), encoding="utf-8")
        script = RUN.format(before=COMFYUI.replace("sys.argv[2]", repr(scratch)))
        command = [str(comfy.python), "-c", script, *map(str, files)]
        run = subprocess.run(command, cwd=comfy.path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        print("".join(line for line in run.stderr.splitlines(True) if "pack" in line or "failed" in line), end="")
        if run.returncode:
            raise SystemExit(f"the nodes did not run: {run.stderr[-1000:]}")
        result = json.loads(files[1].read_text("utf-8"))
    return {work: {name: Spread.of(each) for name, each in times.items()} for work, times in result.items()}


def add_rows(report: Report, times: dict[str, dict[str, Spread]], what: str) -> None:
    for work, by_node in times.items():
        now = by_node.pop("EditMask")
        note = NOTE_BLUR if work.startswith("blur") else ""
        for name, earlier in by_node.items():
            report.add(Timing(f"{what}, {work}, beside {name}", now, earlier=earlier, at_least=1, note=note))
        if not by_node:
            report.add(Timing(f"{what}, {work}", now))
        by_node["EditMask"] = now


def main(quick: bool) -> None:
    comfy = find_comfyui()
    if not comfy.usable:
        raise SystemExit(f"no ComfyUI was found: {comfy.why}")
    report = Report("EditMask", ABOUT)
    for count, side in [(1, 256), (4, 256)] if quick else SIZES:
        what = f"{count} mask{'s' * (count > 1)} of {side} x {side}"
        times = time_nodes(comfy, count, side, rounds=2 if quick or side > 1024 else 5)
        add_rows(report, times, what)
        growth = times["grow 64"]["EditMask"].median / times["grow 4"]["EditMask"].median
        report.add(Figure(f"{what}: time of grow 64 / grow 4", growth, "x", at_most=MAX_GROWTH_WITH_DISTANCE))
    side = 256 if quick else 1024
    add_rows(report, time_nodes(comfy, 1, side, 2, soft=True), f"1 soft mask of {side} x {side}")


if __name__ == "__main__":
    main("--quick" in sys.argv)
