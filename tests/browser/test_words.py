"""The pack as somebody meets it in the editor: searching, reading labels, tooltips and help, running one node alone."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator

import comfyui
import pytest
from editor import ROOT, Editor
from editor_graphs import graph, node
from workflows import ONCE

NAMES = {
    "CLIPSeg": "Text to Mask (CLIPSeg)",
    "CLIPSegMasking": "Text to Soft Mask (CLIPSeg)",
    "CLIPSegModelLoader": "CLIPSeg Model Loader",
    "EditBasicPipe": "Edit Basic Pipe",
    "EditMask": "Edit Mask",
    "FromBasicPipe": "From Basic Pipe",
    "GradientRegion": "Mask Edges",
    "ImageSegmentation": "Remove Background (rembg)",
    "MaskDetailerPipe": "Mask Detailer (pipe)",
    "MaskInstances": "Mask Instances",
    "RefineMask": "Refine Mask",
    "RegionCrop": "Region Crop",
    "RegionStitch": "Region Stitch",
    "ToBasicPipe": "To Basic Pipe",
}
SEARCH_WORDS = pytest.mark.editor("1.49", "search words of nodes")
NEED_SEARCH_WORDS = {
    "transparent",
    "cutout",
    "mask by text",
    "separate masks",
    "connected components",
}  # the others are in names and ids
SEARCHES = {
    "remove background": "ImageSegmentation",
    "transparent": "ImageSegmentation",
    "cutout": "ImageSegmentation",
    "rembg": "ImageSegmentation",
    "image segmentation": "ImageSegmentation",
    "mask by text": "CLIPSeg",
    "text to mask": "CLIPSeg",
    "clipseg": "CLIPSeg",
    "mask edge": "GradientRegion",
    "gradient region": "GradientRegion",
    "grow mask": "EditMask",
    "detailer": "MaskDetailerPipe",
    "separate masks": "MaskInstances",
    "connected components": "MaskInstances",
    "basic pipe": "ToBasicPipe",
}
FIRST = 5  # results that are seen without scrolling
NARROWEST = 225  # the width that Vue nodes have at least
# Chinese and Japanese characters, each as wide as an em dash, which every machine has a font for.
CJK = re.compile("[\u3000-\u9fff\uff00-\uff60]")
LOADER, SEGMENT = 2, 3


def segment_alone(text: str = "red star", branches: int = 1) -> dict:
    """An image and the demo model into `branches` nodes CLIPSeg, and nothing behind them."""
    nodes = [
        node(1, "LoadImage", outputs=[("IMAGE", "IMAGE"), ("MASK", "MASK")], values=["shapes.png", "image"]),
        node(
            LOADER,
            "CLIPSegModelLoader",
            outputs=[("clipseg_model", "CLIPSEG_MODEL")],
            values=["demo: coloured shapes (bundled)"],
        ),
    ]
    links = []
    for branch in range(SEGMENT, SEGMENT + branches):
        inputs = [("image", "IMAGE"), ("clipseg_model", "CLIPSEG_MODEL")]
        outputs = [("Mask", "MASK"), ("Heatmap Mask", "IMAGE"), ("BW Mask", "IMAGE")]
        each = text if branch == SEGMENT else f"{text} {branch}"  # or its result would be that of the first
        nodes.append(node(branch, "CLIPSeg", inputs, outputs, [each, 1, 0.5, 2, "green square", 352]))
        links += [(1, 0, branch, 0), (LOADER, 0, branch, 1)]
    for number, each in enumerate(nodes):
        each["pos"] = [60 + 460 * (number % 3), 260 + 600 * (number // 3)]
    return {**graph(nodes, links), "id": str(uuid.uuid4())}


def add(editor: Editor, *kinds: str, labels: dict | None = None) -> None:
    """A new workflow with these nodes side by side, at half scale.

    Args:
        labels: Labels of widgets by node and name, in place of the English ones.
    """
    editor.load({"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "version": 0.4})
    editor.call(
        "const graph = app.rootGraph ?? app.graph; given.kinds.forEach((kind, number) => {"
        " const node = LiteGraph.createNode(kind); node.pos = [440 * number, 0];"
        " for (const widget of node.widgets ?? []) widget.label = given.labels[kind]?.[widget.name] ?? widget.label;"
        " graph.add(node) });"
        "app.canvas.ds.scale = 0.5; app.canvas.ds.offset = [200, 500]; app.canvas.setDirty(true, true)",
        {"kinds": list(kinds), "labels": labels or {}},
    )
    editor.wait_until_settled()


def select(editor: Editor, node_id: int) -> None:
    editor.call(
        "const node = (app.rootGraph ?? app.graph).getNodeById(given);"
        "app.canvas.selectNode ? app.canvas.selectNode(node) : app.canvas.select(node);"
        "app.canvas.setDirty(true, true)",
        node_id,
    )
    editor.frames()


# -- search ---------------------------------------------------------------------------------------------------------


def search(editor: Editor, words: str) -> list[str]:
    """The names that the editor's search lists, best first."""
    editor.call("await app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    field = editor.page.locator("[role=dialog] input[role=combobox], [role=search] input[role=combobox]").first
    field.fill(words)
    results = editor.page.locator("[data-testid=result-item], [role=listbox] [role=option]")
    before, names = None, []
    for _ in range(40):
        editor.page.wait_for_timeout(100)
        before, names = names, [text.strip().split("\n")[0].strip() for text in results.all_inner_texts()]
        if names and names == before:
            break
    field.fill("")  # or an older editor throws an error when it removes the field
    editor.page.keyboard.press("Escape")
    editor.page.wait_for_timeout(100)
    return [name for name in names if name]


@ONCE
@SEARCH_WORDS
def test_the_packs_name_finds_every_node(editor: Editor) -> None:
    assert set(NAMES.values()) <= set(search(editor, "maskwright"))


@ONCE
@SEARCH_WORDS
def test_hair_finds_what_selects_it_and_what_cuts_it_out(editor: Editor) -> None:
    """Somewhere in the list: the editor puts ComfyUI's own nodes with similar words first."""
    assert {NAMES["CLIPSeg"], NAMES["ImageSegmentation"]} <= set(search(editor, "hair"))


@ONCE
@pytest.mark.parametrize(
    ("words", "kind"),
    [
        pytest.param(words, kind, id=words, marks=[SEARCH_WORDS] if words in NEED_SEARCH_WORDS else [])
        for words, kind in SEARCHES.items()
    ],
)
def test_words_that_people_search_for_find_the_node(editor: Editor, words: str, kind: str) -> None:
    assert NAMES[kind] in search(editor, words)[:FIRST]


# -- running one node -----------------------------------------------------------------------------------------------


@ONCE
def test_a_node_with_nothing_behind_it_runs(editor: Editor) -> None:
    editor.load(segment_alone())
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    editor.wait_for_image(SEGMENT)


@ONCE
def test_the_play_button_runs_the_selected_node_alone(editor: Editor) -> None:
    editor.load(segment_alone("blue ring", branches=2))
    editor.call("app.canvas.ds.scale = 0.7; app.canvas.ds.offset = [60, 120]; app.canvas.setDirty(true, true)")
    select(editor, SEGMENT)
    editor.call(
        "window.__ended = null; window.__executed = [];"
        "api.addEventListener('executed', (event) => window.__executed.push(event.detail.node));"
        "api.addEventListener('execution_success', (event) => { window.__ended = event.detail }, {once: true})"
    )
    button = editor.page.get_by_role("button", name="Execute to selected output nodes")
    nameless = editor.page.locator(".selection-toolbox button:has(i[class*='lucide--play'])")  # in older editors
    button.or_(nameless).first.click()
    editor.page.wait_for_function("() => window.__ended", timeout=60_000)
    editor.wait_for_image(SEGMENT)
    assert set(editor.page.evaluate("() => window.__executed")) == {str(SEGMENT)}
    assert editor.message(SEGMENT + 1), "the other node has no result"


# -- labels, text boxes, lists --------------------------------------------------------------------------------------


def cut_labels(editor: Editor, renderer: str) -> list[str]:
    """The labels of widgets that do not fit into their nodes at the nodes' smallest width."""
    if renderer == "vue":
        for button in editor.page.get_by_text("Show advanced inputs").element_handles():
            button.evaluate("(e) => e.click()")  # another part of the page may lie over it
        editor.call(
            "for (const node of (app.rootGraph ?? app.graph).nodes) node.setSize([given, node.size[1]])", NARROWEST
        )
        editor.wait_until_settled()
        return editor.page.evaluate(
            """() => [...document.querySelectorAll('.lg-node-widget *')]
              .filter((e) => !e.children.length && !e.closest('button, [role=combobox], .maskwright-view'))
              .filter((e) => getComputedStyle(e).textOverflow === 'ellipsis' && e.scrollWidth > e.clientWidth)
              .map((e) => e.textContent.trim())"""
        )
    editor.call(
        "for (const node of (app.rootGraph ?? app.graph).nodes) node.setSize([node.computeSize()[0], node.size[1]])"
    )
    return editor.page.evaluate(
        """async () => {
          const {app} = window.comfyAPI.app;
          const cut = new Set();
          const context = CanvasRenderingContext2D.prototype;
          const {fillText} = context;
          context.fillText = function (text, ...rest) {
            if (String(text).endsWith('\\u2026')) cut.add(String(text));
            return fillText.call(this, text, ...rest);
          };
          app.canvas.ds.scale = 1;
          app.canvas.setDirty(true, true);
          await new Promise((done) => setTimeout(done, 500));
          context.fillText = fillText;
          return [...cut];
        }"""
    )


@pytest.mark.parametrize("language", ["en", "zh", "ja", "de"])
def test_labels_can_be_read_at_the_smallest_width(editor: Editor, renderer: str, language: str) -> None:
    """The labels of every language in an English editor, since not every editor knows every language."""
    nodes = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    labels = {
        kind: {name: CJK.sub("\u2014", each["name"]) for name, each in nodes[kind]["inputs"].items()} for kind in NAMES
    }
    add(editor, *(kind for kind in NAMES if kind != "CLIPSegModelLoader"), labels=labels)  # that has long model names
    assert cut_labels(editor, renderer) == []


def test_text_boxes_keep_their_places_and_their_text(editor: Editor) -> None:
    """Saved values are in order, and nothing takes the vertical bar and the braces for a syntax."""
    editor.load(segment_alone("{red|blue} star"))
    editor.call("await app.loadGraphData((app.rootGraph ?? app.graph).serialize(), true, true, 'again')")
    editor.wait_until_settled()
    values = next(each["widgets_values"] for each in editor.serialized()["nodes"] if each["id"] == SEGMENT)
    assert values == ["{red|blue} star", 1, 0.5, 2, "green square", 352]
    prompt = editor.call("return (await app.graphToPrompt()).output")
    assert prompt[str(SEGMENT)]["inputs"]["text"] == "{red|blue} star"
    text = editor.call(
        "const widget = (app.rootGraph ?? app.graph).getNodeById(given).widgets.find((w) => w.name === 'text');"
        "return [widget.element?.tagName, widget.element?.placeholder]",
        SEGMENT,
    )
    assert text == ["TEXTAREA", "text: what to select, e.g. face | hair"]


@ONCE
def test_a_taller_node_has_a_taller_view_not_a_taller_text(editor: Editor) -> None:
    add(editor, "CLIPSeg")

    def heights() -> list[float]:
        return editor.call(
            "const node = (app.rootGraph ?? app.graph).nodes[0];"
            "return ['text', 'maskwright_view'].map((name) =>"
            " node.widgets.find((w) => w.name === name).element.getBoundingClientRect().height / app.canvas.ds.scale)"
        )

    text, view = heights()
    editor.call(
        "const node = (app.rootGraph ?? app.graph).nodes[0]; node.setSize([node.size[0], node.size[1] + 400]);"
        "app.canvas.setDirty(true, true)"
    )
    editor.wait_until_settled()
    taller_text, taller_view = heights()
    assert taller_text <= 80
    assert taller_view - view > 350 - (taller_text - text)


@pytest.fixture
def silueta(server: comfyui.Server) -> Iterator[object]:
    """The place of a model's file, empty before and after."""
    file = server.base / "models" / "rembg" / "silueta.onnx"
    file.unlink(missing_ok=True)
    yield file
    file.unlink(missing_ok=True)


def listed_models(editor: Editor, renderer: str) -> list[str]:
    """What the node's list of models shows when it is opened; it stays open."""
    if renderer == "vue":
        row = editor.page.locator(".lg-node-widget", has_text="model").first
        row.locator("[role=combobox]").click()
        options = editor.page.locator("[role=option]")
    else:
        x, y = editor.call(
            "const node = (app.rootGraph ?? app.graph).nodes[0];"
            "const widget = node.widgets.find((w) => w.name === 'model');"
            "const {ds, canvas} = app.canvas; const box = canvas.getBoundingClientRect();"
            "return [(node.pos[0] + node.size[0] / 2 + ds.offset[0]) * ds.scale + box.left,"
            " (node.pos[1] + widget.last_y + 10 + ds.offset[1]) * ds.scale + box.top]"
        )
        editor.page.mouse.click(x, y)
        options = editor.page.locator(".litemenu-entry")
    options.first.wait_for()
    return [text.strip() for text in options.all_inner_texts()]


@pytest.mark.editor("1.49", "labels of options in Vue nodes", renderer="vue")
def test_the_list_of_models_says_what_would_be_downloaded(editor: Editor, renderer: str, silueta) -> None:
    add(editor, "ImageSegmentation")
    editor.call("app.canvas.ds.scale = 1; app.canvas.ds.offset = [200, 200]; app.canvas.setDirty(true, true)")
    editor.call("await app.refreshComboInNodes()")
    editor.frames()
    shown = listed_models(editor, renderer)
    assert "silueta \u2193 44 MB" in shown and "u2netp \u2193 5 MB" in shown
    editor.page.get_by_text("silueta \u2193 44 MB").last.click()
    editor.frames()
    (node_,) = editor.serialized()["nodes"]
    assert node_["widgets_values"][0] == "silueta", "saved files hold the plain name"
    silueta.parent.mkdir(parents=True, exist_ok=True)
    silueta.write_bytes(b"x")
    editor.call("await app.refreshComboInNodes()")  # the key R
    editor.page.wait_for_timeout(300)
    shown = listed_models(editor, renderer)
    assert "silueta" in shown and "u2netp \u2193 5 MB" in shown
    editor.page.keyboard.press("Escape")


# -- tooltips and help ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widget", ["threshold", "negative_text"])
def test_a_tooltip_is_shown_as_it_is_written(editor: Editor, renderer: str, widget: str) -> None:
    add(editor, "CLIPSeg")
    editor.call("app.canvas.ds.scale = 1; app.canvas.ds.offset = [200, 200]; app.canvas.setDirty(true, true)")
    editor.frames()
    if renderer == "vue":
        editor.page.locator(".lg-node-widget", has_text=widget).first.get_by_text(widget).first.hover()
    else:
        x, y = editor.call(
            "const node = (app.rootGraph ?? app.graph).nodes[0];"
            "const widget = node.widgets.find((w) => w.name === given);"
            "const {ds, canvas} = app.canvas; const box = canvas.getBoundingClientRect();"
            "return [(node.pos[0] + 60 + ds.offset[0]) * ds.scale + box.left,"
            " (node.pos[1] + widget.last_y + 10 + ds.offset[1]) * ds.scale + box.top]",
            widget,
        )
        editor.page.mouse.move(x - 3, y)
        editor.page.mouse.move(x, y)
    expected = {
        "threshold": "How confident the model must be. Higher selects less.",
        "negative_text": "What to leave out; separate several things with a vertical bar.",
    }
    editor.page.get_by_text(expected[widget]).first.wait_for(timeout=10_000)
    editor.page.mouse.move(5, 500)


@ONCE
@pytest.mark.parametrize("kind", NAMES)
def test_a_help_page_fits_into_the_panel(editor: Editor, kind: str) -> None:
    add(editor, kind)
    select(editor, editor.call("return (app.rootGraph ?? app.graph).nodes[0].id"))
    editor.page.get_by_test_id("info-button").click()
    page = editor.page.locator(".node-help-content")
    page.get_by_role("heading", name=NAMES[kind], exact=True).first.wait_for(timeout=20_000)
    page.locator("img").first.wait_for()
    editor.page.wait_for_function(
        "(page) => [...page.querySelectorAll('img')].every((i) => i.complete)", arg=page.element_handle()
    )
    broken = page.evaluate(
        "(page) => [...page.querySelectorAll('img')].filter((i) => !i.naturalWidth).map((i) => i.src)"
    )
    assert broken == []
    wide = page.evaluate(
        """(page) => {
          const right = page.getBoundingClientRect().right + 1;
          return [...page.querySelectorAll('*')].filter((e) => e.getBoundingClientRect().right > right)
            .map((e) => `${e.tagName}: ${e.textContent.slice(0, 60)}`);
        }"""
    )
    assert wide == []
    assert "web_files.py" not in page.inner_text(), "comments of the page are not shown"


def test_every_node_has_a_name_here() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in (ROOT / "web" / "docs").glob("*.md"))
