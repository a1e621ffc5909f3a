"""The node ToBasicPipe: model, CLIP, VAE and prompts in one connection."""

from __future__ import annotations

from ._widgets import TableNode, socket


class ToBasicPipe(TableNode):
    """Bundles five values into one connection."""

    DESCRIPTION = "Bundles a model, its CLIP and VAE, and both prompts into one connection (a basic pipe)."
    SEARCH_ALIASES = ["maskwright", "basic pipe", "bundle model and prompts", "make pipe"]
    CATEGORY = "model/sampling"
    FUNCTION = "doit"
    RETURN_TYPES = ("BASIC_PIPE",)
    RETURN_NAMES = ("basic_pipe",)
    OUTPUT_TOOLTIPS = ("The pipe, for Mask Detailer and other nodes that take a basic pipe.",)

    INPUTS = {
        "required": {
            "model": socket("MODEL", "The diffusion model."),
            "clip": socket("CLIP", "The model's text encoder (CLIP)."),
            "vae": socket("VAE", "The VAE of the model."),
            "positive": socket("CONDITIONING", "The positive prompt."),
            "negative": socket("CONDITIONING", "The negative prompt."),
        },
    }

    def doit(self, model, clip, vae, positive, negative):
        return ((model, clip, vae, positive, negative),)
