"""What the CLIPSeg nodes share: which model runs, and the widgets that all of them have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core import clipseg
from ..core.interfaces import Progress
from ..models import clipseg as clipseg_models
from . import _host as host
from . import _view

TEXT = (
    "STRING",
    {
        "default": "",
        "multiline": False,
        "dynamicPrompts": False,
        "tooltip": "What to select, in plain words. Several prompts are separated by | and all of them are selected; "
        "a comma stays part of a prompt. An empty text is a prompt too: it selects whatever the model makes of "
        "nothing. The model reads 77 tokens, about 50 words; more is cut, and the log says what.",
    },
)
NEGATIVE_TEXT = (
    "STRING",
    {
        "default": "",
        "multiline": False,
        "tooltip": "What not to select: its probability is subtracted from that of the text. Several prompts are "
        "separated by |. What remains may fall below the threshold: lower that if the mask breaks up. Empty: nothing "
        "is subtracted.",
    },
)
RESOLUTION = (
    "INT",
    {
        "default": clipseg.RESOLUTION,
        "min": clipseg.RESOLUTION,
        "max": clipseg.LARGEST_RESOLUTION,
        "step": clipseg.RESOLUTION_STEP,
        "tooltip": "At how many pixels a side the model looks at the picture. 352 is what it was trained for; more "
        "finds smaller things and finer edges, takes longer, and above 704 (or where memory is short) goes tile by "
        "tile, so that large things may be missed. Blur and dilation keep their meaning.",
    },
)
CLIPSEG_MODEL = (
    "CLIPSEG_MODEL",
    {"tooltip": f"From 'CLIPSeg Model Loader'. Without it {clipseg_models.DEFAULT} is used, loaded once and kept."},
)


def folders() -> list[Path]:
    """Where CLIPSeg models may lie."""
    return [folder for kind in clipseg_models.FOLDER_KINDS for folder in host.model_folders(kind)]


def load(name: str, progress: Callable[[int], Progress] = host.download_progress) -> tuple:
    """The model of that name as a CLIPSEG_MODEL ``(processor, model)``."""
    host.call_on_unload(clipseg_models.release)
    return clipseg_models.load(name, folders(), progress=progress)


def segmenter(clipseg_model: tuple | None, view: _view.View | None = None) -> clipseg.Segmenter:
    """The model of a socket, or the default one, on the device where it runs. ``view`` shows that it is loaded."""
    view = view or _view.View(None)
    view.begin(_view.LOADING)
    pair = load(clipseg_models.DEFAULT, view.download_progress) if clipseg_model is None else clipseg_model
    processor, model = clipseg.check_pair(pair)
    placed = host.on_device(model, clipseg.copy_as)
    view.begin(_view.WORK)
    return clipseg.Segmenter(processor, placed)
