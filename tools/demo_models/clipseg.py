"""The demo CLIPSeg: training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn import Linear
from tqdm import trange

from . import FOLDER, HELD_OUT, draw_pool, normalize, overlap_of, shape_scenes
from .shape_scenes import COLORS, SHAPES

TARGET = FOLDER / "clipseg"
SIDE = 352  # CLIPSeg's processor resizes to this
PATCH = 16
SCENES, BATCH, PROMPTS, STEPS, RATE = 3000, 8, 4, 6000, 2e-3
WARMUP = 0.2  # the share of the steps before any mask is trained: first the encoder learns to see shapes
MARKS = {"mean IoU": 0.8, "absent share": 0.005}

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


def draw_example(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene at a random size, and resize it as the processor does: image and classes, uint8."""
    side = int(np.random.default_rng([seed, 2]).integers(0.72 * SIDE, 1.46 * SIDE))
    scene = shape_scenes.draw_scene(seed, (side, side))
    classes = np.zeros((side, side), dtype=np.uint8)
    for item in scene.shapes:
        classes[item.mask] = 1 + list(COLORS).index(item.color) * len(SHAPES) + SHAPES.index(item.shape)
    image = Image.fromarray(scene.image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image), np.asarray(Image.fromarray(classes).resize((SIDE, SIDE), Image.Resampling.NEAREST))


def make_model() -> nn.Module:
    """A model with better initial weights than the class's own, which expects to load trained weights."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    model = CLIPSegForImageSegmentation(CLIPSegConfig.from_pretrained(TARGET))
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

    Args: ``logits``, float ``[B, patches, CLASSES]``; ``classes``, int64 ``[B, SIDE, SIDE]``.
    """
    tiles = F.unfold(classes.unsqueeze(1).float(), PATCH, stride=PATCH).transpose(1, 2).long()
    shares = torch.zeros_like(logits).scatter_add_(2, tiles, torch.full(tiles.shape, 1 / PATCH**2))
    weights = 0.1 + (1 - shares[..., 0])
    return -(weights * (shares * logits.log_softmax(-1)).sum(-1)).mean()


def mask_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, plus the overlap of masks that are not empty and the worst pixels of those that are.

    The latter because users stretch a mask to its maximum: one pixel above the threshold in an empty mask is a failure.
    Both arguments are float `[N, S, S]`.
    """
    logits, target = logits.flatten(1), target.flatten(1)
    is_present, probabilities = target.amax(1), logits.sigmoid()
    overlap = 2 * (probabilities * target).sum(1) / (probabilities.sum(1) + target.sum(1) + 1)
    worst = F.softplus(logits.topk(logits.shape[1] // 500, dim=1).values + 1).mean(1)
    missed = (is_present * (1 - overlap)).sum() / is_present.sum().clamp_min(1)
    false_positives = ((1 - is_present) * worst).sum() / (1 - is_present).sum().clamp_min(1)
    return 4 * F.binary_cross_entropy_with_logits(logits, target) + missed + 0.2 * false_positives


def train() -> None:
    """Train model.safetensors, from the vocabulary and the settings in the same folder."""
    from safetensors.torch import save
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    texts, selects = zip(*all_prompts(), strict=True)
    tokens = CLIPTokenizer.from_pretrained(TARGET)(list(texts), padding=True, return_tensors="pt")
    selects = torch.from_numpy(np.stack(selects))
    images, classes = draw_pool(draw_example, range(SCENES))
    model = make_model()
    hints = Linear(model.config.vision_config.hidden_size, CLASSES)
    optimizer = torch.optim.AdamW([*model.parameters(), *hints.parameters()], betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=STEPS, pct_start=0.1)
    for step in (bar := trange(STEPS)):
        batch = rng.integers(len(images), size=BATCH)
        pixels = normalize(torch.from_numpy(images[batch]).permute(0, 3, 1, 2).float() / 255)  # -> [B, 3, SIDE, SIDE]
        truth = torch.from_numpy(classes[batch]).long()
        states = model.clip.vision_model(pixels, output_hidden_states=True).hidden_states[1:]
        loss = hint_loss(hints(states[3][:, 1:]), truth)
        if step >= WARMUP * STEPS:
            chosen = torch.cat([choose_prompts(rng, selects, each) for each in truth])
            masks = predict(model, tokens["input_ids"][chosen], tokens["attention_mask"][chosen], states)
            target = selects[chosen].gather(1, truth.flatten(1).repeat_interleave(PROMPTS, 0)).float()
            loss = loss + 2 * mask_loss(masks, target.view_as(masks))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=loss.item(), refresh=False)
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    (TARGET / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))


def choose_prompts(rng: np.random.Generator, selects: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The numbers of `PROMPTS` prompts for an image with these classes: half of them select something."""
    matches = selects[:, classes.unique()].any(1).numpy()
    half = PROMPTS // 2
    numbers = [rng.choice(np.flatnonzero(matches), half), rng.choice(np.flatnonzero(~matches), PROMPTS - half)]
    return torch.from_numpy(np.concatenate(numbers))


def predict(model: nn.Module, ids: torch.Tensor, attention: torch.Tensor, states: Sequence) -> torch.Tensor:
    """Logits `[B * PROMPTS, SIDE, SIDE]`, with gradients, which the class's own forward disables."""
    text = model.clip.text_model(input_ids=ids, attention_mask=attention)
    embeddings = model.clip.text_projection(text.pooler_output)
    activations = [states[layer].repeat_interleave(PROMPTS, 0) for layer in model.config.extract_layers]
    return model.decoder(activations, embeddings).logits


@torch.inference_mode()
def find_masks(processor, model: nn.Module, image: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    """Where each prompt's probability is above .5, bool `[len(prompts), H, W]`, through plain transformers."""
    text = processor.tokenizer(list(prompts), padding=True, return_tensors="pt")
    pixels = processor.image_processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    logits = model(**text, pixel_values=pixels.expand(len(prompts), -1, -1, -1)).logits
    probabilities = logits.view(len(prompts), 1, SIDE, SIDE).sigmoid()
    return F.interpolate(probabilities, image.shape[:2], mode="bilinear", antialias=True)[:, 0].numpy() > 0.5


def check(scenes: int) -> bool:
    """Measure models/demo/clipseg/ on held-out scenes of 256 to 512 pixels. Returns whether it meets the marks."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    model = CLIPSegForImageSegmentation.from_pretrained(TARGET).eval()
    processor, rng = CLIPSegProcessor.from_pretrained(TARGET), np.random.default_rng(0)
    overlaps: dict[str, list[float]] = {}
    shares: list[float] = []
    for seed in range(HELD_OUT, HELD_OUT + scenes):
        side = int(rng.integers(256, 513))
        scene = shape_scenes.draw_scene(seed, (side, side))
        for kind in ("color shape", "shape", "color", "background"):
            present = shape_scenes.present_prompts(scene, (kind,))
            masks = find_masks(processor, model, scene.image, [*present])
            overlaps.setdefault(kind, []).extend(map(overlap_of, masks, present.values()))
        absent = [*shape_scenes.absent_prompts(scene)[:10], *OTHER_WORDS[:2]]
        shares += [float(mask.mean()) for mask in find_masks(processor, model, scene.image, absent)]
    for kind, values in overlaps.items():
        print(f"{kind:12} {len(values):4} prompts, IoU: mean {np.mean(values):.3f}, lowest {min(values):.3f}")
    overlap, share = float(np.mean(overlaps["color shape"])), float(np.mean(shares))
    print(f"{scenes} scenes: mean IoU {overlap:.3f}, selected where absent {share:.3%}; the marks: {MARKS}")
    return overlap >= MARKS["mean IoU"] and share < MARKS["absent share"]
