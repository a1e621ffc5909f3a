"""Adapts ComfyUI's VAE to the detailer: rows are separate images, sizes have a known multiple, tiles on request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from . import run_node

# In pixels, as in ComfyUI's own nodes for tiled VAEs.
_TILE, _OVERLAP = 512, 64


@dataclass(frozen=True)
class HostVae:
    """An `engine.Vae` around a VAE object of ComfyUI."""

    vae: Any

    @property
    def multiple(self) -> int:
        # ComfyUI's models and its inpainting node need multiples of 8, whatever the VAE.
        return math.lcm(8, self.ratio)

    @property
    def ratio(self) -> int:
        return max(1, int(self.vae.spacial_compression_encode()))

    def encode(self, image: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        image = image[..., :3]
        if not tiled:
            return self.vae.encode(image)
        return self.vae.encode_tiled(image, tile_x=_TILE, tile_y=_TILE, overlap=_OVERLAP)

    def decode(self, samples: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        # An image VAE takes no time axis. Newer ComfyUI drops it too, but not for tiles.
        if samples.ndim == 5 and getattr(self.vae, "latent_dim", 3) == 2:
            samples = samples[:, :, 0]
        if not tiled:
            pixels = self.vae.decode(samples)
        else:
            ratio = max(1, int(self.vae.spacial_compression_decode()))
            tile, overlap = max(1, _TILE // ratio), _OVERLAP // ratio
            pixels = self.vae.decode_tiled(samples, tile_x=tile, tile_y=tile, overlap=overlap)
        return pixels.reshape(-1, *pixels.shape[-3:])  # [B,frames,H,W,C] -> [B*frames,H,W,C]

    def encode_for_inpainting(
        self, positive: Any, negative: Any, image: torch.Tensor, mask: torch.Tensor, tiled: bool = False
    ) -> tuple[Any, Any, Mapping[str, Any]]:
        is_placeholder = isinstance(negative, str)
        outputs = run_node(
            "InpaintModelConditioning",
            positive=positive,
            negative=positive if is_placeholder else negative,
            pixels=image,
            vae=_RowByRow(self, tiled),
            mask=mask,
            noise_mask=True,
        )
        return outputs[0], negative if is_placeholder else outputs[1], outputs[2]


@dataclass(frozen=True)
class _RowByRow:
    """The part of a VAE that the node uses. Encodes each row alone: a video VAE would treat rows as frames."""

    vae: HostVae
    tiled: bool

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.vae.encode(row, self.tiled) for row in pixels.split(1)])
