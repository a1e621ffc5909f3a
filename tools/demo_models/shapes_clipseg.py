"""The demo CLIPSeg: network, training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn import Linear
from tqdm import trange

from . import FOLDER, HELD_OUT, draw_pool, normalize, overlap_of, shape_scenes
from .prompts import CLASSES, COLORS, OTHER_WORDS, SHAPES, PromptBook, class_of

# The network

TARGET = FOLDER / "clipseg"
SIDE = 352  # CLIPSeg's processor resizes to this
PATCH = 16
GRID = SIDE // PATCH


def sinusoids(width: int) -> torch.Tensor:
    """Sinusoidal position embeddings `[GRID * GRID, width]`: similar for nearby patches, so attention starts local."""
    waves = torch.logspace(0, -1.5, width // 4) * (torch.pi / 2)
    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    parts = [wave(axis.reshape(-1, 1) * waves) for axis in (y, x) for wave in (torch.sin, torch.cos)]
    return torch.cat(parts, dim=1)


def principal_patches(images: np.ndarray, count: int, rng: np.random.Generator) -> torch.Tensor:
    """The first `count` principal components `[count, 3, PATCH, PATCH]` of the images' patches, almost whitened.

    With random weights, the patch embedding learns little but mean colors for a long time, since these have nearly all
    of the variance. This start captures edges from the first step on.
    """
    patches = []
    for index in rng.integers(len(images), size=12_000):
        y, x = rng.integers(0, images.shape[1] - PATCH + 1, 2)
        patches.append(images[index, y : y + PATCH, x : x + PATCH])
    flat = normalized(np.stack(patches)).flatten(1)
    variances, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))  # in ascending order
    weights = vectors.flip(1)[:, :count] * variances.flip(0)[:count] ** -0.4
    return 0.6 * weights.T.reshape(count, 3, PATCH, PATCH)


def normalized(images: np.ndarray) -> torch.Tensor:
    """uint8 `[B, H, W, 3]` -> float32 `[B, 3, H, W]`, normalized as for ImageNet."""
    return normalize(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255)


def set_first_weights(model: nn.Module, images: np.ndarray, rng: np.random.Generator) -> None:
    """Set better initial weights than the class's own, which expects to load trained weights."""
    embeddings = model.clip.vision_model.embeddings
    width = embeddings.patch_embedding.out_channels
    with torch.no_grad():
        embeddings.position_embedding.weight[1:] = 0.3 * sinusoids(width)
        embeddings.patch_embedding.weight[:] = principal_patches(images, width, rng)
        decoder = model.decoder
        # transformers draws these with a standard deviation of 1, which makes logits of several hundred.
        for layer in (*decoder.reduces, *decoder.transposed_convolution, decoder.film_mul, decoder.film_add):
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        decoder.film_mul.bias.fill_(1.0)
        decoder.transposed_convolution[-1].bias.fill_(-3.0)  # most pixels do not match a prompt


def vision_states(model: nn.Module, pixels: torch.Tensor, corners: torch.Tensor) -> list[torch.Tensor]:
    """The state `[B, 1 + n * n, width]` after each vision layer that the decoder needs, with gradients.

    The class's own forward cannot be used: it disables gradients, and stretches the position embeddings over a smaller
    image, where training uses a window of the full grid.

    Args:
        pixels: `[B, 3, n * PATCH, n * PATCH]`, the windows.
        corners: int `[B, 2]`, the window's upper left patch, (row, column), in the full grid.
    """
    vision = model.clip.vision_model
    embeddings = vision.embeddings
    patches = embeddings.patch_embedding(pixels)
    batch, _, side, _ = patches.shape
    steps = torch.arange(side)
    rows, columns = corners[:, 0, None, None] + steps[:, None], corners[:, 1, None, None] + steps
    places = embeddings.position_embedding(1 + (rows * GRID + columns).flatten(1))
    first = embeddings.class_embedding + embeddings.position_embedding.weight[0]
    state = torch.cat([first.expand(batch, 1, -1), patches.flatten(2).transpose(1, 2) + places], dim=1)
    state = vision.pre_layrnorm(state)
    states = []
    for layer in vision.encoder.layers[: max(model.config.extract_layers) + 1]:
        state = layer(state, None)
        states.append(state)
    return states


class Hints(nn.Module):
    """Extra targets for the vision layers, patch by patch; used in training only.

    With masks alone, the encoder takes many times longer to learn shapes.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kinds = Linear(width, 1 + len(COLORS) + len(SHAPES))
        self.outlines = Linear(width, PATCH * PATCH)

    def forward(self, states: list[torch.Tensor], classes: torch.Tensor) -> torch.Tensor:
        """The loss, given the states of `vision_states` and each pixel's class, uint8 `[B, H, W]`."""
        batch, height, width = classes.shape
        tiles = classes.view(batch, height // PATCH, PATCH, width // PATCH, PATCH).transpose(2, 3)
        tiles = tiles.reshape(batch, -1, PATCH * PATCH).long()

        shares = torch.zeros(*tiles.shape[:2], CLASSES).scatter_add_(2, tiles, torch.ones(tiles.shape))
        shares = shares / (PATCH * PATCH)
        by_kind = shares[..., 1:].view(*shares.shape[:2], len(COLORS), len(SHAPES))
        covered = 1 - shares[..., 0]
        weights = covered * (covered > 0.25)  # a sliver at an edge is hard to classify, and matters little

        shape_logits, color_logits, covered_logit = self.kinds(states[3][:, 1:]).split(
            [len(SHAPES), len(COLORS), 1], dim=-1
        )

        def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            target = target / target.sum(-1, keepdim=True).clamp_min(1e-3)
            entropy = -(F.log_softmax(logits, dim=-1) * target).sum(-1)
            return (entropy * weights).sum() / weights.sum().clamp_min(1)

        inside = F.binary_cross_entropy_with_logits(self.outlines(states[1][:, 1:]), (tiles > 0).float())
        return (
            cross_entropy(shape_logits, by_kind.sum(2))
            + 0.5 * cross_entropy(color_logits, by_kind.sum(3))
            + F.binary_cross_entropy_with_logits(covered_logit[..., 0], covered)
            + inside
        )


# Training


@dataclass(frozen=True)
class Phase:
    """A training phase: windows of `side` pixels, `prompts` texts per window (0: hints only, no decoder)."""

    name: str
    pool: str
    side: int
    batch: int
    prompts: int
    steps: int
    rates: tuple[float, float]  # learning rate at the start and at the end


# From single shapes to whole scenes: first shapes, then which patches belong together, then words.
PHASES = (
    Phase("one shape", "single", 128, 32, 0, 1200, (2e-3, 2e-3)),
    Phase("windows", "scenes", 176, 32, 0, 1350, (2e-3, 1.5e-3)),
    Phase("windows and words", "scenes", 176, 16, 4, 1350, (1.5e-3, 8e-4)),
    Phase("whole scenes", "scenes", SIDE, 8, 4, 350, (8e-4, 2e-5)),
)
SINGLES, SCENES = 6000, 3000


def class_map(scene: shape_scenes.Scene) -> np.ndarray:
    """Each pixel's class, uint8 `[H, W]`."""
    classes = np.zeros(scene.image.shape[:2], dtype=np.uint8)
    for item in scene.shapes:
        classes[item.mask] = class_of(item.color, item.shape)
    return classes


def draw_example(seed: int, side: int, count: int | None, radii: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene and its classes at a random size, and resize both to `side` as the processor does."""
    drawn_side = int(np.random.default_rng([seed, 2]).integers(0.72 * side, 1.46 * side))
    scene = shape_scenes.draw_scene(seed, (drawn_side, drawn_side), count, radii)
    image = Image.fromarray(scene.image).resize((side, side), Image.Resampling.BILINEAR)
    classes = Image.fromarray(class_map(scene)).resize((side, side), Image.Resampling.NEAREST)
    return np.asarray(image), np.asarray(classes)


def windows(
    pool: tuple[np.ndarray, np.ndarray], side: int, batch: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Random windows of a pool, half of them mirrored: images, classes, and their assumed corners in the full grid."""
    images, classes = pool
    pairs = []
    for index in rng.integers(len(images), size=batch):
        y, x = rng.integers(0, images.shape[1] - side + 1, 2)
        mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
        window = (index, slice(y, y + side), slice(x, x + side))
        pairs.append((images[window][:, mirror], classes[window][:, mirror]))
    corners = torch.from_numpy(rng.integers(0, (SIDE - side) // PATCH + 1, (batch, 2)))
    return np.stack([image for image, _ in pairs]), np.stack([plane for _, plane in pairs]), corners


def mask_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, plus the overlap of masks that are not empty and the worst pixels of those that are.

    The latter because users stretch a mask to its maximum: one pixel above the threshold in an empty mask is a failure.
    Both arguments are float `[N, S, S]`.
    """
    logits, target = logits.flatten(1), target.flatten(1)
    is_present = target.amax(1)
    probabilities = logits.sigmoid()
    overlap = 2 * (probabilities * target).sum(1) / (probabilities.sum(1) + target.sum(1) + 1)
    worst = F.softplus(logits.topk(logits.shape[1] // 500, dim=1).values + 1).mean(1)
    missed = (is_present * (1 - overlap)).sum() / is_present.sum().clamp_min(1)
    false_positives = ((1 - is_present) * worst).sum() / (1 - is_present).sum().clamp_min(1)
    return 4 * F.binary_cross_entropy_with_logits(logits, target) + missed + 0.2 * false_positives


def train() -> None:
    """Train model.safetensors, from the vocabulary and the settings in the same folder."""
    from safetensors.torch import save
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPTokenizer

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    book = PromptBook(CLIPTokenizer.from_pretrained(TARGET))
    pools = {
        "single": draw_pool(draw_example, range(SCENES, SCENES + SINGLES), 128, 1, (0.28, 0.48)),
        "scenes": draw_pool(draw_example, range(SCENES), SIDE, None, (0.11, 0.23)),
    }
    model = CLIPSegForImageSegmentation(CLIPSegConfig.from_pretrained(TARGET))
    set_first_weights(model, pools["scenes"][0], rng)
    hints = Hints(model.config.vision_config.hidden_size)
    weights = [*model.parameters(), *hints.parameters()]
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.98), weight_decay=0.02)
    for phase in PHASES:
        for step in (bar := trange(phase.steps, desc=phase.name)):
            first, last = phase.rates
            rate = first + (last - first) * (1 - np.cos(np.pi * step / phase.steps)) / 2
            if phase is PHASES[0]:
                rate *= min(1.0, (step + 1) / 100)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = total_loss(model, hints, book, phase, pools[phase.pool], rng)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            bar.set_postfix(loss=loss.item(), refresh=False)
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    (TARGET / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))


def total_loss(
    model: nn.Module,
    hints: Hints,
    book: PromptBook,
    phase: Phase,
    pool: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> torch.Tensor:
    """One batch, drawn from the pool, and its loss."""
    images, planes, corners = windows(pool, phase.side, phase.batch, rng)
    states = vision_states(model, normalized(images), corners)
    classes = torch.from_numpy(planes)
    loss = hints(states, classes)
    if phase.prompts == 0:
        return loss

    prompts = torch.tensor([book.choose(rng, plane, phase.prompts) for plane in planes]).flatten()
    text = model.clip.text_model(input_ids=book.ids[prompts], attention_mask=book.attention[prompts])
    embeddings = model.clip.text_projection(text.pooler_output)
    activations = [states[layer].repeat_interleave(phase.prompts, 0) for layer in model.config.extract_layers]
    logits = model.decoder(activations, embeddings).logits

    repeated = classes.long().flatten(1).repeat_interleave(phase.prompts, 0)
    target = book.selects[prompts].gather(1, repeated).float().view_as(logits)
    return loss + 2 * mask_loss(logits, target)


# Measuring

MARKS = {"mean IoU": 0.8, "absent share": 0.005}


@torch.inference_mode()
def find_masks(processor, model: nn.Module, image: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    """Where each prompt's probability is above .5, bool `[len(prompts), H, W]`, through plain transformers."""
    text = processor.tokenizer(list(prompts), padding=True, return_tensors="pt")
    pixels = processor.image_processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    logits = model(**text, pixel_values=pixels.expand(len(prompts), -1, -1, -1)).logits
    probabilities = logits.view(len(prompts), 1, SIDE, SIDE).sigmoid()
    return F.interpolate(probabilities, image.shape[:2], mode="bilinear", antialias=True)[:, 0].numpy() > 0.5


def check(scenes: int) -> bool:
    """Measure models/demo/clipseg/ on held-out scenes and print a table. Returns whether it meets the marks."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    model = CLIPSegForImageSegmentation.from_pretrained(TARGET).eval()
    processor, rng = CLIPSegProcessor.from_pretrained(TARGET), np.random.default_rng(0)
    overlaps: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    for seed in range(HELD_OUT, HELD_OUT + scenes):
        side = int(rng.integers(256, 513))
        scene = shape_scenes.draw_scene(seed, (side, side))
        named = shape_scenes.present_prompts(scene)
        general = shape_scenes.present_prompts(scene, ("shape", "color", "background"))
        present = {**named, **general}
        for (prompt, true), mask in zip(
            present.items(), find_masks(processor, model, scene.image, [*present]), strict=True
        ):
            for group in ["<color> <shape>", *prompt.split()] if prompt in named else ["general prompts"]:
                overlaps.setdefault(group, []).append(overlap_of(mask, true))
        hard = shape_scenes.absent_prompts(scene, hard_only=True)
        other = shape_scenes.absent_prompts(scene)[len(hard) :]
        kinds = {"hard": (hard, 10), "other": (other, 4), "unknown words": (OTHER_WORDS, 2)}
        choices = [(kind, str(word)) for kind, (words, n) in kinds.items() for word in rng.permutation(words)[:n]]
        masks = find_masks(processor, model, scene.image, [prompt for _, prompt in choices])
        for (kind, _), mask in zip(choices, masks, strict=True):
            shares.setdefault(kind, []).append(float(mask.mean()))
    print(f"\n{scenes} held-out scenes of 256 to 512 pixels\npresent: prompts, mean IoU, lowest")
    for group, values in overlaps.items():
        print(f"{group:16} {len(values):4}    {np.mean(values):.3f}    {min(values):.3f}")
    print("absent: prompts, mean share selected, with any pixel selected")
    for group, values in shares.items():
        print(f"{group:16} {len(values):4}    {np.mean(values):8.3%}    {np.mean(np.array(values) > 0):6.1%}")
    overlap = float(np.mean(overlaps["<color> <shape>"]))
    share = float(np.mean(shares["hard"] + shares["other"]))
    print(f"mean IoU {overlap:.3f}, selected where absent {share:.3%}; the marks: {MARKS}")
    return overlap >= MARKS["mean IoU"] and share < MARKS["absent share"]
