"""The detailer's own work: what a run costs besides the sampler and the VAE, on the CPU with a small made-up model.

The model is a stack of convolutions, so that sampling costs what it costs for a small UNet; its answer is of no use.
The second table holds cropping, resizing and blending against the earlier way (8 bits through Pillow, and the mask
drawn for every region in the size of the picture).

    python3 tools/dev.py bench detailer [--quick]
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from _side_by_side import seconds
from maskwright.core import masks, regions, tensors
from maskwright.core.detailer import Backend, DetailerSettings, detail
from maskwright.core.interfaces import Pipe, Sampling
from PIL import Image
from torch.nn import Conv2d


@dataclass
class Clock:
    spent: float = 0.0

    def timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*given: Any) -> Any:
            start = time.perf_counter()
            result = work(*given)
            self.spent += time.perf_counter() - start
            return result

        return wrapper


def convolutions(channels: int, hidden: int) -> torch.nn.Module:
    widths = (channels, hidden, 2 * hidden, 2 * hidden, hidden, channels)
    layers = [Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)]
    return torch.nn.Sequential(*layers).requires_grad_(False)


@dataclass
class CostlySampler:
    """Runs the model for each step, twice as guidance does."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.sample = self.clock.timed(self.sample)

    def expect(self, steps: int) -> None:
        return None

    def rows_are_independent(self, sampler_name: str) -> bool:
        return True

    def with_soft_noise_mask(self, model: Any) -> Any:
        return model

    def sample(self, run: Sampling) -> torch.Tensor:
        x = run.latent["samples"]
        for _ in range(run.start_step, run.end_step):
            x = x + 1e-4 * run.model(torch.cat([x, x])).chunk(2)[0].clamp(-1, 1)
        return x


@dataclass
class CostlyVae:
    clock: Clock = field(default_factory=Clock)
    multiple: int = 8

    def __post_init__(self) -> None:
        self.encode, self.decode = self.clock.timed(self.encode), self.clock.timed(self.decode)
        self.layers = convolutions(3, 8)

    def encode(self, image: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        bchw = tensors.image_to_bchw(image)
        return F.avg_pool2d(bchw + 0 * self.layers(bchw), 8).repeat(1, 2, 1, 1)[:, :4]

    def decode(self, samples: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        bchw = F.interpolate(samples[:, :3], scale_factor=8.0, mode="bilinear")
        return tensors.bchw_to_image(bchw + 0 * self.layers(bchw))


def squares(height: int, width: int, count: int, side: int) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    for i in range(count):
        x, y = 20 + (i % 4) * (width // 4), 20 + (i // 4) * (height // 2)
        mask[:, y : y + side, x : x + side] = 1
    return mask


def the_earlier_way(image: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    """Find, crop, enlarge, reduce and blend: through Pillow in 8 bits, the mask drawn as large as the picture."""
    image = image.clone()
    levels = (mask[0].numpy() * 255).astype(np.uint8)
    contours, _ = cv2.findContours(levels, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        drawn = np.zeros_like(levels)
        cv2.drawContours(drawn, [contour], 0, 255, -1)
        selected = (drawn / 255.0).astype(np.float32)
        x, y, w, h = cv2.boundingRect(contour)
        box = regions.crop_region(regions.Box(x, y, x + w, y + h), 3, mask.shape[2], mask.shape[1])
        crop = Image.fromarray((box.cut(image)[0].numpy() * 255).clip(0, 255).astype(np.uint8))
        large = tensors.from_pil(crop.resize((size, size), Image.Resampling.LANCZOS))
        small = tensors.to_pil(large).resize((box.width, box.height), Image.Resampling.LANCZOS)
        soft = cv2.GaussianBlur(selected[box.y1 : box.y2, box.x1 : box.x2], (11, 11), 10)
        share = torch.from_numpy(soft).unsqueeze(-1)
        there = box.cut(image)[0]
        there.copy_((1 - share) * there + share * tensors.from_pil(small))
    return image


def this_way(image: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    image = image.clone()
    whole = regions.Box(0, 0, image.shape[2], image.shape[1])
    for region in regions.find_regions(mask, 3):
        box = region.crop
        large = tensors.resize_lanczos(box.cut(image), size, size)
        small = tensors.resize_lanczos(large, box.height, box.width)
        soft = masks.feather(region.mask, 5, box.sides_inside(whole))
        writes = region.bbox.grown(5, box)
        there, here = writes.cut(image), writes.seen_from(box)
        there.copy_(torch.lerp(there, here.cut(small), here.cut(soft).unsqueeze(-1)))
    return image


def main(arguments: list[str]) -> int:
    quick = "--quick" in arguments
    side, steps, hidden, rounds = (512, 4, 48, 2) if quick else (1024, 20, 64, 3)
    height, width = 512, side
    image = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(0))
    model = convolutions(4, hidden)
    print(f"MaskDetailerPipe, {width} x {height}, {steps} steps, {torch.get_num_threads()} threads")
    head = f"{'regions':>8}{'together':>10}{'total, s':>10}{'sampler':>10}{'VAE':>8}{'own':>8}{'own share':>11}"
    print(head)
    for count, together in ((1, 1), (8, 1), (8, 4)):
        mask = squares(height, width, count, 64)
        options = DetailerSettings(guide_size=128, steps=steps, region_batch=together)
        best = None
        for _ in range(rounds):
            sampler, vae = CostlySampler(), CostlyVae()
            start = time.perf_counter()
            detail(image, mask, Pipe(model, None, None), Backend(sampler, vae), options)
            total = time.perf_counter() - start
            own = total - sampler.clock.spent - vae.clock.spent
            if best is None or own / total < best[3] / best[0]:
                best = (total, sampler.clock.spent, vae.clock.spent, own)
        total, sampled, coded, own = best
        row = f"{count:>8}{together:>10}{total:>10.2f}{sampled:>10.2f}{coded:>8.2f}{own:>8.3f}{own / total:>11.1%}"
        print(row, flush=True)

    print("\nFinding, cropping, enlarging, reducing and blending alone, 8 regions of 192 x 192")
    print(f"{'sampled at':>12}{'earlier, ms':>14}{'now, ms':>10}{'ratio':>8}")
    mask = squares(height, width, 8, 64)
    for size in (384, 768):
        ways = {"earlier": lambda: the_earlier_way(image, mask, size), "now": lambda: this_way(image, mask, size)}
        spent = seconds(ways, rounds)
        ratio = spent["earlier"] / spent["now"]
        print(f"{size:>12}{spent['earlier'] * 1e3:>14.1f}{spent['now'] * 1e3:>10.1f}{ratio:>8.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
