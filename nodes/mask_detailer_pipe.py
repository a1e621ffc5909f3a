"""The node MaskDetailerPipe: upscales, resamples and blends back every masked region."""

from __future__ import annotations

from functools import partial

from ..core.checks import as_image_batch
from ..core.detail.detail import detail
from ..core.detail.settings import DetailerSettings
from ..core.engine import Pipe
from . import _view
from ._host import detailing, sampling, schedulers
from ._pipes import PIPE_PARTS, check_basic_pipe
from ._widgets import TableNode, choice, integer, number, socket, switch, takes, text

SAMPLING_PARTS = ("model", "positive", "negative")  # the parts of a pipe that sampling needs


class MaskDetailerPipe(TableNode):
    """Adds detail to every region of a mask."""

    NEEDS_COMFYUI = True  # samplers, schedulers and the VAE are ComfyUI's

    DESCRIPTION = (
        "Adds detail inside a mask: each connected region is cropped with some context, upscaled, resampled and "
        "blended back. Pixels outside the mask do not change."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "detailer",
        "face detailer",
        "inpaint region",
        "inpaint masked area",
        "refine masked area",
        "ADetailer",
    ]
    CATEGORY = "model/sampling"
    FUNCTION = "doit"
    RETURN_TYPES = ("IMAGE", "IMAGE", "IMAGE", "BASIC_PIPE", "BASIC_PIPE")
    RETURN_NAMES = ("image", "cropped_refined", "cropped_enhanced_alpha", "basic_pipe", "refiner_basic_pipe_opt")
    OUTPUT_IS_LIST = (False, True, True, False, False)
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_TOOLTIPS = (
        "The images with all regions refined; each in batch_size versions.",
        "The refined crops, one per region, at their original size. One black image if there is no region.",
        "The same crops with the blended mask as alpha (RGBA).",
        "The input pipe, for the next node.",
        "The refiner's input pipe.",
    )

    INPUTS = {
        "required": {
            "image": socket(
                "IMAGE",
                "The images. A batch needs one mask for all, or one per image; a single image takes any number of "
                "masks.",
            ),
            "mask": socket(
                "MASK",
                "The area to refine: every pixel of 1/255 or more; use Threshold Mask to remove faint pixels. Several "
                "masks of one image are refined mask by mask; no mask (a batch of 0) leaves the image unchanged. "
                "Resized to the image if the sizes differ.",
            ),
            "basic_pipe": socket("BASIC_PIPE", "Model, CLIP, VAE and prompts, from To Basic Pipe."),
            "guide_size": number(
                DetailerSettings.guide_size,
                (64, detailing.max_resolution, 8),
                tooltip="Upscale each region until its shorter side has this many pixels, then sample it. Larger "
                "regions are not shrunk.",
            ),
            "guide_size_for": switch(
                DetailerSettings.guide_size_for,
                labels=("mask bbox", "crop region"),
                advanced=True,
                display_name="guide for",
                tooltip="What guide_size measures: the masked area itself (mask bbox), or the crop with its context "
                "(crop region).",
            ),
            "max_size": number(
                DetailerSettings.max_size,
                (64, detailing.max_resolution, 8),
                advanced=True,
                tooltip="Longest side of a crop while it is sampled; larger crops are shrunk to it.",
            ),
            "mask_mode": switch(
                DetailerSettings.mask_mode,
                labels=("masked only", "whole"),
                advanced=True,
                tooltip="Denoise only the masked area or the whole crop. Either way only the masked area is pasted "
                "back.",
            ),
            "seed": integer(
                DetailerSettings.seed,
                (0, 0xFFFFFFFFFFFFFFFF),
                control_after_generate=True,
                tooltip="Seed of the first region; it increases by 1 per region, version and cycle.",
            ),
            "steps": integer(
                DetailerSettings.steps, (1, 10000), "Number of steps actually run, regardless of denoise."
            ),
            "cfg": number(DetailerSettings.cfg, (0.0, 100.0, 0.1), "How strongly the prompts guide the model."),
            "sampler_name": choice(sampling.names, "The sampler, as in KSampler.", display_name="sampler"),
            "scheduler": choice(
                schedulers.names,
                "The noise schedule, as in KSampler. AYS, GITS, LTXV and OSS are computed by the ComfyUI nodes of the "
                "same name.",
            ),
            "denoise": number(
                DetailerSettings.denoise,
                (0.0001, 1.0, 0.01),
                "How much a region may change: 0.3 keeps its content, 1 replaces it.",
            ),
            "feather": integer(DetailerSettings.feather, (0, 100, 1), "Width of the blend at the edge, in pixels."),
            "crop_factor": number(
                DetailerSettings.crop_factor,
                (1.0, 10, 0.1),
                "How much context the model sees: the crop is this many times the region's width and height.",
            ),
            "drop_size": integer(
                DetailerSettings.drop_size,
                (1, detailing.max_resolution, 1),
                advanced=True,
                tooltip="Ignore regions whose width or height is at most this many pixels.",
            ),
            "refiner_ratio": number(
                DetailerSettings.refiner_ratio,
                (0.0, 1.0),
                advanced=True,
                tooltip="Share of the steps that the refiner runs, if one is connected.",
            ),
            "batch_size": integer(
                DetailerSettings.batch_size,
                (1, 100),
                advanced=True,
                tooltip="How many versions of each image to create.",
            ),
            "cycle": integer(
                DetailerSettings.cycle,
                (1, 10, 1),
                advanced=True,
                tooltip="How many times each region is sampled, each pass starting from the last one.",
            ),
        },
        "optional": {
            "refiner_basic_pipe_opt": socket(
                "BASIC_PIPE",
                "A second model, with its own prompts, that runs the last steps.",
                display_name="refiner pipe",
            ),
            "detailer_hook": socket(
                "DETAILER_HOOK",
                "A detailer hook from another pack, such as the Impact Pack. Turns off region_batch.",
            ),
            "inpaint_model": switch(
                DetailerSettings.inpaint_model,
                advanced=True,
                display_name="inpainting",
                tooltip="Turn on for inpainting checkpoints.",
            ),
            "noise_mask_feather": integer(
                DetailerSettings.noise_mask_feather,
                (0, 100, 1),
                advanced=True,
                display_name="noise feather",
                tooltip="Mask blur while sampling, in pixels: with differential diffusion, the edge then changes less "
                "than the middle. 0 keeps the mask hard.",
            ),
            "bbox_fill": switch(
                DetailerSettings.bbox_fill,
                advanced=True,
                tooltip="Use the whole bounding box of each region instead of its shape.",
            ),
            "contour_fill": switch(
                DetailerSettings.contour_fill,
                advanced=True,
                tooltip="Fill holes in regions and make the mask binary. Off keeps soft masks soft.",
            ),
            "scheduler_func_opt": socket(
                "SCHEDULER_FUNC",
                "A custom scheduler from another pack; overrides scheduler.",
                display_name="scheduler func",
            ),
            "region_batch": integer(
                DetailerSettings.region_batch,
                (1, 64),
                advanced=True,
                tooltip="How many regions of equal size to sample at once. Faster, uses more memory, same result. Not "
                "used with hooks or ancestral/SDE samplers, nor with models that only accept single images.",
            ),
            "color_match": number(
                DetailerSettings.color_match,
                (0.0, 1.0, 0.05),
                advanced=True,
                tooltip="How strongly to match the refined area's colors to its surroundings.",
            ),
            "tiled_vae": switch(
                DetailerSettings.tiled_vae,
                advanced=True,
                tooltip="Encode and decode in tiles: less memory for large crops, slightly slower.",
            ),
            "region_prompts": text(
                multiline=True,
                placeholder="region prompts: one line per region",
                tooltip="Line 1 is added to the positive prompt of the first region, line 2 to that of the second, "
                "and so on; an empty line adds nothing. Regions are numbered mask by mask, and in each mask from the "
                "bottom up, as in the node's preview.",
            ),
        },
        "hidden": {**_view.HIDDEN, "unique_id": "UNIQUE_ID"},
    }

    @takes(INPUTS, cycle=1, noise_mask_feather=0)  # values for prompts that omit these inputs
    def doit(
        self,
        image,
        mask,
        basic_pipe,
        refiner_basic_pipe_opt,
        detailer_hook,
        scheduler_func_opt,
        region_prompts,
        extra_pnginfo,
        unique_id,
        **widgets,
    ):
        prompts = tuple(region_prompts.splitlines()) if isinstance(region_prompts, str) else region_prompts
        settings = DetailerSettings(**widgets, region_prompts=prompts)
        needed = (*SAMPLING_PARTS, "vae")
        model, clip, vae, positive, negative = check_basic_pipe(basic_pipe, "basic_pipe", needed)
        image = as_image_batch(image, clamp=False)
        view = _view.View(extra_pnginfo)
        result = detail(
            image,
            mask,
            _make_pipe(model, clip, positive, negative),
            detailing.backend(vae, detailer_hook, scheduler_func_opt),
            settings,
            _make_refiner(refiner_basic_pipe_opt),
            partial(view.on_region, unique_id),
        )
        view.comparison(image, result.image, result.boxes)
        outputs = (result.image, result.crops, result.alpha_crops, basic_pipe, refiner_basic_pipe_opt)
        return view.with_previews(outputs, kind="comparison")


def _make_pipe(model, clip, positive, negative) -> Pipe:
    return Pipe(model, positive, negative, None if clip is None else partial(detailing.append_text, clip))


def _make_refiner(value: object) -> Pipe | None:
    """The refiner, or None. Other packs' nodes represent "no refiner" as a pipe that has only a VAE."""
    if value is None:
        return None
    name = "refiner_basic_pipe_opt"
    parts = dict(zip(PIPE_PARTS, check_basic_pipe(value, name, needed=())))
    if all(parts[part] is None for part in SAMPLING_PARTS):
        return None
    check_basic_pipe(value, name, SAMPLING_PARTS)
    return _make_pipe(parts["model"], parts["clip"], parts["positive"], parts["negative"])
