"""The node RegionStitch: puts the crops of RegionCrop back into their images."""

from __future__ import annotations

from ..core.checks import describe_type
from ..core.crop.crop_stitch import Stitch
from ..core.crop.stitch import stitch_crops
from ..core.errors import InputError
from . import _host as host
from . import _view
from ._widgets import TableNode, integer, number, socket, takes
from .region_crop import STITCH, group_boxes

AS_CROPPED = -1


class RegionStitch(TableNode):
    """Blends crops back into the images they come from."""

    DESCRIPTION = (
        "Puts the crops of Region Crop back into their images, whatever was done to them. Pixels outside the mask do "
        "not change. If nothing is selected, the nodes in between do not run."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "inpaint stitch",
        "crop and stitch",
        "uncrop",
        "paste crop",
        "composite crop",
        "blend crop back",
    ]
    CATEGORY = "Maskwright"
    FUNCTION = "stitch"
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")
    INPUT_IS_LIST = True
    OUTPUT_IS_LIST = (True, True)
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_TOOLTIPS = (
        "The images with all crops blended in.",
        "How much each pixel was changed: white is the crop alone, black the unchanged image.",
    )

    INPUTS = {
        "required": {
            "stitch": socket(STITCH, "From Region Crop."),
            "crops": socket(
                "IMAGE",
                "The crops, as a list or as batches, in the order of Region Crop. They may be larger or smaller than "
                "they were, in the same proportions.",
                lazy=True,
            ),
            "color_match": number(
                0.0,
                (0.0, 1.0, 0.05),
                "How strongly to match the colors of each crop to the surroundings of its region.",
            ),
            "blend": integer(
                AS_CROPPED,
                (AS_CROPPED, 256),
                "Width of the seam, in pixels on each side of the mask's edge. -1 uses the value of Region Crop.",
            ),
        },
        "optional": {
            "crop_masks": socket(
                "MASK",
                "Other masks for blending, one per crop. If not connected, the masks of Region Crop are used.",
                lazy=True,
            ),
        },
        "hidden": _view.HIDDEN,
    }

    def check_lazy_status(self, stitch, crops=None, crop_masks=None, **_):
        """Ask for the crops only if something is selected. Inputs that are connected but not evaluated are (None,)."""
        if all(isinstance(each, Stitch) and not each.regions for each in stitch):
            return []
        return ["crops"] if crop_masks is None else ["crops", "crop_masks"]

    @takes(INPUTS)
    def stitch(self, stitch, crops, color_match, blend, crop_masks, extra_pnginfo):
        stitches = [_check_stitch(each) for each in stitch]
        width = None if blend[0] == AS_CROPPED else blend[0]
        progress = host.progress(sum(len(each.regions) for each in stitches))
        results = stitch_crops(stitches, crops, crop_masks, color_match[0], width, progress)
        view = _view.View(extra_pnginfo[0] if extra_pnginfo else None)
        for each, (images, _) in zip(stitches, results):
            view.comparison(each.images, images, group_boxes(each)[0])
        return view.with_previews(
            ([images for images, _ in results], [masks for _, masks in results]), kind="comparison"
        )


def _check_stitch(value: object) -> Stitch:
    if not isinstance(value, Stitch):
        problem = f"stitch is {describe_type(value, 'the stitch of Region Crop')}"
        raise InputError(problem, "Connect the output stitch of Region Crop")
    return value
