"""ImageSegmentation with MODNet on PyTorch, and the reference demo's way. The weights are random.

python3 tools/dev.py bench modnet [--quick]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _measuring import compare, count_operations, devices, floor, peak_memory, smooth_images
from maskwright.core import background, tensors
from maskwright.models import background as background_models
from maskwright.models import catalog, modnet
from rows import Figure, Report, Timing
from torch.nn import functional

NAME = "modnet-p"

ABOUT = """In float32, without alpha matting. The earlier way is the reference implementation's image demo, step by
step: the network is created and its file read at every run, then image by image through Pillow and 8 bits. The floor:
the operations of all convolutions."""
NOTE = """The convolutions alone come close to the floor. The rest is normalizing, concatenating and resizing, and new
memory for all that lies between the layers."""


def write_weights(folder: Path) -> Path:
    """A checkpoint like the published ones, with weights that neither let signals vanish nor explode."""
    model, generator = modnet.MODNet(), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, (2 / parameter[0].numel()) ** 0.5, generator)
    file = folder / catalog.MODNET[NAME].files[0].name
    torch.save({f"module.{name}": weight for name, weight in model.state_dict().items()}, file)
    return file


def run_earlier(images: torch.Tensor, file: Path, device: str) -> torch.Tensor:
    model = modnet.MODNet()
    weights = torch.load(file, map_location="cpu", weights_only=True)
    model.load_state_dict({name.removeprefix("module."): weight for name, weight in weights.items()})
    model.eval().to(device)
    cutouts = []
    for image in images:
        levels = np.array(tensors.to_pil(image))
        bchw = torch.from_numpy(levels).permute(2, 0, 1)[None].contiguous()  # [H,W,3] -> [1,3,H,W]
        pixels = bchw.float().div(255).sub(0.5).div(0.5)
        pixels = functional.interpolate(pixels, modnet.shown_size(*image.shape[:2]), mode="area")
        with torch.no_grad():
            matte = functional.interpolate(model(pixels.to(device)), image.shape[:2], mode="area")
        alpha = (matte[0, 0].cpu().numpy() * 255).astype(np.uint8)
        cutouts.append(tensors.from_8bit(np.dstack([levels, alpha])))
    return torch.stack(cutouts)


def main(quick: bool) -> None:
    torch.set_float32_matmul_precision("high")  # on CUDA convolutions run in TF32, so their floor does too
    report = Report("MODNet", ABOUT)
    side = 256 if quick else 1024
    with tempfile.TemporaryDirectory() as folder:
        file, copies = write_weights(Path(folder)), {}
        size = modnet.shown_size(side, side)
        operations = count_operations(lambda: modnet.MODNet().eval()(torch.zeros(1, 3, *size)))
        for device in devices():

            def place(model, copy):
                """As ComfyUI does: a copy on the device, cached."""
                if device != "cpu" and id(model) not in copies:
                    copies[id(model)] = copy(model, torch.float32).to(device)
                return copies.get(id(model), model)

            def run_now(images: torch.Tensor) -> torch.Tensor:
                return background.remove(
                    images, background_models.load(NAME, [Path(folder)], device=device, place=place)
                )[0]

            for count in (1, 2) if quick else (1, 8):
                images = smooth_images(count, side)
                calls = {"now": lambda: run_now(images), "earlier": lambda: run_earlier(images, file, device)}
                times = compare(calls, 2 if quick else 7, device)
                peaks = [peak_memory(call, device) for call in calls.values()]
                what, least = f"{count} image{'s' * (count > 1)} of {side} x {side}", floor(device, count * operations)
                memory = {"peak": peaks[0], "earlier_peak": peaks[1]}
                row = {"device": device, "floor": least, "note": NOTE, "headline": count > 1}
                report.add(Timing(what, **times, **memory, **row))
            images = smooth_images(2, 384, 512)  # the matte becomes smaller: of larger images the demo shows the steps
            results = run_now(images), run_earlier(images, file, device)
            now, earlier = (tensors.to_8bit(result[..., 3]).astype(int) for result in results)
            note = "" if device == "cpu" else "Convolutions round to TF32, each algorithm in its own order."
            difference = np.abs(now - earlier).max().item()
            report.add(Figure("largest difference in alpha", difference, "/255", device, 1, note))


if __name__ == "__main__":
    main("--quick" in sys.argv)
