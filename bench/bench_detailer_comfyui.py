"""MaskDetailerPipe in a real ComfyUI, beside the node it replaces where that pack is installed there.

On a GPU the UNet and the VAE are as large as those of Stable Diffusion 1.5, on the CPU the UNet is a small one of the
same make and the VAE next to nothing; all with random weights. Own time is the total less what ComfyUI's samplers and
VAE take. ``IMPACT_PACK_PATH`` names the other pack's folder where it lies elsewhere.

    python3 tools/dev.py bench detailer_comfyui [--quick]
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path
from typing import Any

import _side_by_side  # noqa: F401 - puts the tools where they are found
import comfyui
from pack import ROOT

sys.path.insert(0, str(ROOT / "tests"))

from detailer_prompts import Detailer, picture, squares

FIXTURES = ROOT / "tests" / "host" / "fixture_nodes"


def impact_pack(found: comfyui.ComfyUI) -> Path | None:
    named = os.environ.get("IMPACT_PACK_PATH")
    packs = found.path / "custom_nodes"
    places = ([Path(named)] if named else []) + (sorted(packs.iterdir()) if packs.is_dir() else [])
    return next((place for place in places if (place / "modules" / "impact" / "impact_pack.py").is_file()), None)


def on_cuda(server: comfyui.Server) -> bool:
    return server._get("/system_stats", timeout=60)["devices"][0]["type"] == "cuda"


def median(runs: list[dict]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main(arguments: list[str]) -> int:
    quick = "--quick" in arguments
    found = comfyui.find_comfyui()
    if not found.usable:
        print(f"skipped: {found.why}")
        return 0
    pack = impact_pack(found)
    with comfyui.Server(found, packs=[FIXTURES, *([pack] if pack else [])]) as server:
        detailer, cuda = Detailer(server), on_cuda(server)
        model = {"channels": 4, "spread": 0.1, "unet": 0.05, "shape": "real" if cuda else "tiny"}
        vae = {"kind": "real" if cuda else "means"}
        options: dict[str, Any] = {"model": model, "vae": vae, "width": 768 if cuda else 16, "cfg": 5.0}
        options |= {"steps": 4 if quick else 20, "crop_factor": 2.0, "guide_size": 256 if cuda else 64}
        image = picture(640, 1280)
        ways = {f"now, {n} at once": {"whose": "Maskwright", "region_batch": n} for n in (1, 4, 8)}
        if pack:
            ways = {"earlier": {"whose": "Impact"}} | ways
        rounds = 1 if quick else 3
        print(f"MaskDetailerPipe in {found.version}, {'CUDA' if cuda else 'CPU'}, {options['steps']} steps; ", end="")
        print("the earlier node beside it" if pack else "the earlier node is not installed")
        print(f"{'regions':>8}{'way':>18}{'total, s':>10}{'sampler':>10}{'VAE':>8}{'own':>8}{'own share':>11}{'MB':>8}")
        for corners in ([(64, 64)], [(64 + 320 * (i % 4), 64 + 320 * (i // 4)) for i in range(8)]):
            mask = squares(image, *corners, side=128 if cuda else 64)
            chosen = {name: way for name, way in ways.items() if len(corners) > 1 or way.get("region_batch", 1) == 1}
            times: dict[str, list[dict]] = {name: [] for name in chosen}
            for turn in range(rounds + 1):
                for name, way in chosen.items():
                    told = detailer(image, mask, **options, **way).times[0]
                    if turn or quick:
                        times[name].append(told)
            for name, runs in times.items():
                run = median(runs)
                own = run["total"] - run["sampling"] - run["vae"]
                row = f"{len(corners):>8}{name:>18}{run['total']:>10.2f}{run['sampling']:>10.2f}{run['vae']:>8.2f}"
                print(f"{row}{own:>8.3f}{own / run['total']:>11.1%}{run['peak']:>8.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
