"""What to look for: prompts, what to leave out, and the working resolution."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import check_whole_number
from ..errors import InputError

# The published model looks at pictures of this size, and resolutions are given as if every model did.
RESOLUTION = 352
RESOLUTION_STEP = 32
MAX_RESOLUTION = 2048


def split_prompts(text: str | None, name: str = "text") -> list[str]:
    """The prompts of a text, which ``|`` separates; a comma is part of a prompt.

    Empty parts are left out. A text with nothing in it, or None, is one empty prompt.

    Raises:
        InputError: Not a text.
    """
    if text is None:
        return [""]
    if not isinstance(text, str):
        raise InputError(f"{name} is of type {type(text).__name__}, not a text", "Write a text, or connect a STRING")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a pair of code units, which JSON can carry
        raise InputError(
            f"{name} holds {text[error.start]!r}, which is no character", "Write the text anew without it"
        ) from error
    return [part.strip() for part in text.split("|") if part.strip()] or [""]


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        text: Prompts, separated by ``|``: what any of them names is selected (the largest probability).
        negative_text: Likewise; their probability is subtracted. Nothing is where the text is empty.
        resolution: At how many pixels a side the model looks at the picture, a multiple of 32 from 352 to 2048, for
            the published model, whose own size is 352. A model of another size looks at its own size times
            resolution / 352.
    """

    text: str | None
    negative_text: str | None = ""
    resolution: int = RESOLUTION

    def __post_init__(self) -> None:
        split_prompts(self.text)
        split_prompts(self.negative_text, "negative_text")
        resolution = check_whole_number(self.resolution, "resolution", RESOLUTION, MAX_RESOLUTION)
        if resolution % RESOLUTION_STEP:
            raise InputError(
                f"resolution is {resolution}, which is not a multiple of {RESOLUTION_STEP}",
                f"Give {round(resolution / RESOLUTION_STEP) * RESOLUTION_STEP}",
            )

    @property
    def prompts(self) -> list[str]:
        return split_prompts(self.text)

    @property
    def negative_prompts(self) -> list[str]:
        return [prompt for prompt in split_prompts(self.negative_text) if prompt]

    @property
    def scale(self) -> float:
        """How many times the model's own size the picture is looked at."""
        return self.resolution / RESOLUTION
