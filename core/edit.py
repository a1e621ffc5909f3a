"""Edits of masks: the operations of the node Edit Mask, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from . import distance, filters, masks, outline, parts
from .batching import NO_PROGRESS, parallel_map
from .checks import Settings, as_mask_batch, check_number, check_switch, check_whole_number, setting
from .engine import Progress
from .morphology import MAX_SIZE

Edit = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class MaskEdits(Settings):
    """What to do with a mask, in this order. The defaults change nothing.

    Attributes:
        invert: Select what was not selected.
        threshold: Select the pixels of at least this value completely, and no others; 0 keeps soft values.
        fill_holes: See `parts.fill_holes`.
        remove_specks: See `parts.remove_specks`; pixels.
        grow: See `distance.grow`; pixels, negative to shrink.
        smooth: See `masks.smooth_outline`; pixels.
        feather_inside, feather_outside: See `outline.fade_edges`; pixels.
        blur: Sigma of a Gaussian blur; pixels.

    Raises:
        InputError: A value is out of range or of the wrong type.
    """

    invert: bool = setting(False, check_switch)
    threshold: float = setting(0.0, check_number, low=0, high=1)
    fill_holes: bool = setting(False, check_switch)
    remove_specks: int = setting(0, check_whole_number, low=0)
    grow: float = setting(0.0, check_number, low=-MAX_SIZE, high=MAX_SIZE)
    smooth: float = setting(0.0, check_number, low=0, high=MAX_SIZE)
    feather_inside: float = setting(0.0, check_number, low=0, high=MAX_SIZE)
    feather_outside: float = setting(0.0, check_number, low=0, high=MAX_SIZE)
    blur: float = setting(0.0, check_number, low=0, high=MAX_SIZE)

    def steps(self) -> Iterator[tuple[str, Edit]]:
        """Each edit that changes something, as its field's name and a function of ``[B,H,W]``."""
        if self.invert:
            yield "invert", lambda mask: 1 - mask
        if self.threshold:
            yield "threshold", lambda mask: (mask >= self.threshold).float()
        if self.fill_holes:
            yield "fill_holes", parts.fill_holes
        if self.remove_specks:
            yield "remove_specks", partial(parts.remove_specks, pixels=self.remove_specks)
        if self.grow:
            yield "grow", partial(distance.grow, distance=self.grow)
        if self.smooth:
            yield "smooth", partial(masks.smooth_outline, sigma=self.smooth)
        if self.feather_inside or self.feather_outside:
            feather = "feather_inside" if self.feather_inside else "feather_outside"
            yield feather, partial(outline.fade_edges, inside=self.feather_inside, outside=self.feather_outside)
        if self.blur:
            yield "blur", partial(filters.gaussian_blur, sigma=self.blur)


def edit_masks(
    mask: torch.Tensor, edits: MaskEdits, progress: Progress = NO_PROGRESS
) -> tuple[torch.Tensor, dict[int, str]]:
    """Edit every mask of a batch.

    Args:
        mask: ``[B,H,W]``.
        progress: Advances by one step per mask.

    Returns:
        ``[B,H,W]``, and for each index whose mask had selected pixels and lost all of them: the name of the edit that
        removed the last one.

    Raises:
        InputError: Not a mask.
    """
    mask = as_mask_batch(mask)
    steps = list(edits.steps())
    if not steps or len(mask) == 0:
        return mask, {}
    edited = []
    workers = torch.get_num_threads() if mask.device.type == "cpu" else 1
    for group in mask.split(workers):  # few at a time, since each needs memory for the steps between
        edited += parallel_map(partial(_edit_one, steps=steps), group.split(1))
        progress.step(len(group))
    erased = {index: name for index, (_, name) in enumerate(edited) if name}
    results = [each for each, _ in edited]
    return torch.cat(results) if len(results) > 1 else results[0], erased


def _edit_one(mask: torch.Tensor, steps: Sequence[tuple[str, Edit]]) -> tuple[torch.Tensor, str]:
    """Edit ``[1,H,W]``. Return the result and the name of the edit that removed the last selected pixel, or ""."""
    erased = ""
    highest = mask.amax()  # faster than any()
    for name, edit in steps:
        mask, previous = edit(mask), highest
        highest = mask.amax()
        if previous > 0 and highest == 0:
            erased = name  # no later edit selects a pixel again
    return mask, erased
