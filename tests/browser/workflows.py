"""Workflows in the editor's format, and what tests do with a node's view."""

from __future__ import annotations

import copy
import json
import uuid

import numpy as np
import pytest
from editor import EXAMPLES, Editor
from PIL import Image

# For what both renderers share: messages, drawing, files, the server.
ONCE = pytest.mark.parametrize("renderer", ["canvas"], indirect=True, scope="session")

TEXT_TO_MASK = json.loads((EXAMPLES / "text_to_mask.json").read_text(encoding="utf-8"))
CLIPSEG, SAVED_MASK = 3, 5  # nodes of that example


def graph(*nodes: dict, links: list[list] = ()) -> dict:
    """A workflow in the editor's format."""
    placed = []
    for number, node in enumerate(nodes):
        place = {"pos": [40 + 340 * (number % 4), 60 + 560 * (number // 4)], "size": [300, 300], "flags": {}}
        placed.append({**place, "order": number, "mode": 0, "inputs": [], "outputs": [], "properties": {}, **node})
    for link, origin, slot, target, target_slot, _kind in links:
        source = next(n for n in placed if n["id"] == origin)["outputs"][slot]
        source["links"] = [*(source.get("links") or []), link]
        next(n for n in placed if n["id"] == target)["inputs"][target_slot]["link"] = link
    last = {"last_node_id": max(n["id"] for n in placed), "last_link_id": len(links)}
    extra = {"ds": {"scale": 0.9, "offset": [20, 40]}}
    return {"id": str(uuid.uuid4()), "revision": 0, **last, "nodes": placed, "links": list(links),
            "groups": [], "config": {}, "extra": extra, "version": 0.4}  # fmt: skip


def slot(name: str, kind: str) -> dict:
    return {"name": name, "type": kind, "link": None}


def out(*kinds: str) -> list[dict]:
    return [{"name": kind, "type": kind, "links": []} for kind in kinds]


LOAD = {"id": 1, "type": "LoadImage", "outputs": out("IMAGE", "MASK"), "widgets_values": ["shapes.png", "image"]}
LOADER = {"id": 2, "type": "CLIPSegModelLoader", "outputs": out("CLIPSEG_MODEL"), "size": [300, 80],
          "widgets_values": ["demo: coloured shapes (bundled)"]}  # fmt: skip
SEGMENT = {"id": 3, "type": "CLIPSeg", "size": [320, 560], "outputs": out("MASK", "IMAGE", "IMAGE"),
           "inputs": [slot("image", "IMAGE"), slot("clipseg_model", "CLIPSEG_MODEL")],
           "widgets_values": ["red star", 1, 0.5, 2, "", 352]}  # fmt: skip
PREVIEW = {"id": 4, "type": "PreviewImage", "inputs": [slot("images", "IMAGE")]}
LINKS = [[1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "CLIPSEG_MODEL"], [3, 3, 2, 4, 0, "IMAGE"]]


def from_image(source: dict, **changes: object) -> dict:
    """`source` -> CLIPSeg -> preview; `changes` are CLIPSeg's."""
    nodes = [{"id": 1, **source}, LOADER, {**SEGMENT, **changes}, PREVIEW]
    return graph(*copy.deepcopy(nodes), links=copy.deepcopy(LINKS))


def solid(width: int, height: int, batch: int) -> dict:
    return {"type": "EmptyImage", "outputs": out("IMAGE"), "widgets_values": [width, height, batch, 0xFF0000]}


def press(editor: Editor, node_id: int, label: str) -> None:
    """Press a button of a node's view, by what it is called."""
    editor.view(node_id).evaluate(
        "(e, label) => [...e.querySelectorAll('button')].find((b) => b.ariaLabel === label).click()", label
    )
    editor.frames()
    editor.page.wait_for_function(
        "(e) => e.classList.contains('maskwright-closed') ||"
        " e.querySelector('.maskwright-message').textContent !== 'Loading …'",
        arg=editor.view(node_id),
    )


def differing(one: np.ndarray, other: np.ndarray, tolerance: int = 2) -> float:
    """The share of pixels that differ by more than two levels of 255 (the screen's rounding)."""
    return float((np.abs(one.astype(int) - other.astype(int)) > tolerance).mean())


COLOR, BACKGROUND = (250, 90, 120), (30, 140, 60)  # of `two_parts`
SHAPED, TO_IMAGE = 3, 4  # nodes of `shape`


def two_parts() -> Image.Image:
    """An image of 64 x 40 pixels with two bright red parts."""
    image = np.full((40, 64, 3), BACKGROUND, np.uint8)
    image[8:24, 4:20] = image[20:36, 40:60] = COLOR
    return Image.fromarray(image)


def shape(image: str, node: dict, *extra_links: list, threshold: float = 0.5) -> dict:
    """An image -> its red parts as masks -> `node` (input 0: masks) -> a saved image."""
    nodes = [
        {**LOAD, "widgets_values": [image, "image"]},
        {"id": 2, "type": "ImageToMask", "inputs": [slot("image", "IMAGE")], "outputs": out("MASK"),
         "widgets_values": ["red"]},
        {"id": 6, "type": "ThresholdMask", "inputs": [slot("mask", "MASK")], "outputs": out("MASK"),
         "widgets_values": [threshold]},
        {"id": 7, "type": "MaskInstances", "outputs": out("MASK", "MASK", "BOUNDING_BOX", "INT"), "size": [300, 500],
         "inputs": [slot("masks", "MASK"), slot("bounding_boxes", "BOUNDING_BOX"), slot("image", "IMAGE")],
         "widgets_values": ["connected parts", "left to right", 0.0, 1.0, 0, ""]},
        {"id": SHAPED, "size": [300, 600], **node},
        {"id": TO_IMAGE, "type": "MaskToImage", "inputs": [slot("mask", "MASK")], "outputs": out("IMAGE")},
        {"id": 5, "type": "SaveImage", "inputs": [slot("images", "IMAGE")], "widgets_values": ["shaped"]},
    ]  # fmt: skip
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 6, 0, "MASK"], [3, 6, 0, 7, 0, "MASK"], [4, 7, 0, SHAPED, 0, "MASK"],
             [5, SHAPED, 0, TO_IMAGE, 0, "MASK"], [6, TO_IMAGE, 0, 5, 0, "IMAGE"]]  # fmt: skip
    return graph(*copy.deepcopy(nodes), links=[*links, *extra_links])


# Nodes for `shape`. Edit Mask grows the mask and feathers it outside.
EDIT_MASK = {"type": "EditMask", "inputs": [slot("mask", "MASK"), slot("image", "IMAGE")], "outputs": out("MASK"),
             "widgets_values": [False, 0.75, False, 0, 4.0, 0.0, 0.0, 8.0, 0.0]}  # fmt: skip
REFINE_MASK = {"type": "RefineMask", "outputs": out("MASK", "IMAGE", "IMAGE"),
               "inputs": [slot("mask", "MASK"), slot("image", "IMAGE"), slot("trimap", "MASK")],
               "widgets_values": ["guided filter", 4.0, 0.0, True, "transparent"]}  # fmt: skip
WITH_IMAGE = [7, 1, 0, SHAPED, 1, "IMAGE"]
