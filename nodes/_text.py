"""What the text-to-mask nodes share: their inputs, and the search for their model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core.engine import Progress
from ..core.text.query import MAX_RESOLUTION, RESOLUTION, RESOLUTION_STEP
from ..models import catalog, clipseg_loader
from ..models.clipseg_store import DEFAULT, ClipsegStore
from . import _host as host
from ._widgets import integer, socket, text

IMAGES = socket("IMAGE", "The images to search, of any size. Transparency is ignored.")
TEXT = text(
    multiline=True,
    placeholder="text: what to select, e.g. face | hair",
    tooltip="What to select, in plain words. Separate several things with a vertical bar; commas do not separate. If "
    "empty, the result is arbitrary. Only the first 77 tokens (about 50 words) are used; the log shows what was cut.",
)
NEGATIVE_TEXT = text(
    tooltip="What to leave out; separate several things with a vertical bar. Its score is subtracted from that of "
    "text, so lower the threshold if the mask breaks up. If empty, nothing is subtracted.",
)
WORKING_RESOLUTION = integer(
    RESOLUTION,
    (RESOLUTION, MAX_RESOLUTION, RESOLUTION_STEP),
    tooltip="Working resolution. The model was trained at 352. Higher values find smaller objects and finer edges but "
    "take longer; above 704, or when memory is short, the image is processed in tiles and large objects may be missed. "
    "Blur and dilation keep their scale.",
)
CLIPSEG_MODEL = socket(
    "CLIPSEG_MODEL,CLIPSEGMODEL",
    f"Optional, from 'CLIPSeg Model Loader'. If not connected, {DEFAULT} is used "
    f"({catalog.download_size(catalog.CLIPSEG)}, downloaded once).",
)


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
