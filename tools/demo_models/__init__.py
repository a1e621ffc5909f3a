"""The two demo models of models/demo/: their training images, training and evaluation."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parents[2] / "models" / "demo"

HELD_OUT = 1_000_000  # models are trained on smaller seeds; tests and measurements use seeds from this one up


def draw_pool(draw: Callable, seeds: range, *arguments: object) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of arrays that `draw(seed, *arguments)` returns, stacked; on all cores."""
    with ProcessPoolExecutor() as workers:
        pairs = list(workers.map(draw, seeds, *([argument] * len(seeds) for argument in arguments), chunksize=50))
    first, second = zip(*pairs, strict=True)
    return np.stack(first), np.stack(second)


def normalize(bchw: torch.Tensor) -> torch.Tensor:
    """Values 0..1 as ImageNet models, u2net and the real CLIPSeg expect them."""
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    return (bchw - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def overlap_of(mask: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two bool masks; 1 if both are empty."""
    union = (mask | true).sum()
    return float((mask & true).sum() / union) if union else 1.0
