"""The node GradientRegion: edges of masks."""

from __future__ import annotations

from ..core import checks, morphology
from . import _host as host
from . import _view
from ._widgets import TableNode, choice, integer, socket


class GradientRegion(TableNode):
    """Morphological gradient of every mask in a batch."""

    DESCRIPTION = (
        "Draws a line along the edges of a mask (morphological gradient). Hard edges give strong lines, soft edges "
        "faint ones."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "gradient region",
        "mask edge",
        "mask outline",
        "mask border",
        "morphological gradient",
        "contour",
        "edge mask",
    ]
    CATEGORY = "image/mask"
    FUNCTION = "gradient_region"
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_NODE = True  # can be run alone, for its preview
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("MASKS",)
    OUTPUT_TOOLTIPS = ("The edges, one mask per input mask, same size.",)

    INPUTS = {
        "required": {"masks": socket("MASK", "The masks to outline. Soft masks give soft lines.")},
        "optional": {
            "kernel_size": integer(
                3,
                (1, 31, 2),
                tooltip="Approximate line width in pixels. 1 gives an empty mask. A connected list sets one size per "
                "mask.",
            ),
            "shape": choice(
                morphology.SHAPES,
                default="rectangle",
                tooltip="The brush that draws the line: a rectangle keeps corners square, an ellipse rounds them, a "
                "cross draws only horizontally and vertically.",
            ),
            "edge": choice(
                morphology.EDGES,
                default="both",
                tooltip="Where the line is drawn: on both sides of the edge, only inside the selection, or only "
                "outside it.",
            ),
            "image": socket("IMAGE", "Only for the preview: the image that the masks belong to."),
        },
        "hidden": _view.HIDDEN,
    }

    def gradient_region(self, masks, kernel_size=3, shape="rectangle", edge="both", image=None, extra_pnginfo=None):
        masks = checks.as_mask_batch(masks, "masks")
        edges = morphology.gradient(masks, kernel_size, shape, edge, host.progress(len(masks)))
        view = _view.View(extra_pnginfo)
        view.masks(masks, image)
        settings = {"kernel_size": kernel_size, "shape": shape, "edge": edge}
        return view.with_previews((edges,), kind="edges", settings=settings)
