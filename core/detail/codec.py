"""Encodes and decodes crops row by row; in tiles after memory has run out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from .. import tensors
from ..batching import iterate_chunks
from ..engine import Host, Pipe, Vae
from ..errors import PackError

logger = logging.getLogger(__name__)


class Codec:
    """A VAE that falls back to tiles.

    Args:
        vae, host: See `engine`.
        tiled: Whether to use tiles from the start.
    """

    def __init__(self, vae: Vae, host: Host, tiled: bool) -> None:
        self._vae, self._host, self._tiled = vae, host, tiled

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[B,H,W,3]`` in 0..1 -> samples ``[B,C,h,w]``, with a time axis if the model has one.

        Raises:
            PackError: The VAE returned NaN, or memory ran out.
        """
        samples = concatenate([*self._run(self._vae.encode, pixels.split(1))])
        _check(samples, "encoded")
        return samples

    def encode_for_inpainting(
        self, pipe: Pipe, pixels: torch.Tensor, mask: torch.Tensor
    ) -> tuple[Any, Any, Mapping[str, Any]]:
        """`Vae.encode_for_inpainting` for the pipe's conditionings."""
        encode = partial(self._encode_for_inpainting, pipe, mask)
        ((positive, negative, latent),) = self._run(encode, [pixels])
        _check(latent["samples"], "encoded")
        return positive, negative, latent

    def _encode_for_inpainting(self, pipe: Pipe, mask: torch.Tensor, pixels: torch.Tensor, tiled: bool) -> tuple:
        return self._vae.encode_for_inpainting(pipe.positive, pipe.negative, pixels, mask, tiled)

    def decode(self, samples: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Samples -> ``[B,H,W,3]`` in 0..1 on ``device``; more rows if the VAE decodes several frames.

        Raises:
            PackError: The VAE returned NaN, or memory ran out.
        """
        decoded = []
        for pixels in self._run(self._vae.decode, samples.split(1)):
            _check(pixels, "decoded")
            decoded.append(tensors.drop_alpha(pixels.to(device, torch.float32)).clamp(0, 1))
        return concatenate(decoded)

    def _run(self, work: Callable[[torch.Tensor, bool], Any], rows: Sequence[torch.Tensor]) -> Iterator[Any]:
        """Yield ``work(row, tiled)`` for each row; in tiles after memory has run out."""
        try:
            for chunk in iterate_chunks(len(rows), 1, self._host, shrink=self._use_tiles):
                with chunk as entries:
                    yield work(rows[entries.start], self._tiled)
        except Exception as error:
            if not self._host.is_out_of_memory(error):
                raise
            raise PackError(
                "The VAE ran out of memory, even in tiles", "Lower max_size or guide_size, or free memory elsewhere"
            ) from error

    def _use_tiles(self) -> bool:
        """Switch to tiles. Return False if they are already in use, so a retry would need as much memory."""
        if self._tiled:
            return False
        self._tiled = True
        logger.warning("The VAE ran out of memory; continuing in tiles")
        return True


def concatenate(rows: list[torch.Tensor]) -> torch.Tensor:
    """Concatenate rows to a batch; a single row is not copied."""
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def is_finite(values: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    low, high = values.aminmax()  # one pass over the memory; NaN makes both NaN
    return math.isfinite(low.item()) and math.isfinite(high.item())


def _check(values: torch.Tensor, verb: str) -> None:
    if not is_finite(values):
        raise PackError(
            f"The VAE returned NaN or infinite values when it {verb} a crop",
            "Run the VAE in full precision, or use another VAE",
            code="VAE not finite",
        )
