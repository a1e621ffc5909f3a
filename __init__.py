"""Maskwright: text to mask, mask edges, background removal and masked-region detailing for ComfyUI."""

from .nodes.gradient_region import GradientRegion

# Plain literal dicts: ComfyUI-Manager's and the registry's scanners read them as text.
NODE_CLASS_MAPPINGS = {
    "GradientRegion": GradientRegion,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "GradientRegion": "Gradient Region",
}

WEB_DIRECTORY = "./web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
