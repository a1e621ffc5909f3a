"""What ComfyUI does for the detailer, put together."""

from __future__ import annotations

from typing import Any

import torch

from ...core.checks import describe
from ...core.detailer import Backend
from ...core.errors import InputError
from . import ComfyHost, device, running
from .sampling import HostSampler
from .schedulers import SchedulerFunction
from .vae import HostVae


def backend(vae: Any, hook: object | None, scheduler_function: SchedulerFunction | None) -> Backend:
    """ComfyUI behind the detailer.

    Args:
        vae: ComfyUI's VAE.
        hook: A DETAILER_HOOK, or None.
        scheduler_function: A SCHEDULER_FUNC, or None.

    Raises:
        InputError: The scheduler function is not one.
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
    )


def max_resolution() -> int:
    """The longest side that ComfyUI's widgets allow, pixels."""
    if not running():
        return 16384
    import nodes

    return nodes.MAX_RESOLUTION


def with_text(clip: Any, conditioning: Any, text: str) -> Any:
    """A conditioning with ``text`` added to it: its tokens follow those that are there.

    Raises:
        InputError: The pipe's CLIP is not the one that the conditioning comes from.
    """
    added, about = clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][:2]  # [1,tokens,width]
    joined = []
    for tokens, details in conditioning:
        if tokens.ndim != added.ndim or tokens.shape[-1] != added.shape[-1]:
            raise InputError(
                f"region_prompts cannot be added to the positive prompt: it is {tokens.shape[-1]} wide, what the "
                f"pipe's CLIP makes {added.shape[-1]}",
                "Give the pipe the CLIP that the positive prompt was made with",
            )
        rows = added.to(tokens).expand(len(tokens), *added.shape[1:])
        details = dict(details)
        if "attention_mask" in details or "attention_mask" in about:
            counted = torch.cat([_which_count(tokens, details), _which_count(rows, about)], dim=1)
            details["attention_mask"] = counted
        joined.append([torch.cat([tokens, rows], dim=1), details])
    return joined


def _which_count(tokens: torch.Tensor, details: dict[str, Any]) -> torch.Tensor:
    """Which of ``tokens`` ``[B,tokens,width]`` the model looks at, as some text encoders tell it: ``[B,tokens]``. All
    of them where nothing is told that fits."""
    told = details.get("attention_mask")
    if told is None or told.ndim != 2 or told.shape[1] != tokens.shape[1]:
        return torch.ones(tokens.shape[:2])
    return told.float().cpu().expand(tokens.shape[:2])
