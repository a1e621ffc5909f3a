"""ComfyUI's VAE as the detailer wants it: rows are pictures, sizes are known, tiles on request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from . import node_output

# Of ComfyUI's own nodes for tiles, pixels.
_TILE, _OVERLAP = 512, 64


@dataclass(frozen=True)
class HostVae:
    """An `engine.Vae` around a VAE object of ComfyUI."""

    vae: Any

    @property
    def multiple(self) -> int:
        # ComfyUI's models and its node for inpainting count in eights, whatever the VAE.
        return math.lcm(8, max(1, int(self.vae.spacial_compression_encode())))

    def encode(self, image: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        image = image[..., :3]
        if not tiled:
            return self.vae.encode(image)
        return self.vae.encode_tiled(image, tile_x=_TILE, tile_y=_TILE, overlap=_OVERLAP)

    def decode(self, samples: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        if samples.ndim == 5 and getattr(self.vae, "latent_dim", 3) == 2:  # newer hosts do this too, but not in tiles
            samples = samples[:, :, 0]
        if not tiled:
            pixels = self.vae.decode(samples)
        else:
            ratio = max(1, int(self.vae.spacial_compression_decode()))
            tile, overlap = max(1, _TILE // ratio), _OVERLAP // ratio
            pixels = self.vae.decode_tiled(samples, tile_x=tile, tile_y=tile, overlap=overlap)
        return pixels.reshape(-1, *pixels.shape[-3:])  # [B,frames,H,W,C] -> [B,H,W,C], a frame each

    def encode_for_inpainting(
        self, positive: Any, negative: Any, image: torch.Tensor, mask: torch.Tensor, tiled: bool = False
    ) -> tuple[Any, Any, Mapping[str, Any]]:
        placeholder = isinstance(negative, str)
        made = node_output(
            "InpaintModelConditioning",
            positive=positive,
            negative=positive if placeholder else negative,
            pixels=image,
            vae=_RowByRow(self, tiled),
            mask=mask,
            noise_mask=True,
        )
        return made[0], negative if placeholder else made[1], made[2]


@dataclass(frozen=True)
class _RowByRow:
    """What the node asks of a VAE. Each row is encoded alone: a VAE for video would take them for frames."""

    vae: HostVae
    tiled: bool

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.vae.encode(row, self.tiled) for row in pixels.split(1)])
