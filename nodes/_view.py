"""Preview data of a node's run, from which `web/js` draws the live preview in the editor.

Only runs queued by the editor have previews, and only the first `MAX_IMAGES` images of a batch. Preview files are in
ComfyUI's temp folder; `_view_files` manages their lifetime. The node returns ``{"ui": {"maskwright": [...]}, "result":
...}`` with one entry per image: how to draw it (``kind``), its files as ``{"filename", "subfolder", "type"}``, and
other values for drawing. Without an editor, the node returns the plain result.
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
from ..core.checks import as_image_batch
from ..core.distance import is_hard
from ..core.engine import Progress
from ..core.instances.instances import Instance
from ..core.instances.label_map import draw_labels
from . import _host as host
from . import _view_files

KEY = "maskwright"
REGIONS_EVENT = "maskwright.regions"
PHASE_EVENT = "maskwright.phase"
LOADING, DOWNLOAD, WORK = "loading", "download", "work"  # phases, in addition to those of `core.cutout.matting`
PHASE_PAUSE = 0.5  # minimum seconds between messages about the same phase
SUBFOLDER = "maskwright"
LONGEST_SIDE = 1024  # of a preview image, in pixels
LONGEST_ID = 100  # characters of a workflow id; ComfyUI's have 36
LONGEST_TEXT = 1000  # characters of a setting
MAX_IMAGES = 64  # per run: each costs time and disk space
MAX_BOXES = 1000  # per image

# File sizes in bytes. They keep an entry (image and probabilities, or two images and alpha) below a megabyte.
_IMAGE_BYTES = 330_000
_ALPHA_BYTES = 300_000
_PROBABILITIES_BYTES = 600_000
_JPEG_QUALITIES = (90, 75, 50, 30)

# The hidden input through which a node gets the workflow. The editor sends it with every run; scripts need not.
HIDDEN = {"extra_pnginfo": "EXTRA_PNGINFO"}

logger = logging.getLogger(__name__)


def _never_fail_the_run(method: Callable) -> Callable:
    """Make a method of `View` a no-op without an editor, and log its errors instead of raising them."""

    @functools.wraps(method)
    def guarded(self: View, *args: object, **kwargs: object) -> None:
        if self._folder is None:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            if host.is_interrupt(error):
                raise
            logger.warning("Could not update the preview of this node: %s", str(error) or type(error).__name__)
            self._folder = None
            self._entries.clear()

    return guarded


class View:
    """Preview of one run of a node. Every method is a no-op if no editor queued the run.

    Attributes:
        max_images: How many images of a batch get a preview; 0 if no editor queued the run.
    """

    def __init__(self, extra_pnginfo: Mapping | None) -> None:
        workflow = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, Mapping) else None
        folder = host.temp_folder() if workflow else None
        workflow_id = _get_workflow_id(workflow) if workflow else ""
        # By the time the editor receives this, it may show another workflow.
        self._workflow = {"workflow": workflow_id} if workflow_id else {}
        self._folder = folder / SUBFOLDER if folder else None
        self.max_images = MAX_IMAGES if folder else 0
        self._files = _view_files.get_run_files(workflow_id, host.executing()) if folder else None
        self._name = uuid.uuid4().hex
        self._entries: dict[int, dict] = {}
        self._boxes: Sequence[Sequence] | None = None  # last sent to the editor
        self._phase_times: dict[str, float] = {}  # when each phase was last sent

    def with_previews(self, result: tuple, **common: Any) -> tuple | dict:
        """Return ``result``, with the entries for the editor if there are any.

        Args:
            result: The node's outputs; the first is a tensor or a list of tensors.
            common: Values to add to every entry.
        """
        if not self._entries or self._files is None:
            return result
        if "settings" in common:
            common["settings"] = _without_long_texts(common["settings"])
        entries = [{**common, **self._workflow, **self._entries[index]} for index in sorted(self._entries)]
        if result:
            output = result[0]
            first = output[0] if isinstance(output, list) else output
            first = first.view_as(first)  # a new object, since a node may return its input
            self._files.keep_for(first)
            result = ([first, *output[1:]] if isinstance(output, list) else first, *result[1:])
        return {"ui": {KEY: entries}, "result": result}

    @_never_fail_the_run
    def probabilities(self, images: torch.Tensor, probabilities: Sequence[torch.Tensor], scale: float) -> None:
        """Add entries for the probabilities ``[h,w]`` of the first ``images`` ``[B,H,W,C]``.

        Args:
            scale: Size of the probabilities relative to the model's native resolution.
        """
        for index, probability_map in enumerate(probabilities[:MAX_IMAGES]):
            # Normalized by the maximum, since stretching would make the steps between small values visible.
            high = float(probability_map.max()) or 1.0
            data, bits, shrunk = _encode_probabilities(probability_map / high)
            values = {"bits": bits, "high": high, "scale": scale / shrunk}
            self._add(index, images[index], _shrink(images[index]), {"probabilities": (data, "png")}, values)

    @_never_fail_the_run
    def masks(self, masks: torch.Tensor, images: torch.Tensor | None) -> None:
        """Add entries for masks ``[B,H,W]`` as the node received them: the editor applies the node's settings. A batch
        of 0 is shown as an empty mask.

        Args:
            images: ``[B,H,W,C]`` of any size, the last for all further masks. If None, each mask is also its image.
        """
        if images is not None:
            images = as_image_batch(images, "image")
        inputs = {"has_image": images is not None, "has_mask": len(masks) > 0}
        if len(masks) == 0:  # show that nothing is selected, rather than an earlier result
            masks = masks.new_zeros(1, *masks.shape[1:])
        for index, mask in enumerate(masks[:MAX_IMAGES]):
            image = mask[..., None] if images is None else images[min(index, len(images) - 1)]
            small = _shrink_mask(mask)
            data, bits, shrunk = _encode_mask(small)
            values = {"bits": bits, "high": 1.0, "scale": small.shape[1] / mask.shape[1] / shrunk}
            self._add(index, image, _shrink(image), {"mask": (data, "png")}, {**inputs, **values})

    @_never_fail_the_run
    def comparison(self, before: torch.Tensor, after: torch.Tensor, boxes: Sequence[Sequence] = ()) -> None:
        """Add entries that compare images before and after a node's work, after those of earlier calls.

        Args:
            before: ``[B,H,W,C]``.
            after: ``[B*k,n*H,W,3 or 4]``: k versions of each image, each of n images stacked vertically (usually 1);
                the fourth channel is alpha.
            boxes: The regions of each image of ``after``: ``(x1, y1, x2, y2)`` in pixels of ``before``.
        """
        start = len(self._entries)
        for index, new in enumerate(after[: MAX_IMAGES - start]):
            old = before[index * len(before) // len(after)]
            files = {}
            small, small_old = _shrink(new), _shrink(old)
            colors = small.convert("RGB")
            if new.shape[-1] == 4:
                alpha = small.getchannel("A")
                files["alpha"] = _encode(alpha, _ALPHA_BYTES, lossless=True)
                if old.shape[:2] == new.shape[:2]:
                    # Cutouts are black where transparent. JPEG would bleed that into edges: use the old colors there.
                    colors.paste(small_old.convert("RGB"), mask=alpha.point(lambda value: 0 if value else 255))
            files["after"] = _encode(colors, _IMAGE_BYTES)
            regions = boxes[index] if index < len(boxes) else []
            self._add(start + index, old, small_old, files, {"boxes": _as_numbers(regions)})

    @_never_fail_the_run
    def crops(
        self, images: torch.Tensor, windows: Sequence[Sequence[Sequence]], bboxes: Sequence[Sequence[Sequence]]
    ) -> None:
        """Add entries for images ``[B,H,W,C]``, the crops of each, and the regions in them.

        Args:
            windows, bboxes: The crops and the tight boxes of the regions: ``(x1, y1, x2, y2)`` in pixels.
        """
        for index, image in enumerate(images[:MAX_IMAGES]):
            boxes = {"boxes": _as_numbers(windows[index]), "regions": _as_numbers(bboxes[index])}
            self._add(index, image, _shrink(image), {}, boxes)

    @_never_fail_the_run
    def instances(self, images: Sequence[torch.Tensor], instances: Sequence[Sequence[Instance]]) -> None:
        """Add entries for the instances of each of ``images``, each ``[H,W,C]`` of the masks' size."""
        for index, (image, group) in enumerate(zip(images[:MAX_IMAGES], instances)):
            small = _shrink(image)
            labels = draw_labels(group[:MAX_BOXES], image.shape[:2], (small.height, small.width))
            data = _encode_as(Image.fromarray(labels), "PNG", compress_level=1)
            values = {"boxes": _as_numbers([[*each.box] for each in group[:MAX_BOXES]]), "count": len(group)}
            self._add(index, image, small, {"labels": (data, "png")}, values)

    @_never_fail_the_run
    def on_region(self, node_id: str, image: torch.Tensor, boxes: Sequence[Sequence], current: int) -> None:
        """Send the editor the region that the node is working on, to be drawn over the image.

        Args:
            node_id: The node's own id, from the hidden input ``UNIQUE_ID``.
            image: ``[H,W,C]``.
            boxes: Its regions, ``(x1, y1, x2, y2)`` in pixels. The same list is sent only once, as is the
                image.
            current: Index of the region in progress.
        """
        message = {**self._workflow, "node": str(node_id), "current": current}
        if boxes is not self._boxes:
            self._boxes = boxes
            message["boxes"] = _as_numbers(boxes)
            message["count"] = len(boxes)
            name = f"working-{uuid.uuid4().hex}"
            message["image"] = self._write(name, *_encode(_shrink(image).convert("RGB"), _IMAGE_BYTES))
            message["size"] = [image.shape[1], image.shape[0]]
        host.send_to_editor(REGIONS_EVENT, message)

    @_never_fail_the_run
    def begin(self, phase: str) -> None:
        """Report a phase of the node's work to the editor. May be called for every image: the same phase is sent
        at most once per `PHASE_PAUSE`."""
        executing, now = host.executing(), time.monotonic()
        if executing is None or now - self._phase_times.get(phase, -PHASE_PAUSE) < PHASE_PAUSE:
            return
        self._phase_times[phase] = now
        host.send_to_editor(PHASE_EVENT, {**self._workflow, "node": executing[1], "phase": phase})

    def download_progress(self, total: int) -> Progress:
        """`host.download_progress` that also reports the download phase to the editor."""
        progress = host.download_progress(total)
        self.begin(DOWNLOAD)
        return progress

    def _add(self, index: int, image: torch.Tensor, small: Image.Image, files: dict, values: dict) -> None:
        height, width = image.shape[:2]
        entry = {"size": [width, height], **values}
        files = {"image": _encode(small.convert("RGB"), _IMAGE_BYTES), **files}
        for name, (data, suffix) in files.items():
            entry[name] = self._write(f"{index:04}-{name}", data, suffix)
        self._entries[index] = entry

    def _write(self, name: str, data: bytes, suffix: str) -> dict:
        assert self._folder is not None and self._files is not None  # see _never_fail_the_run
        self._folder.mkdir(parents=True, exist_ok=True)
        filename = f"{self._name}-{name}.{suffix}"
        path = self._folder / filename
        self._files.add(path)
        path.write_bytes(data)
        return {"filename": filename, "subfolder": SUBFOLDER, "type": "temp"}


def _get_workflow_id(workflow: object) -> str:
    """A workflow's id; "" if it has none or one too long to repeat in every entry (`web/js` has the same limit)."""
    value = workflow.get("id") if isinstance(workflow, Mapping) else None
    return value if isinstance(value, str) and len(value) <= LONGEST_ID else ""


def _without_long_texts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Drop long texts, since settings are repeated in every entry. `web/js` treats a missing setting as unchanged."""
    return {name: value for name, value in settings.items() if not isinstance(value, str) or len(value) <= LONGEST_TEXT}


def _as_numbers(boxes: Sequence[Sequence]) -> list[list[float]]:
    return [[float(side) for side in box] for box in boxes[:MAX_BOXES]]


def _shrink(image: torch.Tensor) -> Image.Image:
    """Convert ``[H,W,C]`` to a Pillow image with no side longer than `LONGEST_SIDE`."""
    small = tensors.to_pil(image[..., 0] if image.shape[-1] == 1 else image)
    if max(small.size) > LONGEST_SIDE:
        factor = LONGEST_SIDE / max(small.size)
        width, height = (max(1, round(side * factor)) for side in small.size)
        small = small.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)
    return small


def _encode(image: Image.Image, max_bytes: int, lossless: bool = False) -> tuple[bytes, str]:
    """Encode an image in at most ``max_bytes``, or at the lowest quality. Returns the bytes and the file extension."""
    if lossless and len(data := _encode_as(image, "PNG", compress_level=1)) <= max_bytes:
        return data, "png"
    for quality in _JPEG_QUALITIES:
        data = _encode_as(image, "JPEG", quality=quality, subsampling=0)
        if len(data) <= max_bytes:
            break
    return data, "jpg"


def _encode_probabilities(values: torch.Tensor) -> tuple[bytes, int, int]:
    """Encode probabilities ``[h,w]`` as a gray PNG. Returns its bytes, the bits per value, and the factor of shrinking.

    Uses 16 bits (see `tensors.to_16bit_halves`), so that the browser computes the same mask as the node; 8 bits if the
    file would be too large, and then fewer pixels if necessary.
    """
    data = _encode_as(Image.fromarray(tensors.to_16bit_halves(values)), "PNG", compress_level=1)
    if len(data) <= _PROBABILITIES_BYTES:
        return data, 16, 1
    shrunk = 1
    while True:
        height, width = values.shape[-2] // shrunk, values.shape[-1] // shrunk
        small = tensors.resize_mask(values[None], height, width, "area")[0]  # [h,w] -> [1,h,w] and back
        data = _encode_as(Image.fromarray((small * 255).round().to(torch.uint8).cpu().numpy()), "PNG", compress_level=1)
        if len(data) <= _PROBABILITIES_BYTES or min(height, width) < 2:
            return data, 8, shrunk
        shrunk *= 2


def _shrink_mask(mask: torch.Tensor) -> torch.Tensor:
    """``[H,W]`` with no side longer than `LONGEST_SIDE`. A binary mask stays binary."""
    if max(mask.shape) <= LONGEST_SIDE:
        return mask
    factor = LONGEST_SIDE / max(mask.shape)
    height, width = (max(1, round(side * factor)) for side in mask.shape)
    small = tensors.resize_mask(mask[None], height, width, "area")[0]  # [H,W] -> [1,h,w] -> [h,w]
    return (small >= 0.5).float() if is_hard(mask) else small


def _encode_mask(mask: torch.Tensor) -> tuple[bytes, int, int]:
    """`_encode_probabilities` for a mask ``[H,W]``: 8 bits are enough for a binary mask."""
    if not is_hard(mask):
        return _encode_probabilities(mask)
    return _encode_as(Image.fromarray(tensors.to_8bit(mask)), "PNG", compress_level=1), 8, 1


def _encode_as(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()
