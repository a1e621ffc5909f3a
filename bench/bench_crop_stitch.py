"""RegionCrop and RegionStitch with nothing in between, in a real ComfyUI, compared with other packs' nodes.

``CROP_AND_STITCH_PATH``, ``KJNODES_PATH`` and ``IMPACT_PACK_PATH`` name the folders of the other packs.

    python3 tools/dev.py bench crop_stitch [--quick]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import _measuring  # makes the tools importable
import comfyui
from rows import Figure, Report, Timing

OWN, CORE, OTHER = "Maskwright", "ComfyUI", "CropAndStitch"
PATHS = {"CropAndStitch": "CROP_AND_STITCH_PATH", "KJNodes": "KJNODES_PATH", "Impact": "IMPACT_PACK_PATH"}
AT_LEAST = 10  # times as fast as CropAndStitch
MAX_TIMES_CORE = 1.5
MAX_TIMES_ONE = 3  # 16 regions to 1 region

ABOUT = """In {version}, without samplers between. The earlier nodes: {earlier}. The floor:
ComfyUI's own crop and composite of the region's box, which neither finds regions, nor blends, nor can resize."""
NOTE = f"""The goal is at most {MAX_TIMES_CORE} times ComfyUI's own nodes. This pack also finds the regions, checks
images and crops for NaN, blends with a soft seam, and returns a mask of what changed."""

ONE = {"count": 1, "side": 4096, "radius": 128, "regions": 1, "one_mask_each": False}
CASES = {
    "1 region of 4096 x 4096": ONE,
    "16 regions of 4096 x 4096": {**ONE, "regions": 16},
    "16 masks for one image of 4096 x 4096": {**ONE, "regions": 16, "one_mask_each": True},
    "32 images of 1024 x 1024, a region each": {**ONE, "count": 32, "side": 1024},
}
SMALL = {"side": 256, "radius": 16}  # for --quick


def main(quick: bool) -> None:
    folders = {name: os.environ.get(variable, "") for name, variable in PATHS.items()}
    packs = [Path(__file__).parent / "crop_stitch_nodes", *(Path(each) for each in folders.values() if each)]
    installed = comfyui.find_comfyui()
    earlier = "ComfyUI-Inpaint-CropAndStitch at its defaults, but without resizing for single images"
    earlier = earlier if folders["CropAndStitch"] else "not installed"
    report = Report(
        "RegionCrop and RegionStitch", ABOUT.format(version=f"ComfyUI {installed.version}", earlier=earlier)
    )
    with comfyui.Server(installed, packs=packs, cpu=True, time_limit=600) as server:
        known = server.object_info()
        names = [OWN, CORE, *((OTHER, f"{OTHER} (compatible)") if "InpaintCropImproved" in known else ())]
        names += [name for name, node in (("KJNodes", "ImageUncropByMask"), ("Impact", "SEGSPaste")) if node in known]
        results = {}
        for what, case in CASES.items():
            case = {**case, **SMALL} if quick else case
            alternatives = [name for name in names if name != CORE or what == next(iter(CASES))]
            results[what] = measure(server, case, alternatives, 2 if quick else 7)
            add_rows(report, what, results[what])
    one, many = (_measuring.Spread(**results[what][OWN]["spread"]).median for what in list(CASES)[:2])
    report.add(Figure("time of 16 regions to 1 region", many / one, "x", at_most=MAX_TIMES_ONE))


def measure(server: comfyui.Server, case: dict, names: list[str], rounds: int) -> dict:
    """The results of ``BenchCropStitch``, by alternative."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        inputs = {"case": json.dumps(case), "names": json.dumps(names), "out": str(out), "rounds": rounds}
        server.queue({"1": {"class_type": "BenchCropStitch", "inputs": inputs}})
        return json.loads(out.read_text(encoding="utf-8"))


def add_rows(report: Report, what: str, results: dict) -> None:
    """A row for this pack beside CropAndStitch and ComfyUI, and figures for the others."""
    spreads = {name: _measuring.Spread(**each["spread"]) for name, each in results.items() if "spread" in each}
    earlier, core = OTHER if OTHER in spreads else None, spreads.get(CORE)
    report.add(
        Timing(
            what,
            spreads[OWN],
            earlier=spreads[earlier] if earlier else None,
            floor=core.median if core else None,
            peak=results[OWN]["peak"],
            earlier_peak=results[earlier]["peak"] if earlier else None,
            at_least=AT_LEAST if earlier else None,
            note=NOTE,
            headline=True,
        )
    )
    report.add(Figure(f"{what}: largest change of a pixel, in 255ths", results[OWN]["error"], at_most=0))
    for name, each in results.items():
        if name == OWN:
            continue
        if "failed" in each:
            report.add(Figure(f"{what}: {name} failed ({each['failed']})", 1))
            continue
        ratio = spreads[name].median / spreads[OWN].median
        memory = f"{each['peak'] / 1e6:.0f} MB, " if each["peak"] else ""
        change = f"{each['error']:.3g} / 255 changed" if "error" in each else f"returns {each.get('shape')}"
        report.add(Figure(f"{what}: time of {name} to this pack's ({memory}{change})", ratio, "x"))


if __name__ == "__main__":
    main("--quick" in sys.argv)
