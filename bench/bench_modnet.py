"""ImageSegmentation with MODNet on PyTorch, beside the reference demo's way.

    python3 tools/dev.py bench modnet [--quick]

The weights are random: they make no difference to the time.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _measuring import Spread, devices, floor, peak_memory, side_by_side
from _rows import Figure, Report, Timing
from maskwright.core import tensors
from maskwright.core.cutout import remove
from maskwright.models import background_models, catalog, modnet

NAME = "modnet-p"

ABOUT = """In float32, without alpha matting. The earlier way is the reference implementation's picture demo, step by
step: the network is made and its file read at every run, then picture by picture through Pillow and 8 bits. The floor:
the operations of all convolutions at the rate of a large matrix product. 'The convolutions alone' are those of one
picture on the tensors that they get there, one after the other and without all that lies between."""


def main(quick: bool) -> None:
    torch.set_float32_matmul_precision("high")  # on CUDA convolutions run in TF32, and so must what is their floor
    report = Report("MODNet", ABOUT)
    side, rounds = (256, 2) if quick else (1024, 7)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for device in devices():
            compared = Compared(Path(folder), device)
            why = compared.one(report, pictures(1, side), rounds)
            images = pictures(2 if quick else 8, side)
            ways = {"now": lambda: compared.now(images), "earlier": lambda: compared.the_earlier_way(images)}
            compared.add(report, images, side_by_side(ways, rounds, device), why)
            images = pictures(2, 384, 512)  # the matte becomes smaller: of larger pictures the demo shows the steps
            ways = (compared.now, compared.the_earlier_way)
            now, earlier = (tensors.to_8bit(way(images)[..., 3]).astype(int) for way in ways)
            differs = np.abs(now - earlier).max().item()
            told = "" if device == "cpu" else "Convolutions round to TF32 there, each algorithm in its own order."
            report.add(Figure("largest difference in alpha, levels of 255", differs, "", device, 1, told))


class Compared:
    """This pack and the demo's way on one device, with the checkpoint in a folder."""

    def __init__(self, folder: Path, device: str) -> None:
        self._folder, self._device = folder, device
        self._there: dict[int, torch.nn.Module] = {}  # by the id of what it is a copy of
        self.operations = 0

    def load(self) -> background_models.ModnetMasks:
        return background_models.load(NAME, [self._folder], device=self._device, place=self._place)

    def now(self, images: torch.Tensor) -> torch.Tensor:
        return remove.remove_background(images, self.load())[0]

    def the_earlier_way(self, images: torch.Tensor) -> torch.Tensor:
        model = modnet.MODNet()
        weights = torch.load(self._folder / catalog.MODNET[NAME].files[0].name, map_location="cpu", weights_only=True)
        model.load_state_dict({name.removeprefix("module."): weight for name, weight in weights.items()})
        model.eval().to(self._device)
        for part in model.modules():
            if isinstance(part, modnet._HalfInstanceNorm):
                part.forward = functools.partial(in_two_halves, part)
        cutouts = []
        for image in images:
            picture = np.array(tensors.to_pil(image))
            bchw = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()  # [H,W,3] -> [1,3,H,W]
            shown = bchw.float().div(255).sub(0.5).div(0.5)
            shown = F.interpolate(shown, modnet.shown_size(*image.shape[:2]), mode="area")
            with torch.no_grad():
                matte = F.interpolate(model(shown.to(self._device)), image.shape[:2], mode="area")
            levels = (matte[0, 0].cpu().numpy() * 255).astype(np.uint8)
            cutouts.append(tensors.from_8bit(np.dstack([picture, levels])))
        return torch.stack(cutouts)

    def add(self, report: Report, images: torch.Tensor, taken: dict[str, Spread], why: str) -> None:
        count, height, width = images.shape[:3]
        report.add(
            Timing(
                f"{count} picture{'s' * (count > 1)} of {width} x {height}",
                **taken,
                device=self._device,
                floor=floor(self._device, count * self.operations),
                peak=peak_memory(lambda: self.now(images), self._device),
                earlier_peak=peak_memory(lambda: self.the_earlier_way(images), self._device),
                note=why,
                headline=count > 1,
            )
        )

    def one(self, report: Report, image: torch.Tensor, rounds: int) -> str:
        """Count the operations of one picture, add rows for it and for its convolutions alone, and tell why
        the whole is above its floor."""
        model = self.load()._ready()
        convolutions: list[tuple[torch.nn.Conv2d, torch.Tensor]] = []

        def keep(conv: torch.nn.Conv2d, given: tuple[torch.Tensor], found: torch.Tensor) -> None:
            convolutions.append((conv, given[0].clone()))
            self.operations += 2 * found.numel() * conv.weight[0].numel()

        hooks = [part.register_forward_hook(keep) for part in model.modules() if isinstance(part, torch.nn.Conv2d)]
        self.now(image)
        for hook in hooks:
            hook.remove()

        @torch.no_grad()
        def alone() -> None:
            for conv, given in convolutions:
                conv(given)

        ways = {
            "convolutions": alone,
            "now": lambda: self.now(image),
            "earlier": lambda: self.the_earlier_way(image),
        }
        taken = side_by_side(ways, rounds, self._device)
        conv, least = taken.pop("convolutions"), floor(self._device, self.operations)
        why = (
            f"The {len(convolutions)} convolutions alone take {conv.median / taken['now'].median:.0%} of one picture's "
            f"time, {conv.median / least:.2f} times the floor. The rest is normalising, joining and resizing, and new "
            "memory for all that lies between the layers."
        )
        self.add(report, image, taken, why)
        report.add(Timing("the convolutions of 1 picture alone", conv, self._device, floor=least, note=why))
        return why

    def _place(
        self, model: torch.nn.Module, copy: Callable[[torch.nn.Module, torch.dtype], torch.nn.Module]
    ) -> torch.nn.Module:
        """As ComfyUI does it: a copy on the device, kept."""
        if self._device == "cpu":
            return model
        if id(model) not in self._there:
            self._there[id(model)] = copy(model, torch.float32).to(self._device)
        return self._there[id(model)]


def in_two_halves(norm: modnet._HalfInstanceNorm, x: torch.Tensor) -> torch.Tensor:
    """The same as its `forward`, in the reference implementation's steps."""
    half = norm.bnorm.num_features
    return torch.cat((norm.bnorm(x[:, :half].contiguous()), norm.inorm(x[:, half:].contiguous())), dim=1)


def write(folder: Path) -> None:
    """A checkpoint like the published ones, with weights with which signals neither vanish nor explode."""
    model, generator = modnet.MODNet(), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, (2 / parameter[0].numel()) ** 0.5, generator)
    weights = {f"module.{name}": weight for name, weight in model.state_dict().items()}
    torch.save(weights, folder / catalog.MODNET[NAME].files[0].name)


def pictures(count: int, height: int, width: int | None = None) -> torch.Tensor:
    """Smooth, with some noise, in 8-bit levels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 12, 16, 3, generator=generator)
    images = tensors.resize_image(coarse, height, width or height)
    images = (images + 0.1 * torch.rand(images.shape, generator=generator)).clamp(0, 1)
    return tensors.from_8bit(tensors.to_8bit(images))


if __name__ == "__main__":
    main("--quick" in sys.argv)
