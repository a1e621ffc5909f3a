"""The node ToBasicPipe: model, CLIP, VAE and conditionings in one link."""

from __future__ import annotations


class ToBasicPipe:
    """Puts five things into one link."""

    DESCRIPTION = "Puts a model, its CLIP and VAE, and the positive and negative prompt into one link (a basic pipe)."
    SEARCH_ALIASES = ["basic pipe", "bundle model and prompts", "make pipe"]
    CATEGORY = "detailer/Maskwright"
    FUNCTION = "doit"
    RETURN_TYPES = ("BASIC_PIPE",)
    RETURN_NAMES = ("basic_pipe",)
    OUTPUT_TOOLTIPS = ("All five, for Mask Detailer and every other node that takes a basic pipe.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The model that removes noise."}),
                "clip": ("CLIP", {"tooltip": "What encodes text for that model."}),
                "vae": ("VAE", {"tooltip": "What turns pictures into latents and back."}),
                "positive": ("CONDITIONING", {"tooltip": "What the picture should show."}),
                "negative": ("CONDITIONING", {"tooltip": "What the picture should not show."}),
            },
        }

    def doit(self, model, clip, vae, positive, negative):
        return ((model, clip, vae, positive, negative),)
