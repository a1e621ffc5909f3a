"""A query of text to mask, and how well each pixel of an image matches it.

All prompts share one encoded image, so their number hardly affects the cost. Above twice the model's native size, or
if memory runs out, images are processed in overlapping tiles whose logits are blended. Tiles preserve fine detail, but
the model sees only one tile at a time: lower resolutions are better for large objects.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .. import masks
from ..batching import NO_PROGRESS, parallel_map
from ..checks import check_whole_number
from ..engine import Progress, TextMaskEngine
from ..errors import InputError, ModelError

# Input size of the published model. Resolutions refer to it, whatever the model.
RESOLUTION = 352
RESOLUTION_STEP = 32
MAX_RESOLUTION = 2048
# Position embeddings are learned at one size and interpolated for others. Up to this multiple of the native size,
# images are processed as a whole; above it, in tiles.
_MAX_UNTILED_SCALE = 2
_OVERLAP = 1 / 4  # fraction of a tile that overlaps the next one


def split_prompts(text: str | None, name: str = "text") -> list[str]:
    """Split a text into prompts at ``|``; commas do not separate.

    Empty parts are dropped. An empty text, or None, is one empty prompt.

    Raises:
        InputError: ``text`` is not a valid string.
    """
    if text is None:
        return [""]
    if not isinstance(text, str):
        raise InputError(f"{name} is of type {type(text).__name__}, not a text", "Enter a text, or connect a STRING")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON allows
        raise InputError(
            f"{name} contains {text[error.start]!r}, which is not a valid character", "Remove it from the text"
        ) from error
    return list(filter(None, map(str.strip, text.split("|")))) or [""]


@dataclass(frozen=True)
class Query:
    """What to look for.

    Attributes:
        text: Prompts separated by ``|``. The probability of a pixel is the largest over all prompts.
        negative_text: Prompts whose probability is subtracted; empty for none.
        resolution: Side of the square model input in pixels, a multiple of 32 from 352 to 2048, for the published model
            with its native size of 352. Other models use their native size times resolution / 352.
    """

    text: str | None
    negative_text: str | None = ""
    resolution: int = RESOLUTION

    def __post_init__(self) -> None:
        split_prompts(self.text)
        split_prompts(self.negative_text, "negative_text")
        resolution = check_whole_number(self.resolution, "resolution", RESOLUTION, MAX_RESOLUTION)
        if resolution % RESOLUTION_STEP:
            raise InputError(
                f"resolution is {resolution}, which is not a multiple of {RESOLUTION_STEP}",
                f"Use {round(resolution / RESOLUTION_STEP) * RESOLUTION_STEP}",
            )

    @property
    def scale(self) -> float:
        """Input size relative to the model's native size."""
        return self.resolution / RESOLUTION


class TiledInference:
    """Computes the probabilities of a query.

    Args:
        progress: Checked for an interrupt after each encoded prompt, and after each prompt in each tile.

    Attributes:
        side: Side of the square to which an image is resized, in pixels.
        tile: Side of the part of it that the model sees at a time.
        batch_size: Number of images to try in one batch.
    """

    @torch.no_grad()
    def __init__(self, engine: TextMaskEngine, query: Query, progress: Progress = NO_PROGRESS) -> None:
        self._engine, self._progress = engine, progress
        self.side = engine.input_side(query.scale)
        self.tile = min(self.side, engine.input_side(_MAX_UNTILED_SCALE))
        self.batch_size = engine.batch_size(self.side)
        self._embeddings: list[list[torch.Tensor]] = []  # of the prompts, and of the negative prompts if there are any
        positive, negative = split_prompts(query.text), split_prompts(query.negative_text)
        for prompts in [positive] if negative == [""] else [positive, negative]:
            embeddings = []
            for prompt in prompts:
                embeddings.append(engine.encode_text(prompt))
                progress.step(0)
            self._embeddings.append(embeddings)

    def shrink_tiles(self) -> bool:
        """Halve the tile size, down to the model's native size. Returns False if it cannot shrink."""
        native = self._engine.input_side(1)
        if self.tile <= native:
            return False
        self.tile = max(native, self._engine.input_side(self.tile / native / 2))
        return True

    def map_rows(self, work: Callable[[slice], torch.Tensor], entries: slice) -> torch.Tensor:
        """``work(entries)``; on the CPU for each image alone, several in parallel."""
        starts, stops = range(entries.start, entries.stop), range(entries.start + 1, entries.stop + 1)
        rows = list(map(slice, starts, stops)) if self._engine.on_cpu else [entries]
        return torch.cat(parallel_map(work, rows))

    @torch.no_grad()
    def predict(self, image: torch.Tensor) -> torch.Tensor:
        """``[B,H,W,C]`` -> ``[B,r,r]`` at the resolution of the logits, which is `side` for patches of 16 pixels.

        Raises:
            ModelError: The model's output contains NaN or infinity.
        """
        pixel_values = self._engine.preprocess(image.to(self._engine.device), self.side)
        compute_logits = self._compute_tiled_logits if self.tile < self.side else self._compute_logits
        logits = compute_logits(pixel_values)
        if not logits.isfinite().all():
            raise ModelError(
                "the output of the CLIPSeg model contains NaN or infinity",
                "Its weights may be damaged, or too large for half precision: use full precision, or download it again",
                code="CLIPSeg not finite",
            )
        positive, *negative = logits.sigmoid()
        return masks.combine(positive, negative[0], "difference") if negative else positive

    def _compute_logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits ``[1 or 2,B,h,w]`` of the prompts and of the negative prompts, each the maximum over its prompts.

        The sigmoid is monotonic, so the largest logit has the largest probability.
        """
        activations = self._engine.encode_image(pixel_values)
        maxima = []
        for first, *others in self._embeddings:
            highest = self._engine.decode(activations, first)
            self._progress.step(0)
            for embedding in others:
                highest = torch.maximum(highest, self._engine.decode(activations, embedding))
                self._progress.step(0)
            maxima.append(highest)
        return torch.stack(maxima)

    def _compute_tiled_logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Like `_compute_logits`, blended from overlapping tiles."""
        patch = self._engine.patch
        starts = _tile_starts(self.side // patch, self.tile // patch)  # in patches
        blended = total = torch.empty(0)
        for y, x in itertools.product(starts, starts):
            crop = pixel_values[..., y * patch : y * patch + self.tile, x * patch : x * patch + self.tile]
            logits = self._compute_logits(crop)
            if not blended.numel():
                # If patches are not 16 pixels, logits and input differ in size.
                per_patch = logits.shape[-1] * patch // self.tile
                side, tile = (length // patch * per_patch for length in (self.side, self.tile))
                weights = _tile_weights(tile, logits.device)
                total = weights.new_zeros(side, side)
                blended = weights.new_zeros(*logits.shape[:2], side, side)
            position = (..., *(slice(start * per_patch, start * per_patch + tile) for start in (y, x)))
            total[position] += weights
            blended[position] += logits * weights
        return blended / total


def _tile_starts(length: int, tile: int) -> list[int]:
    """Starts of evenly spaced tiles that cover ``length`` and overlap by at least about `_OVERLAP`."""
    overlap = int(tile * _OVERLAP)
    gaps = math.ceil((length - tile) / (tile - overlap))
    return [round(i * (length - tile) / max(1, gaps)) for i in range(gaps + 1)]


def _tile_weights(tile: int, device: torch.device) -> torch.Tensor:
    """Blending weights ``[tile,tile]``: 1 inside, falling to nearly 0 over the overlap at the borders."""
    distance = torch.arange(tile, device=device) + 0.5
    row = torch.minimum(distance, tile - distance).div(tile * _OVERLAP).clamp(max=1)
    return row.view(-1, 1) * row
