"""Alpha matting of portrait-like pictures beside ``rembg.remove(alpha_matting=True)``, and on larger ones its time and
memory alone (there rembg's Laplacian of the whole picture takes 400 bytes a pixel, several times over).

Both get the same mask, so that no network is run. Where rembg is not installed its column stays empty.

    python3 tools/dev.py bench matting [--quick]
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _side_by_side import seconds
from maskwright.core import matting, tensors
from PIL import Image


def portrait(height: int, width: int, noise: float = 0.02) -> tuple[torch.Tensor, torch.Tensor]:
    """A head with curly hair on shoulders before a smooth background, 8 bits deep; the mask of a network that sees the
    picture at 320 x 320."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = (y + 0.5) / height, ((x + 0.5) / width - 0.5) * width / height + 0.5
    head = np.hypot((x - 0.5) / 0.18, (y - 0.33) / 0.24)
    hair = 0.05 * np.sin(90 * np.arctan2(y - 0.33, x - 0.5)) * np.exp(-(((head - 1) / 0.2) ** 2))
    body = np.hypot((x - 0.5) / 0.38, (y - 1.05) / 0.5)
    inside = 1 - np.minimum(head + hair, body)  # above 0
    alpha = np.clip(0.5 + inside * 25, 0, 1)[..., None]
    subject = np.stack([0.7 - 0.2 * y, 0.45 + 0.1 * np.sin(9 * x), 0.35 + 0.2 * x], axis=-1)
    background = np.stack([0.3 + 0.3 * x, 0.5 + 0.2 * y, 0.6 - 0.2 * x], axis=-1)
    picture = alpha * subject + (1 - alpha) * background
    picture += np.random.default_rng(0).normal(0, noise, picture.shape).astype(np.float32)
    levels = (picture.clip(0, 1) * 255).astype(np.uint8)
    seen = Image.fromarray((np.clip(0.5 + inside * 25, 0, 1) * 255).astype(np.uint8)).resize((320, 320), Image.BOX)
    mask = np.array(seen.resize((width, height), Image.LANCZOS))
    return tensors.from_8bit(levels), tensors.from_8bit(mask)


def ours(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return matting.cutout(image, *matting.matte(image, mask))


class GivenMask:
    """A rembg session that has its mask already."""

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = tensors.to_pil(mask)

    def predict(self, *_: object, **__: object) -> list[Image.Image]:
        return [self.mask]


def theirs(image: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    import rembg

    return rembg.remove(
        tensors.to_8bit(image),
        alpha_matting=True,
        alpha_matting_foreground_threshold=240,
        alpha_matting_background_threshold=20,
        alpha_matting_erode_size=10,
        session=GivenMask(mask),
    )


def has_rembg() -> bool:
    try:
        import rembg  # noqa: F401
    except (ImportError, SystemExit):  # it exits where onnxruntime is missing
        return False
    return True


def measured_alone(height: int, width: int) -> dict[str, float]:
    """Seconds and peak memory in GB of a process that does nothing but one picture."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "portrait.npz"
        image, mask = portrait(height, width)
        np.savez(file, image=tensors.to_8bit(image), mask=tensors.to_8bit(mask))
        command = [sys.executable, str(Path(__file__).resolve()), "--alone", str(file)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def alone(file: str) -> int:
    """One picture, in the child process."""
    with np.load(file) as levels:
        image, mask = tensors.from_8bit(levels["image"]), tensors.from_8bit(levels["mask"])
    start = time.perf_counter()
    ours(image, mask)
    print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak_memory()}))
    return 0


def peak_memory() -> float:
    """Of this process, in GB; not a number where there is no /proc. What `getrusage` tells holds the parent's, too."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return float("nan")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def main(arguments: list[str]) -> int:
    if "--alone" in arguments:
        return alone(arguments[-1])
    quick = "--quick" in arguments
    both = has_rembg()
    print(f"{'side by side':16}{'unknown':>9}{'rembg, s':>10}{'now, s':>9}{'ratio':>8}{'largest difference':>20}")
    for side in (256,) if quick else (512, 1024, 1536):
        image, mask = portrait(side, side)
        unknown = (matting.trimap(mask) == 0.5).float().mean().item()
        ways = {"now": functools.partial(ours, image, mask)}
        if both:
            ways["rembg"] = functools.partial(theirs, image, mask)
        spent = seconds(ways, 3 if quick else 7)
        line = f"{f'{side} x {side}':16}{unknown:>9.1%}"
        if both:
            now, then = tensors.to_8bit(ours(image, mask)).astype(int), theirs(image, mask).astype(int)
            differs = np.abs(now - then)[now[..., 3] > 0].max()
            line += (
                f"{spent['rembg']:>10.2f}{spent['now']:>9.2f}{spent['rembg'] / spent['now']:>8.2f}{differs:>14} / 255"
            )
        else:
            line += f"{'-':>10}{spent['now']:>9.2f}{'-':>8}{'-':>20}"
        print(line, flush=True)
    print(f"\n{'alone':16}{'now, s':>9}{'peak memory, GB':>18}")
    for height, width in ((512, 512),) if quick else ((4096, 4096), (4320, 7680)):
        measured = measured_alone(height, width)
        print(f"{f'{width} x {height}':16}{measured['seconds']:>9.1f}{measured['peak']:>18.2f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
