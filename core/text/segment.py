"""Text to mask, for a batch of images.

All prompts share one encoded image, so their number hardly affects the cost. Above twice the model's native size, or
if memory runs out, images are processed in overlapping tiles whose logits are blended. Tiles preserve fine detail, but
the model sees only one tile at a time: lower resolutions are better for large objects.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .. import tensors
from ..checks import check_choice
from ..engine import Host, TextMaskEngine
from ..memory import STANDALONE_HOST
from .query import Query
from .selection import Selection, render_selection, select, stretch
from .tiles import TiledInference

NORMALIZATIONS = ("stretch", "none")


class Scores(NamedTuple):
    """How well each pixel matches the query.

    Attributes:
        masks: ``[B,H,W]``, on the image's device.
        probabilities: For each of the first ``keep`` images ``[r,r]``, at the model's resolution.
    """

    masks: torch.Tensor
    probabilities: list[torch.Tensor]


class Segments(NamedTuple):
    """A soft selection of what the query describes.

    Attributes:
        masks: ``[B,H,W]``, on the image's device; 0 for images with nothing above the threshold.
        heat_maps: ``[B,H,W,3]``, the images overlaid with the selection's colors; unchanged if nothing is selected.
        probabilities: As in `Scores`.
    """

    masks: torch.Tensor
    heat_maps: torch.Tensor
    probabilities: list[torch.Tensor]


def score(
    image: torch.Tensor,
    engine: TextMaskEngine,
    query: Query,
    normalization: str = "stretch",
    host: Host = STANDALONE_HOST,
    keep: int = 0,
) -> Scores:
    """Score how well each pixel matches the query.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is ignored.
        normalization: ``stretch`` scales each mask (see `selection.stretch`); ``none`` returns raw probabilities.
        keep: Number of images whose probabilities are also returned.

    Raises:
        InputError: ``normalization`` is unknown.
    """
    check_choice(normalization, "normalization", NORMALIZATIONS)
    height, width = image.shape[1:3]
    inference = TiledInference(engine, query, host.progress(len(image)))

    def work(entries: slice) -> tuple[torch.Tensor, ...]:
        probabilities = inference.predict(image[entries])
        if normalization == "stretch":
            return probabilities, stretch(probabilities, height, width)
        return probabilities, tensors.resize_mask(probabilities, height, width, "bicubic")

    result = Scores(tensors.empty(image.shape[:3], image.device), [])
    for entries, (probabilities, masks) in inference.run_in_chunks(len(image), work, host):
        result.masks[entries] = masks
        result.probabilities.extend(probabilities[: max(0, keep - entries.start)])
    return result


def segment(
    image: torch.Tensor,
    engine: TextMaskEngine,
    query: Query,
    selection: Selection | None = None,
    host: Host = STANDALONE_HOST,
    keep: int = 0,
) -> Segments:
    """Select what the query describes, at the model's resolution (see `selection.select`), and resize it to the image.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is ignored.
        keep: Number of images whose probabilities are also returned.
    """
    inference = TiledInference(engine, query, host.progress(len(image)))

    def work(entries: slice) -> tuple[torch.Tensor, ...]:
        probabilities = inference.predict(image[entries])
        selected = select(probabilities, selection or Selection(), query.scale)
        return probabilities, *render_selection(image[entries].to(selected.device), selected)

    result = Segments(
        tensors.empty(image.shape[:3], image.device), tensors.empty((*image.shape[:3], 3), image.device), []
    )
    for entries, parts in inference.run_in_chunks(len(image), work, host):
        probabilities, result.masks[entries], result.heat_maps[entries] = parts
        result.probabilities.extend(probabilities[: max(0, keep - entries.start)])
    return result
