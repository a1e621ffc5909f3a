"""The node CLIPSegMasking: how well each pixel of a batch matches a text."""

from __future__ import annotations

from dataclasses import asdict

from ..core import checks, tensors
from ..core.text.clipseg_engine import make_segmenter
from ..core.text.query import Query
from ..core.text.segment import NORMALIZATIONS, score
from . import _host as host
from . import _text, _view
from ._text import CLIPSEG_MODEL, IMAGES, NEGATIVE_TEXT, TEXT, WORKING_RESOLUTION
from ._widgets import TableNode, choice


class CLIPSegMasking(TableNode):
    """Text to soft masks, for every image of a batch."""

    DESCRIPTION = (
        "Scores every pixel against a text and returns the scores as soft masks. For a thresholded mask use Text to "
        "Mask (CLIPSeg)."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "clipseg masking",
        "text to mask",
        "mask by text",
        "prompt mask",
        "text segmentation",
        "clipseg batch",
        "heat map",
        "find object",
    ]
    CATEGORY = "image/mask"
    FUNCTION = "CLIPSeg_image"
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_NODE = True  # can be run alone, for its preview
    RETURN_TYPES = ("MASK", "IMAGE")
    RETURN_NAMES = ("masks", "mask_images")
    OUTPUT_TOOLTIPS = (
        "One soft mask per image, same size.",
        "The same masks as grayscale images.",
    )

    INPUTS = {
        "required": {"images": IMAGES, "text": TEXT},
        "optional": {
            "clipseg_model": CLIPSEG_MODEL,
            "negative_text": NEGATIVE_TEXT,
            "resolution": WORKING_RESOLUTION,
            "normalization": choice(
                NORMALIZATIONS,
                default="stretch",
                display_name="normalize",
                tooltip="stretch: scales each mask so that its best match is white, even if the object is not there. "
                "none: raw probabilities; the mask stays dark if nothing matches.",
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
        query = Query(text, negative_text, resolution)
        checks.check_choice(normalization, "normalization", NORMALIZATIONS)
        view, comfyui = _view.View(extra_pnginfo), host.ComfyHost()
        view.begin(_view.LOADING)
        if clipseg_model is None:
            clipseg_model = _text.load(_text.DEFAULT, view.download_progress)
        engine = make_segmenter(clipseg_model, comfyui)
        view.begin(_view.WORK)
        scores = score(images, engine, query, normalization, comfyui, keep=view.max_images)
        view.probabilities(images, scores.probabilities, query.scale)
        result = (scores.masks, tensors.mask_to_image(scores.masks))
        return view.with_previews(
            result, kind="probabilities", settings={**asdict(query), "normalization": normalization}
        )
