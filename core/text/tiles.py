"""Runs a query on images: as a whole, or in tiles if they are too large."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch

from .. import masks
from ..batching import run_in_chunks
from ..engine import NO_PROGRESS, Host, Progress, TextMaskEngine
from ..errors import ModelError
from ..parallel import parallel_rows
from .query import Query

# Position embeddings are learned at one size and interpolated for others. Up to this multiple of the native size,
# images are processed as a whole; above it, in tiles.
_MAX_UNTILED_SCALE = 2
_OVERLAP = 1 / 4  # fraction of a tile that overlaps the next one


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
