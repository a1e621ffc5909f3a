"""How fast text to mask is, beside the earlier nodes' way, and how much memory a batch takes.

The model has the published one's size (ViT-B/16 at 352 x 352, about 600 MB) and random weights, written into a
temporary folder. The earlier way loads processor and model from that folder for every picture and runs one picture a
pass; this pack's is the node CLIPSegMasking, warm. Both run in turns in one process; medians are told.

    python bench/bench_clipseg.py [--quick]

``--quick`` takes fewer pictures and one turn: it shows that everything runs, its numbers say little.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import string
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _side_by_side import ROOT, seconds
from PIL import Image

sys.path.insert(0, str(ROOT / "tests"))

import tiny_clipseg
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core import clipseg
from maskwright.core.last_tensors import LastTensors
from maskwright.core.side_by_side import side_by_side
from maskwright.models import clipseg as models

# What the model saw in the last pictures is kept. Here every picture counts as new, until a row asks for one again.
KEPT, clipseg._PICTURES = clipseg._PICTURES, LastTensors(0)

NAME = "real size"
PROMPT = "red circle"
FOUR_PROMPTS = "red circle | blue square | sky | hair"


def write_model(folder: Path) -> Path:
    """A CLIPSeg of the published model's size with random weights, and a tokenizer of its size, as files."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    tiny_clipseg.write(folder)  # for the other files; model and vocabulary are replaced
    vocabulary = write_vocabulary(folder, 49408)
    config = CLIPSegConfig(
        text_config={
            "vocab_size": vocabulary,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
        },
        vision_config={"image_size": 352, "patch_size": 16},
        extract_layers=[3, 6, 9],
        reduce_dim=64,
        use_complex_transposed_convolution=True,
    )
    model = CLIPSegForImageSegmentation(config).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # larger than at the start of a training, so that logits differ from pixel to pixel
            parameter.normal_(0, 1.2 / parameter[0].numel() ** 0.5, generator=generator)
    model.save_pretrained(folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    settings["size"] = {"height": 352, "width": 352}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def write_vocabulary(folder: Path, size: int) -> int:
    """A byte-level vocabulary like CLIP's, of single letters and words of two to four; reading it takes time."""
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    special = ["<|startoftext|>", "<|endoftext|>"]
    tokens = dict.fromkeys(token for token in vocabulary if len(token.removesuffix("</w>")) == 1)
    merges = []
    starts = list(string.ascii_lowercase)
    while len(tokens) < size - len(special):
        longer = []
        for start, letter in itertools.product(starts, string.ascii_lowercase):
            for token in (start + letter, start + letter + "</w>"):
                if len(tokens) < size - len(special):
                    merges.append(f"{start} {token.removeprefix(start)}")
                    tokens[token] = None
            longer.append(start + letter)
        starts = longer
    numbers = {token: number for number, token in enumerate([*tokens, *special])}
    (folder / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return len(numbers)


def pictures(count: int, side: int = 1024) -> torch.Tensor:
    """``[count,side,side,3]`` contiguous, as ComfyUI loads them: smooth, with some noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 16, 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False)
    smooth.add_(torch.rand(1, 1, side, side, generator=generator), alpha=0.1).clamp_(0, 1)
    return smooth.permute(0, 2, 3, 1).contiguous()  # [B,C,H,W] -> [B,H,W,C]


def earlier(images: torch.Tensor, text: str, folder: Path, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Masks and logits as the earlier node made them: everything anew for every picture."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    masks, rows, size = [], [], None
    for image in images:
        picture = Image.fromarray(np.clip(255.0 * image.numpy(), 0, 255).astype(np.uint8))
        size = size or picture.size
        processor = CLIPSegProcessor.from_pretrained(folder)
        model = CLIPSegForImageSegmentation.from_pretrained(folder).to(device)
        with torch.no_grad():
            inputs = processor(text=text, images=picture, padding=True, return_tensors="pt").to(device)
            logits = model(**inputs).logits.reshape(352, 352)
        p = logits.sigmoid()
        levels = (((p - p.min()) / p.max()).cpu().numpy() * 255).astype(np.uint8)
        grey = Image.fromarray(levels).resize(size).convert("RGB")
        colours = torch.from_numpy(np.asarray(grey).astype(np.float32) / 255)
        masks.append((colours * torch.tensor([0.299, 0.587, 0.114])).sum(-1))
        rows.append(logits.cpu())
    return torch.stack(masks), torch.stack(rows)


def row(what: str, value: str, target: str = "") -> None:
    print(f"{what:<64}{value:>18}  {target}", flush=True)


class Pack:
    """The pack's node with the model in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.pair = models.load(folder.name, [folder.parent])
        self._node = NODE_CLASS_MAPPINGS["CLIPSegMasking"]()

    def masks(self, images: torch.Tensor, text: str) -> torch.Tensor:
        return self._node.CLIPSeg_image(images, text, self.pair)[0]

    def logits(self, images: torch.Tensor, text: str) -> torch.Tensor:
        segmenter = clipseg.Segmenter(*self.pair)
        with torch.no_grad():
            embedding = segmenter.text_embedding(text)
            return torch.cat(
                [
                    segmenter.logits(segmenter.activations(segmenter.pixel_values(image, 352)), embedding)
                    for image in images.split(1)
                ]
            )


def matrix_products(count: int) -> Callable[[], object]:
    """Does as many operations as the vision tower's matrix products for ``count`` pictures, and nothing else.

    In each of the ten layers that the decoder reads n = 22 x 22 + 1 tokens of width d = 768 take 12 d^2 products in the
    projections and the two-layer network, and 2 n d in the attention. Here all are done as the largest of them, n x d
    by d x 4 d, which runs fastest.
    """
    tokens, width, layers = 22 * 22 + 1, 768, 10
    products = count * layers * tokens * (12 * width**2 + 2 * tokens * width) // (tokens * 4 * width**2)
    seen, weight = torch.rand(tokens, width), torch.rand(4 * width, width)
    return lambda: side_by_side(lambda _: torch.nn.functional.linear(seen, weight), range(products))


def bench_node(folder: Path, count: int, turns: int) -> None:
    """The node where it runs by itself: on CUDA where there is one, else on the CPU. The earlier way is on the CPU."""
    ours = Pack(folder)
    images = pictures(count)
    new, (old, old_logits) = ours.masks(images, PROMPT), earlier(images, PROMPT, folder)
    difference = (ours.logits(images, PROMPT) - old_logits).abs().max().item()
    row("largest difference of logits", f"{difference:.1e}", f"at most 1e-4; their deviation is {old_logits.std():.2f}")
    row("largest difference of masks, in 1/255", f"{(new - old).abs().max().item() * 255:.2f}", "at most 2")

    ways = {"now": lambda: ours.masks(images, PROMPT), "earlier": lambda: earlier(images, PROMPT, folder)}
    if not torch.cuda.is_available():
        ways["floor"] = matrix_products(count)
    taken = seconds(ways, turns)
    row(f"{count} pictures of 1024 x 1024, earlier way", f"{taken['earlier']:.2f} s")
    row(f"{count} pictures of 1024 x 1024, CLIPSegMasking", f"{taken['now']:.2f} s")
    row("times as fast", f"{taken['earlier'] / taken['now']:.2f}", "at least 2")
    if "floor" in taken:
        above = f"now takes {taken['now'] / taken['floor']:.2f} times that"
        row("the model's matrix products alone", f"{taken['floor']:.2f} s", above)

    single = images[:1]
    ways = {"one": lambda: ours.masks(single, PROMPT), "four": lambda: ours.masks(single, FOUR_PROMPTS)}
    taken = seconds(ways, 3 * turns)
    row("1 picture, 1 prompt", f"{taken['one']:.3f} s")
    row("1 picture, 4 prompts", f"{taken['four']:.3f} s")
    row("times as long", f"{taken['four'] / taken['one']:.2f}", "under 1.3")
    clipseg._PICTURES = KEPT
    again = seconds({"again": lambda: ours.masks(single, PROMPT)}, 3 * turns)["again"]
    row("the same picture again", f"{again:.3f} s")

    text_model, calls = ours.pair[1].clip.text_model, []
    hook = text_model.register_forward_hook(lambda *_: calls.append(1))
    ours.masks(single, FOUR_PROMPTS)
    hook.remove()
    row("texts encoded by a second run of the same text", str(len(calls)), "0")


def bench_cuda(folder: Path, count: int, turns: int) -> None:
    """Pictures a second on the GPU, from pictures in main memory to masks in main memory."""
    processor, model = Pack(folder).pair
    images = pictures(count)
    few = images[:4]
    query = clipseg.Query(PROMPT)
    ways = {"earlier": lambda: earlier(few, PROMPT, folder, "cuda")}
    for dtype in (torch.float32, torch.float16):
        segmenter = clipseg.Segmenter(processor, clipseg.copy_as(model, dtype).to(device="cuda"))
        name = str(dtype).removeprefix("torch.")
        ways[name] = lambda segmenter=segmenter: clipseg.masking(images, segmenter, query)
    taken = seconds(ways, turns)
    before = len(few) / taken.pop("earlier")
    row("CUDA, earlier way (model on the GPU)", f"{before:.1f} pictures/s")
    for name, spent in taken.items():
        row(f"CUDA, {name}", f"{count / spent:.1f} pictures/s", f"{count / spent / before:.0f} times")


def peak_of(folder: Path, count: int) -> None:
    """Print the most bytes this process held during a run, less the pictures and masks themselves."""
    ours = Pack(folder)
    images = pictures(count)
    ours.masks(images[:1], PROMPT)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    masks = ours.masks(images, PROMPT)
    done.set()
    watcher.join()
    import resource

    print(peak * resource.getpagesize() - sum(each.untyped_storage().nbytes() for each in (images, masks)))


def bench_memory(folder: Path, counts: tuple[int, int]) -> None:
    if not Path("/proc/self/statm").exists():
        row("peak memory", "not measured", "needs Linux")
        return
    peaks = []
    for count in counts:
        command = [sys.executable, __file__, "--peak", str(count), "--model", str(folder)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append(int(told.split()[-1]))
        row(f"peak memory less pictures and masks, {count} pictures", f"{peaks[-1] / 1e6:.0f} MB")
    row("times as much", f"{peaks[1] / peaks[0]:.2f}", "at most 1.2")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="fewer pictures, one turn")
    arguments.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.peak:
        peak_of(options.model, options.peak)
        return

    import transformers

    transformers.logging.set_verbosity_error()
    getattr(transformers.logging, "disable_progress_bar", lambda: None)()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads")
    print(f"{platform.platform()}, {torch.cuda.get_device_name() if torch.cuda.is_available() else 'no CUDA'}\n")
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_model(Path(scratch) / NAME)
        turns = 1 if options.quick else 3
        bench_node(folder, 2 if options.quick else 8, turns)
        if torch.cuda.is_available():
            bench_cuda(folder, 8 if options.quick else 64, turns)
        bench_memory(folder, (2, 6) if options.quick else (8, 64))


if __name__ == "__main__":
    main()
