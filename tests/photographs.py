"""Photographs with and without a true alpha, and background removal on them by this pack, with rembg's settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from maskwright import NODE_CLASS_MAPPINGS
from PIL import Image

ROOT = Path(__file__).parent.parent
LEMUR = ROOT / "example_workflows" / "assets" / "lemur.png"
LEMUR_ALPHA = ROOT / "tests" / "data" / "lemur_alpha.png"
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "lemur")  # all but the last from scikit-image
FOREGROUND, BACKGROUND = 240, 20  # thresholds


def load(name: str) -> np.ndarray:
    """The 8-bit image ``[H,W,3]``. Raises: `ImportError` or `OSError` if scikit-image lacks it."""
    if name == "lemur":
        return np.array(Image.open(LEMUR).convert("RGB"))
    from skimage import data

    return np.array(Image.fromarray(getattr(data, name)()).convert("RGB"))


def remove_background(photograph: np.ndarray, model: str, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cutouts and masks by this pack's node. Matting is off if the edge width is 0."""
    settings = ("true" if width else "false", FOREGROUND, BACKGROUND, width, "false")
    images = torch.from_numpy(photograph).float().div(255).unsqueeze(0)
    result = NODE_CLASS_MAPPINGS["ImageSegmentation"]().node(images, model, *settings)
    return result["result"] if isinstance(result, dict) else result  # it may contain data for the editor


def rembg_settings(width: int) -> dict[str, int]:
    """The same settings for `rembg.remove`."""
    return {
        "alpha_matting": width > 0,
        "alpha_matting_foreground_threshold": FOREGROUND,
        "alpha_matting_background_threshold": BACKGROUND,
        "alpha_matting_erode_size": width,
    }


def true_alpha() -> np.ndarray:
    """The lemur's, ``[H,W]`` in levels of 255."""
    return np.array(Image.open(LEMUR_ALPHA).convert("L"))


def round_down(alpha: np.ndarray) -> np.ndarray:
    """To 8 bits, as rembg and ComfyUI save images."""
    return np.floor(alpha + 1e-3)


def sad_mse(alpha: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Sum of absolute differences in thousands and mean squared error in thousandths, from levels of 255."""
    difference = (alpha.astype(np.float64) - true) / 255
    return float(np.abs(difference).sum() / 1000), float((difference**2).mean() * 1000)
