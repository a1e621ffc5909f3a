"""The node RefineMask: accurate edges and clean colors for any mask."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from ..core import checks, tensors
from ..core.cutout.edges import BACKGROUNDS, METHODS, VITMATTE, RefineSettings, refine_masks
from ..core.engine import Progress
from ..models import vitmatte
from . import _host as host
from . import _view
from ._widgets import TableNode, choice, number, socket, switch

logger = logging.getLogger(__name__)


def _store(progress: Callable[[int], Progress] | None = None) -> vitmatte.VitMatteStore:
    folders = [folder for kind in vitmatte.VitMatteStore.KINDS for folder in host.model_folders(kind)]
    return vitmatte.VitMatteStore(folders, progress=progress)


class RefineMask(TableNode):
    """Refines the edges of masks from the colors of their images."""

    DESCRIPTION = (
        "Refines the edges of any mask from the colors of the image, so that hair, fur, soft edges and thin objects "
        "get accurate transparency. Also outputs the cutout, and the foreground's colors without a background fringe."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "refine mask",
        "refine edge",
        "mask edge detail",
        "alpha matting",
        "matting",
        "hair",
        "fur",
        "cutout",
        "closed form",
        "guided filter",
        "ViTMatte",
        "trimap",
        "defringe",
        "decontaminate",
        "foreground color",
        "transparent background",
    ]
    CATEGORY = "Maskwright"
    FUNCTION = "refine"
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_NODE = True  # can be run alone, for its preview
    RETURN_TYPES = ("MASK", "IMAGE", "IMAGE")
    RETURN_NAMES = ("mask", "cutout", "foreground")
    OUTPUT_TOOLTIPS = (
        "The refined masks.",
        "The images with the refined masks as transparency (RGBA, straight alpha).",
        "The colors of the foreground, without the background that shines through along the edges (RGB).",
    )

    INPUTS = {
        "required": {
            "image": socket("IMAGE", "The images, of any size. Existing transparency is kept."),
            "mask": socket(
                "MASK",
                "The masks to refine, from any source: one for all images, one per image, or several for one image.",
            ),
            "method": choice(
                METHODS,
                default=RefineSettings.method,
                tooltip="Closed form: accurate, for hair, fur and thin objects. Guided filter: fast, for edges that "
                "are nearly right. ViTMatte: a neural network, downloaded into models/vitmatte on first use (103 MB).",
            ),
            "edge_width": number(
                RefineSettings.edge_width,
                (0.0, 16384.0, 1.0),
                tooltip="Width in pixels of the band to refine inside the mask's edge; outside the edge it is half as "
                "wide. Increase for long hair; 0 chooses the width from the softness of the mask.",
                round=0.01,
            ),
            "keep_thin_parts": number(
                RefineSettings.keep_thin_parts,
                (0.0, 1.0, 0.01),
                display_name="thin parts",
                tooltip="For closed form: how strongly thin parts of the mask, such as the legs of a tripod, are "
                "restored where matting alone would lose them. 0: not at all.",
            ),
            "decontaminate": switch(
                RefineSettings.decontaminate,
                "Remove the background's color from the edges of the cutout. If disabled, it keeps the image's colors.",
            ),
            "background": choice(
                BACKGROUNDS,
                default=RefineSettings.background,
                tooltip="What the fully transparent pixels of the cutout contain: black, or the colors of the image, "
                "for programs that ignore transparency when they blur or resize.",
            ),
        },
        "optional": {
            "trimap": socket(
                "MASK",
                "Optional, replaces the edge width: white is definite foreground, black is definite background, and "
                "alpha is computed where it is gray.",
            ),
        },
        "hidden": _view.HIDDEN,
    }

    def refine(
        self,
        image,
        mask,
        method=RefineSettings.method,
        edge_width=RefineSettings.edge_width,
        keep_thin_parts=RefineSettings.keep_thin_parts,
        decontaminate=RefineSettings.decontaminate,
        background=RefineSettings.background,
        trimap=None,
        extra_pnginfo=None,
    ):
        settings = RefineSettings(method, edge_width, keep_thin_parts, decontaminate, background)
        image = checks.as_image_batch(image, "image")
        mask = _fit(checks.as_mask_batch(mask, "mask"), image, "mask", "bilinear")
        if trimap is not None:
            trimap = _fit(checks.as_mask_batch(trimap, "trimap"), image, "trimap", "nearest")
        comfyui = host.ComfyHost()
        view = _view.View(extra_pnginfo)
        matter = None
        if settings.method == VITMATTE:
            host.call_on_unload(vitmatte.release)
            view.begin(_view.LOADING)
            matter = vitmatte.load(_store(view.download_progress), comfyui)
        masks, cutouts, foregrounds = refine_masks(image, mask, settings, trimap, matter, comfyui, view.begin)
        view.comparison(image, cutouts)
        return view.with_previews((masks, cutouts, foregrounds), kind="comparison")


def _fit(mask: torch.Tensor, image: torch.Tensor, name: str, mode: str) -> torch.Tensor:
    """The masks ``[M,h,w]`` in the size of the image ``[B,H,W,C]``."""
    (mask_height, mask_width), (height, width) = mask.shape[1:], image.shape[1:3]
    if (mask_height, mask_width) == (height, width):
        return mask
    if len(mask):
        logger.warning(
            "%s is %d x %d and image is %d x %d: the %s was resized to the image",
            name, mask_width, mask_height, width, height, name,
        )  # fmt: skip
    return tensors.resize_mask(mask, height, width, mode)
