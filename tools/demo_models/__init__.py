"""The two demo models of models/demo/: the pictures they are trained on, their training, and how good they are."""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[2] / "models" / "demo"

# Models are trained on smaller seeds. Whoever measures or tests one draws its scenes from this seed on.
HELD_OUT = 1_000_000

# What ImageNet models, u2net and the real CLIPSeg expect: (value - MEAN) / STD for RGB in 0..1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def overlap_of(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two bool masks; 1 where both are empty."""
    union = (found | true).sum()
    return float((found & true).sum() / union) if union else 1.0
