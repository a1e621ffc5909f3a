"""Refines every masked region: crop, upscale, encode, sample, decode, reduce, blend.

The host samples and encodes through `engine.Sampler` and `engine.Vae`. Its models and conditionings are passed through;
what in them refers to the whole image is moved to each crop (see `moves`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from ..checks import as_image_batch, as_mask_batch
from ..engine import Host, Pipe
from ..errors import InputError, PackError
from ..geometry import Box
from . import blend
from .batches import Task, TaskQueue
from .conditionings import RegionPipes
from .hooks import Hooks
from .plan import find_image_regions, plan
from .refine import Backend, Refiner
from .settings import DetailerSettings

__all__ = ["Backend", "DetailerResult", "OnRegion", "detail"]


@dataclass(frozen=True)
class DetailerResult:
    """The detailer's outputs.

    Attributes:
        image: ``[B x batch_size,H,W,C]``: all versions of the first image, then those of the next.
        crops: The refined crops ``[1,h,w,3]`` in the size of their crop regions, by image, version and region. An
            image without a region has one black crop of 64 x 64.
        alpha_crops: The same with the feathered mask as alpha, ``[1,h,w,4]``; black and transparent for no region.
        boxes: The crop regions of each version.
    """

    image: torch.Tensor
    crops: list[torch.Tensor]
    alpha_crops: list[torch.Tensor]
    boxes: list[list[Box]]


# Arguments: an image ``[H,W,C]`` as refined so far, all its crop regions, and the index of the next one.
OnRegion: TypeAlias = Callable[[torch.Tensor, Sequence[Box], int], None]


def _ignore(image: torch.Tensor, boxes: Sequence[Box], number: int) -> None:
    """Default `OnRegion`: does nothing."""


@torch.no_grad()
def detail(
    image: torch.Tensor,
    mask: torch.Tensor,
    pipe: Pipe,
    backend: Backend,
    settings: DetailerSettings,
    refiner: Pipe | None = None,
    on_region: OnRegion = _ignore,
) -> DetailerResult:
    """Resample every masked region at a larger size and blend it back.

    Outside the feathered masks, and in the alpha of RGBA images, the result equals the input bit for bit, including
    values beyond 0..1, unless a hook changes the whole image. Each crop is cut from the image as refined so far and
    clamped to 0..1, the range of a VAE, so the refined crops are within 0..1 too.

    Args:
        image: ``[B,H,W,C]``, any finite values.
        mask: ``[M,h,w]``: one for all images, one for each, several for a single image, or none (M = 0: the image is
            returned unchanged). Masks may overlap: each region is cut from the image as refined so far. Masks of
            another size are scaled to the image.
        pipe: The model and its conditionings.
        backend: Sampler, VAE, hook, device.
        settings: The node's widgets.
        refiner: Runs the last ``settings.refiner_ratio`` of the steps; None for no refiner.
        on_region: Called before each region or batch of regions.

    Raises:
        InputError: An input cannot be used.
        PackError: A hook failed, the VAE or the sampler gave NaN, or memory ran out.
    """
    if any(text.strip() for text in settings.region_prompts) and pipe.add_text is None:
        raise InputError(
            "region_prompts has text, but the pipe has no CLIP to encode it",
            "Use a pipe with a CLIP, or leave region_prompts empty",
            code="no CLIP",
        )
    image = as_image_batch(image, clamp=False)
    regions = find_image_regions(
        image, as_mask_batch(mask), settings.crop_factor, settings.drop_size, settings.bbox_fill, settings.contour_fill
    )
    if settings.has_soft_noise_mask:
        pipe = _add_differential_diffusion(pipe, backend)
        refiner = refiner and _add_differential_diffusion(refiner, backend)
    whole = Box(0, 0, image.shape[2], image.shape[1])

    def make_pipes(pipe: Pipe, name: str) -> RegionPipes:
        holds_images = backend.objects.holds_images(pipe.model, whole, backend.vae.ratio)
        return RegionPipes(pipe, whole, settings.region_prompts, name, holds_images)

    refiner_pipes = make_pipes(refiner, "refiner_basic_pipe_opt") if refiner else None
    tasks = plan(regions, settings, whole, backend.vae, make_pipes(pipe, "basic_pipe"), refiner_pipes)
    return _run(tasks, image, backend, settings, on_region)


def _add_differential_diffusion(pipe: Pipe, backend: Backend) -> Pipe:
    return replace(pipe, model=backend.sampler.add_differential_diffusion(pipe.model))


def _repeat(image: torch.Tensor, times: int, host: Host) -> torch.Tensor:
    """Copy the images ``[B,H,W,C]``, repeating each of them ``times`` times: ``[B x times,H,W,C]``."""
    try:
        return image.repeat_interleave(times, dim=0)
    except Exception as error:
        if not host.is_out_of_memory(error):
            raise
        count, height, width, _ = image.shape
        raise PackError(
            f"There is not enough memory for {count * times} images of {width} x {height}",
            f"Lower batch_size, which is {times}, or use fewer images at a time",
        ) from error


def _run(
    tasks: Sequence[Task], image: torch.Tensor, backend: Backend, settings: DetailerSettings, on_region: OnRegion
) -> DetailerResult:
    """Refine all tasks, and blend them into a copy of the images ``[B,H,W,C]``."""
    images = _repeat(image, settings.batch_size, backend.host)  # the only copy; everything is blended into it
    hooks = Hooks(backend.hook, backend.host)
    ranges = [_value_range(each) if hooks.exist else (0.0, 1.0) for each in images]
    boxes: list[list[Box]] = [[] for _ in images]
    for task in tasks:
        boxes[task.version].append(task.region.crop_region)

    refiner = Refiner(images, image, backend, hooks, settings, len(tasks))
    queue, limit = TaskQueue(tasks), refiner.largest_batch()
    results = {}
    while batch := queue.take(limit):
        version = batch[0].version
        on_region(images[version], boxes[version], batch[0].number)
        crops, limit = refiner.run(batch, limit)
        for task, crop in zip(batch, crops):
            version_image = images[task.version : task.version + 1]
            results[task] = _blend_in(version_image, task, crop, settings.feather)
            changed = hooks.post_paste(version_image, *ranges[task.version])
            if changed is not version_image:
                version_image[..., : changed.shape[-1]].copy_(changed)
        del crops, crop  # before the next batch needs the memory
    return _collect(images, tasks, results, boxes, settings.batch_size)


def _value_range(image: torch.Tensor) -> tuple[float, float]:
    """0..1, widened to the range of the image's own values."""
    low, high = (bound.item() for bound in image.aminmax())
    return min(0.0, low), max(1.0, high)


def _blend_in(
    image: torch.Tensor, task: Task, refined: torch.Tensor, feather: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend a refined crop into its image ``[1,H,W,C]``. Return crop and feathered mask on the image's device."""
    whole = Box(0, 0, image.shape[2], image.shape[1])
    weights = blend.soft_mask(task.region, feather, whole, refined.device)
    blend.paste(image, refined, weights, task.region.crop_region, task.writes)
    return refined.to(image.device).clone(), weights.to(image.device)  # a view would keep the whole batch alive


def _collect(
    images: torch.Tensor,
    tasks: Sequence[Task],
    results: dict[Task, tuple[torch.Tensor, torch.Tensor]],
    boxes: list[list[Box]],
    versions: int,
) -> DetailerResult:
    """Build the result from each task's crop and mask. Each image has ``versions`` versions."""
    by_image: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(len(images) // versions)]
    for task in tasks:
        by_image[task.version // versions].append(results[task])
    for pairs in by_image:
        if not pairs:  # an empty list would end the workflow
            pairs.append((images.new_zeros(1, 64, 64, 3), images.new_zeros(1, 64, 64)))
    crops = [crop for pairs in by_image for crop, _ in pairs]
    alpha_crops = [torch.cat([crop, mask.unsqueeze(-1)], dim=-1) for pairs in by_image for crop, mask in pairs]
    return DetailerResult(images, crops, alpha_crops, boxes)
