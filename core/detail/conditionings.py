"""Conditionings, as the host holds them, for a part of the picture."""

from __future__ import annotations

from typing import Any

import torch

from ..geometry import Box


def crop_conditioning(conditioning: Any, picture: Box, window: Box) -> Any:
    """A conditioning with its masks cut to ``window``: a list of pairs (tensor, details), of which ``mask`` is a mask
    ``[B,h,w]`` of the whole picture, of any size.

    The very same object comes back where it holds no mask, or is something else (a placeholder).
    """
    if not isinstance(conditioning, (list, tuple)) or window == picture:
        return conditioning
    if not any("mask" in details for _, details in conditioning):
        return conditioning
    return [[condition, _with_mask_cut(details, picture, window)] for condition, details in conditioning]


def _with_mask_cut(details: dict, picture: Box, window: Box) -> dict:
    return {**details, "mask": _cut_scaled(details["mask"], picture, window)} if "mask" in details else details


def _cut_scaled(mask: torch.Tensor, picture: Box, window: Box) -> torch.Tensor:
    """``window`` of a mask ``[...,h,w]`` whose size is another than the picture's."""
    height, width = mask.shape[-2:]
    x1, y1 = (window.x1 * width) // picture.width, (window.y1 * height) // picture.height
    x2, y2 = -(-window.x2 * width // picture.width), -(-window.y2 * height // picture.height)
    return mask[..., y1:y2, x1:x2]
