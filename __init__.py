"""Maskwright: text to mask, mask edges, background removal and masked-region detailing for ComfyUI."""

from .nodes.clipseg import CLIPSeg
from .nodes.clipseg_masking import CLIPSegMasking
from .nodes.clipseg_model_loader import CLIPSegModelLoader
from .nodes.gradient_region import GradientRegion
from .nodes.image_segmentation import ImageSegmentation

# Plain literal dicts: ComfyUI-Manager's and the registry's scanners read them as text.
NODE_CLASS_MAPPINGS = {
    "CLIPSeg": CLIPSeg,
    "CLIPSegMasking": CLIPSegMasking,
    "CLIPSegModelLoader": CLIPSegModelLoader,
    "GradientRegion": GradientRegion,
    "ImageSegmentation": ImageSegmentation,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "CLIPSeg": "CLIPSeg",
    "CLIPSegMasking": "CLIPSeg Masking (batch)",
    "CLIPSegModelLoader": "CLIPSeg Model Loader",
    "GradientRegion": "Gradient Region",
    "ImageSegmentation": "Image Segmentation (rembg)",
}

WEB_DIRECTORY = "./web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
