"""Computes sigmas with ComfyUI's schedulers, and with its nodes that have schedules of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from ...core.checks import check_choice, describe
from ...core.errors import DependencyError, PackError
from . import run_node, running

# Schedulers beyond ComfyUI's list, which saved workflows name: ComfyUI's node for each, and its inputs.
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
_GITS = re.compile(r"GITS\[coeff=(\d+(?:\.\d+)?)\]")  # a link may carry another coefficient

# A function of another pack's node: (model, sampler_name, steps) -> sigmas.
SchedulerFunction = Callable[[Any, str, int], torch.Tensor]


def names() -> list[str]:
    """All available schedulers: ComfyUI's, those that other packs added to it, and `EXTRA`."""
    own = ["normal", "karras", "simple"]
    if running():
        import comfy.samplers

        own = list(comfy.samplers.KSampler.SCHEDULERS)
    return own + [name for name in EXTRA if name not in own]


def sigmas(
    model: Any, sampler_name: str, scheduler: str, steps: int, function: SchedulerFunction | None = None
) -> torch.Tensor:
    """The sigmas of ``steps`` steps, descending, usually to 0: ``[steps + 1]``, on the CPU. A few schedulers return
    more or fewer.

    Args:
        model: ComfyUI's model.
        sampler_name: Some samplers discard the penultimate sigma; "" for one that is not in ComfyUI's list.
        scheduler: Its name; ignored if ``function`` is not None.
        function: Replaces the scheduler.

    Raises:
        InputError: Unknown scheduler.
        DependencyError: This ComfyUI lacks the node that computes the schedule.
        PackError: ``function`` did not return sigmas.
    """
    if function is not None:
        return _check_sigmas(function(model, sampler_name, steps))
    import comfy.samplers

    discard = sampler_name in comfy.samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS
    values = _run_scheduler(model, scheduler, steps + 1 if discard else steps)
    return torch.cat([values[:-2], values[-1:]]) if discard else values


def _run_scheduler(model: Any, scheduler: str, steps: int) -> torch.Tensor:
    import comfy.samplers

    if scheduler not in comfy.samplers.KSampler.SCHEDULERS:
        gits = _GITS.fullmatch(scheduler) if isinstance(scheduler, str) else None
        if gits:
            return _run_scheduler_node(scheduler, "GITSScheduler", {"coeff": float(gits[1]), "denoise": 1.0}, steps)
        if scheduler in EXTRA:
            return _run_scheduler_node(scheduler, *EXTRA[scheduler], steps)
        check_choice(scheduler, "scheduler", names())
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps).cpu()


def _run_scheduler_node(scheduler: str, node: str, inputs: dict[str, Any], steps: int) -> torch.Tensor:
    try:
        return torch.as_tensor(run_node(node, steps=steps, **inputs)[0]).cpu()
    except KeyError:
        raise DependencyError(
            f"The scheduler {describe(scheduler)} is computed by ComfyUI's node {node}, which this ComfyUI lacks",
            "Update ComfyUI, or choose another scheduler",
        ) from None


def _check_sigmas(values: Any) -> torch.Tensor:
    if not isinstance(values, torch.Tensor) or values.ndim != 1 or len(values) < 2 or not torch.isfinite(values).all():
        raise PackError(
            f"scheduler_func_opt returned {describe(values)}, not the sigmas of a schedule",
            "Check the node that it comes from, or disconnect it",
        )
    return values.detach().float().cpu()
