"""Loads models for background removal by name: on ONNX Runtime with rembg, or on PyTorch (MODNet)."""

from __future__ import annotations

import logging

import torch

from ..core.batching import STANDALONE_HOST
from ..core.engine import Host, MaskSource
from . import catalog, modnet, rembg
from .background_store import BackgroundStore, published_model
from .cache import ModelCache, file_key
from .store import LocalModel

logger = logging.getLogger(__name__)

_loaded: ModelCache[MaskSource] = ModelCache(capacity=2)


def load(
    name: str, store: BackgroundStore, device: torch.device | str = "cpu", host: Host = STANDALONE_HOST
) -> MaskSource:
    """The model called ``name``, ready to run. It is loaded once and cached.

    Args:
        device: Device for ONNX Runtime. PyTorch models run where ``host`` moves them.
        host: Moves models to the device, and frees memory if a model does not fit.

    Raises:
        InputError: No such model.
        ModelError: Its file is missing and cannot be downloaded, is broken, or is not readable.
        MemoryError: Not enough memory for it.
        DependencyError: rembg or onnxruntime is missing, too old or does not work.
    """
    local = store.locate(name)
    if local is None:
        model = published_model(name)
        if model is not None and model.name in catalog.REMBG:
            rembg.check_support(model)  # before a download of up to 1 GB
        local = store.find(name)
    key = (*file_key(local.path), local.model, str(device))
    return _loaded.get(key, lambda: _load(local, torch.device(device), host))


def _load(local: LocalModel, device: torch.device, host: Host) -> MaskSource:
    if local.model is not None and local.model.name in catalog.MODNET:
        source, runs_on = modnet.ModnetMasks(modnet.load_modnet(local.path), host), str(device)
    else:
        source = rembg.load(local, device, host)
        runs_on = source.providers[0]
    logger.info("Loaded %s for background removal from %s, running on %s", local.name, local.path, runs_on)
    return source


def release() -> None:
    """Drop all cached models. A model in use stays valid; its memory is freed when the caller drops it."""
    _loaded.clear()
