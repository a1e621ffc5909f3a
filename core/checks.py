"""What every node does with its inputs first: check them, and bring masks and images to one shape and dtype.

The contracts: a *mask* is float32 ``[B,H,W]`` in 0..1, an *image* is float32 ``[B,H,W,C]`` in 0..1.
Nothing here changes a tensor in place; where a tensor already is as it should be, the very same one comes back.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from numbers import Real

import torch

from .errors import InputError


def as_mask_batch(value: object, name: str = "mask") -> torch.Tensor:
    """Bring a mask to float32 ``[B,H,W]`` in 0..1, on its own device.

    Args:
        value: Floating point tensor ``[H,W]``, ``[B,H,W]`` or ``[B,1,H,W]``. Values outside 0..1 are clamped.
        name: The input's name, for messages.

    Raises:
        InputError: Not a tensor, not floating point, another rank, empty, NaN or infinity.
    """
    tensor = _floating_tensor(value, name, "a mask")
    if tensor.ndim == 2:
        tensor = tensor.unsqueeze(0)  # [H,W] -> [1,H,W]
    elif tensor.ndim == 4 and tensor.shape[1] == 1:
        tensor = tensor.squeeze(1)  # [B,1,H,W] -> [B,H,W]
    elif tensor.ndim != 3:
        raise InputError(
            f"{name} has shape {list(tensor.shape)}, which is not a mask",
            "Give it [height, width], [batch, height, width] or [batch, 1, height, width]; "
            "to turn an image into a mask use 'Convert Image to Mask'",
        )
    return _finite_unit_range(_not_empty(tensor, name), name)


def as_image_batch(value: object, name: str = "image") -> torch.Tensor:
    """Bring an image to float32 ``[B,H,W,C]`` in 0..1 with C = 3 (RGB) or 4 (RGBA), on its own device.

    Args:
        value: Floating point tensor ``[B,H,W,C]`` or ``[H,W,C]`` with C = 1, 3 or 4. Grey becomes RGB.
            Values outside 0..1 are clamped.
        name: The input's name, for messages.

    Raises:
        InputError: Not a tensor, not floating point, another rank or number of channels, empty, NaN or infinity.
    """
    tensor = _floating_tensor(value, name, "an image")
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(0)  # [H,W,C] -> [1,H,W,C]
    if tensor.ndim != 4 or tensor.shape[-1] not in (1, 3, 4):
        raise InputError(
            f"{name} has shape {list(tensor.shape)}, which is not an image",
            "Give it [batch, height, width, channels] with 1, 3 or 4 channels; "
            "to turn a mask into an image use 'Convert Mask to Image'",
        )
    tensor = _finite_unit_range(_not_empty(tensor, name), name)
    if tensor.shape[-1] == 1:
        tensor = tensor.expand(-1, -1, -1, 3)  # grey [B,H,W,1] -> [B,H,W,3], a view
    return tensor


def check_choice(value: object, name: str, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise ``InputError`` that lists them."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} is {_shown(value)}", f"Choose one of: {', '.join(choices)}")
    return value


def check_number(
    value: object, name: str, low: float = -math.inf, high: float = math.inf, kind: str = "number"
) -> float:
    """Return ``value`` as a float if it is a finite number within ``low``..``high`` (both included).

    Raises:
        InputError: Not a number, NaN or infinite, or out of range. The message calls what is wanted a ``kind``.
    """
    remedy = f"Give a {kind} {_range(low, high)}"
    # Compared, not converted: a whole number may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, Real) or not -math.inf < value < math.inf:
        raise InputError(f"{name} is {_shown(value)}, which is not a {kind}", remedy)
    if not low <= value <= high:
        raise InputError(f"{name} is {_shown(value)}, which is out of range", remedy)
    return float(value)


def check_whole_number(value: object, name: str, low: float = -math.inf, high: float = math.inf) -> int:
    """As `check_number`, for whole numbers; 3.0 counts as 3, since links may carry a FLOAT."""
    kind = "whole number"
    check_number(value, name, low, high, kind)
    if value != int(value):
        raise InputError(f"{name} is {_shown(value)}, which is not a {kind}", f"Give a {kind} {_range(low, high)}")
    return int(value)


def check_switch(value: object, name: str) -> bool:
    """Return ``value`` if it is on or off: a bool, or 1 or 0, since links may carry these. Not text: "false" is none
    that Python takes for false.

    Raises:
        InputError: Neither.
    """
    if not isinstance(value, Real) or value not in (0, 1):
        raise InputError(f"{name} is {_shown(value)}, which is neither on nor off", "Give true or false")
    return bool(value)


def _shown(value: object) -> str:
    """The value as messages show it: not all of a long one."""
    return reprlib.repr(value)


PIPE_PARTS = ("model", "clip", "vae", "positive", "negative")


def check_basic_pipe(value: object, name: str = "basic_pipe", needed: Sequence[str] = PIPE_PARTS) -> tuple:
    """Return ``value`` if it is a pipe: a tuple of `PIPE_PARTS`, of which those that are ``needed`` are not None.

    Raises:
        InputError: Not five long, or a needed part is None. The message names the part.
    """
    remedy = "Connect the output of 'ToBasicPipe' or 'EditBasicPipe', with all its parts connected"
    if not isinstance(value, (tuple, list)):
        raise InputError(f"{name} is {'missing' if value is None else f'a {type(value).__name__}'}, not a pipe", remedy)
    if len(value) != len(PIPE_PARTS):
        raise InputError(f"{name} has {len(value)} parts, not the {len(PIPE_PARTS)} of a basic pipe", remedy)
    missing = [part for part, held in zip(PIPE_PARTS, value) if held is None and part in needed]
    if missing:
        raise InputError(f"{name} holds no {', no '.join(missing)}", remedy)
    return tuple(value)


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return "of any size" if math.isinf(low) else f"of {low:g} or more"
    return f"from {low:g} to {high:g}"


def _floating_tensor(value: object, name: str, kind: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise InputError(
            f"{name} is {'missing' if value is None else f'a {type(value).__name__}'}, not {kind}",
            f"Connect an output that gives {kind}",
        )
    if not value.dtype.is_floating_point:
        raise InputError(
            f"{name} holds {str(value.dtype).removeprefix('torch.')} values, not floating point ones",
            "Convert it to float with values from 0 to 1 (8-bit values: divide by 255)",
        )
    if value.layout != torch.strided or value.is_meta:
        raise InputError(
            f"{name} is a {'meta' if value.is_meta else str(value.layout).removeprefix('torch.')} tensor",
            "Give an ordinary one: .to_dense() makes it of a sparse tensor",
        )
    return value.detach() if value.requires_grad else value  # nothing here is trained


def _not_empty(tensor: torch.Tensor, name: str) -> torch.Tensor:
    if tensor.numel() == 0:
        raise InputError(
            f"{name} is empty: its shape is {list(tensor.shape)}",
            "Give at least one picture of at least one pixel; the node before it may have selected nothing",
        )
    return tensor


def _finite_unit_range(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """float32, finite, 0..1. One pass over the memory tells both range and NaN; a copy is made only where needed."""
    tensor = tensor.to(torch.float32)
    # Picture by picture: of a batch that is not contiguous in memory this would copy the whole.
    bounds = torch.stack([torch.stack(picture.aminmax()) for picture in tensor])
    low, high = bounds[:, 0].amin().item(), bounds[:, 1].amax().item()  # NaN anywhere makes both NaN
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(tensor)).sum())
        raise InputError(
            f"{name} holds {bad} of {tensor.numel()} values that are NaN or infinite",
            "Look at the node before it: a VAE in half precision or a division by zero are the usual causes",
        )
    return tensor if low >= 0 and high <= 1 else tensor.clamp(0, 1)
