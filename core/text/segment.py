"""Text to mask, for a batch of images.

The encoded image serves all prompts, so the cost hardly depends on their number. Above twice the model's own size, or
when memory runs out below that, the image is processed in overlapping tiles whose logits are blended. Tiles keep fine
detail, but the model sees nothing beyond a tile: large objects are found better at a lower resolution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .. import tensors
from ..batching import run_in_chunks
from ..checks import check_choice
from ..engine import Host, TextMaskEngine
from ..memory import STANDALONE_HOST
from ..parallel import parallel_rows
from .query import Query
from .selection import Selection, render_selection, select, stretch
from .tiles import TiledInference

NORMALIZATIONS = ("stretch", "none")


class Scores(NamedTuple):
    """How likely each pixel is what the query names.

    Attributes:
        masks: ``[B,H,W]``, on the image's device.
        probabilities: ``[r,r]`` each, of the first images, at the model's resolution: what the masks are made of.
    """

    masks: torch.Tensor
    probabilities: list[torch.Tensor]


class Segments(NamedTuple):
    """A soft selection of what the query names.

    Attributes:
        masks: ``[B,H,W]``, on the image's device; zero where nothing is above the threshold.
        heat_maps: ``[B,H,W,3]``: the images under the colors of the selection, or unchanged where nothing is selected.
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
    """Score every pixel by how likely it is what the query names.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is ignored.
        normalization: ``stretch`` scales each mask as `stretch` does; ``none`` returns the probability itself.
        keep: For how many images the probabilities are returned too.

    Raises:
        InputError: ``normalization`` is unknown.
    """
    check_choice(normalization, "normalization", NORMALIZATIONS)
    height, width = image.shape[1:3]
    progress = host.progress(len(image))
    inference = TiledInference(engine, query, progress)

    def work(entries: slice) -> tuple[torch.Tensor, ...]:
        probabilities = inference.predict(image[entries])
        if normalization == "stretch":
            return probabilities, stretch(probabilities, height, width)
        return probabilities, tensors.resize_mask(probabilities, height, width, "bicubic")

    result = Scores(tensors.empty(image.shape[:3], image.device), [])
    work = parallel_rows(work) if engine.on_cpu else work
    chunk = engine.batch_size(inference.side)
    for entries, (probabilities, masks) in run_in_chunks(
        len(image), chunk, work, host, progress, inference.shrink_tiles
    ):
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
    """Select what the query names: `select` at the model's resolution, then resized to the image.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is ignored.
        keep: For how many images the probabilities are returned too.
    """
    progress = host.progress(len(image))
    inference = TiledInference(engine, query, progress)

    def work(entries: slice) -> tuple[torch.Tensor, ...]:
        probabilities = inference.predict(image[entries])
        chosen = select(probabilities, selection or Selection(), query.scale)
        return probabilities, *render_selection(image[entries].to(chosen.device), chosen)

    result = Segments(
        tensors.empty(image.shape[:3], image.device), tensors.empty((*image.shape[:3], 3), image.device), []
    )
    work = parallel_rows(work) if engine.on_cpu else work
    chunk = engine.batch_size(inference.side)
    for entries, parts in run_in_chunks(len(image), chunk, work, host, progress, inference.shrink_tiles):
        probabilities, result.masks[entries], result.heat_maps[entries] = parts
        result.probabilities.extend(probabilities[: max(0, keep - entries.start)])
    return result
