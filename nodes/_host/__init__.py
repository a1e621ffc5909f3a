"""The only door to ComfyUI: here devices and memory, progress, interrupt, folders; what the detailer needs of it in the
files beside this one.

ComfyUI is imported inside functions, and only where it is already running; everywhere else (tests, the built-in
engine of ``tools/run_workflow.py``) each function has a plain answer.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...core.chunks import Chunks, is_torch_out_of_memory
from ...core.interfaces import NoProgress, Progress


def running() -> bool:
    """Whether this process is ComfyUI."""
    return "comfy.model_management" in sys.modules


def device() -> torch.device:
    """Where models run: the device ComfyUI chose, else CUDA where there is one, else the CPU."""
    if running():
        import comfy.model_management

        return comfy.model_management.get_torch_device()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def progress(total: int, node_id: str | None = None) -> Progress:
    """The node's progress bar of ``total`` steps. Each step also obeys the user's interrupt."""
    return _HostProgress(total, node_id) if running() else NoProgress()


class _HostProgress:
    def __init__(self, total: int, node_id: str | None) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(total, node_id=node_id)

    def step(self, count: int = 1) -> None:
        import comfy.model_management

        if count:
            self._bar.update(count)
        comfy.model_management.throw_exception_if_processing_interrupted()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the device has no memory left."""
    if is_torch_out_of_memory(error):
        return True
    if running():
        import comfy.model_management

        # Where torch has no such exception the host's is plain `Exception`, which tells nothing.
        kind = getattr(comfy.model_management, "OOM_EXCEPTION", Exception)
        return kind is not Exception and isinstance(error, kind)
    return False


def release_memory() -> None:
    """Give back the memory that torch keeps for later, so that a smaller try finds it in one piece."""
    if running():
        import comfy.model_management

        comfy.model_management.soft_empty_cache()
    elif torch.cuda.is_available():
        torch.cuda.empty_cache()


def node_output(name: str, **inputs: Any) -> Any:
    """What a node of ComfyUI gives for ``inputs``: its outputs by slot number, whichever way the node is written.

    Raises:
        KeyError: This ComfyUI has no such node.
    """
    import nodes

    node = nodes.NODE_CLASS_MAPPINGS[name]
    if hasattr(node, "define_schema"):
        return node.execute(**inputs)
    return getattr(node(), node.FUNCTION)(**inputs)


def make_room() -> None:
    """As `release_memory`, and ComfyUI's own models leave the device too: for work on it beside ComfyUI, such as that
    of ONNX Runtime, for which nothing else makes room."""
    if running():
        import comfy.model_management

        comfy.model_management.unload_all_models()
    release_memory()


def chunks(total: int, release: Callable[[], None] = release_memory) -> Chunks:
    """How to work through a batch of ``total`` on this host: its progress bar, its interrupt, its memory."""
    return Chunks(progress(total), is_out_of_memory, release)


class _Managed(torch.nn.Module):
    """What ComfyUI moves: it sets ``device`` on it, which a transformers model does not allow."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model


# For each model the copy on the device: ComfyUI's patcher of a `_Managed`, or without ComfyUI the copy itself.
_ON_DEVICE: weakref.WeakKeyDictionary[torch.nn.Module, object] = weakref.WeakKeyDictionary()
_ON_DEVICE_LOCK = threading.Lock()


def on_device(
    model: torch.nn.Module, copy_as: Callable[[torch.nn.Module, torch.dtype], torch.nn.Module]
) -> torch.nn.Module:
    """The model where models run, in half precision where ComfyUI would use that: ready until the next call.

    The model that was given stays where it is and as it is, since other packs may hold and run it too. Where it
    lies there already it comes back itself; otherwise a copy that lives as long as it does, which ComfyUI moves,
    offloads and frees as it does with its own models.

    Args:
        copy_as: Makes the copy of a model in a dtype.
    """
    where = device()
    if next(model.parameters()).device.type == where.type:
        return model
    with _ON_DEVICE_LOCK:
        held = _ON_DEVICE.get(model)
        if held is None:
            held = _ON_DEVICE[model] = _placed(model, copy_as, where)
    if not running():
        return held
    import comfy.model_management

    comfy.model_management.load_models_gpu([held], force_full_load=True)
    # Where memory is short the host moves only layers of its own kinds in full; everything must be there.
    return held.model.to(where).model


def _placed(model: torch.nn.Module, copy_as: Callable, where: torch.device) -> object:
    if not running():
        return copy_as(model, torch.float32).to(where)
    import comfy.model_management
    import comfy.model_patcher

    half = comfy.model_management.should_use_fp16(where)
    offload = comfy.model_management.unet_offload_device()
    made = _Managed(copy_as(model, torch.float16 if half else torch.float32).to(offload))
    return comfy.model_patcher.ModelPatcher(made, load_device=where, offload_device=offload)


def model_folders(kind: str) -> list[Path]:
    """The folders where ComfyUI keeps models of ``kind`` (``clipseg``, ``rembg``, ...), those of
    ``extra_model_paths.yaml`` included, whether they exist or not; none without ComfyUI.

    Nothing is registered: what other packs and the user registered stays as it is.
    """
    if not running():
        return []
    import folder_paths

    # The mapping of the pip-installable ComfyUI refuses to be asked with a default, and `[kind]` would register it.
    registered = folder_paths.folder_names_and_paths.get(kind)
    paths = [] if registered is None else [Path(path) for path in registered[0]]
    default = Path(folder_paths.models_dir) / kind
    return paths if default in paths else [*paths, default]


def temp_folder() -> Path | None:
    """The folder whose files the editor may fetch and ComfyUI empties at its next start; None without ComfyUI."""
    if not running():
        return None
    import folder_paths

    return Path(folder_paths.get_temp_directory())


def tell_editor(event: str, message: dict) -> None:
    """Send an event to the editor that queued the run; nothing without one."""
    if not running() or "server" not in sys.modules:
        return
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None and server.client_id is not None:
        server.send_sync(event, message, server.client_id)
