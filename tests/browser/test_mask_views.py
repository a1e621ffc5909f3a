"""The backdrop of Refine Mask's view, Edit Mask's view in a subgraph, and views of an empty batch."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from editor import Editor
from test_edit_mask import EDIT, UNCHANGED, edit
from workflows import (
    BACKGROUND,
    COLOR,
    EDIT_MASK,
    ONCE,
    REFINE_MASK,
    SHAPED,
    WITH_IMAGE,
    out,
    press,
    shape,
    slot,
)

from subgraphs import enter, find_inside, leave, make_subgraph

BACKDROP = "Change the background of the cutout: a checkerboard, none (the mask alone), a color, or the darkened image"
INSIDE, OUTSIDE = (16, 12), (4, 60)  # y, x of a pixel of the left part, and of one far from both


def run(editor: Editor, workflow: dict, node: int = SHAPED) -> None:
    editor.load({**workflow, "id": str(uuid.uuid4())})
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    editor.wait_for_image(node)


def show_result_only(editor: Editor) -> None:
    """Move the divider of Refine Mask's view to the left edge."""
    editor.view(SHAPED).evaluate(
        "(e) => e.querySelector('canvas').dispatchEvent(new KeyboardEvent('keydown', {key: 'Home'}))"
    )
    editor.frames()


def assert_color(pixels: np.ndarray, place: tuple[int, int], color: tuple, what: str) -> None:
    """A preview is a JPEG, so colors differ a little."""
    assert np.abs(pixels[place][:3].astype(int) - color).max() <= 8, (what, pixels[place])


def test_backdrop_of_refine_mask_is_drawn_and_kept(editor: Editor, red_parts: str) -> None:
    run(editor, shape(red_parts, REFINE_MASK, WITH_IMAGE))
    show_result_only(editor)
    dark = tuple(0.3 * value for value in BACKGROUND)
    shown = editor.pixels(SHAPED)
    assert_color(shown, INSIDE, COLOR, "checkerboard")
    grays = {tuple(pixel) for pixel in shown[:6, 24:36, :3].reshape(-1, 3)}
    assert grays == {(0x66,) * 3, (0x99,) * 3}
    for name, inside, outside in (
        ("mask", (255, 255, 255), (0, 0, 0)),
        ("#000", COLOR, (0, 0, 0)),
        ("#fff", COLOR, (255, 255, 255)),
        ("#0b0", COLOR, (0, 0xBB, 0)),
        ("image", COLOR, dark),
    ):
        press(editor, SHAPED, BACKDROP)
        shown = editor.pixels(SHAPED)
        assert_color(shown, INSIDE, inside, name)
        assert_color(shown, OUTSIDE, outside, name)
        node = next(each for each in editor.serialized()["nodes"] if each["id"] == SHAPED)
        assert node["properties"]["maskwright_view"] == {"split": 0, "backdrop": name}
    editor.load(editor.serialized())
    editor.wait_for_image(SHAPED)
    assert_color(editor.pixels(SHAPED), OUTSIDE, dark, "after loading")
    press(editor, SHAPED, BACKDROP)
    node = next(each for each in editor.serialized()["nodes"] if each["id"] == SHAPED)
    assert node["properties"]["maskwright_view"] == {"split": 0}, "the first again"


INNER = find_inside("EditMask")
# The sum of the view's pixels, once it is within the given limits; after 10 seconds, whatever it is.
WHITE = INNER + (
    "const canvas = view.querySelector('canvas'); let sum;"
    "for (let i = 0; i < 100; i++) {"
    "  await new Promise((done) => setTimeout(done, 100));"
    "  if (canvas.hidden || view.ariaBusy !== 'false') continue;"
    "  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
    "  sum = data.reduce((sum, value, i) => sum + (i % 4 ? 0 : value), 0);"
    "  if (sum >= given[0] && sum <= given[1]) break;"
    "}"
    "return sum"
)


def change(editor: Editor, where: str, name: str, value: float, limits: tuple[float, float]) -> None:
    """Move a slider of the `inner` or `outer` node, and wait without a run until the view is as white as expected."""
    editor.call(
        INNER + f"const node = {where}; const widget = node.widgets.find((w) => w.name === given.name);"
        "widget.value = given.value; widget.callback?.(given.value, app.canvas, node)",
        {"name": name, "value": value},
    )
    white = editor.call(WHITE, limits)
    assert limits[0] <= white <= limits[1], (where, name, value)


def test_sliders_redraw_edit_mask_in_a_subgraph(editor: Editor) -> None:
    editor.load({**edit([False, 0.75, *UNCHANGED[2:]]), "id": str(uuid.uuid4())})
    make_subgraph(editor, [EDIT], "grow", "FLOAT", INNER)
    try:
        enter(editor, INNER)
        editor.run()
        assert editor.ended["kind"] == "execution_success", editor.ended
        editor.call(INNER + "view.querySelector('[data-mode=blackAndWhite]').click()")
        editor.page.wait_for_timeout(500)
        white = editor.call(WHITE, [1, 1e9])
        queued = editor.queued
        change(editor, "inner", "feather_outside", 12.0, (1.02 * white, 2 * white))
        change(editor, "inner", "feather_outside", 0.0, (white, white))
        change(editor, "outer", "grow", 8.0, (1.02 * white, 2 * white))  # a promoted widget
        change(editor, "outer", "grow", -8.0, (0, 0.98 * white))
        assert editor.queued == queued
    finally:
        leave(editor)


MUTED = 2
MASK_EDGES = {"type": "GradientRegion", "inputs": [slot("masks", "MASK"), slot("image", "IMAGE")],
              "outputs": out("MASK"), "widgets_values": [3, "rectangle", "both"]}  # fmt: skip


@ONCE
@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (EDIT_MASK, "The batch contains no mask: nothing is selected."),
        (MASK_EDGES, "The batch contains no mask: nothing is selected."),
        (REFINE_MASK, "Nothing is selected."),
    ],
    ids=["Edit Mask", "Mask Edges", "Refine Mask"],
)
def test_view_of_an_empty_batch_says_so(editor: Editor, red_parts: str, node: dict, sentence: str) -> None:
    workflow = shape(red_parts, node, WITH_IMAGE, threshold=1.0)
    workflow["nodes"][-1]["mode"] = MUTED  # Save Image fails for a batch of 0
    run(editor, workflow)
    editor.wait_for_text(SHAPED, sentence)
    if node is EDIT_MASK:
        editor.set_widget(SHAPED, "invert", True)
        press(editor, SHAPED, "B/W")
        editor.page.wait_for_timeout(300)
        assert editor.pixels(SHAPED)[..., :3].max() == 0
        assert editor.note(SHAPED) == sentence
