"""Errors for users of ComfyUI: remedies that name its nodes and options, and the labels of widgets. The library knows
neither."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..core.errors import PackError

_PYMATTING = (
    "Install it into the Python that runs ComfyUI: python -m pip install --upgrade pymatting; or turn matting off in "
    "'Remove Background (rembg)', or choose the guided filter in 'Refine Mask'"
)
# By the error's code. "{}" is replaced by the library's own remedy.
REMEDIES = {
    "not a mask": "Connect an output of type MASK",
    "not an image": "Connect an output of type IMAGE",
    "mask shape": "{}; to turn an image into a mask use 'Convert Image to Mask'",
    "image shape": "{}; to turn a mask into an image use 'Convert Mask to Image'",
    "image sizes": "{}, for example with 'Upscale Image'",
    "empty input": "{}; the node before it may have selected nothing",
    "input not finite": (
        "Check the node before it: the usual causes are a VAE in half precision and a division by zero"
    ),
    "install scipy": "Install it into ComfyUI's Python: python -m pip install --upgrade scipy",
    "install pymatting": _PYMATTING,
    "install numba": _PYMATTING,
    "CLIPSeg model": "Connect the output of 'CLIPSeg Model Loader'",
    "CLIPSeg not finite": (
        "Its weights may be damaged, or too large for half precision: start ComfyUI with --force-fp32, or download "
        "the model again"
    ),
    "no CLIP": "Put one into the pipe with 'EditBasicPipe', or leave region_prompts empty",
    "VAE not finite": "Start ComfyUI with --fp32-vae to run the VAE in full precision, or use another VAE",
    "crops": "{}: connect 'crops' of Region Crop through nodes that keep them all",
    "hook failed": "Disconnect the hook, or check the settings of the node that creates it",
    "hook result": "Disconnect the hook, or ask its author",
}


def replace_remedy(error: PackError) -> None:
    """Replace an error's remedy by the one for users of ComfyUI, if there is one. A second call changes nothing."""
    if error.code in REMEDIES:
        error.remedy = REMEDIES[error.code].format(error.remedy)
        error.code = ""


def add_labels(error: PackError, labels: Mapping[str, str]) -> None:
    """Name each input by its widget's label, with its id in parentheses. A second call changes nothing.

    Args:
        labels: See `_widgets.get_labels`.
    """
    if not labels:
        return
    pattern = re.compile(rf"(?<![\w(])({'|'.join(map(re.escape, labels))})(?!\w)")
    for part in ("problem", "remedy"):
        setattr(error, part, pattern.sub(lambda match: f"{labels[match[1]]} ({match[1]})", getattr(error, part)))
