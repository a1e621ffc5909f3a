"""Protocols for objects of the host that hold images: ControlNets and patches of models."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from ..geometry import Box


class Cropper(Protocol):
    """Crops what covers the whole image to one region; see `placement.Placement`."""

    def crop_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """A hint ``[B,C,h,w]`` -> ``[1,C,height,width]``."""
        ...

    def crop_image(self, image: torch.Tensor) -> torch.Tensor:
        """``[B,h,w,C]`` -> ``[1,height,width,C]``."""
        ...

    def crop_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """``[B,...,h,w]`` -> ``[1,...,height,width]``."""
        ...


class HostObjects(Protocol):
    """Crops copies of the host's objects. The objects themselves never change."""

    def crop_control(self, control: Any, cropper: Cropper) -> Any:
        """Copy a chain of ControlNets with cropped hints."""
        ...

    def holds_images(self, model: Any, image: Box, ratio: int) -> bool:
        """Whether patches of the model hold images that `crop_model` can crop.

        Logs a warning if another patch holds a tensor of the size of ``image``, or of its latent (``ratio`` pixels per
        cell), which cannot be cropped.
        """
        ...

    def crop_model(self, model: Any, cropper: Cropper) -> Any:
        """The model with cropped images in its patches. Valid until the next call for the same model."""
        ...


class NoHostObjects:
    """The `HostObjects` of a host that has none."""

    def crop_control(self, control: Any, cropper: Cropper) -> Any:
        return control

    def holds_images(self, model: Any, image: Box, ratio: int) -> bool:
        return False

    def crop_model(self, model: Any, cropper: Cropper) -> Any:
        return model


NO_HOST_OBJECTS = NoHostObjects()
