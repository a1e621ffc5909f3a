"""Shared by the CLIPSeg nodes: their common widgets, and loading the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core.engine import Progress
from ..core.text import clipseg
from ..core.text.query import LARGEST_RESOLUTION, RESOLUTION, RESOLUTION_STEP
from ..models import catalog, clipseg_loader
from ..models.clipseg_store import DEFAULT, ClipsegStore
from . import _host as host
from . import _view

TEXT = (
    "STRING",
    {
        "default": "",
        "multiline": True,
        "grows": False,
        "placeholder": "text: what to select, e.g. face | hair",
        "dynamicPrompts": False,
        "tooltip": "What to select, in plain words. Separate several things with a vertical bar; commas do not "
        "separate. If empty, the result is arbitrary. Only the first 77 tokens (about 50 words) are used; the log "
        "shows what was cut.",
    },
)
NEGATIVE_TEXT = (
    "STRING",
    {
        "default": "",
        "multiline": False,
        "dynamicPrompts": False,
        "tooltip": "What to leave out; separate several things with a vertical bar. Its score is subtracted from that "
        "of text, so lower the threshold if the mask breaks up. If empty, nothing is subtracted.",
    },
)
RESOLUTION = (
    "INT",
    {
        "default": RESOLUTION,
        "min": RESOLUTION,
        "max": LARGEST_RESOLUTION,
        "step": RESOLUTION_STEP,
        "tooltip": "Working resolution. The model was trained at 352. Higher values find smaller objects and finer "
        "edges but take longer; above 704, or when memory is short, the image is processed in tiles and large objects "
        "may be missed. Blur and dilation keep their scale.",
    },
)
CLIPSEG_MODEL = (
    "CLIPSEG_MODEL",
    {
        "tooltip": "Optional, from 'CLIPSeg Model Loader'. If not connected, "
        f"{DEFAULT} is used ({catalog.download_size(catalog.CLIPSEG)}, downloaded once)."
    },
)


def folders() -> list[Path]:
    """Folders to search for CLIPSeg models."""
    return [folder for kind in ClipsegStore.KINDS for folder in host.model_folders(kind)]


def load(name: str, progress: Callable[[int], Progress] = host.download_progress) -> tuple:
    """Load a model by name, as a CLIPSEG_MODEL ``(processor, model)``."""
    host.call_on_unload(clipseg_loader.release)
    return clipseg_loader.load(name, ClipsegStore(folders(), progress=progress))


def make_segmenter(clipseg_model: tuple | None, view: _view.View | None = None) -> clipseg.Segmenter:
    """Move the connected model, or the default one, to its device. ``view`` shows the loading phase."""
    view = view or _view.View(None)
    view.begin(_view.LOADING)
    pair = load(DEFAULT, view.download_progress) if clipseg_model is None else clipseg_model
    processor, model = clipseg.check_pair(pair)
    model = host.on_device(model, clipseg.copy_as)
    view.begin(_view.WORK)
    return clipseg.Segmenter(processor, model)
