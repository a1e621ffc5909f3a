"""MaskDetailerPipe in a real ComfyUI, and the node it replaces if that pack is installed.

All weights are random. On CUDA the models have the size of Stable Diffusion 1.5 and SDXL; on the CPU the UNet is small,
with the same architecture, and the VAE is trivial. ``IMPACT_PACK_PATH`` names the other pack's folder.

    python3 tools/dev.py bench detailer_comfyui [--quick]
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import _measuring  # makes the tools and the tests importable
import comfyui
import torch
from detailer_prompts import Detailer, impact_pack
from pack import ROOT
from rows import MAX_GROWTH, Figure, Report, Timing

ABOUT = """In {version}, with models of random weights: on CUDA of the size of Stable Diffusion 1.5 (regions sampled at
512 x 512) and SDXL (1024 x 1024), with their VAE; on the CPU a small UNet (128 x 128) and a trivial VAE. Mixed regions
have four sizes. The earlier node: {earlier}. The floor: the time of ComfyUI's sampler and VAE in this pack's run; the
rest is the node's own work. {steps} steps unless another number is given."""
NOTE = """In both nodes, nearly all of the time is ComfyUI's sampler and VAE. One region at a time, their speed varies
between runs by more than the node's own work takes."""

STEPS, FEW_STEPS = 20, 4
BATCHES = {1: (1,), 2: (1, 4), 8: (1, 4, 8), 32: (1, 4, 8)}  # regions -> values of region_batch
MAX_OWN_SHARE = {"cpu": 10, "cuda": 5}  # percent of the time outside sampler and VAE
MAX_CONTROL_SHARE = 5  # the same with a ControlNet, whose hint is cropped for each region
TARGETS = {"cpu": 1, "cuda": 2}  # times as fast as the earlier node, with regions of one size batched
IMAGE, SMALL_IMAGE = (1152, 2304), (364, 728)  # height and width; a tenth of the pixels
DISTANCE = 288  # pixels from one region to the next: four rows of eight
ONE_SIZE, MIXED = [(1, 1)], [(1, 1), (0.75, 1), (1, 0.75), (0.5, 1)]  # parts of the largest region's side
# name, device, side of a region and its upscaled side, and the fixture's options for model, VAE and text
SETUPS = (
    ("Small UNet", "cpu", 32, 64, "tiny", "means", {}),
    ("SD 1.5", "cuda", 128, 256, "sd15", "real", {"tokens": 77, "width": 768}),
    ("SDXL", "cuda", 128, 512, "sdxl", "real", {"tokens": 77, "width": 2048, "pooled": 1280}),
)


class Result:
    """All runs of one case: seconds in total and in sampler and VAE, peak memory in bytes, and the image."""

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


class Bench(Detailer):
    """Runs only the node: the model, the VAE and the texts are cached across runs."""

    def __init__(self, server: comfyui.Server, report: Report, setup: tuple, quick: bool) -> None:
        super().__init__(server)
        self.report, self.quick = report, quick
        self.name, self.device, self.side, guide_size, shape, vae, self.text = setup
        model = {"channels": 4, "spread": 0.1, "unet": 0.05, "shape": shape}
        widgets = {"guide_size": guide_size, "crop_factor": 2.0, "feather": 5, "noise_mask_feather": 20, "cfg": 5.0}
        self.options = {"model": model, "vae": {"kind": vae}, **widgets}

    def prompt(self, *args: Any, memory: bool = False, control: bool = False, **options: Any) -> tuple[dict, str]:
        prompt, name = super().prompt(*args, **self.options, **options)
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

    def run(self, cases: dict[str, tuple], rounds: int, steps: int) -> dict[str, Result]:
        """Run the cases (image, mask, options) in turns. The first round measures memory; its time does not count."""
        results = {name: Result() for name in cases}
        image, mask, options = next(iter(cases.values()))
        self(image, mask, steps=steps, **options)  # loads the weights
        start = time.perf_counter()
        for number in range(1 + (1 if self.quick else rounds)):
            for name, (image, mask, options) in cases.items():
                done = self(image, mask, memory=number == 0, steps=steps, **options)
                times, result = done.times[0], results[name]
                if number == 0:
                    result.peak, result.image = times["peak"], done.image
                else:
                    result.total.append(times["total"])
                    result.inside.append(times["sampling"] + times["vae"])
            if number > 1 and time.perf_counter() - start > _measuring.MAX_SECONDS:
                break
        return results

    def draw(self, count: int, size: tuple[int, int] = IMAGE, parts: list = ONE_SIZE) -> tuple:
        """Draw an image, and a mask of regions so far apart that no crop contains another region."""
        image = torch.rand(1, *size, 3, generator=torch.Generator().manual_seed(0))
        mask = torch.zeros(1, *size)
        for number in range(count):
            width, height = (int(part * self.side) for part in parts[number % len(parts)])
            x, y = (DISTANCE // 4 + place * DISTANCE for place in (number % 8, number // 8))
            mask[:, y : y + height, x : x + width] = 1
        return image, mask

    def add_comparison(self, count: int, mixed: bool, earlier: bool) -> None:
        steps = 2 if self.quick else STEPS if count in (1, 8) and not mixed else FEW_STEPS
        options = {"earlier": {"whose": "Impact"}} if earlier else {}
        options |= {str(n): {"whose": "Maskwright", "region_batch": n} for n in BATCHES[count]}
        scene = self.draw(count, parts=MIXED if mixed else ONE_SIZE)
        results = self.run(
            {name: (*scene, each) for name, each in options.items()}, {1: 15, 32: 2}.get(count, 5), steps
        )
        before = results.get("earlier")
        what = f"{self.name}, {count} {'mixed ' * mixed}region{'s' * (count > 1)}" + f", {steps} steps" * (
            steps != STEPS
        )
        for batch in BATCHES[count]:
            now, name = results[str(batch)], f"{what}, {batch} at a time" if count > 1 else what
            batched = count == 8 and not mixed and batch > 1
            more = {"earlier": _measuring.Spread.of(before.total), "earlier_peak": before.peak} if before else {}
            goal = 1 if count == 1 else TARGETS[self.device] if batched else None
            more |= {"at_least": goal, "headline": count == 1 or (batched and batch == 4), "note": NOTE}
            spread, least = _measuring.Spread.of(now.total), statistics.median(now.inside)
            self.report.add(Timing(name, spread, self.device, floor=least, peak=now.peak, **more))
            if count == 8:
                share, limit = 100 * now.own / now.median, MAX_OWN_SHARE[self.device]
                self.report.add(Figure(f"{name}: outside sampler and VAE", share, " %", self.device, limit, NOTE))
            if count == 8 and batch > 1:
                difference = 255 * (now.image - results["1"].image).abs().max().item()
                self.report.add(Figure(f"{name}: largest difference to 1 at a time", difference, "/255", self.device))

    def add_control(self) -> None:
        """Eight regions with a ControlNet for the whole image."""
        options = {"whose": "Maskwright", "region_batch": 1, "control": True}
        steps = 2 if self.quick else STEPS
        result = self.run({"": (*self.draw(8), options)}, 5, steps)[""]
        what = f"{self.name}, 8 regions with a ControlNet: outside sampler and VAE"
        share = 100 * result.own / result.median
        self.report.add(Figure(what, share, " %", self.device, MAX_CONTROL_SHARE, NOTE))

    def add_growth(self) -> None:
        """Ten times the regions, one at a time, and ten times the image around one region."""
        options = {"whose": "Maskwright", "region_batch": 1}
        scenes = {"one": self.draw(1), "ten": self.draw(10), "small": self.draw(1, SMALL_IMAGE)}
        results = self.run({name: (*scene, options) for name, scene in scenes.items()}, 9, FEW_STEPS)
        one, ten, small = (results[name] for name in scenes)
        rows = {"time to growth of regions, 1 and 10": ten.median / one.median}
        rows["own time to growth of the image's pixels"] = one.own / small.own
        if one.peak and ten.peak and small.peak:
            rows["memory to growth of regions, 1 and 10"] = ten.peak / one.peak
            rows["memory to growth of the image's pixels"] = one.peak / small.peak
        for what, growth in rows.items():
            self.report.add(Figure(f"{self.name}, growth of {what}", growth / 10, "x", self.device, MAX_GROWTH))


def main(quick: bool) -> None:
    comfy = comfyui.find_comfyui()
    if not comfy.usable:
        print(f"skipped: {comfy.why}")
        return
    impact = impact_pack(comfy)
    earlier = "the Impact Pack's node, in turns with this one" if impact else "not installed where this was measured"
    about = ABOUT.format(version=f"ComfyUI {comfy.version}", earlier=earlier, steps=STEPS)
    report, packs = Report("MaskDetailerPipe", about), [ROOT / "tests" / "host" / "fixture_nodes"]
    for device in reversed(_measuring.devices()):
        with comfyui.Server(comfy, packs=packs + [impact] * bool(impact), cpu=device == "cpu") as server:
            for setup in SETUPS:
                if setup[1] == device:
                    bench = Bench(server, report, setup, quick)
                    for count in (1, 8) if quick else BATCHES:
                        bench.add_comparison(count, False, bool(impact))
                    if not quick:
                        bench.add_comparison(8, True, bool(impact))
                    if setup[4] == "tiny":
                        bench.add_control()
                    bench.add_growth()


if __name__ == "__main__":
    main("--quick" in sys.argv)
