"""ImageSegmentation with u2net and with MODNet, the earlier ways, and plain `session.run`.

python3 tools/dev.py bench segmentation [--quick]

Downloads rembg's u2net (176 MB; with --quick u2netp, 5 MB) unless it is on this computer; see tools/fetch_weights.py.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _measuring import Call, count_operations, devices, floor, smooth_images
from fetch_weights import fetch
from maskwright.core import tensors
from maskwright.core.batching import StandaloneHost
from maskwright.core.cutout.matting import remove_background
from maskwright.core.errors import ModelError
from maskwright.models import background_models, catalog, modnet
from maskwright.models.background_models import BackgroundStore
from maskwright.models.modnet_network import MODNet
from rows import Figure, Report, Timing
from torch.nn import Module, functional

PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
OPERATIONS = {"u2net": 117_196_492_800, "u2netp": 39_512_179_200}  # of the convolutions, for an image of 320 x 320
MEAN, DEVIATION, INPUT_SIZE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (320, 320)

ABOUT = """Without alpha matting. The earlier way with u2net: a new session in every run, then image by image through
Pillow and rembg. The floor: the operations of the network's convolutions. The limit is 1.1 times ONNX Runtime's plain
session.run of the same prepared images, plus 30 ms per image. Cold is a new session and its first image; getting a
cached session computes nothing, so it has no floor. The memory of a session counts only where it is created: for the
earlier way in every run. MODNet runs on PyTorch, in float32, with random weights; its earlier way is the reference
implementation's demo, step by step: the network is created and its file read in every run, then image by image through
Pillow."""
COLD = "ONNX Runtime itself takes nearly all of this time to open the file and run it once."
OVERHEAD = "The time beyond session.run is rembg's preparation with Pillow and numpy, resizing, and the cutout."
MODNET = "The convolutions are close to the floor; the rest is normalizing, concatenating, resizing and new memory."
GROWTH = "The results of many images need new memory, and touching it first is slow on some systems."


class CachingHost(StandaloneHost):
    """Keeps a copy of a model on the device, as ComfyUI does."""

    def __init__(self, device: str) -> None:
        self.device, self.copies = device, {}

    def on_device(self, model: Module, copy_as: Callable) -> Module:
        if self.device != "cpu" and id(model) not in self.copies:
            self.copies[id(model)] = copy_as(model, torch.float32).to(self.device)
        return self.copies.get(id(model), model)


class Bench:
    """The rows of one network on one device: this pack and the earlier way."""

    def __init__(self, report: Report, file: Path, name: str, operations: int, device: str, rounds: int) -> None:
        self.report, self.file, self.name, self.operations = report, file, name, operations
        self.device, self.rounds, self.host = device, rounds, CachingHost(device)

    def load(self):
        return background_models.load(self.name, BackgroundStore([self.file.parent]), self.device, self.host)

    def run_now(self, images: torch.Tensor) -> torch.Tensor:
        return remove_background(images, self.load())[0]

    def calls(self, images: torch.Tensor) -> dict[str, Call]:
        return {"now": lambda: self.run_now(images), "earlier": lambda: self.run_earlier(images)}

    def add(self, what: str, calls: dict[str, Call], operations: float, moved: float = 0, **more) -> dict:
        more["memory"] = self.device == "cpu"  # PyTorch does not count ONNX Runtime's memory on a GPU
        return self.report.add_comparison(
            f"{self.name}, {what}", calls, self.rounds, self.device, operations, moved, **more
        )

    def add_difference(self, images: torch.Tensor) -> None:
        now, earlier = (tensors.to_8bit(call()[..., 3]).astype(int) for call in self.calls(images).values())
        limit = 1 if self.device == "cpu" else None  # convolutions round to TF32 on CUDA
        what, most = f"{self.name}: largest difference in alpha", np.abs(now - earlier).max().item()
        self.report.add(Figure(what, most, "/255", self.device, limit))


class OnnxBench(Bench):
    """A network in ONNX Runtime, and plain `session.run`."""

    def new_session(self):
        import rembg

        return rembg.new_session(self.name, providers=list(PROVIDERS[self.device]))

    def run_cold(self, images: torch.Tensor) -> torch.Tensor:
        background_models.release()
        return self.run_now(images)

    def run_earlier(self, images: torch.Tensor) -> torch.Tensor:
        import rembg

        session = self.new_session()
        return torch.stack([tensors.from_pil(rembg.remove(tensors.to_pil(image), session=session)) for image in images])

    def add_rows(self, images: torch.Tensor) -> None:
        one, count = images[:1], len(images)
        cold = self.calls(one) | {"now": lambda: self.run_cold(one)}
        moved = 2 * self.file.stat().st_size
        self.add("cold: the first image", cold, self.operations, moved, note=COLD)
        self.add("its cached session", {"now": self.load, "earlier": self.new_session}, 0)
        rembg_session = self.load()._session
        inputs = [rembg_session.normalize(tensors.to_pil(image), MEAN, DEVIATION, INPUT_SIZE) for image in images]
        plain = lambda: [rembg_session.inner_session.run(None, each) for each in inputs]  # noqa: E731
        what, total = f"warm: {count} images of {images.shape[2]} x {images.shape[1]}", count * self.operations
        times = self.add(what, self.calls(images) | {"plain": plain}, total, note=OVERHEAD, headline=True)
        what, least = f"{self.name}, warm: plain session.run of these", floor(self.device, total)
        self.report.add(Timing(what, times["plain"], self.device, floor=least, note=COLD))
        share = times["now"].median / (1.1 * times["plain"].median + 0.03 * count)
        what = f"{self.name}, warm: time relative to the limit"
        self.report.add(Figure(what, share, "x", self.device, 1, OVERHEAD))
        self.add_difference(images)

    def add_growth(self, side: int) -> None:
        few, many = (self.calls(smooth_images(count, side))["now"] for count in (2, 20))
        self.report.add_growth("images, 2 and 20", few, many, self.device, GROWTH, self.rounds)


class ModnetBench(Bench):
    """MODNet on PyTorch, with random weights in a checkpoint like the published ones."""

    def run_earlier(self, images: torch.Tensor) -> torch.Tensor:
        model = MODNet()
        weights = torch.load(self.file, map_location="cpu", weights_only=True)
        model.load_state_dict({name.removeprefix("module."): weight for name, weight in weights.items()})
        model.eval().to(self.device)
        cutouts = []
        for image in images:
            levels = np.array(tensors.to_pil(image))
            bchw = torch.from_numpy(levels).permute(2, 0, 1)[None].contiguous()  # [H,W,3] -> [1,3,H,W]
            pixels = bchw.float().div(255).sub(0.5).div(0.5)
            pixels = functional.interpolate(pixels, modnet.network_size(*image.shape[:2]), mode="area")
            with torch.no_grad():
                matte = functional.interpolate(model(pixels.to(self.device)), image.shape[:2], mode="area")
            alpha = (matte[0, 0].cpu().numpy() * 255).astype(np.uint8)
            cutouts.append(tensors.from_8bit(np.dstack([levels, alpha])))
        return torch.stack(cutouts)

    def add_rows(self, counts: tuple[int, int], side: int) -> None:
        for count in counts:
            what = f"{count} image{'s' * (count > 1)} of {side} x {side}"
            calls = self.calls(smooth_images(count, side))
            self.add(what, calls, count * self.operations, note=MODNET, headline=count > 1)
        self.add_difference(smooth_images(2, 384, 512))  # the matte is reduced: the demo enlarges with visible steps


def write_modnet(folder: Path, side: int) -> tuple[Path, int]:
    """Write a checkpoint with random weights. Returns its path, and the network's operations for an image."""
    model = MODNet().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # so that signals neither vanish nor explode
            torch.nn.init.normal_(parameter, 0, (2 / parameter[0].numel()) ** 0.5, generator)
    file = folder / catalog.MODNET["modnet-p"].files[0].name
    torch.save({f"module.{name}": weight for name, weight in model.state_dict().items()}, file)
    return file, count_operations(lambda: model(torch.zeros(1, 3, *modnet.network_size(side, side))))


def measure_onnx(report: Report, name: str, side: int, quick: bool, rounds: int) -> None:
    import onnxruntime

    file = fetch(name)
    os.environ["U2NET_HOME"] = str(file.parent)  # for rembg
    for device in devices():
        if PROVIDERS[device][0] in onnxruntime.get_available_providers():
            bench = OnnxBench(report, file, name, OPERATIONS[name], device, rounds)
            bench.add_rows(smooth_images(2 if quick else 8, side))
            if not quick:
                bench.add_growth(side)


def measure_modnet(report: Report, side: int, quick: bool, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, operations = write_modnet(Path(folder), side)
        for device in devices():
            ModnetBench(report, file, "modnet-p", operations, device, rounds).add_rows((1, 2 if quick else 8), side)


def main(quick: bool) -> None:
    torch.set_float32_matmul_precision("high")  # on CUDA convolutions run in TF32, so their floor does too
    side, rounds, name = (256, 2, "u2netp") if quick else (1024, 3, "u2net")
    report = Report("ImageSegmentation", ABOUT)
    try:
        measure_onnx(report, name, side, quick, rounds)
    except (ModelError, ImportError) as error:  # no network, or no onnxruntime
        print(f"{name} skipped: {error}")
    measure_modnet(report, side, quick, rounds)


if __name__ == "__main__":
    main("--quick" in sys.argv)
