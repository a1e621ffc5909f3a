"""Widget values as saved in files, in every length that occurs, and the widget of each value.

The values come from public files saved with the original nodes.
"""

from __future__ import annotations

DETAILER = (
    "guide_size",
    "guide_size_for",
    "max_size",
    "mask_mode",
    "seed",
    "control_after_generate",
    "steps",
    "cfg",
    "sampler_name",
    "scheduler",
    "denoise",
    "feather",
    "crop_factor",
    "drop_size",
    "refiner_ratio",
    "batch_size",
    "cycle",
    "inpaint_model",
    "noise_mask_feather",
    "bbox_fill",
    "contour_fill",
)
SEGMENTATION = (
    "model",
    "alpha_matting",
    "alpha_matting_foreground_threshold",
    "alpha_matting_background_threshold",
    "alpha_matting_erode_size",
    "post_process_mask",
)
CLIPSEG = ("text", "blur", "threshold", "dilation_factor")

_DETAILED = [512, True, 1024, True, 1003, "fixed", 20, 8, "euler", "normal", 0.75, 5, 3, 10, 0.2, 1]
_LATER = [1, False, 20, False, True]

# (node, values, widget names)
LAYOUTS = [
    ("MaskDetailerPipe", [*_DETAILED, *_LATER[:more]], DETAILER[: len(_DETAILED) + more]) for more in range(6)
] + [
    ("MaskDetailerPipe", [*_DETAILED[:4], 0, "randomize", *_DETAILED[6:10], 0.5, *_DETAILED[11:], *_LATER], DETAILER),
    ("CLIPSeg", ["sky", 7, 0.4, 5], CLIPSEG),
    ("CLIPSeg", ["", 7, 0.4, 4], CLIPSEG),
    ("CLIPSeg", ["hair", 7, 0.35000000000000003, 30], CLIPSEG),
    ("CLIPSeg", ["hair"], CLIPSEG[:1]),
    ("CLIPSeg_", ["sky", 3, 0.3, 4], CLIPSEG),
    ("CLIPSegMasking", ["sky"], ("text",)),
    ("SaltCLIPSegMasking", ["sky"], ("text",)),
    ("CLIPSeg Masking", ["sky"], ("text",)),
    ("CLIPSeg Batch Masking", ["sky", "sea", "", ""], ("text_a", "text_b", "text_c", "text_d")),
    ("CLIPSegModelLoader", ["CIDAS/clipseg-rd64-refined"], ("model",)),
    ("SaltCLIPSegLoader", ["CIDAS/clipseg-rd64-refined"], ("model",)),
    ("CLIPSeg Model Loader", ["CIDAS/clipseg-rd64-refined"], ("model",)),
    ("GradientRegion", [3], ("kernel_size",)),
    ("SaltMaskGradientRegion", [5], ("kernel_size",)),
    ("ImageSegmentation", ["isnet-general-use", "true", 230, 20, 10, "false"], SEGMENTATION),
    ("ImageSegmentation", ["isnetis", "false", 240, 20, 10, "true"], SEGMENTATION),
]  # fmt: skip


def editor_file(node: str, values: list) -> dict:
    """An old editor file with only that node, unconnected."""
    entry = {
        "id": 7,
        "type": node,
        "pos": [0, 0],
        "size": [300, 200],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": values,
    }
    return {"last_node_id": 7, "last_link_id": 0, "nodes": [entry], "links": [], "version": 0.4}
