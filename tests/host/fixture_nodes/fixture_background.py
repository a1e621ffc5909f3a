"""ComfyUI's own background removal, with random weights."""

from __future__ import annotations

import os

import torch


def make_background_removal(seed: int):
    """ComfyUI's BiRefNet: its real class, at an image size that runs quickly on a CPU."""
    import comfy.bg_removal_model

    folder = os.path.dirname(comfy.bg_removal_model.__file__)
    model = comfy.bg_removal_model.BackgroundRemovalModel(os.path.join(folder, "background_removal", "birefnet.json"))
    model.image_size = 256
    generator = torch.Generator().manual_seed(seed)
    for weight in model.model.state_dict().values():
        if weight.is_floating_point():  # ComfyUI's layers leave their weights uninitialized
            noise = torch.rand(weight.shape, generator=generator) - 0.5
            weight.copy_(1 + 0.1 * noise if weight.ndim < 2 else noise * 2 / weight[0].numel() ** 0.5)
    return model
