"""Nodes and links of both formats: follows them, and names them in messages."""

from __future__ import annotations

import json

MUTED, BYPASSED = 2, 4  # the editor's node modes in which a node does not run


def links_of(node: dict) -> list[tuple[str, tuple[str, int]]]:
    """The linked inputs of a prompt's node: [(input name, (source id, source slot)), ...]."""
    pairs = [(name, value) for name, value in node["inputs"].items() if isinstance(value, list) and len(value) == 2]
    return [(name, (source, slot)) for name, (source, slot) in pairs if isinstance(source, str) and type(slot) is int]


def needed_nodes(prompt: dict, object_info: dict) -> set[str]:
    """The ids of the nodes that a run needs: the output nodes and all nodes that feed them."""
    todo = [key for key, node in prompt.items() if schema_of(object_info, node).get("output_node")]
    needed: set[str] = set()
    while todo:
        node_id = todo.pop()
        if node_id not in needed and node_id in prompt:
            needed.add(node_id)
            todo += [source for _name, (source, _slot) in links_of(prompt[node_id])]
    return needed


def schema_of(object_info: dict, node: dict) -> dict:
    """The entry of an engine's object_info for the type of a prompt's node; empty if the engine does not know it."""
    return object_info.get(node.get("class_type")) or {}


def definitions_of(data: dict) -> dict[str, dict]:
    """The subgraphs that an editor's file defines, by the type of their nodes."""
    subgraphs = entries(data.get("definitions"), "subgraphs")
    return {sub["id"]: sub for sub in subgraphs if isinstance(sub, dict) and isinstance(sub.get("id"), str)}


def entries(holder: object, key: str) -> list:
    """The list under a key, or an empty one for anything else: files are edited by hand."""
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, list) else []


def editor_label(node: dict) -> str:
    """The name of a node of the editor's format, for messages."""
    return node_label(node.get("id"), node.get("type", "unknown"), node.get("title"))


def prompt_label(node_id: str, node: dict, object_info: dict | None = None) -> str:
    """The name of a prompt's node, for messages; with `object_info`, without a default title."""
    kind, title = node.get("class_type", "unknown"), saved_title(node)
    default = ((object_info or {}).get(kind) or {}).get("display_name")
    return node_label(node_id, kind, None if title == default else title)


def saved_title(node: dict) -> str | None:
    """The title that a prompt's node was saved with, or None."""
    meta = node.get("_meta")
    return meta.get("title") if isinstance(meta, dict) else None


def node_label(node_id: object, node_type: str, title: object = None) -> str:
    """The name of a node in messages: `node 7 (KSampler "Refine")`; without a title that equals the type."""
    return f"node {node_id} ({node_type}" + (f' "{title}")' if title and title != node_type else ")")


def short(value: object) -> str:
    """Format a value for messages; long ones are shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def id_order(node_id: str) -> tuple:
    """A key that sorts node ids numerically: "2" before "10", "10:3" after "10"."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in str(node_id).split(":"))
