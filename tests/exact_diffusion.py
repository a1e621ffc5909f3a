"""A VAE, a sampler and a diffusion model with known results, to test the detailer without a host.

The VAE is lossless: it moves pixels into channels and back. The model is the exact denoiser for a known target plus
Gaussian noise. Its output, the posterior mean, has a closed form, and so has the end of its probability flow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from maskwright.core.engine import SamplerRun

MAX_SIGMA = 10.0


@dataclass
class SpaceToDepthVae:
    """Turns blocks of ``multiple`` x ``multiple`` pixels into channels, scaled to -1..1."""

    multiple: int = 8
    encoded: list[torch.Size] = field(default_factory=list)
    tiled: list[bool] = field(default_factory=list)
    trouble: Callable[[str, torch.Tensor, bool], None] = lambda work, values, tiled: None

    @property
    def ratio(self) -> int:
        return self.multiple

    def encode(self, image: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        self._note("encode", image, tiled)
        assert image.shape[1] % self.multiple == image.shape[2] % self.multiple == 0, "the host would crop the image"
        assert image.shape[3] == 3 and len(image) == 1
        self.encoded.append(image.shape)
        return F.pixel_unshuffle(image.permute(0, 3, 1, 2), self.multiple) * 2 - 1  # [B,H,W,3] -> [B,3,H,W]

    def decode(self, samples: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        self._note("decode", samples, tiled)
        return F.pixel_shuffle((samples + 1) / 2, self.multiple).permute(0, 2, 3, 1)  # [B,3,H,W] -> [B,H,W,3]

    def encode_for_inpainting(self, positive, negative, image, mask, tiled=False):
        assert len(mask) == len(image)
        samples = torch.cat([self.encode(row, tiled) for row in image.split(1)])
        mask = F.interpolate(mask[:, None], image.shape[1:3], mode="bilinear")[:, 0]
        return ("inpaint", positive), ("inpaint", negative), {"samples": samples, "noise_mask": mask}

    def _note(self, work: str, values: torch.Tensor, tiled: bool) -> None:
        self.tiled.append(tiled)
        self.trouble(work, values, tiled)


@dataclass(frozen=True)
class KnownTarget:
    """The posterior mean of x0 given x0 + sigma n, for x0 ~ N(target, spread^2)."""

    target: torch.Tensor | float
    spread: float = 0.0

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        target = torch.as_tensor(self.target).expand_as(x) if not isinstance(self.target, float) else self.target
        return (self.spread**2 * x + sigma**2 * target) / (self.spread**2 + sigma**2)

    def flow_end(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """The end of the probability flow from ``x`` at ``sigma``: dx / dsigma = (x - D) / sigma (Karras et al., 2022),
        solved for this D."""
        return self.target + (x - self.target) * self.spread / math.sqrt(self.spread**2 + sigma**2)


def sigmas(total: int) -> torch.Tensor:
    """A schedule of ``total`` steps, ``[total + 1]``, down to 0."""
    return MAX_SIGMA * torch.linspace(1, 0, total + 1) ** 3


def noise_for(samples: torch.Tensor, seeds: tuple[int, ...]) -> torch.Tensor:
    rows = []
    for part, seed in zip(samples.chunk(len(seeds)), seeds):
        seed = seed if seed < 1 << 63 else seed - (1 << 64)
        rows.append(torch.randn(part.shape, generator=torch.Generator().manual_seed(seed)))
    return torch.cat(rows)


@dataclass
class EulerSampler:
    """Euler's method for models ``(x, sigma) -> x0``, with noise masks as in the host."""

    runs: list[SamplerRun] = field(default_factory=list)
    expected: list[int] = field(default_factory=list)
    dependent: tuple[str, ...] = ("ancestral",)
    trouble: Callable[[SamplerRun], None] = lambda run: None

    def set_total_steps(self, steps: int, done: int = 0) -> None:
        self.expected.append(steps - done)

    def rows_are_independent(self, sampler_name: str) -> bool:
        return sampler_name not in self.dependent

    def add_differential_diffusion(self, model):
        return model

    def sample(self, run: SamplerRun) -> torch.Tensor:
        self.runs.append(run)
        self.trouble(run)
        schedule = sigmas(run.total_steps)[run.start_step : run.end_step + 1].tolist()
        clean = run.latent["samples"]
        mask = run.latent.get("noise_mask")
        weight = 1.0 if mask is None else F.interpolate(mask[:, None], clean.shape[-2:], mode="bilinear")
        noise = run.noise if run.noise is not None else noise_for(clean, run.seeds)
        x = clean + schedule[0] * noise if run.resume is None else run.resume
        for sigma, next_sigma in itertools.pairwise(schedule):
            x = weight * x + (1 - weight) * (clean + sigma * noise)
            x0 = weight * run.model(x, sigma) + (1 - weight) * clean
            x = x + (x - x0) / sigma * (next_sigma - sigma)
        return x


class IdleSampler(EulerSampler):
    """Returns its input."""

    def sample(self, run: SamplerRun) -> torch.Tensor:
        self.runs.append(run)
        self.trouble(run)
        return run.latent["samples"]
