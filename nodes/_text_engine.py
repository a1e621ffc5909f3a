"""The text-to-mask engine of the CLIPSeg nodes: finds, loads and moves its model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core.engine import Progress
from ..core.text import clipseg
from ..models import clipseg_loader
from ..models.clipseg_store import DEFAULT, ClipsegStore
from . import _host as host
from . import _view


def folders() -> list[Path]:
    """Folders to search for CLIPSeg models."""
    return [folder for kind in ClipsegStore.KINDS for folder in host.model_folders(kind)]


def store(progress: Callable[[int], Progress] | None = None) -> ClipsegStore:
    """The CLIPSeg models on this computer and on the network."""
    return ClipsegStore(folders(), progress=progress)


def load(name: str, progress: Callable[[int], Progress] = host.download_progress) -> tuple:
    """Load a model by name, as a CLIPSEG_MODEL ``(processor, model)``."""
    host.call_on_unload(clipseg_loader.release)
    return clipseg_loader.load(name, store(progress))


def make_segmenter(clipseg_model: tuple | None, view: _view.View | None = None) -> clipseg.Segmenter:
    """Move the connected model, or the default one, to its device. ``view`` shows the loading phase."""
    view = view or _view.View(None)
    view.begin(_view.LOADING)
    pair = load(DEFAULT, view.download_progress) if clipseg_model is None else clipseg_model
    processor, model = clipseg.check_clipseg_model(pair)
    model = host.on_device(model, clipseg.copy_with_dtype)
    view.begin(_view.WORK)
    return clipseg.Segmenter(processor, model)
