"""Measures RefineMask at its defaults beside rembg's matting, pymatting and the mask alone.

python3 tools/dev.py quality
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import mattes
import numpy as np
import photographs
import torch
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core.cutout.matting import MattingSettings, make_trimap
from photographs import round_down, sad_mse, true_alpha
from PIL import Image

SEED = 0
LEGS = (slice(300, None), slice(215, None))  # the part of `camera` with only the tripod's legs
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""An 8-bit image ``[H,W,3]`` and mask ``[H,W]`` -> alpha ``[H,W]`` in levels of 255."""


def refine(image: np.ndarray, mask: np.ndarray, method: str = "closed form") -> np.ndarray:
    images, masks = (torch.from_numpy(each).float().div(255).unsqueeze(0) for each in (image, mask))
    alpha = NODE_CLASS_MAPPINGS["RefineMask"]().refine(images, masks, method)[0]
    return 255 * alpha[0].double().numpy()


def matte_with_rembg(image: np.ndarray, mask: np.ndarray, width: int = 10) -> np.ndarray:
    """rembg's matting, with its own default width; the mask where it cannot matte, as rembg does."""
    from rembg import bg

    try:
        cutout = bg.alpha_matting_cutout(Image.fromarray(image), Image.fromarray(mask), 240, 10, width)
    except ValueError:
        return mask.astype(np.float64)
    return np.array(cutout)[..., 3].astype(np.float64)


def matte_with_pymatting(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """pymatting's KNN matting with rembg's trimap."""
    from pymatting import estimate_alpha_knn

    trimap = make_trimap(torch.from_numpy(mask).float().div(255), MattingSettings(240, 10, 10)).double().numpy()
    return 255 * estimate_alpha_knn(image / 255.0, trimap)


METHODS: dict[str, Method] = {
    "the mask alone": lambda image, mask: mask.astype(np.float64),
    "rembg, erode size 10": matte_with_rembg,
    "rembg, erode size 20": lambda image, mask: matte_with_rembg(image, mask, 20),
    "pymatting, KNN": matte_with_pymatting,
    "Refine Mask, guided filter": lambda image, mask: refine(image, mask, "guided filter"),
    "**Refine Mask, closed form**": refine,
}


def find_mask(photograph: np.ndarray, model: str) -> np.ndarray:
    """The mask ``[H,W]`` of a model in 8 bits."""
    return (255 * photographs.remove_background(photograph, model, 0)[1][0]).round().byte().numpy()


def share_of_legs(alpha: np.ndarray, mask: np.ndarray) -> float:
    """How much of the mask of the tripod's legs is left: the sum of alpha over the part of `camera` with only the legs
    where the mask is above 127, divided by the sum of the mask there."""
    legs = mask[LEGS] > 127
    return float(round_down(alpha)[LEGS][legs].sum() / mask[LEGS][legs].sum())


def measure_photographs(models: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """For each method: its name, SAD of `lemur` with the mask of each model, and what is left of the legs."""
    lemur, camera = photographs.load("lemur"), photographs.load("camera")
    masks, legs = [find_mask(lemur, model) for model in models], find_mask(camera, "u2netp")
    for name, method in METHODS.items():
        errors = [f"{sad_mse(round_down(method(lemur, mask)), true_alpha())[0]:.2f}" for mask in masks]
        yield name, *errors, f"{share_of_legs(method(camera, legs), legs):.0%}"


def measure_composites() -> Iterator[tuple[str, ...]]:
    """For each method: its name, and SAD for each composite."""
    composites = list(mattes.draw_composites(SEED))
    for name, method in METHODS.items():
        yield name, *(f"{sad_mse(method(image, mask), true)[0]:.2f}" for _, image, true, mask in composites)
