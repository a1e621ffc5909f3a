"""ImageSegmentation with networks of u2net's and isnet's size, beside the earlier way and the bare `session.run`.

    python3 tools/dev.py bench segmentation [--quick]

The networks are written into a temporary folder: see `_salient_networks`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from _measuring import Way, devices, floor, peak_memory, side_by_side
from _rows import NO_FASTER, Figure, Report, Timing, add_growth, shown_seconds
from _salient_networks import KINDS, Kind, Network
from maskwright.core import tensors
from maskwright.core.cutout import remove
from maskwright.models import background_models, onnx_runtime
from maskwright.models import rembg as rembg_models

PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
COUNTS = {"u2net": {"cpu": 8, "cuda": 8}, "isnet": {"cpu": 2, "cuda": 8}}  # pictures; isnet is slow on a CPU

ABOUT = """Without alpha matting. The networks have the layers of the published u2net and isnet and random weights, so
their files are as large and a picture takes as long. The earlier way: a new session at every run, then picture by
picture through Pillow and rembg. The floor: the operations of the network's convolutions at the rate of a large matrix
product. Allowed is 1.1 times ONNX Runtime's bare session.run of the same pictures, made ready before, and 30 ms a
picture. Cold is a new session and its first picture. To find a session that is kept nothing is computed, so that has
no floor. What a kept session holds counts only where it is made: for the earlier way at every run. Growth is that
of a network with an eighth of u2net's channels. Memory on a GPU is all that is taken there,
looked at every millisecond."""


def main(quick: bool) -> None:
    torch.set_float32_matmul_precision("high")  # on CUDA convolutions run in TF32, and so must what is their floor
    side, rounds, narrower = (256, 2, 8) if quick else (1024, 3, 1)
    report = Report("ImageSegmentation", ABOUT)
    with tempfile.TemporaryDirectory() as folder:
        # Where rembg looks for its files, without asking whether they are the published ones.
        os.environ["U2NET_HOME"], os.environ["MODEL_CHECKSUM_DISABLED"] = folder, "1"
        for name, kind in KINDS.items():
            network = Network(kind, narrower)
            file = network.write(Path(folder))
            for device in _devices():
                images = pictures(2 if quick else COUNTS[name][device], side)
                compared = Compared(file, kind, network.operations, device)
                if compared.is_there():
                    compared.cold(report, name, images, rounds)
                    compared.again(report, name, rounds)
                    compared.warm(report, name, images, rounds)
                else:
                    print(f"{name} is left out on {device}: ONNX Runtime does not start there")
        Network(KINDS["u2net"], narrower=8).write(Path(folder))
        for device in _devices():
            if not Compared(Path(folder) / "u2net.onnx", KINDS["u2net"], 0, device).is_there():
                continue
            growth(report, Path(folder), pictures(20, 256 if quick else 1024), device, rounds)


def growth(report: Report, folder: Path, images: torch.Tensor, device: str, rounds: int) -> None:
    def remove(count: int) -> torch.Tensor:
        return remove.remove_background(images[:count], background_models.load("u2net", [folder], device=device))[0]

    few, many = (lambda: remove(2)), (lambda: remove(20))
    kept: dict[tuple[int, ...], torch.Tensor] = {}

    def there_already(shape: tuple[int, ...], on: torch.device) -> torch.Tensor:
        return kept.setdefault(shape, torch.empty(shape, device=on))

    with patch.object(tensors, "empty", there_already):
        taken = side_by_side({"few": few, "many": many}, rounds, device)
    without = taken["many"].median / taken["few"].median / 10
    why = f"With results written into memory that is there already it is {without:.2f} times."
    if without <= NO_FASTER:
        why += " What is more is the first touch of new memory, which a system that takes it back hands out slowly."
    add_growth(report, "pictures, 2 and 20", few, many, device, why, peak=peak)


class Compared:
    """One network on one device: this pack, the earlier way, and ONNX Runtime alone."""

    def __init__(self, file: Path, kind: Kind, operations: float, device: str) -> None:
        self._file, self._kind, self._operations, self._device = file, kind, operations, device

    def load(self) -> rembg_models.RembgMasks:
        return background_models.load(self._kind.name, [self._file.parent], device=self._device)

    def is_there(self) -> bool:
        """Whether ONNX Runtime really got the device: it falls back to the CPU by itself."""
        return self.load().providers[0] == PROVIDERS[self._device][0]

    def earlier_session(self) -> object:
        import rembg

        return rembg.new_session(self._kind.name, providers=list(PROVIDERS[self._device]))

    def the_earlier_way(self, images: torch.Tensor) -> torch.Tensor:
        """A new session, then Pillow and back for each picture."""
        import rembg

        session = self.earlier_session()
        return torch.stack([tensors.from_pil(rembg.remove(tensors.to_pil(image), session=session)) for image in images])

    def now(self, images: torch.Tensor) -> torch.Tensor:
        return remove.remove_background(images, self.load())[0]

    def ready(self, images: torch.Tensor) -> list[dict]:
        """What the network is shown."""
        session, kind = self.load()._session, self._kind
        size = (kind.side, kind.side)
        return [session.normalize(tensors.to_pil(image), kind.mean, kind.std, size) for image in images]

    def cold(self, report: Report, name: str, images: torch.Tensor, rounds: int) -> None:
        image = images[:1]
        (shown,) = self.ready(image)

        def bare() -> None:
            onnx_runtime.open_session(self._file, torch.device(self._device), "").run(None, shown)

        def now() -> torch.Tensor:
            rembg_models._sessions.clear()
            return self.now(image)

        ways = {"now": now, "earlier": lambda: self.the_earlier_way(image)}
        taken = side_by_side(ways | {"bare": bare}, rounds, self._device)
        alone = taken.pop("bare").median
        rembg_models._sessions.clear()
        report.add(
            Timing(
                f"{name}, cold: the first picture",
                **taken,
                device=self._device,
                floor=floor(self._device, self._operations, 2 * self._file.stat().st_size),
                peak=peak(now, self._device),
                earlier_peak=peak(ways["earlier"], self._device),
                note=f"ONNX Runtime by itself takes {shown_seconds(alone)} to open the file and run it once, "
                f"{alone / taken['now'].median:.0%} of the time.",
            )
        )

    def again(self, report: Report, name: str, rounds: int) -> None:
        taken = side_by_side({"now": self.load, "earlier": self.earlier_session}, 3 * rounds, self._device)
        report.add(Timing(f"{name}: its session once more", **taken, device=self._device))

    def warm(self, report: Report, name: str, images: torch.Tensor, rounds: int) -> None:
        session = self.load()._session.inner_session
        shown = self.ready(images)

        def bare() -> None:
            for each in shown:
                session.run(None, each)

        ways: dict[str, Way] = {"now": lambda: self.now(images), "earlier": lambda: self.the_earlier_way(images)}
        parts: dict[str, Way] = {"bare": bare, "ready": lambda: self.ready(images)}
        taken = side_by_side(ways | parts, rounds, self._device)
        alone, ready, count = taken.pop("bare"), taken.pop("ready").median, len(images)
        least = floor(self._device, count * self._operations)
        what = f"{count} pictures of {images.shape[2]} x {images.shape[1]}"
        why = f"ONNX Runtime's bare session.run takes {alone.median / least:.2f} times the floor"
        if self._device == "cpu":
            in_convolutions, in_all = self.profile(shown)
            why += (
                f": by its own profile {in_convolutions / in_all:.0%} of that are convolutions, which take "
                f"{in_convolutions / least:.2f} times the floor, and the rest resizing, joining and pooling"
            )
        on_top = taken["now"].median - alone.median
        of_rembg = (
            f"{on_top / count * 1e3:.0f} ms a picture come on top of session.run, {ready / count * 1e3:.0f} ms of them "
            "rembg's making it ready with Pillow and numpy."
        )
        report.add(
            Timing(
                f"{name}, warm: {what}",
                **taken,
                device=self._device,
                floor=least,
                peak=peak(ways["now"], self._device),
                earlier_peak=peak(ways["earlier"], self._device),
                note=f"{why}. {of_rembg}",
                headline=True,
            )
        )
        report.add(Timing(f"{name}, warm: bare session.run of these", alone, self._device, floor=least, note=f"{why}."))
        allowed = 1.1 * alone.median + 0.03 * count
        share = taken["now"].median / allowed
        report.add(Figure(f"{name}, warm: time to what is allowed", share, "x", self._device, 1, of_rembg))
        now, earlier = (tensors.to_8bit(way()[..., 3]).astype(int) for way in ways.values())
        differs = np.abs(now - earlier).max().item()
        report.add(Figure(f"{name}: largest difference in alpha, levels of 255", differs, "", self._device, 1))

    def profile(self, shown: list[dict]) -> tuple[float, float]:
        """Seconds in convolutions and in all nodes, by ONNX Runtime's own clock."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
        options.enable_profiling, options.profile_file_prefix = True, str(self._file.with_suffix(""))
        session = onnxruntime.InferenceSession(str(self._file), options, providers=PROVIDERS[self._device])
        session.run(None, shown[0])  # does not count
        for each in shown:
            session.run(None, each)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
        nodes = [
            event
            for event in events
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= runs[1]
        ]
        convolutions = [event for event in nodes if "Conv" in event["args"]["op_name"]]
        return sum(event["dur"] for event in convolutions) / 1e6, sum(event["dur"] for event in nodes) / 1e6


def pictures(count: int, side: int) -> torch.Tensor:
    """Smooth ones, ``[count,side,side,3]``."""
    images = torch.rand(count, side // 8, side // 8, 3, generator=torch.Generator().manual_seed(0))
    return tensors.resize_image(images, side, side).contiguous()  # as ComfyUI loads them


def peak(way: Way, device: str) -> float | None:
    """As `peak_memory`, which on CUDA does not see what ONNX Runtime takes."""
    if device != "cuda":
        return peak_memory(way)
    torch.cuda.empty_cache()
    before = lowest = torch.cuda.mem_get_info()[0]
    done = threading.Event()

    def watch() -> None:
        nonlocal lowest
        while not done.wait(0.001):
            lowest = min(lowest, torch.cuda.mem_get_info()[0])

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        way()
    finally:
        done.set()
        watching.join()
    return float(before - lowest)


def _devices() -> list[str]:
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    return [device for device in devices() if PROVIDERS[device][0] in offered]


if __name__ == "__main__":
    main("--quick" in sys.argv)
