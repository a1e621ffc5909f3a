"""Adapts ComfyUI's samplers to the detailer: partial schedules, noise by seed, one progress bar per node."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from ...core.checks import check_choice
from ...core.engine import SamplerRun
from ...core.errors import DependencyError, PackError
from . import run_node, running, schedulers

# ComfyUI's samplers that treat each row independently: they draw no noise while sampling, and compute no step size from
# the whole batch (as dpm_adaptive does). ddim is missing because it draws different noise outside the mask.
# Other samplers, such as those of other packs, are assumed to depend on the batch.
# fmt: off
ROW_BY_ROW = frozenset({
    "euler", "euler_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0", "dpm_2", "lms", "dpm_fast", "dpmpp_2m",
    "dpmpp_2m_cfg_pp", "ipndm", "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp", "gradient_estimation",
    "gradient_estimation_cfg_pp", "uni_pc", "uni_pc_bh2",
})
# fmt: on
# Samplers that draw noise from a Brownian tree over the sigmas; True for trees on the CPU. Saved workflows expect one
# tree over the whole schedule, but for the "heun" samplers one over the sigmas of the run.
_BROWNIAN = {
    name + suffix: suffix == ""
    for name in ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde")
    for suffix in ("", "_gpu")
}


def names() -> list[str]:
    """All available samplers."""
    if not running():
        return sorted(ROW_BY_ROW)
    import comfy.samplers

    return list(comfy.samplers.KSampler.SAMPLERS)


class _Sigmas(NamedTuple):
    """Sigmas in descending order, ``[n]`` each.

    Attributes:
        all: The whole schedule.
        run: The sigmas of this run.
        shared: The sigmas of all runs that share the schedule, from the start of the first run.
    """

    all: torch.Tensor
    run: torch.Tensor
    shared: torch.Tensor


@dataclass(frozen=True)
class _PartialRun:
    """A run that stopped partway through its schedule.

    Attributes:
        x: ``[B,C,h,w]`` as the sampler left it: in the model's scale, with the noise of the sigma reached.
        sigmas: The sigmas of its schedule.
        noise_sampler: The source of noise drawn while sampling; None if the sampler draws none.
    """

    x: torch.Tensor
    sigmas: _Sigmas
    noise_sampler: Callable | None


@dataclass
class HostSampler:
    """An `engine.Sampler` that runs ComfyUI's samplers.

    Attributes:
        scheduler_function: Computes the sigmas instead of the scheduler, or None.
    """

    scheduler_function: schedulers.SchedulerFunction | None = None
    _bar: _Bar | None = None
    _previewers: dict[tuple[int, Any], tuple[Any, Any]] = field(default_factory=dict)

    def set_total_steps(self, steps: int, done: int = 0) -> None:
        self._bar = _Bar(steps, done)

    def rows_are_independent(self, sampler_name: str) -> bool:
        return sampler_name in ROW_BY_ROW

    def add_differential_diffusion(self, model: Any) -> Any:
        if "denoise_mask_function" in model.model_options:
            return model
        try:
            return run_node("DifferentialDiffusion", model=model)[0]
        except KeyError:
            raise DependencyError(
                "A blurred noise mask needs ComfyUI's node DifferentialDiffusion, which this ComfyUI lacks",
                "Set noise_mask_feather to 0, or update ComfyUI",
            ) from None

    def sample(self, run: SamplerRun) -> Any:
        """See `engine.Sampler`. A run to the end of the schedule returns the model's last prediction (x0), where most
        samplers end. For those that extrapolate from it (lms, ipndm, deis), saved workflows expect it too.

        Raises:
            InputError: Unknown sampler or scheduler.
            PackError: The sampler cannot stop or start partway through a schedule.
        """
        import comfy.model_management
        import comfy.sample
        import comfy.samplers

        comfy.model_management.throw_exception_if_processing_interrupted()
        sigmas = self._compute_sigmas(run)
        latent = run.latent["samples"]
        steps = len(sigmas.run) - 1
        if steps < 1:
            return None if run.leave_noise else latent
        sampler = run.custom_sampler
        if sampler is None:
            check_choice(run.sampler_name, "sampler_name", names())
            sampler = comfy.samplers.sampler_object(run.sampler_name)
        clean = comfy.sample.fix_empty_latent_channels(run.model, latent)
        resumable = _ResumableSampler(sampler, run, sigmas)
        callback = _StepCallback(self._bar or _Bar(steps), len(run.seeds), steps, self._get_previewer(run.model))
        samples = _run_sampler(run, _make_noise(run, clean), resumable.sampler, sigmas.run, clean, callback)
        callback.finish()
        if run.leave_noise:
            return resumable.partial_run
        if callback.x0 is not None:
            samples = run.model.model.process_latent_out(callback.x0.float()).to(samples.device)
        return samples.reshape(latent.shape) if samples.numel() == latent.numel() else samples

    def _compute_sigmas(self, run: SamplerRun) -> _Sigmas:
        if run.resume is not None:
            sigmas = run.resume.sigmas.all
        else:
            name = run.sampler_name if run.custom_sampler is None else ""
            function = self.scheduler_function
            sigmas = schedulers.sigmas(run.model, name, run.scheduler, run.total_steps, function)
        missing = max(0, run.total_steps + 1 - len(sigmas))  # if a scheduler merges sigmas, run the last steps
        start, end = max(0, run.start_step - missing), max(0, run.end_step - missing)
        run_sigmas = sigmas[start : end + 1].clone()
        if not run.leave_noise and end + 1 < len(sigmas):  # the scheduler returned too many
            run_sigmas[-1] = 0
        return _Sigmas(sigmas, run_sigmas, sigmas[start:] if run.resume is None else run.resume.sigmas.shared)

    def _get_previewer(self, model: Any) -> Any:
        """ComfyUI's latent previewer for a model; cached, since creating one may load a model."""
        import latent_preview

        kind = model.model.latent_format
        key = id(kind), model.load_device
        if key not in self._previewers:
            self._previewers[key] = kind, latent_preview.get_previewer(model.load_device, kind)
        return self._previewers[key][1]


def _make_noise(run: SamplerRun, clean: torch.Tensor) -> torch.Tensor:
    """Noise in the shape of ``clean``: each seed's share of the rows gets the noise that ComfyUI generates for it."""
    import comfy.sample

    if run.noise is not None:
        return run.noise.reshape(clean.shape)
    if len(run.seeds) == 1:
        return comfy.sample.prepare_noise(clean, run.seeds[0], run.latent.get("batch_index"))
    parts = clean.tensor_split(len(run.seeds))
    return torch.cat([comfy.sample.prepare_noise(part, seed) for part, seed in zip(parts, run.seeds)])


def _add_time_axis(mask: torch.Tensor | None, clean: torch.Tensor) -> torch.Tensor | None:
    """Add a time axis to a noise mask ``[B,y,x]`` or ``[B,1,y,x]`` if the latent has one (``[B,C,t,h,w]``). Otherwise
    ComfyUI would treat the rows of the mask as frames of one video."""
    if mask is None or clean.ndim != 5 or mask.ndim == 5:
        return mask
    return mask.reshape(-1, 1, 1, *mask.shape[-2:])  # -> [B,1,1,y,x]


def _run_sampler(
    run: SamplerRun,
    noise: torch.Tensor,
    sampler: Any,
    sigmas: torch.Tensor,
    clean: torch.Tensor,
    callback: _StepCallback,
) -> torch.Tensor:
    import comfy.model_management
    import comfy.sample
    import comfy.samplers
    import comfy.utils
    import node_helpers

    common = {"callback": callback, "disable_pbar": not comfy.utils.PROGRESS_BAR_ENABLED, "seed": run.seeds[0]}
    mask = _add_time_axis(run.latent.get("noise_mask"), clean)
    if not isinstance(run.negative, str):
        return comfy.sample.sample_custom(
            run.model, noise, run.cfg, sampler, sigmas, run.positive, run.negative, clean, noise_mask=mask, **common
        )
    # A placeholder: the model has no negative prompt, and its guidance scale is an input.
    guider = comfy.samplers.CFGGuider(run.model)
    positive = node_helpers.conditioning_set_values(run.positive, {"guidance": run.cfg})
    guider.inner_set_conds({"positive": positive})
    samples = guider.sample(noise, clean, sampler, sigmas, denoise_mask=mask, **common)
    return samples.to(comfy.model_management.intermediate_device())


class _ResumableSampler:
    """A sampler whose run can start and stop partway through a schedule.

    ComfyUI computes the first ``x`` from the clean latent and the noise, and scales the last one back, which for flow
    models may divide by a small number. So this wraps the sampler's function, and passes ``x`` on unscaled. Outside
    the mask, the noise remains the reference.

    Attributes:
        sampler: The sampler to run.
        partial_run: The state after a run with ``leave_noise``; else None.
    """

    def __init__(self, sampler: Any, run: SamplerRun, sigmas: _Sigmas) -> None:
        self.sampler, self._run, self._sigmas = sampler, run, sigmas
        self.partial_run: _PartialRun | None = None
        self._is_partial = run.leave_noise or run.resume is not None
        needs_tree = run.custom_sampler is None and run.sampler_name in _BROWNIAN and "heun" not in run.sampler_name
        if not (self._is_partial or needs_tree):
            return
        function = getattr(sampler, "sampler_function", None)
        if not callable(function):
            raise PackError(
                f"The sampler {type(sampler).__name__} cannot switch to a refiner partway through a schedule",
                "Disconnect the refiner, or the hook that chooses this sampler",
            )
        self._function: Callable[..., Any] = function
        self._takes_noise_sampler = "noise_sampler" in inspect.signature(function).parameters
        self.sampler = copy.copy(sampler)
        self.sampler.sampler_function = self._sample

    def _sample(self, model: Any, x: torch.Tensor, sigmas: torch.Tensor, **options: Any) -> torch.Tensor:
        run = self._run
        if run.resume is not None:
            x = run.resume.x.to(x, copy=True)
        if self._is_partial and hasattr(model, "sigmas"):
            # Differential diffusion derives its progress from these.
            model.sigmas = self._sigmas.shared.to(sigmas)
        if self._takes_noise_sampler and options.get("noise_sampler") is None:
            options["noise_sampler"] = self._make_noise_sampler(x, options.get("extra_args") or {})
        x = self._function(model, x, sigmas, **options)
        if run.leave_noise:
            self.partial_run = _PartialRun(x, self._sigmas, options.get("noise_sampler"))
        return x

    def _make_noise_sampler(self, x: torch.Tensor, extra_args: dict[str, Any]) -> Callable | None:
        """Make the source of noise drawn while sampling: one per schedule, shared by all of its runs."""
        from comfy.k_diffusion import sampling

        if self._run.resume is not None:
            return _move_noise_sampler(self._run.resume, x.device)
        seed, name = extra_args.get("seed"), self._run.sampler_name
        if self._run.custom_sampler is not None:
            return None
        if name not in _BROWNIAN:
            return sampling.default_noise_sampler(x, seed=seed)
        sigmas = self._sigmas.all.to(x.device)
        low, high = sigmas[sigmas > 0].min(), sigmas.max()
        return sampling.BrownianTreeNoiseSampler(x, low, high, seed=seed, cpu=_BROWNIAN[name])


def _move_noise_sampler(run: _PartialRun, device: torch.device) -> Callable | None:
    """The noise sampler of an earlier run, for a model that may be on another device."""
    draw, source = run.noise_sampler, run.x.device
    if draw is None or source == device:
        return draw
    return lambda *sigmas: draw(*(torch.as_tensor(sigma).to(source) for sigma in sigmas)).to(device)


class _Bar:
    """A progress bar for all runs of a node."""

    def __init__(self, total: int, done: int = 0) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(max(1, total))
        self.total, self.done = total, done

    def update(self, done: int, preview: Any = None) -> None:
        self.total = max(self.total, done)  # a hook may have added steps
        self._bar.update_absolute(done, max(1, self.total), preview)


class _StepCallback:
    """Called by ComfyUI after each step of a run.

    Attributes:
        x0: The model's prediction at the last step, in the model's scale.
    """

    def __init__(self, bar: _Bar, rows: int, steps: int, previewer: Any) -> None:
        self._bar, self._rows, self._steps, self._previewer = bar, rows, steps, previewer
        self.x0: torch.Tensor | None = None

    def __call__(self, step: int, x0: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
        import comfy.model_management

        self.x0 = x0
        preview = self._previewer.decode_latent_to_preview_image("JPEG", x0) if self._previewer else None
        done = min(step + 1, self._steps)  # adaptive samplers may take more
        self._bar.update(self._bar.done + done * self._rows, preview)
        comfy.model_management.throw_exception_if_processing_interrupted()

    def finish(self) -> None:
        """Complete this run's share of the bar, even if the sampler reported fewer steps."""
        self._bar.done += self._steps * self._rows
        self._bar.update(self._bar.done)
