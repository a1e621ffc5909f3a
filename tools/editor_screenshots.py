#!/usr/bin/env python3
"""Takes the screenshots for the README and the help pages, from a real ComfyUI in a real browser.

    python tools/editor_screenshots.py

Needs ComfyUI, Chromium and Playwright, as the tests in tests/browser do; `tools/thumbnails.py` makes the
thumbnails of the examples.
"""

from __future__ import annotations

import copy
import io
import json
import sys
from pathlib import Path

from comfyui import Server, find_comfyui
from pack import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT / "tests" / "browser"))

import editor as editor_page
from workflows import LOAD, LOADER, PREVIEW, SEGMENT, graph, out, slot

HELP = ROOT / "web" / "docs" / "images"
README = ROOT / "docs"
EXAMPLES = ROOT / "example_workflows"
GAP = 12  # pixels between screenshots

# Help page -> the example to open for it.
PAGES = {
    "CLIPSeg": "text_to_mask",
    "CLIPSegModelLoader": "text_to_mask",
    "EditMask": "edit_mask",
    "GradientRegion": "mask_edges",
    "ImageSegmentation": "remove_background",
    "MaskInstances": "mask_instances",
    "RefineMask": "refine_mask",
}
# Help pages that show only the node, without a run, which would need a checkpoint.
ALONE = ("MaskDetailerPipe", "ToBasicPipe", "FromBasicPipe", "EditBasicPipe")


def main() -> int:
    reason = editor_page.why_not()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    HELP.mkdir(parents=True, exist_ok=True)
    with Server(find_comfyui(), cpu=True) as server, sync_playwright() as playwright:
        settings = {"Comfy_TutorialCompleted": True, "Comfy_VueNodes_Enabled": True, "Comfy_Minimap_Visible": False}
        editor_page.put_settings(server.url, **settings, Comfy_NodeBadge_NodeSourceBadgeMode="None")
        browser = playwright.chromium.launch(executable_path=editor_page.chromium(), args=list(editor_page.FLAGS))
        page = browser.new_page(viewport={"width": 1700, "height": 1100})
        editor = editor_page.Editor(page, server.url)
        editor.open()
        for name, example in PAGES.items():
            open_and_run(editor, remove_title(read_example(example), name), name)
            save([take_screenshot(editor, name)], HELP / f"{name}.jpg")
        for name in ALONE:
            editor.load(make_single_node_workflow(name), name)
            save([take_screenshot(editor, name)], HELP / f"{name}.jpg")
        for name, workflow in {
            "CLIPSegMasking": make_masking_workflow(),
            "RegionCrop": make_crop_workflow(),
            "RegionStitch": make_crop_workflow(),
        }.items():
            open_and_run(editor, workflow, name)
            save([take_screenshot(editor, name)], HELP / f"{name}.jpg")
        editor.reload()  # closes the other tabs
        open_and_run(editor, read_example("text_to_mask"), "CLIPSeg", "text_to_mask")
        page.wait_for_timeout(6000)  # until the notification of the finished job disappears
        editor.call("app.canvas.ds.offset[1] += 70 / app.canvas.ds.scale; app.canvas.setDirty(true, true)")
        editor.frames()
        area = {"x": 270, "y": 125, "width": 1190, "height": 850}  # below the editor's own buttons
        save([page.screenshot(clip=area)], README / "editor_text_to_mask.jpg")
        save(take_mode_screenshots(editor), README / "editor_modes.jpg")
        browser.close()
    return 0


def read_example(name: str) -> dict:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    workflow["extra"].pop("linearMode", None)  # the graph, not the app
    return workflow


def remove_title(workflow: dict, type_name: str) -> dict:
    """Remove that node's custom title, so that it shows the default one, as when a user adds it."""
    for node in workflow["nodes"]:
        if node["type"] == type_name:
            node.pop("title", None)
    return workflow


def make_single_node_workflow(type_name: str) -> dict:
    node = {"id": 1, "type": type_name, "pos": [0, 0], "size": [320, 100], "flags": {}, "order": 0, "mode": 0}
    return {"last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "version": 0.4}


def open_and_run(editor: editor_page.Editor, workflow: dict, type_name: str, name: str = "example") -> None:
    editor.load(workflow, name)
    editor.run()
    node = "(app.rootGraph ?? app.graph).nodes.find((n) => n.type === given)"
    if editor.call(f"return !!{node}.widgets.find((w) => w.name === 'maskwright_view')", type_name):
        editor.wait_for_image(editor.call(f"return {node}.id", type_name))
    editor.page.wait_for_timeout(800)


def take_screenshot(editor: editor_page.Editor, type_name: str) -> bytes:
    """Take a screenshot of the node of that type, at full scale."""
    node_id = editor.call("return (app.rootGraph ?? app.graph).nodes.find((n) => n.type === given).id", type_name)
    editor.call(
        "const node = (app.rootGraph ?? app.graph).getNodeById(given); app.canvas.ds.scale = 1;"
        "app.canvas.ds.offset = [400 - node.pos[0], 140 - node.pos[1]]; app.canvas.setDirty(true, true)",
        node_id,
    )
    editor.page.wait_for_timeout(1000)
    return editor.page.locator(f"[data-node-id='{node_id}']").first.screenshot()


def take_mode_screenshots(editor: editor_page.Editor) -> list[bytes]:
    open_and_run(editor, read_example("text_to_mask"), "CLIPSeg")
    screenshots = []
    for mode in ("Heat map", "Outline", "Cutout", "B/W"):
        editor.view(3).evaluate(
            "(e, label) => [...e.querySelectorAll('button')].find((b) => b.ariaLabel === label).click()", mode
        )
        editor.page.wait_for_timeout(500)
        screenshots.append(take_screenshot(editor, "CLIPSeg"))
    return screenshots


def make_masking_workflow() -> dict:
    """The example text_to_mask with CLIPSegMasking instead of CLIPSeg, and without the nodes after it."""
    workflow = read_example("text_to_mask")
    keep = {1, 2, 3, 4, 5}
    workflow["nodes"] = [node for node in workflow["nodes"] if node["id"] in keep]
    workflow["links"] = [link for link in workflow["links"] if {link[1], link[3]} <= keep and link[2] == 0]
    link_ids = {link[0] for link in workflow["links"]}
    for node in workflow["nodes"]:
        for output in node["outputs"]:
            output["links"] = [link for link in output["links"] or [] if link in link_ids]
        if node["id"] == 3:
            node.update(type="CLIPSegMasking", outputs=node["outputs"][:2])
            node["inputs"][0]["name"] = "images"
            node.pop("title", None)
            node["properties"] = {}
            node["widgets_values"] = ["red star | green ring", "", 352, "stretch"]
    workflow["id"] = "5b7a8a0e-6a56-4a53-9b43-52f6c55d0c01"
    return workflow


def make_crop_workflow() -> dict:
    """The shapes -> Region Crop -> inverted colors -> Region Stitch."""
    crop = {"id": 5, "type": "RegionCrop", "outputs": out("IMAGE", "MASK", "REGION_STITCH", "BOUNDING_BOX", "INT"),
            "inputs": [slot("image", "IMAGE"), slot("mask", "MASK")], "size": [320, 740],
            "widgets_values": ["connected parts", "as found", False, 0, 1.5, 32, "keep", 1024, 1024, 8, 8,
                               "one by one"]}  # fmt: skip
    invert = {"id": 6, "type": "ImageInvert", "inputs": [slot("image", "IMAGE")], "outputs": out("IMAGE")}
    stitch = {"id": 7, "type": "RegionStitch", "outputs": out("IMAGE", "MASK"), "size": [320, 440],
              "inputs": [slot("stitch", "REGION_STITCH"), slot("crops", "IMAGE")],
              "widgets_values": [0.0, -1]}  # fmt: skip
    segment = {**SEGMENT, "widgets_values": ["red star | green ring", *SEGMENT["widgets_values"][1:]]}
    nodes = copy.deepcopy([LOAD, LOADER, segment, PREVIEW, crop, invert, stitch])
    links = [[1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "CLIPSEG_MODEL"], [3, 1, 0, 5, 0, "IMAGE"],
             [4, 3, 0, 5, 1, "MASK"], [5, 5, 0, 6, 0, "IMAGE"], [6, 5, 2, 7, 0, "REGION_STITCH"],
             [7, 6, 0, 7, 1, "IMAGE"], [8, 7, 0, 4, 0, "IMAGE"]]  # fmt: skip
    return graph(*nodes, links=links)


def save(screenshots: list[bytes], path: Path) -> None:
    """Save screenshots side by side."""
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in screenshots]
    steps = [image.width + GAP for image in images]
    sheet = Image.new("RGB", (sum(steps) - GAP, max(image.height for image in images)), "#1a1a1a")
    for index, image in enumerate(images):
        sheet.paste(image, (sum(steps[:index]), 0))
    sheet.save(path, quality=88, optimize=True)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
