"""The node EditBasicPipe: a basic pipe with some of its parts replaced."""

from __future__ import annotations

from ._pipes import check_basic_pipe
from ._widgets import TableNode, socket


class EditBasicPipe(TableNode):
    """Replaces parts of a pipe."""

    DESCRIPTION = "Replaces parts of a basic pipe. Whatever you connect overrides the pipe; the rest passes through."
    SEARCH_ALIASES = ["maskwright", "basic pipe", "change pipe", "replace model in pipe"]
    CATEGORY = "model/sampling"
    FUNCTION = "doit"
    RETURN_TYPES = ("BASIC_PIPE",)
    RETURN_NAMES = ("basic_pipe",)
    OUTPUT_TOOLTIPS = ("A new pipe with the replaced parts. The input pipe does not change.",)

    INPUTS = {
        "required": {"basic_pipe": socket("BASIC_PIPE", "The pipe to start from.")},
        "optional": {
            "model": socket("MODEL", "Replaces the model."),
            "clip": socket("CLIP", "Replaces the CLIP."),
            "vae": socket("VAE", "Replaces the VAE."),
            "positive": socket("CONDITIONING", "Replaces the positive prompt."),
            "negative": socket("CONDITIONING", "Replaces the negative prompt."),
        },
    }

    def doit(self, basic_pipe, model=None, clip=None, vae=None, positive=None, negative=None):
        parts = check_basic_pipe(basic_pipe, needed=())
        replacements = (model, clip, vae, positive, negative)
        return (tuple(old if new is None else new for old, new in zip(parts, replacements)),)
