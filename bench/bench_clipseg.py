"""CLIPSegMasking and the earlier node, with a model of the published size and random weights.

The node caches recent images, so every call changes its images first, unless a row says otherwise.

    python3 tools/dev.py bench clipseg [--quick]
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from _measuring import count_operations, devices, smooth_images
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core.text.clipseg_engine import copy_with_dtype
from maskwright.models import clipseg_loader
from maskwright.models.clipseg_store import DEMO_FOLDER, ClipsegStore
from maskwright.nodes import _host as host
from PIL import Image
from rows import Figure, Report

SIDE, VOCABULARY = 1024, 49408
READ_LAYERS = 10  # of the vision tower's 12: the decoder needs no later one
PROMPTS = [
    f"{color} {thing}" for color in ("red", "blue", "green", "white") for thing in ("circle", "leaf", "hat", "cat")
]

ABOUT = f"""Images of {SIDE} x {SIDE}; the model's input is 352 x 352 unless a resolution is named. The earlier node
loads processor and model for every image, and runs one image and one prompt at a time. The floor: the matrix products
and convolutions of the ten vision layers that the decoder needs, and of the decoder; when loading the model also of the
text."""
CACHED = """The vision tower is skipped, so the rest matters more: the decoder, whose 64 channels make narrow products,
the text, and resizing images and masks in 8 bits, like the earlier node, for the same masks."""
COLD = """The floor excludes what a warm call does not repeat: building the model, reading its weights, and arranging
the vision tower's weights for the CPU."""
HALF = """Half precision is what ComfyUI chooses on most GPUs. The floor is that of float32."""
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


def count_model(resolution: int, tokens: int) -> tuple[int, int, int]:
    """Count operations: of the vision tower per image, of the decoder per prompt, and of the text encoder."""
    from transformers import CLIPSegForImageSegmentation

    with torch.device("meta"):  # shapes only
        model = CLIPSegForImageSegmentation(make_config()).eval()
        del model.clip.vision_model.encoder.layers[READ_LAYERS:]
        pixels, ids = torch.zeros(1, 3, resolution, resolution), torch.zeros(1, tokens, dtype=torch.long)
        inputs = {"pixel_values": pixels, "interpolate_pos_encoding": True}
        tower = count_operations(lambda: model.clip.vision_model(**inputs))
        both = count_operations(lambda: model(**inputs, conditional_embeddings=torch.zeros(1, 512)))
        return tower, both - tower, count_operations(lambda: model.clip.text_model(ids))


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

    def __init__(self, report: Report, folder: Path, device: str, quick: bool) -> None:
        self.report, self.folder, self.device = report, folder, device
        self.rounds = 1 if quick else 3
        self.pair = clipseg_loader.load(folder.name, ClipsegStore([folder.parent]))

    def now(self, images: torch.Tensor, prompts: int = 1, resolution: int = 352, changed: bool = True) -> Callable:
        """Return a call of the node; ``changed``: on new images, which are not cached."""
        text = " | ".join(PROMPTS[:prompts])

        def call() -> torch.Tensor:
            if changed:
                images[:, :128, :128] = torch.rand(3)
            return self.mask(images, text, resolution)

        return call

    def mask(self, images: torch.Tensor, text: str, resolution: int = 352) -> torch.Tensor:
        return NODE_CLASS_MAPPINGS["CLIPSegMasking"]().CLIPSeg_image(images, text, self.pair, "", resolution)[0]

    def add(self, what: str, now: Callable, earlier: Callable | None, operations: float, **more) -> None:
        calls = {"now": now} | ({"earlier": earlier} if earlier else {})
        self.report.add_comparison(what, calls, self.rounds, self.device, operations, **more)

    def earlier(self, images: torch.Tensor, prompts: int = 1) -> Callable:
        return lambda: run_earlier(images, PROMPTS[:prompts], self.folder, self.device)

    def add_images(self, count: int, prompts: int = 1, resolution: int = 352, **more) -> None:
        """The earlier node supports only the model's native resolution. It takes minutes for many images or prompts, so
        on a GPU it is omitted there."""
        images, (tower, decoder, _) = smooth_images(count, SIDE), count_model(resolution, 2)
        what = f"{count} image{'s' * (count > 1)}, {prompts} prompt{'s' * (prompts > 1)}"
        what += f", resolution {resolution}" * (resolution != 352)
        is_short = self.device == "cpu" or count * prompts <= 8
        earlier = self.earlier(images, prompts) if resolution == 352 and is_short else None
        self.add(what, self.now(images, prompts, resolution), earlier, count * (tower + prompts * decoder), **more)

    def add_half(self, count: int) -> None:
        """The model in half precision."""
        processor, model = full = self.pair
        self.pair = processor, copy_with_dtype(model, torch.float16).to(self.device)
        images, (tower, decoder, _) = smooth_images(count, SIDE), count_model(352, 2)
        operations = count * (tower + decoder)
        self.add(f"{count} images, 1 prompt, float16", self.now(images), None, operations, note=HALF)
        self.pair = full

    def add_cached(self, count: int) -> None:
        """The images of the previous call, with a new prompt each time and with the same prompt."""
        images, numbers = smooth_images(count, SIDE), itertools.count()
        tokens = len(self.pair[0].tokenizer("circle number 10")["input_ids"])
        _, decoder, text = count_model(352, tokens)
        another = lambda: self.mask(images, f"circle number {next(numbers)}")  # noqa: E731
        same = self.now(images, changed=False)
        for name, call, more in (("another", another, text), ("same", same, 0)):
            what, operations = f"{count} cached images, {name} prompt", count * decoder + more
            self.add(what, call, self.earlier(images), operations, note=CACHED, headline=name == "another")

    def add_cold(self) -> None:
        """The first image after the model is loaded, as in a new process."""
        images, store = smooth_images(1, SIDE), ClipsegStore([self.folder.parent])

        def now() -> None:
            clipseg_loader.release()
            pair = clipseg_loader.load(self.folder.name, store)
            NODE_CLASS_MAPPINGS["CLIPSegMasking"]().CLIPSeg_image(images, PROMPTS[0], pair, "", 352)

        operations = sum(count_model(352, len(self.pair[0].tokenizer(PROMPTS[0])["input_ids"])))
        self.add("1 image, loading the model", now, self.earlier(images), operations, at_least=1, note=COLD)


def measure(bench: Bench, quick: bool) -> None:
    images = smooth_images(2 if quick else 8, SIDE)
    most = round(255 * (bench.mask(images, PROMPTS[0]) - bench.earlier(images)()).abs().max().item(), 3)
    what = f"largest difference to the earlier node's masks, {len(images)} images"
    bench.report.add(Figure(what, most, "/255", bench.device, 2 if bench.device == "cpu" else None))
    for count in (1, 2) if quick else (1, 8, 64):
        bench.add_images(count, **({"at_least": 2, "headline": True} if count == 8 else {}))
    for prompts in (4,) if quick else (4, 16):
        bench.add_images(1, prompts)
    if bench.device == "cpu":  # on a GPU nothing is cached
        bench.add_cached(1 if quick else 4)
    else:
        bench.add_half(2 if quick else 8)
    for prompts in () if quick else (1, 4):
        bench.add_images(1, prompts, 704)
    bench.add_cold()
    one, rounds = smooth_images(1, SIDE), bench.rounds
    growths = [("prompts, 1 and 10", bench.now(one), bench.now(one, 10), "", rounds)]
    if not quick:
        few, many = (bench.now(smooth_images(count, SIDE)) for count in (2, 20))
        large = bench.now(one, resolution=1120)
        growths += [("images, 2 and 20", few, many, "", 2)]
        growths += [("input pixels, 352 and 1120", bench.now(one), large, TILES, 2)]
    for what, less, more, note, rounds in growths:
        bench.report.add_growth(what, less, more, bench.device, note, rounds)


def main(quick: bool) -> None:
    report = Report("CLIPSegMasking", ABOUT)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "real size"
        write_model(folder)
        for device in devices():
            with patch.object(host, "device", lambda: torch.device(device)):
                measure(Bench(report, folder, device, quick), quick)


if __name__ == "__main__":
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    main("--quick" in sys.argv)
