"""Protocols that ``core`` depends on. ``nodes/_host/``, ``models/`` and tests implement them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

Module = TypeVar("Module", bound=torch.nn.Module)


class Progress(Protocol):
    """Receives the progress of long work, and interrupts it."""

    def step(self, count: int = 1) -> None:
        """Report ``count`` finished units; 0 only checks for an interrupt. Callers let its exceptions propagate."""
        ...


class Host(Protocol):
    """Services that the surrounding program provides: ComfyUI, or `batching.StandaloneHost`."""

    def progress(self, total: int) -> Progress:
        """Start a progress bar of ``total`` steps."""
        ...

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether ``error`` means that the device or the CPU ran out of memory."""
        ...

    def is_interrupt(self, error: BaseException) -> bool:
        """Whether ``error`` is the user's request to stop, which must always propagate."""
        ...

    def free_memory(self) -> None:
        """Free cached memory before a retry."""
        ...

    def available_memory(self, device: torch.device) -> float:
        """Bytes that can still be allocated on ``device``; infinity if unknown."""
        ...

    def on_device(self, model: Module, copy_as: Callable[[Module, torch.dtype], Module]) -> Module:
        """Return ``model``, or a copy made by ``copy_as``, on the device for models. Valid until the next call."""
        ...


class MaskSource(Protocol):
    """A loaded model that finds the subject of an image."""

    masks_per_image: int

    def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
        """``[H,W,3 or 4]`` in 0..1 -> ``[masks_per_image,H,W]`` in 0..1, on any device; alpha is ignored."""
        ...


class TextMaskEngine(Protocol):
    """A loaded model that finds what a text describes.

    Attributes:
        device: Device for preprocessing and for logits.
        on_cpu: Whether the model runs on the CPU, where several threads may use it concurrently.
        patch: Side of the model's image patches, in pixels.
    """

    device: torch.device
    on_cpu: bool
    patch: int

    def input_side(self, scale: float) -> int:
        """Side of the model's square input in pixels: ``scale`` times its native size, in whole patches."""
        ...

    def batch_size(self, side: int) -> int:
        """Number of inputs of ``side`` x ``side`` pixels to try in one batch."""
        ...

    def preprocess(self, image: torch.Tensor, side: int) -> torch.Tensor:
        """``[B,H,W,C]`` in 0..1 -> normalized model input ``[B,3,side,side]``."""
        ...

    def encode_text(self, prompt: str) -> torch.Tensor:
        """The embedding of a prompt."""
        ...

    def encode_image(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Encode ``[B,3,side,side]``. This part does not depend on the prompt."""
        ...

    def decode(self, activations: list[torch.Tensor], embedding: torch.Tensor) -> torch.Tensor:
        """The logits ``[B,h,w]`` of a prompt, float32."""
        ...


@dataclass(frozen=True)
class Pipe:
    """A model and its conditionings, as the host's own objects.

    Attributes:
        add_text: ``(positive, text) -> positive`` with the text added; None without a text encoder.
    """

    model: Any
    positive: Any
    negative: Any
    add_text: Callable[[Any, str], Any] | None = None


@dataclass(frozen=True)
class SamplerRun:
    """Arguments of `Sampler.sample`: one run over part of a schedule.

    Attributes:
        model, positive, negative: The host's own objects, from the pipe or a hook. ``negative`` may be a placeholder
            (models without classifier-free guidance).
        cfg: Guidance scale.
        sampler_name, scheduler: Names from the host's lists.
        total_steps: Length of the whole schedule.
        start_step, end_step: The steps to run, 0 <= start_step < end_step <= total_steps. They use the sigmas from
            ``start_step`` to ``end_step`` inclusive.
        seeds: Seeds of the noise. The latent's rows are divided evenly among them; each part gets the noise that the
            host generates for that part alone with that seed. Usually one seed per row, unless a hook adds rows.
        latent: The host's latent: clean ``samples`` ``[B,C,h,w]`` (or with a time axis), and optionally a
            ``noise_mask`` ``[B,y,x]`` of any size, in 0..1, where 1 is sampled.
        noise: A hook's noise, in the shape of the samples; None for noise from ``seeds``.
        custom_sampler: A hook's sampler, used instead of ``sampler_name``, or None.
        leave_noise: Stop in mid-schedule and leave the noise of ``end_step`` in the latent.
        resume: The result of an earlier run with ``leave_noise`` that ended at this ``start_step``, opaque to callers.
            The run continues as if only the model had changed: it adds no noise, and outside the noise mask each step
            sees the clean ``latent`` plus the earlier run's noise (same ``seeds`` and ``noise``) at the current sigma.
            Both sides of a soft noise mask thus have equal noise. None to start from ``latent`` and its noise.
    """

    model: Any
    positive: Any
    negative: Any
    cfg: float
    sampler_name: str
    scheduler: str
    total_steps: int
    start_step: int
    end_step: int
    seeds: tuple[int, ...]
    latent: Mapping[str, Any]
    noise: torch.Tensor | None = None
    custom_sampler: Any = None
    leave_noise: bool = False
    resume: Any = None


class Sampler(Protocol):
    """Denoises latents with a model. `sample` checks for an interrupt at every step and raises it."""

    def set_total_steps(self, steps: int, done: int = 0) -> None:
        """Set the length of the progress bar before sampling. A run of n steps with k seeds counts n x k; hooks may
        still change the number. Called again before failed runs are repeated, with ``done`` finished steps."""
        ...

    def sample(self, run: SamplerRun) -> Any:
        """Run the sampler and return samples in the shape of ``run.latent["samples"]``; with ``run.leave_noise``, the
        ``resume`` value of a later run."""
        ...

    def rows_are_independent(self, sampler_name: str) -> bool:
        """Whether each row of a batch comes out as if sampled alone. False for samplers that draw noise while running
        (ancestral, SDE) and for those that derive their step size from the whole batch."""
        ...

    def add_differential_diffusion(self, model: Any) -> Any:
        """Patch the model with differential diffusion, which soft noise masks need. Models that already have a denoise
        mask function are returned unchanged."""
        ...


class Vae(Protocol):
    """Converts images to latents and back.

    Rows are separate images, never frames of a video; the detailer passes one at a time. Out-of-memory errors are
    raised unchanged, and the detailer retries with ``tiled``.
    """

    @property
    def multiple(self) -> int:
        """Image width and height must be multiples of this many pixels (8 for SD, 16 or 32 for others)."""
        ...

    @property
    def ratio(self) -> int:
        """Pixels per latent cell, on each axis."""
        ...

    def encode(self, image: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        """``[B,H,W,3]`` in 0..1 -> samples ``[B,C,h,w]``, with a time axis if the model has one."""
        ...

    def decode(self, samples: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        """Samples -> ``[B,H,W,3]``."""
        ...

    def encode_for_inpainting(
        self, positive: Any, negative: Any, image: torch.Tensor, mask: torch.Tensor, tiled: bool = False
    ) -> tuple[Any, Any, Mapping[str, Any]]:
        """For inpainting models: return positive and negative conditionings that include the unmasked part of the
        image, and the latent with its ``noise_mask``. ``image`` is ``[B,H,W,3]``, ``mask`` ``[B,y,x]``."""
        ...


class Hook(Protocol):
    """A detailer hook of another pack. Every method is optional; a missing one is a no-op.

    The detailer calls the first five methods once per region, the next four once per cycle, and then the last three.
    """

    def touch_scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Change the size at which the region is sampled."""
        ...

    def post_upscale(self, pixels: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Change the crop ``[1,H,W,3]`` before encoding. ``mask`` ``[1,y,x]`` is the noise mask at the size before
        scaling, or None for the whole crop. Older hooks accept only the pixels."""
        ...

    def get_skip_sampling(self) -> bool:
        """If true, skip encoding, sampling and decoding, and use the crop unchanged."""
        ...

    def post_encode(self, latent: dict[str, Any]) -> dict[str, Any]: ...

    def get_custom_sampler(self) -> Any:
        """A host sampler for this region, or None."""
        ...

    def set_steps(self, cycle: tuple[int, int]) -> None:
        """Called at the start of cycle ``cycle[0]`` of ``cycle[1]``."""
        ...

    def cycle_latent(self, latent: dict[str, Any]) -> dict[str, Any]: ...

    def pre_ksample(self, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise):
        """Return the ten arguments, possibly changed. The returned latent is ignored."""
        ...

    def get_custom_noise(self, seed: int, noise: torch.Tensor, is_touched: bool) -> tuple[torch.Tensor, bool]:
        """The noise to use, and whether it differs from the default. All-zero noise counts as unchanged."""
        ...

    def pre_decode(self, latent: dict[str, Any]) -> dict[str, Any]: ...

    def post_decode(self, pixels: torch.Tensor) -> torch.Tensor: ...

    def post_paste(self, image: torch.Tensor) -> torch.Tensor:
        """Change the whole image ``[1,H,W,C]`` after the region has been pasted."""
        ...
