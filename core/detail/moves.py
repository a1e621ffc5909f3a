"""Moves the entries of a prompt that refer to places in the whole image to a crop.

A prompt is a list of pairs (tensor, details). `MOVES` has one function for each entry of the details that has a place
in the image. All other entries, such as strengths, ranges of steps and hooks, apply to every crop unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..geometry import Box
from .host_objects import HostObjects
from .placement import Placement
from .references import References, may_show

OUTSIDE = object()  # the result of a move if nothing is left in the crop


@dataclass(frozen=True)
class Target:
    """The crop that a prompt moves to.

    Attributes:
        placement: Its place in the image.
        objects: Crops ControlNets.
        references: Recognizes references that show the image.
        encode: Returns the crop's clean latent ``[B,C,h,w]``.
    """

    placement: Placement
    objects: HostObjects
    references: References
    encode: Callable[[], torch.Tensor]


def move_area(area: Sequence[Any], placement: Placement) -> Any:
    """Move the area of a prompt.

    Args:
        area: ``(height, width, y, x)`` in latent cells of the whole image, or ``("percentage", height, width, y, x)``
            in fractions of it. With a time axis, the length comes before the height, and the start before y; a single
            image is frame 0.

    Returns:
        ``(height, width, y, x)`` in cells of the sampled latent, at least 1 x 1; `OUTSIDE` if it is not in the crop.
    """
    is_fraction = area[0] == "percentage"
    numbers = area[1:] if is_fraction else area
    *_, height, width = numbers[: len(numbers) // 2]
    *frames, y, x = numbers[len(numbers) // 2 :]
    if frames and round(frames[0]) > 0:
        return OUTSIDE
    if is_fraction:  # rounded as the host does
        rows, columns = placement.image_cells
        height, width = max(1, round(height * rows)), max(1, round(width * columns))
        y, x = round(y * rows), round(x * columns)
    moved = placement.move_cells((height, width), (y, x))
    if moved is None:
        return OUTSIDE
    sizes, starts = [], []
    for (begin, end), cells in zip(moved, placement.sampled_cells):
        start = min(round(begin), cells - 1)
        starts.append(start)
        sizes.append(max(1, round(end) - start))
    return (*sizes, *starts)


def move_mask(mask: torch.Tensor, placement: Placement) -> Any:
    """Crop the mask of a prompt, ``[B,h,w]`` or ``[h,w]``, and leave scaling to the host. Pixels that are partly in the
    crop are included. `OUTSIDE` if nothing is selected in the crop."""
    (height, width), image, window = mask.shape[-2:], placement.image, placement.frame.window
    y1, y2 = window.y1 * height // image.height, -(-window.y2 * height // image.height)
    x1, x2 = window.x1 * width // image.width, -(-window.x2 * width // image.width)
    row = mask if mask.ndim == 2 else placement.pick_row(mask)
    cropped = row[..., y1:y2, x1:x2]
    return cropped if cropped.any() else OUTSIDE


def _move_gligen(gligen: Sequence[Any], target: Target) -> Any:
    """Move GLIGEN's boxes ``(embedding, height, width, y, x)``, in latent cells of the whole image. Unlike areas they
    may be fractional. Boxes outside the crop are dropped."""
    kind, model, boxes = gligen
    moved = []
    for embedding, height, width, y, x in boxes:
        axes = target.placement.move_cells((height, width), (y, x))
        if axes is not None:
            (top, bottom), (left, right) = axes
            moved.append((embedding, bottom - top, right - left, top, left))
    return kind, model, moved


def _move_references(references: Sequence[Any], target: Target) -> list[Any]:
    """Move the latents ``[B,C,h,w]`` that edit models look at: the crop's own latent for those that show the image, a
    crop of those in the image's size. All others show something else, and stay whole."""

    def move(reference: Any) -> Any:
        if not may_show(reference, target.placement.image.height, target.placement.image.width):
            return reference
        if target.references.show_image(reference, target.placement.index):
            return target.encode().clone()  # hooks may write into the crop's own latent
        if reference.shape[-2:] == target.placement.image_cells:
            return target.placement.crop_latent(reference)
        return reference

    return [move(reference) for reference in references]


MOVES: dict[str, Callable[[Any, Target], Any]] = {
    "area": lambda area, target: move_area(area, target.placement),
    "mask": lambda mask, target: move_mask(mask, target.placement),
    "gligen": _move_gligen,
    "control": lambda control, target: target.objects.crop_control(control, target.placement),
    "concat_latent_image": lambda latent, target: target.placement.crop_latent(latent),
    "concat_mask": lambda mask, target: target.placement.crop_mask(mask),
    "reference_latents": _move_references,
}


def entries_to_move(details: Mapping[str, Any], image: Box) -> list[str]:
    """The entries of ``details`` that have a place in the image."""
    names = [name for name in MOVES if details.get(name) is not None]
    if "area" in names and "mask" in names and details.get("set_area_to_bounds"):
        names.remove("area")  # the host takes the bounds of the mask instead
    references = details["reference_latents"] if "reference_latents" in names else None
    if references is not None and not any(may_show(each, image.height, image.width) for each in references):
        names.remove("reference_latents")
    return names


def is_outside(details: Mapping[str, Any], placement: Placement) -> bool:
    """Whether the prompt with these details takes no part in the crop."""
    moves = {"area": move_area, "mask": move_mask}
    names = [name for name in entries_to_move(details, placement.image) if name in moves]
    return any(moves[name](details[name], placement) is OUTSIDE for name in names)
