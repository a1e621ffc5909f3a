"""ComfyUI's BOUNDING_BOX: a dict with x, y, width and height, a list of them, or a list of lists, one per image.

ComfyUI's own nodes output a list of lists, and read a single list as the boxes of every image. Coordinates may be
floats; like `CropByBBoxes`, this module truncates them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.checks import describe, describe_type, is_real
from ..core.errors import InputError
from ..core.geometry import Box
from ..core.instances.instances import Detection, Instance

logger = logging.getLogger(__name__)

NAME = "bounding_boxes"
_SIDES = ("x", "y", "width", "height")
_FORMAT = (
    "Connect an output of type BOUNDING_BOX: a box with x, y, width and height, a list of boxes, or one list per image"
)


def read_boxes(value: object, width: int, height: int, name: str = NAME) -> list[list[Detection]]:
    """Read a BOUNDING_BOX: one list of detections for all images, or one per image. None has no boxes.

    Boxes are cut to an image of ``width`` x ``height``; the log counts those that have no pixel in it.

    Raises:
        InputError: Another type or depth, or a number is missing, NaN or infinite.
    """
    frames = _as_lists(value, name)
    names = [name] if len(frames) == 1 else [f"list {i} of {name}" for i in range(len(frames))]
    detections = [
        [_read_box(box, width, height, f"box {i} of {listed}") for i, box in enumerate(frame)]
        for listed, frame in zip(names, frames)
    ]
    flat = [each for frame in detections for each in frame]
    outside = sum(each.box is None for each in flat)
    if outside:
        logger.warning(
            "%d of %d boxes of %s select nothing: they are outside the image of %d x %d, or of size 0",
            outside, len(flat), name, width, height,
        )  # fmt: skip
    return detections


def _as_lists(value: object, name: str) -> list[list[Mapping]]:
    if value is None:
        return [[]]
    if isinstance(value, Mapping):
        return [[value]]
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{name} is {describe_type(value, 'a bounding box')}", _FORMAT)
    if not value:
        return [[]]
    if all(isinstance(each, Mapping) for each in value):
        return [list(value)]
    for frame in value:
        if not isinstance(frame, (list, tuple)) or not all(isinstance(box, Mapping) for box in frame):
            raise InputError(f"{name} is {describe(value)}, which is not a list of boxes for each image", _FORMAT)
    return [list(frame) for frame in value]


def _read_box(value: Mapping, width: int, height: int, name: str) -> Detection:
    x, y, box_width, box_height = (_read_number(value.get(side), f"{side} of {name}") for side in _SIDES)
    score = value.get("score")
    if score is not None:
        score = _read_number(score, f"score of {name}")
    # Cut to the image before rounding: the sum of two finite numbers may be infinite.
    x1, x2 = (int(min(width, max(0, side))) for side in (x, x + box_width))
    y1, y2 = (int(min(height, max(0, side))) for side in (y, y + box_height))
    box = Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
    return Detection(box, score, {key: each for key, each in value.items() if key not in _SIDES})


def _read_number(value: object, name: str) -> float:
    item = getattr(value, "item", None)
    value = item() if item and getattr(value, "shape", None) == () else value  # NumPy's and torch's scalars
    try:
        number = math.nan if isinstance(value, bool) or not is_real(value) else float(value)
    except OverflowError:  # an int beyond the range of floats
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{name} is {describe(value)}, which is not a finite number", _FORMAT)
    return number


def write_boxes(instances: Sequence[Instance], images: int = 1) -> list[list[dict[str, Any]]]:
    """The tight boxes of the instances, one list per image, with the score, label and other values of their boxes.

    The box of an empty mask has width and height 0.
    """
    frames: list[list[dict[str, Any]]] = [[] for _ in range(images)]
    for instance in instances:
        frames[instance.image].append({**_write_box(instance), **instance.details})
    return frames


def _write_box(instance: Instance) -> dict[str, Any]:
    box = instance.box
    if instance.area == 0:
        return dict.fromkeys(_SIDES, 0)
    return {"x": box.x1, "y": box.y1, "width": box.width, "height": box.height}
