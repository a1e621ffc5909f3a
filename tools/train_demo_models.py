#!/usr/bin/env python3
"""Trains the demo models of models/demo/ on the scenes of tests/demo_scenes.

    .venv/bin/python tools/train_demo_models.py clipseg     write models/demo/clipseg/model.safetensors
    .venv/bin/python tools/train_demo_models.py salient     write models/demo/salient.onnx

The models in the repository were trained by longer versions of this script: clipseg at commit b81f1b6, in stages from
single shapes to whole scenes, which takes nineteen minutes on two processor cores; salient at commit f0c9076, on more
varied objects, fourteen minutes. Networks, losses and file formats are the same, but what this script trains may be
less exact; tests/test_demo_models.py measures it. Nothing is downloaded, and no existing weights are used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from pack import ROOT
from PIL import Image
from torch import nn
from torch.nn import Conv2d, Linear
from tqdm import trange

sys.path.insert(0, str(ROOT / "tests"))

from demo_scenes import salient_scenes, shape_scenes
from demo_scenes.shape_scenes import COLORS, SHAPES

CLIPSEG, SALIENT = ROOT / "models" / "demo" / "clipseg", ROOT / "models" / "demo" / "salient.onnx"
SCENES = 3000
SIDE, PATCH = 352, 16  # CLIPSeg's processor resizes to this side
SALIENT_SIDE = 320
MEAN, DEVIATION = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)

Pool = tuple[np.ndarray, np.ndarray]
"""Images, uint8 `[N, S, S, 3]`, and what is in them, uint8 `[N, S, S]`."""


def draw_pool(draw: Callable) -> Pool:
    """The pairs of arrays that `draw` returns for the seeds, stacked; on all cores."""
    with ProcessPoolExecutor() as workers:
        first, second = zip(*workers.map(draw, range(SCENES), chunksize=50), strict=True)
    return np.stack(first), np.stack(second)


def train(model: nn.Module, steps: int, rate: float, loss_of_step: Callable[[int], torch.Tensor]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    for step in (bar := trange(steps)):
        loss = loss_of_step(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=loss.item(), refresh=False)


# -- the demo CLIPSeg ----------------------------------------------------------------------------------------------

BATCH, PROMPTS, STEPS, RATE = 8, 4, 6000, 2e-3
WARMUP = 0.2  # the share of the steps before any mask is trained: first the encoder learns to see shapes
# A pixel's class is 0 for background, else 1 + color * len(SHAPES) + shape. What a prompt means is the set of classes
# that it selects, which covers "red circle", "circle", "red shape" and "background" alike.
CLASSES = 1 + len(COLORS) * len(SHAPES)
# Words that should select nothing. They also teach the model that unknown texts mean nothing.
OTHER_WORDS = """cat dog bird horse person man woman face hair eye hand dress shirt car bus road tree leaf flower grass
sky cloud sun moon sea water sand stone wall house window door table chair cup plate apple banana bread book lamp
clock""".split()  # noqa: SIM905 - shorter than a list


def all_prompts() -> list[tuple[str, np.ndarray]]:
    """Every text that the model is trained on with the classes that it selects, bool `[CLASSES]`."""
    number = np.arange(CLASSES)
    is_color = {name: (number - 1) // len(SHAPES) == index for index, name in enumerate(COLORS)}
    is_shape = {name: (number > 0) & ((number - 1) % len(SHAPES) == index) for index, name in enumerate(SHAPES)}
    nouns = {f"{color} {shape}": is_color[color] & is_shape[shape] for color in COLORS for shape in SHAPES}
    nouns |= {f"{color} shape": selects for color, selects in is_color.items()} | is_shape | {"shape": number > 0}
    prompts = [(f"{article}{noun}", selects) for noun, selects in nouns.items() for article in ("", "a ", "the ")]
    prompts += [(f"all {noun}s", selects) for noun, selects in nouns.items()]
    prompts += [*is_color.items(), ("background", number == 0), ("the background", number == 0)]
    return prompts + [(word, number < 0) for word in OTHER_WORDS]


def draw_shapes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene at a random size, and resize it as CLIPSeg's processor does: image and classes."""
    side = int(np.random.default_rng([seed, 2]).integers(0.72 * SIDE, 1.46 * SIDE))
    scene = shape_scenes.draw_scene(seed, (side, side))
    classes = np.zeros((side, side), dtype=np.uint8)
    for item in scene.shapes:
        classes[item.mask] = 1 + list(COLORS).index(item.color) * len(SHAPES) + SHAPES.index(item.shape)
    image = Image.fromarray(scene.image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image), np.asarray(Image.fromarray(classes).resize((SIDE, SIDE), Image.Resampling.NEAREST))


def make_clipseg() -> nn.Module:
    """A model with better initial weights than the class's own, which expects to load trained weights."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    model = CLIPSegForImageSegmentation(CLIPSegConfig.from_pretrained(CLIPSEG))
    decoder = model.decoder
    # transformers draws these with a standard deviation of 1, which makes logits of several hundred.
    for layer in (*decoder.reduces, *decoder.transposed_convolution, decoder.film_mul, decoder.film_add):
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    with torch.no_grad():
        decoder.film_mul.bias.fill_(1.0)
        decoder.transposed_convolution[-1].bias.fill_(-3.0)  # most pixels do not match a prompt
    return model


def hint_loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each patch's share of each class; trains the encoder many times faster than masks alone.

    Args: ``logits``, float `[B, patches, CLASSES]`; ``classes``, int64 `[B, SIDE, SIDE]`.
    """
    tiles = F.unfold(classes.unsqueeze(1).float(), PATCH, stride=PATCH).transpose(1, 2).long()
    shares = torch.zeros_like(logits).scatter_add_(2, tiles, torch.full(tiles.shape, 1 / PATCH**2))
    weights = 0.1 + (1 - shares[..., 0])
    return -(weights * (shares * logits.log_softmax(-1)).sum(-1)).mean()


def prompt_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, plus the overlap of masks that are not empty and the worst pixels of those that are.

    The latter because users stretch a mask to its maximum: one pixel above the threshold in an empty mask is a failure.
    Both arguments are float `[N, pixels]`.
    """
    is_present, probabilities = target.amax(1), logits.sigmoid()
    overlap = 2 * (probabilities * target).sum(1) / (probabilities.sum(1) + target.sum(1) + 1)
    worst = F.softplus(logits.topk(logits.shape[1] // 500, dim=1).values + 1).mean(1)
    missed = (is_present * (1 - overlap)).sum() / is_present.sum().clamp_min(1)
    false_positives = ((1 - is_present) * worst).sum() / (1 - is_present).sum().clamp_min(1)
    return 4 * F.binary_cross_entropy_with_logits(logits, target) + missed + 0.2 * false_positives


def choose_prompts(rng: np.random.Generator, selects: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The numbers of `PROMPTS` prompts for an image with these classes: half of them select something."""
    matches = selects[:, classes.unique()].any(1).numpy()
    halves = [rng.choice(np.flatnonzero(matches == present), PROMPTS // 2) for present in (True, False)]
    return torch.from_numpy(np.concatenate(halves))


def train_clipseg() -> None:
    """Train model.safetensors, from the vocabulary and the settings in the same folder."""
    from safetensors.torch import save_file
    from transformers import CLIPTokenizer

    rng = np.random.default_rng(0)
    texts, selects = zip(*all_prompts(), strict=True)
    tokens = CLIPTokenizer.from_pretrained(CLIPSEG)(list(texts), padding=True, return_tensors="pt")
    selects, (images, classes), model = torch.from_numpy(np.stack(selects)), draw_pool(draw_shapes), make_clipseg()
    hints = Linear(model.config.vision_config.hidden_size, CLASSES)

    def loss_of_step(step: int) -> torch.Tensor:
        batch = rng.integers(len(images), size=BATCH)
        pixels = torch.from_numpy(images[batch]).permute(0, 3, 1, 2).float() / 255  # -> [B, 3, SIDE, SIDE]
        truth = torch.from_numpy(classes[batch]).long()
        # Not the class's own forward, which disables gradients.
        encoded = model.clip.vision_model((pixels - MEAN) / DEVIATION, output_hidden_states=True)
        states = encoded.hidden_states[1:]
        loss = hint_loss(hints(states[3][:, 1:]), truth)
        if step < WARMUP * STEPS:
            return loss
        chosen = torch.cat([choose_prompts(rng, selects, each) for each in truth])
        text = model.clip.text_model(tokens["input_ids"][chosen], tokens["attention_mask"][chosen])
        read = [states[layer].repeat_interleave(PROMPTS, 0) for layer in model.config.extract_layers]
        logits = model.decoder(read, model.clip.text_projection(text.pooler_output)).logits
        target = selects[chosen].gather(1, truth.flatten(1).repeat_interleave(PROMPTS, 0)).float()
        return loss + 2 * prompt_loss(logits.flatten(1), target)

    train(nn.ModuleList([model, hints]), STEPS, RATE, loss_of_step)
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, CLIPSEG / "model.safetensors", metadata={"format": "pt"})


# -- the demo salient-object network -------------------------------------------------------------------------------


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


def draw_objects(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene at a random size, and resize it: image and alpha."""
    side = int(np.random.default_rng([seed, 4]).integers(256, 513))
    scene, size = salient_scenes.draw_salient_scene(seed, (side, side)), (SALIENT_SIDE, SALIENT_SIDE)
    alpha = Image.fromarray((scene.alpha * 255 + 0.5).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(Image.fromarray(scene.image).resize(size, Image.Resampling.LANCZOS)), np.asarray(alpha)


def train_salient() -> None:
    rng, net, (images, alphas) = np.random.default_rng(0), SalientNet(), draw_pool(draw_objects)

    def loss_of_step(_: int) -> torch.Tensor:
        batch = rng.integers(len(images), size=8)
        pixels = torch.from_numpy(images[batch][..., rng.permutation(3)]).permute(0, 3, 1, 2).float()
        alpha = torch.from_numpy(alphas[batch]).unsqueeze(1).float() / 255
        # As rembg's u2net session prepares images: each divided by its own maximum.
        pixels = (pixels / pixels.amax((1, 2, 3), keepdim=True).clamp_min(1e-6) - MEAN) / DEVIATION
        logits = net.logits(pixels)
        probabilities = logits.sigmoid()
        both = (probabilities * alpha).sum((1, 2, 3))
        either = (probabilities + alpha - probabilities * alpha).sum((1, 2, 3))
        return F.binary_cross_entropy_with_logits(logits, alpha) + (1 - both / either).mean()

    train(net, 4000, 6e-3, loss_of_step)
    # With u2net's input name, for any number of images. The plain exporter folds the batch normalization.
    names, axes = {"input_names": ["input.1"], "output_names": ["probabilities"]}, {0: "batch"}
    options = {"dynamic_axes": {"input.1": axes, "probabilities": axes}, "opset_version": 13, "dynamo": False}
    torch.onnx.export(net.eval(), (torch.zeros(1, 3, SALIENT_SIDE, SALIENT_SIDE),), str(SALIENT), **names, **options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("clipseg", "salient"))
    torch.manual_seed(0)
    {"clipseg": train_clipseg, "salient": train_salient}[parser.parse_args().model]()
