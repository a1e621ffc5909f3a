"""The node CLIPSegMasking: how well each pixel of a batch fits a text."""

from __future__ import annotations

from dataclasses import asdict

from ..core import checks, tensors
from ..core import clipseg as clipseg_ops
from . import _clipseg, _view
from . import _host as host


class CLIPSegMasking:
    """Text to soft masks, for every picture of a batch."""

    DESCRIPTION = (
        "Finds what a text describes in every picture of a batch, as soft masks: the brighter a pixel, the better "
        "it fits. To select it with a threshold use CLIPSeg."
    )
    SEARCH_ALIASES = ["text to mask", "prompt mask", "text segmentation", "clipseg batch", "find object", "segment"]
    CATEGORY = "mask/Maskwright"
    FUNCTION = "CLIPSeg_image"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("MASK", "IMAGE")
    RETURN_NAMES = ("masks", "mask_images")
    OUTPUT_TOOLTIPS = (
        "One mask for each picture, of the same size, soft.",
        "The same masks as grey pictures.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The pictures to search, of any size. Transparency is ignored."}),
                "text": _clipseg.TEXT,
            },
            "optional": {
                "clipseg_model": _clipseg.CLIPSEG_MODEL,
                "negative_text": _clipseg.NEGATIVE_TEXT,
                "resolution": _clipseg.RESOLUTION,
                "normalization": (
                    list(clipseg_ops.NORMALIZATIONS),
                    {
                        "default": "stretch",
                        "tooltip": "stretch makes the best place bright and the worst black in each picture, even "
                        "where what you look for is not there. none gives the probability itself, so that it then "
                        "stays dark.",
                    },
                ),
            },
            "hidden": _view.HIDDEN,
        }

    def CLIPSeg_image(
        self,
        images,
        text=None,
        clipseg_model=None,
        negative_text="",
        resolution=352,
        normalization="stretch",
        extra_pnginfo=None,
    ):
        images = checks.as_image_batch(images, "images")
        query = clipseg_ops.Query(text, negative_text, resolution)
        checks.check_choice(normalization, "normalization", clipseg_ops.NORMALIZATIONS)
        view = _view.View(extra_pnginfo)
        segmenter = _clipseg.segmenter(clipseg_model, view)
        masks = clipseg_ops.masking(
            images, segmenter, query, normalization, host.chunks(len(images)), view.listener(images, query.scale)
        )
        result = (masks, tensors.mask_to_image(masks))
        return view.answer(result, kind="probabilities", settings={**asdict(query), "normalization": normalization})
