"""The nodes FromBasicPipe and FromBasicPipe_v2: the parts of a basic pipe."""

from __future__ import annotations

from ..core import checks


class FromBasicPipe:
    """Takes the five out of one link."""

    DESCRIPTION = "Takes a model, its CLIP and VAE, and the positive and negative prompt out of a basic pipe."
    SEARCH_ALIASES = ["basic pipe", "unpack pipe", "split pipe"]
    CATEGORY = "detailer/Maskwright"
    FUNCTION = "doit"
    RETURN_TYPES = ("MODEL", "CLIP", "VAE", "CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("model", "clip", "vae", "positive", "negative")
    OUTPUT_TOOLTIPS = (
        "The model that removes noise.",
        "What encodes text for that model.",
        "What turns pictures into latents and back.",
        "What the picture should show.",
        "What the picture should not show.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"basic_pipe": ("BASIC_PIPE", {"tooltip": "The pipe whose parts are wanted."})}}

    def doit(self, basic_pipe):
        return checks.check_basic_pipe(basic_pipe, needed=())


class FromBasicPipeV2(FromBasicPipe):
    """As FromBasicPipe, with the pipe itself as the first output."""

    DESCRIPTION = f"{FromBasicPipe.DESCRIPTION} Passes the pipe on, too."
    RETURN_TYPES = ("BASIC_PIPE", *FromBasicPipe.RETURN_TYPES)
    RETURN_NAMES = ("basic_pipe", *FromBasicPipe.RETURN_NAMES)
    OUTPUT_TOOLTIPS = ("The same pipe, for the next node.", *FromBasicPipe.OUTPUT_TOOLTIPS)

    def doit(self, basic_pipe):
        return (basic_pipe, *super().doit(basic_pipe))
