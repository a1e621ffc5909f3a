"""Schedules on a ComfyUI that lacks something, which the real one that tests find does not."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from maskwright.core.errors import DependencyError, InputError, PackError
from maskwright.nodes._host import detailing, schedulers
from maskwright.nodes._host.sampling import HostSampler

LEVELS = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])


class AlignYourSteps:
    """As nodes were written once: a method that FUNCTION names."""

    FUNCTION = "get_sigmas"

    def get_sigmas(self, model_type: str, steps: int, denoise: float) -> tuple[torch.Tensor]:
        assert (model_type, denoise) == ("SDXL", 1.0)
        return (torch.linspace(steps, 0, steps + 1),)


class Gits:
    """As nodes are written now."""

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
        LEVELS if name == "short" else torch.linspace(steps, 0, steps + 1)
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


def test_comfyui_s_own_and_those_of_its_nodes_old_and_new() -> None:
    assert schedulers.sigmas(MODEL, "euler", "normal", 3).tolist() == [3, 2, 1, 0]
    assert schedulers.sigmas(MODEL, "euler", "AYS SDXL", 2).tolist() == [2, 1, 0]
    assert schedulers.sigmas(MODEL, "euler", "GITS[coeff=1.2]", 1).tolist() == pytest.approx([1.2, 1.2])
    assert schedulers.sigmas(MODEL, "euler", "GITS[coeff=0.9]", 1).tolist() == pytest.approx([0.9, 0.9])


def test_some_samplers_leave_the_last_level_but_one_out() -> None:
    assert schedulers.sigmas(MODEL, "dpm_2", "normal", 3).tolist() == [4, 3, 2, 0]


def test_a_node_that_this_comfyui_lacks_is_named() -> None:
    with pytest.raises(DependencyError, match="'OSS FLUX' is computed by ComfyUI's node OptimalStepsScheduler"):
        schedulers.sigmas(MODEL, "euler", "OSS FLUX", 3)
    with pytest.raises(DependencyError, match="DifferentialDiffusion.*noise_mask_feather"):
        HostSampler().add_differential_diffusion(SimpleNamespace(model_options={}))


def test_an_unknown_scheduler_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="scheduler.*nobody's.*AYS SDXL"):
        schedulers.sigmas(MODEL, "euler", "nobody's", 3)


@pytest.mark.parametrize(
    "given", [None, [1.0, 0.0], torch.zeros(1), torch.zeros(2, 2), torch.tensor([1, float("nan")])]
)
def test_a_function_that_gives_no_levels_is_told_from_one_that_does(given: object) -> None:
    with pytest.raises(PackError, match="scheduler_func_opt returned"):
        schedulers.sigmas(MODEL, "euler", "normal", 3, lambda model, name, steps: given)


@pytest.mark.parametrize(
    ("total", "start", "end", "part"),
    [
        (4, 1, 4, [4, 2, 1, 0]),
        (4, 0, 2, [8, 4, 2]),
        (3, 1, 3, [4, 2, 0]),  # one level more than asked for: the last step still ends without noise
        (6, 3, 6, [4, 2, 1, 0]),  # two merged: the last steps are run
    ],
)
def test_which_part_of_a_schedule_is_run(total: int, start: int, end: int, part: list) -> None:
    run = SimpleNamespace(
        model=MODEL, sampler_name="euler", scheduler="short", custom_sampler=None, resume=None,
        total_steps=total, start_step=start, end_step=end, leave_noise=end < total,
    )  # fmt: skip
    assert HostSampler()._compute_sigmas(run).run.tolist() == part


@pytest.mark.parametrize("given", [3, "karras", 10**5000], ids=["number", "text", "5000 digits"])
def test_backend_names_a_scheduler_function_that_is_none(given: object) -> None:
    with pytest.raises(InputError, match="scheduler_func_opt is .*, not a scheduler function"):
        detailing.backend(None, None, given)
