"""The node CLIPSeg: a text description becomes a mask."""

from __future__ import annotations

from dataclasses import asdict

from ..core import checks, tensors
from ..core.text.query import Query
from ..core.text.segment import segment
from ..core.text.selection import Selection
from . import _clipseg, _view
from . import _host as host


class CLIPSeg:
    """Text to a thresholded, blurred and dilated mask, with its heat map."""

    DESCRIPTION = (
        "Turns a text description into a mask with soft, slightly expanded edges. Also outputs a heat map over the "
        "image."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "text to mask",
        "mask by text",
        "mask from text",
        "prompt mask",
        "text segmentation",
        "heat map",
        "find object",
        "segment anything by text",
        "hair",
    ]
    CATEGORY = "image/mask"
    FUNCTION = "segment_image"
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_NODE = True  # can be run alone, for its preview
    RETURN_TYPES = ("MASK", "IMAGE", "IMAGE")
    RETURN_NAMES = ("Mask", "Heatmap Mask", "BW Mask")
    OUTPUT_TOOLTIPS = (
        "One soft mask per image, same size; black if nothing was found.",
        "The image with the heat map on top: yellow is the best match, dark blue no match.",
        "The mask as a grayscale image.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The images to search, of any size. Transparency is ignored."}),
                "text": _clipseg.TEXT,
            },
            "optional": {
                "blur": (
                    "FLOAT",
                    {
                        "default": 3.0,
                        "min": 0.0,
                        "max": 15.0,
                        "step": 0.1,
                        "tooltip": "Edge softness (Gaussian sigma), in pixels at the model's 352 x 352 resolution.",
                    },
                ),
                "threshold": (
                    "FLOAT",
                    {
                        "default": 0.3,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.05,
                        "tooltip": "How confident the model must be. Higher selects less.",
                    },
                ),
                "dilation_factor": (
                    "INT",
                    {
                        "default": 4,
                        "min": 0,
                        "max": 100,
                        "step": 1,
                        "display_name": "dilation",
                        "tooltip": "How far to grow the selection in every direction, in pixels at the model's "
                        "352 x 352 resolution.",
                    },
                ),
                "negative_text": _clipseg.NEGATIVE_TEXT,
                "resolution": _clipseg.RESOLUTION,
                "clipseg_model": _clipseg.CLIPSEG_MODEL,
            },
            "hidden": _view.HIDDEN,
        }

    def segment_image(
        self,
        image,
        text,
        blur=3.0,
        threshold=0.3,
        dilation_factor=4,
        negative_text="",
        resolution=352,
        clipseg_model=None,
        extra_pnginfo=None,
    ):
        image = checks.as_image_batch(image, "image")
        query = Query(text, negative_text, resolution)
        selection = Selection(blur, threshold, dilation_factor)
        view = _view.View(extra_pnginfo)
        engine = _clipseg.make_segmenter(clipseg_model, view)
        found = segment(image, engine, query, selection, host.ComfyHost(), keep=view.max_images)
        view.probabilities(image, found.probabilities, query.scale)
        result = (found.masks, found.heat_maps, tensors.mask_to_image(found.masks))
        return view.answer(result, kind="selection", settings={**asdict(query), **asdict(selection)})
