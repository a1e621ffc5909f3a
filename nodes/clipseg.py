"""The node CLIPSeg: a text description becomes a mask."""

from __future__ import annotations

from dataclasses import asdict

from ..core import checks, tensors
from ..core.text.clipseg_engine import make_segmenter
from ..core.text.query import Query
from ..core.text.segment import Selection, segment
from . import _host as host
from . import _text, _view
from ._text import CLIPSEG_MODEL, IMAGES, NEGATIVE_TEXT, TEXT, WORKING_RESOLUTION
from ._widgets import TableNode, integer, number


class CLIPSeg(TableNode):
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

    INPUTS = {
        "required": {"image": IMAGES, "text": TEXT},
        "optional": {
            "blur": number(
                Selection.blur,
                (0.0, 15.0, 0.1),
                tooltip="Edge softness (Gaussian sigma), in pixels at the model's 352 x 352 resolution.",
            ),
            "threshold": number(
                Selection.threshold,
                (0.0, 1.0, 0.05),
                tooltip="How confident the model must be. Higher selects less.",
            ),
            "dilation_factor": integer(
                Selection.dilation_factor,
                (0, 100, 1),
                display_name="dilation",
                tooltip="How far to grow the selection in every direction, in pixels at the model's 352 x 352 "
                "resolution.",
            ),
            "negative_text": NEGATIVE_TEXT,
            "resolution": WORKING_RESOLUTION,
            "clipseg_model": CLIPSEG_MODEL,
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
        view, comfyui = _view.View(extra_pnginfo), host.ComfyHost()
        view.begin(_view.LOADING)
        if clipseg_model is None:
            clipseg_model = _text.load(_text.DEFAULT, view.download_progress)
        engine = make_segmenter(clipseg_model, comfyui)
        view.begin(_view.WORK)
        segments = segment(image, engine, query, selection, comfyui, keep=view.max_images)
        view.probabilities(image, segments.probabilities, query.scale)
        result = (segments.masks, segments.heat_maps, tensors.mask_to_image(segments.masks))
        return view.with_previews(result, kind="selection", settings={**asdict(query), **asdict(selection)})
