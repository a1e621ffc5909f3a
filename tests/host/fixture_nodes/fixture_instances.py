"""SAM3 with random weights, for the shapes of its results, and a node that records masks and boxes."""

from __future__ import annotations

import comfy.model_base
import comfy.model_management
import comfy.supported_models
import torch

from . import fixture_models

TEXT_WIDTH = 64
MOST = 4  # objects that a prompt finds in an image


def make_sam3():
    """A MODEL of ComfyUI's own class, with patches so large that it runs in seconds."""
    config = comfy.supported_models.SAM3(
        {
            "image_model": "SAM3",
            "d_model": 32,
            "embed_dim": TEXT_WIDTH,
            "num_queries": 5,
            "depth": 1,
            "global_att_blocks": (0,),
            "patch_size": 126,
            "dtype": torch.float32,
        }
    )
    with fixture_models.allocate_weights():
        base = comfy.model_base.SAM3(config)
    fixture_models.with_random_weights(base.diffusion_model)
    base.requires_grad_(False)
    management = comfy.model_management
    return fixture_models.ModelPatcher(base, management.get_torch_device(), management.unet_offload_device())


def make_text():
    """A CONDITIONING as of SAM3's text encoder."""
    text = torch.randn(1, 4, TEXT_WIDTH, generator=torch.Generator().manual_seed(0))
    return [[text, {"sam3_multi_cond": [{"cond": text, "attention_mask": None, "max_detections": MOST}]}]]


def describe(masks=None, bounding_boxes=None, image=None, count=None) -> dict:
    return {
        "masks": None if masks is None else [list(masks.shape), masks.sum((1, 2)).tolist()],
        "boxes": bounding_boxes,
        "image": None if image is None else list(image.shape),
        "count": count,
    }
