"""Inputs that the text-to-mask nodes share."""

from __future__ import annotations

from ..core.text.query import MAX_RESOLUTION, RESOLUTION, RESOLUTION_STEP
from ..models import catalog
from ..models.clipseg_store import DEFAULT
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
    "CLIPSEG_MODEL",
    f"Optional, from 'CLIPSeg Model Loader'. If not connected, {DEFAULT} is used "
    f"({catalog.download_size(catalog.CLIPSEG)}, downloaded once).",
)
