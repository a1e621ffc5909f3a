"""A model for background removal, by its name, ready to run: on ONNX Runtime with rembg, or on PyTorch (MODNet)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from ..core.engine import MaskSource, Progress
from . import background_store, catalog, files, modnet, rembg
from .cache import ModelCache

logger = logging.getLogger(__name__)

_modnets: ModelCache[modnet.MODNet] = ModelCache(capacity=2)

Place = Callable[[torch.nn.Module, Callable[[torch.nn.Module, torch.dtype], torch.nn.Module]], torch.nn.Module]


class ModnetMasks:
    """MODNet as a `core.engine.MaskSource`."""

    masks_per_image = 1

    def __init__(self, ready: Callable[[], modnet.MODNet]) -> None:
        self._ready = ready

    def predict_masks(self, picture: torch.Tensor) -> torch.Tensor:
        """``[H,W,3 or 4]`` -> ``[1,H,W]``, soft."""
        # Asked for anew for each picture: whoever makes room on the device takes the model off it.
        return modnet.predict(self._ready(), picture.unsqueeze(0))  # [H,W,C] -> [1,H,W,C]


def load(
    name: str,
    folders: Sequence[Path] = (),
    elsewhere: Sequence[Path] = (),
    device: torch.device | str = "cpu",
    place: Place | None = None,
    progress: Callable[[int], Progress] | None = None,
    make_room: Callable[[], None] = lambda: None,
) -> MaskSource:
    """The model called ``name`` as a source of masks. It is loaded once and kept while it is among the last ones used.

    Args:
        name, folders, elsewhere, progress: As `background_store.find` takes them.
        device: Where models run.
        place: Gives a PyTorch model, and a function that copies one in a dtype, a place on the device; None leaves it
            on the CPU.
        make_room: Frees memory of the device; called where a model does not fit.

    Raises:
        InputError: There is no model of that name.
        ModelError: Its file is missing and cannot be downloaded, is broken, or is not readable.
        MemoryError: There is not enough memory for it.
        DependencyError: rembg or onnxruntime is missing, too old or does not work.
    """

    def find() -> background_store.Found:
        return background_store.find(name, folders, elsewhere, progress)

    model = background_store.known(name)
    if model is None or model.name not in catalog.MODNET:
        if model is None:
            find()  # what does not exist is told before rembg is imported
        return rembg.load(find, model, torch.device(device), make_room)
    path = find().path

    def read_model() -> modnet.MODNet:
        read = modnet.load_modnet(path)
        logger.info("Loaded %s for background removal from %s, running on %s", name, path, device if place else "cpu")
        return read

    loaded = _modnets.get(files.identity(path), read_model)
    return ModnetMasks((lambda: loaded) if place is None else partial(place, loaded, _copy))


def release() -> None:
    """Drop all cached models. Callers may go on using one; its memory is freed when they drop it."""
    rembg.release()
    _modnets.clear()


def _copy(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Whatever dtype the host prefers: MODNet is small, and its normalisation wants float32."""
    return copy.deepcopy(model)
