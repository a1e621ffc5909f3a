"""Detail every masked region: crop, enlarge, encode, sample, decode, reduce, blend.

Knows no ComfyUI: what the host does (sampling, encoding) it asks for through `engine.Sampler` and
`engine.Vae`, and models and conditionings pass through as they are.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

from .. import colors, masks, morphology, tensors
from ..checks import (
    as_image_batch,
    as_mask_batch,
    check_number,
    check_switch,
    check_text,
    check_whole_number,
    describe,
)
from ..engine import Host, Pipe, Sampler, SamplerRun, Vae
from ..errors import InputError, PackError
from ..geometry import Box, SamplingFrame, fit_sampling_frame, nearest_multiple
from ..memory import STANDALONE_HOST
from ..regions import FAINT, Region, covers_all_only_by_faint_values, embed_mask, find_regions, scale_region
from .batches import Task, batches
from .conditionings import crop_conditioning
from .hooks import Hooks

_log = logging.getLogger(__name__)

_SEEDS = 1 << 64  # seeds are 0 .. 2^64 - 1, and begin again at 0
_MOST = 1_000_000  # steps, cycles, versions: more would never end, or could not be counted
LEAST_DENOISE = 1e-4  # anything lower changes nothing visible and needs an extremely long schedule


@dataclass(frozen=True)
class DetailerSettings:
    """The node's widgets, by their names, with their defaults.

    Attributes:
        guide_size: Wanted shorter side before sampling, pixels.
        guide_size_for: Measured on the bbox (true) or on the crop region (false).
        max_size: Bound on the longer side before sampling, pixels.
        mask_mode: Noise acts where the mask is (true), or in the whole crop (false).
        seed: 0 .. 2^64 - 1. Region ``i`` of repeat ``r`` takes ``seed + r + i``, and each further cycle 1 more.
        steps: Real steps that are run.
        cfg: Scale of the guidance.
        sampler_name, scheduler: As in the host's lists.
        denoise: Share of the schedule that is run, from `LEAST_DENOISE` to 1.
        feather: Width of the blend from the refined crop to the picture, pixels.
        crop_factor: How many times its bbox a crop is wide and high, 1 or more.
        drop_size: Regions not wider or not higher than this are left out, pixels of the mask.
        refiner_ratio: The refiner's share of the steps, 0..1.
        batch_size: How many versions of each picture are made.
        cycle: How many times each region is sampled.
        inpaint_model: The model is one for inpainting.
        noise_mask_feather: Blur of the noise mask, pixels.
        bbox_fill, contour_fill: See `regions.find_regions`.
        region_batch: How many regions are sampled together at most.
        color_match: How far the refined crop's colours move towards those of the ring around the mask, 0..1.
        tiled_vae: Encode and decode in tiles.
        region_prompts: Text that is added to the positive prompt of each region, by its number.

    Raises:
        InputError: A value is out of range or of the wrong type.
    """

    guide_size: float = 384.0
    guide_size_for: bool = True
    max_size: float = 1024.0
    mask_mode: bool = True
    seed: int = 0
    steps: int = 20
    cfg: float = 8.0
    sampler_name: str = "euler"
    scheduler: str = "normal"
    denoise: float = 0.5
    feather: int = 5
    crop_factor: float = 3.0
    drop_size: int = 10
    refiner_ratio: float = 0.2
    batch_size: int = 1
    cycle: int = 1
    inpaint_model: bool = False
    noise_mask_feather: int = 20
    bbox_fill: bool = False
    contour_fill: bool = True
    region_batch: int = 4
    color_match: float = 0.0
    tiled_vae: bool = False
    region_prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        whole = {"seed": 0, "steps": 1, "feather": 0, "drop_size": 1, "batch_size": 1, "cycle": 1}
        whole |= {"noise_mask_feather": 0, "region_batch": 1}
        numbers = {"guide_size": (1, math.inf), "max_size": (1, math.inf), "cfg": (0, math.inf)}
        numbers |= {"denoise": (LEAST_DENOISE, 1), "crop_factor": (1, math.inf)}
        numbers |= {"refiner_ratio": (0, 1), "color_match": (0, 1)}
        for name, low in whole.items():
            high = {"seed": _SEEDS - 1, "steps": _MOST, "batch_size": _MOST, "cycle": _MOST}.get(name, math.inf)
            object.__setattr__(self, name, check_whole_number(getattr(self, name), name, low, high))
        for name in ("guide_size_for", "mask_mode", "inpaint_model", "bbox_fill", "contour_fill", "tiled_vae"):
            object.__setattr__(self, name, check_switch(getattr(self, name), name))
        for name, (low, high) in numbers.items():
            object.__setattr__(self, name, check_number(getattr(self, name), name, low, high))
        for name in ("sampler_name", "scheduler"):
            check_text(getattr(self, name), name)
        prompts = self.region_prompts
        if not isinstance(prompts, (list, tuple)):
            problem = f"region_prompts is {describe(prompts)}, which is not a list of texts"
            raise InputError(problem, "Give a list with one text per region, or an empty list")
        texts = tuple(check_text(text, f"region_prompts[{i}]") for i, text in enumerate(prompts))
        object.__setattr__(self, "region_prompts", texts)


@dataclass(frozen=True)
class Backend:
    """What the world around the detailer does for it.

    Attributes:
        sampler, vae: See `interfaces`.
        hook: A detailer hook (see `engine.Hook`), or None.
        device: Where crops are resized and blended; None for the picture's own device.
        host: What the program around the detailer does for it.
    """

    sampler: Sampler
    vae: Vae
    hook: object | None = None
    device: torch.device | None = None
    host: Host = STANDALONE_HOST


@dataclass(frozen=True)
class DetailerResult:
    """What came out.

    Attributes:
        image: The pictures ``[B x batch_size,H,W,C]``: all versions of the first picture, then those of the next.
        crops: The refined crops ``[1,h,w,3]`` as large as their crop regions, in the order of pictures, versions,
            regions. A picture without a region has one black picture of 64 x 64 there.
        alpha_crops: The same with the feathered mask as alpha, ``[1,h,w,4]``; black and transparent for none.
        boxes: For each of the pictures, the crop regions of its regions.
    """

    image: torch.Tensor
    crops: list[torch.Tensor]
    alpha_crops: list[torch.Tensor]
    boxes: list[list[Box]]


# A picture ``[H,W,C]`` as refined so far, the crop regions of all its regions, and the number of the one at work.
Working: TypeAlias = Callable[[torch.Tensor, Sequence[Box], int], None]


@torch.no_grad()
def detail(
    image: torch.Tensor,
    mask: torch.Tensor,
    pipe: Pipe,
    backend: Backend,
    settings: DetailerSettings,
    refiner: Pipe | None = None,
    working: Working = lambda picture, boxes, current: None,
) -> DetailerResult:
    """Sample every masked region anew, enlarged, and blend it in.

    Outside the feathered masks, and in the alpha of RGBA images, the result equals the input bit for bit, including
    values beyond 0..1, unless a hook changes the whole image. Each crop is cut from the image as refined so far and
    clamped to 0..1, the range of a VAE, so the refined crops are within 0..1 too.

    Args:
        image: ``[B,H,W,C]``, any finite values.
        mask: ``[B,h,w]``, one for each picture, or one for all. Of another size it is scaled to the picture.
        pipe: What samples.
        backend: Sampler, VAE, hook, device.
        settings: The node's widgets.
        refiner: What runs the last steps, ``settings.refiner_ratio`` of them; None for no refiner.
        working: Told where the work is, before each region or batch of regions.

    Raises:
        InputError: An input cannot be used.
        PackError: A hook failed, NaN came out of the VAE or the sampler, or memory ran out.
    """
    image = as_image_batch(image, clamp=False)
    regions = _regions_of_pictures(image, as_mask_batch(mask), settings)
    # The one copy of the pictures, into which everything is blended.
    pictures = _repeated(image, settings.batch_size, backend)
    boxes, crops = _Detailer(pictures, pipe, refiner, backend, settings).run(regions, working)
    return _result(pictures, crops, boxes, settings.batch_size)


def _repeated(image: torch.Tensor, times: int, backend: Backend) -> torch.Tensor:
    """A copy of the images ``[B,H,W,C]`` with each of them ``times`` times: ``[B x times,H,W,C]``."""
    try:
        return image.repeat_interleave(times, dim=0)
    except Exception as error:
        if not backend.host.is_out_of_memory(error):
            raise
        count, height, width, _ = image.shape
        raise PackError(
            f"There is not enough memory for {count * times} images of {width} x {height}",
            f"Lower batch_size, which is {times}, or give fewer images at a time",
        ) from error


def _regions_of_pictures(image: torch.Tensor, mask: torch.Tensor, settings: DetailerSettings) -> list[list[Region]]:
    """For each picture its regions, in its own pixels."""
    if len(mask) not in (1, len(image)):
        raise InputError(
            f"image holds {len(image)} pictures and mask {len(mask)} masks",
            "Give one mask for all pictures, or one for each; several masks for one picture can be combined into one",
        )
    height, width = image.shape[1:3]
    picture = Box(0, 0, width, height)
    mask_height, mask_width = mask.shape[1:]
    x_scale, y_scale = width / mask_width, height / mask_height
    found, faint = [], False
    for one in mask.split(1):
        regions = find_regions(one, settings.crop_factor, settings.drop_size, settings.bbox_fill, settings.contour_fill)
        faint = faint or covers_all_only_by_faint_values(one, regions)
        if (mask_width, mask_height) != (width, height):
            regions = [scale_region(region, x_scale, y_scale, picture) for region in regions]
        found.append(regions)
    if faint:
        _log.warning(
            "A region covers the whole image only because of mask values below %g: every pixel of at least 1/255 is "
            "selected. To drop such pixels, pass the mask through the node 'ThresholdMask'",
            FAINT,
        )
    # More than a pixel of rounding, of either size; ComfyUI's own empty masks, which are square, need no warning.
    if any(found) and abs(mask_height * x_scale - height) >= max(1.0, x_scale):
        _log.warning(
            "The mask is %d x %d and the picture %d x %d: the mask is stretched to the picture's proportions",
            mask_width, mask_height, width, height,
        )  # fmt: skip
    return found * len(image) if len(found) < len(image) else found


class _Detailer:
    """One call of `detail`: what stays the same for all its regions, and one method a step."""

    def __init__(
        self, pictures: torch.Tensor, pipe: Pipe, refiner: Pipe | None, backend: Backend, settings: DetailerSettings
    ) -> None:
        self.pictures, self.settings, self.backend = pictures, settings, backend
        self.picture = Box(0, 0, pictures.shape[2], pictures.shape[1])
        self.ranges = [_range(each) if backend.hook is not None else (0.0, 1.0) for each in pictures]
        self.device = backend.device or pictures.device
        self.hooks = Hooks(
            backend.hook, passes=lambda error: backend.host.is_interrupt(error) or backend.host.is_out_of_memory(error)
        )
        if any(text.strip() for text in settings.region_prompts) and pipe.add_text is None:
            raise InputError(
                "region_prompts has text, but the pipe has no CLIP to encode it",
                "Put one into the pipe with 'EditBasicPipe', or leave region_prompts empty",
            )
        self.soft = settings.mask_mode and settings.noise_mask_feather > 0
        self.pipe, self.refiner = self._prepared(pipe), self._prepared(refiner) if refiner else None
        together = not self.hooks and backend.sampler.rows_are_independent(settings.sampler_name)
        self.at_once = settings.region_batch if together else 1
        self.tiled = settings.tiled_vae
        self.total_steps, self.steps_done = 0, 0

    def run(
        self, regions: list[list[Region]], working: Working
    ) -> tuple[list[list[Box]], list[list[tuple[torch.Tensor, torch.Tensor]]]]:
        """Refine all regions, in place in ``pictures``. For each version the crop region of each region, and its
        refined crop and mask."""
        tasks = self._tasks(regions)
        self.total_steps = self._steps_of(tasks)
        self.backend.sampler.set_total_steps(self.total_steps)
        boxes = [[] for _ in self.pictures]
        places = {}
        for task in tasks:
            places[task.number] = len(boxes[task.version])
            boxes[task.version].append(task.region.crop_region)
        results = {}
        for batch in batches(tasks, lambda: self.at_once):
            first = batch[0]
            working(self.pictures[first.version], boxes[first.version], places[first.number])
            for task, refined in zip(batch, self._refined(batch)):
                results[task.number] = self._paste(task, refined)
        crops = [[] for _ in self.pictures]
        for task in tasks:
            crops[task.version].append(results[task.number])
        return boxes, crops

    def _tasks(self, regions: list[list[Region]]) -> list[Task]:
        settings, tasks, made = self.settings, [], {}
        for version in range(len(self.pictures)):
            of_picture, repeat = divmod(version, settings.batch_size)
            for i, region in enumerate(regions[of_picture]):
                selected = _selected(region)
                if selected is None:
                    continue
                shown = fit_sampling_frame(
                    region.bbox, region.crop_region, self.picture,
                    settings.guide_size, settings.guide_size_for, settings.max_size, self.backend.vae.multiple,
                )  # fmt: skip
                ring = (region.bbox.expand(_ring_width(region), self.picture),) if settings.color_match else ()
                task = Task(
                    number=len(tasks),
                    version=version,
                    region=region,
                    frame=shown,
                    seed=(settings.seed + repeat + i) % _SEEDS,
                    pipe=self._for_region(self.pipe, i, shown.window, made),
                    refiner=self._for_region(self.refiner, i, shown.window, made) if self.refiner else None,
                    reads=(shown.window, *ring),
                    writes=selected.expand(settings.feather, region.crop_region),
                )
                tasks.append(task)
        return tasks

    # Conditionings.

    def _prepared(self, pipe: Pipe) -> Pipe:
        model = self.backend.sampler.add_differential_diffusion(pipe.model) if self.soft else pipe.model
        return replace(pipe, model=model)

    def _for_region(self, pipe: Pipe, index: int, window: Box, made: dict) -> Pipe:
        """``pipe`` with the conditionings of region ``index``: its own text, and masks cut to its window.

        What was made before is taken from ``made``: no text is encoded twice, and regions go together only where
        their conditionings are the very same objects.
        """
        prompts = self.settings.region_prompts
        text = prompts[index].strip() if index < len(prompts) else ""
        positive = pipe.positive
        if text and pipe.add_text is not None:
            positive = _made_once(made, (id(pipe), text), lambda: pipe.add_text(positive, text))

        def cropped(conditioning: Any) -> Any:
            crop = partial(crop_conditioning, conditioning, self.picture, window)
            return _made_once(made, (id(conditioning), window), crop)

        return replace(pipe, positive=cropped(positive), negative=cropped(pipe.negative))

    # The steps of a region, for some regions of one size together.

    def _refined(self, tasks: list[Task]) -> list[torch.Tensor]:
        """The refined crop ``[1,h,w,3]`` of each task. If memory runs out, continues with fewer at a time; if the model
        fails in another way, with one at a time, since some models accept only one row."""
        try:
            refined = self._refined_together(tasks)
            self.steps_done += self._steps_of(tasks)
            return refined
        except Exception as error:
            out_of_memory = self.backend.host.is_out_of_memory(error)
            if out_of_memory and len(tasks) == 1:
                raise _out_of_memory("Sampling", tasks[0].frame.width, tasks[0].frame.height) from error
            batch_may_be_why = len(tasks) > 1 and not isinstance(error, PackError)
            if not out_of_memory and (not batch_may_be_why or self.backend.host.is_interrupt(error)):
                raise
            reason = f"{type(error).__name__}: {error}"
        # Here the exception is gone, and with it the tensors that its frames held.
        self.backend.host.free_memory()
        self.at_once = len(tasks) // 2 if out_of_memory else 1
        if out_of_memory:
            _log.warning("Out of memory with %d regions at once; continuing with %d", len(tasks), self.at_once)
        else:
            _log.warning("Sampling failed with %d regions at once (%s); continuing one at a time", len(tasks), reason)
        self.backend.sampler.set_total_steps(self.total_steps, self.steps_done)
        refined = []
        while len(refined) < len(tasks):
            refined += self._refined(tasks[len(refined) : len(refined) + self.at_once])
        return refined

    def _steps_of(self, tasks: list[Task]) -> int:
        return len(tasks) * self.settings.cycle * self.settings.steps

    def _refined_together(self, tasks: list[Task]) -> list[torch.Tensor]:
        frames = [self._touched(task.frame) for task in tasks]
        noise_masks = [self._noise_mask(task) for task in tasks]
        pixels = _joined([self._enlarged_crop(task, shown) for task, shown in zip(tasks, frames)])
        pixels = self.hooks.post_upscale(pixels, noise_masks[0])
        if not self.hooks.get_skip_sampling():
            pipe, latent = self._encoded(tasks[0].pipe, pixels, noise_masks)
            latent = self.hooks.post_encode(latent)
            custom_sampler = self.hooks.get_custom_sampler()
            for cycle in range(self.settings.cycle):
                latent = self._sampled(tasks, cycle, pipe, latent, custom_sampler)
            pixels = self._decoded(self.hooks.pre_decode(latent), len(tasks))
        pixels = self.hooks.post_decode(pixels)
        return [self._reduced_crop(task, row) for task, row in zip(tasks, pixels.split(1))]

    def _touched(self, shown: SamplingFrame) -> SamplingFrame:
        width, height = self.hooks.touch_scaled_size(shown.width, shown.height)
        if (width, height) == (shown.width, shown.height):
            return shown
        multiple = self.backend.vae.multiple
        return SamplingFrame(shown.window, nearest_multiple(width, multiple), nearest_multiple(height, multiple))

    def _enlarged_crop(self, task: Task, shown: SamplingFrame) -> torch.Tensor:
        """``[1,H,W,3]`` in 0..1 on the device, never a view of the image."""
        crop = tensors.drop_alpha(shown.window.crop(self._picture(task))).to(self.device).clamp(0, 1)
        return tensors.resize_lanczos(crop, shown.height, shown.width)

    def _noise_mask(self, task: Task) -> torch.Tensor | None:
        """``[1,y,x]`` in the window's own size, which the host scales to the latent's; None for the whole crop."""
        if not self.settings.mask_mode:
            return None
        mask = embed_mask(task.region.mask.to(self.device), task.region.crop_region, task.frame.window)
        return masks.feather(mask, self.settings.noise_mask_feather).clone()  # hooks may write into it

    def _encoded(self, pipe: Pipe, pixels: torch.Tensor, noise_masks: list) -> tuple[Pipe, dict[str, Any]]:
        """The latent, and the pipe, whose conditionings an inpainting model needs changed."""
        vae = self.backend.vae
        if noise_masks[0] is not None and self.settings.inpaint_model:
            mask = _stacked(noise_masks, pixels.shape[1:3])
            encode = partial(vae.encode_for_inpainting, pipe.positive, pipe.negative, pixels, mask)
            positive, negative, latent = self._tiled_if_needed(encode)
            pipe, latent = replace(pipe, positive=positive, negative=negative), dict(latent)
        else:
            rows = [self._tiled_if_needed(partial(vae.encode, row)) for row in pixels.split(1)]
            latent = {"samples": _joined(rows)}
            if noise_masks[0] is not None:
                latent["noise_mask"] = _stacked(noise_masks, latent["samples"].shape[-2:])
        if "noise_mask" in latent:  # hooks may combine it with the samples, and a host's VAE gives those on the CPU
            latent["noise_mask"] = latent["noise_mask"].to(latent["samples"].device)
        _check_finite(latent["samples"], "The VAE gave NaN or infinite values when it encoded a crop", _VAE_REMEDY)
        return pipe, latent

    def _sampled(
        self, tasks: list[Task], cycle: int, pipe: Pipe, latent: dict[str, Any], custom_sampler: Any
    ) -> dict[str, Any]:
        """The latent after one more cycle."""
        settings = self.settings
        self.hooks.set_steps(cycle, settings.cycle)
        latent = self.hooks.cycle_latent(latent)
        first, *others = ((task.seed + cycle) % _SEEDS for task in tasks)
        model, seed, steps, cfg, sampler_name, scheduler, positive, negative, _, denoise = self.hooks.pre_ksample(
            pipe.model, first, settings.steps, settings.cfg, settings.sampler_name, settings.scheduler,
            pipe.positive, pipe.negative, latent, settings.denoise,
        )  # fmt: skip
        noise = self.hooks.get_custom_noise(first, latent["samples"])
        if denoise < LEAST_DENOISE:  # only a hook can ask for this: skip the cycle
            return latent

        refiner = tasks[0].refiner
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
            seeds=(seed % _SEEDS, *others),
            latent=latent,
            noise=noise,
            custom_sampler=custom_sampler,
            leave_noise=switch < total,
        )
        samples = self.backend.sampler.sample(run) if start < switch else None
        if switch < total:
            run = replace(
                run,
                model=refiner.model,
                positive=refiner.positive,
                negative=refiner.negative,
                start_step=switch,
                end_step=total,
                leave_noise=False,
                resume=samples,
            )
            samples = self.backend.sampler.sample(run)
        _check_finite(
            samples,
            f"The sampler {describe(sampler_name)} gave NaN or infinite values",
            "Look at the model, its precision and cfg; another sampler or scheduler may do",
        )
        return {**latent, "samples": samples}

    def _decoded(self, latent: dict[str, Any], rows: int) -> torch.Tensor:
        """``[B,H,W,3]`` in 0..1 on the device."""
        vae = self.backend.vae
        decoded = []
        for row in latent["samples"].split(1):
            pixels = self._tiled_if_needed(partial(vae.decode, row))
            _check_finite(pixels, "The VAE gave NaN or infinite values when it decoded a crop", _VAE_REMEDY)
            decoded.append(tensors.drop_alpha(pixels.to(self.device, torch.float32)).clamp(0, 1))
        result = _joined(decoded)
        if len(result) != rows:
            raise PackError(
                f"{len(result)} pictures were decoded for {rows} regions",
                "A hook may have changed the number of latents, or the VAE may be one for video",
            )
        return result

    def _reduced_crop(self, task: Task, pixels: torch.Tensor) -> torch.Tensor:
        """``[1,H,W,3]`` as sampled -> as large as the crop region, with matched colours."""
        window, crop = task.frame.window, task.region.crop_region
        refined = tensors.resize_lanczos(pixels, window.height, window.width)
        refined = crop.relative_to(window).crop(refined)
        if self.settings.color_match:
            region = task.region
            around = region.bbox.expand(_ring_width(region), self.picture)
            inside = embed_mask(region.mask.to(self.device), crop, around)
            ring = morphology.gradient((inside > 0).float(), 2 * _ring_width(region) + 1, edge="outer")
            picture = tensors.drop_alpha(around.crop(self._picture(task))).to(self.device).clamp(0, 1)
            where = region.mask.to(self.device)
            refined = colors.match_colors(refined, where, picture, ring, self.settings.color_match)
        return refined

    def _paste(self, task: Task, refined: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Blend a refined crop into its picture. Gives back crop and feathered mask."""
        crop = task.region.crop_region
        fade = crop.inner_sides(self.picture)
        soft = masks.feather(task.region.mask.to(self.device), self.settings.feather, fade)
        there, here = tensors.drop_alpha(task.writes.crop(self._picture(task))), task.writes.relative_to(crop)
        # torch.lerp is exact at both ends: where the mask is 0, the image stays the same bit for bit.
        blended = torch.lerp(there.to(self.device), here.crop(refined), here.crop(soft).unsqueeze(-1))
        there.copy_(blended)

        picture = self._picture(task)
        changed = self.hooks.post_paste(picture, *self.ranges[task.version])
        if changed is not picture:
            picture[..., : changed.shape[-1]].copy_(changed)
        return refined.to(picture.device).clone(), soft.to(picture.device)  # no view that keeps a whole batch alive

    def _picture(self, task: Task) -> torch.Tensor:
        """``[1,H,W,C]``, a view of what is being made."""
        return self.pictures[task.version : task.version + 1]

    def _tiled_if_needed(self, work: Callable[[bool], Any]) -> Any:
        """``work(tiled)``, in tiles once memory has run out without."""
        if not self.tiled:
            try:
                return work(False)
            except Exception as error:
                if not self.backend.host.is_out_of_memory(error):
                    raise
            self.backend.host.free_memory()
            self.tiled = True
            _log.warning("The VAE ran out of memory; going on in tiles")
        try:
            return work(True)
        except Exception as error:
            if not self.backend.host.is_out_of_memory(error):
                raise
            raise PackError(
                "The VAE ran out of memory, in tiles too", "Lower max_size or guide_size, or free memory elsewhere"
            ) from error


_VAE_REMEDY = "Run the VAE in full precision (ComfyUI's --fp32-vae) or take another VAE"


def schedule(steps: int, denoise: float, refiner_ratio: float) -> tuple[int, int, int]:
    """Which steps are run: from the first to the second number with the base model, on to the third, which is the
    length of the whole schedule, with the refiner.

    The whole schedule is long enough that its share ``denoise`` has ``steps`` steps. The base model runs
    floor(steps x (1 - refiner_ratio)) of these.
    """
    total = math.floor(steps / min(denoise, 1.0))
    start = total - steps
    base = math.floor(round(steps * (1.0 - refiner_ratio), 6))  # 10 * (1 - 0.9) is a little less than 1
    return start, start + base, total


def _range(image: torch.Tensor) -> tuple[float, float]:
    """0..1, widened to the range of the image's own values."""
    low, high = (bound.item() for bound in image.aminmax())
    return min(0.0, low), max(1.0, high)


def _selected(region: Region) -> Box | None:
    """The tight box of what is selected, None where nothing is."""
    rows, columns = (np.flatnonzero(region.mask[0].numpy().any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return None
    x, y = region.crop_region.x1, region.crop_region.y1
    return Box(x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1)


def _ring_width(region: Region) -> int:
    """How wide the ring around a region is from which colours are taken, in pixels."""
    return max(8, min(region.bbox.width, region.bbox.height) // 4)


def _stacked(noise_masks: list[torch.Tensor], size: Sequence[int]) -> torch.Tensor:
    """Noise masks ``[1,y,x]`` as one batch. Those of different sizes are brought to ``size`` (height, width) in the
    way in which the host does it for each, so that regions come out as alone."""
    if len({mask.shape for mask in noise_masks}) > 1:
        # [1,y,x] -> [1,1,y,x] -> [1,h,w]
        noise_masks = [F.interpolate(mask[None], tuple(size), mode="bilinear")[0] for mask in noise_masks]
    return _joined(noise_masks)


def _joined(rows: list[torch.Tensor]) -> torch.Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _check_finite(values: torch.Tensor, problem: str, remedy: str) -> None:
    low, high = (bound.item() for bound in values.aminmax())  # one pass over the memory; NaN makes both NaN
    if not (math.isfinite(low) and math.isfinite(high)):
        raise PackError(problem, remedy)


def _out_of_memory(work: str, width: int, height: int) -> PackError:
    return PackError(
        f"{work} ran out of memory with a single crop of {width} x {height}",
        "Lower max_size or guide_size, or free memory elsewhere",
    )


def _made_once(made: dict, key: Any, make: Callable[[], Any]) -> Any:
    if key not in made:
        made[key] = make()
    return made[key]


def _result(
    pictures: torch.Tensor,
    crops: list[list[tuple[torch.Tensor, torch.Tensor]]],
    boxes: list[list[Box]],
    versions: int,
) -> DetailerResult:
    """``crops`` of every version; each picture has as many ``versions``."""
    refined, with_alpha = [], []
    for first in range(0, len(crops), versions):
        of_picture = [pair for version in crops[first : first + versions] for pair in version]
        if not of_picture:  # an empty list would end the workflow
            of_picture = [(pictures.new_zeros(1, 64, 64, 3), pictures.new_zeros(1, 64, 64))]
        for crop, soft in of_picture:
            refined.append(crop)
            with_alpha.append(torch.cat([crop, soft.unsqueeze(-1)], dim=-1))
    return DetailerResult(pictures, refined, with_alpha, boxes)
