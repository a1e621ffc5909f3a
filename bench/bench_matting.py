"""Cutting out portrait-like pictures by a given mask, with and without alpha matting, beside rembg.

    python3 tools/dev.py bench matting [--quick]

Both get the same mask, so that no network is run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from _measuring import Watched, bytes_per_second, devices, peak_memory, side_by_side
from _rows import Figure, Report, Timing, add_growth
from maskwright.core import tensors, threads
from maskwright.core.cutout import matting, remove, trimap
from maskwright.core.cutout.trimap import MattingSettings
from PIL import Image

SIDES = {512: "0.26 megapixels", 1024: "1 megapixel", 2048: "4 megapixels", 4096: "16 megapixels"}
MOST_FOR_REMBG = 2048  # pixels a side
MOST_MEMORY = 4  # GB

ABOUT = """What ImageSegmentation does once the network has given its mask. The earlier way: rembg.remove with the same
mask, from a tensor through Pillow and back. At 16 megapixels with matting it is left out: it writes the equations of
the whole picture, so its time and memory grow with all pixels. The floor without matting: picture and mask read once,
cutout and alpha written once. With matting, which is solved on the CPU wherever the picture is: that, and for every
step of conjugate gradients one pass over the equations' entries (12 bytes each) and two over those of their factor (16
bytes), steps and entries counted in a run, and for the foreground colours two sweeps over all levels of the picture
(4/3 of its pixels, 64 bytes each), all at the bandwidth of a copy. Memory alone is that of a process that does nothing
else, torch and all other modules included."""


def main(quick: bool) -> None:
    with threads.keep_torch_threads():
        import rembg  # noqa: F401 - before anything is measured

    report = Report("Cutouts and alpha matting", ABOUT)
    for device in devices():
        for side in (256,) if quick else SIDES:
            scene = Scene(*portrait(side, side), device)
            what = f"{side} x {side}" + (f", {SIDES[side]}" if side in SIDES else "")
            if side != 512:
                without_matting(report, scene, what, 3 if quick else 9)
            if device == "cpu" or side <= 1024:  # it is the CPU's work in any case
                with_matting(report, scene, what, 2 if quick or side > 2048 else 5)
    growth(report, *((96, 304) if quick else (548, 1732)))
    for height, width in ((512, 512),) if quick else ((4096, 4096), (4320, 7680)):
        for unknown, soft in (("", False), (", most of it unknown", True)):
            peak = measured_alone(height, width, soft)
            if peak is not None:
                what = f"memory alone, {width} x {height}{unknown}"
                report.add(Figure(what, peak / 1e9, " GB", at_most=MOST_MEMORY))


class Scene:
    """A picture and its mask on a device: what this pack and the earlier way do with them."""

    masks_per_image = 1

    def __init__(self, image: torch.Tensor, mask: torch.Tensor, device: str) -> None:
        self.image, self.mask, self.device = image.to(device), mask.to(device), device
        self.pixels = mask.numel()

    def predict_masks(self, _: torch.Tensor) -> torch.Tensor:
        """As a `core.engine.MaskSource`."""
        return self.mask.unsqueeze(0)  # [H,W] -> [1,H,W]

    def predict(self, *_: object, **__: object) -> list[Image.Image]:
        """As a session of rembg."""
        return [tensors.to_pil(self.mask)]

    def now(self, matted: bool) -> torch.Tensor:
        return remove.remove_background(self.image.unsqueeze(0), self, MattingSettings() if matted else None)[0][0]

    def earlier(self, matted: bool) -> torch.Tensor:
        import rembg

        cutout = rembg.remove(
            tensors.to_pil(self.image),
            alpha_matting=matted,
            alpha_matting_foreground_threshold=240,
            alpha_matting_background_threshold=20,
            alpha_matting_erode_size=10,
            session=self,
        )
        return tensors.from_pil(cutout).to(self.device)


def without_matting(report: Report, scene: Scene, what: str, rounds: int) -> None:
    ways = {"now": lambda: scene.now(False), "earlier": lambda: scene.earlier(False)}
    result = tensors.empty((*scene.mask.shape, 4), scene.image.device)
    alone = {
        "copy": lambda: result[..., :3].copy_(scene.image),
        "memory": lambda: tensors.empty((*scene.mask.shape, 5), scene.image.device).zero_(),
    }
    taken = side_by_side(ways | alone, rounds, scene.device)
    copy, memory = (taken.pop(name).median / taken["now"].median for name in alone)
    report.add(
        Timing(
            f"off: {what}",
            **taken,
            device=scene.device,
            floor=36 * scene.pixels / bytes_per_second(scene.device),
            peak=peak_memory(ways["now"], scene.device),
            earlier_peak=peak_memory(ways["earlier"]) if scene.device == "cpu" else None,  # works there
            note=f"A pixel of three floats becomes one of four, which are not written in one stroke: copying the "
            f"colours into a cutout that is there takes {copy:.0%} of the time, and new memory for the results "
            f"{memory:.0%}; the rest is comparing alpha with 0 and writing it, to cutout and mask.",
        )
    )


def with_matting(report: Report, scene: Scene, what: str, rounds: int) -> None:
    ways = {"now": lambda: scene.now(True)}
    if scene.mask.shape[0] <= MOST_FOR_REMBG:
        ways["earlier"] = lambda: scene.earlier(True)
    taken = side_by_side(ways, rounds, scene.device)
    parts = Parts(scene)
    report.add(
        Timing(
            f"on: {what} ({parts.unknown:.1%} unknown)",
            **taken,
            device=scene.device,
            floor=parts.moved / bytes_per_second("cpu"),
            peak=peak_memory(ways["now"], scene.device),
            earlier_peak=peak_memory(ways["earlier"]) if "earlier" in ways and scene.device == "cpu" else None,
            at_least=2 if what.startswith("1024") else None,
            note=str(parts),
            headline="earlier" in ways and scene.mask.shape[0] > 512,
        )
    )
    if "earlier" in ways:
        now, earlier = (tensors.to_8bit(way()).astype(int) for way in ways.values())
        differs = np.abs(now - earlier)[now[..., 3] > 0].max()
        report.add(Figure(f"on: {what}: largest difference, levels of 255", differs.item(), "", scene.device, 2))


def growth(report: Report, side: int, large_side: int) -> None:
    small, large = (Scene(*portrait(each, each), "cpu") for each in (side, large_side))
    add_growth(report, "megapixels, 0.3 and 3, with matting", lambda: small.now(True), lambda: large.now(True))

    def fill(scene: Scene) -> torch.Tensor:
        return tensors.empty((*scene.mask.shape, 5), scene.image.device).zero_()

    filled = side_by_side({"small": lambda: fill(small), "large": lambda: fill(large)}, 9)
    why = (
        f"Filling new memory of the results' size alone takes {filled['large'].median / filled['small'].median:.1f} "
        "times as long: the system clears large blocks anew, while small ones come back from the allocator."
    )
    add_growth(report, "megapixels, 0.3 and 3, without", lambda: small.now(False), lambda: large.now(False), note=why)


class Parts:
    """Where the time of a run with matting goes, and the bytes that its steps must move."""

    NAMES = {
        "trimap": "the trimap",
        "_equations": "writing the equations",
        "_preconditioner": "factoring them",
        "_conjugate_gradient": "solving them",
        "_foreground": "the foreground colours",
    }

    def __init__(self, scene: Scene) -> None:
        self._watched = {name: Watched() for name in (*self.NAMES, "factor", "all")}
        self._steps = self._entries = self._of_factor = 0
        watching = {name: self._watched[name].watch(getattr(matting, name)) for name in self.NAMES}
        watching["_preconditioner"] = self._counting(watching["_preconditioner"])
        with mock.patch.multiple(matting, **watching):
            self._watched["all"].watch(scene.now)(True)
        self.unknown = (trimap.make_trimap(scene.mask.cpu()) == 0.5).float().mean().item()
        sweeps = 2 * 64 * 4 / 3 * scene.pixels
        self.moved = 36 * scene.pixels + sweeps + self._steps * (12 * self._entries + 2 * 16 * self._of_factor)

    def _counting(self, preconditioner):
        def wrapper(matrix):
            made = preconditioner(matrix)
            self._entries += matrix.nnz
            self._of_factor += made.Ltuple[0].size if hasattr(made, "Ltuple") else 0
            applied = self._watched["factor"].watch(made)

            def counted(vector: np.ndarray) -> np.ndarray:
                self._steps += 1
                return applied(vector)

            return counted

        return wrapper

    def __str__(self) -> str:
        spent = {name: watched.spent for name, watched in self._watched.items()}
        shares = (f"{text} {spent[name] / spent['all']:.0%}" for name, text in self.NAMES.items())
        factor = spent["factor"] / max(spent["_conjugate_gradient"], 1e-9)
        return (
            f"Of the time {', '.join(shares)}. Solving took {self._steps} steps; {factor:.0%} of it are the factor's "
            "forward and back substitution, where each unknown waits for the one before, at no copy's bandwidth."
        )


def portrait(height: int, width: int, noise: float = 0.02, soft: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """A head with curly hair on shoulders before a smooth background, 8 bits deep; the mask of a network that sees the
    picture at 320 x 320. ``soft``: the mask is unsure nearly everywhere."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = (y + 0.5) / height, ((x + 0.5) / width - 0.5) * width / height + 0.5
    head = np.hypot((x - 0.5) / 0.18, (y - 0.33) / 0.24)
    hair = 0.05 * np.sin(90 * np.arctan2(y - 0.33, x - 0.5)) * np.exp(-(((head - 1) / 0.2) ** 2))
    body = np.hypot((x - 0.5) / 0.38, (y - 1.05) / 0.5)
    inside = 1 - np.minimum(head + hair, body)  # above 0
    alpha = np.clip(0.5 + inside * 25, 0, 1)[..., None]
    subject = np.stack([0.7 - 0.2 * y, 0.45 + 0.1 * np.sin(9 * x), 0.35 + 0.2 * x], axis=-1)
    behind = np.stack([0.3 + 0.3 * x, 0.5 + 0.2 * y, 0.6 - 0.2 * x], axis=-1)
    picture = alpha * subject + (1 - alpha) * behind
    picture += np.random.default_rng(0).normal(0, noise, picture.shape).astype(np.float32)
    levels = (picture.clip(0, 1) * 255).astype(np.uint8)
    seen = np.clip(0.5 + inside * (0.6 if soft else 25), 0, 1)
    seen = Image.fromarray((seen * 255).astype(np.uint8)).resize((320, 320), Image.Resampling.BOX)
    mask = np.array(seen.resize((width, height), Image.Resampling.LANCZOS))
    return tensors.from_8bit(levels), tensors.from_8bit(mask)


def measured_alone(height: int, width: int, soft: bool) -> float | None:
    """Peak memory in bytes of a process that does nothing but one picture."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "portrait.npz"
        image, mask = portrait(height, width, soft=soft)
        np.savez(file, image=tensors.to_8bit(image), mask=tensors.to_8bit(mask))
        command = [sys.executable, str(Path(__file__).resolve()), "--alone", str(file)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def alone(file: str) -> None:
    """One picture, in the child process. What `getrusage` tells would hold the parent's memory, too."""
    with np.load(file) as levels:
        image, mask = tensors.from_8bit(levels["image"]), tensors.from_8bit(levels["mask"])
    matting.compose_cutout(image, *matting.matte(image, mask))
    status = Path("/proc/self/status")
    peak = int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) * 1024 if status.exists() else None
    print(json.dumps(peak))


if __name__ == "__main__":
    if "--alone" in sys.argv:
        alone(sys.argv[-1])
    else:
        main("--quick" in sys.argv)
