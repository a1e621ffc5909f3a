"""Schedules with a fake ComfyUI, which lacks some nodes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from maskwright.core.errors import DependencyError, InputError, PackError
from maskwright.nodes._host import detailing, schedulers
from maskwright.nodes._host.sampling import HostSampler

SHORT_SIGMAS = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])


class AlignYourSteps:
    """An old-style node: an instance method, named by FUNCTION."""

    FUNCTION = "get_sigmas"

    def get_sigmas(self, model_type: str, steps: int, denoise: float) -> tuple[torch.Tensor]:
        assert (model_type, denoise) == ("SDXL", 1.0)
        return (torch.linspace(steps, 0, steps + 1),)


class Gits:
    """A new-style node."""

    @classmethod
    def define_schema(cls) -> None: ...

    @classmethod
    def execute(cls, coeff: float, steps: int, denoise: float) -> tuple[torch.Tensor]:
        return (torch.full((steps + 1,), coeff),)


@pytest.fixture(autouse=True)
def comfyui(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = SimpleNamespace(SCHEDULERS=["normal", "short"], DISCARD_PENULTIMATE_SIGMA_SAMPLERS={"dpm_2"})
    samplers = SimpleNamespace(KSampler=sampler)
    samplers.calculate_sigmas = lambda sampling, name, steps: (
        SHORT_SIGMAS if name == "short" else torch.linspace(steps, 0, steps + 1)
    )
    mappings = {"AlignYourStepsScheduler": AlignYourSteps, "GITSScheduler": Gits}
    modules = {
        "comfy": SimpleNamespace(samplers=samplers),
        "comfy.samplers": samplers,
        "comfy.model_management": SimpleNamespace(),
        "nodes": SimpleNamespace(NODE_CLASS_MAPPINGS=mappings),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


MODEL = SimpleNamespace(get_model_object=lambda name: name)


def test_sigmas_of_schedulers_and_scheduler_nodes() -> None:
    assert schedulers.sigmas(MODEL, "euler", "normal", 3).tolist() == [3, 2, 1, 0]
    assert schedulers.sigmas(MODEL, "euler", "AYS SDXL", 2).tolist() == [2, 1, 0]
    assert schedulers.sigmas(MODEL, "euler", "GITS[coeff=1.2]", 1).tolist() == pytest.approx([1.2, 1.2])
    assert schedulers.sigmas(MODEL, "euler", "GITS[coeff=0.9]", 1).tolist() == pytest.approx([0.9, 0.9])


def test_sigmas_discard_penultimate_for_some_samplers() -> None:
    assert schedulers.sigmas(MODEL, "dpm_2", "normal", 3).tolist() == [4, 3, 2, 0]


def test_sigmas_name_missing_node() -> None:
    with pytest.raises(DependencyError, match="'OSS FLUX' is computed by ComfyUI's node OptimalStepsScheduler"):
        schedulers.sigmas(MODEL, "euler", "OSS FLUX", 3)
    with pytest.raises(DependencyError, match="DifferentialDiffusion.*noise_mask_feather"):
        HostSampler().add_differential_diffusion(SimpleNamespace(model_options={}))


def test_sigmas_reject_unknown_scheduler() -> None:
    with pytest.raises(InputError, match="scheduler.*unknown.*AYS SDXL"):
        schedulers.sigmas(MODEL, "euler", "unknown", 3)


@pytest.mark.parametrize(
    "value", [None, [1.0, 0.0], torch.zeros(1), torch.zeros(2, 2), torch.tensor([1, float("nan")])]
)
def test_sigmas_reject_invalid_result_of_scheduler_function(value: object) -> None:
    with pytest.raises(PackError, match="scheduler_func_opt returned"):
        schedulers.sigmas(MODEL, "euler", "normal", 3, lambda model, name, steps: value)


@pytest.mark.parametrize(
    ("total", "start", "end", "part"),
    [
        (4, 1, 4, [4, 2, 1, 0]),
        (4, 0, 2, [8, 4, 2]),
        (3, 1, 3, [4, 2, 0]),  # one sigma too many: the last step still ends at 0
        (6, 3, 6, [4, 2, 1, 0]),  # two sigmas merged: the last steps are run
    ],
)
def test_compute_sigmas_selects_part_of_schedule(total: int, start: int, end: int, part: list) -> None:
    run = SimpleNamespace(
        model=MODEL, sampler_name="euler", scheduler="short", custom_sampler=None, resume=None,
        total_steps=total, start_step=start, end_step=end, leave_noise=end < total,
    )  # fmt: skip
    assert HostSampler()._compute_sigmas(run).run.tolist() == part


@pytest.mark.parametrize("value", [3, "karras", 10**5000], ids=["number", "text", "5000 digits"])
def test_backend_rejects_invalid_scheduler_function(value: object) -> None:
    with pytest.raises(InputError, match="scheduler_func_opt is .*, not a scheduler function"):
        detailing.backend(None, None, value)
