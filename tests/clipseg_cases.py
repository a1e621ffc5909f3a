"""Images and expected results for the tests of text to mask, which use the tiny model of `tiny_clipseg`."""

from __future__ import annotations

import numpy as np
import tiny_clipseg
import torch
from maskwright.core import tensors
from maskwright.core.text.clipseg_engine import Segmenter
from maskwright.core.text.query import Query
from maskwright.core.text.segment import score
from PIL import Image


def random_image(*shape: int, seed: int = 0) -> torch.Tensor:
    """Images with coarse and fine structure, so that every filter has an effect."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(shape[0], 3, 4, 5, generator=generator)
    fine = torch.rand(shape[0], shape[3], *shape[1:3], generator=generator)
    fine[:, :3] = (
        0.7 * torch.nn.functional.interpolate(coarse, shape[1:3], mode="bicubic").clamp(0, 1) + 0.3 * fine[:, :3]
    )
    return tensors.bchw_to_image(fine)


def plain_logits(pair: tuple, image: torch.Tensor, text: str) -> torch.Tensor:
    """Plain transformers on 8-bit images, one at a time, as in the original nodes."""
    processor, model = pair
    rows = []
    for each in image:
        pil_image = Image.fromarray((each[..., :3].numpy() * 255).astype(np.uint8))
        inputs = processor(text=[text], images=pil_image, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(**inputs).logits.reshape(1, *model_side(pair)))
    return torch.cat(rows)


def model_side(pair: tuple) -> tuple[int, int]:
    per_patch = (tiny_clipseg.PATCH // 4) ** 2  # the decoder's two transposed convolutions
    side = tiny_clipseg.IMAGE_SIZE // tiny_clipseg.PATCH * per_patch
    return side, side


def probabilities(segmenter: Segmenter, image: torch.Tensor, *query: object) -> torch.Tensor:
    return score(image, segmenter, Query(*query), "none").masks


class Counter:
    """A `Progress` that counts."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, count: int = 1) -> None:
        self.steps += count
