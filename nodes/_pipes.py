"""Basic pipes (BASIC_PIPE): model, CLIP, VAE and prompts as one value, shared with other packs."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.checks import describe_type
from ..core.errors import InputError

PIPE_PARTS = ("model", "clip", "vae", "positive", "negative")


def check_basic_pipe(value: object, name: str = "basic_pipe", needed: Sequence[str] = PIPE_PARTS) -> tuple:
    """Return ``value`` if it is a pipe: a tuple of `PIPE_PARTS`. Parts that are not ``needed`` may be None.

    Raises:
        InputError: It is not a tuple of five parts, or a needed part is None. The message names the part.
    """
    remedy = "Connect the output of 'ToBasicPipe' or 'EditBasicPipe', with all its parts connected"
    if not isinstance(value, (tuple, list)):
        raise InputError(f"{name} is {describe_type(value, 'a pipe')}", remedy)
    if len(value) != len(PIPE_PARTS):
        raise InputError(f"{name} has {len(value)} parts, not the {len(PIPE_PARTS)} of a basic pipe", remedy)
    missing = [part for part, content in zip(PIPE_PARTS, value) if content is None and part in needed]
    if missing:
        raise InputError(f"{name} is missing {', '.join(missing)}", remedy)
    return tuple(value)
