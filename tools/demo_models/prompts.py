"""The prompts of the demo CLIPSeg: texts, the pixel classes they select, and a choice of them for an image."""

from __future__ import annotations

import numpy as np
import torch

from . import shape_scenes

COLORS = tuple(shape_scenes.COLORS)
SHAPES = shape_scenes.SHAPES


# A pixel's class is 0 for background, else 1 + color * len(SHAPES) + shape. What a prompt means is the set of classes
# that it selects, which covers "red circle", "circle", "red shapes" and "background" alike.
CLASSES = 1 + len(COLORS) * len(SHAPES)

# Words that should select nothing. They also teach the model that unknown texts mean nothing.
OTHER_WORDS = """cat dog bird horse person man woman face hair eye hand dress shirt car bus road tree leaf flower grass
sky cloud sun moon sea water sand stone wall house window door table chair cup plate apple banana bread book lamp
clock""".split()  # noqa: SIM905 - shorter than a list


def class_of(color: str, shape: str) -> int:
    return 1 + COLORS.index(color) * len(SHAPES) + SHAPES.index(shape)


def name_of(pixel_class: int) -> str:
    return f"{COLORS[(pixel_class - 1) // len(SHAPES)]} {SHAPES[(pixel_class - 1) % len(SHAPES)]}"


def phrases(noun: str) -> list[str]:
    """The ways to ask for one thing: "red circle", "a red circle", "the red circles", ..."""
    article = "an" if noun[0] in "aeiou" else "a"
    nouns = noun + ("es" if noun.endswith("s") else "s")
    return [noun, f"{article} {noun}", f"the {noun}", nouns, f"the {nouns}", f"all {nouns}"]


def all_prompts() -> dict[str, list[tuple[str, np.ndarray]]]:
    """Every text that the model is trained on with the classes that it selects, bool `[CLASSES]`, by kind: one kind for
    each "<color> <shape>", "other" and "nothing"."""
    classes = np.arange(CLASSES)
    color_of, shape_of = (classes - 1) // len(SHAPES), (classes - 1) % len(SHAPES)
    background, nothing = classes == 0, np.zeros(CLASSES, dtype=bool)
    kinds: dict[str, list[tuple[str, np.ndarray]]] = {"other": [], "nothing": []}
    for pixel_class in range(1, CLASSES):
        name = name_of(pixel_class)
        kinds[name] = [(text, classes == pixel_class) for text in phrases(name)]
    other = [(text, color_of == n) for n, c in enumerate(COLORS) for text in (c, *phrases(f"{c} shape"))]
    other += [(text, (shape_of == n) & ~background) for n, shape in enumerate(SHAPES) for text in phrases(shape)]
    other += [(text, ~background) for text in phrases("shape")]
    kinds["other"] = other + [(text, background) for text in ("background", "the background")] * 3
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    made_up = ["".join(rng.choice(letters, size=rng.integers(1, 9))) for _ in range(300)]
    known = {word for prompts in kinds.values() for text, _ in prompts for word in text.split()}
    kinds["nothing"] = [(word, nothing) for word in (*OTHER_WORDS, *made_up, "") if word not in known]
    return kinds


class PromptBook:
    """All prompts as tensors, and the choice of what to ask of an image."""

    def __init__(self, tokenizer) -> None:
        kinds = all_prompts()
        prompts = [prompt for of_kind in kinds.values() for prompt in of_kind]
        encoded = tokenizer([text for text, _ in prompts], padding=True, return_tensors="pt")
        self.ids, self.attention = encoded["input_ids"], encoded["attention_mask"]
        self.selects = torch.from_numpy(np.stack([selects for _, selects in prompts]))
        numbers = iter(range(len(prompts)))
        self.by_kind = {kind: [next(numbers) for _ in of_kind] for kind, of_kind in kinds.items()}

    def choose(self, rng: np.random.Generator, classes: np.ndarray, count: int) -> list[int]:
        """Numbers of `count` prompts for an image: present, nearly present, then any."""
        present = np.flatnonzero(np.bincount(classes.ravel(), minlength=CLASSES)[1:] > 40) + 1
        numbers = []
        for index in range(count):
            lot = rng.random()
            if len(present) and index % 2 == 0 and (index == 0 or lot < 0.5):
                kind = name_of(int(rng.choice(present)))
            elif index % 2 == 0:
                kind = "other"
            elif len(present) and lot < 0.7:  # the same color in some shape, or the same shape in some color
                color, shape = name_of(int(rng.choice(present))).split()
                same_color = rng.random() < 0.6  # shapes are harder to distinguish than colors
                kind = f"{color} {rng.choice(SHAPES)}" if same_color else f"{rng.choice(COLORS)} {shape}"
            else:
                kind = "nothing" if lot < 0.8 else name_of(int(rng.integers(1, CLASSES)))
            numbers.append(int(rng.choice(self.by_kind[kind])))
        return numbers
