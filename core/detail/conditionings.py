"""Crops the host's conditionings to parts of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ..engine import Pipe
from ..geometry import Box


class RegionPipes:
    """Makes a pipe for each region: with the region's own text, and masks cropped to its window.

    Regions with the same text and window share the same conditioning objects: no text is encoded twice, and such
    regions can be sampled together.

    Args:
        pipe: The pipe for all regions.
        image: The whole image.
        prompts: Text for each region, added to the positive prompt.
    """

    def __init__(self, pipe: Pipe, image: Box, prompts: Sequence[str] = ()) -> None:
        self._pipe, self._image = pipe, image
        self._prompts = [text.strip() for text in prompts]
        self._positives: dict[str, Any] = {"": pipe.positive}  # by text
        self._pipes: dict[tuple[str, Box], Pipe] = {}  # by text and window

    def for_region(self, index: int, window: Box) -> Pipe:
        """The pipe for region ``index``, which is sampled in ``window``."""
        text = self._prompts[index] if index < len(self._prompts) else ""
        if (text, window) not in self._pipes:
            self._pipes[text, window] = replace(
                self._pipe,
                positive=crop_conditioning(self._add_text(text), self._image, window),
                negative=crop_conditioning(self._pipe.negative, self._image, window),
            )
        return self._pipes[text, window]

    def _add_text(self, text: str) -> Any:
        if self._pipe.add_text is None:
            return self._pipe.positive
        if text not in self._positives:
            self._positives[text] = self._pipe.add_text(self._pipe.positive, text)
        return self._positives[text]


def crop_conditioning(conditioning: Any, image: Box, window: Box) -> Any:
    """Crop a conditioning's masks to ``window``.

    Args:
        conditioning: A list of pairs (tensor, details), where ``details["mask"]`` may be a mask ``[B,h,w]`` of the
            whole image, of any size. Anything else, such as a placeholder, is returned unchanged.
        image: The whole image.
        window: The part of the image.

    Returns:
        A new list; the same object if it has no mask.
    """
    if not isinstance(conditioning, (list, tuple)) or window == image:
        return conditioning
    if not any("mask" in details for _, details in conditioning):
        return conditioning
    return [
        [tokens, {**details, "mask": _crop_scaled(details["mask"], image, window)} if "mask" in details else details]
        for tokens, details in conditioning
    ]


def _crop_scaled(mask: torch.Tensor, image: Box, window: Box) -> torch.Tensor:
    """``window`` of a mask ``[...,h,w]`` whose size may differ from the image's; partial pixels are included."""
    height, width = mask.shape[-2:]
    x1, y1 = (window.x1 * width) // image.width, (window.y1 * height) // image.height
    x2, y2 = -(-window.x2 * width // image.width), -(-window.y2 * height // image.height)
    return mask[..., y1:y2, x1:x2]
