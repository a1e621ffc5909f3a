"""Maskwright: text to mask, mask edges, background removal and masked-region detailing for ComfyUI."""

from .nodes import _compat
from .nodes.clipseg import CLIPSeg
from .nodes.clipseg_masking import CLIPSegMasking
from .nodes.clipseg_model_loader import CLIPSegModelLoader
from .nodes.edit_basic_pipe import EditBasicPipe
from .nodes.edit_mask import EditMask
from .nodes.from_basic_pipe import FromBasicPipe
from .nodes.gradient_region import GradientRegion
from .nodes.image_segmentation import ImageSegmentation
from .nodes.mask_detailer_pipe import MaskDetailerPipe
from .nodes.mask_instances import MaskInstances
from .nodes.refine_mask import RefineMask
from .nodes.region_crop import RegionCrop
from .nodes.region_stitch import RegionStitch
from .nodes.to_basic_pipe import ToBasicPipe

# Plain literal dicts: ComfyUI-Manager's and the registry's scanners read them as text.
NODE_CLASS_MAPPINGS = {
    "CLIPSeg": CLIPSeg,
    "CLIPSegMasking": CLIPSegMasking,
    "CLIPSegModelLoader": CLIPSegModelLoader,
    "EditBasicPipe": EditBasicPipe,
    "EditMask": EditMask,
    "FromBasicPipe": FromBasicPipe,
    "GradientRegion": GradientRegion,
    "ImageSegmentation": ImageSegmentation,
    "MaskDetailerPipe": MaskDetailerPipe,
    "MaskInstances": MaskInstances,
    "RefineMask": RefineMask,
    "RegionCrop": RegionCrop,
    "RegionStitch": RegionStitch,
    "ToBasicPipe": ToBasicPipe,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "CLIPSeg": "Text to Mask (CLIPSeg)",
    "CLIPSegMasking": "Text to Soft Mask (CLIPSeg)",
    "CLIPSegModelLoader": "CLIPSeg Model Loader",
    "EditBasicPipe": "Edit Basic Pipe",
    "EditMask": "Edit Mask",
    "FromBasicPipe": "From Basic Pipe",
    "GradientRegion": "Mask Edges",
    "ImageSegmentation": "Remove Background (rembg)",
    "MaskDetailerPipe": "Mask Detailer (pipe)",
    "MaskInstances": "Mask Instances",
    "RefineMask": "Refine Mask",
    "RegionCrop": "Region Crop",
    "RegionStitch": "Region Stitch",
    "ToBasicPipe": "To Basic Pipe",
}

_compat.register(NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS)

WEB_DIRECTORY = "./web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
