"""The detailer's connection to ComfyUI."""

from __future__ import annotations

from typing import Any

import torch

from ...core.checks import describe
from ...core.detail.detail import Backend
from ...core.errors import InputError
from . import ComfyHost, device, running
from .image_holders import ComfyObjects
from .sampling import HostSampler
from .schedulers import SchedulerFunction
from .vae import HostVae


def backend(vae: Any, hook: object | None, scheduler_function: SchedulerFunction | None) -> Backend:
    """A `Backend` that runs the detailer on ComfyUI.

    Args:
        vae: ComfyUI's VAE.
        hook: A DETAILER_HOOK, or None.
        scheduler_function: A SCHEDULER_FUNC, or None.

    Raises:
        InputError: ``scheduler_function`` is not callable.
    """
    if scheduler_function is not None and not callable(scheduler_function):
        raise InputError(
            f"scheduler_func_opt is {describe(scheduler_function)}, not a scheduler function",
            "Connect an output of type SCHEDULER_FUNC, or nothing",
        )
    return Backend(
        sampler=HostSampler(scheduler_function),
        vae=HostVae(vae),
        hook=hook,
        device=device(),
        host=ComfyHost(),
        objects=ComfyObjects(),
    )


def max_resolution() -> int:
    """The longest side that ComfyUI's widgets allow, in pixels."""
    if not running():
        return 16384
    import nodes

    return nodes.MAX_RESOLUTION


def append_text(clip: Any, conditioning: Any, text: str) -> Any:
    """Append the tokens of ``text`` to a conditioning.

    Raises:
        InputError: ``clip`` is not the text encoder that the conditioning comes from.
    """
    new_tokens, new_details = clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][:2]  # [1,tokens,width]
    result = []
    for tokens, details in conditioning:
        if tokens.ndim != new_tokens.ndim or tokens.shape[-1] != new_tokens.shape[-1]:
            raise InputError(
                f"region_prompts cannot be added to the positive prompt: its embedding width is {tokens.shape[-1]}, "
                f"but that of the pipe's CLIP is {new_tokens.shape[-1]}",
                "Put the CLIP that encoded the positive prompt into the pipe",
            )
        rows = new_tokens.to(tokens).expand(len(tokens), *new_tokens.shape[1:])
        details = dict(details)
        if "attention_mask" in details or "attention_mask" in new_details:
            masks = [_attention_mask(tokens, details), _attention_mask(rows, new_details)]
            details["attention_mask"] = torch.cat(masks, dim=1)
        result.append([torch.cat([tokens, rows], dim=1), details])
    return result


def _attention_mask(tokens: torch.Tensor, details: dict[str, Any]) -> torch.Tensor:
    """The attention mask ``[B,tokens]`` of ``tokens`` ``[B,tokens,width]``: the text encoder's, or all ones if it has
    none of that length."""
    mask = details.get("attention_mask")
    if mask is None or mask.ndim != 2 or mask.shape[1] != tokens.shape[1]:
        return torch.ones(tokens.shape[:2])
    return mask.float().cpu().expand(tokens.shape[:2])
