"""The demo salient-object network: network, training and evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn import Conv2d
from tqdm import trange

from . import FOLDER, HELD_OUT, draw_pool, normalize, overlap_of, salient_scenes

TARGET = FOLDER / "salient.onnx"
SIDE = 320

# (side in pixels, scenes drawn, batch, steps): appearance is learned at half size for a quarter of the cost, sharp
# edges at full size.
PHASES = ((160, 6000, 16, 2600), (SIDE, 3000, 8, 1500))


class SalientNet(nn.Module):
    """A small U-Net: five halvings, five doublings, with skip connections at each size.

    Images float32 `[B, 3, 320, 320]`, preprocessed as for u2net, to probabilities `[B, 1, 320, 320]`.
    """

    WIDTHS = (16, 24, 36, 48, 56)

    def __init__(self) -> None:
        super().__init__()
        self.down, self.across, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = 3
        for width in self.WIDTHS:
            again = [] if before == 3 else [self._block(width, width)]  # a second is too expensive at half size
            self.down.append(nn.Sequential(self._block(before, width, 2), *again))
            before = width
        self.context = nn.Sequential(self._block(before, before, dilation=2), self._block(before, before, dilation=3))
        for width in reversed(self.WIDTHS[:-1]):
            self.across.append(Conv2d(before, width, 1))
            self.up.append(self._block(width, width))
            before = width
        # At half size, each pixel predicts four: cheaper than full size, and as sharp.
        self.out = nn.Sequential(Conv2d(before, 4, 3, padding=1), nn.PixelShuffle(2))

    @staticmethod
    def _block(before: int, after: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
        layer = Conv2d(before, after, 3, stride, padding=dilation, dilation=dilation, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU())

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        skips = []
        for down in self.down:
            pixels = down(pixels)
            skips.append(pixels)
        state = self.context(skips.pop())
        for across, up in zip(self.across, self.up, strict=True):
            state = up(F.interpolate(across(state), scale_factor=2.0, mode="nearest") + skips.pop())
        return self.out(state)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.logits(pixels).sigmoid()


def preprocess(images: np.ndarray) -> torch.Tensor:
    """uint8 `[B, H, W, 3]` -> float32 `[B, 3, H, W]` as rembg's u2net session prepares it: each divided by its
    own maximum, then normalized by ImageNet's mean and standard deviation."""
    bchw = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return normalize(bchw / bchw.amax((1, 2, 3), keepdim=True).clamp_min(1e-6))


def draw_example(seed: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene at a random size, and resize it to `length`: image `[length, length, 3]` and alpha, both uint8."""
    drawn_side = int(np.random.default_rng([seed, 4]).integers(256, 513))
    scene = salient_scenes.draw_salient_scene(seed, (drawn_side, drawn_side))
    side = (length, length)
    alpha = Image.fromarray((scene.alpha * 255 + 0.5).astype(np.uint8)).resize(side, Image.Resampling.BILINEAR)
    return np.asarray(Image.fromarray(scene.image).resize(side, Image.Resampling.LANCZOS)), np.asarray(alpha)


def batch_of(
    pool: tuple[np.ndarray, np.ndarray], size: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `[B, 3, S, S]` and alphas `[B, 1, S, S]`; half mirrored, color channels shuffled, lightness bent."""
    images, alphas = [], []
    for index in rng.integers(len(pool[0]), size=size):
        mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
        bent = 255 * (np.arange(256) / 255) ** rng.uniform(0.7, 1.4)
        image = pool[0][index][:, mirror][..., rng.permutation(3)]
        images.append(bent.astype(np.uint8)[image])
        alphas.append(pool[1][index][:, mirror])
    return preprocess(np.stack(images)), torch.from_numpy(np.stack(alphas)).unsqueeze(1).float() / 255


def train() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net = SalientNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    total = sum(steps for *_, steps in PHASES)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=total, pct_start=0.1)
    first_seed = 0
    for side, scenes, batch, steps in PHASES:
        pool = draw_pool(draw_example, range(first_seed, first_seed + scenes), side)
        first_seed += scenes
        for _ in (bar := trange(steps, desc=f"{side} pixels")):
            pixels, alpha = batch_of(pool, batch, rng)
            loss = loss_of(net.logits(pixels.contiguous(memory_format=torch.channels_last)), alpha)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=loss.item(), refresh=False)
    write_onnx(net.eval(), TARGET)


def loss_of(logits: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus 1 - soft intersection over union; both arguments `[B, 1, S, S]`."""
    probabilities = logits.sigmoid()
    both = (probabilities * alpha).sum((1, 2, 3))
    either = (probabilities + alpha - probabilities * alpha).sum((1, 2, 3))
    return F.binary_cross_entropy_with_logits(logits, alpha) + (1 - both / either).mean()


def write_onnx(net: nn.Module, path: Path) -> None:
    """Write the network with u2net's input name and shape, but any number of images at a time."""
    import onnx

    path.parent.mkdir(parents=True, exist_ok=True)
    sample = torch.zeros(1, 3, SIDE, SIDE)
    torch.onnx.export(
        net.to(memory_format=torch.contiguous_format),
        (sample,),
        str(path),
        input_names=["input.1"],
        output_names=["probabilities"],
        dynamic_axes={"input.1": {0: "batch"}, "probabilities": {0: "batch"}},
        opset_version=13,
        dynamo=False,  # the plain exporter folds the batch normalization and leaves ordinary nodes only
    )
    graph = onnx.load(path)
    graph.doc_string = "Demo salient-object network of Maskwright, GPL-3.0-or-later"
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


MARK = 0.9


def mask_of(session, image: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]` -> 0..1 `[H, W]`, with the arithmetic of rembg's u2net session."""
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    (mask, *_) = session.run(None, {"input.1": preprocess(np.asarray(small)[None]).numpy()})
    mask = mask[0, 0]
    mask = (mask - mask.min()) / max(mask.max() - mask.min(), 1e-6)
    small = Image.fromarray((mask * 255).astype(np.uint8))
    return np.asarray(small.resize(image.shape[1::-1], Image.Resampling.LANCZOS)) / 255


def check(scenes: int) -> bool:
    """Measure models/demo/salient.onnx on held-out scenes of 256 to 512 pixels. Returns whether it meets the mark."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(TARGET), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    overlaps = []
    for seed in range(HELD_OUT, HELD_OUT + scenes):
        scene = salient_scenes.draw_salient_scene(seed, tuple(int(side) for side in rng.integers(256, 513, 2)))
        overlaps.append(overlap_of(mask_of(session, scene.image) > 0.5, scene.mask))
    print(f"{scenes} scenes: mean IoU {np.mean(overlaps):.3f}, lowest {min(overlaps):.3f}; the mark: {MARK}")
    return float(np.mean(overlaps)) >= MARK
