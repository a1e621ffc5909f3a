"""The only door to ComfyUI: devices and memory, progress, interrupt, folders.

ComfyUI is imported inside functions, and only where it is already running; everywhere else (tests, the built-in
engine of ``tools/run_workflow.py``) each function has a plain answer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ..core.interfaces import NoProgress, Progress


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

        self._bar.update(count)
        comfy.model_management.throw_exception_if_processing_interrupted()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the device has no memory left."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    if running():
        import comfy.model_management

        return isinstance(error, comfy.model_management.OOM_EXCEPTION)
    return False


def model_folders(kind: str) -> list[Path]:
    """The folders where ComfyUI keeps models of ``kind`` (``clipseg``, ``rembg``, ...), those of
    ``extra_model_paths.yaml`` included, whether they exist or not; none without ComfyUI.

    Nothing is registered: what other packs and the user registered stays as it is.
    """
    if not running():
        return []
    import folder_paths

    registered = folder_paths.folder_names_and_paths.get(kind, ([],))[0]
    paths = [Path(path) for path in registered]
    default = Path(folder_paths.models_dir) / kind
    return paths if default in paths else [*paths, default]
