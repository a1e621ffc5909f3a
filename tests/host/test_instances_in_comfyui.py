"""MaskInstances between ComfyUI's own nodes: its boxes, its masks, and SAM3."""

from __future__ import annotations

import comfyui
import pytest
from workflow.engine_interface import NodeFailed

BOXES = [
    {"x": 4, "y": 8, "width": 16, "height": 24, "metadata": {"desc": "first"}},
    {"x": 40, "y": 0, "width": 8, "height": 8},
    {"x": 50, "y": 50, "width": 14, "height": 14},
]


def record(server: comfyui.Server, prompt: dict, **links: list) -> dict:
    """Run a prompt, and return what these outputs hold."""
    result = server.queue({**prompt, "99": {"class_type": "FixtureRecord", "inputs": links}})
    return result.outputs["99"]["recorded"][0]


def split(**inputs: object) -> dict:
    return {"class_type": "MaskInstances", "inputs": inputs}


CREATED = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 2, "color": 0}},
    "2": {
        "class_type": "CreateBoundingBoxes",
        "inputs": {"width": 64, "height": 64, "editor_state": {"__value__": BOXES}},
    },
}
DRAWN_AND_CROPPED = {  # by the boxes of node 3
    "4": {"class_type": "DrawBBoxes", "inputs": {"image": ["1", 0], "bboxes": ["3", 2]}},
    "5": {
        "class_type": "CropByBBoxes",
        "inputs": {"image": ["4", 0], "bboxes": ["3", 2], "output_width": 64, "output_height": 80, "padding": 0,
                   "keep_aspect": "stretch"},
    },
}  # fmt: skip


def test_created_boxes_become_masks_and_go_on(server: comfyui.Server) -> None:
    prompt = {
        **CREATED,
        "3": split(bounding_boxes=["2", 1], image=["1", 0], sort_by="largest first", pick="0-1"),
        **DRAWN_AND_CROPPED,
    }
    saved = record(server, prompt, masks=["3", 0], bounding_boxes=["3", 2], image=["5", 0], count=["3", 3])
    assert saved["masks"] == [[2, 64, 64], [16 * 24, 14 * 14]]
    assert [{key: box[key] for key in ("x", "y", "width", "height")} for box in saved["boxes"][0]] == [
        {key: box[key] for key in ("x", "y", "width", "height")} for box in (BOXES[0], BOXES[2])
    ]
    assert saved["image"] == [2, 80, 64, 3] and saved["count"] == 2


def test_no_boxes_go_on(server: comfyui.Server) -> None:
    prompt = {
        **CREATED,
        "3": split(bounding_boxes=["2", 1], image=["1", 0], min_area=50.0),
        **DRAWN_AND_CROPPED,
    }
    saved = record(server, prompt, masks=["3", 0], bounding_boxes=["3", 2], image=["5", 0])
    assert saved["masks"] == [[0, 64, 64], []] and saved["boxes"] == [[]] and saved["image"] == [2, 64, 64, 3]


def test_batched_masks_take_a_box_each(server: comfyui.Server) -> None:
    solid = {"width": 64, "height": 64}
    prompt = {
        **CREATED,
        "6": {"class_type": "SolidMask", "inputs": {"value": 1.0, **solid}},
        "7": {"class_type": "SolidMask", "inputs": {"value": 0.0, **solid}},
        "8": {
            "class_type": "BatchMasksNode",
            "inputs": {"masks.mask0": ["6", 0], "masks.mask1": ["7", 0], "masks.mask2": ["6", 0]},
        },
        "3": split(masks=["8", 0], bounding_boxes=["2", 1]),
        "4": split(masks=["8", 0], split="leave as they are"),
    }
    saved = record(server, prompt, masks=["3", 0], bounding_boxes=["3", 2], count=["4", 3])
    assert saved["masks"] == [[2, 64, 64], [4096, 4096]] and len(saved["boxes"][0]) == 2 and saved["count"] == 3
    prompt["8"]["inputs"].pop("masks.mask2")
    with pytest.raises(NodeFailed, match="masks is a batch of 2, .* bounding_boxes has 3 boxes"):
        record(server, prompt, masks=["3", 0])


@pytest.mark.parametrize("is_found", [True, False], ids=["found", "not found"])
@pytest.mark.parametrize("is_individual", [True, False], ids=["individual masks", "one mask"])
@pytest.mark.parametrize("images", [1, 2])
def test_sam3_detections(server: comfyui.Server, images: int, is_individual: bool, is_found: bool) -> None:
    if "SAM3_Detect" not in server.object_info():
        pytest.skip("this ComfyUI has no SAM3")
    detect = {"model": ["1", 0], "conditioning": ["1", 1], "image": ["2", 0], "refine_iterations": 0}
    detect |= {"threshold": 0.0 if is_found else 1.0, "individual_masks": is_individual}
    prompt = {
        "1": {"class_type": "FixtureSam3", "inputs": {}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": images, "color": 255}},
        "3": {"class_type": "SAM3_Detect", "inputs": detect},
        "4": split(
            masks=["3", 0], bounding_boxes=["3", 1], image=["2", 0], split="each mask", sort_by="highest score"
        ),
        "5": {"class_type": "DrawBBoxes", "inputs": {"image": ["2", 0], "bboxes": ["4", 2]}},
    }  # fmt: skip
    saved = record(server, prompt, masks=["4", 0], bounding_boxes=["4", 2], image=["5", 0], count=["4", 3])
    per_image = 0 if not is_found else 4 if is_individual else 1
    assert saved["masks"][0] == [images * per_image, 48, 64] and saved["count"] == images * per_image
    assert [len(frame) for frame in saved["boxes"]] == [per_image] * images
    assert saved["image"] == [images, 48, 64, 3]
    for frame in saved["boxes"] if is_individual else ():
        scores = [box["score"] for box in frame]
        assert scores == sorted(scores, reverse=True)
