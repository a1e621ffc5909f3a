"""The live view of Edit Mask and Mask Edges, and what all views offer: a larger view, files, a contact sheet."""

from __future__ import annotations

import copy
import statistics
import sys
import uuid

import comfyui
import numpy as np
import pytest
from editor import EXAMPLES, Editor
from PIL import Image
from workflows import LOAD, ONCE, differing, graph, out, press, slot, solid

EDIT = 3
CHANNEL = {"id": 2, "type": "ImageToMask", "inputs": [slot("image", "IMAGE")], "outputs": out("MASK"),
           "widgets_values": ["red"]}  # fmt: skip
TO_IMAGE = {"id": 4, "type": "MaskToImage", "inputs": [slot("mask", "MASK")], "outputs": out("IMAGE")}
SAVE = {"id": 5, "type": "SaveImage", "inputs": [slot("images", "IMAGE")], "widgets_values": ["edited"]}
LINKS = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "MASK"], [3, 3, 0, 4, 0, "MASK"], [4, 4, 0, 5, 0, "IMAGE"],
         [5, 1, 0, 3, 1, "IMAGE"]]  # fmt: skip
NAMES = ("invert", "threshold", "fill_holes", "remove_specks", "grow", "smooth", "feather_inside", "feather_outside",
         "blur")  # fmt: skip
UNCHANGED = [False, 0.0, False, 0, 0.0, 0.0, 0.0, 0.0, 0.0]


def edit(values: list, source: dict = LOAD) -> dict:
    """An image -> its red channel as a mask -> Edit Mask -> a saved image."""
    node = {"id": EDIT, "type": "EditMask", "inputs": [slot("mask", "MASK"), slot("image", "IMAGE")],
            "outputs": out("MASK"), "size": [300, 600], "widgets_values": values}  # fmt: skip
    nodes = [{"id": 1, **source}, CHANNEL, node, TO_IMAGE, SAVE]
    return graph(*copy.deepcopy(nodes), links=copy.deepcopy(LINKS))


def wait_until_drawn(editor: Editor, node_id: int = EDIT) -> None:
    editor.page.wait_for_timeout(50)
    editor.page.wait_for_function("(e) => e.ariaBusy === 'false'", arg=editor.view(node_id))
    editor.frames()


def run_and_read(editor: Editor, server: comfyui.Server) -> np.ndarray:
    """Run, and return the image that this run saved."""

    def count() -> int:
        return len(list((server.base / "output").glob("edited_*.png")))

    before = count()
    editor.run()
    for _ in range(100):
        if count() > before:
            break
        editor.page.wait_for_timeout(100)
    return np.asarray(Image.open(sorted((server.base / "output").glob("edited_*.png"))[-1]).convert("RGB"))


def test_view_shows_what_the_next_run_gives(editor: Editor, server: comfyui.Server) -> None:
    editor.load(edit(UNCHANGED))
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    editor.wait_for_image(EDIT)
    press(editor, EDIT, "B/W")
    for values in (
        [False, 0.75, True, 200, 12.5, 0.0, 0.0, 0.0, 0.0],
        [True, 0.0, False, 0, -7.5, 3.0, 9.0, 20.0, 0.0],
        [False, 0.6, False, 50, 0.0, 8.0, 0.0, 0.0, 5.0],
    ):
        queued = editor.queued
        for name, value in zip(NAMES, values):
            editor.set_widget(EDIT, name, value)
        wait_until_drawn(editor)
        live = editor.pixels(EDIT)[..., :3]
        assert editor.queued == queued
        assert differing(live, run_and_read(editor, server)) < 0.01, values
    press(editor, EDIT, "Heat map")
    editor.page.wait_for_timeout(300)


@ONCE
@pytest.mark.parametrize("how", ["no workers", "a worker that fails"])
def test_view_without_workers_works(editor: Editor, how: str) -> None:
    editor.load(edit(UNCHANGED))
    editor.run()
    wait_until_drawn(editor)
    press(editor, EDIT, "B/W")
    editor.set_widget(EDIT, "grow", 9)
    wait_until_drawn(editor)
    expected = editor.pixels(EDIT)
    fake_worker = (
        "null"
        if how == "no workers"
        else "class { postMessage() { setTimeout(() => this.onerror({})); } terminate() {} }"
    )
    try:
        editor.call(f"window.__Worker = window.Worker; window.Worker = {fake_worker}")
        editor.set_widget(EDIT, "grow", 0)
        editor.run()
        wait_until_drawn(editor)
        assert differing(editor.pixels(EDIT), expected) > 0.01
        editor.set_widget(EDIT, "grow", 9)
        wait_until_drawn(editor)
        assert (editor.pixels(EDIT) == expected).all()
    finally:
        editor.call("window.Worker = window.__Worker")


@ONCE
def test_view_names_the_setting_that_removes_everything(editor: Editor) -> None:
    editor.load(edit(UNCHANGED))
    editor.run()
    wait_until_drawn(editor)
    editor.set_widget(EDIT, "threshold", 0.75)
    editor.set_widget(EDIT, "grow", -300)
    wait_until_drawn(editor)
    assert editor.note(EDIT) == "grow leaves nothing selected. Move it toward 0 to keep more."
    editor.set_widget(EDIT, "grow", 0)
    wait_until_drawn(editor)
    assert editor.note(EDIT) == ""


@ONCE
def test_script_time_of_a_slider(editor: Editor, server: comfyui.Server, capsys: pytest.CaptureFixture) -> None:
    """A measurement, not a mark: time of the page's thread to redraw 1024 x 1024 after a slider moved."""
    shapes = Image.open(EXAMPLES / "assets" / "shapes.png").convert("RGB").resize((1024, 1024))
    shapes.save(server.input_folder / "large_edit.png")
    editor.load(edit([False, 0.75, *UNCHANGED[2:]], {**LOAD, "widgets_values": ["large_edit.png", "image"]}))
    editor.run()
    wait_until_drawn(editor)
    assert editor.pixels(EDIT).shape == (1024, 1024, 4)
    lines = []
    for label in ("Heat map", "Outline", "Cutout", "B/W"):
        press(editor, EDIT, label)
        wait_until_drawn(editor)
        script, whole = editor.page.evaluate(MEASURE, editor.view(EDIT))
        lines.append(f"{label} {statistics.median(script):.1f} ms (shown after {statistics.median(whole):.0f} ms)")
    with capsys.disabled():
        print(f"\nslider of Edit Mask, 1024 x 1024, script time at the median: {', '.join(lines)}", file=sys.stderr)


# The script time of all frames from the change of a slider until its result is drawn, and the time until then.
MEASURE = """async (element) => {
  const {app} = window.comfyAPI.app;
  const node = (app.rootGraph ?? app.graph).getNodeById(3);
  const widget = node.widgets.find((w) => w.name === 'grow');
  const draw = window.requestAnimationFrame;
  let spent = 0;
  window.requestAnimationFrame = (act) => draw((now) => {
    const start = performance.now(); act(now); spent += performance.now() - start;
  });
  const [script, whole] = [[], []];
  for (let i = 0; i < 20; i++) {
    widget.value = i - 10;
    spent = 0;
    const start = performance.now();
    widget.callback?.(widget.value, app.canvas, node);
    spent += performance.now() - start;
    do await new Promise((done) => draw(done)); while (element.ariaBusy !== 'false');
    await new Promise((done) => draw(() => draw(done)));
    script.push(spent);
    whole.push(performance.now() - start);
  }
  window.requestAnimationFrame = draw;
  widget.value = 0;
  return [script, whole];
}"""


@ONCE
def test_edges_follow_their_settings(editor: Editor, server: comfyui.Server) -> None:
    workflow = edit(UNCHANGED)
    node = next(each for each in workflow["nodes"] if each["id"] == EDIT)
    image = workflow["links"][-1]
    node.update(
        type="GradientRegion", widgets_values=[3, "rectangle", "both"], inputs=[slot("masks", "MASK") | {"link": 2}]
    )
    node["inputs"].append(slot("image", "IMAGE") | {"link": image[0]})
    editor.load(workflow)
    editor.run()
    wait_until_drawn(editor)
    press(editor, EDIT, "B/W")
    for name, value in (("kernel_size", 9), ("shape", "ellipse"), ("edge", "inner")):
        editor.set_widget(EDIT, name, value)
    wait_until_drawn(editor)
    live = editor.pixels(EDIT)[..., :3]
    assert differing(live, run_and_read(editor, server)) < 0.01
    editor.set_widget(EDIT, "kernel_size", 1)
    wait_until_drawn(editor)
    assert "no edge" in editor.note(EDIT)


@pytest.mark.editor("1.49", "App mode")
def test_view_in_app_mode_follows_the_sliders(editor: Editor) -> None:
    workflow = edit(UNCHANGED)
    inputs = [[EDIT, "maskwright_view"], [EDIT, "grow"]]
    workflow["extra"] |= {"linearData": {"inputs": inputs, "outputs": [5]}, "linearMode": True}
    try:
        editor.load(workflow, f"app {uuid.uuid4().hex[:6]}")
        editor.page.wait_for_timeout(1000)
        editor.run()
        wait_until_drawn(editor)
        press(editor, EDIT, "B/W")
        before = editor.pixels(EDIT)
        editor.set_widget(EDIT, "grow", 20)
        wait_until_drawn(editor)
        assert differing(before, editor.pixels(EDIT)) > 0.01
        editor.page.wait_for_timeout(300)
    finally:
        plain = edit(UNCHANGED)
        plain["extra"]["linearMode"] = False
        editor.load(plain, f"graph {uuid.uuid4().hex[:6]}")
        editor.page.wait_for_timeout(500)


# The larger view


@pytest.fixture
def batch(editor: Editor) -> Editor:
    """Three images in the view of Edit Mask."""
    editor.load(edit([False, 0.5, *UNCHANGED[2:]], solid(90, 60, 3)))
    editor.run()
    wait_until_drawn(editor)
    return editor


def click(editor: Editor, label: str) -> None:
    """A real click on a button of the open dialog."""
    editor.page.locator(f"dialog[open] button[aria-label^='{label}']").click()


def test_larger_view_opens_and_closes(batch: Editor, shots) -> None:
    element = batch.view(EDIT)
    batch.page.locator(".maskwright-stage").first.dblclick()
    dialog = batch.page.locator("dialog.maskwright-larger[open]")
    dialog.wait_for()
    assert dialog.locator("canvas").bounding_box()["width"] > 1000
    click(batch, "Next image")
    wait_until_drawn(batch)
    batch.page.screenshot(path=shots / "larger.png")
    queued = batch.queued
    for key in ("Delete", "Control+Enter"):  # nothing of this reaches the editor
        batch.page.keyboard.press(key)
    batch.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert batch.queued == queued
    assert len(batch.serialized()["nodes"]) == 5
    order = element.evaluate("(e) => [...e.children].map((each) => each.className || each.localName)")
    assert order == ["style", "maskwright-bar", "maskwright-stage", "maskwright-note", "maskwright-larger"]
    assert element.evaluate("(e) => e.querySelector('.maskwright-page').textContent") == "2 of 3"


@ONCE
def test_contact_sheet_opens_an_image(batch: Editor, shots) -> None:
    press(batch, EDIT, "Larger view (or double-click the image)")
    click(batch, "Show all images")
    tiles = batch.page.locator(".maskwright-sheet button")
    tiles.nth(2).wait_for()
    batch.page.wait_for_timeout(200)
    assert tiles.count() == 3 and tiles.nth(0).locator("canvas").get_attribute("width") == "90"
    batch.page.screenshot(path=shots / "contact_sheet.png")
    tiles.nth(2).click()
    wait_until_drawn(batch)
    assert tiles.count() == 0
    assert batch.page.locator("dialog[open] .maskwright-page").text_content() == "3 of 3"
    batch.page.keyboard.press("Escape")


@ONCE
def test_larger_view_saves_and_copies(batch: Editor) -> None:
    press(batch, EDIT, "Cutout")
    batch.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    press(batch, EDIT, "Larger view (or double-click the image)")
    with batch.page.expect_download() as download:
        click(batch, "Save this view")
    assert download.value.suggested_filename == "maskwright_1.png"
    with Image.open(download.value.path()) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (90, 60), "RGBA")
        assert np.abs(np.asarray(image)[5, 5] - np.array([255, 0, 0, 255])).max() <= 2  # a preview is a JPEG
    click(batch, "Copy this view")
    batch.page.locator("dialog[open] button", has_text="Copied.").wait_for()
    kinds = batch.call("return (await navigator.clipboard.read()).flatMap((item) => item.types)")
    assert kinds == ["image/png"]
    batch.page.keyboard.press("Escape")
