"""Files of every age in the editor: each saved value lands in its own widget, and old ids are whole nodes."""

from __future__ import annotations

from editor import Editor
from saved_layouts import DETAILER, LAYOUTS, editor_file
from workflows import ONCE

WIDGETS = """
const node = (app.rootGraph ?? app.graph).getNodeById(7);
const known = !!LiteGraph.registered_node_types[node.type] && !node.has_errors;
return [known, node.widgets.filter((w) => w.name !== 'maskwright_view').map((w) => [w.name, w.value])];
"""


def test_each_saved_value_lands_in_its_own_widget(editor: Editor) -> None:
    for node, values, names in LAYOUTS:
        editor.call("await app.loadGraphData(given, true, true, 'old')", editor_file(node, values))
        known, widgets = editor.call(WIDGETS)
        assert known, node
        assert [name for name, _ in widgets][: len(names)] == list(names), node
        assert [value for _, value in widgets][: len(values)] == values, node


@ONCE
def test_switches_that_are_saved_as_text_are_read(editor: Editor) -> None:
    """ComfyUI would take any text for on."""
    values = list(LAYOUTS[5][1])
    saved = {"guide_size_for": "crop region", "mask_mode": "true", "inpaint_model": "false", "contour_fill": "disabled"}
    for name, text in saved.items():
        values[DETAILER.index(name)] = text
    editor.call("await app.loadGraphData(given, true, true, 'old')", editor_file("MaskDetailerPipe", values))
    _, widgets = editor.call(WIDGETS)
    found = dict(widgets)
    assert {name: found[name] for name in saved} == {
        "guide_size_for": False,
        "mask_mode": True,
        "inpaint_model": False,
        "contour_fill": False,
    }
