"""The views of RegionCrop and RegionStitch: the crops with their numbers, and before and after."""

from __future__ import annotations

import copy
import uuid

import comfyui
import numpy as np
import pytest
from editor import Editor
from PIL import Image
from workflows import LOAD, ONCE, graph, out, press, slot

CENTERS = [(40, 30), (150, 60), (60, 130)]  # of the regions, 60 x 40 pixels each, in an image of 200 x 160
CROP, STITCH = 2, 7


@pytest.fixture
def parts(server: comfyui.Server) -> str:
    """An image with three parts of bright red."""
    name = "three_regions.png"
    image = np.full((160, 200, 3), (30, 90, 120), np.uint8)
    for x, y in CENTERS:
        image[y - 20 : y + 20, x - 30 : x + 30] = (250, 90, 120)
    Image.fromarray(image).save(server.input_folder / name)
    return name


def invert_regions(image: str, threshold: float = 0.5) -> dict:
    """An image -> the mask of its red parts -> RegionCrop -> negative -> RegionStitch -> preview."""
    widgets = ["connected parts", "as found", False, 0, 1.0, 8, "keep", 64, 64, 1, 2, "one by one"]
    nodes = [
        {**LOAD, "widgets_values": [image, "image"]},
        {"id": CROP, "type": "RegionCrop", "outputs": out("IMAGE", "MASK", "REGION_STITCH", "BOUNDING_BOX", "INT"),
         "inputs": [slot("image", "IMAGE"), slot("mask", "MASK"), slot("bounding_boxes", "BOUNDING_BOX"),
                    slot("context_mask", "MASK")],
         "size": [320, 760], "widgets_values": widgets},
        {"id": 3, "type": "ImageToMask", "inputs": [slot("image", "IMAGE")], "outputs": out("MASK"),
         "widgets_values": ["red"]},
        {"id": 4, "type": "ThresholdMask", "inputs": [slot("mask", "MASK")], "outputs": out("MASK"),
         "widgets_values": [threshold]},
        {"id": 5, "type": "ImageInvert", "inputs": [slot("image", "IMAGE")], "outputs": out("IMAGE")},
        {"id": 6, "type": "PreviewImage", "inputs": [slot("images", "IMAGE")]},
        {"id": STITCH, "type": "RegionStitch", "outputs": out("IMAGE", "MASK"), "size": [320, 460],
         "inputs": [slot("stitch", "REGION_STITCH"), slot("crops", "IMAGE"), slot("crop_masks", "MASK")],
         "widgets_values": [0.0, -1]},
    ]  # fmt: skip
    links = [[1, 1, 0, 3, 0, "IMAGE"], [2, 3, 0, 4, 0, "MASK"], [3, 4, 0, CROP, 1, "MASK"], [4, 1, 0, CROP, 0, "IMAGE"],
             [5, CROP, 0, 5, 0, "IMAGE"], [6, CROP, 2, STITCH, 0, "REGION_STITCH"], [7, 5, 0, STITCH, 1, "IMAGE"],
             [8, STITCH, 0, 6, 0, "IMAGE"]]  # fmt: skip
    return graph(*copy.deepcopy(nodes), links=links)


def run(editor: Editor, workflow: dict) -> None:
    editor.load({**workflow, "id": str(uuid.uuid4())})
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    for node in (CROP, STITCH):
        editor.wait_for_image(node)


def numbers(editor: Editor, node: int) -> list[str]:
    """The numbers that a view shows."""
    boxes = editor.view(node).query_selector(".maskwright-boxes")
    return [each.inner_text() for each in boxes.query_selector_all(".maskwright-number") if each.is_visible()]


def test_views_show_crops_and_their_results(editor: Editor, parts: str) -> None:
    run(editor, invert_regions(parts))
    assert numbers(editor, CROP) == ["1", "2", "3"]
    pixels = editor.pixels(CROP).astype(int)
    assert pixels.shape[:2] == (160, 200)
    for x, y in CENTERS:
        assert np.abs(pixels[y, x, :3] - (250, 90, 120)).max() < 12, "the regions are as they are"
        assert np.abs(pixels[y - 25, x, :3] - (30, 90, 120)).max() < 12, "and so is their context"
    assert np.abs(pixels[150, 180, :3] - (12, 36, 48)).max() < 12, "all else is darker"

    assert numbers(editor, STITCH) == []
    press(editor, STITCH, "Show the regions and their numbers")
    assert numbers(editor, STITCH) == ["1", "2", "3"]
    after = editor.pixels(STITCH).astype(int)  # the right half
    assert np.abs(after[60, 150, :3] - (5, 165, 135)).max() < 12
    assert np.abs(after[60, 110, :3] - (30, 90, 120)).max() < 12
    assert not editor.errors


@ONCE
def test_views_say_that_nothing_is_selected(editor: Editor, parts: str) -> None:
    run(editor, invert_regions(parts, threshold=1.0))
    assert editor.note(CROP).startswith("Nothing is selected. Region Stitch will return the image unchanged")
    assert editor.note(STITCH) == "Nothing was selected, so the image is unchanged."
    assert numbers(editor, CROP) == []
