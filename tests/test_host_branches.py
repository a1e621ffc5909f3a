"""Differences between versions of ComfyUI, with fake modules for each."""

from __future__ import annotations

import math
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from exact_diffusion import EulerSampler, KnownTarget, SpaceToDepthVae
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core.batching import NoProgress
from maskwright.core.detail.detail import Backend, detail
from maskwright.core.detail.settings import DetailerSettings
from maskwright.core.engine import Pipe
from maskwright.nodes import _host as host
from maskwright.nodes._host import detailing, registry
from maskwright.nodes._host.sampling import HostSampler


class Stop(BaseException):
    """Not an `Exception`, like the interrupt of newer hosts."""


class Bar:
    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total, self.node_id, self.done = total, node_id, 0

    def update(self, count: int) -> None:
        self.done += count


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A running ComfyUI, modified by the tests."""
    management = SimpleNamespace(InterruptProcessingException=Stop, stop=False, calls=[])

    def throw() -> None:
        if management.stop:
            raise Stop

    management.throw_exception_if_processing_interrupted = throw
    management.soft_empty_cache = lambda: management.calls.append("empty")
    management.unload_all_models = lambda: management.calls.append("unload")
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
def without_comfyui(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ComfyUI."""
    for name in ("comfy.model_management", "server"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_host_functions_without_comfyui(without_comfyui: None, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_device_and_max_resolution_of_comfyui(comfyui: SimpleNamespace) -> None:
    assert host.device() == torch.device("meta")
    assert detailing.max_resolution() == 4096
    host.unload_host_models()
    assert comfyui.management.calls == ["unload", "empty"]


@pytest.mark.parametrize("base", [Exception, BaseException])
def test_is_interrupt_with_either_base_class(comfyui: SimpleNamespace, base: type) -> None:
    kind = type("InterruptProcessingException", (base,), {})
    comfyui.management.InterruptProcessingException = kind
    assert host.is_interrupt(kind()) and not host.is_interrupt(ValueError())
    assert not host.is_out_of_memory(kind())


def test_progress_moves_bar_and_interrupts(comfyui: SimpleNamespace) -> None:
    progress = host.progress(5, "7")
    progress.step(2)
    progress.step(0)  # no progress, but checks for an interrupt
    assert (progress._bar.total, progress._bar.node_id, progress._bar.done) == (5, "7", 2)
    comfyui.management.stop = True
    for count in (0, 1):
        with pytest.raises(Stop):
            progress.step(count)


def test_is_out_of_memory_with_host_exception(comfyui: SimpleNamespace) -> None:
    class OutOfMemory(Exception):
        """An error of an accelerator that torch's own exceptions do not cover."""

    assert not host.is_out_of_memory(OutOfMemory())  # a host without its own exception
    comfyui.management.OOM_EXCEPTION = Exception  # a useless one
    assert not host.is_out_of_memory(OutOfMemory())
    comfyui.management.OOM_EXCEPTION = OutOfMemory
    assert host.is_out_of_memory(OutOfMemory()) and not host.is_out_of_memory(ValueError())


class OldDifferential:
    """The node until 2025: an instance method, named by FUNCTION."""

    FUNCTION = "apply"

    def apply(self, model: SimpleNamespace) -> tuple:
        return (f"soft {model.name}",)


class Output:
    """The result of newer nodes: outputs by slot, not a tuple."""

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
def test_add_differential_diffusion_old_and_new(comfyui: SimpleNamespace, node: type) -> None:
    comfyui.nodes.NODE_CLASS_MAPPINGS["DifferentialDiffusion"] = node
    sampler = HostSampler()
    assert sampler.add_differential_diffusion(SimpleNamespace(name="model", model_options={})) == "soft model"
    patched_model = SimpleNamespace(name="model", model_options={"denoise_mask_function": print})
    assert sampler.add_differential_diffusion(patched_model) is patched_model


def test_send_to_editor_only_if_editor_queued_run(comfyui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "server", raising=False)
    host.send_to_editor("event", {})  # no server, as in an embedded client
    messages = []
    server = ModuleType("server")
    server.PromptServer = type("PromptServer", (), {})
    monkeypatch.setitem(sys.modules, "server", server)
    host.send_to_editor("event", {})  # a worker's server, which has no instance
    instance = SimpleNamespace(client_id=None, send_sync=lambda *message: messages.append(message))
    server.PromptServer.instance = instance
    host.send_to_editor("event", {})  # a run not queued by an editor
    assert messages == []
    instance.client_id = "browser"
    host.send_to_editor("event", {"a": 1})
    assert messages == [("event", {"a": 1}, "browser")]


def test_executing_returns_run_and_node(comfyui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.executing() is None  # a host without execution context
    context = SimpleNamespace(prompt_id="a", node_id="3:5", list_index=None)
    module = ModuleType("comfy_execution.utils")
    monkeypatch.setitem(sys.modules, "comfy_execution", ModuleType("comfy_execution"))
    monkeypatch.setitem(sys.modules, "comfy_execution.utils", module)
    module.get_executing_context = lambda: context
    assert host.executing() == ("a", "3:5")
    module.get_executing_context = lambda: None  # another thread
    assert host.executing() is None


def test_is_foreign_for_ids_of_other_packs(comfyui: SimpleNamespace) -> None:
    """Some packs register objects that are not classes."""
    comfyui.nodes.NODE_CLASS_MAPPINGS.update(CLIPSeg=SimpleNamespace(), GradientRegion=HostSampler)
    assert [name for name in ("CLIPSeg", "GradientRegion", "unused") if registry.is_foreign(name)] == ["CLIPSeg"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_detail_with_half_precision_vae_returns_float32(dtype: torch.dtype) -> None:
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
def test_nodes_with_half_precision_inputs_return_float32(dtype: torch.dtype) -> None:
    """Some hosts pass values between nodes in half precision."""
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:12, 4:12] = 1
    (edges,) = NODE_CLASS_MAPPINGS["GradientRegion"]().gradient_region(mask.to(dtype))
    assert edges.dtype == torch.float32 and edges.max() == 1
    combined = NODE_CLASS_MAPPINGS["CombineSegMasks"]().combine_masks(
        torch.rand(1, 16, 16, 3).to(dtype), mask.to(dtype), mask.to(dtype)
    )
    assert {each.dtype for each in combined} == {torch.float32}


def test_available_memory_asks_comfyui(comfyui: SimpleNamespace) -> None:
    comfyui.management.get_free_memory = lambda device: {"cpu": 5, "meta": 7}[device.type]
    assert host.ComfyHost().available_memory(torch.device("cpu")) == 5
    assert host.ComfyHost().available_memory(torch.device("meta")) == 7


def test_available_memory_without_comfyui(without_comfyui: None, monkeypatch: pytest.MonkeyPatch) -> None:
    psutil = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=9))
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    assert host.ComfyHost().available_memory(torch.device("cpu")) == 9
    assert host.ComfyHost().available_memory(torch.device("meta")) == math.inf
    monkeypatch.setitem(sys.modules, "psutil", None)  # not installed
    assert host.ComfyHost().available_memory(torch.device("cpu")) == math.inf
