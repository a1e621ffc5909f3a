"""The query of text to mask: prompts, negative prompts and the working resolution."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import check_whole_number
from ..errors import InputError

# Input size of the published model. Resolutions refer to it, whatever the model.
RESOLUTION = 352
RESOLUTION_STEP = 32
MAX_RESOLUTION = 2048


def split_prompts(text: str | None, name: str = "text") -> list[str]:
    """Split a text into prompts at ``|``; commas do not separate.

    Empty parts are dropped. An empty text, or None, is one empty prompt.

    Raises:
        InputError: ``text`` is not a valid string.
    """
    if text is None:
        return [""]
    if not isinstance(text, str):
        raise InputError(f"{name} is of type {type(text).__name__}, not a text", "Enter a text, or connect a STRING")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON allows
        raise InputError(
            f"{name} contains {text[error.start]!r}, which is not a valid character", "Remove it from the text"
        ) from error
    return [part.strip() for part in text.split("|") if part.strip()] or [""]


@dataclass(frozen=True)
class Query:
    """What to look for.

    Attributes:
        text: Prompts separated by ``|``. The probability of a pixel is the largest over all prompts.
        negative_text: Prompts whose probability is subtracted; empty for none.
        resolution: Side of the square model input in pixels, a multiple of 32 from 352 to 2048, for the published model
            with its native size of 352. Other models use their native size times resolution / 352.
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
                f"Use {round(resolution / RESOLUTION_STEP) * RESOLUTION_STEP}",
            )

    @property
    def prompts(self) -> list[str]:
        return split_prompts(self.text)

    @property
    def negative_prompts(self) -> list[str]:
        return [prompt for prompt in split_prompts(self.negative_text) if prompt]

    @property
    def scale(self) -> float:
        """Input size relative to the model's native size."""
        return self.resolution / RESOLUTION
