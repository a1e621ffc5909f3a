"""Sampling and VAEs in versions of ComfyUI, with fake modules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from maskwright.core.engine import SamplerRun
from maskwright.nodes._host.sampling import HostSampler
from maskwright.nodes._host.vae import HostVae

CPU = torch.device("cpu")


class Bar:
    """ComfyUI's progress bar; records every instance."""

    instances: list[Bar]

    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.shown = [(0, total)]
        self.instances.append(self)

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        self.shown.append((value, total))


def default_noise_sampler(x: torch.Tensor, seed: int) -> Callable:
    return lambda sigma, following: torch.ones(x.shape).to(x.device) * (sigma - following)


def sample_noisy(model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None):
    """A sampler that draws noise between steps, in the style of k-diffusion."""
    draw = noise_sampler or default_noise_sampler(x, extra_args["seed"])
    for i in range(len(sigmas) - 1):
        x = x + draw(sigmas[i], sigmas[i + 1])
        callback({"i": i, "denoised": x, "x": x})
    return x


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A running ComfyUI that records the runs of samplers."""
    runs: list[SimpleNamespace] = []

    def sample_custom(
        model, noise, cfg, sampler, levels, positive, negative, clean, noise_mask=None, callback=None, **more: Any
    ) -> torch.Tensor:
        runs.append(SimpleNamespace(noise=noise, clean=clean, mask=noise_mask, **more))
        x, sigmas = (clean + levels[0] * noise).to(model.load_device), levels.to(model.load_device)
        steps = len(levels) - 1
        x = sampler.sampler_function(
            SimpleNamespace(),
            x,
            sigmas,
            extra_args={"seed": more["seed"]},
            callback=lambda step: callback(step["i"], step["denoised"], step["x"], steps),
            disable=True,
        )
        return x.to(CPU)

    def fix_empty_latent_channels(model: Any, latent: torch.Tensor) -> torch.Tensor:
        return latent.unsqueeze(2) if model.dimensions == 3 and latent.ndim == 4 else latent

    def calculate_sigmas(model_sampling: Any, scheduler: str, steps: int) -> torch.Tensor:
        return torch.linspace(steps, 0, steps + 1)

    Bar.instances = []
    management = SimpleNamespace(throw_exception_if_processing_interrupted=lambda: None)
    sample = SimpleNamespace(
        sample_custom=sample_custom,
        fix_empty_latent_channels=fix_empty_latent_channels,
        prepare_noise=lambda latent, seed, inds=None: torch.full_like(latent, float(seed)),
    )
    k_sampler = SimpleNamespace(
        SAMPLERS=["noisy"], SCHEDULERS=["normal"], DISCARD_PENULTIMATE_SIGMA_SAMPLERS=frozenset()
    )
    samplers = SimpleNamespace(
        KSampler=k_sampler,
        sampler_object=lambda name: SimpleNamespace(sampler_function=sample_noisy),
        calculate_sigmas=calculate_sigmas,
    )
    utils = SimpleNamespace(ProgressBar=Bar, PROGRESS_BAR_ENABLED=False)
    sampling = SimpleNamespace(default_noise_sampler=default_noise_sampler)
    k_diffusion = SimpleNamespace(sampling=sampling)
    preview = SimpleNamespace(devices=[])

    def get_previewer(device: torch.device, kind: Any) -> None:
        preview.devices.append(device)

    preview.get_previewer = get_previewer
    modules = {
        "comfy": SimpleNamespace(
            model_management=management, sample=sample, samplers=samplers, utils=utils, k_diffusion=k_diffusion
        ),
        "comfy.model_management": management,
        "comfy.sample": sample,
        "comfy.samplers": samplers,
        "comfy.utils": utils,
        "comfy.k_diffusion": k_diffusion,
        "comfy.k_diffusion.sampling": sampling,
        "latent_preview": preview,
        "node_helpers": SimpleNamespace(),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(runs=runs, preview=preview)


def model_on(device: torch.device = CPU, dimensions: int = 2, latent_format: object = None) -> SimpleNamespace:
    inner = SimpleNamespace(latent_format=latent_format or object(), process_latent_out=lambda x: x)
    return SimpleNamespace(
        model=inner, load_device=device, dimensions=dimensions, model_options={}, get_model_object=lambda name: None
    )


def run_of(model: Any, rows: int = 1, **changes: Any) -> SamplerRun:
    values = {
        "model": model, "positive": [], "negative": [], "cfg": 1.0, "sampler_name": "noisy", "scheduler": "normal",
        "total_steps": 4, "start_step": 0, "end_step": 4, "seeds": tuple(range(rows)),
        "latent": {"samples": torch.zeros(rows, 4, 6, 8)},
    }  # fmt: skip
    return SamplerRun(**{**values, **changes})


@pytest.mark.parametrize("mask_shape", [(3, 6, 8), (3, 1, 12, 16)], ids=["masks", "masks with a channel"])
@pytest.mark.parametrize("in_latent", [False, True], ids=["added by ComfyUI", "from the VAE"])
def test_sample_gives_each_row_its_own_noise_mask_if_latents_have_a_time_axis(
    comfyui: SimpleNamespace, mask_shape: tuple[int, ...], in_latent: bool
) -> None:
    """ComfyUI would take masks [B,y,x] as the frames of one video, and mix those of all regions."""
    masks = torch.zeros(mask_shape)
    for row in range(3):
        masks[row, ..., row : row + 3, :] = 1
    samples = torch.zeros(3, 4, 1, 6, 8) if in_latent else torch.zeros(3, 4, 6, 8)
    latent = {"samples": samples, "noise_mask": masks}
    HostSampler().sample(run_of(model_on(dimensions=3), rows=3, latent=latent))
    (run,) = comfyui.runs
    assert run.clean.shape == (3, 4, 1, 6, 8)
    size = run.clean.shape[2:]
    resized = F.interpolate(run.mask, size, mode="trilinear")  # as ComfyUI resizes a mask with five axes
    expected = F.interpolate(masks.reshape(3, 1, *mask_shape[-2:]), size[1:], mode="bilinear").unsqueeze(2)
    torch.testing.assert_close(resized, expected)


def test_sample_does_not_change_the_noise_mask_of_latents_without_a_time_axis(comfyui: SimpleNamespace) -> None:
    masks = torch.rand(2, 6, 8)
    latent = {"samples": torch.zeros(2, 4, 6, 8), "noise_mask": masks}
    HostSampler().sample(run_of(model_on(), rows=2, latent=latent))
    assert comfyui.runs[0].mask is masks
    HostSampler().sample(run_of(model_on(dimensions=3)))
    assert comfyui.runs[1].mask is None


def test_sample_moves_noise_to_a_refiner_on_another_device(comfyui: SimpleNamespace, cuda: torch.device) -> None:
    """ComfyUI's node 'Select Model Device' puts models on different devices."""
    sampler = HostSampler()
    for base, refiner in ((CPU, cuda), (cuda, CPU), (cuda, cuda)):
        midway = sampler.sample(run_of(model_on(base), end_step=2, leave_noise=True))
        ended = sampler.sample(run_of(model_on(refiner), start_step=2, resume=midway))
        alone = sampler.sample(run_of(model_on(CPU)))
        torch.testing.assert_close(ended.cpu(), alone.cpu())


def test_previews_are_made_for_each_device(comfyui: SimpleNamespace) -> None:
    """Models on two devices may share their latent format."""
    sampler, latent_format = HostSampler(), object()
    other = torch.device("meta")
    for device in (CPU, other, CPU):
        sampler._get_previewer(model_on(device, latent_format=latent_format))
    assert comfyui.preview.devices == [CPU, other]


def test_expect_starts_at_the_finished_steps_if_runs_are_repeated(comfyui: SimpleNamespace) -> None:
    sampler = HostSampler()
    sampler.set_total_steps(12)
    sampler.sample(run_of(model_on()))
    sampler.sample(run_of(model_on()))  # repeated below, as after a failed run
    sampler.set_total_steps(12, 4)
    sampler.sample(run_of(model_on()))
    sampler.sample(run_of(model_on()))
    first, second = Bar.instances
    assert first.shown[-1] == (8, 12)
    assert second.shown[1] == (5, 12) and second.shown[-1] == (12, 12)


class ImageVae:
    """As ComfyUI's image VAEs: latents without a time axis."""

    latent_dim = 2

    def spacial_compression_encode(self) -> int:
        return 8

    def spacial_compression_decode(self) -> int:
        return 8

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        assert samples.ndim == 4
        return samples.new_zeros(len(samples), 8 * samples.shape[2], 8 * samples.shape[3], 3)

    def decode_tiled(self, samples: torch.Tensor, tile_x: int, tile_y: int, overlap: int) -> torch.Tensor:
        return self.decode(samples)


class VideoVae(ImageVae):
    latent_dim = 3

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        assert samples.ndim == 5
        return samples.new_zeros(len(samples), samples.shape[2], 8 * samples.shape[3], 8 * samples.shape[4], 3)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(
    ("vae", "shape"), [(ImageVae, (1, 4, 6, 8)), (ImageVae, (1, 4, 1, 6, 8)), (VideoVae, (1, 4, 1, 6, 8))]
)
def test_decode_takes_a_time_axis_whole_or_in_tiles(vae: type[ImageVae], shape: tuple[int, ...], tiled: bool) -> None:
    """With an image VAE older hosts accept it in neither way, and newer ones not in tiles."""
    assert HostVae(vae()).decode(torch.zeros(shape), tiled).shape == (1, 48, 64, 3)


@pytest.mark.parametrize(("ratio", "multiple"), [(1, 8), (8, 8), (16, 16), (32, 32), (12, 24)])
def test_multiple_suits_the_vae_and_comfyuis_steps_of_eight(ratio: int, multiple: int) -> None:
    vae = SimpleNamespace(spacial_compression_encode=lambda: ratio)
    assert HostVae(vae).multiple == multiple
