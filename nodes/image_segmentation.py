"""The node ImageSegmentation: pictures without their background."""

from __future__ import annotations

from ..core import background, checks
from ..core.matting import MattingSettings
from ..models import background as background_models
from ..models import background_files, catalog
from . import _host as host
from . import _view

SWITCH = ("true", "false")
MODELS_HELP = "\n".join(f"{model.name}: {model.note} ({model.licence})" for model in catalog.BACKGROUND.values())


class ImageSegmentation:
    """Cuts the subject out of every picture of a batch."""

    DESCRIPTION = (
        "Removes the background of pictures: a segmentation model finds the subject, and alpha matting can make its "
        "edges soft. The cutouts are transparent pictures in straight colours, which fit on any background without a "
        "dark rim."
    )
    SEARCH_ALIASES = [
        "remove background",
        "background removal",
        "rembg",
        "cut out",
        "alpha matting",
        "birefnet",
        "u2net",
    ]
    CATEGORY = "image/Maskwright"
    FUNCTION = "node"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("IMAGE", "MASK")
    OUTPUT_TOOLTIPS = (
        "The pictures with an alpha channel (RGBA). u2net_cloth_seg gives three below each other: what is worn on the "
        "upper body, on the lower body, on the whole body.",
        "Their alpha, one mask for each picture; three for each with u2net_cloth_seg.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The pictures, of any size. What is transparent stays transparent."}),
                "model": (
                    background_files.available(host.model_folders(background_files.FOLDER_KIND)),
                    {
                        "default": "u2net",
                        "tooltip": "Which model finds the subject. It is downloaded into models/rembg the first time; "
                        "any ONNX file that you put there is listed too. In brackets the licence: bria-rmbg is not "
                        f"free for commercial use.\n{MODELS_HELP}",
                    },
                ),
                "alpha_matting": (
                    list(SWITCH),
                    {
                        "default": "true",
                        "tooltip": "Work out anew how transparent the pixels along the edges are, for hair and fur. "
                        "Takes seconds for most images, and minutes for very large ones.",
                    },
                ),
                "alpha_matting_foreground_threshold": (
                    "INT",
                    {
                        "default": 240,
                        "min": 0,
                        "max": 250,
                        "step": 5,
                        "tooltip": "For alpha matting: where the mask is brighter than this (of 255), the pixel is "
                        "surely subject.",
                    },
                ),
                "alpha_matting_background_threshold": (
                    "INT",
                    {
                        "default": 20,
                        "min": 0,
                        "max": 250,
                        "step": 5,
                        "tooltip": "For alpha matting: where the mask is darker than this (of 255), the pixel is "
                        "surely background.",
                    },
                ),
                "alpha_matting_erode_size": (
                    "INT",
                    {
                        "default": 10,
                        "min": 0,
                        "max": 16384,
                        "step": 1,
                        "tooltip": "For alpha matting: by how many pixels both sure parts shrink, so that the edge "
                        "between them is worked out. More for long hair.",
                    },
                ),
                "post_process_mask": (
                    list(reversed(SWITCH)),
                    {
                        "default": "false",
                        "tooltip": "Remove specks, round the outline and make the mask hard, before alpha matting.",
                    },
                ),
            },
            "hidden": _view.HIDDEN,
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model) -> bool:
        """Any name may reach the node: saved files and links name models that are not in the list, and what is
        missing is best told where it is looked for."""
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
        extra_pnginfo=None,
    ):
        images = checks.as_image_batch(images, "images")
        settings = None
        if _is_on(alpha_matting, "alpha_matting"):
            settings = MattingSettings(
                alpha_matting_foreground_threshold, alpha_matting_background_threshold, alpha_matting_erode_size
            )
        clean = _is_on(post_process_mask, "post_process_mask")
        host.call_on_unload(background_models.release)
        view = _view.View(extra_pnginfo)
        view.begin(_view.LOADING)
        source = background_models.load(
            model,
            host.model_folders(background_files.FOLDER_KIND),
            [folder for kind in background_files.OTHER_FOLDER_KINDS for folder in host.model_folders(kind)],
            host.device(),
            host.on_device,
            view.download_progress,
            host.make_room,
        )
        chunks = host.chunks(background.progress_steps(len(images), source, settings), host.make_room)
        cutouts, masks = background.remove(images, source, settings, clean, chunks, view.begin)
        view.comparison(images, cutouts)
        return view.answer((cutouts, masks), kind="comparison")


def _is_on(value: object, name: str) -> bool:
    """A switch that saved files hold as text; whoever calls the node by hand may give a bool."""
    return value if isinstance(value, bool) else checks.check_choice(value, name, SWITCH) == "true"
