"""The node MaskDetailerPipe: every masked region sampled anew, larger, and blended in."""

from __future__ import annotations

from functools import partial

from ..core.checks import PIPE_PARTS, as_image_batch, check_basic_pipe
from ..core.detailer import DetailerSettings, detail
from ..core.interfaces import Pipe
from . import _view
from ._host import detailing, sampling, schedulers

SAMPLED_WITH = ("model", "positive", "negative")  # the parts of a pipe without which nothing can be sampled


class MaskDetailerPipe:
    """Details all regions of a mask."""

    NEEDS_COMFYUI = True  # samplers, schedulers and the VAE are ComfyUI's

    DESCRIPTION = (
        "Adds detail where a mask is: every connected region of the mask is cut out with its surroundings, enlarged, "
        "sampled anew and blended back in. The rest of the picture stays as it is, bit for bit."
    )
    SEARCH_ALIASES = ["detailer", "face detailer", "inpaint region", "refine masked area", "ADetailer"]
    CATEGORY = "detailer/Maskwright"
    FUNCTION = "doit"
    RETURN_TYPES = ("IMAGE", "IMAGE", "IMAGE", "BASIC_PIPE", "BASIC_PIPE")
    RETURN_NAMES = ("image", "cropped_refined", "cropped_enhanced_alpha", "basic_pipe", "refiner_basic_pipe_opt")
    OUTPUT_IS_LIST = (False, True, True, False, False)
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_TOOLTIPS = (
        "The pictures with all regions refined; batch_size versions of each.",
        "The refined crops, one for each region, as large as they were cut out. A black picture where there is none.",
        "The same with the blended mask as alpha (RGBA).",
        "The pipe that came in, for the next node.",
        "The refiner's pipe that came in.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        longest = detailing.max_resolution()
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures. A batch needs one mask for all, or one for each."}),
                "mask": (
                    "MASK",
                    {
                        "tooltip": "What to refine: every pixel that is not black, down to 1/255. Of another size than "
                        "the image, it is scaled to it."
                    },
                ),
                "basic_pipe": ("BASIC_PIPE", {"tooltip": "Model, CLIP, VAE and prompts, from ToBasicPipe."}),
                "guide_size": (
                    "FLOAT",
                    {
                        "default": 384,
                        "min": 64,
                        "max": longest,
                        "step": 8,
                        "tooltip": "A region is enlarged until its shorter side has this many pixels, then sampled. "
                        "Regions that are larger already stay as large as they are.",
                    },
                ),
                "guide_size_for": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "label_on": "mask bbox",
                        "label_off": "crop region",
                        "tooltip": "Which side guide_size is measured on: that of the masked part itself, or that of "
                        "the crop with its surroundings.",
                    },
                ),
                "max_size": (
                    "FLOAT",
                    {
                        "default": 1024,
                        "min": 64,
                        "max": longest,
                        "step": 8,
                        "tooltip": "No crop is sampled with a longer side than this; larger ones are reduced to it.",
                    },
                ),
                "mask_mode": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "label_on": "masked only",
                        "label_off": "whole",
                        "tooltip": "Whether noise acts only where the mask is, or in the whole crop. Only the masked "
                        "part is pasted either way.",
                    },
                ),
                "seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 0xFFFFFFFFFFFFFFFF,
                        "control_after_generate": True,
                        "tooltip": "Of the first region; each further region, version and cycle takes the next one.",
                    },
                ),
                "steps": (
                    "INT",
                    {
                        "default": 20,
                        "min": 1,
                        "max": 10000,
                        "tooltip": "Steps that are really run, whatever denoise is.",
                    },
                ),
                "cfg": (
                    "FLOAT",
                    {
                        "default": 8.0,
                        "min": 0.0,
                        "max": 100.0,
                        "step": 0.1,
                        "tooltip": "How strongly the prompts guide the model.",
                    },
                ),
                "sampler_name": (sampling.names(), {"tooltip": "How noise is removed. Any sampler of ComfyUI."}),
                "scheduler": (
                    schedulers.names(),
                    {
                        "tooltip": "How much noise is removed at which step. AYS, GITS, LTXV and OSS are computed by "
                        "ComfyUI's nodes of these names."
                    },
                ),
                "denoise": (
                    "FLOAT",
                    {
                        "default": 0.5,
                        "min": 0.0001,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "How far a region may change: 0.3 keeps what is there, 1 makes something new.",
                    },
                ),
                "feather": (
                    "INT",
                    {
                        "default": 5,
                        "min": 0,
                        "max": 100,
                        "step": 1,
                        "tooltip": "How many pixels wide the blend from the refined part to the picture is.",
                    },
                ),
                "crop_factor": (
                    "FLOAT",
                    {
                        "default": 3.0,
                        "min": 1.0,
                        "max": 10,
                        "step": 0.1,
                        "tooltip": "How much of its surroundings the model sees with a region: the crop is this many "
                        "times as wide and high.",
                    },
                ),
                "drop_size": (
                    "INT",
                    {
                        "default": 10,
                        "min": 1,
                        "max": longest,
                        "step": 1,
                        "tooltip": "Regions not wider or not higher than this are left out, in pixels.",
                    },
                ),
                "refiner_ratio": (
                    "FLOAT",
                    {
                        "default": 0.2,
                        "min": 0.0,
                        "max": 1.0,
                        "tooltip": "The share of the steps that the refiner's model runs, where there is one.",
                    },
                ),
                "batch_size": (
                    "INT",
                    {"default": 1, "min": 1, "max": 100, "tooltip": "How many versions of each picture are made."},
                ),
                "cycle": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 10,
                        "step": 1,
                        "tooltip": "How many times each region is sampled, one on top of the other.",
                    },
                ),
            },
            "optional": {
                "refiner_basic_pipe_opt": (
                    "BASIC_PIPE",
                    {"tooltip": "A second model that runs the last steps, with its own prompts."},
                ),
                "detailer_hook": (
                    "DETAILER_HOOK",
                    {"tooltip": "What another pack plugs in. Regions are then sampled one at a time."},
                ),
                "inpaint_model": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "label_on": "enabled",
                        "label_off": "disabled",
                        "tooltip": "The model is one made for inpainting: it is shown the picture around the mask.",
                    },
                ),
                "noise_mask_feather": (
                    "INT",
                    {
                        "default": 20,
                        "min": 0,
                        "max": 100,
                        "step": 1,
                        "tooltip": "How far the mask is blurred for sampling, in pixels; differential diffusion then "
                        "changes the rim less than the middle. 0 keeps it hard.",
                    },
                ),
                "bbox_fill": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "label_on": "enabled",
                        "label_off": "disabled",
                        "tooltip": "Take the whole rectangle around each region, not its shape.",
                    },
                ),
                "contour_fill": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "label_on": "enabled",
                        "label_off": "disabled",
                        "tooltip": "Fill holes in regions and make the mask hard. Off keeps soft masks soft.",
                    },
                ),
                "scheduler_func_opt": (
                    "SCHEDULER_FUNC",
                    {"tooltip": "What computes the noise levels in place of the scheduler, from another pack."},
                ),
                "region_batch": (
                    "INT",
                    {
                        "default": 4,
                        "min": 1,
                        "max": 64,
                        "tooltip": "How many regions of one size that do not touch are sampled together: faster, for "
                        "more memory. The result is that of one at a time. Hooks and samplers that draw "
                        "noise on the way get one at a time.",
                    },
                ),
                "color_match": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.05,
                        "tooltip": "How far the refined part's colours move towards those around the mask.",
                    },
                ),
                "tiled_vae": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "label_on": "enabled",
                        "label_off": "disabled",
                        "tooltip": "Encode and decode in tiles: less memory for large crops, a little slower.",
                    },
                ),
                "region_prompts": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "Line 1 is added to the positive prompt of the first region, line 2 to that of the "
                        "second, and so on; an empty line adds nothing.",
                    },
                ),
            },
            "hidden": {**_view.HIDDEN, "unique_id": "UNIQUE_ID"},
        }

    def doit(
        self,
        image,
        mask,
        basic_pipe,
        guide_size,
        guide_size_for,
        max_size,
        mask_mode,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        denoise,
        feather,
        crop_factor,
        drop_size,
        refiner_ratio,
        batch_size,
        cycle=1,
        refiner_basic_pipe_opt=None,
        detailer_hook=None,
        inpaint_model=False,
        noise_mask_feather=0,  # prompts that leave it out mean 0, whatever the widget begins with
        bbox_fill=False,
        contour_fill=True,
        scheduler_func_opt=None,
        region_batch=4,
        color_match=0.0,
        tiled_vae=False,
        region_prompts="",
        extra_pnginfo=None,
        unique_id=None,
    ):
        settings = DetailerSettings(
            guide_size=guide_size,
            guide_size_for=guide_size_for,
            max_size=max_size,
            mask_mode=mask_mode,
            seed=seed,
            steps=steps,
            cfg=cfg,
            sampler_name=sampler_name,
            scheduler=scheduler,
            denoise=denoise,
            feather=feather,
            crop_factor=crop_factor,
            drop_size=drop_size,
            refiner_ratio=refiner_ratio,
            batch_size=batch_size,
            cycle=cycle,
            inpaint_model=inpaint_model,
            noise_mask_feather=noise_mask_feather,
            bbox_fill=bbox_fill,
            contour_fill=contour_fill,
            region_batch=region_batch,
            color_match=color_match,
            tiled_vae=tiled_vae,
            region_prompts=region_prompts.splitlines() if isinstance(region_prompts, str) else region_prompts,
        )
        needed = (*SAMPLED_WITH, "vae")
        model, clip, vae, positive, negative = check_basic_pipe(basic_pipe, "basic_pipe", needed)
        image = as_image_batch(image, clamp=False)
        view = _view.View(extra_pnginfo)
        result = detail(
            image,
            mask,
            _pipe(model, clip, positive, negative),
            detailing.backend(vae, detailer_hook, scheduler_func_opt),
            settings,
            _refiner(refiner_basic_pipe_opt),
            partial(view.working, unique_id),
        )
        view.comparison(image, result.image, result.boxes)
        outputs = (result.image, result.crops, result.alpha_crops, basic_pipe, refiner_basic_pipe_opt)
        return view.answer(outputs, kind="comparison")


def _pipe(model, clip, positive, negative) -> Pipe:
    return Pipe(model, positive, negative, None if clip is None else partial(detailing.with_text, clip))


def _refiner(value: object) -> Pipe | None:
    """None where there is no refiner. Other packs give a pipe that holds nothing but a VAE for that."""
    if value is None:
        return None
    name = "refiner_basic_pipe_opt"
    parts = dict(zip(PIPE_PARTS, check_basic_pipe(value, name, needed=())))
    if all(parts[part] is None for part in SAMPLED_WITH):
        return None
    check_basic_pipe(value, name, SAMPLED_WITH)
    return _pipe(parts["model"], parts["clip"], parts["positive"], parts["negative"])
