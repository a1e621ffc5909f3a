"""What ``core`` needs from outside: protocols that ``nodes/_host/``, ``models/`` and tests implement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch


class Progress(Protocol):
    """Where long work reports its progress, and learns that it should stop."""

    def step(self, count: int = 1) -> None:
        """Report ``count`` finished units; 0 only checks for an interrupt. Whatever it raises to stop the work must
        pass through."""


class NoProgress:
    """A `Progress` that reports nothing and never stops the work."""

    def step(self, count: int = 1) -> None:
        return None


NO_PROGRESS = NoProgress()


class Host(Protocol):
    """What the program around the library does for long work: ComfyUI, or `memory.StandaloneHost`."""

    def progress(self, total: int) -> Progress:
        """Start a progress bar of ``total`` steps."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether ``error`` says that memory ran out, on the device or on the CPU."""

    def is_interrupt(self, error: BaseException) -> bool:
        """Whether ``error`` is the user's request to stop, which must pass through everything."""

    def free_memory(self) -> None:
        """Free memory that is only cached, before the next try."""


class MaskSource(Protocol):
    """A model that finds the subject of an image, ready to run."""

    masks_per_image: int

    def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
        """``[H,W,3 or 4]`` in 0..1 -> ``[masks_per_image,H,W]`` in 0..1, on any device; alpha is ignored."""


class TextMaskEngine(Protocol):
    """A model that finds what a text describes, ready to run.

    Attributes:
        device: Where images are prepared and answers returned.
        on_cpu: Whether the model runs on the CPU, where several threads may use it at once.
        patch: Size in pixels of the model's image patches.
    """

    device: torch.device
    on_cpu: bool
    patch: int

    def input_side(self, scale: float) -> int:
        """Side in pixels of the square image the model sees: ``scale`` times its own size, in whole patches."""

    def batch_size(self, side: int) -> int:
        """How many images of ``side`` pixels to try at once."""

    def preprocess(self, image: torch.Tensor, side: int) -> torch.Tensor:
        """``[B,H,W,C]`` in 0..1 -> ``[B,3,side,side]``, as the model sees them."""

    def encode_text(self, prompt: str) -> torch.Tensor:
        """A prompt, encoded."""

    def encode_image(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Images ``[B,3,side,side]``, encoded: the part that does not depend on the prompt."""

    def decode(self, activations: list[torch.Tensor], embedding: torch.Tensor) -> torch.Tensor:
        """The scores ``[B,h,w]`` of a prompt, float32, before the sigmoid."""


@dataclass(frozen=True)
class Pipe:
    """What samples: a model and its conditionings, the host's own objects.

    Attributes:
        add_text: ``(positive, text) -> positive`` with the text added; None where there is no text encoder.
    """

    model: Any
    positive: Any
    negative: Any
    add_text: Callable[[Any, str], Any] | None = None


@dataclass(frozen=True)
class SamplerRun:
    """One run of a sampler over a part of its schedule: all that `Sampler.sample` needs.

    Attributes:
        model, positive, negative: The host's own objects, as the pipe or a hook gave them. ``negative`` may be a
            placeholder (models without classifier-free guidance).
        cfg: Scale of the guidance.
        sampler_name, scheduler: As in the host's lists.
        total_steps: Length of the whole schedule. Of it, the steps ``start_step`` .. ``end_step`` are run, so the
            sigmas used are those from ``start_step`` to ``end_step``, both included.
        start_step, end_step: See above; 0 <= start_step < end_step <= total_steps.
        seeds: Where noise is made: the latent's rows are divided evenly among them, and the noise of each part is
            what the host makes for that part alone with that seed. One seed for one row as a rule; a hook may have
            made several rows of one.
        latent: The host's latent: ``samples`` ``[B,C,h,w]`` (or with a time axis), clean, and maybe ``noise_mask``
            ``[B,y,x]`` in 0..1, 1 = to be changed, of any size.
        noise: Given by a hook, shaped as the samples; None for noise from ``seeds``.
        custom_sampler: A hook's sampler, to be used in place of ``sampler_name``; else None.
        leave_noise: The run stops in mid-schedule, with the noise of ``end_step`` left in.
        resume: What an earlier run with ``leave_noise`` gave, whose ``end_step`` was this ``start_step``; the sampler
            alone looks into it. This run goes on from there, as if one run had only changed its model: no noise is
            added, and outside the noise mask there is at each step the clean ``latent`` with the noise of the
            earlier run (``seeds`` and ``noise`` are the same) at that step's level. So both sides of a soft noise
            mask are always at one noise level. None to begin with ``latent`` and its noise.
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
    """Removes noise from latents with a model. What stops the user's work is raised from `sample`, at every step."""

    def set_total_steps(self, steps: int, done: int = 0) -> None:
        """Set the total number of steps for a progress bar, before sampling. A run of n steps over latents of k seeds
        counts n x k. Hooks may change the number later. Called again when failed runs are repeated: ``done`` steps
        are finished and not repeated."""

    def sample(self, run: SamplerRun) -> Any:
        """The samples after the run, shaped as ``run.latent["samples"]``; with ``run.leave_noise`` whatever a later run
        needs to `resume`."""

    def rows_are_independent(self, sampler_name: str) -> bool:
        """Whether rows sampled together come out as each would alone. False for samplers that draw noise while they
        run (ancestral, SDE) and for those whose step size depends on the whole batch."""

    def add_differential_diffusion(self, model: Any) -> Any:
        """The model with differential diffusion, which a blurred noise mask needs; unchanged if it already carries a
        denoise mask function."""


class Vae(Protocol):
    """Pictures to latents and back.

    Rows are pictures of their own, never the frames of a video. The detailer gives one row at a time to `encode` and
    `decode`. Where memory runs out the error is raised as it is; the detailer then asks again with ``tiled``.
    """

    @property
    def multiple(self) -> int:
        """Width and height of a picture must be multiples of this many pixels (8 for SD, 16 or 32 for others)."""

    def encode(self, image: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        """``[B,H,W,3]`` in 0..1 -> samples ``[B,C,h,w]``, or with a time axis where the model has one."""

    def decode(self, samples: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        """Samples -> ``[B,H,W,3]``."""

    def encode_for_inpainting(
        self, positive: Any, negative: Any, image: torch.Tensor, mask: torch.Tensor, tiled: bool = False
    ) -> tuple[Any, Any, Mapping[str, Any]]:
        """For inpainting models: conditionings that carry the picture around the mask, and the latent with its
        ``noise_mask``. ``image`` is ``[B,H,W,3]``, ``mask`` ``[B,y,x]``."""


class Hook(Protocol):
    """What other packs plug into the detailer. A hook has any of these methods; a missing one changes nothing.

    They are called in this order: for each region the first five, for each of its cycles the next four, then the
    last three.
    """

    def touch_scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Change the size at which the region is sampled."""

    def post_upscale(self, pixels: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Change the crop ``[1,H,W,3]`` before it is encoded. ``mask`` ``[1,y,x]`` is the noise mask in the crop's
        size before scaling, None for the whole crop. Older hooks take the pixels alone."""

    def get_skip_sampling(self) -> bool:
        """If true the crop is taken as it is: nothing is encoded, sampled or decoded."""

    def post_encode(self, latent: dict[str, Any]) -> dict[str, Any]: ...

    def get_custom_sampler(self) -> Any:
        """A sampler of the host to use for this region, or None."""

    def set_steps(self, cycle: tuple[int, int]) -> None:
        """Told which cycle of how many begins."""

    def cycle_latent(self, latent: dict[str, Any]) -> dict[str, Any]: ...

    def pre_ksample(self, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise):
        """Gives the same ten values, changed. The latent among them is ignored."""

    def get_custom_noise(self, seed: int, noise: torch.Tensor, is_touched: bool) -> tuple[torch.Tensor, bool]:
        """The noise to use, and whether it is other than the usual one. All zeros count as untouched."""

    def pre_decode(self, latent: dict[str, Any]) -> dict[str, Any]: ...

    def post_decode(self, pixels: torch.Tensor) -> torch.Tensor: ...

    def post_paste(self, image: torch.Tensor) -> torch.Tensor:
        """Change the whole picture ``[1,H,W,C]`` once the region is in it."""
