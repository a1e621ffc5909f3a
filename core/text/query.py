"""A query of text to mask, and how well each pixel of an image matches it.

All prompts share one encoded image, so their number hardly affects the cost. Above twice the model's native size, or
if memory runs out, images are processed in overlapping tiles whose logits are blended. Tiles preserve fine detail, but
the model sees only one tile at a time: lower resolutions are better for large objects.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from .. import masks
from ..batching import NO_PROGRESS, parallel_rows, run_in_chunks
from ..checks import check_whole_number
from ..engine import Host, Progress, TextMaskEngine
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
    return [part.strip() for part in text.split("|") if part.strip()] or [""]


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
    def prompts(self) -> list[str]:
        return split_prompts(self.text)

    @property
    def negative_prompts(self) -> list[str]:
        return [prompt for prompt in split_prompts(self.negative_text) if prompt]

    @property
    def scale(self) -> float:
        """Input size relative to the model's native size."""
        return self.resolution / RESOLUTION


class TiledInference:
    """Computes the probabilities of a query.

    ``progress`` advances by one step per image. It is also checked for an interrupt after each encoded prompt and after
    each prompt in each tile.
    """

    def __init__(self, engine: TextMaskEngine, query: Query, progress: Progress = NO_PROGRESS) -> None:
        self._engine, self._progress = engine, progress
        self._positive = self._encode(query.prompts)
        self._negative = self._encode(query.negative_prompts)
        self.side = engine.input_side(query.scale)
        self.tile = min(self.side, engine.input_side(_MAX_UNTILED_SCALE))

    @torch.no_grad()
    def _encode(self, prompts: Sequence[str]) -> list[torch.Tensor]:
        embeddings = []
        for prompt in prompts:
            embeddings.append(self._engine.encode_text(prompt))
            self._progress.step(0)
        return embeddings

    def _shrink_tiles(self) -> bool:
        """Halve the tile size, down to the model's native size. Returns False if it cannot shrink."""
        native = self._engine.input_side(1)
        if self.tile <= native:
            return False
        self.tile = max(native, self._engine.input_side(self.tile / native / 2))
        return True

    def run_in_chunks(
        self, total: int, work: Callable[[slice], tuple[torch.Tensor, ...]], host: Host
    ) -> Iterator[tuple[slice, tuple[torch.Tensor, ...]]]:
        """Yield ``(entries, work(entries))`` for a batch of ``total`` images. ``work`` calls `predict`. On a CPU its
        rows run in parallel. If memory runs out, chunks and then tiles get smaller."""
        work = parallel_rows(work) if self._engine.on_cpu else work
        size = self._engine.batch_size(self.side)
        return run_in_chunks(total, size, work, host, self._progress, self._shrink_tiles)

    @torch.no_grad()
    def predict(self, image: torch.Tensor) -> torch.Tensor:
        """``[B,H,W,C]`` -> ``[B,r,r]`` at the resolution of the logits, which is `side` for patches of 16 pixels.

        Raises:
            ModelError: The model's output contains NaN or infinity.
        """
        pixel_values = self._engine.preprocess(image.to(self._engine.device), self.side)
        compute_logits = self._compute_tiled_logits if self.tile < self.side else self._compute_logits
        positive, negative = compute_logits(pixel_values)
        if not all(logits.isfinite().all() for logits in (positive, negative) if logits is not None):
            raise ModelError(
                "the output of the CLIPSeg model contains NaN or infinity",
                "Its weights may be damaged, or too large for half precision: use full precision, or download it again",
                code="CLIPSeg not finite",
            )
        if negative is None:
            return positive.sigmoid()
        return masks.combine(positive.sigmoid(), negative.sigmoid(), "difference")

    def _compute_logits(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits ``[B,h,w]`` of the prompts and of the negative prompts, each the maximum over its prompts.

        The sigmoid is monotonic, so the largest logit has the largest probability.
        """
        activations = self._engine.encode_image(pixel_values)
        positive = self._decode_maximum(activations, self._positive)
        return positive, self._decode_maximum(activations, self._negative) if self._negative else None

    def _decode_maximum(self, activations: list[torch.Tensor], embeddings: list[torch.Tensor]) -> torch.Tensor:
        return functools.reduce(torch.maximum, self._decode_each(activations, embeddings))

    def _decode_each(self, activations: list[torch.Tensor], embeddings: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        for embedding in embeddings:
            yield self._engine.decode(activations, embedding)
            self._progress.step(0)

    def _compute_tiled_logits(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Like `_compute_logits`, blended from overlapping tiles."""
        patch = self._engine.patch
        starts = _tile_starts(self.side // patch, self.tile // patch)  # in patches
        total, sums = None, []
        for y, x in itertools.product(starts, starts):
            crop = pixel_values[..., y * patch : y * patch + self.tile, x * patch : x * patch + self.tile]
            tile_logits = [logits for logits in self._compute_logits(crop) if logits is not None]
            if total is None:
                # If patches are not 16 pixels, logits and input differ in size.
                per_patch = tile_logits[0].shape[-1] * patch // self.tile
                side, tile = (length // patch * per_patch for length in (self.side, self.tile))
                weights = _tile_weights(tile, tile_logits[0].device)
                total = weights.new_zeros(side, side)
                sums = [weights.new_zeros(len(pixel_values), side, side) for _ in tile_logits]
            position = (..., *(slice(start * per_patch, start * per_patch + tile) for start in (y, x)))
            total[position] += weights
            for logits, whole in zip(tile_logits, sums):
                whole[position] += logits * weights
        assert total is not None  # there is at least one tile
        return sums[0] / total, sums[1] / total if self._negative else None


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
