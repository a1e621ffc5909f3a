"""What a model answers to a query: probabilities for whole images, or tile by tile where those are too large."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from .. import masks
from ..engine import NO_PROGRESS, Progress, TextMaskEngine
from ..errors import ModelError
from .query import Query

# Position embeddings are learned at one size and interpolated for others. Up to this many times the model's own size,
# the image is processed whole; above it, in tiles.
_LARGEST_WHOLE = 2
_OVERLAP = 1 / 4  # of a tile, shared with the next one


class TiledInference:
    """A model's probabilities for a query.

    ``progress`` may stop the work after each encoded prompt, and after each prompt in each tile; it counts no steps.
    """

    def __init__(self, engine: TextMaskEngine, query: Query, progress: Progress = NO_PROGRESS) -> None:
        self._engine, self._progress = engine, progress
        self._wanted = self._encode(query.prompts)
        self._unwanted = self._encode(query.negative_prompts)
        self.side = engine.input_side(query.scale)
        self.tile = min(self.side, engine.input_side(_LARGEST_WHOLE))

    @torch.no_grad()
    def _encode(self, prompts: Sequence[str]) -> list[torch.Tensor]:
        embeddings = []
        for prompt in prompts:
            embeddings.append(self._engine.encode_text(prompt))
            self._progress.step(0)
        return embeddings

    def shrink_tiles(self) -> bool:
        """Halve the tiles, down to the model's own size; False if they are no larger than that."""
        own = self._engine.side(1)
        if self.tile <= own:
            return False
        self.tile = max(own, self._engine.side(self.tile / own / 2))
        return True

    @torch.no_grad()
    def predict(self, image: torch.Tensor) -> torch.Tensor:
        """``[B,H,W,C]`` -> ``[B,r,r]`` at the resolution of the logits, which is `side` for patches of 16 pixels.

        Raises:
            ModelError: The model answers with NaN or infinity.
        """
        pixel_values = self._engine.preprocess(image.to(self._engine.device), self.side)
        scores = self._tiled_logits if self.tile < self.side else self._logits
        wanted, unwanted = scores(pixel_values)
        if not all(logits.isfinite().all() for logits in (wanted, unwanted) if logits is not None):
            raise ModelError(
                "the CLIPSeg model answered with NaN or infinite values",
                "Its weights may be damaged, or too large for half precision: run it in full precision, or fetch the "
                "model again",
                code="CLIPSeg not finite",
            )
        if unwanted is None:
            return wanted.sigmoid()
        return masks.combine(wanted.sigmoid(), unwanted.sigmoid(), "difference")

    def _logits(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits of the prompts and of the negative prompts, each the maximum over its prompts, ``[B,h,w]``.

        The sigmoid keeps order, so the largest logit is that of the largest probability.
        """
        activations = self._engine.encode_image(pixel_values)
        return self._largest(activations, self._wanted), self._largest(activations, self._unwanted)

    def _largest(self, activations: list[torch.Tensor], embeddings: list[torch.Tensor]) -> torch.Tensor | None:
        result = None
        for embedding in embeddings:
            logits = self._engine.decode(activations, embedding)
            result = logits if result is None else torch.maximum(result, logits)
            self._progress.step(0)
        return result

    def _tiled_logits(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `_logits`, from overlapping tiles, each faded into the next."""
        patch = self._engine.patch
        starts = _tile_starts(self.side // patch, self.tile // patch)  # in patches
        total, sums = None, []
        for y, x in itertools.product(starts, starts):
            seen = pixel_values[..., y * patch : y * patch + self.tile, x * patch : x * patch + self.tile]
            answers = [logits for logits in self._logits(seen) if logits is not None]
            if total is None:
                # A model whose patches are not 16 pixels has logits of another size than its image.
                per_patch = answers[0].shape[-1] * patch // self.tile
                side, tile = (length // patch * per_patch for length in (self.side, self.tile))
                fade = _fade(tile, answers[0].device)
                total = fade.new_zeros(side, side)
                sums = [fade.new_zeros(len(pixel_values), side, side) for _ in answers]
            place = (..., *(slice(start * per_patch, start * per_patch + tile) for start in (y, x)))
            total[place] += fade
            for logits, whole in zip(answers, sums):
                whole[place] += logits * fade
        return sums[0] / total, sums[1] / total if self._unwanted else None


def _tile_starts(length: int, tile: int) -> list[int]:
    """Starts of tiles that cover ``length`` evenly, each overlapping the next by about `_OVERLAP` or more."""
    overlap = int(tile * _OVERLAP)
    gaps = math.ceil((length - tile) / (tile - overlap))
    return [round(i * (length - tile) / max(1, gaps)) for i in range(gaps + 1)]


def _fade(tile: int, device: torch.device) -> torch.Tensor:
    """Weights of a tile's pixels ``[tile,tile]``: 1 inside, falling to nearly 0 over the overlap at its borders."""
    distance = torch.arange(tile, device=device) + 0.5
    row = torch.minimum(distance, tile - distance).div(tile * _OVERLAP).clamp(max=1)
    return row.view(-1, 1) * row
