"""What differs between ComfyUI's versions, each side with modules that stand in for it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from exact_diffusion import EulerSampler, KnownTarget, SpaceToDepthVae
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core.detail.detail import Backend, detail
from maskwright.core.detail.settings import DetailerSettings
from maskwright.core.engine import NoProgress, Pipe
from maskwright.nodes import _host as host
from maskwright.nodes._host import detailing, registry
from maskwright.nodes._host.sampling import HostSampler


class Stop(BaseException):
    """As newer hosts may have the interrupt: nothing that `except Exception` catches."""


class Bar:
    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total, self.node_id, self.done = total, node_id, 0

    def update(self, count: int) -> None:
        self.done += count


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A running ComfyUI; a test changes what differs."""
    management = SimpleNamespace(InterruptProcessingException=Stop, stop=False, done=[])

    def throw() -> None:
        if management.stop:
            raise Stop

    management.throw_exception_if_processing_interrupted = throw
    management.soft_empty_cache = lambda: management.done.append("empty")
    management.unload_all_models = lambda: management.done.append("unload")
    management.get_torch_device = lambda: torch.device("meta")
    nodes = SimpleNamespace(NODE_CLASS_MAPPINGS={}, MAX_RESOLUTION=4096)
    utils = SimpleNamespace(ProgressBar=Bar)
    modules = {
        "comfy": SimpleNamespace(model_management=management, utils=utils),
        "comfy.model_management": management,
        "comfy.utils": utils,
        "nodes": nodes,
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(management=management, nodes=nodes)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ComfyUI."""
    for name in ("comfy.model_management", "server"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_without_comfyui_everything_has_a_plain_answer(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert host.device() == torch.device("cpu")
    assert isinstance(host.progress(3), NoProgress)
    assert host.model_folders("clipseg") == [] and host.temp_folder() is None
    assert not host.is_interrupt(KeyboardInterrupt())
    assert not host.is_out_of_memory(ValueError()) and host.is_out_of_memory(MemoryError())
    assert detailing.max_resolution() == 16384
    assert not registry.is_foreign("CLIPSeg")
    host.unload_host_models()
    host.send_to_editor("event", {})


def test_the_host_tells_its_device_and_its_longest_side(comfyui: SimpleNamespace) -> None:
    assert host.device() == torch.device("meta")
    assert detailing.max_resolution() == 4096
    host.unload_host_models()
    assert comfyui.management.done == ["unload", "empty"]


@pytest.mark.parametrize("base", [Exception, BaseException])
def test_the_interrupt_passes_whatever_it_derives_from(comfyui: SimpleNamespace, base: type) -> None:
    kind = type("InterruptProcessingException", (base,), {})
    comfyui.management.InterruptProcessingException = kind
    assert host.is_interrupt(kind()) and not host.is_interrupt(ValueError())
    assert not host.is_out_of_memory(kind())


def test_each_step_moves_the_bar_and_obeys_the_interrupt(comfyui: SimpleNamespace) -> None:
    progress = host.progress(5, "7")
    progress.step(2)
    progress.step(0)  # nothing done yet, but the interrupt is looked at
    assert (progress._bar.total, progress._bar.node_id, progress._bar.done) == (5, "7", 2)
    comfyui.management.stop = True
    for count in (0, 1):
        with pytest.raises(Stop):
            progress.step(count)


def test_the_hosts_own_out_of_memory_counts_where_it_has_one(comfyui: SimpleNamespace) -> None:
    class Full(Exception):
        """Of an accelerator that torch's own exceptions do not cover."""

    assert not host.is_out_of_memory(Full())  # a host that names none
    comfyui.management.OOM_EXCEPTION = Exception  # one that names everything
    assert not host.is_out_of_memory(Full())
    comfyui.management.OOM_EXCEPTION = Full
    assert host.is_out_of_memory(Full()) and not host.is_out_of_memory(ValueError())


class OldDifferential:
    """A method that FUNCTION names: `apply` until 2025."""

    FUNCTION = "apply"

    def apply(self, model: SimpleNamespace) -> tuple:
        return (f"soft {model.name}",)


class Output:
    """What newer nodes give: outputs by slot number, and no tuple."""

    def __init__(self, *outputs: object) -> None:
        self._outputs = outputs

    def __getitem__(self, slot: int) -> object:
        return self._outputs[slot]


class NewDifferential:
    """A class method with an optional strength."""

    FUNCTION = "EXECUTE_NORMALIZED"

    @classmethod
    def define_schema(cls) -> None: ...

    @classmethod
    def execute(cls, model: SimpleNamespace, strength: float = 1.0) -> Output:
        assert strength == 1.0
        return Output(f"soft {model.name}")


@pytest.mark.parametrize("node", [OldDifferential, NewDifferential])
def test_differential_diffusion_old_and_new(comfyui: SimpleNamespace, node: type) -> None:
    comfyui.nodes.NODE_CLASS_MAPPINGS["DifferentialDiffusion"] = node
    sampler = HostSampler()
    assert sampler.add_differential_diffusion(SimpleNamespace(name="model", model_options={})) == "soft model"
    has_it = SimpleNamespace(name="model", model_options={"denoise_mask_function": print})
    assert sampler.add_differential_diffusion(has_it) is has_it


def test_the_editor_is_told_only_where_one_asked(comfyui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "server", raising=False)
    host.send_to_editor("event", {})  # no server at all, as in an embedded client
    told = []
    server = ModuleType("server")
    server.PromptServer = type("PromptServer", (), {})
    monkeypatch.setitem(sys.modules, "server", server)
    host.send_to_editor("event", {})  # a worker's, which has no instance
    instance = SimpleNamespace(client_id=None, send_sync=lambda *message: told.append(message))
    server.PromptServer.instance = instance
    host.send_to_editor("event", {})  # a run that no editor queued
    assert told == []
    instance.client_id = "browser"
    host.send_to_editor("event", {"a": 1})
    assert told == [("event", {"a": 1}, "browser")]


def test_executing_names_the_run_and_the_node(comfyui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.executing() is None  # a host that does not say
    context = SimpleNamespace(prompt_id="a", node_id="3:5", list_index=None)
    module = ModuleType("comfy_execution.utils")
    monkeypatch.setitem(sys.modules, "comfy_execution", ModuleType("comfy_execution"))
    monkeypatch.setitem(sys.modules, "comfy_execution.utils", module)
    module.get_executing_context = lambda: context
    assert host.executing() == ("a", "3:5")
    module.get_executing_context = lambda: None  # another thread
    assert host.executing() is None


def test_whatever_else_holds_an_id_is_foreign(comfyui: SimpleNamespace) -> None:
    """Some packs register what is no class."""
    comfyui.nodes.NODE_CLASS_MAPPINGS.update(CLIPSeg=SimpleNamespace(), GradientRegion=HostSampler)
    assert [name for name in ("CLIPSeg", "GradientRegion", "nobody's") if registry.is_foreign(name)] == ["CLIPSeg"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_whatever_dtype_the_vae_gives_the_picture_is_float32(dtype: torch.dtype) -> None:
    class Half(SpaceToDepthVae):
        def decode(self, samples: torch.Tensor, tiled: bool = False) -> torch.Tensor:
            return super().decode(samples, tiled).to(dtype)

    image, mask = torch.full((1, 64, 64, 3), 0.25), torch.zeros(1, 64, 64)
    mask[:, 20:44, 20:44] = 1
    settings = DetailerSettings(guide_size=64, steps=2, denoise=1.0, crop_factor=1.5, noise_mask_feather=0)
    pipe = Pipe(KnownTarget(0.8), "positive", "negative", None)
    full, half = (
        detail(image, mask, pipe, Backend(EulerSampler(), vae), settings).image for vae in (SpaceToDepthVae(), Half())
    )
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, atol=0.01, rtol=0)
    assert (full - image).abs().max() > 0.3
    assert torch.equal(half[:, :8], image[:, :8])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pictures_and_masks_of_half_precision_become_float32(dtype: torch.dtype) -> None:
    """As hosts that keep what goes between nodes in half precision hand them on."""
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:12, 4:12] = 1
    (edges,) = NODE_CLASS_MAPPINGS["GradientRegion"]().gradient_region(mask.to(dtype))
    assert edges.dtype == torch.float32 and edges.max() == 1
    combined = NODE_CLASS_MAPPINGS["CombineSegMasks"]().combine_masks(
        torch.rand(1, 16, 16, 3).to(dtype), mask.to(dtype), mask.to(dtype)
    )
    assert {each.dtype for each in combined} == {torch.float32}
