"""The nodes FromBasicPipe and FromBasicPipe_v2: unpack a basic pipe."""

from __future__ import annotations

from ._pipes import check_basic_pipe
from ._widgets import TableNode, socket


class FromBasicPipe(TableNode):
    """Unpacks the five values of a pipe."""

    DESCRIPTION = "Unpacks a basic pipe into model, CLIP, VAE and both prompts."
    SEARCH_ALIASES = ["maskwright", "basic pipe", "unpack pipe", "split pipe"]
    CATEGORY = "model/sampling"
    FUNCTION = "doit"
    RETURN_TYPES = ("MODEL", "CLIP", "VAE", "CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("model", "clip", "vae", "positive", "negative")
    OUTPUT_TOOLTIPS = (
        "The diffusion model.",
        "The model's text encoder (CLIP).",
        "The VAE of the model.",
        "The positive prompt.",
        "The negative prompt.",
    )

    INPUTS = {"required": {"basic_pipe": socket("BASIC_PIPE", "The pipe to unpack.")}}

    def doit(self, basic_pipe):
        return check_basic_pipe(basic_pipe, needed=())


class FromBasicPipeV2(FromBasicPipe):
    """FromBasicPipe with the pipe itself as an additional first output."""

    DESCRIPTION = f"{FromBasicPipe.DESCRIPTION} Also passes the pipe on."
    RETURN_TYPES = ("BASIC_PIPE", *FromBasicPipe.RETURN_TYPES)
    RETURN_NAMES = ("basic_pipe", *FromBasicPipe.RETURN_NAMES)
    OUTPUT_TOOLTIPS = ("The same pipe, for the next node.", *FromBasicPipe.OUTPUT_TOOLTIPS)

    def doit(self, basic_pipe):
        return (basic_pipe, *super().doit(basic_pipe))
