"""The CLIPSeg model that benchmarks run: of the published one's size, with random weights; and what it has to compute.

Operations are counted, two for each multiplication with its addition, and only those of matrix products and
convolutions, so that all else (softmax, GELU, normalisation) counts as nothing.
"""

from __future__ import annotations

import functools
import itertools
import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from _measuring import seconds
from maskwright.core.parallel import parallel_map
from maskwright.core.text import packed_layers
from maskwright.core.text.query import RESOLUTION
from maskwright.core.text.tiles import _MAX_UNTILED_SCALE, _tile_starts
from tiny_clipseg import write as write_tiny_model
from torch.nn import functional

PATCH = 16
VOCABULARY = 49408
LAYERS_READ = 10  # of the tower's twelve: the decoder reads nothing behind the tenth


def write_model(folder: Path) -> Path:
    """The model and a tokenizer of the published one's size, as files."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    write_tiny_model(folder)  # for the other files; model and vocabulary are replaced
    vocabulary = _write_vocabulary(folder)
    config = CLIPSegConfig(
        text_config={
            "vocab_size": vocabulary,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
        },
        vision_config={"image_size": RESOLUTION, "patch_size": PATCH},
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
    settings["size"] = {"height": RESOLUTION, "width": RESOLUTION}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _write_vocabulary(folder: Path) -> int:
    """A byte-level vocabulary like CLIP's, of single letters and words of two to four; reading it takes time."""
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    special = ["<|startoftext|>", "<|endoftext|>"]
    tokens = dict.fromkeys(token for token in vocabulary if len(token.removesuffix("</w>")) == 1)
    merges = []
    starts = list(string.ascii_lowercase)
    while len(tokens) < VOCABULARY - len(special):
        longer = []
        for start, letter in itertools.product(starts, string.ascii_lowercase):
            for token in (start + letter, start + letter + "</w>"):
                if len(tokens) < VOCABULARY - len(special):
                    merges.append(f"{start} {token.removeprefix(start)}")
                    tokens[token] = None
            longer.append(start + letter)
        starts = longer
    numbers = {token: number for number, token in enumerate([*tokens, *special])}
    (folder / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return len(numbers)


@dataclass(frozen=True)
class Transformer:
    """Layers of self-attention and a two-layer network, one after the other."""

    layers: int
    width: int
    heads: int
    inner: int

    def operations(self, tokens: int) -> int:
        """n d^2 products for each of queries, keys, values and result, n^2 d for scores and sums, 2 n d i behind."""
        products = 4 * tokens * self.width**2 + 2 * tokens**2 * self.width + 2 * tokens * self.width * self.inner
        return 2 * self.layers * products


TOWER = Transformer(LAYERS_READ, 768, 12, 3072)
DECODER = Transformer(3, 64, 4, 2048)
TEXT = Transformer(12, 512, 8, 2048)
# A text is read with all weights of its tower, whatever its length.
TEXT_BYTES = TEXT.layers * (4 * TEXT.width**2 + 2 * TEXT.width * TEXT.inner) * 4


def tiles(resolution: int) -> tuple[int, int]:
    """How many tiles the pack looks at for one picture, and the patches in each."""
    side, largest = resolution // PATCH, _MAX_UNTILED_SCALE * RESOLUTION // PATCH
    if side <= largest:
        return 1, side**2
    return len(_tile_starts(side, largest)) ** 2, largest**2


def tower_operations(resolution: int = RESOLUTION) -> int:
    """Of the vision tower for one picture: its patches, one more token, and the layers that the decoder reads."""
    count, patches = tiles(resolution)
    return count * (2 * patches * 3 * PATCH**2 * TOWER.width + TOWER.operations(patches + 1))


def decoder_operations(prompts: int, resolution: int = RESOLUTION) -> int:
    """Of the decoder for one picture: what it reads is made narrow once, the rest is done for each prompt."""
    count, patches = tiles(resolution)
    width = DECODER.width
    narrow = 2 * DECODER.layers * (patches + 1) * TOWER.width * width
    # A convolution of 3 x 3, then two that are transposed and make each patch 4 x 4 and 16 x 16 pixels.
    pixels = 2 * patches * (9 * width**2 + 16 * width * width // 2 + 16 * 16 * width // 2)
    return count * (narrow + prompts * (DECODER.operations(patches + 1) + pixels))


@functools.cache
def products_alone(
    part: Transformer, patches: int, together: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> float:
    """The operations a second that a transformer's matrix products and attention reach with nothing between them.

    In the shapes that they have in it, each layer with weights of its own, and by the means that the pack uses; on CUDA
    a batch, on the CPU pictures side by side.

    Args:
        together: How many pictures at once.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator).to(device, dtype)

    tokens, width, inner = patches + 1, part.width, part.inner
    batch = together if device == "cuda" else 1
    seen, wide = random(batch, tokens, width), random(batch, tokens, inner)
    heads = random(batch, part.heads, tokens, width // part.heads)
    packed = part == TOWER and device == "cpu" and dtype == torch.float32 and packed_layers.operators_work()
    first = [(3 * width, width)] if packed else [(width, width)] * 3  # queries, keys and values
    shapes = [*first, (width, width), (inner, width), (width, inner)]

    def product(rows: int, columns: int) -> Callable[[], object]:
        x, weight = (seen if columns == width else wide), random(rows, columns)
        if not packed:
            return lambda: functional.linear(x, weight)
        faster = packed_layers._Product(weight, random(rows))
        return lambda: faster(x)

    with torch.no_grad():
        products = [product(*shape) for _ in range(part.layers) for shape in shapes]

    def work(_: object) -> None:
        for each in products:
            each()
        for _ in range(part.layers):
            functional.scaled_dot_product_attention(heads, heads, heads)

    def way() -> None:
        with torch.no_grad():
            if device == "cuda":
                work(None)
            else:
                parallel_map(work, range(together))

    way()
    return together * part.operations(tokens) / min(seconds(way, device) for _ in range(2))
