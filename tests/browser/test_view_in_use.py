"""The live views as a newcomer meets them: side panel, subgraphs, App mode, zoom, long runs, and what goes wrong."""

from __future__ import annotations

import copy
import json
import re
import uuid

import comfyui
import numpy as np
import pytest
from editor import EXAMPLES, Editor
from PIL import Image
from workflows import (
    LINKS,
    LOAD,
    LOADER,
    ONCE,
    PREVIEW,
    SEGMENT,
    differing,
    from_image,
    graph,
    out,
    press,
    slot,
    solid,
)

from subgraphs import OUTER, enter, find_inside, leave, make_subgraph

NODE = "const node = (app.rootGraph ?? app.graph).getNodeById(given.id ?? given); "
VIEW = NODE + "const widget = node.widgets.find((w) => w.name === 'maskwright_view'); "
TALL = NODE + "return node.size[1]"
DEMO = "demo: salient object (bundled)"


def cut_out(image: str, matting: str = "true") -> dict:
    """An image -> background removal -> preview."""
    load = {**LOAD, "widgets_values": [image, "image"]}
    cut = {"id": 2, "type": "ImageSegmentation", "inputs": [slot("images", "IMAGE")], "outputs": out("IMAGE", "MASK"),
           "size": [320, 520], "widgets_values": [DEMO, matting, 240, 20, 10, "false"]}  # fmt: skip
    preview = {"id": 3, "type": "PreviewImage", "inputs": [slot("images", "IMAGE")]}
    return graph(*copy.deepcopy([load, cut, preview]), links=[[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]])


def detailer(color: int, seed: int = 1) -> dict:
    """The detailer with a mask of one value, 0 or 0xFFFFFF, and the tests' checkpoint."""
    workflow = json.loads((EXAMPLES / "detail_masked_regions.json").read_text(encoding="utf-8"))
    nodes = {node["type"]: node for node in workflow["nodes"]}
    nodes["CheckpointLoaderSimple"].update(type="FixtureCheckpoint", widgets_values=[])
    nodes["LoadImage"]["widgets_values"] = ["shapes.png", "image"]
    nodes["CLIPSegModelLoader"]["widgets_values"] = ["demo: coloured shapes (bundled)"]
    nodes["CLIPSeg"]["widgets_values"][0] = "red star" if color else "purple elephant"
    nodes["MaskDetailerPipe"]["widgets_values"][4:6] = [seed, "fixed"]
    return {**workflow, "id": str(uuid.uuid4())}


def detailer_id(workflow: dict) -> int:
    return next(node["id"] for node in workflow["nodes"] if node["type"] == "MaskDetailerPipe")


@pytest.fixture
def large(server: comfyui.Server) -> str:
    """An image whose alpha matting takes seconds."""
    name = "large_subject.png"
    if not (server.input_folder / name).exists():
        height, width = 1400, 1800
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        inside = np.hypot(x, y) < 0.55 + 0.06 * np.sin(40 * np.arctan2(y, x))
        noise = np.random.default_rng(0).integers(0, 40, (height, width, 3))
        image = np.where(inside[..., None], (220, 60, 40), (40, 90, 60)) - noise
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(server.input_folder / name)
    return name


def open_side_panel(editor: Editor, node_id: int) -> None:
    editor.call(
        NODE + "await app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', true);"
        "app.canvas.selectItems([node]); app.canvas.setDirty(true, true)",
        node_id,
    )
    editor.page.wait_for_timeout(600)


def close_side_panel(editor: Editor) -> None:
    editor.call("await app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false)")


def widths(editor: Editor, node_id: int) -> list[float]:
    """The width of a view and of its node, in the graph's units."""
    return editor.call(
        VIEW + "const element = document.querySelector(`[data-node-id='${node.id}']`);"
        "return [widget.element.offsetWidth, element?.offsetWidth ?? node.size[0]]",
        node_id,
    )


# Width, label, height


def test_a_view_is_as_wide_as_its_node_beside_the_side_panel(editor: Editor) -> None:
    editor.load(from_image(LOAD))
    try:
        open_side_panel(editor, 3)
        panel = editor.page.locator("[data-testid='properties-panel'], .side-bar-panel, aside").all_inner_texts()
        assert not any("maskwright_view" in text or "Live view" in text for text in panel)
        editor.call(NODE + "node.setSize([600, node.size[1]]); app.canvas.setDirty(true, true)", 3)
        editor.wait_until_settled()
        editor.page.wait_for_timeout(200)
        view, node = widths(editor, 3)
        assert node > 350 and view > node - 40  # Vue nodes of older editors do not become 600 wide
    finally:
        close_side_panel(editor)


@ONCE
def test_a_width_that_an_older_editor_writes_is_ignored(editor: Editor) -> None:
    editor.load(from_image(LOAD))
    editor.call(VIEW + "widget.width = 259; app.canvas.setDirty(true, true)", 3)
    editor.page.wait_for_timeout(300)
    view, node = widths(editor, 3)
    assert view == pytest.approx(node - 8, abs=1)


@ONCE
def test_a_view_has_a_label(editor: Editor) -> None:
    editor.load(from_image(LOAD))
    assert editor.call(VIEW + "return widget.label", 3) == "Live view"


@ONCE
@pytest.mark.parametrize("kind", ["CLIPSeg", "ImageSegmentation", "MaskDetailerPipe", "MaskInstances"])
def test_a_new_node_is_as_high_as_after_an_undo(editor: Editor, kind: str) -> None:
    editor.load(graph(LOAD))
    editor.call(
        "const node = window.LiteGraph.createNode(given); node.pos = [500, 100];"
        "(app.rootGraph ?? app.graph).add(node); window.__added = node.id",
        kind,
    )
    editor.wait_until_settled()
    height = "return (app.rootGraph ?? app.graph).getNodeById(window.__added).size[1]"
    new = editor.call(height)
    editor.load(editor.serialized())
    assert editor.call(height) == new


@pytest.mark.editor("1.49", "Vue nodes with a height that extensions set", renderer="vue")
def test_views_that_are_off_or_smaller_leave_no_hole(editor: Editor) -> None:
    """The height that the user gave the node stays."""
    choose = "await app.extensionManager.setting.set(...given)"
    editor.load(from_image(LOAD, size=[320, 100]))
    editor.wait_until_settled()
    editor.call(NODE + "node.setSize([node.size[0], node.size[1] + 40])", 3)
    editor.wait_until_settled()
    before = editor.call(TALL, 3)
    try:
        editor.call(choose, ["Maskwright.View.Size", 500])
        editor.wait_until_settled()
        assert editor.call(TALL, 3) == pytest.approx(before + 260, abs=2)
        editor.call(choose, ["Maskwright.View.Size", 240])
        editor.wait_until_settled()
        assert editor.call(TALL, 3) == pytest.approx(before, abs=2)
        editor.call(choose, ["Maskwright.View.Show", False])
        editor.wait_until_settled()
        assert editor.call(TALL, 3) < before - 240
        editor.call(choose, ["Maskwright.View.Show", True])
        editor.wait_until_settled()
        assert editor.call(TALL, 3) == pytest.approx(before, abs=2)
    finally:
        editor.call(choose, ["Maskwright.View.Size", 240])
        editor.call(choose, ["Maskwright.View.Show", True])


def test_the_bar_of_a_narrow_node_is_one_row(editor: Editor) -> None:
    editor.load(from_image(LOAD, size=[272, 560]))
    editor.run()
    editor.wait_for_image(3)
    tops = editor.view(3).evaluate(
        "(e) => [...e.querySelectorAll('.maskwright-bar button, .maskwright-bar input')]"
        ".filter((each) => each.offsetParent).map((each) => each.getBoundingClientRect())"
        ".map((each) => each.top + each.height / 2)"
    )
    assert max(tops) - min(tops) < 12


# Subgraphs


INNER = find_inside("CLIPSeg")
PIXELS = INNER + (
    "const c = view.querySelector('canvas');"
    "for (let i = 0; i < 100 && (c.hidden || !view.isConnected); i++)"
    "  await new Promise((done) => setTimeout(done, 50));"
    "await new Promise((done) => setTimeout(done, 300));"
    "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let sum = 0;"
    "for (let i = 0; i < d.length; i += 4) sum += d[i]; return sum"
)


def set_promoted(editor: Editor, value: float) -> None:
    """What moving the slider on the subgraph's node does."""
    editor.call(
        OUTER + "const w = outer.widgets.find((w) => w.name === 'threshold');"
        "w.value = given; w.callback?.(given, app.canvas, outer)",
        value,
    )


def test_a_slider_on_a_subgraphs_node_moves_the_view_inside(editor: Editor) -> None:
    editor.load(from_image(LOAD))
    make_subgraph(editor, [2, 3], "threshold", "FLOAT", INNER)
    try:
        set_promoted(editor, 0.5)
        editor.run()
        assert editor.ended["kind"] == "execution_success", editor.ended
        enter(editor, INNER)
        editor.call(INNER + "[...view.querySelectorAll('button')].find((b) => b.textContent === 'B/W').click()")
        first = editor.call(PIXELS)
        queued = editor.queued
        set_promoted(editor, 0.95)  # as the side panel does while the subgraph is open
        moved = editor.call(PIXELS)
        assert moved != first
        leave(editor)
        set_promoted(editor, 0.5)
        enter(editor, INNER)
        assert editor.call(PIXELS) == first
        leave(editor)
        set_promoted(editor, 0.95)
        assert editor.queued == queued
        editor.run()
        enter(editor, INNER)
        assert editor.call(PIXELS) == moved, "the run gives what the view showed"
    finally:
        leave(editor)


@ONCE
def test_a_linked_slider_on_a_subgraphs_node_shows_the_runs_value(editor: Editor) -> None:
    """A value that another node computes is not known before the run."""
    editor.load(from_image(LOAD))
    make_subgraph(editor, [2, 3], "threshold", "FLOAT", INNER)
    try:
        set_promoted(editor, 0.5)
        editor.run()
        enter(editor, INNER)
        first = editor.call(PIXELS)
        leave(editor)
        has_source = editor.call(
            OUTER + "const source = window.LiteGraph.createNode('PrimitiveFloat'); if (!source) return false;"
            "(app.rootGraph ?? app.graph).add(source);"
            "source.connect(0, outer, outer.inputs.findIndex((i) => i.name === 'threshold')); return true"
        )
        if not has_source:
            pytest.skip("this ComfyUI has no node for a number")
        set_promoted(editor, 0.95)
        enter(editor, INNER)
        assert editor.call(PIXELS) == first
    finally:
        leave(editor)


# App mode


@pytest.mark.editor("1.49", "App mode")
def test_a_view_in_app_mode_follows_the_sliders(editor: Editor) -> None:
    workflow = from_image(LOAD)
    inputs = [[3, "text"], [3, "threshold"], [3, "maskwright_view"]]
    workflow["extra"] |= {"linearData": {"inputs": inputs, "outputs": [4]}, "linearMode": True}
    try:
        editor.load(workflow, f"app {uuid.uuid4().hex[:6]}")
        editor.page.wait_for_timeout(1000)
        item = editor.page.locator("[data-testid='app-mode-widget-item']", has=editor.page.locator(".maskwright-view"))
        assert "Live view" in item.first.inner_text()
        editor.run()
        assert editor.ended["kind"] == "execution_success", editor.ended
        editor.wait_for_image(3)
        press(editor, 3, "B/W")
        assert item.locator("canvas").bounding_box()["height"] > 100
        before, queued = editor.pixels(3), editor.queued
        editor.set_widget(3, "threshold", 0.95)
        assert differing(before, editor.pixels(3)) > 0.001 and editor.queued == queued
    finally:
        plain = from_image(LOAD)
        plain["extra"]["linearMode"] = False
        editor.load(plain, f"graph {uuid.uuid4().hex[:6]}")
        editor.page.wait_for_timeout(500)


# Regions


def test_region_numbers_keep_their_size_on_screen(editor: Editor) -> None:
    workflow = detailer(0xFFFFFF)
    node = detailer_id(workflow)
    editor.load(workflow)
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    editor.wait_for_image(node)
    boxes = editor.view(node).query_selector(".maskwright-boxes")
    assert not boxes.is_visible(), "hidden over the finished result"
    press(editor, node, "Show the regions and their numbers")
    sizes = []
    for scale in (0.5, 1, 2):
        editor.call(
            NODE + "const {ds} = app.canvas; ds.changeScale(given.scale, [0, 0]);"
            "ds.offset[0] = 300 / ds.scale - node.pos[0]; ds.offset[1] = 900 / ds.scale - node.pos[1] - node.size[1];"
            "app.canvas.setDirty(true, true)",
            {"id": node, "scale": scale},
        )
        editor.page.wait_for_timeout(500)
        editor.frames()
        number = editor.view(node).query_selector(".maskwright-number").bounding_box()
        sizes.append(number["height"])
        image = editor.view(node).query_selector("canvas").bounding_box()
        area = boxes.bounding_box()
        assert image["x"] - 1 <= area["x"] and area["x"] + area["width"] <= image["x"] + image["width"] + 1
    assert sizes == pytest.approx([14.4] * 3, abs=2)
    assert editor.note(node) == "", "a single region has no order"
    press(editor, node, "Show the regions and their numbers")
    assert not boxes.is_visible()


@ONCE
def test_a_mask_without_regions_is_explained(editor: Editor) -> None:
    workflow = detailer(0)
    editor.load(workflow)
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    node = detailer_id(workflow)
    editor.wait_for_image(node)
    assert "No selected region is larger than drop_size" in editor.note(node)


# What users set


def test_opacity_and_page_survive_undo_and_reload(editor: Editor) -> None:
    editor.load({**from_image(solid(64, 48, 3)), "id": str(uuid.uuid4())}, f"kept {uuid.uuid4().hex[:6]}")
    editor.run()
    editor.wait_for_image(3)
    saved = editor.serialized()
    assert all("maskwright_view" not in node["properties"] for node in saved["nodes"])
    editor.view(3).evaluate(
        "(e) => { const s = e.querySelector('input'); s.value = 0.9; s.dispatchEvent(new Event('input')) }"
    )
    press(editor, 3, "Next image")
    tracker = "const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker;"
    capture = "(tracker.captureCanvasState ?? tracker.checkState).call(tracker);"
    editor.call(tracker + capture)
    editor.page.wait_for_timeout(200)  # changes that follow at once become one step
    editor.set_widget(3, "threshold", 0.95)
    editor.call(tracker + capture + "await tracker.undo()")
    editor.wait_until_settled()

    def state() -> list:
        editor.wait_for_image(3)
        return editor.view(3).evaluate(
            "(e) => [e.querySelector('input').value, e.querySelector('.maskwright-page').textContent]"
        )

    assert state() == ["0.9", "2 of 3"]
    editor.reload()
    assert state() == ["0.9", "2 of 3"]
    kept = next(node for node in editor.serialized()["nodes"] if node["id"] == 3)["properties"]["maskwright_view"]
    assert kept == {"opacity": {"heatMap": 0.9}, "page": 1}


def test_split_and_page_survive_tabs_and_reload(background_removal: None, editor: Editor) -> None:
    cut = {"id": 2, "type": "ImageSegmentation", "inputs": [slot("images", "IMAGE")], "outputs": out("IMAGE", "MASK"),
           "size": [320, 520], "widgets_values": [DEMO, "false", 240, 20, 10, "false"]}  # fmt: skip
    name = f"split {uuid.uuid4().hex[:6]}"
    editor.load(graph({"id": 1, **solid(64, 48, 3)}, cut, links=[[1, 1, 0, 2, 0, "IMAGE"]]), name)
    editor.run()
    editor.wait_for_image(2)
    press(editor, 2, "Next image")
    editor.wait_for_image(2)
    editor.view(2).query_selector("canvas").focus()
    for _ in range(4):
        editor.page.keyboard.press("ArrowLeft")  # older editors record changes after a key, not before a tab is left

    def state() -> list:
        editor.wait_for_image(2)
        return editor.view(2).evaluate(
            "(e) => [e.querySelector('canvas').ariaValueNow, e.querySelector('.maskwright-page').textContent]"
        )

    assert state() == ["42", "2 of 3"]
    editor.load(graph(LOAD), f"other {uuid.uuid4().hex[:6]}")
    editor.page.locator(".workflow-tabs, .workflow-tabs-container").get_by_text(name, exact=True).last.click()
    editor.page.wait_for_function(
        "() => { const {app} = window.comfyAPI.app; const node = (app.rootGraph ?? app.graph).getNodeById(2);"
        " return node?.type === 'ImageSegmentation' }"
    )
    assert state() == ["42", "2 of 3"]
    editor.reload()
    assert state() == ["42", "2 of 3"]


@ONCE
def test_missing_files_of_an_earlier_run_are_no_error(editor: Editor, server: comfyui.Server) -> None:
    """After a reload the server's history still lists it, for instance because another workflow had the same nodes."""
    editor.load({**from_image(LOAD, widgets_values=["blue ring", 1, 0.5, 2, "", 352]), "id": str(uuid.uuid4())})
    nothing_yet = editor.message(3)
    before = set((server.base / "temp" / "maskwright").glob("*"))
    editor.run()
    editor.wait_for_image(3)
    for file in set((server.base / "temp" / "maskwright").glob("*")) - before:
        file.unlink()
    with editor.page.expect_response(lambda answer: "/view?" in answer.url and answer.status == 404):
        editor.reload()
    editor.page.wait_for_timeout(200)
    assert editor.message(3) == nothing_yet
    assert editor.errors and all("404" in text and "/view?" in text for text in editor.errors)
    editor.errors.clear()
    editor.set_widget(3, "text", "red star")
    editor.run()
    editor.wait_for_image(3)


@ONCE
@pytest.mark.parametrize(
    "odd",
    [7, "closed", [], {"opacity": 3, "page": -1, "mode": 5}, {"opacity": {"heatMap": "x"}, "page": 1e9, "split": None}],
)
def test_an_odd_property_of_a_file_is_ignored(editor: Editor, odd: object) -> None:
    workflow = from_image(LOAD, properties={"maskwright_view": odd})
    editor.load(workflow)
    editor.run()
    editor.wait_for_image(3)
    assert editor.message(3) == ""


def test_a_click_on_a_view_selects_its_node(editor: Editor) -> None:
    editor.load(from_image(LOAD))
    editor.run()
    editor.wait_for_image(3)
    editor.call("app.canvas.deselectAll()")
    selected = "return [...app.canvas.selectedItems].map((n) => n.id)"
    assert editor.call(selected) == []
    box = editor.view(3).query_selector("canvas").bounding_box()
    editor.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    editor.frames()
    assert [int(each) for each in editor.call(selected)] == [3]


@ONCE
def test_the_keyboard_works_after_a_view_with_the_focus_was_collapsed(editor: Editor) -> None:
    editor.load(cut_out("shapes.png", "false"))
    editor.run()
    editor.wait_for_image(2)
    box = editor.view(2).query_selector("canvas").bounding_box()
    editor.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    collapsed = NODE + "return !!node.flags.collapsed"
    for expected in (True, False, True):
        editor.page.keyboard.press("Alt+c")
        editor.page.wait_for_timeout(500)
        assert editor.call(collapsed, 2) is expected


# Runs


def rgb(color: str) -> list[float]:
    """A computed CSS color as three values 0..255."""
    values = [float(value) for value in re.findall(r"[\d.]+", color.removeprefix("color(srgb"))[:3]]
    return [255 * value for value in values] if color.startswith("color(srgb") else values


def contrast(one: list[float], other: list[float]) -> float:
    """The contrast ratio of two colors, 1 to 21, as WCAG 2 defines it."""

    def luminance(color: list[float]) -> float:
        parts = [value / 255 for value in color]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


RECORD = (
    "window.__said = []; window.__events = [];"
    "for (const kind of ['progress', 'maskwright.phase'])"
    "  api.addEventListener(kind, (e) => __events.push({kind, ...e.detail}));"
    "const element = node.widgets.find((w) => w.name === 'maskwright_view').element;"
    "const parts = [...element.querySelectorAll('.maskwright-message, .maskwright-note')];"
    "new MutationObserver(() => __said.push(parts.map((p) => p.textContent).join('')))"
    ".observe(element, {subtree: true, childList: true, characterData: true})"
)


@ONCE
def test_a_long_run_says_what_it_does(background_removal: None, editor: Editor, large: str) -> None:
    editor.load(cut_out(large))
    editor.call(NODE + RECORD, 2)
    editor.run(timeout=300_000)
    assert editor.ended["kind"] == "execution_success", editor.ended
    editor.wait_for_image(2)
    said = editor.page.evaluate("() => window.__said")
    events = editor.page.evaluate("() => window.__events")
    assert [each["phase"] for each in events if each["kind"] == "maskwright.phase"] == ["loading", "subject", "edges"]
    percents = [text for text in said if text.startswith("Refining edges … ")]
    assert len(set(percents)) > 5 and any(text.startswith("Finding the subject …") for text in said)
    first = next(i for i, text in enumerate(said) if text.endswith("…"))
    assert not any("Run the workflow" in text for text in said[first:]), said
    assert editor.message(2) == editor.note(2) == ""


@ONCE
@pytest.mark.parametrize("phase", ["loading", "subject", "edges"])
def test_a_run_cancelled_in_a_phase_says_so(
    background_removal: None, editor: Editor, server: comfyui.Server, large: str, phase: str
) -> None:
    name = f"cancelled_{phase}.png"
    with Image.open(server.input_folder / large) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(server.input_folder / name)
    editor.load(cut_out(name))
    editor.call(
        "api.addEventListener('maskwright.phase', ({detail}) => { if (detail.phase === given) api.interrupt() })",
        phase,
    )
    editor.run(timeout=300_000)
    assert editor.ended["kind"] == "execution_interrupted", editor.ended
    editor.wait_for_text(2, "Cancelled before this node finished.")
    editor.page.wait_for_timeout(300)
    assert editor.message(2) == "Cancelled before this node finished."
    editor.reload()  # its listeners go


@ONCE
def test_a_node_that_waits_for_others_says_so(editor: Editor) -> None:
    """While the node before it works."""
    workflow = from_image(solid(512, 512, 64))
    second = {**copy.deepcopy(SEGMENT), "id": 5, "pos": [40, 700], "outputs": out("MASK", "IMAGE", "IMAGE")}
    workflow["nodes"].append({**second, "order": 5, "mode": 0, "flags": {}, "properties": {}})
    workflow["links"] += [[4, 3, 1, 5, 0, "IMAGE"], [5, 2, 0, 5, 1, "CLIPSEG_MODEL"], [6, 5, 2, 6, 0, "IMAGE"]]
    preview = {**copy.deepcopy(PREVIEW), "id": 6, "pos": [400, 700], "size": [200, 200], "order": 6, "mode": 0}
    workflow["nodes"].append({**preview, "flags": {}, "properties": {}, "outputs": []})
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, origin, out_slot, target, in_slot, _ in workflow["links"][3:]:
        source = nodes[origin]["outputs"][out_slot]
        source["links"] = [*source["links"], link]
        nodes[target]["inputs"][in_slot]["link"] = link
    editor.load(workflow)
    editor.run(wait=False)
    editor.wait_for_text(5, "Waiting for the nodes before this one")
    editor.call("await api.interrupt()")
    editor.page.wait_for_function("() => window.__ended", timeout=120_000)
    editor.wait_for_text(5, "Cancelled")


@ONCE
def test_no_text_is_explained(editor: Editor) -> None:
    editor.load(from_image(LOAD, widgets_values=[" | ", 1, 0.5, 2, "", 352]))
    editor.run()
    editor.wait_for_image(3)
    assert editor.note(3) == "No text, so the selection is arbitrary."
    editor.set_widget(3, "text", "red star")
    assert "has changed" in editor.note(3)


@ONCE
def test_an_error_is_colored_and_leaves_the_image(editor: Editor) -> None:
    """Of an earlier run: the error is below it, however long it is."""
    editor.load(graph(*copy.deepcopy([LOAD, LOADER, SEGMENT, PREVIEW]), links=copy.deepcopy(LINKS)))
    editor.run()
    editor.wait_for_image(3)
    height = "(e) => e.querySelector('canvas').getBoundingClientRect().height"
    before = editor.view(3).evaluate(height)
    editor.set_widget(2, "model", "CIDAS/clipseg-rd64-refined")
    editor.run()
    assert editor.ended["kind"] == "execution_error"
    editor.wait_for_text(3, "The run failed at 'CLIPSeg Model Loader' before reaching this node: CIDAS")
    editor.page.keyboard.press("Escape")
    addresses = re.findall(r"https://\S+", editor.note(3))
    assert addresses and len(addresses) == len(set(addresses))
    note = editor.view(3).query_selector(".maskwright-note")
    text, background = note.evaluate(
        "(e) => [getComputedStyle(e).color, getComputedStyle(e.closest('.maskwright-view')).backgroundColor]"
    )
    red, green, _ = rgb(text)
    assert red > green + 50
    assert contrast(rgb(text), rgb(background)) >= 4.5, "as WCAG asks of text"
    assert editor.view(3).evaluate(height) > before * 0.6
    editor.errors.clear()


@ONCE
def test_a_workflow_id_of_two_megabytes_harms_nothing(editor: Editor) -> None:
    workflow = {**from_image(LOAD, widgets_values=["blue ring", 1, 0.5, 2, "", 352]), "id": "x" * 2_000_000}
    editor.load(workflow)
    editor.call(
        "window.__sizes = []; for (const kind of ['executed', 'maskwright.phase'])"
        " api.addEventListener(kind, (e) => __sizes.push(JSON.stringify(e.detail).length))"
    )
    editor.run()
    assert editor.ended["kind"] == "execution_success", editor.ended
    editor.wait_for_image(3)
    assert max(editor.page.evaluate("() => window.__sizes")) < 10_000
    editor.reload()
    editor.load(graph(LOAD))
