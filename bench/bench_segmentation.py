"""ImageSegmentation with u2net and with MODNet, the alternatives, and the networks alone.

Downloads rembg's u2net (176 MB; with --quick u2netp, 5 MB) unless it is on this computer; see tools/fetch_weights.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from _measuring import Call, devices, smooth_images
from fetch_weights import fetch
from maskwright.core import tensors
from maskwright.core.cutout.matting import remove_background
from maskwright.core.errors import ModelError
from maskwright.models import background_models, catalog, modnet
from maskwright.models.background_models import BackgroundStore
from maskwright.models.modnet_network import MODNet
from maskwright.nodes import _host as host
from rows import Figure, Report, Row
from torch.nn import functional

PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
MEAN, DEVIATION, INPUT_SIZE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (320, 320)
DEMO = "MODNet's demo"

OVERHEAD = "The time beyond the network is preparing the images with Pillow and numpy, resizing, and the cutout."
SINGLE = "A single image may take less time than a plain call of the network; several take as long as plain calls."


class Bench:
    """The rows of one network on one device: this pack, the alternative, and the network alone."""

    other = ""

    def __init__(self, report: Report, file: Path, name: str, device: str) -> None:
        self.report, self.file, self.name, self.device = report, file, name, device

    def load(self):
        return background_models.load(self.name, BackgroundStore([self.file.parent]), self.device, host.ComfyHost())

    def run_ours(self, images: torch.Tensor) -> torch.Tensor:
        with patch.object(host, "device", lambda: torch.device(self.device)):
            return remove_background(images, self.load())[0]

    def add(self, what: str, run: Callable, images: torch.Tensor, floor: Call, **more) -> Row:
        ours, others = partial(run, images), {self.other: partial(self.run_other, images)}
        more |= {"memory": self.device == "cpu", "note": OVERHEAD}  # PyTorch does not count ONNX Runtime's on a GPU
        return self.report.add(f"{self.name}, {what}", ours, others, floor, self.device, **more)

    def add_rows(self, counts: tuple[int, int], side: int) -> None:
        rows = []
        for count in counts:
            images, what = smooth_images(count, side), f"{count} image{'s' * (count > 1)} of {side} x {side}"
            rows.append(self.add(what, self.run_ours, images, self.network(images), headline=count > 1))
        self.report.add_growth(f"images, {self.name}", *rows, counts[1] / counts[0], SINGLE)
        images = smooth_images(2, 384, 512)  # smaller than MODNet's input: its demo enlarges mattes with visible steps
        alphas = (tensors.to_8bit(run(images)[..., 3]).astype(int) for run in (self.run_ours, self.run_other))
        limit = 1 if self.device == "cpu" else None  # convolutions round to TF32 on CUDA
        what = f"{self.name}: largest difference in alpha from {self.other}"
        most = np.abs(next(alphas) - next(alphas)).max()
        self.report.store(Figure(what, float(most), "/255", self.device, limit))


class OnnxBench(Bench):
    """A network in ONNX Runtime."""

    other = "rembg"

    def run_cold(self, images: torch.Tensor) -> torch.Tensor:
        background_models.release()
        return self.run_ours(images)

    def run_other(self, images: torch.Tensor) -> torch.Tensor:
        import rembg

        session = rembg.new_session(self.name, providers=PROVIDERS[self.device])
        return torch.stack([tensors.from_pil(rembg.remove(tensors.to_pil(image), session=session)) for image in images])

    def network(self, images: torch.Tensor, cold: bool = False) -> Call:
        """A call of `session.run` for each prepared image; ``cold``: of a new session."""
        import onnxruntime

        session = self.load()._session
        inputs = [session.normalize(tensors.to_pil(image), MEAN, DEVIATION, INPUT_SIZE) for image in images]
        new = partial(onnxruntime.InferenceSession, self.file, providers=PROVIDERS[self.device])
        return lambda: [(new() if cold else session.inner_session).run(None, each) for each in inputs]

    def add_rows(self, counts: tuple[int, int], side: int) -> None:
        image = smooth_images(1, side)
        self.add("cold: the first image", self.run_cold, image, self.network(image, cold=True))
        super().add_rows(counts, side)


class ModnetBench(Bench):
    """MODNet on PyTorch, with random weights in a checkpoint like the published ones."""

    other = DEMO

    def run_other(self, images: torch.Tensor) -> torch.Tensor:
        model, cutouts = modnet.load_modnet(self.file, self.device), []
        for image in images:
            levels = np.array(tensors.to_pil(image))
            bchw = torch.from_numpy(levels).permute(2, 0, 1)[None].contiguous()  # [H,W,3] -> [1,3,H,W]
            pixels = bchw.float().div(255).sub(0.5).div(0.5)
            pixels = functional.interpolate(pixels, modnet.network_size(*image.shape[:2]), mode="area")
            matte = functional.interpolate(model(pixels.to(self.device)), image.shape[:2], mode="area")
            alpha = (matte[0, 0].cpu().numpy() * 255).astype(np.uint8)
            cutouts.append(tensors.from_8bit(np.dstack([levels, alpha])))
        return torch.stack(cutouts)

    def network(self, images: torch.Tensor) -> Call:
        model = modnet.load_modnet(self.file, self.device)
        prepared = torch.rand(1, 3, *modnet.network_size(*images.shape[1:3]), device=self.device)
        return lambda: [model(prepared) for _ in images]


def write_modnet(folder: Path) -> Path:
    """Write a checkpoint with random weights."""
    model = MODNet().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # so that signals neither vanish nor explode
            torch.nn.init.normal_(parameter, 0, (2 / parameter[0].numel()) ** 0.5, generator)
    file = folder / catalog.MODNET["modnet-p"].files[0].name
    torch.save({f"module.{name}": weight for name, weight in model.state_dict().items()}, file)
    return file


def main(quick: bool) -> None:
    side, counts, name = (256, (1, 2), "u2netp") if quick else (1024, (1, 8), "u2net")
    report = Report("Remove the background")
    try:
        import onnxruntime

        file = fetch(name)
        os.environ["U2NET_HOME"] = str(file.parent)  # for rembg
        for device in devices():
            if PROVIDERS[device][0] in onnxruntime.get_available_providers():
                OnnxBench(report, file, name, device).add_rows(counts, side)
    except (ModelError, ImportError) as error:  # no network, or no onnxruntime
        print(f"{name} skipped: {error}")
    with tempfile.TemporaryDirectory() as folder:
        for device in devices():
            ModnetBench(report, write_modnet(Path(folder)), "modnet-p", device).add_rows(counts, side)
