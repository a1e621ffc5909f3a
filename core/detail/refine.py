"""Refines crops: encode, sample, decode. Several regions at a time; fewer if memory runs out."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from .. import masks
from ..batching import STANDALONE_HOST
from ..checks import describe
from ..engine import Host, Pipe, Sampler, SamplerRun, Vae
from ..errors import PackError
from ..geometry import SamplingFrame, nearest_multiple
from ..regions import embed_mask
from . import blend
from .batches import Task
from .codec import Codec, concatenate, is_finite
from .conditionings import Mover
from .hooks import Hooks
from .host_objects import NO_HOST_OBJECTS, HostObjects
from .moves import Target
from .references import References
from .settings import MIN_DENOISE, SEEDS, DetailerSettings, schedule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """The services of the host.

    Attributes:
        sampler, vae, host: See `engine`.
        hook: A detailer hook (see `engine.Hook`), or None.
        device: Device for resizing and blending crops; None for the image's device.
        objects: Crops ControlNets and patches of models.
    """

    sampler: Sampler
    vae: Vae
    hook: object | None = None
    device: torch.device | None = None
    host: Host = STANDALONE_HOST
    objects: HostObjects = NO_HOST_OBJECTS


class Refiner:
    """Resamples regions.

    Args:
        images: ``[B x versions,H,W,C]``, as refined so far.
        originals: ``[B,H,W,C]``, which do not change.
        backend: Samples, encodes and decodes.
        hooks: The methods of the backend's hook.
        settings: The detailer's settings.
        count: Number of regions to refine in total, for the progress bar.
    """

    def __init__(
        self,
        images: torch.Tensor,
        originals: torch.Tensor,
        backend: Backend,
        hooks: Hooks,
        settings: DetailerSettings,
        count: int,
    ) -> None:
        self._images, self._hooks, self._settings = images, hooks, settings
        self._sampler, self._vae, self._host = backend.sampler, backend.vae, backend.host
        self._device = backend.device or images.device
        self._codec = Codec(backend.vae, backend.host, settings.tiled_vae)
        self._objects = backend.objects
        # A separate codec: if the whole image needs tiles, crops may not.
        codec = Codec(backend.vae, backend.host, settings.tiled_vae)
        self._references = References(originals, backend.vae.ratio, codec.encode)
        self._steps_per_region = settings.cycle * settings.steps
        self._total_steps, self._steps_done = count * self._steps_per_region, 0
        self._sampler.set_total_steps(self._total_steps)

    def largest_batch(self) -> int:
        """How many regions may be sampled together with the same results as one at a time."""
        can_batch = not self._hooks.exist and self._sampler.rows_are_independent(self._settings.sampler_name)
        return self._settings.region_batch if can_batch else 1

    def run(self, tasks: Sequence[Task], limit: int) -> tuple[list[torch.Tensor], int]:
        """Refine tasks of one kind, at most ``limit`` together.

        If memory runs out, continues with half as many. If the model fails in another way, continues one at a time,
        since some models accept only one row.

        Returns:
            The refined crop ``[1,h,w,3]`` of each task, in the size of its crop region; and the limit for later tasks.
        """
        crops: list[torch.Tensor] = []
        while len(crops) < len(tasks):
            batch = tasks[len(crops) : len(crops) + limit]
            try:
                crops += self._refine(batch)
            except Exception as error:
                limit = self._smaller_limit(error, batch)
            else:
                self._steps_done += len(batch) * self._steps_per_region
                continue
            self._host.free_memory()  # outside the except block, whose traceback would keep tensors alive
            self._sampler.set_total_steps(self._total_steps, self._steps_done)
        return crops, limit

    def _smaller_limit(self, error: Exception, batch: Sequence[Task]) -> int:
        """How many tasks to try together after ``batch`` has failed. Raises the error if trying again cannot help."""
        count, frame = len(batch), batch[0].frame
        if self._host.is_out_of_memory(error):
            if count == 1:
                raise PackError(
                    f"Sampling ran out of memory with a single crop of {frame.width} x {frame.height}",
                    "Lower max_size or guide_size, or free memory elsewhere",
                ) from error
            logger.warning("Out of memory with %d regions at once; continuing with %d", count, count // 2)
            return count // 2
        if count == 1 or isinstance(error, PackError) or self._host.is_interrupt(error):
            raise error
        reason = f"{type(error).__name__}: {error}"
        logger.warning("Sampling failed with %d regions at once (%s); continuing one at a time", count, reason)
        return 1

    def _refine(self, tasks: Sequence[Task]) -> list[torch.Tensor]:
        """The refined crops of tasks that are sampled together."""
        frames = [self._apply_size_hook(task.frame) for task in tasks]
        noise_masks = [self._noise_mask(task) for task in tasks] if self._settings.mask_mode else []
        pixels = concatenate(
            [blend.crop_out(self._image(task), each, self._device) for task, each in zip(tasks, frames)]
        )
        pixels = self._hooks.post_upscale(pixels, noise_masks[0] if noise_masks else None)
        if not self._hooks.get_skip_sampling():
            encode = functools.cache(functools.partial(self._codec.encode, pixels))
            first = self._move_pipes(tasks[0], pixels, encode)
            pipe, latent = self._encode(first.pipe, pixels, noise_masks, encode)
            latent = self._hooks.post_encode(latent)
            custom_sampler = self._hooks.get_custom_sampler()
            for cycle in range(self._settings.cycle):
                latent = self._sample_cycle(tasks, cycle, pipe, first.refiner, latent, custom_sampler)
            pixels = self._decode(self._hooks.pre_decode(latent), len(tasks))
        pixels = self._hooks.post_decode(pixels)
        return [self._fit(task, row) for task, row in zip(tasks, pixels.split(1))]

    def _image(self, task: Task) -> torch.Tensor:
        """``[1,H,W,C]``, a view."""
        return self._images[task.version : task.version + 1]

    def _apply_size_hook(self, frame: SamplingFrame) -> SamplingFrame:
        """The frame, in the size that the hook sets."""
        size = self._hooks.touch_scaled_size(frame.width, frame.height)
        if size == (frame.width, frame.height):
            return frame
        return SamplingFrame(frame.window, *(nearest_multiple(length, self._vae.multiple) for length in size))

    def _noise_mask(self, task: Task) -> torch.Tensor:
        """``[1,y,x]`` in the window's own size; the host scales it to the latent's."""
        mask = embed_mask(task.region.mask.to(self._device), task.region.crop_region, task.frame.window)
        return masks.feather(mask, self._settings.noise_mask_feather).clone()  # hooks may write into it

    def _fit(self, task: Task, pixels: torch.Tensor) -> torch.Tensor:
        """A sampled window ``[1,H,W,3]`` in the size of the crop region, with matched colors."""
        refined = blend.reduce(pixels, task.frame.window, task.region.crop_region)
        if not self._settings.color_match:
            return refined
        return blend.match_colors(refined, self._image(task), task.region, self._settings.color_match)

    def _move_pipes(self, task: Task, pixels: torch.Tensor, encode: Callable[[], torch.Tensor]) -> Task:
        """Move the task's pipes to its crop, which is sampled in the size of ``pixels`` ``[B,H,W,3]``."""
        if task.placement is None:
            return task
        frame = SamplingFrame(task.frame.window, pixels.shape[2], pixels.shape[1])
        placement = replace(task.placement, frame=frame)
        mover = Mover(Target(placement, self._objects, self._references, encode))
        refiner = task.refiner and mover.move_pipe(task.refiner)
        return replace(task, pipe=mover.move_pipe(task.pipe), refiner=refiner)

    def _encode(
        self, pipe: Pipe, pixels: torch.Tensor, noise_masks: list[torch.Tensor], encode: Callable[[], torch.Tensor]
    ) -> tuple[Pipe, dict[str, Any]]:
        """Return the pipe, whose conditionings change for an inpainting model, and the latent."""
        if noise_masks and self._settings.inpaint_model:
            mask = _stack(noise_masks, pixels.shape[1:3])
            positive, negative, latent = self._codec.encode_for_inpainting(pipe, pixels, mask)
            pipe, latent = replace(pipe, positive=positive, negative=negative), dict(latent)
        else:
            latent = {"samples": encode()}
            if noise_masks:
                latent["noise_mask"] = _stack(noise_masks, latent["samples"].shape[-2:])
        if "noise_mask" in latent:  # hooks may combine it with the samples, and a host's VAE returns those on the CPU
            latent["noise_mask"] = latent["noise_mask"].to(latent["samples"].device)
        return pipe, latent

    def _decode(self, latent: dict[str, Any], rows: int) -> torch.Tensor:
        """``[B,H,W,3]`` in 0..1 on the device."""
        result = self._codec.decode(latent["samples"], self._device)
        if len(result) != rows:
            raise PackError(
                f"{len(result)} images were decoded for {rows} regions",
                "A hook may have changed the number of latents, or the VAE may be one for video",
            )
        return result

    def _sample_cycle(
        self,
        tasks: Sequence[Task],
        cycle: int,
        pipe: Pipe,
        refiner: Pipe | None,
        latent: dict[str, Any],
        custom_sampler: Any,
    ) -> dict[str, Any]:
        """Run one more cycle and return its latent."""
        settings = self._settings
        self._hooks.set_steps(cycle, settings.cycle)
        latent = self._hooks.cycle_latent(latent)
        first, *others = ((task.seed + cycle) % SEEDS for task in tasks)
        model, seed, steps, cfg, sampler_name, scheduler, positive, negative, _, denoise = self._hooks.pre_ksample(
            pipe.model, first, settings.steps, settings.cfg, settings.sampler_name, settings.scheduler,
            pipe.positive, pipe.negative, latent, settings.denoise,
        )  # fmt: skip
        noise = self._hooks.get_custom_noise(first, latent["samples"])
        if denoise < MIN_DENOISE:  # only a hook can set this: skip the cycle
            return latent
        start, switch, total = schedule(steps, denoise, settings.refiner_ratio if refiner else 0)
        run = SamplerRun(
            model=model,
            positive=positive,
            negative=negative,
            cfg=cfg,
            sampler_name=sampler_name,
            scheduler=scheduler,
            total_steps=total,
            start_step=start,
            end_step=switch,
            seeds=(seed % SEEDS, *others),
            latent=latent,
            noise=noise,
            custom_sampler=custom_sampler,
            leave_noise=switch < total,
        )
        return {**latent, "samples": self._sample(run, refiner)}

    def _sample(self, run: SamplerRun, refiner: Pipe | None) -> torch.Tensor:
        """Return the samples after ``run`` and, with a refiner, after the rest of its schedule."""
        if refiner is None or not run.leave_noise:
            samples = self._sampler.sample(run)
        else:
            rest = replace(
                run,
                model=refiner.model,
                positive=refiner.positive,
                negative=refiner.negative,
                start_step=run.end_step,
                end_step=run.total_steps,
                leave_noise=False,
                resume=self._sampler.sample(run) if run.start_step < run.end_step else None,
            )
            samples = self._sampler.sample(rest)
        if not is_finite(samples):
            raise PackError(
                f"The sampler {describe(run.sampler_name)} returned NaN or infinite values",
                "Check the model, its precision and cfg, or try another sampler or scheduler",
            )
        return samples


def _stack(noise_masks: list[torch.Tensor], size: Sequence[int]) -> torch.Tensor:
    """Batch noise masks ``[1,y,x]``. If their sizes differ, resize them to ``size`` (height, width) as the host resizes
    each, so that every region gets the same result as alone."""
    if len({mask.shape for mask in noise_masks}) > 1:
        # [1,y,x] -> [1,1,y,x] -> [1,h,w]
        noise_masks = [F.interpolate(mask[None], tuple(size), mode="bilinear")[0] for mask in noise_masks]
    return concatenate(noise_masks)
