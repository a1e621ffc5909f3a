"""The node EditBasicPipe: a basic pipe with some of its parts exchanged."""

from __future__ import annotations

from ..core import checks


class EditBasicPipe:
    """Exchanges parts of a pipe."""

    DESCRIPTION = "Exchanges parts of a basic pipe: what is linked replaces what the pipe holds, all else stays."
    SEARCH_ALIASES = ["basic pipe", "change pipe", "replace model in pipe"]
    CATEGORY = "detailer/Maskwright"
    FUNCTION = "doit"
    RETURN_TYPES = ("BASIC_PIPE",)
    RETURN_NAMES = ("basic_pipe",)
    OUTPUT_TOOLTIPS = ("The pipe with the new parts. The one that came in stays as it is.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {"basic_pipe": ("BASIC_PIPE", {"tooltip": "The pipe to begin with."})},
            "optional": {
                "model": ("MODEL", {"tooltip": "Another model."}),
                "clip": ("CLIP", {"tooltip": "Another CLIP."}),
                "vae": ("VAE", {"tooltip": "Another VAE."}),
                "positive": ("CONDITIONING", {"tooltip": "Another positive prompt."}),
                "negative": ("CONDITIONING", {"tooltip": "Another negative prompt."}),
            },
        }

    def doit(self, basic_pipe, model=None, clip=None, vae=None, positive=None, negative=None):
        kept = checks.check_basic_pipe(basic_pipe, needed=())
        given = (model, clip, vae, positive, negative)
        return (tuple(old if new is None else new for old, new in zip(kept, given)),)
