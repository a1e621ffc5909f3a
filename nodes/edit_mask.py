"""The node EditMask: shapes any mask, with a live view."""

from __future__ import annotations

import logging
from dataclasses import asdict

from ..core import checks
from ..core.edit import MaskEdits, edit_masks
from . import _host as host
from . import _view
from ._widgets import TableNode, get_labels, integer, number, socket, switch

logger = logging.getLogger(__name__)

_REMEDIES = {"invert": "Turn it off", "grow": "Move it toward 0"}  # of an edit that removes the whole mask


class EditMask(TableNode):
    """Inversion, threshold, holes, specks, growth, smoothing, feathering and blur of every mask in a batch."""

    DESCRIPTION = (
        "Shapes a mask: invert, threshold, fill holes, remove specks, grow or shrink, smooth, feather, blur. The "
        "preview follows every slider without a run. The edits are applied from top to bottom."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "edit mask",
        "grow mask",
        "shrink mask",
        "expand mask",
        "feather mask",
        "blur mask",
        "smooth mask",
        "mask threshold",
        "fill holes",
        "remove specks",
        "dilate",
        "erode",
        "invert mask",
    ]
    CATEGORY = "Maskwright"
    FUNCTION = "edit"
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_NODE = True  # can be run alone, for its preview
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)
    OUTPUT_TOOLTIPS = ("The edited masks, same number and size.",)

    INPUTS = {
        "required": {"mask": socket("MASK", "The masks to edit, from any node.")},
        "optional": {
            "image": socket("IMAGE", "Only for the preview: the image that the mask belongs to."),
            "invert": switch(MaskEdits.invert, "Swap selected and unselected areas."),
            "threshold": number(
                MaskEdits.threshold,
                (0.0, 1.0, 0.01),
                tooltip="Make the mask binary: pixels of at least this value become white, all others black. 0 keeps "
                "soft edges.",
            ),
            "fill_holes": switch(MaskEdits.fill_holes, "Fill areas that the selection encloses completely."),
            "remove_specks": integer(
                MaskEdits.remove_specks,
                (0, 1_000_000, 1),
                display_name="specks",
                tooltip="Remove connected parts smaller than this many pixels. 0 keeps all.",
            ),
            "grow": number(
                MaskEdits.grow,
                (-512.0, 512.0, 0.5),
                tooltip="Distance in pixels by which the selection grows in every direction; negative values shrink "
                "it.",
            ),
            "smooth": number(
                MaskEdits.smooth,
                (0.0, 100.0, 0.5),
                tooltip="Round corners and remove bumps up to about this many pixels. A hard edge stays hard.",
            ),
            "feather_inside": number(
                MaskEdits.feather_inside,
                (0.0, 512.0, 0.5),
                display_name="feather in",
                tooltip="Fade the edge over this many pixels inside the outline.",
            ),
            "feather_outside": number(
                MaskEdits.feather_outside,
                (0.0, 512.0, 0.5),
                display_name="feather out",
                tooltip="Fade the edge over this many pixels outside the outline.",
            ),
            "blur": number(
                MaskEdits.blur,
                (0.0, 256.0, 0.5),
                tooltip="Gaussian blur, applied last (sigma in pixels).",
            ),
        },
        "hidden": _view.HIDDEN,
    }

    def edit(
        self,
        mask,
        image=None,
        invert=False,
        threshold=0.0,
        fill_holes=False,
        remove_specks=0,
        grow=0.0,
        smooth=0.0,
        feather_inside=0.0,
        feather_outside=0.0,
        blur=0.0,
        extra_pnginfo=None,
    ):
        masks = checks.as_mask_batch(mask, "mask")
        edits = MaskEdits(
            invert, threshold, fill_holes, remove_specks, grow, smooth, feather_inside, feather_outside, blur
        )
        edited, erased = edit_masks(masks, edits, host.progress(len(masks)))
        _report_erased(erased, asdict(edits), len(masks))
        view = _view.View(extra_pnginfo)
        view.masks(masks, image)
        return view.with_previews((edited,), kind="edits", settings=asdict(edits))


def _report_erased(erased: dict[int, str], values: dict, count: int) -> None:
    """Log one sentence about the masks that lost all selected pixels."""
    if not erased:
        return
    name = next(iter(erased.values()))
    logger.warning(
        "Edit Mask: %s (%s) left nothing selected in %d of %d masks. %s to keep more.",
        get_labels(EditMask.INPUTS).get(name, name), values[name], len(erased), count, _REMEDIES.get(name, "Lower it"),
    )  # fmt: skip
