"""Small images of a node's run, from which `web/js` draws the node's live view in the editor.

They are made only for runs that the editor queued, and only for the first `MOST_PICTURES` images of a batch. Their
files are in ComfyUI's temp folder (`_view_files` decides for how long). The node's answer ``{"ui": {"maskwright":
[...]}, "result": ...}`` has one entry for each image: how to draw it (``kind``), its files as ``{"filename",
"subfolder", "type"}``, and other values for drawing. Callers without an editor get the plain result.
"""

from __future__ import annotations

import functools
import io
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from ..core import tensors
from ..core.engine import Progress
from . import _host as host
from . import _view_files

KEY = "maskwright"
REGIONS_EVENT = "maskwright.regions"
PHASE_EVENT = "maskwright.phase"
LOADING, DOWNLOAD, WORK = "loading", "download", "work"  # phases, beside those of `core.cutout.remove`
PHASE_PAUSE = 0.5  # seconds before the same phase is sent again
SUBFOLDER = "maskwright"
LONGEST_SIDE = 1024  # pixels of an image in the view
LONGEST_ID = 100  # characters of a workflow's id, of which ComfyUI's have 36
LONGEST_TEXT = 1000  # characters of a setting
MOST_PICTURES = 64  # of one run, the first ones: they cost time and disk
MOST_BOXES = 1000  # of one image, the first ones

# Bytes. One entry's files stay below a megabyte: an image and its probabilities, or two images and an alpha.
_PICTURE = 330_000
_ALPHA = 300_000
_PROBABILITIES = 600_000
_QUALITIES = (90, 75, 50, 30)

# Asked for by a node as a hidden input: the editor sends the workflow with every run, a script need not.
HIDDEN = {"extra_pnginfo": "EXTRA_PNGINFO"}

log = logging.getLogger(__name__)


def _never_fails_the_run(method: Callable) -> Callable:
    """Make a method of `View` do nothing without an editor, and log its errors instead of raising them."""

    @functools.wraps(method)
    def guarded(self: View, *args: object, **kwargs: object) -> None:
        if self._folder is None:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            if host.is_interrupt(error):
                raise
            log.warning("Could not update the preview of this node: %s", str(error) or type(error).__name__)
            self._folder = None
            self._entries.clear()

    return guarded


class View:
    """What one run of a node shows. Every method does nothing where no editor asked."""

    def __init__(self, extra_pnginfo: Mapping | None) -> None:
        workflow = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, Mapping) else None
        folder = host.temp_folder() if workflow else None
        workflow_id = _id_of(workflow)
        # The editor may have another workflow open when it receives this.
        self._workflow = {"workflow": workflow_id} if workflow_id else {}
        self._folder = folder / SUBFOLDER if folder else None
        self._files = _view_files.files_of(workflow_id, host.executing()) if folder else None
        self._name = uuid.uuid4().hex
        self._entries: dict[int, dict] = {}
        self._boxes: Sequence[Sequence] | None = None  # of the image that the editor was shown last
        self._phases: dict[str, float] = {}  # when each phase was sent last

    def answer(self, result: tuple, **common: Any) -> tuple | dict:
        """The node's return value: ``result``, and for the editor the entries, each with the values in ``common``.

        Args:
            result: The node's outputs; the first is a tensor.
        """
        if not self._entries:
            return result
        if "settings" in common:
            common["settings"] = _without_long_texts(common["settings"])
        entries = [{**common, **self._workflow, **self._entries[index]} for index in sorted(self._entries)]
        if result:
            first = result[0].view_as(result[0])  # a new object, since a node may return its input
            self._files.keep_for(first)
            result = (first, *result[1:])
        return {"ui": {KEY: entries}, "result": result}

    @property
    def most_images(self) -> int:
        """For how many images of a batch the view shows something; 0 where no editor asked."""
        return MOST_PICTURES if self._folder else 0

    @_never_fails_the_run
    def probabilities(self, images: torch.Tensor, probabilities: Sequence[torch.Tensor], scale: float) -> None:
        """Probabilities ``[h,w]`` of the first of the ``images`` ``[B,H,W,C]``.

        Args:
            scale: How many times the model's own size the probabilities have.
        """
        for index, values in enumerate(probabilities[:MOST_PICTURES]):
            # Normalized by the maximum, since a stretched mask would show steps in small values.
            high = float(values.max()) or 1.0
            data, bits, shrunk = _encode_probabilities(values / high)
            facts = {"bits": bits, "high": high, "scale": scale / shrunk}
            self._add(index, images[index], _small(images[index]), {"probabilities": (data, "png")}, facts)

    @_never_fails_the_run
    def comparison(self, before: torch.Tensor, after: torch.Tensor, boxes: Sequence[Sequence] = ()) -> None:
        """Images before and after a node's work.

        Args:
            before: ``[B,H,W,C]``.
            after: ``[B*k,n*H,W,3 or 4]``: k versions of each, n images stacked vertically, usually 1; the fourth
                channel is alpha.
            boxes: For each of these its regions ``(x1, y1, x2, y2)`` in pixels of ``before``.
        """
        for index, new in enumerate(after[:MOST_PICTURES]):
            old = before[index * len(before) // len(after)]
            files = {}
            small, small_old = _small(new), _small(old)
            colours = small.convert("RGB")
            if new.shape[-1] == 4:
                alpha = small.getchannel("A")
                files["alpha"] = _encode(alpha, _ALPHA, lossless=True)
                if old.shape[:2] == new.shape[:2]:
                    # Cutouts are black where nothing shows. JPEG would spread that over the edge; these colours do not.
                    colours.paste(small_old.convert("RGB"), mask=alpha.point(lambda level: 0 if level else 255))
            files["after"] = _encode(colours, _PICTURE)
            regions = boxes[index] if index < len(boxes) else []
            self._add(index, old, small_old, files, {"boxes": _as_numbers(regions)})

    @_never_fails_the_run
    def working(self, node_id: str, image: torch.Tensor, boxes: Sequence[Sequence], current: int) -> None:
        """Show immediately where the node is working: numbered regions over an image.

        Args:
            node_id: The node's own, from the hidden input ``UNIQUE_ID``.
            image: The image ``[H,W,C]``.
            boxes: Of its regions, ``(x1, y1, x2, y2)`` in pixels. Image and boxes are sent once for the same list.
            current: The index of the one that is worked on.
        """
        message = {**self._workflow, "node": str(node_id), "current": current}
        if boxes is not self._boxes:
            self._boxes = boxes
            message["boxes"] = _as_numbers(boxes)
            message["count"] = len(boxes)
            name = f"working-{uuid.uuid4().hex}"
            message["picture"] = self._write(name, *_encode(_small(image).convert("RGB"), _PICTURE))
            message["size"] = [image.shape[1], image.shape[0]]
        host.tell_editor(REGIONS_EVENT, message)

    @_never_fails_the_run
    def begin(self, phase: str) -> None:
        """Tell the editor what the node does from now on. Callers may report every image of a batch: a phase that was
        sent less than `PHASE_PAUSE` ago is not sent again."""
        executing, now = host.executing(), time.monotonic()
        if executing is None or now - self._phases.get(phase, -PHASE_PAUSE) < PHASE_PAUSE:
            return
        self._phases[phase] = now
        host.tell_editor(PHASE_EVENT, {**self._workflow, "node": executing[1], "phase": phase})

    def download_progress(self, total: int) -> Progress:
        """As `host.download_progress`, and the editor learns that the node downloads a model."""
        progress = host.download_progress(total)
        self.begin(DOWNLOAD)
        return progress

    def _add(self, index: int, image: torch.Tensor, small: Image.Image, files: dict, facts: dict) -> None:
        height, width = image.shape[:2]
        entry = {"size": [width, height], **facts}
        files = {"picture": _encode(small.convert("RGB"), _PICTURE), **files}
        for name, (data, suffix) in files.items():
            entry[name] = self._write(f"{index:04}-{name}", data, suffix)
        self._entries[index] = entry

    def _write(self, name: str, data: bytes, suffix: str) -> dict:
        self._folder.mkdir(parents=True, exist_ok=True)
        filename = f"{self._name}-{name}.{suffix}"
        path = self._folder / filename
        self._files.add(path)
        path.write_bytes(data)
        return {"filename": filename, "subfolder": SUBFOLDER, "type": "temp"}


def _id_of(workflow: object) -> str:
    """A workflow's id; "" if it has none, or one too long to repeat in every entry (`web/js` has the same limit)."""
    value = workflow.get("id") if isinstance(workflow, Mapping) else None
    return value if isinstance(value, str) and len(value) <= LONGEST_ID else ""


def _without_long_texts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Drop long texts, since every entry repeats the settings. `web/js` treats a missing setting as unchanged."""
    return {name: value for name, value in settings.items() if not isinstance(value, str) or len(value) <= LONGEST_TEXT}


def _as_numbers(boxes: Sequence[Sequence]) -> list[list[float]]:
    return [[float(side) for side in box] for box in boxes[:MOST_BOXES]]


def _small(picture: torch.Tensor) -> Image.Image:
    """An image ``[H,W,C]`` for the view: no side longer than `LONGEST_SIDE`, and none shorter than a pixel."""
    image = tensors.to_pil(picture[..., 0] if picture.shape[-1] == 1 else picture)
    if max(image.size) > LONGEST_SIDE:
        factor = LONGEST_SIDE / max(image.size)
        size = tuple(max(1, round(side * factor)) for side in image.size)
        image = image.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    return image


def _encode(image: Image.Image, budget: int, lossless: bool = False) -> tuple[bytes, str]:
    """An image as a file of at most ``budget`` bytes, or as small as it gets: the bytes and the name's ending."""
    if lossless and len(data := _saved(image, "PNG", compress_level=1)) <= budget:
        return data, "png"
    for quality in _QUALITIES:
        data = _saved(image, "JPEG", quality=quality, subsampling=0)
        if len(data) <= budget:
            break
    return data, "jpg"


def _encode_probabilities(values: torch.Tensor) -> tuple[bytes, int, int]:
    """Probabilities ``[h,w]`` as a grey PNG: its bytes, how many bits a value has, and how many times smaller it is.

    16 bits (see `tensors.to_16bit_halves`), so that what the browser makes of them is what the node makes; 8 where
    that would be a large file, and only then fewer pixels.
    """
    data = _saved(Image.fromarray(tensors.to_16bit_halves(values)), "PNG", compress_level=1)
    if len(data) <= _PROBABILITIES:
        return data, 16, 1
    shrunk = 1
    while True:
        height, width = values.shape[-2] // shrunk, values.shape[-1] // shrunk
        levels = tensors.resize_mask(values[None], height, width, "area")[0]  # [h,w] -> [1,h,w] and back
        data = _saved(Image.fromarray((levels * 255).round().to(torch.uint8).cpu().numpy()), "PNG", compress_level=1)
        if len(data) <= _PROBABILITIES or min(height, width) < 2:
            return data, 8, shrunk
        shrunk *= 2


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
