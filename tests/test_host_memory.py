"""Models and caches under ComfyUI's old and new memory management, and "unload models"."""

from __future__ import annotations

import gc
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch
from maskwright.core import filters
from maskwright.core.batching import NoProgress
from maskwright.core.errors import ModelError
from maskwright.models import background_models, clipseg_loader
from maskwright.models.clipseg_store import DEFAULT, DEMO
from maskwright.nodes import _host as host
from maskwright.nodes import _text
from maskwright.nodes._host import unloading
from torch.nn import Linear

GPU = torch.device("meta", 1)  # a device that stores no values


class Patcher:
    """The part of ComfyUI's ModelPatcher that its memory management calls."""

    def __init__(self, model: torch.nn.Module, load_device: torch.device, offload_device: torch.device) -> None:
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.detached = 0

    def loaded_size(self) -> int:
        return 1000

    def partially_load(self, device: torch.device) -> None:
        self.model.to(device)

    def partially_unload(self, device: torch.device, memory_to_free: float) -> float:
        return 0

    def detach(self, unpatch_all: bool = True) -> None:
        self.detached += 1


class DynamicPatcher(Patcher):
    """The patcher for dynamic VRAM, which cannot load in full."""

    def is_dynamic(self) -> bool:
        return True


class LoadedModel:
    """An entry of ComfyUI's list. It references its model weakly and leaves the list when the model is deleted."""

    def __init__(self, patcher: Patcher) -> None:
        self._patcher, self.device = weakref.ref(patcher), patcher.load_device

    @property
    def model(self) -> Patcher | None:
        return self._patcher()

    def model_load(self) -> None:
        self.model.partially_load(self.device)
        self.finalizer = weakref.finalize(self.model.model, self.leave)

    def leave(self) -> None:
        self.loaded.remove(self)


class Management(SimpleNamespace):
    """The part of ComfyUI's model_management that the pack calls."""

    def __init__(self) -> None:
        super().__init__(current_loaded_models=[], full_loads=[])
        self.OOM_EXCEPTION = torch.cuda.OutOfMemoryError
        self.LoadedModel = type("Loaded", (LoadedModel,), {"loaded": self.current_loaded_models})

    def get_torch_device(self) -> torch.device:
        return GPU

    def should_use_fp16(self, device: torch.device) -> bool:
        return True

    def unet_offload_device(self) -> torch.device:
        return torch.device("cpu")

    def soft_empty_cache(self) -> None:
        pass

    def load_models_gpu(self, patchers: list[Patcher], force_full_load: bool = False) -> None:
        self.full_loads.append(force_full_load)
        for patcher in patchers:
            if not any(loaded.model is patcher for loaded in self.current_loaded_models):
                loaded = self.LoadedModel(patcher)
                loaded.model_load()
                self.current_loaded_models.insert(0, loaded)

    def free_memory(self, memory: float) -> None:
        """The list must not change until all entries have been called, in any order: here the pack's own first."""
        entries = list(self.current_loaded_models)
        unloaded = []
        for loaded in reversed(entries):
            patcher = loaded.model
            if memory < patcher.loaded_size() and patcher.partially_unload(patcher.offload_device, memory) >= memory:
                continue
            patcher.detach()
            del patcher
            gc.collect()
            loaded.finalizer.detach()
            unloaded.append(loaded)
            assert self.current_loaded_models == entries
        for loaded in unloaded:
            self.current_loaded_models.remove(loaded)

    def unload_all_models(self) -> None:
        self.free_memory(1e30)


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A ComfyUI without dynamic VRAM, such as 0.8."""
    management, patchers = Management(), SimpleNamespace(ModelPatcher=Patcher)
    comfy = SimpleNamespace(model_management=management, model_patcher=patchers)
    for name, module in (("", comfy), (".model_management", management), (".model_patcher", patchers)):
        monkeypatch.setitem(sys.modules, f"comfy{name}", module)
    monkeypatch.setattr(unloading, "_entry", None)
    monkeypatch.setattr(unloading, "_releases", list(unloading._releases))
    host._COPIES.clear()
    return SimpleNamespace(management=management, patchers=patchers)


def copy_as(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    return Linear(2, 2, dtype=dtype)


def loaded_patchers(comfyui: SimpleNamespace) -> list[Patcher]:
    return [each.model for each in comfyui.management.current_loaded_models if each.model is not unloading._entry]


def test_on_device_loads_in_full_without_dynamic_vram(comfyui: SimpleNamespace) -> None:
    model = Linear(2, 2)
    copy = host.on_device(model, copy_as)
    (patcher,) = loaded_patchers(comfyui)
    assert type(patcher) is Patcher and comfyui.management.full_loads == [True]
    assert {each.device.type for each in copy.parameters()} == {"meta"}
    assert {each.dtype for each in copy.parameters()} == {torch.float16}


def test_on_device_uses_core_model_patcher(comfyui: SimpleNamespace) -> None:
    comfyui.patchers.CoreModelPatcher = Patcher  # its value while packs are loaded
    comfyui.patchers.CoreModelPatcher = DynamicPatcher
    copy = host.on_device(Linear(2, 2), copy_as)
    assert comfyui.management.full_loads == [False]
    assert {each.device.type for each in copy.parameters()} == {"meta"}


def test_on_device_loads_in_full_if_new_host_has_no_dynamic_vram(comfyui: SimpleNamespace) -> None:
    comfyui.patchers.CoreModelPatcher = type("Plain", (Patcher,), {"is_dynamic": lambda self: False})
    host.on_device(Linear(2, 2), copy_as)
    assert comfyui.management.full_loads == [True]


def test_on_device_keeps_one_copy_per_device(comfyui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    model, copies = Linear(2, 2), []
    for index in (1, 2, 1, 2):
        monkeypatch.setattr(host, "device", lambda index=index: torch.device("meta", index))
        copies.append(host.on_device(model, copy_as))
    assert copies[0] is copies[2] and copies[1] is copies[3] and copies[0] is not copies[1]
    assert [patcher.load_device.index for patcher in loaded_patchers(comfyui)] == [2, 1]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("cuda:0", "cuda:0", True),
        ("cuda:0", "cuda:1", False),
        ("cuda", "cuda:1", True),  # the current device is 1
        ("cuda", "cuda:0", False),
        ("mps", "mps:0", True),
        ("cpu", "cpu:0", True),
        ("cpu", "cuda:0", False),
    ],
)
def test_identity_compares_type_and_index(
    one: str, other: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert (host._identity(torch.device(one)) == host._identity(torch.device(other))) is expected


# "Unload models"


def test_call_on_unload_drops_copies_and_releases_once(comfyui: SimpleNamespace) -> None:
    model, calls = Linear(2, 2), []
    release = lambda: calls.append(1)  # noqa: E731 - the same object each time, like a module's function
    copy = weakref.ref(host.on_device(model, copy_as))
    (patcher,) = loaded_patchers(comfyui)
    for _ in range(3):
        host.call_on_unload(release)
    comfyui.management.unload_all_models()
    gc.collect()
    assert calls == [1]
    assert copy() is None and patcher.detached
    assert comfyui.management.current_loaded_models == []

    host.on_device(model, copy_as)
    host.call_on_unload(release)
    comfyui.management.unload_all_models()
    assert calls == [1, 1]


def test_call_on_unload_keeps_list_if_release_deletes_models(comfyui: SimpleNamespace) -> None:
    """Nodes register the release before they create a copy."""
    models = [Linear(2, 2), Linear(2, 2)]
    host.call_on_unload(models.clear)
    for model in models:
        host.on_device(model, copy_as)
    del model
    comfyui.management.unload_all_models()  # checks its list after every entry
    assert models == [] and comfyui.management.current_loaded_models == []


def test_call_on_unload_ignores_partial_unloads(comfyui: SimpleNamespace) -> None:
    calls = []
    host.call_on_unload(lambda: calls.append(1))
    comfyui.management.free_memory(1e12)
    assert calls == [] and len(comfyui.management.current_loaded_models) == 1


def test_call_on_unload_continues_after_failed_release(
    comfyui: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []
    host.call_on_unload(lambda: 1 / 0)
    host.call_on_unload(lambda: calls.append(1))
    comfyui.management.unload_all_models()
    assert calls == [1] and "could not be freed" in caplog.text


def test_on_device_with_smart_memory_disabled(comfyui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """--disable-smart-memory unloads everything for each model; loading the copy must not drop it."""
    load = comfyui.management.load_models_gpu

    def unload_and_load(patchers: list[Patcher], **options: bool) -> None:
        comfyui.management.unload_all_models()
        load(patchers, **options)

    comfyui.management.load_models_gpu = unload_and_load
    first, second = Linear(2, 2), Linear(2, 2)
    for model in (first, second):
        assert isinstance(host.on_device(model, copy_as), torch.nn.Linear)
    assert [len(copies) for copies in (host._COPIES[first], host._COPIES[second])] == [0, 1]


def test_unload_host_models_keeps_releases_registered(comfyui: SimpleNamespace) -> None:
    calls = []
    host.call_on_unload(lambda: calls.append(1))
    host.unload_host_models()
    assert calls == [1]
    comfyui.management.unload_all_models()
    assert calls == [1, 1]


def test_call_on_unload_without_loaded_model_class(comfyui: SimpleNamespace) -> None:
    del comfyui.management.LoadedModel
    host.call_on_unload(lambda: None)
    assert comfyui.management.current_loaded_models == []


def test_clipseg_models_are_released_on_unload(comfyui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(_text, "folders", lambda: [])
    _text.load(DEMO)
    assert len(clipseg_loader._loaded)
    comfyui.management.unload_all_models()
    assert not len(clipseg_loader._loaded)


def test_background_models_are_released_on_unload(comfyui: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwright import NODE_CLASS_MAPPINGS

    def load(*_: object) -> None:
        raise ModelError("the end of this test", "None")

    sessions = ["a session"]
    monkeypatch.setattr(background_models, "release", sessions.clear)
    monkeypatch.setattr(background_models, "load", load)
    monkeypatch.setattr(host, "model_folders", lambda kind: [])
    with pytest.raises(ModelError, match="this test"):
        NODE_CLASS_MAPPINGS["ImageSegmentation"]().node(torch.zeros(1, 4, 4, 3), "u2net", "false", 240, 20, 10, "false")
    comfyui.management.unload_all_models()
    assert sessions == []


@pytest.mark.parametrize("release", ["release_memory", "unload"])
def test_matrices_are_freed_with_memory(comfyui: SimpleNamespace, release: str) -> None:
    filters.lanczos_matrix(8, 4, torch.device("cpu"))
    filters.gaussian_matrix(8, 2, 1.0, "mirror", torch.device("cpu"))
    if release == "unload":
        host.call_on_unload(lambda: None)
        comfyui.management.unload_all_models()
    else:
        host.release_memory()
    assert filters.lanczos_matrix.cache_info().currsize == filters.gaussian_matrix.cache_info().currsize == 0


# Out of memory, and --offline


def test_is_out_of_memory_calls_is_oom_first(comfyui: SimpleNamespace) -> None:
    """It recognizes accelerator errors by their code, and clears the error that CUDA would raise again."""
    errors = []

    def is_oom(error: BaseException) -> bool:
        errors.append(error)
        return getattr(error, "code", None) == 2

    comfyui.management.is_oom = is_oom
    without_message, with_message = RuntimeError("CUDA error"), RuntimeError("CUDA error: out of memory")
    without_message.code = with_message.code = 2
    assert host.is_out_of_memory(without_message) and host.is_out_of_memory(with_message)
    assert errors == [without_message, with_message]
    assert host.is_out_of_memory(MemoryError()) and not host.is_out_of_memory(RuntimeError("other"))


def test_is_out_of_memory_ignores_is_oom_based_on_exception(comfyui: SimpleNamespace) -> None:
    comfyui.management.OOM_EXCEPTION = Exception
    comfyui.management.is_oom = lambda error: isinstance(error, Exception)
    assert not host.is_out_of_memory(ValueError())


@pytest.mark.parametrize("options", [None, SimpleNamespace(), SimpleNamespace(offline=False)])
def test_download_progress_online(options: SimpleNamespace | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if options is not None:
        monkeypatch.setitem(sys.modules, "comfy.cli_args", SimpleNamespace(args=options))
    assert isinstance(host.download_progress(5), NoProgress)


def test_download_progress_offline_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "comfy.cli_args", SimpleNamespace(args=SimpleNamespace(offline=True)))
    with pytest.raises(ModelError, match="--offline, which forbids downloads"):
        host.download_progress(5)


def test_nodes_do_not_download_offline(tmp_path, monkeypatch: pytest.MonkeyPatch, isolated_model_dirs: None) -> None:
    from maskwright import NODE_CLASS_MAPPINGS
    from maskwright.models import download

    monkeypatch.setattr(download, "is_offline", lambda: False)
    monkeypatch.setattr(download, "download", lambda *_: pytest.fail("a download started"))
    monkeypatch.setattr(host, "model_folders", lambda kind: [tmp_path / kind])
    monkeypatch.setitem(sys.modules, "comfy.cli_args", SimpleNamespace(args=SimpleNamespace(offline=True)))
    image = torch.zeros(1, 4, 4, 3)
    calls = (
        lambda: NODE_CLASS_MAPPINGS["CLIPSegModelLoader"]().clipseg_model(DEFAULT),
        lambda: NODE_CLASS_MAPPINGS["ImageSegmentation"]().node(image, "modnet-p", "false", 240, 20, 10, "false"),
    )
    for call in calls:
        with pytest.raises(ModelError, match="--offline"):
            call()
