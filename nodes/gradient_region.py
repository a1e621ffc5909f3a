"""The node GradientRegion: edges of masks."""

from __future__ import annotations

from ..core import checks
from ..core import masks as mask_ops
from . import _host as host


class GradientRegion:
    """Morphological gradient of every mask of a batch."""

    DESCRIPTION = (
        "Finds the edges of masks: a line along the outline of what is selected, as strong as the edge is steep "
        "(morphological gradient: dilation minus erosion)."
    )
    SEARCH_ALIASES = ["mask edge", "mask outline", "mask border", "morphological gradient", "contour", "edge mask"]
    CATEGORY = "mask/Maskwright"
    FUNCTION = "gradient_region"
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("MASKS",)
    OUTPUT_TOOLTIPS = ("The edges, one mask for each mask that came in, of the same size.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "masks": ("MASK", {"tooltip": "The masks whose edges are wanted. Soft masks give soft edges."}),
            },
            "optional": {
                "kernel_size": (
                    "INT",
                    {
                        "default": 3,
                        "min": 1,
                        "max": 31,
                        "step": 2,
                        "tooltip": "Width in pixels over which the mask is compared, about the width of the line. "
                        "1 gives an empty mask. A link may carry a list, one size for each mask.",
                    },
                ),
                "shape": (
                    list(mask_ops.SHAPES),
                    {
                        "default": "rectangle",
                        "tooltip": "The brush that draws the line: a rectangle keeps corners square, an ellipse "
                        "rounds them, a cross keeps only what lies straight above, below and beside.",
                    },
                ),
                "edge": (
                    list(mask_ops.EDGES),
                    {
                        "default": "both",
                        "tooltip": "Where the line lies: on both sides of the edge, only inside the selection, "
                        "or only outside it.",
                    },
                ),
            },
        }

    def gradient_region(self, masks, kernel_size=3, shape="rectangle", edge="both"):
        masks = checks.as_mask_batch(masks, "masks")
        return (mask_ops.gradient(masks, kernel_size, shape, edge, host.progress(len(masks))),)
