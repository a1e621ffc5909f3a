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

import workflows
from editor import FLAGS, Editor, chromium, put_settings, why_not

HELP = ROOT / "web" / "docs" / "images"
README = ROOT / "docs"
EXAMPLES = ROOT / "example_workflows"
NODE = "(app.rootGraph ?? app.graph).nodes.find((n) => n.type === given)"
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
    reason = why_not()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    with Server(find_comfyui(), cpu=True) as server, sync_playwright() as playwright:
        settings = {"Comfy_TutorialCompleted": True, "Comfy_VueNodes_Enabled": True, "Comfy_Minimap_Visible": False}
        put_settings(server.url, **settings, Comfy_NodeBadge_NodeSourceBadgeMode="None")
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1700, "height": 1100})
        editor = Editor(page, server.url)
        editor.open()
        for name, example in PAGES.items():
            workflow = read_example(example)
            for node in workflow["nodes"]:
                if node["type"] == name:
                    node.pop("title", None)  # as when a user adds it
            open_and_run(editor, workflow, name, name)
            save([take_screenshot(editor, name)], HELP / f"{name}.jpg")
        for name in ALONE:
            editor.load(workflows.graph({"id": 1, "type": name, "size": [320, 100]}), name)
            save([take_screenshot(editor, name)], HELP / f"{name}.jpg")
        for name in ("CLIPSegMasking", "RegionCrop", "RegionStitch"):
            open_and_run(editor, make_workflow(), name)
            save([take_screenshot(editor, name)], HELP / f"{name}.jpg")
        editor.reload()  # closes the other tabs
        open_and_run(editor, read_example("text_to_mask"), "CLIPSeg", "text_to_mask")
        page.wait_for_timeout(6000)  # until the notification of the finished job disappears
        editor.call("app.canvas.ds.offset[1] += 70 / app.canvas.ds.scale; app.canvas.setDirty(true, true)")
        editor.frames()
        area = {"x": 270, "y": 125, "width": 1190, "height": 850}  # below the editor's own buttons
        save([page.screenshot(clip=area)], README / "editor_text_to_mask.jpg")
        modes = []
        for mode in ("Heat map", "Outline", "Cutout", "B/W"):
            workflows.press(editor, workflows.CLIPSEG, mode)
            modes.append(take_screenshot(editor, "CLIPSeg"))
        save(modes, README / "editor_modes.jpg")
        browser.close()
    return 0


def read_example(name: str) -> dict:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    workflow["extra"].pop("linearMode", None)  # the graph, not the app
    return workflow


def open_and_run(editor: Editor, workflow: dict, type_name: str, name: str = "example") -> None:
    editor.load(workflow, name)
    editor.run()
    if editor.call(f"return !!{NODE}.widgets.find((w) => w.name === 'maskwright_view')", type_name):
        editor.wait_for_image(editor.call(f"return {NODE}.id", type_name))
    editor.page.wait_for_timeout(800)


def take_screenshot(editor: Editor, type_name: str) -> bytes:
    """Take a screenshot of the node of that type, at full scale."""
    node_id = editor.call(
        f"const node = {NODE}; app.canvas.ds.scale = 1; app.canvas.ds.offset = [400 - node.pos[0], 140 - node.pos[1]];"
        "app.canvas.setDirty(true, true); return node.id",
        type_name,
    )
    editor.page.wait_for_timeout(1000)
    return editor.page.locator(f"[data-node-id='{node_id}']").first.screenshot()


def make_workflow() -> dict:
    """The shapes -> CLIPSegMasking, and -> CLIPSeg -> Region Crop -> inverted colors -> Region Stitch."""
    out, slot, text = workflows.out, workflows.slot, "red star | green ring"
    inputs = [slot("images", "IMAGE"), slot("clipseg_model", "CLIPSEG_MODEL")]
    nodes = [
        workflows.LOAD,
        workflows.LOADER,
        {**workflows.SEGMENT, "widgets_values": [text]},
        workflows.PREVIEW,
        {"id": 5, "type": "RegionCrop", "inputs": [slot("image", "IMAGE"), slot("mask", "MASK")], "size": [320, 740],
         "outputs": out("IMAGE", "MASK", "REGION_STITCH", "BOUNDING_BOX", "INT")},
        {"id": 6, "type": "ImageInvert", "inputs": [slot("image", "IMAGE")], "outputs": out("IMAGE")},
        {"id": 7, "type": "RegionStitch", "inputs": [slot("stitch", "REGION_STITCH"), slot("crops", "IMAGE")],
         "outputs": out("IMAGE", "MASK"), "size": [320, 440]},
        {**workflows.SEGMENT, "id": 8, "type": "CLIPSegMasking", "inputs": inputs, "outputs": out("MASK", "IMAGE"),
         "widgets_values": [text]},
    ]  # fmt: skip
    links = [[1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "CLIPSEG_MODEL"], [3, 1, 0, 5, 0, "IMAGE"],
             [4, 3, 0, 5, 1, "MASK"], [5, 5, 0, 6, 0, "IMAGE"], [6, 5, 2, 7, 0, "REGION_STITCH"],
             [7, 6, 0, 7, 1, "IMAGE"], [8, 7, 0, 4, 0, "IMAGE"], [9, 1, 0, 8, 0, "IMAGE"],
             [10, 2, 0, 8, 1, "CLIPSEG_MODEL"]]  # fmt: skip
    return workflows.graph(*copy.deepcopy(nodes), links=links)


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
