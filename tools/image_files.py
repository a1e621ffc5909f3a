"""Reads image files for the built-in engine: every format that Pillow opens, scaled to 0..1 without clipping."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from pack import load_pack

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image


def read_images(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read every frame of an image file, rotated by its EXIF orientation.

    Returns: the images, float32 ``[B,H,W,3]`` in 0..1, and the masks, 1 minus alpha, ``[B,H,W]``, or zeros
    ``[B,64,64]`` if no frame has alpha. Frames whose size differs from the first are skipped. A truncated file gives
    its readable part.
    Raises: `InputError` (the pack's) if no frame can be read.
    """
    import torch
    from PIL import ImageFile, UnidentifiedImageError

    load_pack()
    from maskwright.core.errors import InputError  # found through the pack
    from maskwright.core.tensors import from_pil

    images, masks = [], []
    try:
        with warnings.catch_warnings(), mock.patch.object(ImageFile, "LOAD_TRUNCATED_IMAGES", True):
            warnings.simplefilter("ignore")  # about large files and damaged metadata
            for frame in _frames(path):
                pixels = _pixels(frame)
                colors = from_pil(pixels) if hasattr(pixels, "mode") else torch.from_numpy(pixels)
                if images and colors.shape[:2] != images[0].shape[:2]:
                    continue
                images.append(colors[..., :3])
                masks.append(1.0 - colors[..., 3] if colors.shape[-1] == 4 else torch.zeros(64, 64))
    except Exception as error:  # Pillow's readers stumble over damaged files in many ways
        if not images:
            unknown = isinstance(error, UnidentifiedImageError)
            reason = "Pillow does not know this file format" if unknown else str(error) or type(error).__name__
            raise InputError(
                f"the image file {path.name} cannot be read ({reason})", "Open it in an image editor and save it as PNG"
            ) from error
    if len({mask.shape for mask in masks}) > 1:  # only some frames have alpha
        masks = [mask if mask.shape == images[0].shape[:2] else torch.zeros(images[0].shape[:2]) for mask in masks]
    return torch.stack(images), torch.stack(masks)


def _frames(path: Path) -> Iterator[Image.Image]:
    """The frames of a file, upright; of a stereo photo (MPO) only the first."""
    from PIL import Image, ImageOps, ImageSequence

    with Image.open(path) as file:
        for frame in ImageSequence.Iterator(file):
            yield ImageOps.exif_transpose(frame)
            if file.format == "MPO":
                return


def _pixels(frame: Image.Image) -> Image.Image | np.ndarray:
    """A frame in RGB or RGBA; with more than 8 bits per channel, as float32 ``[H,W,3]`` in 0..1."""
    import numpy as np

    if frame.mode == "F" or frame.mode.startswith("I"):
        values = np.nan_to_num(np.asarray(frame, dtype=np.float32), posinf=1.0, neginf=0.0)
        largest = np.maximum(values.max(), np.float32(1 if frame.mode == "F" else 65535))  # white, in most files
        return np.repeat((values / largest).clip(0, 1)[..., None], 3, axis=2)
    has_alpha = frame.mode.lower().endswith("a") or "transparency" in frame.info
    return frame.convert("RGBA" if has_alpha else "RGB")
