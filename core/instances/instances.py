"""Instances: the single things that masks and bounding boxes select.

An instance refers to the mask it comes from; only those that are kept become masks of the image's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .. import tensors
from ..checks import check_choice, check_mask_count
from ..engine import Host
from ..errors import InputError, PackError
from ..geometry import Box
from ..packages import import_scipy
from ..parts import cut_apart
from ..regions import tight_box

SPLITS = ("connected parts", "each mask", "leave as they are")
MEMORY_SHARE = 4  # masks may take at most one of this many parts of the free memory
_CHUNK = 1 << 20  # labels counted at once


@dataclass(frozen=True)
class Detection:
    """A bounding box that another node found.

    Attributes:
        box: In whole pixels inside the image; None if the box has no pixel there.
        score: None if the box has none.
        details: All other values of the host's box, such as its label; passed through unchanged.
    """

    box: Box | None
    score: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Part:
    """A selected part of one mask, or a rectangle.

    Attributes:
        box: The tight box around the selected pixels; for an empty mask, the whole mask.
        area: The number of selected pixels, those of at least 1/255.
        values: The mask ``[H,W]`` that the part belongs to; None for a rectangle.
        labels: ``[h,w]`` from ``corner`` on: equals ``number`` where the part is.
        is_whole: Whether the part is the whole mask, with its faint values.
    """

    box: Box
    area: int
    values: torch.Tensor | None = None
    labels: np.ndarray | None = None
    number: int = 1
    corner: tuple[int, int] = (0, 0)
    is_whole: bool = False

    def selected(self, box: Box) -> np.ndarray:
        """Where ``box``, which must be inside the part's box, is selected: bool ``[h,w]``."""
        if self.labels is None:
            return np.ones((box.height, box.width), bool)
        x, y = self.corner
        return self.labels[box.y1 - y : box.y2 - y, box.x1 - x : box.x2 - x] == self.number

    def sample(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Where the pixels of these rows and columns, which must be inside the part's box, are selected."""
        if self.labels is None:
            return np.ones((len(rows), len(columns)), bool)
        x, y = self.corner
        return self.labels[np.ix_(rows - y, columns - x)] == self.number

    def add_to(self, mask: torch.Tensor, outer: Box) -> None:
        """Add the part, by the maximum, to the mask ``[1,h,w]`` of ``outer``."""
        common = outer if self.is_whole else self.box.intersection(outer)
        if common is None:
            return
        place = common.relative_to(outer).crop(mask)
        if self.values is None:
            place.fill_(1)
            return
        values = common.crop(self.values.unsqueeze(0))
        if not self.is_whole:
            values = values * torch.from_numpy(self.selected(common)).to(values.device)
        torch.maximum(place, values, out=place)


@dataclass(frozen=True, eq=False)
class Instance:
    """One thing in an image: one or more parts.

    Attributes:
        parts: At least one.
        image: Index of its image.
        score, details: See `Detection`.
    """

    parts: tuple[Part, ...]
    image: int = 0
    score: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def box(self) -> Box:
        """The tight box around all parts."""
        boxes = [part.box for part in self.parts]
        return Box(
            min(box.x1 for box in boxes), min(box.y1 for box in boxes),
            max(box.x2 for box in boxes), max(box.y2 for box in boxes),
        )  # fmt: skip

    @property
    def area(self) -> int:
        """The number of selected pixels. Pixels that several parts share count once for each."""
        return sum(part.area for part in self.parts)

    def crop_mask(self, outer: Box, device: torch.device | None = None) -> torch.Tensor:
        """The instance's mask in ``outer``: ``[1,h,w]`` in 0..1, by default on the device of its mask."""
        values = self.parts[0].values
        if device is None:
            device = torch.device("cpu") if values is None else values.device
        mask = torch.zeros(1, outer.height, outer.width, device=device)
        for part in self.parts:
            part.add_to(mask, outer)
        return mask


def find_instances(
    masks: torch.Tensor,
    detections: Sequence[Sequence[Detection]] = (),
    split: str = "connected parts",
    images: int = 1,
    least_area: float = 0,
    name: str = "masks",
) -> list[Instance]:
    """Find the instances that masks select, in the order of the masks, and in each mask from the top down.

    Args:
        masks: ``[M,H,W]``. Pixels of at least 1/255 are selected, and corner neighbors are connected.
        detections: One list for all images or one per image. If there are as many boxes as masks, box i describes
            mask i. Otherwise they describe the connected parts whose center they contain. The boxes
            themselves select nothing.
        split: One of `SPLITS`: an instance for every connected part; for every mask that selects something; or for
            every mask.
        images: The number of images; 1 if unknown.
        least_area: Parts with fewer selected pixels are left out.
        name: The name of the input ``masks``, for messages.

    Raises:
        InputError: ``split`` is unknown, or the numbers of masks, boxes and images do not match.
    """
    check_choice(split, "split", SPLITS)
    instances = []
    for mask, image, detection, nearby in _assign_detections(masks, detections, images, name):
        if split == SPLITS[0]:
            parts = list(_find_parts(mask, least_area))
        else:
            part = _whole_part(mask)
            is_kept = part.area >= least_area and (part.area > 0 or split == SPLITS[2])
            parts = [part] if is_kept else []
        matches = _find_containing(parts, nearby) if split == SPLITS[0] and nearby else [detection] * len(parts)
        instances += [_describe((part,), image, match) for part, match in zip(parts, matches)]
    return instances


def boxes_to_instances(
    detections: Sequence[Sequence[Detection]], least_area: float = 0, images: int = 1
) -> list[Instance]:
    """An instance for every bounding box with a pixel inside the image, as a rectangle of 1, list by list.

    Raises:
        InputError: The numbers of lists and images do not match.
    """
    if images > 1:
        check_lists(detections, images)
    return [
        _describe((Part(box, area),), image, each)
        for image, frame in enumerate(detections)
        for each in frame
        if (box := each.box) and (area := box.width * box.height) >= least_area
    ]


def check_lists(detections: Sequence[Sequence[Detection]], images: int) -> None:
    """Raise an error unless there is one list for all images, or one list per image."""
    if len(detections) not in (1, images):
        raise InputError(
            f"image is a batch of {images}, and bounding_boxes has {len(detections)} lists",
            "Use one list for all images, or one list per image",
        )


def count_images(masks: int, detections: Sequence[Sequence[Detection]], images: int = 1) -> int:
    """The number of images with separate instances: 1 if all images share them. Arguments as in `find_instances`."""
    return masks if masks > 1 and masks in (len(detections), images) else max(1, len(detections))


def _describe(parts: tuple[Part, ...], image: int, detection: Detection | None) -> Instance:
    if detection is None:
        return Instance(parts, image)
    return Instance(parts, image, detection.score, detection.details)


def _assign_detections(
    masks: torch.Tensor, detections: Sequence[Sequence[Detection]], images: int, name: str
) -> Iterator[tuple[torch.Tensor, int, Detection | None, Sequence[Detection]]]:
    """Yield each mask ``[H,W]`` with the index of its image, its own detection or None, and the detections of its image
    if the mask has none."""
    flat = [(image, each) for image, frame in enumerate(detections) for each in frame]
    lists, count = len(detections), len(masks)
    is_one_per_image = count > 1 and count in (lists, images)
    if not flat:
        check_mask_count(count, images, name)
    elif len(flat) == count:
        pairs = [(i if is_one_per_image and lists == 1 else image, each) for i, (image, each) in enumerate(flat)]
        last = max(image for image, _ in pairs)
        if images > 1 and (last >= images or lists not in (1, images)):
            raise _mismatch(name, count, len(flat), lists, images)
        yield from ((mask, image, each, ()) for mask, (image, each) in zip(masks, pairs))
        return
    elif count:
        has_image_masks = images == 1 or count in (1, images)
        has_image_lists = lists == 1 or (is_one_per_image and lists == count)
        has_place = count == 1 or is_one_per_image
        if not (has_image_masks and has_image_lists and has_place):
            raise _mismatch(name, count, len(flat), lists, images)
    for i, mask in enumerate(masks):
        image = i if is_one_per_image else 0
        yield mask, image, None, detections[image if lists > 1 else 0] if flat else ()


def _mismatch(name: str, masks: int, boxes: int, lists: int, images: int) -> InputError:
    problem = f"{name} is a batch of {masks}"
    if images > 1:  # any number of masks is right for a single image
        problem = f"image is a batch of {images}, {problem}"
    listed = f" in {lists} lists" if lists > 1 else ""
    return InputError(
        f"{problem}, and bounding_boxes has {boxes} boxes{listed}",
        "Use one box per mask, or one mask and one list of boxes per image, or disconnect bounding_boxes",
    )


def _find_parts(mask: torch.Tensor, least_area: float) -> Iterator[Part]:
    """Yield the connected parts of ``[H,W]`` from the top down. Time and memory do not grow with their number."""
    selected = tensors.is_selected(mask)
    for strip in cut_apart(selected):
        parts = [part for cell in strip for part in _label_parts(mask, selected, cell) if part.area >= least_area]
        yield from parts if len(strip) == 1 else sorted(parts, key=_first_pixel)


def _label_parts(mask: torch.Tensor, selected: np.ndarray, cell: Box) -> Iterator[Part]:
    """Yield the connected parts in a box, in the order of their first pixels."""
    ndimage = import_scipy("ndimage")
    labels, count = ndimage.label(selected[cell.y1 : cell.y2, cell.x1 : cell.x2], np.ones((3, 3)))  # 8-connected
    areas = _count_labels(labels, count)
    corner = cell.x1, cell.y1
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        x1, x2 = corner[0] + columns.start, corner[0] + columns.stop
        box = Box(x1, corner[1] + rows.start, x2, corner[1] + rows.stop)
        yield Part(box, int(areas[number]), mask, labels, number, corner)


def _first_pixel(part: Part) -> tuple[int, int]:
    """Row and column of a part's first pixel, from the top left."""
    box = part.box
    return box.y1, box.x1 + int(part.selected(Box(box.x1, box.y1, box.x2, box.y1 + 1))[0].argmax())


def _count_labels(labels: np.ndarray, count: int) -> np.ndarray:
    """How often each label of ``[h,w]`` occurs: ``[count + 1]``. In chunks, since `bincount` copies to 64 bits."""
    flat, areas = labels.reshape(-1), np.zeros(count + 1, np.int64)
    chunk = max(_CHUNK, count)
    for start in range(0, len(flat), chunk):
        areas += np.bincount(flat[start : start + chunk], minlength=count + 1)
    return areas


def _whole_part(mask: torch.Tensor) -> Part:
    selected = tensors.is_selected(mask)
    height, width = mask.shape
    box = tight_box(selected) or Box(0, 0, width, height)
    labels = selected[box.y1 : box.y2, box.x1 : box.x2].copy()
    return Part(box, int(labels.sum()), mask, labels, True, (box.x1, box.y1), is_whole=True)


def _find_containing(parts: Sequence[Part], detections: Sequence[Detection]) -> list[Detection | None]:
    """For each part, the smallest detection whose box contains the center of the part's box."""
    boxes = np.array([[*part.box] for part in parts]).reshape(-1, 4)
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    smallest = np.full(len(parts), -1)
    inside = [(each.box, i) for i, each in enumerate(detections) if each.box]
    for box, i in sorted(inside, key=lambda pair: -pair[0].width * pair[0].height):
        smallest[(box.x1 <= x) & (x < box.x2) & (box.y1 <= y) & (y < box.y2)] = i
    return [None if i < 0 else detections[i] for i in smallest]


def draw_masks(instances: Sequence[Instance], size: Sequence[int], device: torch.device, host: Host) -> torch.Tensor:
    """The mask of each instance: ``[N,H,W]``, float32 in 0..1; N may be 0.

    Args:
        size: Height and width.

    Raises:
        PackError: They would take more than a quarter of the free memory. Nothing is allocated then.
    """
    height, width = size
    check_memory(len(instances), height, width, device, host)
    masks = torch.zeros(len(instances), height, width, device=device)
    whole = Box(0, 0, width, height)
    for mask, instance in zip(masks.split(1) if instances else (), instances):
        for part in instance.parts:
            part.add_to(mask, whole)
    return masks


def draw_union(instances: Iterable[Instance], size: Sequence[int], device: torch.device) -> torch.Tensor:
    """One mask of all instances, by the maximum: ``[1,H,W]``."""
    union = torch.zeros(1, *size, device=device)
    whole = Box(0, 0, size[1], size[0])
    for instance in instances:
        for part in instance.parts:
            part.add_to(union, whole)
    return union


def check_memory(count: int, height: int, width: int, device: torch.device, host: Host) -> None:
    """Raise an error if ``count`` masks would take more than a quarter of the free memory."""
    needed, free = 4 * count * height * width, host.available_memory(device)
    if needed * MEMORY_SHARE > free:
        raise PackError(
            f"{count} masks of {width} x {height} take {needed / 1e9:.1f} GB, more than a quarter of the free memory "
            f"({free / 1e9:.1f} GB)",
            "Raise min_area to leave out small parts, or set limit",
        )
