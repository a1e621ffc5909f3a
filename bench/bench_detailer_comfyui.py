"""MaskDetailerPipe in a real ComfyUI, and the node it replaces if that pack is installed.

All weights are random. On CUDA the models have the size of Stable Diffusion 1.5 and SDXL; on the CPU the UNet is small,
with the same architecture, and the VAE is trivial. ``IMPACT_PACK_PATH`` names the other pack's folder.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import _measuring  # makes the tools and the tests importable
import comfyui
import hosted
import torch
from detailer_prompts import Detailer, impact_pack
from pack import ROOT
from rows import MAX_GROWTH, Cell, Figure, Report, Row, Spread
from workflow.engine_interface import NodeFailed, WorkflowError

NOTE = """In both nodes, nearly all of the time is ComfyUI's sampler and VAE. One region at a time, their speed varies
between runs by more than the node's own work takes."""

OTHER = "Impact Pack"
STEPS, FEW_STEPS = 20, 4
MAX_SECONDS = 12.0  # for all rounds of a case; at least one runs
BATCHES = {1: (1,), 8: (1, 4, 8), 32: (1, 4, 8)}  # regions -> values of region_batch
MAX_TIMES_FLOOR = {"cpu": 1 / (1 - 0.1), "cuda": 1 / (1 - 0.05)}  # own shares of 10 % and 5 %
ANY_TIMES_FLOOR = 100.0  # no limit
GOALS = {"cpu": 1, "cuda": 2}  # times as fast as the other node, with regions of one size batched
IMAGE, SMALL_IMAGE = (1152, 2304), (364, 728)  # height and width; a tenth of the pixels
DISTANCE = 288  # pixels from one region to the next: four rows of eight
ONE_SIZE, MIXED = [(1, 1)], [(1, 1), (0.75, 1), (1, 0.75), (0.5, 1)]  # parts of the largest region's side
# name, device, side of a region and its upscaled side, and the fixture's options for model, VAE and text
SETUPS = (
    ("Small UNet", "cpu", 32, 64, "tiny", "means", {}),
    ("SD 1.5", "cuda", 128, 256, "sd15", "real", {"tokens": 77, "width": 768}),
    ("SDXL", "cuda", 128, 512, "sdxl", "real", {"tokens": 77, "width": 2048, "pooled": 1280}),
)


class Bench(Detailer):
    """Runs only the node: the model, the VAE and the texts are cached across runs."""

    def __init__(self, server: comfyui.Server, report: Report, setup: tuple, quick: bool) -> None:
        super().__init__(server)
        self.report, self.quick, self.rounds, self.impact = report, quick, 1 if quick else 9, False
        self.name, self.device, self.side, guide_size, shape, vae, self.text = setup
        model = {"channels": 4, "spread": 0.1, "unet": 0.05, "shape": shape}
        widgets = {"guide_size": guide_size, "crop_factor": 2.0, "feather": 5, "noise_mask_feather": 20, "cfg": 5.0}
        self.options = {"whose": "Maskwright", "model": model, "vae": {"kind": vae}, **widgets}

    def prompt(self, *args: Any, memory: bool = False, control: bool = False, **options: Any) -> tuple[dict, str]:
        prompt, name = super().prompt(*args, **{**self.options, **options})
        if control:
            inputs = {"positive": ["positive", 0], "negative": ["negative", 0], "image": ["image", 0]}
            prompt["control"] = {"class_type": "FixtureControlNet", "inputs": inputs}
            prompt["pipe"]["inputs"] |= {"positive": ["control", 0], "negative": ["control", 1]}
        for node in ("made", "model", "vae"):
            prompt[node]["inputs"]["tag"] = 0
        for text in ("positive", "negative"):
            prompt[text]["inputs"] |= self.text
        prompt["detail"]["inputs"]["memory"] = memory
        del prompt["save"]["inputs"]["model"]  # which has the list of all its calls
        return prompt, name

    def run(self, cases: dict[str, Callable], steps: int) -> tuple[dict[str, Row], dict[str, torch.Tensor]]:
        """Run the cases in turns. The first round measures memory; its time does not count.

        Returns: for each case its row, with the seconds in sampler and VAE as the floor, and its image.
        """
        steps = 2 if self.quick else steps
        next(iter(cases.values()))(steps=steps)  # loads the weights
        first = {name: case(memory=True, steps=steps) for name, case in cases.items()}
        times: dict[str, list[dict]] = {name: [] for name in cases}
        start = time.perf_counter()
        while len(times[next(iter(cases))]) < self.rounds and time.perf_counter() - start < MAX_SECONDS:
            for name, case in cases.items():
                times[name] += case(steps=steps).times
        rows = {}
        for name, runs in times.items():
            cell = Cell(Spread.of([each["total"] for each in runs]), first[name].times[0]["peak"])
            inside = statistics.median(each["sampling"] + each["vae"] for each in runs)
            more = {"max_times_floor": ANY_TIMES_FLOOR, "device": self.device, "note": NOTE}
            rows[name] = Row(f"{self.name}, {name}", cell, floor=inside, **more)
        return rows, {name: result.image for name, result in first.items()}

    def draw(self, count: int, size: tuple[int, int] = IMAGE, parts: list = ONE_SIZE) -> tuple:
        """Draw an image, and a mask of regions so far apart that no crop contains another region."""
        image = torch.rand(1, *size, 3, generator=torch.Generator().manual_seed(0))
        mask = torch.zeros(1, *size)
        for number in range(count):
            width, height = (int(part * self.side) for part in parts[number % len(parts)])
            x, y = (DISTANCE // 4 + place * DISTANCE for place in (number % 8, number // 8))
            mask[:, y : y + height, x : x + width] = 1
        return image, mask

    def add_rows(self, count: int, mixed: bool = False) -> None:
        """A number of regions, in batches of several sizes."""
        steps = STEPS if count in (1, 8) and not mixed else FEW_STEPS
        what = f"{count} {'mixed ' * mixed}region{'s' * (count > 1)}" + f", {steps} steps" * (steps != STEPS)
        batches = {what + f", {batch} at a time" * (count > 1): batch for batch in BATCHES[count]}
        run = partial(self, *self.draw(count, parts=MIXED if mixed else ONE_SIZE))
        cases = {name: partial(run, region_batch=batch) for name, batch in batches.items()}
        rows, images = self.run(cases | ({OTHER: partial(run, whose="Impact")} if self.impact else {}), steps)
        others = {OTHER: rows[OTHER].ours} if self.impact else {}
        for name, batch in batches.items():
            batched = count == 8 and not mixed and batch > 1
            more = {"goals": {OTHER: GOALS[self.device]}} if batched else {}
            more |= {"max_times_floor": MAX_TIMES_FLOOR[self.device]} if count == 8 else {}
            headline = count == 1 or (batched and batch == 4)
            self.report.store(replace(rows[name], others=others, headline=headline, **more))
            if batched:
                difference = 255 * (images[name] - images[f"{what}, 1 at a time"]).abs().max().item()
                what_differs = f"{self.name}, {name}: largest difference from 1 at a time"
                self.report.store(Figure(what_differs, difference, "/255", self.device))

    def add_growth(self) -> None:
        """Ten times the regions, one at a time, ten times the image around one region, and a ControlNet."""
        scenes = {"1 region": self.draw(1), "10 regions": self.draw(10)}
        scenes["1 region of a tenth of the image"] = self.draw(1, SMALL_IMAGE)
        cases = {f"{name}, {FEW_STEPS} steps": partial(self, *scene, region_batch=1) for name, scene in scenes.items()}
        one, ten, small = rows = self.run(cases, FEW_STEPS)[0].values()
        for row in rows:
            self.report.store(row)
        self.report.add_growth(f"regions, 1 and 10, {self.name}", one, ten, 10)
        growth = (one.ours.time.median - one.floor) / (small.ours.time.median - small.floor) / 10
        what = f"growth of own time relative to growth of the image's pixels, {self.name}"
        self.report.store(Figure(what, growth, "x", self.device, MAX_GROWTH))
        if self.device == "cpu":  # the fixture's ControlNet is small
            case = partial(self, *self.draw(8), region_batch=1, control=True)
            (row,) = self.run({"8 regions with a ControlNet": case}, STEPS)[0].values()
            self.report.store(replace(row, max_times_floor=MAX_TIMES_FLOOR["cuda"]))


def runs_here(bench: Bench, whose: str) -> bool:
    try:
        bench(*bench.draw(1), steps=1, whose=whose)
    except (NodeFailed, WorkflowError) as error:
        print(f"{whose} fails: {error}")
        return False
    return True


def main(quick: bool) -> None:
    comfy = comfyui.find_comfyui()
    if not comfy.usable:
        print(f"skipped: {comfy.why}")
        return
    impact = impact_pack(comfy)
    report = Report("Detail", version=comfy.version, steps=STEPS, packs=hosted.describe_packs(OTHER))
    packs = [ROOT / "tests" / "host" / "fixture_nodes"] + [impact] * bool(impact)
    for device in reversed(_measuring.devices()):
        with comfyui.Server(comfy, packs=packs, cpu=device == "cpu") as server:
            for setup in [each for each in SETUPS if each[1] == device]:
                bench = Bench(server, report, setup, quick)
                bench.impact = bool(impact) and runs_here(bench, "Impact")
                for count in (1, 8) if quick else BATCHES:
                    bench.add_rows(count)
                if not quick:
                    bench.add_rows(8, mixed=True)
                bench.add_growth()
