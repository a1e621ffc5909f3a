"""The scenes that the demo models of models/demo/ are trained and tested on."""

import numpy as np

HELD_OUT = 1_000_000  # models are trained on smaller seeds; tests use seeds from this one up


def overlap_of(mask: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two bool masks; 1 if both are empty."""
    union = (mask | true).sum()
    return float((mask & true).sum() / union) if union else 1.0
