"""MaskDetailerPipe in a real ComfyUI, and the node it replaces where that pack is installed.

All weights are random. On CUDA the models have the size of Stable Diffusion 1.5 and SDXL; on the CPU the UNet is a
small one of the same make, and the VAE next to nothing. ``IMPACT_PACK_PATH`` names the other pack's folder.

    python3 tools/dev.py bench detailer_comfyui [--quick]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import _measuring  # makes the tools and the tests importable
import comfyui
import torch
from detailer_prompts import Detailer, impact_pack
from pack import ROOT
from rows import MAX_GROWTH, Figure, Report, Timing

FIXTURES = ROOT / "tests" / "host" / "fixture_nodes"

ABOUT = """In {version}, with models of random weights: on CUDA of the size of Stable Diffusion 1.5 (regions sampled at
512 x 512) and SDXL (1024 x 1024), with their VAE; on the CPU a small UNet (128 x 128) and next to no VAE. Mixed regions
have four sizes. The earlier way: {earlier}. The floor: the time of ComfyUI's sampler and VAE in this pack's run, so
that the rest is the node's own work. {steps} steps where no other number is given."""
NOTE = """Nearly all of the time is ComfyUI's sampler and VAE, in both nodes; one region at a time, their speed differs
between the runs by more than the node's own work takes."""

STEPS, FEW_STEPS = 20, 4
BATCHES = {1: (1,), 2: (1, 4), 8: (1, 4, 8), 32: (1, 4, 8)}  # regions -> values of region_batch
MAX_OWN_SHARE = {"cpu": 10, "cuda": 5}  # percent of the time outside sampler and VAE
TARGETS = {"cpu": 1, "cuda": 2}  # times as fast as the earlier node, with regions of one size together
IMAGE = 1152, 2304  # height and width
DISTANCE = 288  # pixels from one region to the next: four rows of eight
ONE_SIZE, MIXED = [(1, 1)], [(1, 1), (0.75, 1), (1, 0.75), (0.5, 1)]  # parts of the largest region's side


@dataclass(frozen=True)
class Setup:
    """A model, where it runs, the side of a region, the side that it is enlarged to, and the fixture's options."""

    name: str
    device: str
    side: int
    guide_size: int
    model: Mapping[str, Any]
    vae: str
    text: Mapping[str, int] = field(default_factory=dict)

    def options(self, steps: int) -> dict[str, Any]:
        model = {"channels": 4, "spread": 0.1, "unet": 0.05, **self.model}
        widgets = {"guide_size": self.guide_size, "crop_factor": 2.0, "feather": 5, "noise_mask_feather": 20}
        return {"model": model, "vae": {"kind": self.vae}, "steps": steps, "cfg": 5.0, **widgets}


SETUPS = (
    Setup("Small UNet", "cpu", 32, 64, {"shape": "tiny"}, "means"),
    Setup("SD 1.5", "cuda", 128, 256, {"shape": "sd15"}, "real", {"tokens": 77, "width": 768}),
    Setup("SDXL", "cuda", 128, 512, {"shape": "sdxl"}, "real", {"tokens": 77, "width": 2048, "pooled": 1280}),
)


class Runner(Detailer):
    """Runs the node alone: the model, the VAE and the texts are cached for all runs."""

    def __init__(self, server: comfyui.Server, setup: Setup) -> None:
        super().__init__(server)
        self.setup = setup

    def prompt(self, *args: Any, memory: bool = False, **options: Any) -> tuple[dict, str]:
        prompt, name = super().prompt(*args, **options)
        for node in ("made", "model", "vae"):
            prompt[node]["inputs"]["tag"] = 0
        for text in ("positive", "negative"):
            prompt[text]["inputs"] |= self.setup.text
        prompt["detail"]["inputs"]["memory"] = memory
        del prompt["save"]["inputs"]["model"]  # and with it the list of all its calls
        return prompt, name


class Result:
    """All runs of one case: seconds in all, seconds in sampler and VAE, peak memory and the image."""

    def __init__(self) -> None:
        self.total: list[float] = []
        self.inside: list[float] = []
        self.peak: float | None = None
        self.image: torch.Tensor | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.total)

    @property
    def own(self) -> float:
        """Seconds outside sampler and VAE."""
        return statistics.median(total - inside for total, inside in zip(self.total, self.inside, strict=True))


def run_cases(runner: Runner, mask_options: Mapping[str, tuple], rounds: int, steps: int) -> dict[str, Result]:
    """Run each case (image, mask, options) in turns. The first round measures memory; its time does not count."""
    results = {name: Result() for name in mask_options}
    image, mask, options = next(iter(mask_options.values()))
    runner(image, mask, **runner.setup.options(steps), **options)  # loads the weights
    start = time.perf_counter()
    for number in range(rounds + 1):
        for name, (image, mask, options) in mask_options.items():
            done = runner(image, mask, memory=number == 0, **runner.setup.options(steps), **options)
            if number == 0:
                results[name].peak, results[name].image = done.times[0]["peak"], done.image
            else:
                results[name].total.append(done.times[0]["total"])
                results[name].inside.append(done.times[0]["sampling"] + done.times[0]["vae"])
        if number > 1 and time.perf_counter() - start > _measuring.MAX_SECONDS:
            break
    return results


def draw_image(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(0))


def draw_mask(image: torch.Tensor, count: int, side: int, sizes: list[tuple[float, float]] = ONE_SIZE) -> torch.Tensor:
    """A mask ``[1,H,W]`` of regions so far apart that no crop contains another region."""
    mask = torch.zeros(1, *image.shape[1:3])
    for number in range(count):
        width, height = (int(part * side) for part in sizes[number % len(sizes)])
        x, y = (DISTANCE // 4 + place * DISTANCE for place in (number % 8, number // 8))
        mask[:, y : y + height, x : x + width] = 1
    return mask


def add_comparison(report: Report, runner: Runner, count: int, mixed: bool, earlier: bool, quick: bool) -> None:
    setup, image = runner.setup, draw_image(*IMAGE)
    steps = 2 if quick else STEPS if count in (1, 8) and not mixed else FEW_STEPS
    mask = draw_mask(image, count, setup.side, MIXED if mixed else ONE_SIZE)
    options = {"earlier": {"whose": "Impact"}} if earlier else {}
    options |= {str(n): {"whose": "Maskwright", "region_batch": n} for n in BATCHES[count]}
    cases = {name: (image, mask, each) for name, each in options.items()}
    results = run_cases(runner, cases, 1 if quick else {1: 15, 32: 2}.get(count, 5), steps)
    before = results.get("earlier")
    what = f"{setup.name}, {count} {'mixed ' * mixed}region{'s' * (count > 1)}"
    what += f", {steps} steps" * (steps != STEPS)
    for batch in BATCHES[count]:
        now, name = results[str(batch)], f"{what}, {batch} at once" if count > 1 else what
        goal = 1 if count == 1 else TARGETS[setup.device] if count == 8 and not mixed and batch > 1 else None
        report.add(
            Timing(
                name,
                _measuring.Spread.of(now.total),
                setup.device,
                _measuring.Spread.of(before.total) if before else None,
                statistics.median(now.inside),
                now.peak,
                before.peak if before else None,
                at_least=goal,
                note=NOTE,
                headline=count == 1 or (count == 8 and not mixed and batch == 4),
            )
        )
        if count == 8:
            share = f"{name}: outside sampler and VAE"
            limit = MAX_OWN_SHARE[setup.device]
            report.add(Figure(share, 100 * now.own / now.median, " %", setup.device, limit, NOTE))
            if batch > 1:
                difference = 255 * (now.image - results["1"].image).abs().max().item()
                report.add(Figure(f"{name}: largest difference to 1 at once", difference, "/255", setup.device))


def add_growth(report: Report, runner: Runner, quick: bool) -> None:
    """Ten times the regions, one at a time, and ten times the image around one region."""
    setup, options = runner.setup, {"whose": "Maskwright", "region_batch": 1}
    large, small = draw_image(*IMAGE), draw_image(*(int(length / 10**0.5) for length in IMAGE))
    cases = {"one": (large, 1), "ten": (large, 10), "small": (small, 1)}
    masks = {name: (image, draw_mask(image, count, setup.side), options) for name, (image, count) in cases.items()}
    results = run_cases(runner, masks, 1 if quick else 9, 2 if quick else FEW_STEPS)
    one, ten, in_small = (results[name] for name in cases)
    rows = {
        "growth of time to growth of regions, 1 and 10": ten.median / one.median,
        "growth of own time to growth of the image's pixels": one.own / in_small.own,
    }
    if one.peak and ten.peak and in_small.peak:
        rows["growth of memory to growth of regions, 1 and 10"] = ten.peak / one.peak
        rows["growth of memory to growth of the image's pixels"] = one.peak / in_small.peak
    for what, growth in rows.items():
        report.add(Figure(f"{setup.name}, {what}", growth / 10, "x", setup.device, MAX_GROWTH))


def start_servers(found: comfyui.ComfyUI, packs: list) -> Iterator[tuple[str, comfyui.Server]]:
    """A running server for each device."""
    with comfyui.Server(found, packs=packs) as server:
        on_cuda = server.get("/system_stats")["devices"][0]["type"] == "cuda"
        yield "cuda" if on_cuda else "cpu", server
    if on_cuda:
        with comfyui.Server(found, packs=packs, cpu=True) as server:
            yield "cpu", server


def main(quick: bool) -> None:
    found = comfyui.find_comfyui()
    if not found.usable:
        print(f"skipped: {found.why}")
        return
    pack = impact_pack(found)
    earlier = "the Impact Pack's node, in turns with this one" if pack else "not installed where this was measured"
    report = Report("MaskDetailerPipe", ABOUT.format(version=f"ComfyUI {found.version}", earlier=earlier, steps=STEPS))
    for device, server in start_servers(found, [FIXTURES, *([pack] if pack else [])]):
        for setup in SETUPS:
            if setup.device == device:
                runner = Runner(server, setup)
                for count in (1, 8) if quick else BATCHES:
                    add_comparison(report, runner, count, False, bool(pack), quick)
                if not quick:
                    add_comparison(report, runner, 8, True, bool(pack), quick)
                add_growth(report, runner, quick)


if __name__ == "__main__":
    main("--quick" in sys.argv)
