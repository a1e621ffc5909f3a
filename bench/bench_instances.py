"""MaskInstances and the batches of the detailer's regions; beside them other packs' nodes that split masks.

The packs whose folders are in ``PACKS`` (in the format of PATH) run in ComfyUI's Python, in a process of their own.

    python3 tools/dev.py bench instances [--quick]
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from _measuring import Call, Spread, compare, peak_memory  # first: makes the tools importable
from bench_load import COMFYUI
from comfyui import ComfyUI, find_comfyui
from maskwright.core.detail.batches import Task, TaskQueue
from maskwright.core.engine import Pipe
from maskwright.core.geometry import Box, SamplingFrame
from maskwright.core.instances.instances import find_instances
from maskwright.core.instances.picking import Choice
from maskwright.nodes.mask_instances import MaskInstances
from rows import MAX_GROWTH, Figure, Report, Timing

SIDE, SPECKS = 4096, 10_000
MAX_SECONDS, MAX_MEGABYTES, MAX_BATCHING = 2.0, 500, 0.2
FEW, SMALL = 100, 1024  # for the comparison: with 10,000 specks, others take minutes and run out of memory
OTHERS = {  # node -> its other inputs
    "SeparateMasks": {"size_threshold_width": 0, "size_threshold_height": 0, "max_poly_points": 8, "mode": "area"},
    "MaskToSEGS": {"combined": False, "crop_factor": 1.0, "bbox_fill": False, "drop_size": 1, "contour_fill": False},
}

ABOUT = """Specks of 8 x 8 pixels. Found, sorted by size and filtered, without a mask of the image's size for each. In
the comparison each speck becomes a mask. Growth is measured with Python's garbage collector off. Earlier: other packs'
nodes that split a mask, {which}."""

RUN_NODE = """
import sys
folder, scratch, name, inputs = sys.argv[1:5]
{before}
import importlib.util, json, os, time, torch
spec = importlib.util.spec_from_file_location("pack", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
node = module.NODE_CLASS_MAPPINGS[name]
mask = torch.load(os.path.join(scratch, "mask.pt"))
times = []
for _ in range(3):
    start = time.perf_counter()
    getattr(node(), node.FUNCTION)(mask=mask, **json.loads(inputs))
    times.append(time.perf_counter() - start)
with open(os.path.join(scratch, "result"), "w") as file:
    json.dump(times[1:], file)
os._exit(0)
"""


def draw_specks(side: int, count: int) -> torch.Tensor:
    """``count`` squares (a square number) of 8 x 8 pixels in a mask ``[1,side,side]``."""
    lines = round(count**0.5)
    step, mask = side // lines, torch.zeros(side, side)
    for y in range(8):
        for x in range(8):
            mask[y::step, x::step][:lines, :lines] = 0.8
    return mask.unsqueeze(0)


def find(mask: torch.Tensor) -> int:
    choice = Choice(sort_by="largest first", min_area=0.0001, overlap=0.5)
    return len(choice.candidates(find_instances(mask, least_area=choice.least_area(*mask.shape[1:]))))


def make_batches(side: int) -> int:
    """Batch ``side`` x ``side`` regions, each of which overlaps its neighbors."""
    pipe = Pipe("model", "positive", "negative")
    boxes = [Box(20 * x, 20 * y, 20 * x + 60, 20 * y + 60) for y in range(side) for x in range(side)]
    tasks = [Task(0, i, None, SamplingFrame(box, 64, 64), i, pipe, None, (box,), box) for i, box in enumerate(boxes)]
    queue, count = TaskQueue(tasks), 0
    while queue.take(8):
        count += 1
    return count


def without_collection(call: Callable, value: object) -> Call:
    """Call a function with Python's garbage collector off, which otherwise begins to run at some number of objects."""

    def run() -> None:
        gc.disable()
        try:
            call(value)
        finally:
            gc.enable()

    return run


def time_other_node(pack: Path, name: str, comfy: ComfyUI) -> Spread | None:
    """The time of another pack's node for `FEW` specks; None if it does not run here."""
    with tempfile.TemporaryDirectory() as scratch:
        torch.save(draw_specks(SMALL, FEW), Path(scratch) / "mask.pt")
        script = RUN_NODE.format(before=COMFYUI)
        arguments = [str(pack), scratch, name, json.dumps(OTHERS[name])]
        run = subprocess.run(
            [str(comfy.python), "-c", script, *arguments], cwd=comfy.path, capture_output=True, text=True
        )
        result = Path(scratch) / "result"
        if not result.exists():
            print(f"{name} of {pack.name} did not run: {run.stderr[-400:]}", flush=True)
            return None
        return Spread.of(json.loads(result.read_text("utf-8")))


def add_growths(report: Report, mask: torch.Tensor, rounds: int) -> None:
    few = draw_specks(1296, 1024)
    report.add_growth("specks and pixels", without_collection(find, few), without_collection(find, mask), rounds=rounds)
    # Time only: objects this small take no more memory than the interpreter's own noise.
    sides = (95, 300)
    times = compare({str(each): without_collection(make_batches, each) for each in sides}, rounds)
    small, large = (times[str(each)].median / each**2 for each in sides)
    report.add(Figure("growth of time to growth of overlapping regions", large / small, "x", at_most=MAX_GROWTH))


def add_comparisons(report: Report, rounds: int) -> None:
    comfy = find_comfyui()
    mask = draw_specks(SMALL, FEW)
    for pack in [Path(name).absolute() for name in os.environ.get("PACKS", "").split(os.pathsep) if name]:
        for name in OTHERS:
            if not comfy.usable or not any(name in file.read_text("utf-8") for file in pack.glob("__init__.py")):
                continue
            earlier = time_other_node(pack, name, comfy)
            now = compare({"now": lambda: MaskInstances().split_masks(mask)}, rounds)["now"]
            if earlier:
                what = f"{FEW} masks of a mask of {SMALL} x {SMALL}, beside {name}"
                report.add(Timing(what, now, earlier=earlier, at_least=1))


def main(quick: bool) -> None:
    report = Report("MaskInstances", ABOUT.format(which="where PACKS names them"))
    side, specks, rounds = (512, 100, 2) if quick else (SIDE, SPECKS, 5)
    mask = draw_specks(side, specks)
    assert find(mask) == specks
    time = compare({"now": lambda: find(mask)}, rounds)["now"]
    what = f"{specks:,} specks of a mask of {side} x {side}, found and sorted"
    report.add(Timing(what, time, peak=peak_memory(lambda: find(mask))))
    report.add(Figure(f"{what}: time", time.median, " s", at_most=MAX_SECONDS))
    memory = peak_memory(lambda: find(mask))
    if memory is not None:
        report.add(Figure(f"{what}: memory", memory / 1e6, " MB", at_most=MAX_MEGABYTES))
    batching = compare({"now": lambda: make_batches(30)}, rounds)["now"]
    report.add(Figure("900 overlapping regions, batched: time", batching.median, " s", at_most=MAX_BATCHING))
    if not quick:
        add_growths(report, mask, rounds)
    add_comparisons(report, rounds)


if __name__ == "__main__":
    main("--quick" in sys.argv)
