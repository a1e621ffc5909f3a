"""Runs MODNet: loads the published checkpoints, and turns images into mattes as the reference implementation does."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch

from ..core import tensors
from ..core.engine import Host
from ..core.errors import ModelError
from . import files
from .modnet_network import MODNet

_REFERENCE_SIZE = 512  # pixels of the shorter side, as in the reference implementation's image demo
_MULTIPLE = 32  # sides must be multiples of this: the backbone halves the image five times
_MAX_PIXELS = 1 << 22  # exceeded only by images more than eight times as long as wide; the reference has no limit


class ModnetMasks:
    """MODNet as a `core.engine.MaskSource`."""

    masks_per_image = 1

    def __init__(self, model: MODNet, host: Host) -> None:
        self._model, self._host = model, host

    def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
        """``[H,W,3 or 4]`` -> ``[1,H,W]``, soft."""
        # Look it up for each image: to free memory, the host may have moved the model off the device.
        model = self._host.on_device(self._model, _copy)
        return predict(model, image.unsqueeze(0))  # [H,W,C] -> [1,H,W,C]


def _copy(model: MODNet, dtype: torch.dtype) -> MODNet:
    """A copy in float32, whichever dtype the host prefers: MODNet is small, and its normalization needs float32."""
    return copy.deepcopy(model)


def load_modnet(path: str | Path, device: torch.device | str = "cpu") -> MODNet:
    """MODNet with the weights of a published checkpoint (``.ckpt``), on ``device``, ready for `predict`.

    Raises:
        ModelError: The file is not readable, is incomplete, is not a checkpoint, or contains another network.
        MemoryError: Not enough memory for it.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a dozen kinds: missing files, damaged archives, pickles of other objects
        raise files.machine_error(Path(path), error) or ModelError(
            f"{path} cannot be read as a MODNet checkpoint ({_first_line(error)})",
            "The file may be incomplete or a different file of that name; delete it and download it again",
        ) from error
    model = MODNet()
    problem = _explain_mismatch(weights, model.state_dict())
    if problem:
        raise ModelError(
            f"{path} is not a MODNet checkpoint: {problem}",
            "Use modnet_photographic_portrait_matting.ckpt or modnet_webcam_portrait_matting.ckpt, unchanged",
        )
    model.load_state_dict({_plain_name(name): weight for name, weight in weights.items()})
    return model.eval().requires_grad_(False).to(device)


def _plain_name(name: str) -> str:
    """The published checkpoints were saved from DataParallel, which adds ``module.`` to every name."""
    return name.removeprefix("module.")


def _explain_mismatch(weights: object, expected: dict[str, torch.Tensor]) -> str | None:
    """Explain why ``weights`` are not those of this network; None if they are."""
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        return f"it contains a {type(weights).__name__} instead of named weights"
    by_name = {_plain_name(name): weight for name, weight in weights.items()}
    missing = [name for name in expected if name not in by_name]
    unexpected = [name for name in by_name if name not in expected]
    if missing or unexpected:
        return "; ".join(
            _format_names(kind, names) for kind, names in (("missing", missing), ("unexpected", unexpected)) if names
        )
    for name, weight in by_name.items():
        shape = list(weight.shape) if isinstance(weight, torch.Tensor) else type(weight).__name__
        if shape != list(expected[name].shape):
            return f"{name} is {shape} instead of {list(expected[name].shape)}"
    return None


def _format_names(kind: str, names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{kind}: {', '.join(names[:limit])}{more}"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:120]}"


def predict(model: MODNet, image: torch.Tensor) -> torch.Tensor:
    """Compute how much of each pixel belongs to people.

    The network gets the image in -1..1, at the size of `network_size`, as in the reference implementation.

    Args:
        model: From `load_modnet`.
        image: ``[B,H,W,C]``, RGB in 0..1; a fourth channel is ignored. All images are processed in one pass.

    Returns:
        ``[B,H,W]`` in 0..1, not stretched, on the model's device if that is CUDA, else on the CPU.

    Raises:
        ModelError: The model returned NaN or infinity.
    """
    height, width = image.shape[1:3]
    device = next(model.parameters()).device
    is_common = device.type in ("cpu", "cuda")
    resize_device = device if is_common else torch.device("cpu")  # not every accelerator can resize by area
    rgb = tensors.drop_alpha(image).to(resize_device, torch.float32)
    bchw = tensors.image_to_bchw(tensors.resize_image(rgb, *network_size(height, width), mode="area"))
    if is_common:
        bchw = bchw.contiguous(memory_format=torch.channels_last)  # fastest for convolutions of few channels
    with torch.no_grad():
        logits = model.logits((bchw * 2 - 1).to(device))
        if not logits.isfinite().all():  # the sigmoid would hide infinity
            kind = "NaN" if logits.isnan().any() else "infinity"
            raise ModelError(f"MODNet returned {kind}", "Its file may be damaged; delete it and download it again")
        matte = logits.sigmoid().to(resize_device)
    matte = matte.squeeze(1)  # [B,1,h,w] -> [B,h,w]
    # Shrink by area, as the reference does; enlarging by area would produce visible steps.
    shrinks = height <= matte.shape[1] and width <= matte.shape[2]
    return tensors.resize_mask(matte, height, width, mode="area" if shrinks else "bilinear")


def network_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in pixels at which the network processes an image of ``height`` x ``width``.

    The shorter side becomes 512 pixels, unless 512 is between both sides. Both are rounded down to multiples of 32.
    """
    new_height, new_width = height, width
    if max(height, width) < _REFERENCE_SIZE or min(height, width) > _REFERENCE_SIZE:
        if width >= height:
            new_height, new_width = _REFERENCE_SIZE, int(width / height * _REFERENCE_SIZE)
        else:
            new_height, new_width = int(height / width * _REFERENCE_SIZE), _REFERENCE_SIZE
    scale = min(1.0, math.sqrt(_MAX_PIXELS / (new_height * new_width)))
    return _round_to_multiple(new_height * scale), _round_to_multiple(new_width * scale)


def _round_to_multiple(side: float) -> int:
    return max(1, int(side) // _MULTIPLE) * _MULTIPLE
