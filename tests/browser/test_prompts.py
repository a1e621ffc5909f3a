"""The converter gives what the editor queues, for files and for random graphs.

Editor-only nodes of other packs are not installed here; fakes with the same behaviour replace them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import comfyui
import pytest
from editor import EXAMPLES, Editor
from editor_graphs import (
    BYPASSED,
    INPUT,
    MUTED,
    OUTPUT,
    edges,
    getter,
    graph,
    instance,
    invert,
    load_mask,
    node,
    preview,
    primitive,
    reroute,
    setter,
    subgraph,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from workflow.read_workflow import Workflow
from workflow.to_prompt import convert
from workflow_cases import EDITOR_FILES, WORKFLOWS
from workflows import ONCE

pytest.importorskip("comfy_cli")

FILES = [*EDITOR_FILES.glob("*.json"), *WORKFLOWS.glob("*_editor.json"), *EXAMPLES.glob("*.json")]
VIRTUAL = ("SetNode", "GetNode", "Reroute (rgthree)", "Fast Groups Bypasser (rgthree)")
REGISTER = """
for (const type of given) {
  class Virtual extends LiteGraph.LGraphNode {
    constructor(title) {
      super(title);
      this.isVirtualNode = true;
      this.serialize_widgets = true;
      if (/^[SG]etNode$/.test(type)) this.addWidget('text', 'name', '', () => {});
    }
    getInputLink(slot) {
      if (type !== 'GetNode') return super.getInputLink(slot);
      const named = (each) => each.type === 'SetNode' && each.widgets[0].value === this.widgets[0].value;
      const link = this.graph.nodes.find(named)?.inputs[slot]?.link;
      return link == null ? null : this.graph.getLink(link);
    }
  }
  LiteGraph.registerNodeType(type, Virtual);
}
"""
QUEUE = "await app.loadGraphData(given, true, true, 'prompt'); return (await app.graphToPrompt()).output"

# Older editors queue muted nodes and audio widgets in other ways.
pytestmark = pytest.mark.editor("1.49", "the way of queueing that the converter follows")


@pytest.fixture
def queues(editor: Editor) -> Iterator[Editor]:
    """The editor with the fake nodes."""
    editor.call(REGISTER, VIRTUAL)
    yield editor
    editor.call("for (const type of given) LiteGraph.unregisterNodeType(type)", VIRTUAL)


@pytest.fixture(scope="module")
def info(server: comfyui.Server) -> dict:
    return server.object_info()


def inputs_of(prompt: dict) -> dict:
    return {key: (found["class_type"], found["inputs"]) for key, found in prompt.items() if "class_type" in found}


def compare(editor: Editor, info: dict, data: dict) -> None:
    theirs = editor.call(QUEUE, data)
    notes: list[str] = []
    ours = convert(Workflow(data, is_editor=True), info, notes.append)
    assert inputs_of(ours) == inputs_of(theirs)


@ONCE
def test_convert_gives_what_the_editor_queues_for_each_file(queues: Editor, info: dict) -> None:
    assert len(FILES) > 10
    for file in FILES:
        compare(queues, info, json.loads(file.read_text(encoding="utf-8")))


# -- random graphs -------------------------------------------------------------------------------------------------

MODES = st.sampled_from([0, 0, 0, MUTED, BYPASSED])
WIDGET = [("masks", "MASK"), ("kernel_size", "INT", True)]
DECLARED = [("masks", "MASK"), ("kernel_size", "INT")]


def number(node_id: int, value: int, mode: int = 0) -> dict:
    return node(node_id, "PrimitiveInt", [("value", "INT", True)], [("INT", "INT")], [value, "fixed"], mode)


@st.composite
def subgraphs(draw: st.DrawFn) -> list[dict]:
    """Edges whose size comes from the subgraph's input or from a primitive inside; and a subgraph that contains it."""
    inside = draw(st.sampled_from(["plain", "primitive", "number"]))
    nodes, links = [edges(60, 5), invert(61, draw(MODES))], [(INPUT, 0, 61, 0), (61, 0, 60, 0), (60, 0, OUTPUT, 0)]
    if inside == "plain":
        links.append((INPUT, 1, 60, 1))
    else:
        nodes.append((primitive if inside == "primitive" else number)(62, 9))
        links.append((62, 0, 60, 1))
    one = subgraph(0, nodes, links, DECLARED, [("MASKS", "MASK")])
    values = draw(st.sampled_from([[], [7]])) if inside == "plain" else []
    nested = [instance(70, 0, values, WIDGET, draw(MODES)), invert(71, draw(MODES))]
    links = [(INPUT, 0, 71, 0), (71, 0, 70, 0), (INPUT, 1, 70, 1), (70, 0, OUTPUT, 0)]
    return [one, subgraph(1, nested, links, DECLARED, [("MASKS", "MASK")])]


@st.composite
def graphs(draw: st.DrawFn) -> dict:
    """Masks from a loader through a few nodes of all kinds to previews.

    No primitive feeds a subgraph: editors since 1.49 lose its value, whereas the converter and earlier editors keep it.
    """
    nodes, links = [load_mask(1), number(2, 21, draw(MODES))], []
    masks, sizes = [1], [2]
    pairs = 0
    for node_id in range(10, 10 + draw(st.integers(2, 7))):
        kind = draw(st.sampled_from(["invert", "edges", "reroute", "rgthree", "set", "get", "subgraph", "size"]))
        mode = draw(MODES)
        source = draw(st.sampled_from([*masks, None]))
        if kind == "size":
            nodes.append(reroute(node_id, "INT", mode))
            links.append((draw(st.sampled_from(sizes)), 0, node_id, 0))
            sizes.append(node_id)
            continue
        if kind == "get" and not pairs:
            kind = "set"
        if kind in ("edges", "subgraph") and draw(st.booleans()):
            links.append((draw(st.sampled_from(sizes)), 0, node_id, 1))
        elif kind == "edges" and draw(st.booleans()):
            nodes.append(primitive(node_id + 20, draw(st.sampled_from([11, 13])), draw(MODES)))
            links.append((node_id + 20, 0, node_id, 1))
        if kind == "set":
            nodes.append(setter(node_id, f"mask {pairs}", mode=mode))
            pairs += 1
        elif kind == "get":
            nodes.append(getter(node_id, f"mask {draw(st.integers(0, pairs - 1))}", mode=mode))
        elif kind == "subgraph":
            values = draw(st.sampled_from([[], [15]]))
            nodes.append(instance(node_id, draw(st.integers(0, 1)), values, WIDGET, mode))
        elif kind == "edges":
            nodes.append(edges(node_id, 3, mode))
        elif kind == "invert":
            nodes.append(invert(node_id, mode))
        else:
            nodes.append(reroute(node_id, mode=mode, of="Reroute" if kind == "reroute" else "Reroute (rgthree)"))
        if source is not None and kind != "get":
            links.append((source, 0, node_id, 0))
        masks.append(node_id)
    for at, source in enumerate(draw(st.lists(st.sampled_from(masks), min_size=1, max_size=3))):
        nodes.append(preview(50 + at))
        links.append((source, 0, 50 + at, 0))
    return graph(nodes, links, draw(subgraphs()))


@ONCE
def test_convert_gives_what_the_editor_queues_for_any_graph(queues: Editor, info: dict) -> None:
    @settings(max_examples=80, derandomize=True, database=None, deadline=None)
    @given(graphs())
    def check(data: dict) -> None:
        compare(queues, info, data)

    check()


@ONCE
def test_convert_gives_what_the_editor_queues_for_nodes_of_every_kind(queues: Editor, info: dict) -> None:
    """Each node of the pack and of ComfyUI as the editor makes it, including nodes with dynamic widgets."""
    left_out = ("3d", "splat", "pointcloud", "saveglb")  # viewers, whose values only a browser can make
    # Values that the editor fetches later, and curves, which newer editors write in another form.
    special = {
        "CurveEditor",
        "LoadImageOutput",
        "CustomCombo",
        "ImageCompare",
        "WebcamCapture",
        "RecordAudio",
    }
    wanted = ("nodes", "comfy_extras", "custom_nodes")
    kinds = [
        kind
        for kind, schema in info.items()
        if schema["python_module"].split(".")[0] in wanted
        and kind not in special
        and not any(word in kind.lower() for word in left_out)
    ]
    assert len(kinds) > 300
    data, theirs = queues.call(
        "const graph = app.rootGraph ?? app.graph; graph.clear(); let id = 9000;"
        "for (const kind of given) { const node = LiteGraph.createNode(kind); node.id = ++id; graph.add(node); }"
        "const prompt = await app.graphToPrompt();"
        "return [JSON.parse(JSON.stringify(prompt.workflow)), prompt.output]",
        kinds,
    )
    workflow = Workflow(data, is_editor=True)
    ours, theirs = inputs_of(convert(workflow, info, lambda text: None)), inputs_of(theirs)
    assert len(ours) == len(kinds)
    assert {key: ours.get(key) for key in theirs} == theirs
