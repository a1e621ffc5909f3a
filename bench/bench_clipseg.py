"""CLIPSegMasking and the earlier node, with a model of the published size and random weights.

The node caches recent images, so every call changes its images first, unless a row says otherwise.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from _measuring import Call, devices, smooth_images
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core.text.clipseg_engine import copy_with_dtype
from maskwright.models import clipseg_loader
from maskwright.models.clipseg_store import DEMO_FOLDER, ClipsegStore
from maskwright.nodes import _host as host
from PIL import Image
from rows import Figure, Report, Row

SIDE, VOCABULARY = 1024, 49408
PROMPTS = [
    f"{color} {thing}" for color in ("red", "blue", "green", "white") for thing in ("circle", "leaf", "hat", "cat")
]

EARLIER = "the earlier CLIPSeg node"

ABOUT = f"""Images of {SIDE} x {SIDE}; the model's input is 352 x 352 unless a resolution is named. Beside it, the node
that this one replaces, step by step: it loads processor and model for every image, and runs one image and one prompt at
a time. The floor is the network alone, called in transformers on prepared tensors, which takes most of the time."""
CACHED = """The vision tower is skipped, so the rest matters more: the text, and resizing images and masks in 8 bits,
like the earlier node, for the same masks."""
SMALL = """Beside the network, each image is resized to its input and each mask back to the image in 8 bits, like the
earlier node, for the same masks."""
COLD = """Building the model, reading its weights, and arranging the vision tower's weights for the CPU or copying them
to the GPU; this happens once."""
TILES = """Above 704 the image is processed in overlapping tiles: four of 704 x 704, 16 times the patches of 352 x 352
for ten times the pixels, and attention grows with the square of a tile's patches."""


def make_config():
    from transformers import CLIPSegConfig

    demo = CLIPSegConfig.from_pretrained(DEMO_FOLDER).text_config  # its tokenizer's
    ends = {name: getattr(demo, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return CLIPSegConfig(
        text_config={"vocab_size": VOCABULARY, **ends},
        vision_config={"image_size": 352, "patch_size": 16},
        extract_layers=[3, 6, 9],
        reduce_dim=64,
        use_complex_transposed_convolution=True,
    )


def write_model(folder: Path) -> None:
    """Write a model of the published one's size, with the demo model's tokenizer."""
    from transformers import CLIPSegForImageSegmentation

    shutil.copytree(DEMO_FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    model = CLIPSegForImageSegmentation(make_config()).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # larger than initial weights, so that logits differ between pixels
            parameter.normal_(0, 1.2 / parameter[0].numel() ** 0.5, generator=generator)
    model.save_pretrained(folder)


def encode(model, pixels: torch.Tensor) -> list[torch.Tensor]:
    """The activations that the decoder reads, of prepared images ``[B,3,S,S]``."""
    states = model.clip.vision_model(pixels, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
    return [states[layer + 1].float() for layer in model.extract_layers]


@torch.inference_mode()
def run_network(model, prepared: list, prompts: int) -> None:
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


class Bench:
    """The rows of one device, with the model in ``folder``."""

    def __init__(self, report: Report, folder: Path, device: str) -> None:
        self.report, self.folder, self.device = report, folder, device
        self.pair = clipseg_loader.load(folder.name, ClipsegStore([folder.parent]))
        self.rows: dict[tuple, Row] = {}  # by images, prompts and resolution

    def call(self, images: torch.Tensor, prompts: int = 1, resolution: int = 352, changed: bool = True) -> Call:
        """A call of the node; ``changed``: on new images, which are not cached."""
        text = " | ".join(PROMPTS[:prompts])

        def run() -> torch.Tensor:
            if changed:
                images[:, :128, :128] = torch.rand(3)
            return self.mask(images, text, resolution)

        return run

    def mask(self, images: torch.Tensor, text: str, resolution: int = 352) -> torch.Tensor:
        return NODE_CLASS_MAPPINGS["CLIPSegMasking"]().CLIPSeg_image(images, text, self.pair, "", resolution)[0]

    def run_earlier(self, images: torch.Tensor, prompts: int = 1) -> torch.Tensor:
        return run_earlier(images, PROMPTS[:prompts], self.folder, self.device)

    def network(self, count: int, prompts: int, resolution: int, dtype: torch.dtype = torch.float32) -> Call:
        """The floor: a call of the network alone."""
        model = copy_with_dtype(self.pair[1], dtype).to(self.device)
        images = torch.rand(count, 3, resolution, resolution, device=self.device, dtype=dtype)
        return partial(run_network, model, list(images.split(8)), prompts)

    def add(self, what: str, ours: Call, others: dict | None = None, floor: Call | None = None, **more) -> Row:
        return self.report.add(what, ours, others, floor, self.device, **more)

    def add_images(self, count: int, prompts: int = 1, resolution: int = 352, part: tuple = (), **more) -> None:
        """The earlier node supports only the model's native resolution, and its time is that of the row ``part`` times
        the number of images and prompts, if there is one."""
        images = smooth_images(count, SIDE)
        what = f"{count} image{'s' * (count > 1)}, {prompts} prompt{'s' * (prompts > 1)}"
        what += f", resolution {resolution}" * (resolution != 352)
        others, floor = {EARLIER: partial(self.run_earlier, images, prompts)}, self.network(count, prompts, resolution)
        if resolution != 352:
            others = {}
        elif part:
            name = self.rows[part].what
            others = {EARLIER: self.rows[part].others[EARLIER].scale(count * prompts / part[0] / part[1], name)}
        call = self.call(images, prompts, resolution)
        self.rows[count, prompts, resolution] = self.add(what, call, others, floor, note=SMALL, **more)

    def add_half(self, count: int) -> None:
        """The model in half precision, which ComfyUI chooses on most GPUs."""
        processor, model = full = self.pair
        floor = self.network(count, 1, 352, torch.float16)
        self.pair = processor, copy_with_dtype(model, torch.float16).to(self.device)
        call = self.call(smooth_images(count, SIDE))
        self.add(f"{count} images, 1 prompt, float16", call, None, floor, note=SMALL)
        self.pair = full

    def add_cached(self, count: int) -> None:
        """The images of the previous call, with a new prompt each time and with the same prompt."""
        images, numbers = smooth_images(count, SIDE), itertools.count()
        part = self.rows[1, 1, 352]
        others = {EARLIER: part.others[EARLIER].scale(count, part.what)}
        model = self.pair[1]
        with torch.inference_mode():
            activations = encode(model, torch.rand(count, 3, 352, 352))
        floor = partial(run_network, model, [activations], 1)
        another = lambda: self.mask(images, f"circle number {next(numbers)}")  # noqa: E731
        for name, call in (("another", another), ("same", self.call(images, changed=False))):
            what = f"{count} cached images, {name} prompt"
            self.add(what, call, others, floor, note=CACHED, headline=name == "another")

    def add_cold(self) -> None:
        """The first image after the model is loaded, as in a new process."""
        images, store = smooth_images(1, SIDE), ClipsegStore([self.folder.parent])

        def run() -> None:
            clipseg_loader.release()
            pair = clipseg_loader.load(self.folder.name, store)
            NODE_CLASS_MAPPINGS["CLIPSegMasking"]().CLIPSeg_image(images, PROMPTS[0], pair, "", 352)

        self.add("1 image, loading the model", run, {EARLIER: self.rows[1, 1, 352].others[EARLIER]}, note=COLD)

    def add_difference(self, count: int) -> None:
        images = smooth_images(count, SIDE)
        most = round(255 * (self.mask(images, PROMPTS[0]) - self.run_earlier(images)).abs().max().item(), 3)
        what, limit = (
            f"largest difference to the earlier node's masks, {count} images",
            2 if self.device == "cpu" else None,
        )
        self.report.store(Figure(what, most, "/255", self.device, limit))


def measure(bench: Bench, quick: bool) -> None:
    bench.add_difference(1 if quick else 2)
    many, some = (2, 2) if quick else (64, 8)
    bench.add_images(1)
    bench.add_images(some, goals={EARLIER: 2}, headline=True)
    bench.add_images(many, part=(some, 1, 352))
    bench.add_images(1, 4, headline=True)
    bench.add_images(1, 16, part=(1, 4, 352))
    if bench.device == "cpu":  # on a GPU nothing is cached
        bench.add_cached(1 if quick else 4)
    else:
        bench.add_half(some)
    if not quick:
        bench.add_images(1, resolution=704)
        bench.add_images(1, 4, resolution=704)
        bench.add_images(1, resolution=1120)
    bench.add_cold()
    one, growth = bench.rows[1, 1, 352], bench.report.add_growth
    growth("prompts, 1 and 16", one, bench.rows[1, 16, 352], 16)
    growth(f"images, {some} and {many}", bench.rows[some, 1, 352], bench.rows[many, 1, 352], many / some)
    if not quick:
        growth("input pixels, 352 and 1120", one, bench.rows[1, 1, 1120], (1120 / 352) ** 2, TILES)


def main(quick: bool) -> None:
    report = Report("Find by text", ABOUT)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "real size"
        write_model(folder)
        for device in devices():
            with patch.object(host, "device", lambda: torch.device(device)):
                measure(Bench(report, folder, device), quick)
