"""The prompts of each region: with the region's own text, and moved from the whole image to the crop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..engine import Pipe
from ..errors import InputError
from ..geometry import Box
from .moves import MOVES, Target, entries_to_move, is_outside
from .placement import Placement


class RegionPipes:
    """Finds the pipe of each region: with the region's own text, and checked against its crop.

    Regions with the same text share the same conditioning objects: no text is encoded twice, and such regions can be
    sampled together if nothing has to move.

    Args:
        pipe: The pipe for all regions.
        image: The whole image.
        prompts: Text for each region, added to the positive prompt.
        name: The node's input that the pipe comes from, for errors.
        holds_images: Whether patches of the pipe's model hold images of the whole image.
    """

    def __init__(
        self,
        pipe: Pipe,
        image: Box,
        prompts: Sequence[str] = (),
        name: str = "basic_pipe",
        holds_images: bool = False,
    ) -> None:
        self._pipe, self._name = pipe, name
        self._prompts = [text.strip() for text in prompts]
        self._pipes: dict[str, Pipe] = {"": pipe}  # by text
        # Added text refers to no place, so this holds for the pipes of all regions.
        self.has_places = holds_images or any(_has_places(each, image) for each in (pipe.positive, pipe.negative))

    def for_region(self, index: int, placement: Placement) -> Pipe:
        """The pipe for region ``index``, still for the whole image.

        Raises:
            InputError: No part of a prompt applies to the region's crop.
        """
        for prompt, conditioning in (("positive", self._pipe.positive), ("negative", self._pipe.negative)):
            if not _applies(conditioning, placement):
                window = placement.frame.window
                region = f"region {index + 1}" + (f" of image {placement.index + 1}" if placement.index else "")
                raise InputError(
                    f"No part of the {prompt} prompt of {self._name} applies to {region}: its areas and masks are all "
                    f"outside the crop from ({window.x1}, {window.y1}) to ({window.x2}, {window.y2})",
                    "Combine it with a prompt for the whole image, or increase crop_factor",
                )
        return self._with_text(self._prompts[index] if index < len(self._prompts) else "")

    def _with_text(self, text: str) -> Pipe:
        if self._pipe.add_text is None:
            return self._pipe
        if text not in self._pipes:
            self._pipes[text] = replace(self._pipe, positive=self._pipe.add_text(self._pipe.positive, text))
        return self._pipes[text]


def _applies(conditioning: Any, placement: Placement) -> bool:
    """Whether at least one prompt takes part in the crop. Without any prompt, the host decides."""
    if not isinstance(conditioning, (list, tuple)) or not conditioning:
        return True
    return not all(is_outside(details, placement) for _, details in conditioning)


def _has_places(conditioning: Any, image: Box) -> bool:
    """Whether a conditioning, which may also be a placeholder, has an entry that must move."""
    if not isinstance(conditioning, (list, tuple)):
        return False
    return any(entries_to_move(details, image) for _, details in conditioning)


class Mover:
    """Moves pipes to one crop. What several prompts share is moved once, and they still share it.

    Args:
        target: The crop.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._moved: dict[tuple[str, int], Any] = {}  # by entry and id of the value

    def move_pipe(self, pipe: Pipe) -> Pipe:
        """The pipe for the crop."""
        return replace(
            pipe,
            model=self._target.objects.crop_model(pipe.model, self._target.placement),
            positive=self.move_conditioning(pipe.positive),
            negative=self.move_conditioning(pipe.negative),
        )

    def move_conditioning(self, conditioning: Any) -> Any:
        """A new list without the prompts that take no part in the crop; the same object if nothing has to move."""
        placement = self._target.placement
        if not _has_places(conditioning, placement.image):
            return conditioning
        return [
            [tokens, self._move_details(details)]
            for tokens, details in conditioning
            if not is_outside(details, placement)
        ]

    def _move_details(self, details: Mapping[str, Any]) -> dict[str, Any]:
        names = entries_to_move(details, self._target.placement.image)
        return {**details, **{name: self._move(name, details[name]) for name in names}}

    def _move(self, name: str, value: Any) -> Any:
        key = name, id(value)
        if key not in self._moved:
            self._moved[key] = MOVES[name](value, self._target)
        return self._moved[key]
