"""The node GradientRegion: edges of masks."""

from __future__ import annotations

from ..core import checks, morphology
from . import _host as host


class GradientRegion:
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
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("MASKS",)
    OUTPUT_TOOLTIPS = ("The edges, one mask per input mask, same size.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "masks": ("MASK", {"tooltip": "The masks to outline. Soft masks give soft lines."}),
            },
            "optional": {
                "kernel_size": (
                    "INT",
                    {
                        "default": 3,
                        "min": 1,
                        "max": 31,
                        "step": 2,
                        "tooltip": "Approximate line width in pixels. 1 gives an empty mask. A connected list sets "
                        "one size per mask.",
                    },
                ),
                "shape": (
                    list(morphology.SHAPES),
                    {
                        "default": "rectangle",
                        "tooltip": "The brush that draws the line: a rectangle keeps corners square, an ellipse "
                        "rounds them, a cross draws only horizontally and vertically.",
                    },
                ),
                "edge": (
                    list(morphology.EDGES),
                    {
                        "default": "both",
                        "tooltip": "Where the line is drawn: on both sides of the edge, only inside the selection, "
                        "or only outside it.",
                    },
                ),
            },
        }

    def gradient_region(self, masks, kernel_size=3, shape="rectangle", edge="both"):
        masks = checks.as_mask_batch(masks, "masks")
        return (morphology.gradient(masks, kernel_size, shape, edge, host.progress(len(masks))),)
