"""The view of MaskInstances: numbers, outlines, and clicks that change `pick`."""

from __future__ import annotations

import copy
import uuid
from pathlib import Path

import comfyui
import numpy as np
import pytest
from editor import Editor
from PIL import Image
from workflows import LOAD, ONCE, graph, out, slot

from subgraphs import enter, find_inside, leave, make_subgraph

FIND = "const node = (app.rootGraph ?? app.graph).getNodeById(2); "
PICK = FIND + "return node.widgets.find((w) => w.name === 'pick').value"
# The centers of the parts, from the top down, in pixels of the image.
CENTERS = [(40, 30), (150, 60), (60, 130)]


@pytest.fixture
def parts(server: comfyui.Server) -> str:
    """An image with three white parts, 200 x 160."""
    name = "three_parts.png"
    image = np.full((160, 200, 3), (30, 60, 90), np.uint8)
    for x, y in CENTERS:
        image[y - 20 : y + 20, x - 30 : x + 30] = 255
    Image.fromarray(image).save(server.input_folder / name)
    return name


def split(image: str, *widgets: object) -> dict:
    """An image -> its red channel, thresholded -> MaskInstances -> preview."""
    values = ["connected parts", "as found", 0.0, 1.0, 0, ""]
    values[: len(widgets)] = widgets
    nodes = [
        {**LOAD, "widgets_values": [image, "image"]},
        {"id": 2, "type": "MaskInstances", "outputs": out("MASK", "MASK", "BOUNDING_BOX", "INT"),
         "inputs": [slot("masks", "MASK"), slot("bounding_boxes", "BOUNDING_BOX"), slot("image", "IMAGE")],
         "size": [320, 520], "widgets_values": values},
        {"id": 3, "type": "ImageToMask", "inputs": [slot("image", "IMAGE")], "outputs": out("MASK"),
         "widgets_values": ["red"]},
        {"id": 4, "type": "ThresholdMask", "inputs": [slot("mask", "MASK")], "outputs": out("MASK"),
         "widgets_values": [0.5]},
        {"id": 5, "type": "MaskToImage", "inputs": [slot("mask", "MASK")], "outputs": out("IMAGE")},
        {"id": 6, "type": "PreviewImage", "inputs": [slot("images", "IMAGE")]},
    ]  # fmt: skip
    links = [[1, 1, 0, 3, 0, "IMAGE"], [2, 3, 0, 4, 0, "MASK"], [3, 4, 0, 2, 0, "MASK"], [4, 1, 0, 2, 2, "IMAGE"],
             [5, 2, 1, 5, 0, "MASK"], [6, 5, 0, 6, 0, "IMAGE"]]  # fmt: skip
    return graph(*copy.deepcopy(nodes), links=links)


def run(editor: Editor, workflow: dict) -> None:
    editor.load({**workflow, "id": str(uuid.uuid4())})
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    editor.wait_for_image(2)


def click(editor: Editor, x: float, y: float) -> None:
    """Click a pixel of the image in the view, which shows it as large as fits."""
    box = editor.view(2).query_selector("canvas").bounding_box()
    scale = min(box["width"] / 200, box["height"] / 160)
    left, top = (box["x"] + (box["width"] - 200 * scale) / 2, box["y"] + (box["height"] - 160 * scale) / 2)
    editor.page.mouse.click(left + x * scale, top + y * scale)
    editor.frames()


def colored(editor: Editor) -> list[bool]:
    """Which parts are tinted with a color, beside the number in their center."""
    pixels = editor.pixels(2).astype(int)
    return [bool(np.ptp(pixels[y - 10, x - 20, :3]) > 20) for x, y in CENTERS]


def test_clicks_pick_instances(editor: Editor, parts: str) -> None:
    run(editor, split(parts))
    assert colored(editor) == [True] * 3 and editor.note(2).startswith("3 of 3 picked")
    assert [each.inner_text() for each in editor.view(2).query_selector_all(".maskwright-instance")] == ["0", "1", "2"]
    queued = editor.queued
    click(editor, *CENTERS[1])
    assert editor.call(PICK) == "1" and colored(editor) == [False, True, False]
    x, y = CENTERS[0]
    click(editor, x - 20, y)
    assert editor.call(PICK) == "0-1" and editor.note(2).startswith("2 of 3 picked")
    click(editor, 195, 150)
    assert editor.call(PICK) == "0-1", "beside all instances"
    assert editor.queued == queued, "no run"
    saved = editor.serialized()
    assert next(node for node in saved["nodes"] if node["id"] == 2)["widgets_values"][5] == "0-1"
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    assert colored(editor) == [True, True, False]
    editor.set_widget(2, "pick", "-1")
    assert colored(editor) == [False, False, True]


def test_pick_typed_by_hand_is_followed(editor: Editor, parts: str) -> None:
    run(editor, split(parts))
    editor.set_widget(2, "pick", "2, x")
    assert editor.note(2) == "pick is not a list of numbers such as 0, 2-4." and colored(editor) == [False] * 3
    editor.set_widget(2, "pick", "7")
    assert editor.note(2).startswith("0 of 3 picked")
    editor.set_widget(2, "limit", 2)
    assert editor.note(2) == "The settings have changed. Run again to update."


@ONCE
def test_keys_pick_instances(editor: Editor, parts: str) -> None:
    run(editor, split(parts))
    editor.view(2).query_selector_all(".maskwright-instance")[2].focus()
    editor.page.keyboard.press("Enter")
    editor.frames()
    assert editor.call(PICK) == "2"


@ONCE
def test_nothing_selected_is_said(editor: Editor, parts: str) -> None:
    run(editor, split(parts, "connected parts", "as found", 50.0))
    assert editor.note(2) == "Nothing is selected."
    assert editor.view(2).query_selector_all(".maskwright-instance") == []


INNER = find_inside("MaskInstances")


def test_clicks_in_a_subgraph_change_the_promoted_widget(editor: Editor, parts: str) -> None:
    editor.load(split(parts))
    make_subgraph(editor, [4, 2], "pick", "STRING", INNER)
    try:
        editor.run()
        assert editor.ended["kind"] == "execution_success", editor.ended
        enter(editor, INNER)
        click = INNER + (
            "for (let i = 0; i < 100 && !view.querySelector('.maskwright-instance'); i++)"
            "  await new Promise((done) => setTimeout(done, 50));"
            "view.querySelectorAll('.maskwright-instance')[given].click();"
            "return outer.widgets.find((w) => w.name === 'pick').value"
        )
        assert editor.call(click, 2) == "2"
        assert editor.call(click, 0) == "0, 2"
    finally:
        leave(editor)
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended


@pytest.mark.editor("1.49", "App mode")
def test_clicks_in_app_mode_change_pick(editor: Editor, parts: str, shots: Path) -> None:
    workflow = split(parts)
    workflow["extra"] |= {
        "linearData": {"inputs": [[2, "pick"], [2, "maskwright_view"]], "outputs": [6]},
        "linearMode": True,
    }
    try:
        editor.load(workflow, f"app {uuid.uuid4().hex[:6]}")
        editor.page.wait_for_timeout(1000)
        editor.run()
        assert editor.ended["kind"] == "execution_success", editor.ended
        editor.wait_for_image(2)
        skip_tour = editor.page.get_by_role("button", name="Skip")  # which covers the app
        if skip_tour.is_visible():
            skip_tour.click()
            skip_tour.wait_for(state="hidden")
        click(editor, *CENTERS[2])
        assert editor.call(PICK) == "2" and colored(editor) == [False, False, True]
        editor.page.screenshot(path=shots / "instances-in-app-mode.png")
        inputs = editor.page.locator("[data-testid='app-mode-widget-item']").locator("input, textarea").all()
        assert "2" in [each.input_value() for each in inputs]
    finally:
        workflow["extra"]["linearMode"] = False
        editor.load(workflow, f"graph {uuid.uuid4().hex[:6]}")
        editor.page.wait_for_timeout(500)


@ONCE
def test_kjnodes_clipseg_model_can_be_connected(editor: Editor) -> None:
    is_connected = editor.call(
        "const g = app.rootGraph ?? app.graph; g.clear();"
        "const [source, target] = ['FixtureKjnodesModel', 'CLIPSeg'].map((kind) => window.LiteGraph.createNode(kind));"
        "g.add(source); g.add(target);"
        "const slot = target.inputs.findIndex((each) => each.name === 'clipseg_model');"
        "source.connect(0, target, slot); return target.inputs[slot].link != null"
    )
    assert is_connected
