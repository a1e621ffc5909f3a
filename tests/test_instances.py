"""Instances from masks and boxes: their parts, boxes, order, overlap and picks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_host import FakeHost
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core.batching import STANDALONE_HOST
from maskwright.core.errors import InputError, PackError
from maskwright.core.geometry import Box
from maskwright.core.instances import instances as core_instances
from maskwright.core.instances.instances import (
    SPLITS,
    Detection,
    Instance,
    boxes_to_instances,
    draw_masks,
    draw_union,
    find_instances,
)
from maskwright.core.instances.picking import ORDERS, Choice, Pick, merge_overlapping, sort_instances
from scipy import ndimage

CPU = torch.device("cpu")
PICKS = json.loads((Path(__file__).parent / "fixtures" / "picks.json").read_text(encoding="utf-8"))  # of five instances


def draw_mask(*rows: str) -> torch.Tensor:
    """A mask from rows of digits, from 0 (unselected) to 9 (selected)."""
    return torch.tensor([[int(pixel) / 9 for pixel in row] for row in rows]).unsqueeze(0)


def boxes_of(instances: list[Instance]) -> list[list[int]]:
    return [[*instance.box] for instance in instances]


def rectangles(*sides: tuple[int, int, int, int], scores: tuple = ()) -> list[Instance]:
    scores = scores or (None,) * len(sides)
    return boxes_to_instances([[Detection(Box(*each), score) for each, score in zip(sides, scores)]])


SHAPES = draw_mask(
    "0900000",
    "0090055",
    "0000050",
    "9900000",
    "9090900",
    "9900000",
)


def test_find_instances_splits_connected_parts() -> None:
    """Corner neighbors are connected, soft values and holes are kept, and a part in a hole is one of its own."""
    instances = find_instances(SHAPES)
    assert boxes_of(instances) == [[1, 0, 3, 2], [5, 1, 7, 3], [0, 3, 3, 6], [4, 4, 5, 5]]
    assert [each.area for each in instances] == [2, 3, 6, 1]
    masks = draw_masks(instances, (6, 7), CPU, STANDALONE_HOST)
    assert torch.equal(masks.amax(0, keepdim=True), SHAPES) and torch.equal(masks.sum(0, keepdim=True), SHAPES)
    assert torch.equal(instances[1].crop_mask(instances[1].box), SHAPES[:, 1:3, 5:7])


@given(share=st.floats(0.02, 0.98), seed=st.integers(0, 10_000), size=st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_find_instances_matches_definition(share: float, seed: int, size: tuple) -> None:
    random = np.random.default_rng(seed)
    values = torch.from_numpy(np.where(random.random(size) < share, random.random(size), 0).astype(np.float32))
    parts, count = ndimage.label((values * 255).numpy().astype(np.uint8) > 0, np.ones((3, 3)))
    instances = find_instances(values[None])
    masks = draw_masks(instances, size, CPU, STANDALONE_HOST)
    assert len(masks) == count
    for number, mask in enumerate(masks, 1):
        np.testing.assert_array_equal(mask.numpy(), np.where(parts == number, values.numpy(), 0))
        assert instances[number - 1].area == (parts == number).sum()


@pytest.mark.parametrize(("split", "count"), list(zip(SPLITS, (5, 2, 3))))
def test_find_instances_by_split(split: str, count: int) -> None:
    faint = SHAPES * 0.002  # below 1/255
    masks = torch.cat([SHAPES, faint, draw_mask("0000000", "0000000", "0000900", *["0000000"] * 3) + faint])
    instances = find_instances(masks, split=split)
    assert len(instances) == count
    if split == "leave as they are":
        assert torch.equal(draw_masks(instances, (6, 7), CPU, STANDALONE_HOST), masks), "bit for bit"
        assert instances[1].area == 0


@pytest.mark.parametrize("split", SPLITS)
def test_find_instances_of_no_masks(split: str) -> None:
    instances = find_instances(torch.zeros(0, 6, 7), [[]], split)
    assert instances == []
    assert draw_masks(instances, (6, 7), CPU, STANDALONE_HOST).shape == (0, 6, 7)
    assert torch.equal(draw_union(instances, (6, 7), CPU), torch.zeros(1, 6, 7))


def detections(*counts: int) -> list[list[Detection]]:
    """Detections with scores 0, 1, 2, ..., as many in each list as ``counts`` says."""
    numbers = iter(range(100))
    return [[Detection(Box(0, 0, 4, 4), float(next(numbers))) for _ in range(count)] for count in counts]


# Masks, boxes in each list, images; then by mask: the image and the score of its own box.
ASSIGNED = [
    (1, (0,), 1, [(0, None)]),
    (1, (0,), 3, [(0, None)]),
    (3, (0,), 1, [(0, None)] * 3),
    (3, (0,), 3, [(0, None), (1, None), (2, None)]),
    (3, (0, 0, 0), 1, [(0, None), (1, None), (2, None)]),
    (3, (3,), 1, [(0, 0), (0, 1), (0, 2)]),
    (3, (1, 2), 2, [(0, 0), (1, 1), (1, 2)]),
    (3, (1, 0, 2), 1, [(0, 0), (2, 1), (2, 2)]),
    (2, (2,), 2, [(0, 0), (1, 1)]),
]


@pytest.mark.parametrize(("masks", "counts", "images", "expected"), ASSIGNED)
def test_find_instances_assigns_boxes(masks: int, counts: tuple, images: int, expected: list) -> None:
    instances = find_instances(torch.ones(masks, 4, 4), detections(*counts), images=images)
    assert [(each.image, each.score) for each in instances] == expected


@pytest.mark.parametrize(
    ("masks", "counts", "images"),
    [(3, (2,), 1), (3, (0,), 2), (2, (0,), 3), (3, (1, 2), 3), (3, (1, 1, 1), 2), (1, (1, 2), 2)],
)
def test_find_instances_rejects_numbers(masks: int, counts: tuple, images: int) -> None:
    image = f"image is a batch of {images}, " if images > 1 else ""
    and_, boxes = ("", f", and bounding_boxes has {sum(counts)} boxes") if sum(counts) else ("and ", "")
    with pytest.raises(InputError, match=f"^{image}{and_}masks is a batch of {masks}{boxes}"):
        find_instances(torch.ones(masks, 4, 4), detections(*counts), images=images)


def test_find_instances_gives_parts_the_smallest_box_around_them() -> None:
    sides = [(0, 0, 7, 6), (4, 0, 7, 3), (0, 3, 2, 6)]
    boxes = [Detection(Box(*each), i / 10, {"label": str(i)}) for i, each in enumerate(sides)]
    instances = find_instances(SHAPES, [[*boxes, Detection(None, 0.9)]])
    assert [each.details.get("label") for each in instances] == ["0", "1", "2", "0"]
    assert [each.score for each in instances] == [0.0, 0.1, 0.2, 0.0]
    instances = find_instances(SHAPES, [boxes[1:]])
    assert [each.score for each in instances] == [None, 0.1, 0.2, None]


def test_boxes_to_instances_draws_rectangles() -> None:
    instances = boxes_to_instances([[Detection(Box(1, 2, 4, 5)), Detection(None)], [Detection(Box(0, 0, 1, 1))]])
    assert [each.image for each in instances] == [0, 1]
    masks = draw_masks(instances, (6, 7), CPU, STANDALONE_HOST)
    assert masks.sum((1, 2)).tolist() == [9, 1] and masks[0, 2:5, 1:4].min() == 1
    assert len(boxes_to_instances([[Detection(Box(1, 2, 4, 5)), Detection(Box(0, 0, 1, 1))]], least_area=2)) == 1


ORDERED = rectangles(
    (20, 5, 24, 7), (2, 30, 40, 50), (0, 0, 2, 2), (21, 5, 23, 7), scores=(0.5, None, 0.9, 0.5)
)  # fmt: skip


@pytest.mark.parametrize(
    ("sort_by", "expected"),
    list(zip(ORDERS, ([0, 1, 2, 3], [2, 1, 0, 3], [2, 0, 3, 1], [1, 0, 2, 3], [2, 0, 3, 1]))),
)
def test_sort_instances_orders(sort_by: str, expected: list[int]) -> None:
    assert [ORDERED.index(each) for each in sort_instances(ORDERED, sort_by)] == expected


def test_sort_instances_sorts_image_by_image() -> None:
    frames = [[Detection(Box(x, 0, x + 1, 1)) for x in (3, 1)], [Detection(Box(x, 0, x + 1, 1)) for x in (2, 0)]]
    instances = sort_instances(boxes_to_instances(frames), "left to right")
    assert [(each.image, each.box.x1) for each in instances] == [(0, 1), (0, 3), (1, 0), (1, 2)]


def test_merge_overlapping_merges_by_share_of_the_smaller() -> None:
    instances = rectangles((0, 0, 10, 10), (8, 0, 12, 10), (30, 30, 31, 31), scores=(0.1, 0.8, None))
    assert merge_overlapping(instances, 0.5) == instances, "exactly the limit"
    merged, other = merge_overlapping(instances, 0.49)
    assert [*merged.box] == [0, 0, 12, 10] and merged.score == 0.8 and other is instances[2]
    assert merged.crop_mask(Box(0, 0, 14, 10)).sum() == 120
    assert merge_overlapping(instances, 1) == instances


def test_merge_overlapping_counts_pixels_not_boxes() -> None:
    """The boxes of a ring and of its center overlap; their pixels do not."""
    ring, center = torch.ones(1, 9, 9), torch.zeros(1, 9, 9)
    ring[:, 2:7, 2:7] = 0
    center[:, 3:6, 3:6] = 1
    instances = find_instances(torch.cat([ring, center, center]), split="each mask")
    assert [len(each.parts) for each in merge_overlapping(instances, 0.0)] == [1, 2]


def test_merge_overlapping_is_transitive_and_stays_in_its_image() -> None:
    sides = [(0, 0, 10, 1), (8, 0, 18, 1), (16, 0, 26, 1)]
    frames = [[Detection(Box(*each)) for each in sides], [Detection(Box(*sides[0]))]]
    assert [len(each.parts) for each in merge_overlapping(boxes_to_instances(frames), 0.1)] == [3, 1]


@given(
    sides=st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2), max_size=12),
    overlap=st.floats(0, 0.99),
)
def test_merge_overlapping_matches_definition(sides: list, overlap: float) -> None:
    instances = rectangles(*[(x, y, x + width, y + height) for x, y, width, height in sides])
    groups = [{i} for i in range(len(instances))]
    for i, one in enumerate(instances):
        for j, other in enumerate(instances[:i]):
            common = one.box.intersection(other.box)
            if common and common.width * common.height / min(one.area, other.area) > overlap:
                joined = groups[i] | groups[j]
                for member in joined:
                    groups[member] = joined
    expected = {frozenset(group) for group in groups}
    parts = {id(each.parts[0]): i for i, each in enumerate(instances)}
    merged = merge_overlapping(instances, overlap)
    assert {frozenset(parts[id(part)] for part in each.parts) for each in merged} == expected


@pytest.mark.parametrize(("text", "expected"), PICKS)
def test_pick_indices_of_five(text: str, expected: list[int] | None) -> None:
    if expected is None:
        with pytest.raises(InputError, match="pick is"):
            Pick(text)
    else:
        assert Pick(text).indices(5) == expected


@pytest.mark.parametrize("text", ["9" * 5000, None, 3])
def test_pick_rejects_values(text: Any) -> None:
    with pytest.raises(InputError, match="pick is"):
        Pick(text)


def test_choice_applies_to_each_image() -> None:
    frames = [[Detection(Box(x, 0, x + 1, 1)) for x in range(4)], [Detection(Box(5, 0, 6, 1))]]
    instances = boxes_to_instances(frames)
    choice = Choice(limit=3, pick="-1")
    assert [(each.image, each.box.x1) for each in choice.choose(choice.candidates(instances))] == [(0, 2), (1, 5)]


@pytest.mark.parametrize(
    "values",
    [
        {"sort_by": "size"},
        {"min_area": -1},
        {"min_area": math.nan},
        {"min_area": 101},
        {"overlap": 2},
        {"limit": -1},
        {"limit": 1.5},
        {"pick": "a"},
    ],
)
def test_choice_rejects_values(values: dict) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        Choice(**values)


def test_draw_masks_checks_memory_before_it_allocates(monkeypatch: pytest.MonkeyPatch) -> None:
    class SmallHost(FakeHost):
        def available_memory(self, device: torch.device) -> float:
            return 4 * 4 * 6 * 7 * 3 + 15  # three masks are a quarter

    instances = find_instances(SHAPES)
    assert len(draw_masks(instances[:3], (6, 7), CPU, SmallHost())) == 3
    monkeypatch.setattr(core_instances.torch, "zeros", lambda *_, **__: pytest.fail("allocated"))
    with pytest.raises(PackError, match=r"^4 masks of 7 x 6 take .* quarter of the free memory.*min_area.*limit"):
        draw_masks(instances, (6, 7), CPU, SmallHost())


def test_find_instances_calls_do_not_grow_with_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass per part would take minutes for thousands of parts."""
    calls = []
    for name in ("label", "find_objects"):
        work = getattr(ndimage, name)
        monkeypatch.setattr(ndimage, name, lambda *args, work=work: calls.append(work) or work(*args))
    passes = {}
    for side in (2, 8, 40):
        mask = torch.zeros(1, 3 * side, 3 * side)
        mask[:, ::3, ::3] = 1
        calls.clear()
        assert len(find_instances(mask)) == side**2
        passes[side] = len(calls)
    assert passes[2] == 2 * 4 and passes[8] == 2 * 64, "one for each cell of the grid"
    assert passes[40] == 2, "one for all, with too many cells"
