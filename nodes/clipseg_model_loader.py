"""The node CLIPSegModelLoader: a CLIPSeg model for the other nodes."""

from __future__ import annotations

from ..models import clipseg as clipseg_models
from . import _clipseg


class CLIPSegModelLoader:
    """Loads a CLIPSeg model once and keeps it."""

    DESCRIPTION = (
        "Loads a CLIPSeg model from ComfyUI's models/clipseg folder or from the Hugging Face cache, or downloads the "
        "published one the first time it is used. A model is loaded once and kept."
    )
    SEARCH_ALIASES = ["load clipseg", "text segmentation model", "clipseg checkpoint", "text to mask model"]
    CATEGORY = "mask/Maskwright"
    FUNCTION = "clipseg_model"
    RETURN_TYPES = ("CLIPSEG_MODEL",)
    RETURN_NAMES = ("clipseg_model",)
    OUTPUT_TOOLTIPS = ("The model with its processor, for CLIPSeg and CLIPSeg Masking.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "model": (
                    clipseg_models.available(_clipseg.folders()),
                    {
                        "default": clipseg_models.DEFAULT,
                        "tooltip": "The published model, or one of the folders in models/clipseg.",
                    },
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model=None, input_types=None) -> bool:
        """Any name may reach the node: saved files name models that are not in the list, links carry text, since the
        widget of the earlier nodes was one for text, and what is missing is best told where it is looked for."""
        return True

    def clipseg_model(self, model):
        return (_clipseg.load(model),)
