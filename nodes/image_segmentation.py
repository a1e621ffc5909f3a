"""The node ImageSegmentation: background removal."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from PIL import ImageColor

from ..core import checks, tensors
from ..core.cutout.backgrounds import check_backgrounds, place_over
from ..core.cutout.matting import MattingSettings, remove_background
from ..core.engine import Progress
from ..core.errors import InputError
from ..models import background_models, catalog
from ..models.background_models import DEMO, OTHER_KINDS, BackgroundStore
from . import _host as host
from . import _view
from ._widgets import TableNode, choice, integer, socket

SWITCH = ("true", "false")


def _store(progress: Callable[[int], Progress] | None = None) -> BackgroundStore:
    folders = [folder for kind in BackgroundStore.KINDS for folder in host.model_folders(kind)]
    other_folders = [folder for kind in OTHER_KINDS for folder in host.model_folders(kind)]
    return BackgroundStore(folders, other_folders, progress)


def _available() -> list[str]:
    return _store().available()


def _labels() -> dict[str, str]:
    """Labels for list entries whose name alone does not say enough."""
    downloads = {model.name: catalog.download_label(model) for model in _store().not_on_disk()}
    return {**downloads, DEMO: "demo (bundled)"}


class ImageSegmentation(TableNode):
    """Cuts the subject out of every image in a batch."""

    DESCRIPTION = (
        "Removes the background: a segmentation model finds the subject, and alpha matting can refine its edges. "
        "Outputs images with a transparent background (straight alpha), without a dark fringe."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "image segmentation",
        "remove background",
        "background removal",
        "rembg",
        "cut out",
        "cutout",
        "transparent",
        "transparent background",
        "transparent png",
        "alpha matting",
        "hair",
        "hair matting",
        "subject mask",
        "birefnet",
        "modnet",
        "u2net",
    ]
    CATEGORY = "image/background removal"
    FUNCTION = "node"
    HAS_INTERMEDIATE_OUTPUT = True
    OUTPUT_NODE = True  # can be run alone, for its preview
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("IMAGE", "MASK")
    OUTPUT_TOOLTIPS = (
        "The images with an alpha channel (RGBA). u2net_cloth_seg gives three, stacked vertically: clothes of the "
        "upper body, lower body and whole body.",
        "The alpha channel as a mask, one per image; three per image with u2net_cloth_seg.",
    )

    INPUTS = {
        "required": {
            "images": socket("IMAGE", "The images, of any size. Existing transparency is kept."),
            "model": choice(
                _available,
                default="u2net",
                option_labels=_labels,
                tooltip="The model that finds the subject. An arrow and a size mean that it is downloaded into "
                "models/rembg on first use. Your own ONNX files in that folder are also listed. The help page lists "
                "what each model is for and its license: bria-rmbg is not free for commercial use.",
            ),
            "alpha_matting": choice(
                SWITCH,
                default="true",
                display_name="matting",
                tooltip="Refine transparency along the edges; best for hair and fur. Takes seconds for most images, "
                "minutes for very large ones.",
            ),
            "alpha_matting_foreground_threshold": integer(
                int(MattingSettings.foreground_threshold),
                (0, 250, 5),
                advanced=True,
                display_name="subject >",
                tooltip="For alpha matting: mask values above this (0-255) are treated as definite foreground.",
            ),
            "alpha_matting_background_threshold": integer(
                int(MattingSettings.background_threshold),
                (0, 250, 5),
                advanced=True,
                display_name="backdrop <",
                tooltip="For alpha matting: mask values below this (0-255) are treated as definite background.",
            ),
            "alpha_matting_erode_size": integer(
                MattingSettings.erode_size,
                (0, 16384, 1),
                advanced=True,
                display_name="edge width",
                tooltip="For alpha matting: width in pixels of the band along the edge that is refined. Increase for "
                "long hair.",
            ),
            "post_process_mask": choice(
                SWITCH[::-1],
                default="false",
                advanced=True,
                display_name="clean mask",
                tooltip="Clean up the mask first: remove specks, smooth the outline, make it binary.",
            ),
        },
        "optional": {
            "background_removal": socket(
                "BACKGROUND_REMOVAL",
                "Optional: a model of ComfyUI's own 'Load Background Removal Model', used instead of the model above. "
                "It needs no rembg.",
            ),
            "background": socket(
                "IMAGE,STRING",
                "Optional: what to place the subject over: an image, scaled to fill the frame and cropped, or a text "
                "with a color, such as #ff9628 or white. The output IMAGE is then opaque.",
                forceInput=True,
            ),
        },
        "hidden": _view.HIDDEN,
    }

    @classmethod
    def VALIDATE_INPUTS(cls, model) -> bool:
        """Accept any name: saved files and links may name models that are not in the list. The loader reports a
        missing model with more detail."""
        return True

    def node(
        self,
        images,
        model,
        alpha_matting,
        alpha_matting_foreground_threshold,
        alpha_matting_background_threshold,
        alpha_matting_erode_size,
        post_process_mask,
        background_removal=None,
        background=None,
        extra_pnginfo=None,
    ):
        images = checks.as_image_batch(images, "images")
        settings = None
        if _is_on(alpha_matting, "alpha_matting"):
            settings = MattingSettings(
                alpha_matting_foreground_threshold, alpha_matting_background_threshold, alpha_matting_erode_size
            )
        clean = _is_on(post_process_mask, "post_process_mask")
        backgrounds = None if background is None else _read_background(background)
        if backgrounds is not None:
            check_backgrounds(backgrounds, len(images))  # before the model runs
        host.call_on_unload(background_models.release)
        view = _view.View(extra_pnginfo)
        view.begin(_view.LOADING)
        comfyui = host.ComfyHost(host.unload_host_models)
        if background_removal is None:
            source = background_models.load(model, _store(view.download_progress), host.device(), comfyui)
        else:
            source, comfyui = _HostMasks(background_removal), host.ComfyHost()
        cutouts, masks = remove_background(images, source, settings, clean, comfyui, view.begin)
        if backgrounds is not None:
            cutouts = place_over(cutouts, backgrounds)
        view.comparison(images, cutouts)
        return view.with_previews((cutouts, masks), kind="comparison")


class _HostMasks:
    """ComfyUI's BACKGROUND_REMOVAL as a `core.engine.MaskSource`."""

    masks_per_image = 1

    def __init__(self, model: Any) -> None:
        encode = getattr(model, "encode_image", None)
        if not callable(encode):
            raise InputError(
                f"background_removal is {checks.describe_type(model, 'a background removal model')}",
                "Connect the output of 'Load Background Removal Model'",
            )
        # Newer models take the size that the image is resized to; without it, they also use their training size.
        takes_size = "image_size" in inspect.signature(encode).parameters
        options = {"image_size": getattr(model, "image_size", None)} if takes_size else {}
        self._encode = functools.partial(encode, **options)

    def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
        """``[H,W,3 or 4]`` -> ``[1,H,W]``."""
        colors = tensors.drop_alpha(image).unsqueeze(0)  # [H,W,C] -> [1,H,W,3]
        return checks.as_mask_batch(self._encode(colors), "the mask of background_removal").to(image.device)


def _read_background(background: object) -> torch.Tensor:
    """Backgrounds ``[K,h,w,3 or 4]``: images, or one pixel of a color."""
    if not isinstance(background, str):
        return checks.as_image_batch(background, "background")
    try:
        color = ImageColor.getrgb(background.strip())[:3]
    except ValueError as error:
        raise InputError(
            f"background is {checks.describe(background)}, which is not a color",
            "Use a color such as #ff9628 or white, or connect an image",
        ) from error
    return torch.tensor(color).div(255).view(1, 1, 1, 3)


def _is_on(value: object, name: str) -> bool:
    """Whether a switch is on. Saved files store it as text; Python callers may pass a bool."""
    return value if isinstance(value, bool) else checks.check_choice(value, name, SWITCH) == "true"
