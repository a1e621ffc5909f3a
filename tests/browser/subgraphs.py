"""What browser tests of views inside a subgraph share."""

from __future__ import annotations

from editor import Editor

# Scripts that begin with this name the subgraph's node `outer`.
OUTER = "const outer = (app.rootGraph ?? app.graph).nodes.find((n) => n.subgraph);"


def find_inside(node_type: str) -> str:
    """The beginning of a script that names a node inside `inner`, and the element of its view `view`."""
    return OUTER + (
        f"const inner = outer.subgraph.nodes.find((n) => n.type === '{node_type}');"
        "const view = inner.widgets.find((w) => w.name === 'maskwright_view').element;"
    )


def make_subgraph(editor: Editor, node_ids: list[int], promoted: str = "", kind: str = "", inner: str = "") -> None:
    """Turn nodes into a subgraph. ``promoted``: an input of the node that ``inner`` finds, of type ``kind``, which the
    subgraph's node then also has."""
    script = (
        "const g = app.rootGraph ?? app.graph;"
        "g.convertToSubgraph(new Set(given.node_ids.map((id) => g.getNodeById(id))));"
    )
    if promoted:
        script += inner + (
            "const slot = inner.inputs.find((i) => i.name === given.promoted);"
            "outer.subgraph.addInput(given.promoted, given.kind).connect(slot, inner)"
        )
    editor.call(script, {"node_ids": node_ids, "promoted": promoted, "kind": kind})
    editor.wait_until_settled()


def enter(editor: Editor, inner: str) -> None:
    """Open the subgraph, with the node that ``inner`` finds in sight."""
    editor.call(inner + "app.canvas.openSubgraph(outer.subgraph, outer)")
    editor.page.wait_for_timeout(500)  # until the editor has moved its canvas
    editor.call(
        inner + "app.canvas.ds.scale = 0.8; app.canvas.ds.offset = [300 - inner.pos[0], 120 - inner.pos[1]];"
        "app.canvas.setDirty(true, true)"
    )
    editor.wait_until_settled()


def leave(editor: Editor) -> None:
    editor.call("app.canvas.setGraph(app.rootGraph ?? app.graph)")
    editor.frames()
