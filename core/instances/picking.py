"""Which instances to use, and in which order: overlap, area, order, limit, pick."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..checks import Settings, check_choice, check_number, check_text, check_whole_number, describe, setting
from ..errors import InputError
from .instances import Instance, Part

ORDERS = ("as found", "left to right", "top to bottom", "largest first", "highest score")
_KEYS: dict[str, Callable[[Instance], float]] = {
    "as found": lambda instance: 0,
    "left to right": lambda instance: instance.box.x1 + instance.box.x2,
    "top to bottom": lambda instance: instance.box.y1 + instance.box.y2,
    "largest first": lambda instance: -instance.area,
    "highest score": lambda instance: np.inf if instance.score is None else -instance.score,
}
_SEPARATORS = re.compile("[,;\uff0c\u3001]")  # also the Chinese and Japanese commas
_RANGE = re.compile(r"\s*(-?[0-9]+)\s*(?:-\s*(-?[0-9]+)\s*)?")


def sort_instances(instances: Sequence[Instance], sort_by: str = "as found") -> list[Instance]:
    """Sort the instances image by image; ties keep their order.

    Args:
        sort_by: One of `ORDERS`. Left to right and top to bottom go by the center of the box. Instances without a score
            come after those with one.

    Raises:
        InputError: ``sort_by`` is unknown.
    """
    key = _KEYS[check_choice(sort_by, "sort_by", ORDERS)]
    return sorted(instances, key=lambda instance: (instance.image, key(instance)))


def merge_overlapping(instances: Sequence[Instance], overlap: float) -> list[Instance]:
    """Merge the instances of an image that overlap by more than ``overlap``: their intersection over the smaller one.

    The merged instance takes the place of its first member, and the score and details of the member with the highest
    score.

    Args:
        overlap: 0..1; 1 merges nothing.

    Raises:
        InputError: ``overlap`` is not a number in 0..1.
    """
    overlap = check_number(overlap, "overlap", 0, 1)
    if overlap >= 1:
        return list(instances)
    groups = list(range(len(instances)))  # by instance: an earlier one of its group, itself for the first

    def first_of(i: int) -> int:
        while groups[i] != i:
            groups[i] = i = groups[groups[i]]
        return i

    for i, j in _find_box_overlaps(instances, overlap):
        one, other = sorted((first_of(i), first_of(j)))
        if one != other and _overlap(instances[i], instances[j]) > overlap:
            groups[other] = one
    members: dict[int, list[Instance]] = {}
    for i, instance in enumerate(instances):
        members.setdefault(first_of(i), []).append(instance)
    return [_merge(each) for each in members.values()]


def _merge(members: Sequence[Instance]) -> Instance:
    if len(members) == 1:
        return members[0]
    best = max(members, key=lambda instance: -np.inf if instance.score is None else instance.score)
    parts = tuple(part for member in members for part in member.parts)
    return Instance(parts, best.image, best.score, best.details)


def _find_box_overlaps(instances: Sequence[Instance], overlap: float) -> Iterator[tuple[int, int]]:
    """Yield the pairs of one image whose boxes overlap enough, except parts of one mask, which never overlap."""
    boxes = np.array([[*instance.box] for instance in instances], np.int64).reshape(-1, 4)
    areas = np.array([instance.area for instance in instances], np.int64)
    images = np.array([instance.image for instance in instances])
    sources = np.array([_source(instance, i) for i, instance in enumerate(instances)])
    if len(set(sources.tolist())) < 2:
        return
    order = np.lexsort((boxes[:, 0], images))
    # In this order, the boxes that begin left of a box's right side are one run after it.
    span = 1 + (int(boxes[:, 2].max()) if len(boxes) else 0)
    starts = images[order] * span + boxes[order, 0]
    ends = np.searchsorted(starts, images[order] * span + boxes[order, 2])
    for place, (i, end) in enumerate(zip(order, ends)):
        others = order[place + 1 : end]
        others = others[sources[others] != sources[i]]
        width = np.minimum(boxes[i, 2], boxes[others, 2]) - np.maximum(boxes[i, 0], boxes[others, 0])
        height = np.minimum(boxes[i, 3], boxes[others, 3]) - np.maximum(boxes[i, 1], boxes[others, 1])
        common = np.maximum(width, 0) * np.maximum(height, 0)
        for j in others[common > overlap * np.minimum(areas[i], areas[others])]:
            yield int(i), int(j)


def _source(instance: Instance, i: int) -> int:
    """Equal for connected parts of one mask."""
    (part,) = instance.parts
    return id(part.labels) if part.labels is not None else -1 - i


def _overlap(one: Instance, other: Instance) -> float:
    """Intersection over the smaller, in selected pixels."""
    (first,), (second,) = one.parts, other.parts
    smaller = min(first.area, second.area)
    return _count_common(first, second) / smaller if smaller else 0.0


def _count_common(one: Part, other: Part) -> int:
    box = one.box.intersection(other.box)
    if box is None:
        return 0
    if one.labels is None and other.labels is None:  # two rectangles
        return box.width * box.height
    return int((one.selected(box) & other.selected(box)).sum())


@dataclass(frozen=True)
class Pick:
    """Numbers and ranges of instances: "0, 2-4"; negative numbers count from the end; "" is all.

    Raises:
        InputError: The text contains anything else.
    """

    text: str = ""

    def __post_init__(self) -> None:
        check_text(self.text, "pick")
        self._ranges()

    def indices(self, count: int) -> list[int]:
        """Indices of the picked instances out of ``count``, sorted. Numbers that do not exist are ignored."""
        if not self.text.strip():
            return list(range(count))
        picked: set[int] = set()
        for first, last in self._ranges():
            start, stop = (number + count if number < 0 else number for number in (first, last))
            picked.update(range(max(0, start), min(count, stop + 1)))
        return sorted(picked)

    def _ranges(self) -> list[tuple[int, int]]:
        tokens = [token for token in _SEPARATORS.split(self.text) if token.strip()]
        ranges = []
        for token in tokens:
            match = _RANGE.fullmatch(token)
            if not match or len(token) > 40:
                raise InputError(
                    f"pick is {describe(self.text)}, and {describe(token.strip())} is not a number or a range",
                    'Write numbers and ranges from 0 with commas between them, such as "0, 2-4"; -1 is the last',
                )
            first, last = int(match[1]), int(match[2] or match[1])
            if first > last and (first < 0) == (last < 0):
                raise InputError(
                    f"pick is {describe(self.text)}, and the range {describe(token.strip())} contains nothing",
                    "Write the smaller number first",
                )
            ranges.append((first, last))
        return ranges


def _check_pick(value: object, name: str) -> str:
    return Pick(check_text(value, name)).text


@dataclass(frozen=True)
class Choice(Settings):
    """Which instances to use, in which order. The steps run in the order of the fields, image by image.

    Attributes:
        sort_by: See `sort_instances`.
        min_area: Percent of the image; smaller instances are left out.
        overlap: See `merge_overlapping`.
        limit: How many instances of each image to keep at most; 0 keeps all.
        pick: See `Pick`; numbers refer to the instances that ``limit`` leaves.
    """

    sort_by: str = setting("as found", check_choice, choices=ORDERS)
    min_area: float = setting(0.0, check_number, low=0, high=100)
    overlap: float = setting(1.0, check_number, low=0, high=1)
    limit: int = setting(0, check_whole_number, low=0)
    pick: str = setting("", _check_pick)

    def least_area(self, height: int, width: int) -> float:
        """``min_area`` in pixels of an image of this size."""
        return self.min_area / 100 * height * width

    def candidates(self, instances: Sequence[Instance]) -> list[Instance]:
        """Merge, sort and limit instances of at least ``min_area``: those that ``pick`` chooses from."""
        instances = sort_instances(merge_overlapping(instances, self.overlap), self.sort_by)
        if not self.limit:
            return instances
        counts: dict[int, int] = {}
        result = []
        for instance in instances:
            counts[instance.image] = number = counts.get(instance.image, 0) + 1
            if number <= self.limit:
                result.append(instance)
        return result

    def choose(self, candidates: Sequence[Instance]) -> list[Instance]:
        """The candidates that ``pick`` names, counted image by image."""
        by_image: dict[int, list[Instance]] = {}
        for instance in candidates:
            by_image.setdefault(instance.image, []).append(instance)
        pick = Pick(self.pick)
        return [each[i] for each in by_image.values() for i in pick.indices(len(each))]
