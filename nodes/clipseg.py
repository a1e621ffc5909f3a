"""The node CLIPSeg: select what a text describes."""

from __future__ import annotations

from dataclasses import asdict

from ..core import checks, tensors
from ..core import clipseg as clipseg_ops
from . import _clipseg, _view
from . import _host as host


class CLIPSeg:
    """Text to a thresholded, blurred and grown mask, with its heat map."""

    DESCRIPTION = (
        "Selects what a text describes: what fits better than the threshold, with soft edges, grown a little. "
        "Shows the selection as a heat map over the picture."
    )
    SEARCH_ALIASES = ["text to mask", "prompt mask", "text segmentation", "heat map", "find object", "segment"]
    CATEGORY = "mask/Maskwright"
    FUNCTION = "segment_image"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("MASK", "IMAGE", "IMAGE")
    RETURN_NAMES = ("Mask", "Heatmap Mask", "BW Mask")
    OUTPUT_TOOLTIPS = (
        "One soft mask for each picture, of the same size; empty where nothing fits.",
        "The picture under the colours of the selection: yellow fits best, dark blue not at all.",
        "The mask as a grey picture.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures to search, of any size. Transparency is ignored."}),
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
                        "tooltip": "How soft the edge becomes: the sigma of a Gaussian blur, in pixels of the "
                        "352 x 352 picture that the model sees.",
                    },
                ),
                "threshold": (
                    "FLOAT",
                    {
                        "default": 0.3,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.05,
                        "tooltip": "How sure the model must be: what is not more probable than this is not selected. "
                        "Higher selects less.",
                    },
                ),
                "dilation_factor": (
                    "INT",
                    {
                        "default": 4,
                        "min": 0,
                        "max": 100,
                        "step": 1,
                        "tooltip": "How far the selection grows to every side, in pixels of the 352 x 352 picture "
                        "that the model sees.",
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
        query = clipseg_ops.Query(text, negative_text, resolution)
        selection = clipseg_ops.Selection(blur, threshold, dilation_factor)
        view = _view.View(extra_pnginfo)
        segmenter = _clipseg.segmenter(clipseg_model, view)
        mask, heat_map = clipseg_ops.segment(
            image, segmenter, query, selection, host.chunks(len(image)), view.listener(image, query.scale)
        )
        result = (mask, heat_map, tensors.mask_to_image(mask))
        return view.answer(result, kind="selection", settings={**asdict(query), **asdict(selection)})
