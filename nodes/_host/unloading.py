"""Extends ComfyUI's "unload models" to what it does not manage: ONNX Runtime sessions, models on the CPU, caches.

To unload, ComfyUI calls every entry in its list of loaded models. An entry without weights receives this call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from ...core import filters

# Bytes. ComfyUI asks each model to free 1e30 to unload everything, but at most a model's size to free memory for one.
_MORE_THAN_ANY_DEVICE = 10**20

_releases: list[Callable[[], None]] = [filters.clear_matrices]
_entry: Any = None  # ComfyUI's reference is weak

logger = logging.getLogger(__name__)


def call_on_unload(release: Callable[[], None]) -> None:
    """See `call_on_unload` of the package."""
    if release not in _releases:
        _releases.append(release)
    add_to_list()


def add_to_list() -> None:
    """Add the entry to ComfyUI's list if it is missing: ComfyUI removes it whenever it unloads everything."""
    try:
        _add_to_list()
    except (AttributeError, ImportError, TypeError) as error:  # a fork's memory management
        logger.debug("ComfyUI's 'unload models' does not reach this pack's caches: %s", error)


def _add_to_list() -> None:
    """Avoids `load_models_gpu`, which would first unload other models."""
    import comfy.model_management as management

    global _entry
    if _entry is None:
        _entry = _make_entry()
    if not any(loaded.model is _entry for loaded in management.current_loaded_models):
        loaded = management.LoadedModel(_entry)
        loaded.model_load()
        management.current_loaded_models.append(loaded)


def _make_entry() -> Any:
    import comfy.model_management
    import comfy.model_patcher

    class WithoutWeights(comfy.model_patcher.ModelPatcher):
        """Stays in the list when ComfyUI frees memory for a model, leaves it when ComfyUI unloads everything."""

        def loaded_size(self) -> int:
            return _MORE_THAN_ANY_DEVICE  # so ComfyUI asks it last, and detaches it only to unload everything

        def partially_load(self, *_: object, **__: object) -> int:
            return 0

        def partially_unload(self, device_to: object, memory_to_free: float = 0, *_: object, **__: object) -> float:
            return memory_to_free  # ComfyUI would detach it if this were less

        def detach(self, unpatch_all: bool = True) -> torch.nn.Module:
            if unpatch_all:
                _release_everything()
            return self.model

    device = comfy.model_management.get_torch_device()
    return WithoutWeights(torch.nn.Module(), load_device=device, offload_device=torch.device("cpu"))


def _release_everything() -> None:
    for release in _releases:
        try:
            release()
        except Exception:  # ComfyUI must still unload the other models
            logger.warning("Some memory could not be freed", exc_info=True)
