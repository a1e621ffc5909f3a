"""The button that opens a view's mask in ComfyUI's mask editor."""

from __future__ import annotations

import uuid

import comfyui
import numpy as np
import pytest
from editor import Editor
from PIL import Image
from test_edit_mask import UNCHANGED, edit
from workflows import (
    BACKGROUND,
    COLOR,
    EDIT_MASK,
    ONCE,
    REFINE_MASK,
    TO_IMAGE,
    WITH_IMAGE,
    out,
    press,
    shape,
    slot,
    solid,
)
from workflows import SHAPED as NODE

from subgraphs import enter, find_inside, leave, make_subgraph

OPEN = "Open this mask in ComfyUI's mask editor. A new Load Image node will output the edited mask."
DIALOG = "[role=dialog]:has(#maskEditorCanvasContainer)"


def run(editor: Editor, workflow: dict) -> None:
    editor.load({**workflow, "id": str(uuid.uuid4())})
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    editor.wait_for_image(NODE)
    editor.page.wait_for_timeout(200)


def wait_for_mask_editor(editor: Editor) -> None:
    """Wait until it is open and has its settings, which it shows once it has loaded the image."""
    editor.page.locator(f"{DIALOG} input").first.wait_for(timeout=20_000)
    editor.page.wait_for_timeout(300)


def open_mask_editor(editor: Editor, label: str = OPEN) -> None:
    press(editor, NODE, label)
    wait_for_mask_editor(editor)


def close_mask_editor(editor: Editor, button: str = "Cancel") -> None:
    editor.page.locator(DIALOG).locator("button", has_text=button).click(timeout=5000)
    editor.page.locator(DIALOG).wait_for(state="detached")
    editor.page.wait_for_timeout(300)


LOADER = "const graph = app.canvas.graph; const loader = graph.nodes.findLast((n) => n.type === 'LoadImage');"


def read_upload(editor: Editor, server: comfyui.Server) -> np.ndarray:
    """The file of the new Load Image node, ``[H,W,4]``."""
    name = editor.call(LOADER + "return loader.widgets[0].value")
    assert name.startswith("maskwright_mask")
    return np.asarray(Image.open(server.input_folder / name))


def read_saved(server: comfyui.Server) -> list[np.ndarray]:
    """The masks that the runs have saved, ``[H,W]``, oldest first."""
    files = sorted((server.base / "output").glob("shaped_*.png"))
    return [np.asarray(Image.open(file).convert("L")).astype(int) for file in files]


def test_mask_editor_opens_with_the_mask(editor: Editor, server: comfyui.Server, red_parts: str, shots) -> None:
    run(editor, shape(red_parts, EDIT_MASK, WITH_IMAGE))
    expected = read_saved(server)[-2]  # the first page of two
    before = editor.serialized()["nodes"]
    open_mask_editor(editor)
    editor.page.screenshot(path=shots / "mask_editor.png")
    image = read_upload(editor, server).astype(int)
    assert image.shape == (40, 64, 4)
    assert (image[16, 12, 3], image[4, 60, 3]) == (0, 255)
    assert np.abs(image[16, 12, :3] - COLOR).max() < 12, "colors are kept where alpha is 0"
    assert np.abs(image[4, 60, :3] - BACKGROUND).max() < 12

    close_mask_editor(editor)
    assert editor.serialized()["nodes"][-1]["type"] == "LoadImage"
    editor.page.keyboard.press("Control+z")
    editor.wait_until_settled()
    assert [node["type"] for node in editor.serialized()["nodes"]] == [node["type"] for node in before]

    open_mask_editor(editor)
    close_mask_editor(editor, "Save")  # unchanged, as a file of the mask editor
    editor.call(LOADER + "loader.connect(1, graph.getNodeById(given), 0)", TO_IMAGE)
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    assert np.abs(read_saved(server)[-1] - expected).max() <= 1


INNER = find_inside("EditMask")


def test_mask_editor_opens_in_a_subgraph(editor: Editor, server: comfyui.Server, red_parts: str) -> None:
    editor.load({**shape(red_parts, EDIT_MASK, WITH_IMAGE), "id": str(uuid.uuid4())})
    make_subgraph(editor, [NODE])
    try:
        enter(editor, INNER)
        editor.run()
        expected = read_saved(server)[-2]
        editor.call(
            INNER + "const button = view.querySelector('.maskwright-edit');"
            "for (let i = 0; i < 100 && button.hidden; i++) await new Promise((done) => setTimeout(done, 50));"
            "button.click()"
        )
        wait_for_mask_editor(editor)
        inside = editor.call(INNER + "return outer.subgraph.nodes.map((n) => n.type)")
        assert sorted(inside) == ["EditMask", "LoadImage"]
        assert np.abs(255 - read_upload(editor, server)[..., 3].astype(int) - expected).max() <= 1
        close_mask_editor(editor)
    finally:
        leave(editor)


@ONCE
def test_mask_editor_gets_the_shown_mask_and_gray_without_an_image(
    editor: Editor, server: comfyui.Server, red_parts: str
) -> None:
    run(editor, shape(red_parts, EDIT_MASK))
    first, second = read_saved(server)[-2:]
    assert np.abs(first - second).max() > 100
    press(editor, NODE, "Next image")
    editor.set_widget(NODE, "feather_outside", 8.0)
    editor.page.wait_for_timeout(300)
    open_mask_editor(editor)
    image = read_upload(editor, server)
    assert np.abs(255 - image[..., 3].astype(int) - second).max() <= 1
    assert (image[..., :3] == 128).all()
    close_mask_editor(editor)


@ONCE
@pytest.mark.parametrize("kind", ["RefineMask", "MaskInstances"])
def test_mask_editor_gets_the_mask_of_other_views(
    editor: Editor, server: comfyui.Server, red_parts: str, kind: str
) -> None:
    picked = {"type": "MaskInstances", "outputs": out("MASK", "MASK", "BOUNDING_BOX", "INT"),
              "inputs": [slot("masks", "MASK"), slot("image", "IMAGE"), slot("bounding_boxes", "BOUNDING_BOX")],
              "widgets_values": ["each mask", "as found", 0.0, 1.0, 0, "0"]}  # fmt: skip
    run(editor, shape(red_parts, REFINE_MASK if kind == "RefineMask" else picked, WITH_IMAGE))
    expected = read_saved(server)[-2 if kind == "RefineMask" else -1]
    assert expected.max() == 255 and expected.min() == 0
    open_mask_editor(editor)
    assert np.abs(255 - read_upload(editor, server)[..., 3].astype(int) - expected).max() <= 1
    close_mask_editor(editor)


@ONCE
def test_mask_editor_gets_a_large_mask_in_the_size_of_its_image(editor: Editor, server: comfyui.Server) -> None:
    run(editor, edit(UNCHANGED, solid(1500, 1001, 1)))
    assert editor.pixels(NODE).shape[1] == 1024
    open_mask_editor(editor)
    image = read_upload(editor, server)
    assert image.shape == (1001, 1500, 4) and not image[..., 3].any()
    close_mask_editor(editor)


@ONCE
def test_mask_editor_opens_from_the_larger_view(editor: Editor, red_parts: str) -> None:
    run(editor, shape(red_parts, EDIT_MASK, WITH_IMAGE))
    press(editor, NODE, "Larger view (or double-click the image)")
    editor.page.locator("dialog[open] .maskwright-edit").click()
    wait_for_mask_editor(editor)
    assert editor.page.locator("dialog.maskwright-larger[open]").count() == 0
    close_mask_editor(editor)


@ONCE
def test_mask_editor_reports_a_failed_upload(editor: Editor, red_parts: str) -> None:
    run(editor, shape(red_parts, EDIT_MASK, WITH_IMAGE))
    nodes = len(editor.serialized()["nodes"])
    editor.page.route("**/upload/image", lambda route: route.fulfill(status=507))
    try:
        press(editor, NODE, OPEN)
        editor.wait_for_text(NODE, "Could not open the mask editor: 507")
    finally:
        editor.page.unroute("**/upload/image")
    assert len(editor.serialized()["nodes"]) == nodes
    open_mask_editor(editor)
    close_mask_editor(editor)
    assert editor.note(NODE) == ""
    editor.errors[:] = [error for error in editor.errors if "507" not in error]


@ONCE
def test_mask_editor_button_is_hidden_without_load_image(editor: Editor, red_parts: str) -> None:
    run(editor, shape(red_parts, EDIT_MASK, WITH_IMAGE))
    button = editor.view(NODE).query_selector(".maskwright-edit")
    assert button.is_visible()
    try:
        editor.call(
            "window.__loader = LiteGraph.registered_node_types.LoadImage;"
            "delete LiteGraph.registered_node_types.LoadImage"
        )
        editor.set_widget(NODE, "grow", 2.0)
        editor.page.wait_for_timeout(300)
        assert not button.is_visible()
    finally:
        editor.call("LiteGraph.registered_node_types.LoadImage = window.__loader")
