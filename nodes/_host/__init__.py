"""The only access to ComfyUI. This file: devices, memory, progress, interrupts, folders. The other modules: samplers,
schedulers, VAE, node ids.

ComfyUI is imported lazily, and only if this process is ComfyUI. Otherwise (tests, the built-in engine of
``tools/run_workflow.py``) each function has a simple fallback.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from ...core import batching, filters
from ...core.engine import Module, Progress
from ...core.errors import ModelError
from . import unloading


def running() -> bool:
    """Whether this process is ComfyUI."""
    return "comfy.model_management" in sys.modules


def device() -> torch.device:
    """The device for models: ComfyUI's choice, else CUDA if available, else the CPU."""
    if running():
        import comfy.model_management

        return comfy.model_management.get_torch_device()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def progress(total: int, node_id: str | None = None) -> Progress:
    """A progress bar of ``total`` steps for the running node. Each step also checks for an interrupt."""
    return _HostProgress(total, node_id) if running() else batching.NoProgress()


def download_progress(total: int) -> Progress:
    """`progress` for the bytes of a download. Call it before the download starts.

    Raises:
        ModelError: ComfyUI was started with ``--offline``.
    """
    if _is_offline():
        raise ModelError(
            "ComfyUI was started with --offline, which forbids downloads",
            "Start ComfyUI without --offline, or put the model's files in its folder by hand",
        )
    return progress(total)


def _is_offline() -> bool:
    options = getattr(sys.modules.get("comfy.cli_args"), "args", None)
    return bool(getattr(options, "offline", False))  # ComfyUI before 0.38 has no such option


class _HostProgress:
    def __init__(self, total: int, node_id: str | None) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(total, node_id=node_id)

    def step(self, count: int = 1) -> None:
        import comfy.model_management

        if count:
            self._bar.update(count)
        comfy.model_management.throw_exception_if_processing_interrupted()


def is_interrupt(error: BaseException) -> bool:
    """Whether ``error`` is the user's interrupt: an `Exception` in ComfyUI 0.8, a `BaseException` in 0.33."""
    if not running():
        return False
    import comfy.model_management

    return isinstance(error, comfy.model_management.InterruptProcessingException)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means that a device ran out of memory."""
    # ComfyUI first: its check also clears the CUDA error, which the next call would raise again.
    return (running() and _is_hosts_out_of_memory(error)) or batching.is_out_of_memory(error)


def _is_hosts_out_of_memory(error: BaseException) -> bool:
    import comfy.model_management as management

    # Where torch has no such exception, ComfyUI's is plain `Exception`, which would match every error.
    kind = getattr(management, "OOM_EXCEPTION", Exception)
    if kind is Exception:
        return False
    if hasattr(management, "is_oom"):
        return management.is_oom(error)
    return isinstance(error, kind)


def release_memory() -> None:
    """Free cached memory, so that a smaller retry can allocate large blocks."""
    filters.clear_matrices()
    if running():
        import comfy.model_management

        comfy.model_management.soft_empty_cache()
    elif torch.cuda.is_available():
        torch.cuda.empty_cache()


def available_memory(device: torch.device) -> float:
    """Bytes that can still be allocated on ``device``; infinity if unknown."""
    if not running():
        return batching.available_memory(device)
    import comfy.model_management

    return comfy.model_management.get_free_memory(device)


def run_node(name: str, **inputs: Any) -> Any:
    """Run a node of ComfyUI, with either of its node APIs. Returns the outputs by slot number.

    Raises:
        KeyError: This ComfyUI has no such node.
    """
    import nodes

    node = nodes.NODE_CLASS_MAPPINGS[name]
    if hasattr(node, "define_schema"):
        return node.execute(**inputs)
    return getattr(node(), node.FUNCTION)(**inputs)


def unload_host_models() -> None:
    """Like `release_memory`, but also unload ComfyUI's models and those cached by this pack. For work outside ComfyUI's
    memory management, such as ONNX Runtime's. Models in use stay valid."""
    if running():
        import comfy.model_management

        comfy.model_management.unload_all_models()
        unloading.add_to_list()  # so that ComfyUI's next "unload models" also reaches what this run loads
    release_memory()


class _Managed(torch.nn.Module):
    """Wraps a transformers model, which does not let ComfyUI set ``device`` on it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model: torch.nn.Module | None = model


# Each model's copies by device: ComfyUI's patcher of a `_Managed`, or without ComfyUI the copy itself.
_COPIES: weakref.WeakKeyDictionary[torch.nn.Module, dict[tuple, Any]] = weakref.WeakKeyDictionary()
_COPIES_LOCK = threading.RLock()
# Patchers whose copies were dropped while ComfyUI was unloading models. Deleting a patcher would change the list that
# ComfyUI is iterating, so they live until the next call of `on_device`.
_DROPPED_PATCHERS: list[Any] = []
_LOADING_PATCHERS: list[Any] = []  # patchers that ComfyUI is loading; to make room, it may unload everything else


def on_device(model: Module, copy_as: Callable[[Module, torch.dtype], Module]) -> Module:
    """The model on `device`, in half precision if ComfyUI would use that. Valid until the next call.

    ``model`` is not changed, since other packs may use it too. If it is already on that device, it is returned as is;
    otherwise a copy that lives as long as ``model`` and that ComfyUI moves, offloads and frees like its own models.

    Args:
        copy_as: Returns a copy of a model in a dtype.
    """
    target = device()
    devices = set(map(attrgetter("device"), model.parameters()))
    if set(map(_identity, devices)) == {_identity(target)}:
        return model
    if running():
        unloading.call_on_unload(_empty_copies)
    with _COPIES_LOCK:
        _DROPPED_PATCHERS.clear()
        copies = _COPIES.setdefault(model, {})
        copy = copies.get(_identity(target))
        if copy is None:
            copy = copies[_identity(target)] = _make_copy(model, copy_as, target)
    if not running():
        return copy
    import comfy.model_management

    # A patcher for dynamic VRAM loads all weights of layers that are not ComfyUI's own, and rejects force_full_load.
    is_dynamic = getattr(copy, "is_dynamic", lambda: False)()
    _LOADING_PATCHERS.append(copy)
    try:
        comfy.model_management.load_models_gpu([copy], **({} if is_dynamic else {"force_full_load": True}))
    finally:
        _LOADING_PATCHERS.remove(copy)
    # If memory is short, ComfyUI moves only layers of its own kinds in full. Here every layer must be on the device.
    return copy.model.to(target).model


@dataclass
class ComfyHost:
    """ComfyUI as a `core.engine.Host`, with simple fallbacks without ComfyUI.

    Attributes:
        free_memory: Frees memory before a smaller retry: `release_memory`, or `unload_host_models` for work outside
            ComfyUI's memory management.
    """

    free_memory: Callable[[], None] = release_memory
    progress = staticmethod(progress)
    is_out_of_memory = staticmethod(is_out_of_memory)
    is_interrupt = staticmethod(is_interrupt)
    available_memory = staticmethod(available_memory)
    on_device = staticmethod(on_device)


def _identity(target: torch.device) -> tuple[str, int]:
    """The device's type and index; "cuda" without an index is the current device."""
    if target.index is not None or target.type == "cpu":
        return target.type, target.index or 0
    current = getattr(getattr(torch, target.type, None), "current_device", None)
    return target.type, current() if current else 0


def _make_copy(model: torch.nn.Module, copy_as: Callable, target: torch.device) -> Any:
    if not running():
        return copy_as(model, torch.float32).to(target)
    import comfy.model_management
    import comfy.model_patcher

    half = comfy.model_management.should_use_fp16(target)
    offload = comfy.model_management.unet_offload_device()
    managed = _Managed(copy_as(model, torch.float16 if half else torch.float32).to(offload))
    # Looked up at each call: ComfyUI rebinds it late. With dynamic VRAM, a plain patcher would evict other models.
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher(managed, load_device=target, offload_device=offload)


def _empty_copies() -> None:
    """Drop the weights of all copies that are not being loaded. ComfyUI may be iterating its list of models."""
    with _COPIES_LOCK:
        for copies in _COPIES.values():
            for identity, patcher in list(copies.items()):
                if patcher not in _LOADING_PATCHERS:
                    patcher.detach()
                    patcher.model.model = None
                    _DROPPED_PATCHERS.append(copies.pop(identity))


def call_on_unload(release: Callable[[], None]) -> None:
    """Call ``release`` whenever ComfyUI unloads all its models: for the editor's button, ``POST /free``, or low
    memory. It should drop what ComfyUI does not manage. Idempotent; no-op without ComfyUI."""
    if running():
        unloading.call_on_unload(_empty_copies)  # first, since deleting a model deletes the patcher of its copy
        unloading.call_on_unload(release)


def model_folders(kind: str) -> list[Path]:
    """ComfyUI's folders for models of ``kind`` (``clipseg``, ``rembg``, ...), including those of
    ``extra_model_paths.yaml``. They need not exist. Empty without ComfyUI.

    Registers nothing, so the registrations of other packs and the user do not change.
    """
    if not running():
        return []
    import folder_paths

    # In the pip-installable ComfyUI, `get` rejects a default, and `[kind]` registers the kind.
    registered = folder_paths.folder_names_and_paths.get(kind)
    paths = [] if registered is None else [Path(path) for path in registered[0]]
    default = Path(folder_paths.models_dir) / kind
    return paths if default in paths else [*paths, default]


def temp_folder() -> Path | None:
    """ComfyUI's temp folder, which the editor may read and ComfyUI empties on startup; None without ComfyUI."""
    if not running():
        return None
    import folder_paths

    return Path(folder_paths.get_temp_directory())


def executing() -> tuple[str, str] | None:
    """The ids of the run and the node ("3:5" in a subgraph) that this thread executes; None if unknown."""
    if not running():
        return None
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:
        return None
    context = get_executing_context()
    return None if context is None else (str(context.prompt_id), str(context.node_id))


def send_to_editor(event: str, message: dict) -> None:
    """Send an event to the editor that queued the run, if any."""
    if not running() or "server" not in sys.modules:
        return
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None and server.client_id is not None:
        server.send_sync(event, message, server.client_id)
