"""Builds editor files from nodes and links."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

INPUT, OUTPUT = -10, -20  # ids of the two ends inside a subgraph
BYPASSED, MUTED = 4, 2


def node(
    node_id: int,
    kind: str,
    inputs: Iterable[tuple[str, str] | tuple[str, str, bool]] = (),
    outputs: Iterable[tuple[str, str]] = (),
    values: object = None,
    mode: int = 0,
) -> dict:
    """A node without links. Inputs that also have a widget are ``(name, type, True)``."""
    entry: dict[str, Any] = {"id": node_id, "type": kind, "pos": [10 * node_id, 0], "size": [200, 100], "flags": {}}
    entry |= {"order": node_id, "mode": mode, "properties": {}}
    entry["inputs"] = [
        {"name": name, "type": of, "link": None, **({"widget": {"name": name}} if widget else {})}
        for name, of, *widget in inputs
    ]
    entry["outputs"] = [{"name": name, "type": of, "links": []} for name, of in outputs]
    if values is not None:
        entry["widgets_values"] = values
    return entry


def graph(nodes: list[dict], links: list[tuple[int, int, int, int]], subgraphs: Iterable[dict] = ()) -> dict:
    """An editor file. A link is ``(source, output slot, target, input slot)``."""
    nodes = copy.deepcopy(nodes)
    connected = _connect(nodes, links, [], [])
    data = {
        "last_node_id": 99,
        "last_link_id": 99,
        "nodes": nodes,
        "links": [list(link.values()) for link in connected],
    }
    data |= {"groups": [], "config": {}, "extra": {}, "version": 0.4}
    return data | {"definitions": {"subgraphs": copy.deepcopy(list(subgraphs))}}


def subgraph(
    number: int,
    nodes: list[dict],
    links: list[tuple[int, int, int, int]],
    inputs: list[tuple[str, str]],
    outputs: list[tuple[str, str]],
) -> dict:
    """A definition for nodes of type ``subgraph_type(number)``. Links may start at `INPUT` and end at `OUTPUT`."""
    nodes = copy.deepcopy(nodes)
    ends = [
        [
            {"id": f"{number}-{which}-{at}", "name": name, "type": of, "linkIds": []}
            for at, (name, of) in enumerate(each)
        ]
        for which, each in (("in", inputs), ("out", outputs))
    ]
    connected = _connect(nodes, links, *ends)
    return {
        "id": subgraph_type(number),
        "version": 1,
        "revision": 0,
        "state": {"lastGroupId": 0, "lastNodeId": 99, "lastLinkId": 99, "lastRerouteId": 0},
        "config": {},
        "name": f"Subgraph {number}",
        "inputNode": {"id": INPUT, "bounding": [0, 0, 10, 10]},
        "outputNode": {"id": OUTPUT, "bounding": [9, 9, 10, 10]},
        "inputs": ends[0],
        "outputs": ends[1],
        "widgets": [],
        "nodes": nodes,
        "links": connected,
        "groups": [],
    }


def subgraph_type(number: int) -> str:
    return f"3f2a51f0-5b1e-4c8e-9d6f-{number:012x}"


def _connect(nodes: list[dict], links: list[tuple], inputs: list[dict], outputs: list[dict]) -> list[dict]:
    by_id = {each["id"]: each for each in nodes}
    connected = []
    for number, (source, source_slot, target, target_slot) in enumerate(links, 1):
        start = inputs[source_slot] if source == INPUT else by_id[source]["outputs"][source_slot]
        end = outputs[target_slot] if target == OUTPUT else by_id[target]["inputs"][target_slot]
        start["linkIds" if source == INPUT else "links"].append(number)
        if target == OUTPUT:
            end["linkIds"].append(number)
        else:
            end["link"] = number
        link = {"id": number, "origin_id": source, "origin_slot": source_slot, "target_id": target}
        connected.append({**link, "target_slot": target_slot, "type": start["type"]})
    return connected


# -- nodes for tests -----------------------------------------------------------------------------------------------


def load_mask(node_id: int) -> dict:
    return node(node_id, "LoadImageMask", [], [("MASK", "MASK")], ["shapes.png", "red"])


def invert(node_id: int, mode: int = 0) -> dict:
    return node(node_id, "InvertMask", [("mask", "MASK")], [("MASK", "MASK")], mode=mode)


def edges(node_id: int, kernel_size: object = 3, mode: int = 0) -> dict:
    inputs = [("masks", "MASK"), ("kernel_size", "INT", True), ("shape", "COMBO", True), ("edge", "COMBO", True)]
    return node(node_id, "GradientRegion", inputs, [("MASKS", "MASK")], [kernel_size, "cross", "both"], mode)


def preview(node_id: int) -> dict:
    return node(node_id, "MaskPreview", [("mask", "MASK")])


def reroute(node_id: int, kind: str = "MASK", mode: int = 0, of: str = "Reroute") -> dict:
    return node(node_id, of, [("", "*")], [("", kind)], mode=mode)


def primitive(node_id: int, value: object, mode: int = 0) -> dict:
    return node(node_id, "PrimitiveNode", [], [("INT", "INT")], [value, "fixed"], mode)


def setter(node_id: int, name: str, kind: str = "MASK", mode: int = 0, of: str = "SetNode") -> dict:
    return node(node_id, of, [(kind, kind)], [(kind, kind)], [name], mode)


def getter(node_id: int, name: str, kind: str = "MASK", mode: int = 0, of: str = "GetNode") -> dict:
    return node(node_id, of, [], [(kind, kind)], [name], mode)


def instance(node_id: int, number: int, values: list, inputs: list[tuple], mode: int = 0) -> dict:
    return node(node_id, subgraph_type(number), inputs, [("MASKS", "MASK")], values, mode)
