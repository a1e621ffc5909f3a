"""CLIPSegMasking and the earlier node, with a model of the published size and random weights.

The node caches recent images, so every call changes its images first, unless a row says otherwise.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from _measuring import devices, smooth_images
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core.text.clipseg_engine import copy_with_dtype
from maskwright.models import clipseg_loader
from maskwright.models.clipseg_store import DEMO_FOLDER, ClipsegStore
from maskwright.nodes import _host as host
from PIL import Image
from rows import Cell, Figure, Report, Row

SIDE = 1024
PROMPTS = [
    f"{color} {thing}" for color in ("red", "blue", "green", "white") for thing in ("circle", "leaf", "hat", "cat")
]

EARLIER = "the earlier CLIPSeg node"

CACHED = """The vision tower is skipped, so the rest matters more: the text, and resizing images and masks in 8 bits, as
in the earlier node, so that the masks are the same."""
SMALL = """In addition to the network, each image is resized to its input, and each mask back to the image, in 8 bits,
as in the earlier node, so that the masks are the same."""
COLD = """The first call builds the model, reads its weights, and arranges the vision tower's weights for the CPU or
copies them to the GPU."""
TILES = """Above 704 the image is processed in overlapping tiles: four of 704 x 704, 16 times the patches of 352 x 352
for ten times the pixels, and attention grows with the square of a tile's patches."""


def write_model(folder: Path) -> None:
    """Write a model of the published one's size with random weights, and the demo model's tokenizer."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    demo = CLIPSegConfig.from_pretrained(DEMO_FOLDER).text_config
    ends = {name: getattr(demo, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    vision = {"image_size": 352, "patch_size": 16}
    config = CLIPSegConfig(text_config=ends, vision_config=vision, use_complex_transposed_convolution=True)
    model = CLIPSegForImageSegmentation(config).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # larger than initial weights, so that logits differ between pixels
            parameter.normal_(0, 1.2 / parameter[0].numel() ** 0.5, generator=generator)
    shutil.copytree(DEMO_FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    model.save_pretrained(folder)


def encode(model, pixels: torch.Tensor) -> list[torch.Tensor]:
    """The activations that the decoder reads, of prepared images ``[B,3,S,S]``."""
    states = model.clip.vision_model(pixels, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
    return [states[layer + 1].float() for layer in model.extract_layers]


@torch.no_grad()
def run_network(model, prepared: Sequence, prompts: int) -> None:
    """Run the network on prepared chunks: images ``[B,3,S,S]``, or activations, for which only the decoder runs."""
    embedding = torch.zeros(1, 512, device=model.device)
    for chunk in prepared:
        activations = encode(model, chunk) if isinstance(chunk, torch.Tensor) else chunk
        for _ in range(prompts):
            model.decoder(activations, embedding.expand(len(activations[0]), -1))


def run_earlier(images: torch.Tensor, prompts: list[str], folder: Path, device: str) -> torch.Tensor:
    """Compute the masks ``[B,H,W]`` of the last prompt like the earlier node."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    for prompt in prompts:
        masks = []
        for image in images:
            pil = Image.fromarray(np.clip(255.0 * image.numpy(), 0, 255).astype(np.uint8))
            processor = CLIPSegProcessor.from_pretrained(folder)
            model = CLIPSegForImageSegmentation.from_pretrained(folder).to(device)
            with torch.no_grad():
                inputs = processor(text=prompt, images=pil, padding=True, return_tensors="pt").to(device)
                probabilities = model(**inputs).logits.reshape(352, 352).sigmoid()
            stretched = (probabilities - probabilities.min()) / probabilities.max()
            gray = Image.fromarray((stretched.cpu().numpy() * 255).astype(np.uint8)).resize(pil.size).convert("RGB")
            colors = torch.from_numpy(np.asarray(gray).astype(np.float32) / 255)
            masks.append((colors * torch.tensor([0.299, 0.587, 0.114])).sum(-1))
    return torch.stack(masks)


def run_ours(pair: tuple, images: torch.Tensor, text: str, resolution: int = 352, changed=False) -> torch.Tensor:
    """Run the node; ``changed``: on new images, which are not cached."""
    if changed:
        images[:, :128, :128] = torch.rand(3)
    return NODE_CLASS_MAPPINGS["CLIPSegMasking"]().CLIPSeg_image(images, text, pair, "", resolution)[0]


class Bench:
    """The rows of one device, with the model in ``folder``."""

    def __init__(self, report: Report, folder: Path, device: str) -> None:
        self.report, self.folder, self.device = report, folder, device
        self.pair = clipseg_loader.load(folder.name, ClipsegStore([folder.parent]))
        self.rows: dict[tuple, Row] = {}  # by images, prompts and resolution

    def scale_earlier(self, part: tuple, times: float) -> dict[str, Cell]:
        """The earlier node's time, scaled up from that of the row ``part``."""
        return {EARLIER: self.rows[part].others[EARLIER].scale(times, self.rows[part].what)}

    def add(
        self, count: int, prompts: int = 1, resolution: int = 352, part: tuple = (), dtype=torch.float32, **more
    ) -> None:
        """Add a row. The earlier node supports only the model's native resolution; ``part``: see `scale_earlier`."""
        images, texts = smooth_images(count, SIDE), PROMPTS[:prompts]
        what = f"{count} image{'s' * (count > 1)}, {prompts} prompt{'s' * (prompts > 1)}"
        what += f", resolution {resolution}" * (resolution != 352)
        what += f", {str(dtype).removeprefix('torch.')}" * (dtype != torch.float32)
        processor, model = self.pair
        network = copy_with_dtype(model, dtype).to(self.device)
        call = partial(run_ours, (processor, network), images, " | ".join(texts), resolution, changed=True)
        others, floor = {}, None
        if part:
            others = self.scale_earlier(part, count * prompts / part[0] / part[1])
        elif resolution == 352 and dtype == torch.float32:
            others = {EARLIER: partial(run_earlier, images, texts, self.folder, self.device)}
        if part and part[1] == prompts:
            floor = self.rows[part].floor * count / part[0]
        elif resolution <= 704:  # see TILES
            prepared = torch.rand(count, 3, resolution, resolution, device=self.device, dtype=dtype)
            floor = partial(run_network, network, prepared.split(8), prompts)
        row = self.report.add(what, call, others, floor, self.device, note=SMALL, **more)
        self.rows.setdefault((count, prompts, resolution), row)

    def add_cached(self, count: int) -> None:
        """The images of the previous call, with a new prompt each time and with the same prompt."""
        images, numbers, model = smooth_images(count, SIDE), itertools.count(), self.pair[1]
        with torch.no_grad():
            floor = partial(run_network, model, [encode(model, torch.rand(count, 3, 352, 352))], 1)
        for name, text in (("another", lambda: f"circle number {next(numbers)}"), ("same", lambda: PROMPTS[0])):
            what, call = f"{count} cached images, {name} prompt", lambda text=text: run_ours(self.pair, images, text())
            others = self.scale_earlier((1, 1, 352), count)
            self.report.add(what, call, others, floor, note=CACHED, headline=name == "another")

    def add_cold(self) -> None:
        """The first image after the model is loaded, as in a new process."""
        images, store = smooth_images(1, SIDE), ClipsegStore([self.folder.parent])

        def run() -> None:
            clipseg_loader.release()
            run_ours(clipseg_loader.load(self.folder.name, store), images, PROMPTS[0])

        others = self.rows[1, 1, 352].others
        self.report.add("1 image, loading the model", run, others, device=self.device, note=COLD)

    def add_difference(self, count: int) -> None:
        images, limit = smooth_images(count, SIDE), 2 if self.device == "cpu" else None
        ours = run_ours(self.pair, images, PROMPTS[0])
        earlier = run_earlier(images, PROMPTS[:1], self.folder, self.device)
        what = f"largest difference from the earlier node's masks, {count} images"
        most = round(255 * (ours - earlier).abs().max().item(), 3)
        self.report.store(Figure(what, most, "/255", self.device, limit))


def measure(bench: Bench, quick: bool) -> None:
    some, many = (2, 4) if quick else (8, 64)
    bench.add_difference(2)
    bench.add(1)
    bench.add(some, goals={EARLIER: 2}, headline=True)
    bench.add(many, part=(some, 1, 352))
    bench.add(1, 4, headline=True)
    bench.add(1, 16, part=(1, 4, 352))
    if bench.device == "cpu":  # on a GPU nothing is cached
        bench.add_cached(some // 2)
    else:
        bench.add(some, dtype=torch.float16)  # which ComfyUI chooses on most GPUs
    bench.add_cold()
    one, add_growth = bench.rows[1, 1, 352], bench.report.add_growth
    add_growth("prompts, 1 and 16", one, bench.rows[1, 16, 352], 16)
    add_growth(f"images, {some} and {many}", bench.rows[some, 1, 352], bench.rows[many, 1, 352], many / some)
    if not quick:
        bench.add(1, resolution=704)
        bench.add(1, 4, resolution=704)
        bench.add(1, resolution=1120)
        add_growth("input pixels, 352 and 1120", one, bench.rows[1, 1, 1120], (1120 / 352) ** 2, TILES)


def main(quick: bool) -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    report = Report("Find by text", side=SIDE)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "real size"
        write_model(folder)
        for device in devices():
            with patch.object(host, "device", lambda: torch.device(device)):
                measure(Bench(report, folder, device), quick)
