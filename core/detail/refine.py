"""Refines crops: encode, sample, decode. Several regions at a time; fewer if memory runs out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from .. import masks, tensors
from ..batching import STANDALONE_HOST, iterate_chunks
from ..checks import describe
from ..engine import Host, Pipe, Sampler, SamplerRun, Vae
from ..errors import PackError
from ..geometry import SamplingFrame, nearest_multiple
from ..regions import embed_mask
from . import blend
from .batches import Task
from .hooks import Hooks
from .settings import MIN_DENOISE, SEEDS, DetailerSettings, schedule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """The services of the host.

    Attributes:
        sampler, vae, host: See `engine`.
        hook: A detailer hook (see `engine.Hook`), or None.
        device: Device for resizing and blending crops; None for the image's device.
    """

    sampler: Sampler
    vae: Vae
    hook: object | None = None
    device: torch.device | None = None
    host: Host = STANDALONE_HOST


class Refiner:
    """Resamples regions.

    Args:
        images: ``[B,H,W,C]``, as refined so far; one per version.
        backend: Samples, encodes and decodes.
        hooks: The methods of the backend's hook.
        settings: The detailer's settings.
        count: Number of regions to refine in total, for the progress bar.
    """

    def __init__(
        self, images: torch.Tensor, backend: Backend, hooks: Hooks, settings: DetailerSettings, count: int
    ) -> None:
        self._images, self._hooks, self._settings = images, hooks, settings
        self._sampler, self._vae, self._host = backend.sampler, backend.vae, backend.host
        self._device = backend.device or images.device
        self._tiled = settings.tiled_vae
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
        pixels = _cat([blend.crop_out(self._image(task), each, self._device) for task, each in zip(tasks, frames)])
        pixels = self._hooks.post_upscale(pixels, noise_masks[0] if noise_masks else None)
        if not self._hooks.get_skip_sampling():
            pipe, latent = self._encode(tasks[0].pipe, pixels, noise_masks)
            latent = self._hooks.post_encode(latent)
            custom_sampler = self._hooks.get_custom_sampler()
            for cycle in range(self._settings.cycle):
                latent = self._sample_cycle(tasks, cycle, pipe, latent, custom_sampler)
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

    def _encode(self, pipe: Pipe, pixels: torch.Tensor, noise_masks: list[torch.Tensor]) -> tuple[Pipe, dict[str, Any]]:
        """Return the pipe, whose conditionings change for an inpainting model, and the latent."""
        if noise_masks and self._settings.inpaint_model:
            mask = _stack(noise_masks, pixels.shape[1:3])
            encode = partial(self._encode_for_inpainting, pipe, mask)
            ((positive, negative, latent),) = self._run_vae(encode, [pixels])
            pipe, latent = replace(pipe, positive=positive, negative=negative), dict(latent)
        else:
            latent = {"samples": _cat([*self._run_vae(self._vae.encode, pixels.split(1))])}
            if noise_masks:
                latent["noise_mask"] = _stack(noise_masks, latent["samples"].shape[-2:])
        if "noise_mask" in latent:  # hooks may combine it with the samples, and a host's VAE returns those on the CPU
            latent["noise_mask"] = latent["noise_mask"].to(latent["samples"].device)
        _check_vae(latent["samples"], "encoded")
        return pipe, latent

    def _encode_for_inpainting(self, pipe: Pipe, mask: torch.Tensor, pixels: torch.Tensor, tiled: bool) -> tuple:
        return self._vae.encode_for_inpainting(pipe.positive, pipe.negative, pixels, mask, tiled)

    def _decode(self, latent: dict[str, Any], rows: int) -> torch.Tensor:
        """``[B,H,W,3]`` in 0..1 on the device."""
        decoded = []
        for pixels in self._run_vae(self._vae.decode, latent["samples"].split(1)):
            _check_vae(pixels, "decoded")
            decoded.append(tensors.drop_alpha(pixels.to(self._device, torch.float32)).clamp(0, 1))
        result = _cat(decoded)
        if len(result) != rows:
            raise PackError(
                f"{len(result)} images were decoded for {rows} regions",
                "A hook may have changed the number of latents, or the VAE may be one for video",
            )
        return result

    def _run_vae(self, work: Callable[[torch.Tensor, bool], Any], rows: Sequence[torch.Tensor]) -> Iterator[Any]:
        """Yield ``work(row, tiled)`` for each row; from the first lack of memory on in tiles."""
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

    def _sample_cycle(
        self, tasks: Sequence[Task], cycle: int, pipe: Pipe, latent: dict[str, Any], custom_sampler: Any
    ) -> dict[str, Any]:
        """Run one more cycle and return its latent."""
        settings, refiner = self._settings, tasks[0].refiner
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
        if not _is_finite(samples):
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
    return _cat(noise_masks)


def _cat(rows: list[torch.Tensor]) -> torch.Tensor:
    """Concatenate rows to a batch; a single row is not copied."""
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _check_vae(values: torch.Tensor, verb: str) -> None:
    if not _is_finite(values):
        raise PackError(
            f"The VAE returned NaN or infinite values when it {verb} a crop",
            "Run the VAE in full precision, or use another VAE",
            code="VAE not finite",
        )


def _is_finite(values: torch.Tensor) -> bool:
    low, high = values.aminmax()  # one pass over the memory; NaN makes both NaN
    return math.isfinite(low.item()) and math.isfinite(high.item())
