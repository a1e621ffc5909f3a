"""Thin parts of a mask, such as the legs of a tripod, which closed-form matting alone would lose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from .. import tensors
from ..distance import is_within
from ..outline import measure_distance

SURE = 0.9  # mask values above it belong to the subject
_PRESENT = 0.5  # alpha of at least this shows that there is a subject


@dataclass(frozen=True)
class ThinParts:
    """Restores what a mask is sure of and matting has lost (a `closed_form.Prior`).

    The equations tie an unknown pixel only to pixels of similar color. A part of the mask that is thinner than the
    unknown band has no definite foreground, so it fades unless pixels of similar color connect it to some. Where they
    do, as in hair and wires, alpha is better than the mask, and nothing is changed.

    Attributes:
        mask: ``[H,W]`` in 0..1.
        weight: Weight of the mask's values relative to the equations, at least 0.
        reach: In pixels. A pixel that the mask is sure of is lost if alpha is low everywhere within this distance.
    """

    mask: np.ndarray
    weight: float
    reach: float

    def crop(self, part: tuple[slice, slice]) -> ThinParts:
        return replace(self, mask=self.mask[part])

    def resize(self, height: int, width: int) -> ThinParts:
        scale = height / self.mask.shape[0]
        small = tensors.resize_mask(torch.from_numpy(self.mask)[None], height, width, "area")[0]  # [H,W] -> [1,H,W]
        return replace(self, mask=small.numpy(), reach=max(1.0, self.reach * scale))

    def weigh(
        self, alpha: np.ndarray, foreground: np.ndarray, unknown: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """For the unknown pixels ``[n]``, the weights and values that pull lost parts back to the mask.

        The weight fades to 0 within `reach` pixels of a lost one, so that the restored part has no hard end.

        Args:
            alpha: ``[n]``, solved without these weights.
            foreground, unknown: ``[H,W]`` bool; definite foreground, and the unknown pixels.

        Returns:
            Both ``[n]``; None if nothing is lost.
        """
        present = foreground.copy()
        present[unknown] = alpha >= _PRESENT
        faded = (self.mask > SURE) & unknown & ~present
        if self.weight == 0 or not faded.any():
            return None
        near_present = is_within(torch.from_numpy(present[None]), self.reach)[0].numpy()  # [H,W] -> [1,H,W] and back
        lost = faded & ~near_present
        if not lost.any():
            return None
        distance = measure_distance(torch.from_numpy(lost), self.reach).numpy()
        weights = self.weight * (1 - distance / max(self.reach, 1)).clip(0, 1) * (self.mask > 0.5)
        return weights[unknown].astype(np.float64), self.mask[unknown].astype(np.float64)
