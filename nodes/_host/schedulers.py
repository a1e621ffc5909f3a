"""Noise levels of a run, from ComfyUI's schedulers and from the nodes of it that have some of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from ...core.checks import check_choice, describe
from ...core.errors import DependencyError, PackError
from . import node_output, running

# In the editor's list besides ComfyUI's own; saved files name them. For each ComfyUI's node, and its inputs.
EXTRA: dict[str, tuple[str, dict[str, Any]]] = {
    "AYS SDXL": ("AlignYourStepsScheduler", {"model_type": "SDXL", "denoise": 1.0}),
    "AYS SD1": ("AlignYourStepsScheduler", {"model_type": "SD1", "denoise": 1.0}),
    "AYS SVD": ("AlignYourStepsScheduler", {"model_type": "SVD", "denoise": 1.0}),
    "GITS[coeff=1.2]": ("GITSScheduler", {"coeff": 1.2, "denoise": 1.0}),
    "LTXV[default]": ("LTXVScheduler", {"max_shift": 2.05, "base_shift": 0.95, "stretch": True, "terminal": 0.1}),
    "OSS FLUX": ("OptimalStepsScheduler", {"model_type": "FLUX", "denoise": 1.0}),
    "OSS Wan": ("OptimalStepsScheduler", {"model_type": "Wan", "denoise": 1.0}),
    "OSS Chroma": ("OptimalStepsScheduler", {"model_type": "Chroma", "denoise": 1.0}),
}
_GITS = re.compile(r"GITS\[coeff=(\d+(?:\.\d+)?)\]")  # other coefficients come through links

# A function of another pack's node: (model, sampler_name, steps) -> sigmas.
SchedulerFunction = Callable[[Any, str, int], torch.Tensor]


def names() -> list[str]:
    """Every scheduler that can be asked for: ComfyUI's, those that other packs added to it, the extra ones."""
    own = ["normal", "karras", "simple"]
    if running():
        import comfy.samplers

        own = list(comfy.samplers.KSampler.SCHEDULERS)
    return own + [name for name in EXTRA if name not in own]


def sigmas(
    model: Any, sampler_name: str, scheduler: str, steps: int, function: SchedulerFunction | None = None
) -> torch.Tensor:
    """The levels of ``steps`` steps, from noise down to (as a rule) 0: ``[steps + 1]``, on the CPU. A few schedulers
    give some more or fewer.

    Args:
        model: ComfyUI's model.
        sampler_name: Some samplers leave out the last level but one; "" for a sampler that is none of ComfyUI's list.
        scheduler: Its name; not looked at where there is a ``function``.
        function: What computes the levels instead.

    Raises:
        InputError: No such scheduler.
        DependencyError: This ComfyUI lacks the node that computes it.
        PackError: ``function`` gave no levels.
    """
    if function is not None:
        return _checked(function(model, sampler_name, steps))
    import comfy.samplers

    shorter = sampler_name in comfy.samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS
    levels = _named(model, scheduler, steps + 1 if shorter else steps)
    return torch.cat([levels[:-2], levels[-1:]]) if shorter else levels


def _named(model: Any, scheduler: str, steps: int) -> torch.Tensor:
    import comfy.samplers

    if scheduler not in comfy.samplers.KSampler.SCHEDULERS:
        gits = _GITS.fullmatch(scheduler) if isinstance(scheduler, str) else None
        if gits:
            return _of_node(scheduler, "GITSScheduler", {"coeff": float(gits[1]), "denoise": 1.0}, steps)
        if scheduler in EXTRA:
            return _of_node(scheduler, *EXTRA[scheduler], steps)
        check_choice(scheduler, "scheduler", names())
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps).cpu()


def _of_node(scheduler: str, node: str, inputs: dict[str, Any], steps: int) -> torch.Tensor:
    try:
        return torch.as_tensor(node_output(node, steps=steps, **inputs)[0]).cpu()
    except KeyError:
        raise DependencyError(
            f"The scheduler {describe(scheduler)} is computed by ComfyUI's node {node}, which this ComfyUI lacks",
            "Update ComfyUI, or take another scheduler",
        ) from None


def _checked(levels: Any) -> torch.Tensor:
    if not isinstance(levels, torch.Tensor) or levels.ndim != 1 or len(levels) < 2 or not torch.isfinite(levels).all():
        raise PackError(
            f"scheduler_func_opt gave {describe(levels)}, not the levels of a schedule",
            "Look at the node that makes it, or take it off",
        )
    return levels.detach().float().cpu()
