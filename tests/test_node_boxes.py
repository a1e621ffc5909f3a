"""ComfyUI's BOUNDING_BOX, in and out."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from maskwright.core.errors import InputError
from maskwright.core.geometry import Box
from maskwright.core.instances.instances import boxes_to_instances, find_instances
from maskwright.nodes._boxes import read_boxes, write_boxes

BOX = {"x": 1, "y": 2, "width": 3, "height": 4}
SCORED = {"x": 1.9, "y": 2.2, "width": 3.0, "height": 4.5, "score": 0.5, "label": "cat", "metadata": {"desc": "a"}}


@pytest.mark.parametrize(
    ("value", "lengths"),
    [
        (None, [0]),
        ([], [0]),
        ([[]], [0]),
        (BOX, [1]),
        ([BOX, SCORED], [2]),
        ([[BOX], [], [BOX, SCORED]], [1, 0, 2]),
        (((BOX,), [SCORED]), [1, 1]),
    ],
)
def test_read_boxes_depths(value: Any, lengths: list[int]) -> None:
    assert [len(frame) for frame in read_boxes(value, 32, 24)] == lengths


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (1, 2, 4, 6)),
        ({"x": 1.9, "width": 3.0}, (1, 2, 4, 6)),
        ({"x": -5, "width": 7.5}, (0, 2, 2, 6)),
        ({"x": np.float32(1.5), "y": torch.tensor(2.0)}, (1, 2, 4, 6)),
        ({"width": 1e9, "height": 10**30}, (1, 2, 32, 24)),
        ({"x": 1e308, "width": 1e308}, None),
        ({"x": 32}, None),
        ({"y": -4}, None),
        ({"width": 0}, None),
        ({"height": -1}, None),
        ({"x": 1.2, "width": 0.5}, None),
    ],
)
def test_read_boxes_cuts_to_image(changes: dict, expected: tuple | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ((detection,),) = read_boxes({**BOX, **changes}, 32, 24)
    assert detection.box == (Box(*expected) if expected else None)
    assert ("1 of 1 boxes of bounding_boxes select nothing" in caplog.text) == (expected is None)


def test_read_boxes_keeps_score_and_details() -> None:
    ((detection,),) = read_boxes(SCORED, 32, 24)
    assert detection.score == 0.5
    assert detection.details == {"score": 0.5, "label": "cat", "metadata": {"desc": "a"}}


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("box", "bounding_boxes is of type str"),
        (torch.zeros(4), "bounding_boxes is of type Tensor"),
        ([1, 2, 3, 4], "not a list of boxes"),
        ([[1, 2, 3, 4]], "not a list of boxes"),
        ([BOX, [BOX]], "not a list of boxes"),
        ([[[BOX]]], "not a list of boxes"),
        ([[None]], "not a list of boxes"),
        ({"bbox": [0, 0, 1, 1]}, "x of box 0 of bounding_boxes is None"),
        ([BOX, {**BOX, "y": math.nan}], "y of box 1 of bounding_boxes is nan"),
        ([[BOX], [{**BOX, "y": math.nan}]], "y of box 0 of list 1 of bounding_boxes is nan"),
        ({**BOX, "width": math.inf}, "width of box 0 of bounding_boxes is inf"),
        ({**BOX, "width": 10**400}, "width of box 0 of bounding_boxes is 1000"),
        ({**BOX, "height": "4"}, "height of box 0 of bounding_boxes is '4'"),
        ({**BOX, "score": math.nan}, "score of box 0 of bounding_boxes is nan"),
        ({**BOX, "score": "high"}, "score of box 0 of bounding_boxes is 'high'"),
    ],
)
def test_read_boxes_rejects(value: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        read_boxes(value, 32, 24)


def test_write_boxes_writes_one_list_per_image() -> None:
    instances = boxes_to_instances(read_boxes([[BOX], [], [SCORED]], 32, 24))
    details = {key: SCORED[key] for key in ("score", "label", "metadata")}
    assert write_boxes(instances, 3) == [[BOX], [], [{"x": 1, "y": 2, "width": 3, "height": 4, **details}]]
    assert write_boxes([]) == [[]]


def test_write_boxes_of_empty_mask() -> None:
    instances = find_instances(torch.zeros(1, 8, 8), split="leave as they are")
    assert write_boxes(instances) == [[{"x": 0, "y": 0, "width": 0, "height": 0}]]
