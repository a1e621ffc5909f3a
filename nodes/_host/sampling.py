"""ComfyUI's samplers as the detailer wants them: parts of a schedule, noise by seed, one progress bar for the node."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from ...core.checks import check_choice
from ...core.engine import Sampling
from ...core.errors import DependencyError, PackError
from . import node_output, running, schedulers

# Of ComfyUI's samplers those that treat each row by itself: no noise is drawn on the way, and no size of a step is
# found from the whole batch (dpm_adaptive). ddim is not here, for it draws other noise for what lies around the mask.
# What is not named, such as another pack's sampler, is taken to depend on the batch.
# fmt: off
ROW_BY_ROW = frozenset({
    "euler", "euler_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0", "dpm_2", "lms", "dpm_fast", "dpmpp_2m",
    "dpmpp_2m_cfg_pp", "ipndm", "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp", "gradient_estimation",
    "gradient_estimation_cfg_pp", "uni_pc", "uni_pc_bh2",
})
# fmt: on
# Those that draw the path of a Brownian motion over the levels, and whether they do so on the CPU. Saved workflows
# expect one path over the whole schedule, but for the "heun" kind one over the levels that are run.
_BROWNIAN = {
    name + suffix: suffix == ""
    for name in ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde")
    for suffix in ("", "_gpu")
}


def names() -> list[str]:
    """Every sampler that can be asked for."""
    if not running():
        return sorted(ROW_BY_ROW)
    import comfy.samplers

    return list(comfy.samplers.KSampler.SAMPLERS)


class _Levels(NamedTuple):
    """Of noise, from much to none: ``[n]`` each.

    Attributes:
        whole: All of the schedule.
        part: Those of this run.
        span: Those of this run and of the others that share the work with it.
    """

    whole: torch.Tensor
    part: torch.Tensor
    span: torch.Tensor


@dataclass(frozen=True)
class _Midway:
    """A run that stopped in mid-schedule.

    Attributes:
        x: ``[B,C,h,w]`` as the sampler left it: in the model's own scale, with the noise of the level reached.
        levels: Of its schedule.
        draw: Where the sampler takes its noise from; None where it draws none.
    """

    x: torch.Tensor
    levels: _Levels
    draw: Callable | None


@dataclass
class HostSampler:
    """An `engine.Sampler` that is ComfyUI's.

    Attributes:
        scheduler_function: What computes the levels instead of the scheduler, or None.
    """

    scheduler_function: schedulers.SchedulerFunction | None = None
    _bar: _Bar | None = None
    _previewers: dict[tuple[int, Any], tuple[Any, Any]] = field(default_factory=dict)

    def expect(self, steps: int, done: int = 0) -> None:
        self._bar = _Bar(steps, done)

    def rows_are_independent(self, sampler_name: str) -> bool:
        return sampler_name in ROW_BY_ROW

    def with_soft_noise_mask(self, model: Any) -> Any:
        if "denoise_mask_function" in model.model_options:
            return model
        try:
            return node_output("DifferentialDiffusion", model=model)[0]
        except KeyError:
            raise DependencyError(
                "A blurred noise mask needs ComfyUI's node DifferentialDiffusion, which this ComfyUI does not have",
                "Set noise_mask_feather to 0, or update ComfyUI",
            ) from None

    def sample(self, run: Sampling) -> Any:
        """See `engine.Sampler`. To the end of a schedule the result is the model's last answer, which for most
        samplers is what they end at; for those that go on from it (lms, ipndm, deis) saved workflows expect it.

        Raises:
            InputError: No such sampler or scheduler.
            PackError: The run cannot be divided between two models.
        """
        import comfy.model_management
        import comfy.sample
        import comfy.samplers

        comfy.model_management.throw_exception_if_processing_interrupted()
        levels = self._levels(run)
        given = run.latent["samples"]
        if len(levels.part) < 2:
            return None if run.leave_noise else given
        sampler = run.custom_sampler
        if sampler is None:
            check_choice(run.sampler_name, "sampler_name", names())
            sampler = comfy.samplers.sampler_object(run.sampler_name)
        clean = comfy.sample.fix_empty_latent_channels(run.model, given)
        steered = _Steered(sampler, run, levels)
        steps = _Steps(
            self._bar or _Bar(len(levels.part) - 1), len(run.seeds), len(levels.part) - 1, self._previewer(run.model)
        )
        samples = _denoised(run, _noise(run, clean), steered.sampler, levels.part, clean, steps)
        steps.finish()
        if run.leave_noise:
            return steered.midway
        if steps.x0 is not None:
            samples = run.model.model.process_latent_out(steps.x0.float()).to(samples.device)
        return samples.reshape(given.shape) if samples.numel() == given.numel() else samples

    def _levels(self, run: Sampling) -> _Levels:
        if run.resume is not None:
            levels = run.resume.levels.whole
        else:
            name = run.sampler_name if run.custom_sampler is None else ""
            function = self.scheduler_function
            levels = schedulers.sigmas(run.model, name, run.scheduler, run.total_steps, function)
        missing = max(0, run.total_steps + 1 - len(levels))  # a scheduler may merge levels: the last steps are run
        start, end = max(0, run.start_step - missing), max(0, run.end_step - missing)
        part = levels[start : end + 1].clone()
        if not run.leave_noise and end + 1 < len(levels):  # it made more than it was asked for
            part[-1] = 0
        return _Levels(levels, part, levels[start:] if run.resume is None else run.resume.levels.span)

    def _previewer(self, model: Any) -> Any:
        """ComfyUI's latent preview. Kept, for making one may mean to load a model."""
        import latent_preview

        kind = model.model.latent_format
        key = id(kind), model.load_device
        if key not in self._previewers:
            self._previewers[key] = kind, latent_preview.get_previewer(model.load_device, kind)
        return self._previewers[key][1]


def _noise(run: Sampling, clean: torch.Tensor) -> torch.Tensor:
    """Shaped as ``clean``, made as ComfyUI makes it for each seed's part of the rows."""
    import comfy.sample

    if run.noise is not None:
        return run.noise.reshape(clean.shape)
    if len(run.seeds) == 1:
        return comfy.sample.prepare_noise(clean, run.seeds[0], run.latent.get("batch_index"))
    parts = clean.tensor_split(len(run.seeds))
    return torch.cat([comfy.sample.prepare_noise(part, seed) for part, seed in zip(parts, run.seeds)])


def _mask_of_each_row(mask: torch.Tensor | None, clean: torch.Tensor) -> torch.Tensor | None:
    """Reshape a noise mask ``[B,y,x]`` or ``[B,1,y,x]`` so that each row of the latent gets its own. For latents with a
    time axis ``[B,C,t,h,w]``, ComfyUI would take the masks as frames of one video."""
    if mask is None or clean.ndim != 5 or mask.ndim == 5:
        return mask
    return mask.reshape(-1, 1, 1, *mask.shape[-2:])  # -> [B,1,1,y,x]


def _denoised(
    run: Sampling, noise: torch.Tensor, sampler: Any, levels: torch.Tensor, clean: torch.Tensor, steps: _Steps
) -> torch.Tensor:
    """ComfyUI's own run of a sampler."""
    import comfy.model_management
    import comfy.sample
    import comfy.samplers
    import comfy.utils
    import node_helpers

    common = {"callback": steps, "disable_pbar": not comfy.utils.PROGRESS_BAR_ENABLED, "seed": run.seeds[0]}
    mask = _mask_of_each_row(run.latent.get("noise_mask"), clean)
    if not isinstance(run.negative, str):
        return comfy.sample.sample_custom(
            run.model, noise, run.cfg, sampler, levels, run.positive, run.negative, clean, noise_mask=mask, **common
        )
    # A placeholder: models that take the scale of their guidance as an input, and know nothing negative.
    guider = comfy.samplers.CFGGuider(run.model)
    positive = node_helpers.conditioning_set_values(run.positive, {"guidance": run.cfg})
    guider.inner_set_conds({"positive": positive})
    samples = guider.sample(noise, clean, sampler, levels, denoise_mask=mask, **common)
    return samples.to(comfy.model_management.intermediate_device())


class _Steered:
    """A sampler whose run can begin and end in mid-schedule.

    ComfyUI makes the first ``x`` from the clean latent and noise, and scales the last one back, which for flow models
    divides by what may be small. So the function inside the sampler is wrapped, and its ``x`` taken and given as it is.
    The noise stays the reference for what lies outside the mask.

    Attributes:
        sampler: To be run.
        midway: Where it stopped.
    """

    def __init__(self, sampler: Any, run: Sampling, levels: _Levels) -> None:
        self.sampler, self._run, self._levels = sampler, run, levels
        self.midway: _Midway | None = None
        self._divided = run.leave_noise or run.resume is not None
        path = run.custom_sampler is None and run.sampler_name in _BROWNIAN and "heun" not in run.sampler_name
        if not (self._divided or path):
            return
        self._function = getattr(sampler, "sampler_function", None)
        if not callable(self._function):
            raise PackError(
                f"The sampler {type(sampler).__name__} cannot hand over to a refiner in mid-schedule",
                "Take the refiner or the hook's sampler off",
            )
        self._draws = "noise_sampler" in inspect.signature(self._function).parameters
        self.sampler = copy.copy(sampler)
        self.sampler.sampler_function = self._sampled

    def _sampled(self, model: Any, x: torch.Tensor, sigmas: torch.Tensor, **options: Any) -> torch.Tensor:
        run = self._run
        if run.resume is not None:
            x = run.resume.x.to(x, copy=True)
        if self._divided and hasattr(model, "sigmas"):
            # From these differential diffusion finds which share of the steps is done.
            model.sigmas = self._levels.span.to(sigmas)
        if self._draws and options.get("noise_sampler") is None:
            options["noise_sampler"] = self._draw(x, options.get("extra_args") or {})
        x = self._function(model, x, sigmas, **options)
        if run.leave_noise:
            self.midway = _Midway(x, self._levels, options.get("noise_sampler"))
        return x

    def _draw(self, x: torch.Tensor, extra_args: dict[str, Any]) -> Callable | None:
        """Where noise comes from that is drawn on the way: one source for the whole schedule, whoever runs it."""
        from comfy.k_diffusion import sampling

        if self._run.resume is not None:
            return _draw_for_device(self._run.resume, x.device)
        seed, name = extra_args.get("seed"), self._run.sampler_name
        if self._run.custom_sampler is not None:
            return None
        if name not in _BROWNIAN:
            return sampling.default_noise_sampler(x, seed=seed)
        levels = self._levels.whole.to(x.device)
        low, high = levels[levels > 0].min(), levels.max()
        return sampling.BrownianTreeNoiseSampler(x, low, high, seed=seed, cpu=_BROWNIAN[name])


def _draw_for_device(midway: _Midway, device: torch.device) -> Callable | None:
    """The noise sampler of the earlier run, for a model that may be on another device."""
    draw, source = midway.draw, midway.x.device
    if draw is None or source == device:
        return draw
    return lambda *sigmas: draw(*(torch.as_tensor(sigma).to(source) for sigma in sigmas)).to(device)


class _Bar:
    """One progress bar for all runs of a node."""

    def __init__(self, total: int, done: int = 0) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(max(1, total))
        self.total, self.done = total, done

    def show(self, done: int, preview: Any = None) -> None:
        self.total = max(self.total, done)  # a hook may have asked for more
        self._bar.update_absolute(done, max(1, self.total), preview)


class _Steps:
    """What ComfyUI calls after each step of one run.

    Attributes:
        x0: What the model took the latent for at the last step, in its own scale.
    """

    def __init__(self, bar: _Bar, rows: int, steps: int, previewer: Any) -> None:
        self._bar, self._rows, self._steps, self._previewer = bar, rows, steps, previewer
        self.x0: torch.Tensor | None = None

    def __call__(self, step: int, x0: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
        import comfy.model_management

        self.x0 = x0
        preview = self._previewer.decode_latent_to_preview_image("JPEG", x0) if self._previewer else None
        done = min(step + 1, self._steps)  # a sampler that chooses its own steps may take more
        self._bar.show(self._bar.done + done * self._rows, preview)
        comfy.model_management.throw_exception_if_processing_interrupted()

    def finish(self) -> None:
        """The run is over, however many steps it told of."""
        self._bar.done += self._steps * self._rows
        self._bar.show(self._bar.done)
