"""The node MaskInstances: masks, boxes and images in, one mask and box per instance out."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from maskwright.core.errors import PackError
from maskwright.nodes import _host as host
from maskwright.nodes.mask_instances import MaskInstances

BOX = {"x": 1, "y": 1, "width": 4, "height": 3}
IMAGE = torch.rand(1, 12, 16, 3)


def three_parts() -> torch.Tensor:
    """Parts of 4, 12 and 2 pixels, from the top down and from right to left."""
    mask = torch.zeros(1, 12, 16)
    mask[:, 0:2, 12:14] = 0.5
    mask[:, 4:7, 6:10] = 1
    mask[:, 9:10, 1:3] = 1
    return mask


def split(masks: torch.Tensor | None = None, boxes: Any = None, image: torch.Tensor | None = None, **widgets: Any):
    return MaskInstances().split_masks(masks, boxes, image, **widgets)


@pytest.mark.parametrize(
    ("widgets", "areas"),
    [
        ({}, [4, 12, 2]),
        ({"sort_by": "left to right"}, [2, 12, 4]),
        ({"sort_by": "largest first", "limit": 2}, [12, 4]),
        ({"min_area": 100 * 4 / 192}, [4, 12]),
        ({"pick": "0, -1"}, [4, 2]),
        ({"sort_by": "largest first", "limit": 2, "pick": "1"}, [4]),
        ({"split": "each mask"}, [18]),
        ({"split": "leave as they are"}, [18]),
    ],
)
def test_split_masks_of_one_mask(widgets: dict, areas: list[int]) -> None:
    mask = three_parts()
    masks, union, boxes, count = split(mask, **widgets)
    assert (masks > 0).sum((1, 2)).tolist() == areas
    assert torch.equal(union, masks.amax(0, keepdim=True))
    assert count == len(boxes[0]) == len(areas) and len(boxes) == 1
    for box, each in zip(boxes[0], masks):
        inside = each[box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]]
        assert (inside > 0).sum() == (each > 0).sum()
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1])), "tight"
    assert torch.equal(mask, three_parts()), "nothing is changed in place"


def test_split_masks_of_several_images() -> None:
    masks = torch.cat([three_parts(), torch.zeros(1, 12, 16), three_parts().flip(2)])
    instance_masks, _, boxes, count = split(masks, image=IMAGE.expand(3, -1, -1, -1), sort_by="left to right", pick="0")
    assert count == 2 and [len(each) for each in boxes] == [1, 0, 1]
    assert (instance_masks > 0).sum((1, 2)).tolist() == [2, 4]


def test_split_masks_keeps_scores_and_labels() -> None:
    masks = three_parts().expand(2, -1, -1)
    boxes = [[{**BOX, "score": 0.2, "label": "a"}, {**BOX, "score": 0.9, "metadata": {"desc": "b"}}]]
    _, _, out, _ = split(masks, boxes, split="each mask", sort_by="highest score")
    tight = {"x": 1, "y": 0, "width": 13, "height": 10}
    assert out == [[{**tight, "score": 0.9, "metadata": {"desc": "b"}}, {**tight, "score": 0.2, "label": "a"}]]


@pytest.mark.parametrize("masks", [None, torch.zeros(0, 12, 16)], ids=["not connected", "batch of 0"])
def test_split_masks_makes_rectangles_of_boxes(masks: torch.Tensor | None) -> None:
    instance_masks, union, boxes, count = split(masks, [BOX, {"x": 14, "y": 10, "width": 9, "height": 9}], IMAGE)
    assert count == 2 and instance_masks.sum((1, 2)).tolist() == [12, 4]
    assert instance_masks[0, 1:4, 1:5].min() == 1 and torch.equal(union[0], instance_masks.amax(0))
    assert boxes == [[BOX, {"x": 14, "y": 10, "width": 2, "height": 2}]]


NOTHING = [
    (torch.zeros(0, 12, 16), None, {}, "nothing is selected"),
    (torch.zeros(0, 12, 16), [[]], {"split": "each mask"}, "nothing is selected"),
    (torch.zeros(2, 12, 16), None, {}, "nothing is selected"),
    (three_parts(), None, {"min_area": 10}, "nothing that covers at least 10 %"),
    (three_parts(), None, {"pick": "3, 9"}, "pick is '3, 9', which names none of the 3 instances"),
    (None, [{**BOX, "x": 50}], {}, "1 of 1 boxes of bounding_boxes select nothing"),
    (None, [{**BOX, "width": 0}], {}, "1 of 1 boxes of bounding_boxes select nothing"),
]


def test_split_masks_fits_no_mask_to_the_image_silently(caplog: Any) -> None:
    """SAM3 outputs a batch of 0 square masks if it finds nothing."""
    with caplog.at_level(logging.WARNING):
        instance_masks, *_ = split(torch.zeros(0, 12, 12), None, IMAGE)
    assert instance_masks.shape == (0, 12, 16) and "resized" not in caplog.text


@pytest.mark.parametrize(("masks", "boxes", "widgets", "sentence"), NOTHING)
def test_split_masks_of_nothing(masks: Any, boxes: Any, widgets: dict, sentence: str, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        instance_masks, union, out, count = split(masks, boxes, IMAGE, **widgets)
    assert instance_masks.shape == (0, 12, 16) and torch.equal(union, torch.zeros(1, 12, 16))
    assert out == [[]] and count == 0
    assert sentence in caplog.text


REJECTED = [
    (None, None, None, {}, "masks is missing"),
    (None, [BOX], None, {}, "bounding_boxes without masks need an image"),
    (torch.full((1, 4, 4), math.nan), None, None, {}, "masks contains NaN"),
    (torch.zeros(1, 2, 4, 4), None, None, {}, "which is not a mask"),
    (torch.ones(3, 4, 4), [BOX, BOX], None, {}, "masks is a batch of 3, .* 2 boxes"),
    (torch.ones(3, 12, 16), None, IMAGE.expand(2, -1, -1, -1), {}, "image is a batch of 2, and masks is a batch of 3"),
    (None, [[BOX], [BOX]], IMAGE.expand(3, -1, -1, -1), {}, "image is a batch of 3, and bounding_boxes has 2 lists"),
    (None, [[[BOX]]], IMAGE, {}, "not a list of boxes"),
    (None, [{**BOX, "score": math.nan}], IMAGE, {}, "score of box 0 of bounding_boxes is nan"),
    (None, [{**BOX, "x": math.nan}], IMAGE, {}, "x of box 0 of bounding_boxes is nan"),
    (three_parts(), None, None, {"pick": "2, x"}, "pick is '2, x', and 'x' is not a number or a range"),
    (three_parts(), None, None, {"split": "parts"}, "split is 'parts'"),
    (three_parts(), None, None, {"sort_by": "size"}, "sort_by is 'size'"),
    (three_parts(), None, None, {"min_area": -1}, "min_area is -1"),
    (three_parts(), None, None, {"overlap": 1.5}, "overlap is 1.5"),
    (three_parts(), None, None, {"limit": -1}, "limit is -1"),
]


@pytest.mark.parametrize(("masks", "boxes", "image", "widgets", "match"), REJECTED)
def test_split_masks_rejects(masks: Any, boxes: Any, image: Any, widgets: dict, match: str) -> None:
    with pytest.raises(PackError, match=match):
        split(masks, boxes, image, **widgets)


def test_split_masks_resizes_masks_to_the_image(caplog: pytest.LogCaptureFixture) -> None:
    mask = torch.zeros(1, 6, 8)
    mask[:, 2:4, 2:4] = 1
    with caplog.at_level(logging.WARNING):
        instance_masks, _, ((box,),), _ = split(mask, None, IMAGE)
    assert instance_masks.shape == (1, 12, 16) and instance_masks[0, 4:8, 4:8].min() > 0.5
    assert abs(box["x"] - 4) <= 1 and abs(box["width"] - 4) <= 2
    assert "masks are 8 x 6 and image is 16 x 12" in caplog.text


def test_split_masks_reports_too_many_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.ComfyHost, "available_memory", lambda self, device: 4 * 4 * 12 * 16 * 2)
    with pytest.raises(PackError, match=r"3 masks of 16 x 12 .* Raise min_area .* limit"):
        split(three_parts())
    assert split(three_parts(), limit=2)[3] == 2, "only the kept ones count"
