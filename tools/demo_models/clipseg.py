"""The demo CLIPSeg: its words, its network, its training, and how good it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn import Linear

from . import FOLDER, HELD_OUT, MEAN, STD, overlap_of, shape_scenes, tokenizer

COLOURS = tuple(shape_scenes.COLOURS)
SHAPES = shape_scenes.SHAPES


# What may be asked

# A pixel's class is 0 for background, else 1 + colour * len(SHAPES) + shape. What a prompt means is the set of classes
# that it selects, which covers "red circle", "circle", "red shapes" and "background" alike.
CLASSES = 1 + len(COLOURS) * len(SHAPES)

# Words that the model should not find anything for. They also teach it that a text of unknown letters means nothing.
OTHER_WORDS = (
    "cat",
    "dog",
    "bird",
    "horse",
    "person",
    "man",
    "woman",
    "face",
    "hair",
    "eye",
    "hand",
    "dress",
    "shirt",
    "car",
    "bus",
    "road",
    "tree",
    "leaf",
    "flower",
    "grass",
    "sky",
    "cloud",
    "sun",
    "moon",
    "sea",
    "water",
    "sand",
    "stone",
    "wall",
    "house",
    "window",
    "door",
    "table",
    "chair",
    "cup",
    "plate",
    "apple",
    "banana",
    "bread",
    "book",
    "lamp",
    "clock",
)


@dataclass(frozen=True)
class Prompt:
    """A text and what it means: `selects` is bool `[CLASSES]`."""

    text: str
    selects: np.ndarray


def class_of(colour: str, shape: str) -> int:
    return 1 + COLOURS.index(colour) * len(SHAPES) + SHAPES.index(shape)


def plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")


def phrases(noun: str, nouns: str) -> list[str]:
    """The ways to ask for one thing: "red circle", "a red circle", "the red circles", ..."""
    article = "an" if noun[0] in "aeiou" else "a"
    return [noun, f"{article} {noun}", f"the {noun}", nouns, f"the {nouns}", f"all {nouns}"]


def all_prompts() -> dict[str, list[Prompt]]:
    """Every text that the model is trained on, by kind: one kind for each "<colour> <shape>", "other" and "nothing"."""
    kinds: dict[str, list[Prompt]] = {"other": [], "nothing": []}
    some = {(c, s): np.arange(CLASSES) == class_of(c, s) for c in COLOURS for s in SHAPES}
    for (colour, shape), selects in some.items():
        texts = phrases(f"{colour} {shape}", f"{colour} {plural(shape)}")
        kinds[f"{colour} {shape}"] = [Prompt(text, selects) for text in texts]
    for colour in COLOURS:
        selects = np.any([some[colour, shape] for shape in SHAPES], axis=0)
        texts = [colour, *phrases(f"{colour} shape", f"{colour} shapes")]
        kinds["other"] += [Prompt(text, selects) for text in texts]
    for shape in SHAPES:
        selects = np.any([some[colour, shape] for colour in COLOURS], axis=0)
        kinds["other"] += [Prompt(text, selects) for text in phrases(shape, plural(shape))]
    background = np.arange(CLASSES) == 0
    kinds["other"] += [Prompt(text, ~background) for text in phrases("shape", "shapes")]
    kinds["other"] += [Prompt(text, background) for text in ("background", "the background")] * 3

    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    made_up = ["".join(rng.choice(letters, size=rng.integers(1, 9))) for _ in range(300)]
    known = {word for prompts in kinds.values() for prompt in prompts for word in prompt.text.split()}
    nothing = np.zeros(CLASSES, dtype=bool)
    kinds["nothing"] += [Prompt(word, nothing) for word in (*OTHER_WORDS, *made_up, "") if word not in known]
    return kinds


# The network

TARGET = FOLDER / "clipseg"
SIDE = 352  # what CLIPSeg's processor resizes to
PATCH = 16
GRID = SIDE // PATCH


def model_config(vocabulary: dict[str, int]) -> dict:
    """config.json. All keys are ones that transformers 4.50 and 5 both read."""
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    return {
        "architectures": ["CLIPSegForImageSegmentation"],
        "model_type": "clipseg",
        # The file holds half precision, to be small; this makes every version load it as single precision.
        "torch_dtype": "float32",
        "projection_dim": 64,
        "reduce_dim": 64,
        # As in the real model, one layer comes after the last that the decoder reads. Nothing trains it, and dropping
        # it changes no logit.
        "extract_layers": [1, 2, 3],
        "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 128,
        "use_complex_transposed_convolution": True,
        "text_config": {
            "model_type": "clipseg_text_model",
            "vocab_size": len(vocabulary),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 77,
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        "vision_config": {
            "model_type": "clipseg_vision_model",
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
    }


def write_image_processor(folder: Path) -> None:
    """preprocessor_config.json: the real CLIPSeg's."""
    tokenizer.write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "ViTImageProcessor",
            "processor_class": "CLIPSegProcessor",
            "do_resize": True,
            "size": {"height": SIDE, "width": SIDE},
            "resample": int(Image.Resampling.BILINEAR),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(MEAN),
            "image_std": list(STD),
        },
    )


def sinusoids(width: int) -> torch.Tensor:
    """A place code `[GRID * GRID, width]` of sines and cosines: near patches start alike, so attention turns local."""
    waves = torch.logspace(0, -1.5, width // 4) * (torch.pi / 2)
    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    parts = [wave(axis.reshape(-1, 1) * waves) for axis in (y, x) for wave in (torch.sin, torch.cos)]
    return torch.cat(parts, dim=1)


def principal_patches(images: np.ndarray, count: int, rng: np.random.Generator) -> torch.Tensor:
    """The first `count` principal components `[count, 3, PATCH, PATCH]` of the pictures' patches, almost whitened.

    From random weights the patch embedding sees hardly more than mean colours for a long time, since that is where
    nearly all the variance is. This start lets it see edges from the first step on.
    """
    patches = []
    for index in rng.integers(len(images), size=12_000):
        y, x = rng.integers(0, images.shape[1] - PATCH + 1, 2)
        patches.append(images[index, y : y + PATCH, x : x + PATCH])
    flat = normalised(np.stack(patches)).flatten(1)
    variances, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))  # in ascending order
    weights = vectors.flip(1)[:, :count] * variances.flip(0)[:count] ** -0.4
    return 0.6 * weights.T.reshape(count, 3, PATCH, PATCH)


def normalised(images: np.ndarray) -> torch.Tensor:
    """uint8 `[B, H, W, 3]` -> float32 `[B, 3, H, W]`, with ImageNet's mean and standard deviation taken out."""
    bchw = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (bchw - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def set_first_weights(model: nn.Module, images: np.ndarray, rng: np.random.Generator) -> None:
    """Better starting points than the class's own, which is meant for weights that are loaded over it."""
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
        decoder.transposed_convolution[-1].bias.fill_(-3.0)  # most pixels are not what is asked for


def vision_states(model: nn.Module, pixels: torch.Tensor, corners: torch.Tensor) -> list[torch.Tensor]:
    """The state `[B, 1 + n * n, width]` after each vision layer that the decoder needs, with gradients.

    The class's own forward cannot be used: it shuts gradients off, and it stretches the place code over a smaller
    picture where training takes a window of the full one.

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
    """What the vision layers must know on the way, told to them patch by patch; used in training only.

    From masks alone the encoder takes many times longer to find out that shapes matter.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kinds = Linear(width, 1 + len(COLOURS) + len(SHAPES))
        self.outlines = Linear(width, PATCH * PATCH)

    def forward(self, states: list[torch.Tensor], classes: torch.Tensor) -> torch.Tensor:
        """The loss, given the states of `vision_states` and each pixel's class, uint8 `[B, H, W]`."""
        batch, height, width = classes.shape
        tiles = classes.view(batch, height // PATCH, PATCH, width // PATCH, PATCH).transpose(2, 3)
        tiles = tiles.reshape(batch, -1, PATCH * PATCH).long()

        shares = torch.zeros(*tiles.shape[:2], CLASSES).scatter_add_(2, tiles, torch.ones(tiles.shape))
        shares = shares / (PATCH * PATCH)
        by_kind = shares[..., 1:].view(*shares.shape[:2], len(COLOURS), len(SHAPES))
        covered = 1 - shares[..., 0]
        weights = covered * (covered > 0.25)  # an edge's sliver is hard to tell, and no great loss

        shape_logits, colour_logits, covered_logit = self.kinds(states[3][:, 1:]).split(
            [len(SHAPES), len(COLOURS), 1], dim=-1
        )

        def blame(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            target = target / target.sum(-1, keepdim=True).clamp_min(1e-3)
            entropy = -(F.log_softmax(logits, dim=-1) * target).sum(-1)
            return (entropy * weights).sum() / weights.sum().clamp_min(1)

        inside = F.binary_cross_entropy_with_logits(self.outlines(states[1][:, 1:]), (tiles > 0).float())
        return (
            blame(shape_logits, by_kind.sum(2))
            + 0.5 * blame(colour_logits, by_kind.sum(3))
            + F.binary_cross_entropy_with_logits(covered_logit[..., 0], covered)
            + inside
        )


# Training


@dataclass(frozen=True)
class Phase:
    """A stretch of training: windows of `side` pixels, `prompts` texts a window (0: hints only, no decoder)."""

    name: str
    pool: str
    side: int
    batch: int
    prompts: int
    steps: int
    rates: tuple[float, float]  # learning rate at the start and at the end


# From one shape a picture to whole scenes: what a shape is, then which patches belong together, then words.
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
        classes[item.mask] = class_of(item.colour, item.shape)
    return classes


def draw_example(seed: int, side: int, count: int | None, radii: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A scene and its classes, drawn at some size and brought to `side` as the processor does."""
    drawn = int(np.random.default_rng([seed, 2]).integers(0.72 * side, 1.46 * side))
    scene = shape_scenes.draw_scene(seed, (drawn, drawn), count, radii)
    image = Image.fromarray(scene.image).resize((side, side), Image.Resampling.BILINEAR)
    classes = Image.fromarray(class_map(scene)).resize((side, side), Image.Resampling.NEAREST)
    return np.asarray(image), np.asarray(classes)


def draw_pool(seeds: range, side: int, count: int | None, radii: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[N, side, side, 3]` and classes uint8 `[N, side, side]` of many seeds, on all cores."""
    jobs = [[argument] * len(seeds) for argument in (side, count, radii)]
    with ProcessPoolExecutor() as workers:
        pairs = list(workers.map(draw_example, seeds, *jobs, chunksize=50))
    return np.stack([image for image, _ in pairs]), np.stack([classes for _, classes in pairs])


class PromptBook:
    """All prompts as tensors, and the choice of what to ask of a picture."""

    def __init__(self, tokenizer) -> None:
        kinds = all_prompts()
        prompts = [prompt for of_kind in kinds.values() for prompt in of_kind]
        encoded = tokenizer([prompt.text for prompt in prompts], padding=True, return_tensors="pt")
        self.ids, self.attention = encoded["input_ids"], encoded["attention_mask"]
        self.selects = torch.from_numpy(np.stack([prompt.selects for prompt in prompts]))
        at = iter(range(len(prompts)))
        self.by_kind = {kind: [next(at) for _ in of_kind] for kind, of_kind in kinds.items()}

    def choose(self, rng: np.random.Generator, classes: np.ndarray, count: int) -> list[int]:
        """Numbers of `count` prompts for a picture: there, not there but nearly, then whatever comes."""
        there = np.flatnonzero(np.bincount(classes.ravel(), minlength=CLASSES)[1:] > 40) + 1
        chosen = []
        for index in range(count):
            lot = rng.random()
            if len(there) and index % 2 == 0 and (index == 0 or lot < 0.5):
                kind = self._name(int(rng.choice(there)))
            elif index % 2 == 0:
                kind = "other"
            elif len(there) and lot < 0.7:
                kind = self._neighbour(rng, int(rng.choice(there)))
            else:
                kind = "nothing" if lot < 0.8 else self._name(int(rng.integers(1, CLASSES)))
            chosen.append(int(rng.choice(self.by_kind[kind])))
        return chosen

    @staticmethod
    def _name(pixel_class: int) -> str:
        return f"{COLOURS[(pixel_class - 1) // len(SHAPES)]} {SHAPES[(pixel_class - 1) % len(SHAPES)]}"

    def _neighbour(self, rng: np.random.Generator, pixel_class: int) -> str:
        """The same colour in some shape, or the same shape in some colour."""
        colour, shape = self._name(pixel_class).split()
        if rng.random() < 0.6:  # shapes are harder to tell apart than colours
            return f"{colour} {rng.choice(SHAPES)}"
        return f"{rng.choice(COLOURS)} {shape}"


def windows(
    pool: tuple[np.ndarray, np.ndarray], side: int, batch: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Random windows of a pool, half of them mirrored: images, classes, and their claimed corners in the full grid."""
    images, classes = pool
    picked = []
    for index in rng.integers(len(images), size=batch):
        y, x = rng.integers(0, images.shape[1] - side + 1, 2)
        mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
        cut = (index, slice(y, y + side), slice(x, x + side))
        picked.append((images[cut][:, mirror], classes[cut][:, mirror]))
    corners = torch.from_numpy(rng.integers(0, (SIDE - side) // PATCH + 1, (batch, 2)))
    return np.stack([image for image, _ in picked]), np.stack([plane for _, plane in picked]), corners


def mask_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, overlap where there is something to find, and the worst pixels where there is not.

    The last, because users stretch a mask to its maximum: one pixel above the threshold in an empty mask is a failure.
    Both arguments are float `[N, S, S]`.
    """
    logits, target = logits.flatten(1), target.flatten(1)
    found = target.amax(1)
    probabilities = logits.sigmoid()
    overlap = 2 * (probabilities * target).sum(1) / (probabilities.sum(1) + target.sum(1) + 1)
    worst = F.softplus(logits.topk(logits.shape[1] // 500, dim=1).values + 1).mean(1)
    missed = (found * (1 - overlap)).sum() / found.sum().clamp_min(1)
    invented = ((1 - found) * worst).sum() / (1 - found).sum().clamp_min(1)
    return 4 * F.binary_cross_entropy_with_logits(logits, target) + missed + 0.2 * invented


def train() -> None:
    from safetensors.torch import save
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPTokenizer

    began = time.perf_counter()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    TARGET.mkdir(parents=True, exist_ok=True)
    words = {word for of_kind in all_prompts().values() for prompt in of_kind for word in prompt.text.split()}
    words -= {prompt.text for prompt in all_prompts()["nothing"]}
    vocabulary, merges = tokenizer.vocabulary_of(words)
    tokenizer.write(TARGET, vocabulary, merges)
    tokenizer.write_json(TARGET / "config.json", model_config(vocabulary))
    write_image_processor(TARGET)
    book = PromptBook(CLIPTokenizer.from_pretrained(TARGET))

    pools = {
        "single": draw_pool(range(SCENES, SCENES + SINGLES), 128, 1, (0.28, 0.48)),
        "scenes": draw_pool(range(SCENES), SIDE, None, (0.11, 0.23)),
    }
    print(f"{time.perf_counter() - began:5.0f} s  drew {SCENES} scenes and {SINGLES} single shapes", flush=True)

    model = CLIPSegForImageSegmentation(CLIPSegConfig.from_pretrained(TARGET))
    set_first_weights(model, pools["scenes"][0], rng)
    hints = Hints(model.config.vision_config.hidden_size)
    weights = [*model.parameters(), *hints.parameters()]
    optimiser = torch.optim.AdamW(weights, betas=(0.9, 0.98), weight_decay=0.02)

    for phase in PHASES:
        shown = 0.0
        for step in range(phase.steps):
            part = step / phase.steps
            rate = phase.rates[0] + (phase.rates[1] - phase.rates[0]) * (1 - np.cos(np.pi * part)) / 2
            if phase is PHASES[0]:
                rate *= min(1.0, (step + 1) / 100)
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = total_loss(model, hints, book, phase, pools[phase.pool], rng)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            shown += loss.item()
            if (step + 1) % 100 == 0:
                passed = f"{time.perf_counter() - began:5.0f} s"
                print(f"{passed}  {phase.name}: step {step + 1}/{phase.steps}, loss {shown / 100:.4f}", flush=True)
                shown = 0.0

    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    (TARGET / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    print(f"{time.perf_counter() - began:5.0f} s  trained and wrote {TARGET.name}/", flush=True)


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
    states = vision_states(model, normalised(images), corners)
    classes = torch.from_numpy(planes)
    loss = hints(states, classes)
    if phase.prompts == 0:
        return loss

    chosen = torch.tensor([book.choose(rng, plane, phase.prompts) for plane in planes]).flatten()
    text = model.clip.text_model(input_ids=book.ids[chosen], attention_mask=book.attention[chosen])
    wanted = model.clip.text_projection(text.pooler_output)
    activations = [states[layer].repeat_interleave(phase.prompts, 0) for layer in model.config.extract_layers]
    logits = model.decoder(activations, wanted).logits

    repeated = classes.long().flatten(1).repeat_interleave(phase.prompts, 0)
    target = book.selects[chosen].gather(1, repeated).float().view_as(logits)
    return loss + 2 * mask_loss(logits, target)


# Measuring

MARKS = {"mean IoU": 0.8, "absent share": 0.005}


def load():
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    return CLIPSegProcessor.from_pretrained(TARGET), CLIPSegForImageSegmentation.from_pretrained(TARGET).eval()


@torch.inference_mode()
def ask(processor, model: nn.Module, image: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    """Probabilities float `[len(prompts), H, W]` at the picture's own size, the ordinary way through transformers."""
    text = processor.tokenizer(list(prompts), padding=True, return_tensors="pt")
    pixels = processor.image_processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    logits = model(**text, pixel_values=pixels.expand(len(prompts), -1, -1, -1)).logits
    probabilities = logits.view(len(prompts), 1, SIDE, SIDE).sigmoid()
    return F.interpolate(probabilities, image.shape[:2], mode="bilinear", antialias=True)[:, 0].numpy()


def check(scenes: int) -> bool:
    """Measures models/demo/clipseg/ on held-out scenes and prints a table. True when it meets the marks."""
    processor, model = load()
    rng = np.random.default_rng(0)
    overlaps: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {"hard": [], "other": [], "unknown words": []}
    for seed in range(HELD_OUT, HELD_OUT + scenes):
        height = int(rng.integers(256, 513))
        scene = shape_scenes.draw_scene(seed, (height, height))

        named = shape_scenes.present_prompts(scene)
        general = shape_scenes.present_prompts(scene, ("shape", "colour", "background"))
        found = ask(processor, model, scene.image, [*named, *general]) > 0.5
        for index, (prompt, true) in enumerate((*named.items(), *general.items())):
            overlap = overlap_of(found[index], true)
            groups = ["<colour> <shape>", *prompt.split()] if prompt in named else ["general prompts"]
            for group in groups:
                overlaps.setdefault(group, []).append(overlap)

        hard = shape_scenes.absent_prompts(scene, hard_only=True)
        other = shape_scenes.absent_prompts(scene)[len(hard) :]
        asked = [("hard", str(prompt)) for prompt in rng.permutation(hard)[:10]]
        asked += [("other", str(prompt)) for prompt in rng.permutation(other)[:4]]
        asked += [("unknown words", str(prompt)) for prompt in rng.permutation(OTHER_WORDS)[:2]]
        found = ask(processor, model, scene.image, [prompt for _, prompt in asked]) > 0.5
        for (group, _), mask in zip(asked, found, strict=True):
            shares[group].append(float(mask.mean()))

    print(f"\n{scenes} held-out scenes of 256 to 512 pixels\n\nthere          asked  mean IoU  lowest")
    for group in ("<colour> <shape>", *SHAPES, *COLOURS, "general prompts"):
        values = overlaps.get(group, [float("nan")])
        print(f"{group:16} {len(values):4}    {np.mean(values):.3f}    {min(values):.3f}")
    print("\nnot there      asked  mean share  any pixel")
    for group, values in shares.items():
        print(f"{group:16} {len(values):4}    {np.mean(values):8.3%}    {np.mean(np.array(values) > 0):6.1%}")

    overlap = float(np.mean(overlaps["<colour> <shape>"]))
    share = float(np.mean(shares["hard"] + shares["other"]))
    good = overlap >= MARKS["mean IoU"] and share < MARKS["absent share"]
    print(
        f"\nmean IoU {overlap:.3f} (mark: at least {MARKS['mean IoU']}), selected where absent {share:.3%}"
        f" (mark: below {MARKS['absent share']:.1%}): {'good' if good else 'MISSED'}"
    )
    return good
