"""ImageSegmentation with networks of the size of u2net and isnet and with MODNet, the earlier ways, and plain
`session.run`.

python3 tools/dev.py bench segmentation [--quick]
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _measuring import Call, compare, count_operations, devices, floor, peak_memory, smooth_images
from maskwright.core import tensors
from maskwright.core.batching import StandaloneHost
from maskwright.core.cutout.remove import remove_background
from maskwright.models import background_models, catalog, modnet
from maskwright.models.background_models import BackgroundStore
from maskwright.models.modnet_network import MODNet
from rows import Figure, Report, Timing
from torch import nn
from torch.nn import Conv2d, functional

PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
# rembg's name -> side of the image that the network takes, mean and deviation of its colors, stride of its stem
NETWORKS = {
    "u2net": (320, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1),
    "isnet-general-use": (1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), 2),
}

ABOUT = """Without alpha matting. The networks have the layers of the published u2net and isnet and random weights, so
their files are as large and an image takes as long. The earlier way: a new session in every run, then image by image
through Pillow and rembg. The floor: the operations of the network's convolutions. The limit is 1.1 times ONNX Runtime's
plain session.run of the same prepared images, plus 30 ms per image. Cold is a new session and its first image; getting
a cached session computes nothing, so it has no floor. The memory of a session counts only where it is created: for the
earlier way in every run. MODNet runs on PyTorch, in float32; its earlier way is the reference implementation's demo,
step by step: the network is created and its file read in every run, then image by image through Pillow."""
COLD = "ONNX Runtime itself takes nearly all of this time to open the file and run it once."
OVERHEAD = "The time beyond session.run is rembg's preparation with Pillow and numpy, resizing, and the cutout."
MODNET = "The convolutions are close to the floor; the rest is normalizing, concatenating, resizing and new memory."
GROWTH = "The results of many images need new memory, and touching it first is slow on some systems."


class Block(nn.Module):
    """A residual U-block with ``height`` levels, or with growing dilation instead of levels if that is 0."""

    def __init__(self, height: int, before: int, middle: int, after: int) -> None:
        super().__init__()
        dilations = [1] * (height - 1) + [2] if height else [1, 2, 4, 8]
        self.height, self.entry = height, conv(before, after)
        self.down = nn.ModuleList(conv(middle if n else after, middle, d) for n, d in enumerate(dilations))
        ups = list(reversed(dilations[:-1]))
        self.up = nn.ModuleList(conv(2 * middle, after if n == len(ups) - 1 else middle, d) for n, d in enumerate(ups))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = entry = self.entry(x)
        levels = []
        for number, layer in enumerate(self.down):
            x = layer(halve(x) if 0 < number < self.height - 1 else x)
            levels.append(x)
        x = levels.pop()
        for layer, skip in zip(self.up, reversed(levels), strict=True):
            x = layer(torch.cat([resize(x, skip), skip], dim=1))
        return x + entry


class Network(nn.Module):
    """The layers of u2net (Qin et al. 2020, table 1), or with a stem of stride 2 those of isnet (Qin et al. 2022)."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        encoder = [(7, 32, 64), (6, 32, 128), (5, 64, 256), (4, 128, 512), (0, 256, 512), (0, 256, 512)]
        decoder = [(0, 256, 512), (4, 128, 256), (5, 64, 128), (6, 32, 64), (7, 16, 64)]
        befores = [64 if stride > 1 else 3, 64, 128, 256, 512, 512]
        self.stem = Conv2d(3, 64, 3, stride, 1) if stride > 1 else nn.Identity()
        self.encoder = nn.ModuleList(Block(h, before, m, c) for (h, m, c), before in zip(encoder, befores, strict=True))
        sides = [1024, 1024, 512, 256, 128]
        self.decoder = nn.ModuleList(Block(h, before, m, c) for (h, m, c), before in zip(decoder, sides, strict=True))
        self.maps = nn.ModuleList(Conv2d(channels, 1, 3, padding=1) for channels in (64, 64, 128, 256, 512, 512))
        self.fuse = Conv2d(6, 1, 1) if stride == 1 else None
        draw_weights(self)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x, levels = self.stem(image), []
        for number, block in enumerate(self.encoder):
            x = block(halve(x) if number else x)
            levels.append(x)
        ups = [levels.pop()]
        for block in self.decoder:
            skip = levels.pop()
            ups.append(block(torch.cat([resize(ups[-1], skip), skip], dim=1)))
        maps = [resize(layer(x), image) for layer, x in zip(self.maps, reversed(ups), strict=True)]
        if self.fuse:
            maps.insert(0, self.fuse(torch.cat(maps, dim=1)))
        return [each.sigmoid() for each in maps]


def draw_weights(model: nn.Module) -> nn.Module:
    """Draw random weights with which signals neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0, (2 / parameter[0].numel()) ** 0.5, generator)
    return model


def conv(before: int, after: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(Conv2d(before, after, 3, padding=dilation, dilation=dilation), nn.ReLU())


def halve(x: torch.Tensor) -> torch.Tensor:
    return functional.max_pool2d(x, 2, 2, ceil_mode=True)


def resize(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, [int(side) for side in like.shape[2:]], mode="bilinear")


class CachingHost(StandaloneHost):
    """Keeps a copy of a model on the device, as ComfyUI does."""

    def __init__(self, device: str) -> None:
        self.device, self.copies = device, {}

    def on_device(self, model: nn.Module, copy_as: Callable) -> nn.Module:
        if self.device != "cpu" and id(model) not in self.copies:
            self.copies[id(model)] = copy_as(model, torch.float32).to(self.device)
        return self.copies.get(id(model), model)


class Bench:
    """The rows of one network on one device: this pack and the earlier way."""

    def __init__(self, report: Report, folder: Path, name: str, operations: int, device: str, rounds: int) -> None:
        self.report, self.folder, self.name = report, folder, name
        self.operations, self.device, self.rounds = operations, device, rounds
        self.host = CachingHost(device)

    def load(self):
        return background_models.load(self.name, BackgroundStore([self.folder]), self.device, self.host)

    def run_now(self, images: torch.Tensor) -> torch.Tensor:
        return remove_background(images, self.load())[0]

    def add(self, what: str, calls: dict[str, Call], least: float, **more) -> dict:
        times = compare(calls, self.rounds, self.device)
        peaks = {}
        if self.device == "cpu":  # PyTorch does not count ONNX Runtime's memory on a GPU
            peaks = {"peak": peak_memory(calls["now"]), "earlier_peak": peak_memory(calls["earlier"])}
        pair = {way: times[way] for way in ("now", "earlier")}
        row = Timing(f"{self.name}, {what}", **pair, **peaks, device=self.device, floor=least or None, **more)
        self.report.add(row)
        return times

    def add_difference(self, images: torch.Tensor) -> None:
        results = self.run_now(images), self.run_earlier(images)
        now, earlier = (tensors.to_8bit(result[..., 3]).astype(int) for result in results)
        difference = np.abs(now - earlier).max().item()
        limit = 1 if self.device == "cpu" else None  # convolutions round to TF32 on CUDA
        self.report.add(Figure(f"{self.name}: largest difference in alpha", difference, "/255", self.device, limit))


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

    def prepare(self, images: torch.Tensor) -> list[dict]:
        """Prepare the network's inputs."""
        side, mean, std, _ = NETWORKS[self.name]
        session = self.load()._session
        return [session.normalize(tensors.to_pil(image), mean, std, (side, side)) for image in images]

    def add_rows(self, images: torch.Tensor) -> None:
        one, count = images[:1], len(images)
        calls = {"now": lambda: self.run_cold(one), "earlier": lambda: self.run_earlier(one)}
        size = (self.folder / f"{self.name}.onnx").stat().st_size
        self.add("cold: the first image", calls, floor(self.device, self.operations, 2 * size), note=COLD)
        self.add("its cached session", {"now": self.load, "earlier": self.new_session}, 0.0)
        session, inputs = self.load()._session.inner_session, self.prepare(images)
        calls = {"now": lambda: self.run_now(images), "earlier": lambda: self.run_earlier(images)}
        calls["plain"] = lambda: [session.run(None, each) for each in inputs]
        least = floor(self.device, count * self.operations)
        what = f"warm: {count} images of {images.shape[2]} x {images.shape[1]}"
        times = self.add(what, calls, least, note=OVERHEAD, headline=True)
        what = f"{self.name}, warm: plain session.run of these"
        self.report.add(Timing(what, times["plain"], self.device, floor=least, note=COLD))
        share = times["now"].median / (1.1 * times["plain"].median + 0.03 * count)
        what = f"{self.name}, warm: time relative to the limit"
        self.report.add(Figure(what, share, "x", self.device, 1, OVERHEAD))
        self.add_difference(images)


class ModnetBench(Bench):
    """MODNet on PyTorch, with random weights in a checkpoint like the published ones."""

    def __init__(self, report: Report, folder: Path, device: str, rounds: int, side: int) -> None:
        size = modnet.network_size(side, side)
        operations = count_operations(lambda: MODNet().eval()(torch.zeros(1, 3, *size)))
        super().__init__(report, folder, "modnet-p", operations, device, rounds)
        self.file = folder / catalog.MODNET[self.name].files[0].name
        model = draw_weights(MODNet())
        torch.save({f"module.{name}": weight for name, weight in model.state_dict().items()}, self.file)

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
            images = smooth_images(count, side)
            calls = {"now": lambda: self.run_now(images), "earlier": lambda: self.run_earlier(images)}
            least, what = (
                floor(self.device, count * self.operations),
                f"{count} image{'s' * (count > 1)} of {side} x {side}",
            )
            self.add(what, calls, least, note=MODNET, headline=count > 1)
        self.add_difference(smooth_images(2, 384, 512))  # the matte is reduced: the demo enlarges with visible steps


def main(quick: bool) -> None:
    import onnxruntime

    torch.set_float32_matmul_precision("high")  # on CUDA convolutions run in TF32, so their floor does too
    side, rounds = (256, 2) if quick else (1024, 3)
    report = Report("ImageSegmentation", ABOUT)
    with tempfile.TemporaryDirectory() as folder:
        # rembg searches this folder, and does not verify the files.
        os.environ["U2NET_HOME"], os.environ["MODEL_CHECKSUM_DISABLED"] = folder, "1"
        for name, (network_side, _, _, stride) in list(NETWORKS.items())[: 1 if quick else 2]:
            network, sample = Network(stride).eval(), torch.zeros(1, 3, network_side, network_side)
            operations = count_operations(lambda: network(sample))
            names = {"input_names": ["input.1"], "opset_version": 13, "dynamo": False}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about fixed sides and the deprecated exporter
                torch.onnx.export(network, (sample,), f"{folder}/{name}.onnx", **names)
            for device in devices():
                if PROVIDERS[device][0] in onnxruntime.get_available_providers():
                    bench = OnnxBench(report, Path(folder), name, operations, device, rounds)
                    count = 2 if quick or (name != "u2net" and device == "cpu") else 8  # isnet is slow on a CPU
                    bench.add_rows(smooth_images(count, side))
                    if name == "u2net" and not quick:
                        few, many = smooth_images(2, side), smooth_images(20, side)
                        calls = lambda: bench.run_now(few), lambda: bench.run_now(many)
                        report.add_growth("images, 2 and 20", *calls, device, GROWTH, rounds)

        for device in devices():
            ModnetBench(report, Path(folder), device, rounds, side).add_rows((1, 2) if quick else (1, 8), side)


if __name__ == "__main__":
    main("--quick" in sys.argv)
