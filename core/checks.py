"""Input checks: masks and images of one shape and dtype, numbers within their range.

The contracts: a *mask* is float32 ``[B,H,W]`` in 0..1, an *image* is float32 ``[B,H,W,C]`` in 0..1.
Nothing is changed in place; a tensor that already conforms is returned as it is.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from typing import Any, TypeGuard

import numpy as np
import torch

from .errors import InputError


def as_mask_batch(value: object, name: str = "mask") -> torch.Tensor:
    """Bring a mask to float32 ``[B,H,W]`` in 0..1, on its own device.

    Args:
        value: Floating point or boolean tensor ``[H,W]``, ``[B,H,W]`` or ``[B,1,H,W]``. Values outside 0..1 are
            clamped. A batch of 0 masks is allowed: nothing is selected.
        name: The input's name, for messages.

    Raises:
        InputError: Not a dense tensor, wrong dtype or rank, masks without a pixel, NaN or infinity.
    """
    if isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.layout == torch.strided:
        value = value.float()
    tensor = _float32_tensor(value, name, "a mask", code="not a mask")
    if tensor.ndim == 2:
        tensor = tensor.unsqueeze(0)  # [H,W] -> [1,H,W]
    elif tensor.ndim == 4 and tensor.shape[1] == 1:
        tensor = tensor.squeeze(1)  # [B,1,H,W] -> [B,H,W]
    elif tensor.ndim != 3:
        raise InputError(
            f"{name} has shape {list(tensor.shape)}, which is not a mask",
            "It must be [height, width], [batch, height, width] or [batch, 1, height, width]",
            code="mask shape",
        )
    if len(tensor) == 0 and 0 not in tensor.shape[1:]:
        return tensor
    return _finite_unit_range(tensor, name)


def as_image_batch(value: object, name: str = "image", clamp: bool = True) -> torch.Tensor:
    """Bring an image to float32 ``[B,H,W,C]`` in 0..1 with C = 3 (RGB) or 4 (RGBA), on its own device.

    Args:
        value: Floating point tensor ``[B,H,W,C]`` or ``[H,W,C]`` with C = 1, 3 or 4. Gray becomes RGB.
            Values outside 0..1 are clamped.
        name: The input's name, for messages.
        clamp: False keeps values outside 0..1, for callers that return parts of the image unchanged.

    Raises:
        InputError: Not a dense tensor, wrong dtype, rank or number of channels, empty, NaN or infinity.
    """
    tensor = _float32_tensor(value, name, "an image", code="not an image")
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(0)  # [H,W,C] -> [1,H,W,C]
    if tensor.ndim != 4 or tensor.shape[-1] not in (1, 3, 4):
        raise InputError(
            f"{name} has shape {list(tensor.shape)}, which is not an image",
            "It must be [batch, height, width, channels] with 1, 3 or 4 channels",
            code="image shape",
        )
    tensor = _finite_unit_range(tensor, name, clamp)
    if tensor.shape[-1] == 1:
        tensor = tensor.expand(-1, -1, -1, 3)  # gray [B,H,W,1] -> [B,H,W,3], a view
    return tensor


def check_mask_count(masks: int, images: int, name: str = "mask") -> None:
    """Check how many masks go with how many images: one for all, one each, any number for a single image, or none.

    Raises:
        InputError: Another number of masks.
    """
    if images > 1 and masks not in (0, 1, images):
        raise InputError(
            f"image is a batch of {images}, and {name} is a batch of {masks}",
            "Use one mask for all images, or one per image; only a single image can have several masks",
        )


def check_choice(value: object, name: str, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise ``InputError`` that lists them."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} is {describe(value)}", f"Choose one of: {', '.join(choices)}")
    return value


def check_text(value: object, name: str) -> str:
    """Return ``value`` if it is text, else raise ``InputError``."""
    if not isinstance(value, str):
        raise InputError(f"{name} is {describe(value)}, which is not text", "Enter a text")
    return value


def is_real(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a real number that can be used like a float: an int, a bool or one of NumPy's, too."""
    return isinstance(value, Real)


def check_number(value: object, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return ``value`` as a float if it is a finite number within ``low``..``high`` (both included).

    Raises:
        InputError: Not a number, NaN or infinite, or out of range.
    """
    return float(_check_range(value, name, low, high, "number"))


def check_whole_number(value: object, name: str, low: float = -math.inf, high: float = math.inf) -> int:
    """As `check_number`, for whole numbers; 3.0 counts as 3, since links may carry a FLOAT."""
    kind = "whole number"
    number = _check_range(value, name, low, high, kind)
    if number != int(number):
        raise InputError(f"{name} is {describe(value)}, which is not a {kind}", f"Use a {kind} {_range(low, high)}")
    return int(number)


def _check_range(value: object, name: str, low: float, high: float, kind: str) -> float:
    """Return ``value`` itself, since floats cannot represent every int. ``kind`` names the expected type in errors."""
    # Compare before converting: an int may be too large for a float.
    if isinstance(value, bool) or not is_real(value) or not -math.inf < value < math.inf:
        raise InputError(f"{name} is {describe(value)}, which is not a {kind}", f"Use a {kind} {_range(low, high)}")
    if not low <= value <= high:
        raise InputError(f"{name} is {describe(value)}, which is out of range", f"Use a {kind} {_range(low, high)}")
    try:
        float(value)
    except OverflowError:
        raise InputError(f"{name} is {describe(value)}, which is too large", "Use a smaller number") from None
    return value


def check_switch(value: object, name: str) -> bool:
    """Return ``value`` as a bool if it is a bool, 1 or 0, since links may carry these.

    Strings are rejected: in Python "false" is truthy.

    Raises:
        InputError: Neither.
    """
    if not is_real(value) or value not in (0, 1):
        raise InputError(f"{name} is {describe(value)}, which is not true or false", "Use true or false")
    return bool(value)


def describe(value: object) -> str:
    """Return a short text for any value, for error messages."""
    return _SHORT.repr(value)


def describe_type(value: object, expected: str) -> str:
    """Return "missing", or the type of ``value`` and the ``expected`` one, for error messages."""
    return "missing" if value is None else f"of type {type(value).__name__}, not {expected}"


class _ShortRepr(reprlib.Repr):
    """`reprlib.repr` that also shortens tensors, arrays and huge integers."""

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, torch.Tensor):
            return "a nested tensor" if x.is_nested else f"a tensor of shape {list(x.shape)}"
        if isinstance(x, np.ndarray):
            return f"an array of shape {list(x.shape)}"
        return super().repr1(x, level)

    def repr_int(self, x: int, level: int) -> str:
        digits = int(x.bit_length() * math.log10(2))
        # Python does not format integers of more than 4300 digits.
        return super().repr_int(x, level) if digits < 500 else f"an int of about {digits} digits"


_SHORT = _ShortRepr()


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return "of any size" if math.isinf(low) else f"of {low:g} or more"
    return f"from {low:g} to {high:g}"


def _float32_tensor(value: object, name: str, kind: str, code: str) -> torch.Tensor:
    """Return ``value`` as a dense float32 tensor of any shape and range; ``kind`` and ``code`` are for errors."""
    if not isinstance(value, torch.Tensor):
        problem = f"{name} is {describe_type(value, kind)}"
        raise InputError(problem, f"Use a tensor that contains {kind}", code=code)
    dtype = str(value.dtype).removeprefix("torch.")
    if not value.dtype.is_floating_point:
        raise InputError(
            f"{name} has dtype {dtype}, which is not floating point",
            "Convert it to float with values from 0 to 1 (8-bit values: divide by 255)",
        )
    if value.layout != torch.strided or value.is_meta or value.is_nested:
        layout = "meta" if value.is_meta else "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
        remedy = "Use a dense tensor; .to_dense() converts a sparse one"
        raise InputError(f"{name} is a {layout} tensor", remedy)
    if value.requires_grad:  # nothing here is trained
        value = value.detach()
    try:
        return value.resolve_neg().to(torch.float32)  # NumPy cannot read a lazily negated tensor
    except NotImplementedError:  # torch cannot convert every dtype
        raise InputError(f"{name} has dtype {dtype}", "Convert it to float32") from None


def _finite_unit_range(tensor: torch.Tensor, name: str, clamp: bool = True) -> torch.Tensor:
    """Check that there are values and all are finite, and clamp them to 0..1. Copies only where needed."""
    if tensor.numel() == 0:
        raise InputError(
            f"{name} is empty: its shape is {list(tensor.shape)}",
            "It needs at least one image with at least one pixel",
            code="empty input",
        )
    # A single aminmax pass finds both. Per image, since on a non-contiguous batch it would copy the whole batch.
    lows, highs = zip(*map(torch.aminmax, tensor))
    low, high = torch.stack(lows).amin().item(), torch.stack(highs).amax().item()  # NaN anywhere makes both NaN
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(tensor)).sum())
        raise InputError(
            f"{name} contains NaN or infinity in {bad} of {tensor.numel()} values",
            "Check its source: the usual causes are a VAE in half precision and a division by zero",
            code="input not finite",
        )
    return tensor.clamp(0, 1) if clamp and (low < 0 or high > 1) else tensor


def setting(default: Any, check: Callable[..., Any], **limits: Any) -> Any:
    """A field of `Settings` whose value becomes ``check(value, name, **limits)``."""
    return dataclasses.field(default=default, metadata={"check": partial(check, **limits)})


class Settings:
    """Base of frozen dataclasses with fields made by `setting`."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):  # pyright: ignore[reportArgumentType] - subclasses are dataclasses
            value = each.metadata["check"](getattr(self, each.name), each.name)
            object.__setattr__(self, each.name, value)
