"""MaskDetailerPipe in a real ComfyUI, beside the node it replaces where that pack is installed there.

On CUDA the models are as large as Stable Diffusion 1.5 and SDXL, on the CPU the UNet is a small one of the same make
and the VAE next to nothing; all with random weights. ``IMPACT_PACK_PATH`` names the other pack's folder where it lies
elsewhere.

    python3 tools/dev.py bench detailer_comfyui [--quick]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import _measuring  # puts the tools and the tests where they are found
import comfyui
import torch
from _rows import NO_FASTER, Figure, Report, Timing, shown_bytes, shown_seconds
from detailer_prompts import Detailer, impact_pack
from pack import ROOT

FIXTURES = ROOT / "tests" / "host" / "fixture_nodes"

ABOUT = """In {version}, models with random weights: on CUDA as large as Stable Diffusion 1.5 (regions sampled at 512 x
512) and SDXL (1024 x 1024), with their VAE; on the CPU a small UNet (128 x 128) and next to no VAE. Mixed regions have
four sizes, the others one. The earlier way: {earlier}. The floor: what ComfyUI's sampler and VAE take of this pack's
time, so that the rest is the node's own work. {steps} steps where no other number is told."""

STEPS, FEW_STEPS = 20, 4  # the first where there is a target
# How many are sampled together at most, for each number of regions.
TOGETHER = {1: (1,), 2: (1, 4), 8: (1, 4, 8), 32: (1, 4, 8)}
SHARE_AT_MOST = {"cpu": 10, "cuda": 5}  # percent of the time, outside sampler and VAE
# How many times as fast as the earlier node, with regions of one size together.
AT_LEAST = {"cpu": 1, "cuda": 2}
PICTURE = 1152, 2304  # height and width
APART = 288  # pixels from one region to the next: four rows of eight
# Of a region, as parts of the largest one's side.
ONE_SIZE, MIXED_SIZES = [(1, 1)], [(1, 1), (0.75, 1), (1, 0.75), (0.5, 1)]


@dataclass(frozen=True)
class Setup:
    """A model and what it is to work on.

    Attributes:
        name: What the rows call it.
        device: Where it runs.
        side: Of the largest region, pixels.
        guide_size: That the region is enlarged to; with its surroundings it is sampled at twice that.
        model, vae, text: Of the fixture's nodes.
    """

    name: str
    device: str
    side: int
    guide_size: int
    model: Mapping[str, Any]
    vae: str
    text: Mapping[str, int] = field(default_factory=dict)

    def options(self, steps: int) -> dict[str, Any]:
        """Of the node, as its widgets begin, but for the sizes."""
        model = {"channels": 4, "spread": 0.1, "unet": 0.05, **self.model}
        sizes = {"guide_size": self.guide_size, "crop_factor": 2.0}
        blurs = {"feather": 5, "noise_mask_feather": 20}
        return {"model": model, "vae": {"kind": self.vae}, "steps": steps, "cfg": 5.0, **sizes, **blurs}


SETUPS = (
    Setup("Small UNet", "cpu", 32, 64, {"shape": "tiny"}, "means"),
    Setup("SD 1.5", "cuda", 128, 256, {"shape": "sd15"}, "real", {"tokens": 77, "width": 768}),
    Setup("SDXL", "cuda", 128, 512, {"shape": "sdxl"}, "real", {"tokens": 77, "width": 2048, "pooled": 1280}),
)


class Runner(Detailer):
    """Runs the node alone: the model, the VAE and the texts are made once for all runs."""

    def __init__(self, server: comfyui.Server, setup: Setup) -> None:
        super().__init__(server)
        self.setup = setup

    def prompt(self, *given: Any, memory: bool = False, **options: Any) -> tuple[dict, str]:
        prompt, name = super().prompt(*given, **options)
        for made in ("made", "model", "vae"):
            prompt[made]["inputs"]["tag"] = 0
        for text in ("positive", "negative"):
            prompt[text]["inputs"] |= self.setup.text
        prompt["detail"]["inputs"]["memory"] = memory
        del prompt["save"]["inputs"]["model"]  # and with it the list of all its calls
        return prompt, name


@dataclass
class Told:
    """Of all runs of one way: seconds, bytes at most, and the picture."""

    total: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    peak: float | None = None
    image: torch.Tensor | None = None

    @property
    def spread(self) -> _measuring.Spread:
        return _measuring.Spread.of(self.total)

    @property
    def sampler_and_vae(self) -> float:
        return statistics.median(self.inside)

    @property
    def own(self) -> float:
        return statistics.median(total - inside for total, inside in zip(self.total, self.inside))

    @property
    def share(self) -> float:
        """Of the time outside sampler and VAE."""
        return statistics.median(1 - inside / total for total, inside in zip(self.total, self.inside))


def run(
    runner: Runner, cases: Mapping[str, tuple[torch.Tensor, torch.Tensor, dict]], rounds: int, steps: int
) -> dict[str, Told]:
    """Picture, mask and options of each way, in turns. The first round is for the memory; its time does not count."""
    told = {name: Told() for name in cases}
    image, mask, options = next(iter(cases.values()))
    runner(image, mask, **runner.setup.options(steps), **options)  # brings the weights to where they are used
    start = time.perf_counter()
    for number in range(rounds + 1):
        for name, (image, mask, options) in cases.items():
            done = runner(image, mask, memory=number == 0, **runner.setup.options(steps), **options)
            times = done.times[0]
            if number == 0:
                told[name].peak, told[name].image = times["peak"], done.image
            else:
                told[name].total.append(times["total"])
                told[name].inside.append(times["sampling"] + times["vae"])
        if number > 1 and time.perf_counter() - start > _measuring.MOST_SECONDS:
            break
    return told


def picture(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(0))


def rectangles(image: torch.Tensor, count: int, side: int, sizes: list[tuple[float, float]] = ONE_SIZE) -> torch.Tensor:
    """A mask ``[1,H,W]`` of regions that lie so far apart that no crop sees another one."""
    mask = torch.zeros(1, *image.shape[1:3])
    for i in range(count):
        width, height = (int(part * side) for part in sizes[i % len(sizes)])
        x, y = (APART // 4 + place * APART for place in (i % 8, i // 8))
        mask[:, y : y + height, x : x + width] = 1
    return mask


def add_comparisons(report: Report, runner: Runner, earlier: bool, quick: bool) -> None:
    setup = runner.setup
    image = picture(*PICTURE)
    for count in (1, 8) if quick else TOGETHER:
        for sizes in (ONE_SIZE, MIXED_SIZES) if count > 1 and not quick else (ONE_SIZE,):
            steps = 2 if quick else STEPS if count in (1, 8) and sizes is ONE_SIZE else FEW_STEPS
            mask = rectangles(image, count, setup.side, sizes)
            ways = {"earlier": {"whose": "Impact"}} if earlier else {}
            ways |= {str(n): {"whose": "Maskwright", "region_batch": n} for n in TOGETHER[count]}
            cases = {name: (image, mask, options) for name, options in ways.items()}
            told = run(runner, cases, 1 if quick else {1: 15, 32: 2}.get(count, 5), steps)
            mixed = "mixed " if sizes is MIXED_SIZES else ""
            what = f"{setup.name}, {count} {mixed}region{'s' if count > 1 else ''}"
            if steps != STEPS:
                what += f", {steps} steps"
            add_rows(report, setup, what, count, sizes is ONE_SIZE, told)


def add_rows(report: Report, setup: Setup, what: str, count: int, one_size: bool, told: dict[str, Told]) -> None:
    earlier = told.get("earlier")
    for together in TOGETHER[count]:
        now = told[str(together)]
        target = 1 if count == 1 else AT_LEAST[setup.device] if count == 8 and one_size and together > 1 else None
        named = what if count == 1 else f"{what}, {together} at once"
        report.add(
            Timing(
                named,
                now.spread,
                device=setup.device,
                earlier=earlier.spread if earlier else None,
                floor=now.sampler_and_vae,
                peak=now.peak,
                earlier_peak=earlier.peak if earlier else None,
                at_least=target,
                note=reason(now, earlier),
                headline=count == 1 or (count == 8 and one_size and together == 4),
            )
        )
        if count == 8:
            share, most = f"{named}: outside sampler and VAE", SHARE_AT_MOST[setup.device]
            report.add(Figure(share, 100 * now.share, " %", setup.device, most, reason(now, earlier)))
        if count == 8 and together > 1:
            difference = 255 * (now.image - told["1"].image).abs().max().item()
            report.add(Figure(f"{named}: differs from 1 at once", difference, " of 255", setup.device))
    if earlier and earlier.peak and count == 8 and one_size:
        ratio = told["1"].peak / earlier.peak
        note = f"The picture alone has {shown_bytes(now.image.nbytes)}, and both nodes make a copy of it."
        report.add(Figure(f"{what}, 1 at once: memory to the earlier node's", ratio, "x", setup.device, 1, note))


def reason(now: Told, earlier: Told | None) -> str:
    """What the time goes to, for whoever asks why it is not less."""
    text = f"Of {shown_seconds(now.spread.median)} the node's own work takes {shown_seconds(now.own)}"
    if earlier is None:
        return f"{text}."
    faster = earlier.sampler_and_vae / now.sampler_and_vae
    return (
        f"{text} (in the earlier node {shown_seconds(earlier.own)}); all else is ComfyUI's sampler and VAE, which take "
        f"{shown_seconds(now.sampler_and_vae)} ({shown_seconds(earlier.sampler_and_vae)} in the earlier node, "
        f"{faster:.2f} times as long)."
    )


def add_growth(report: Report, runner: Runner, quick: bool) -> None:
    """One region at a time: ten times the regions, and ten times the picture around a region."""
    setup, steps = runner.setup, 2 if quick else FEW_STEPS
    options = {"whose": "Maskwright", "region_batch": 1}
    large, small = picture(*PICTURE), picture(*(int(length / 10**0.5) for length in PICTURE))
    cases = {
        "one": (large, rectangles(large, 1, setup.side), options),
        "ten": (large, rectangles(large, 10, setup.side), options),
        "small": (small, rectangles(small, 1, setup.side), options),
    }
    told = run(runner, cases, 1 if quick else 9, steps)
    one, ten, in_small = (told[name] for name in cases)
    rows = {
        "growth of time to growth of regions, 1 and 10": ten.spread.median / one.spread.median,
        "growth of own time to growth of the picture's pixels": one.own / in_small.own,
    }
    if one.peak and ten.peak and in_small.peak:
        rows["growth of memory to growth of regions, 1 and 10"] = ten.peak / one.peak
        rows["growth of memory to growth of the picture's pixels"] = one.peak / in_small.peak
    note = (
        f"One region takes {shown_seconds(one.spread.median)}, ten {shown_seconds(ten.spread.median)}. The node's own "
        f"time is {shown_seconds(one.own)}, with a tenth of the picture {shown_seconds(in_small.own)}: one copy of the "
        "picture, a look for values out of range, and the search for regions; memory that is new to the process takes "
        "longest, and a small picture finds memory that was used before."
    )
    for what, growth in rows.items():
        report.add(Figure(f"{setup.name}, {what}", growth / 10, "x", setup.device, NO_FASTER, note))


def servers(found: comfyui.ComfyUI, packs: list) -> Iterator[tuple[str, comfyui.Server]]:
    """A running server for each device there is."""
    with comfyui.Server(found, packs=packs) as server:
        device = "cuda" if server._get("/system_stats", timeout=60)["devices"][0]["type"] == "cuda" else "cpu"
        yield device, server
    if device == "cuda":
        with comfyui.Server(found, packs=packs, cpu=True) as server:
            yield "cpu", server


def main(quick: bool) -> None:
    found = comfyui.find_comfyui()
    if not found.usable:
        print(f"skipped: {found.why}")
        return
    pack = impact_pack(found)
    earlier = "the Impact Pack's node, in turns with this one" if pack else "not installed where this was measured"
    version = f"ComfyUI {found.version}"
    report = Report("MaskDetailerPipe", ABOUT.format(version=version, earlier=earlier, steps=STEPS))
    for device, server in servers(found, [FIXTURES, *([pack] if pack else [])]):
        for setup in SETUPS:
            if setup.device == device:
                runner = Runner(server, setup)
                add_comparisons(report, runner, bool(pack), quick)
                add_growth(report, runner, quick)


if __name__ == "__main__":
    main("--quick" in sys.argv)
