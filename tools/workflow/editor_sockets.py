"""A node's inputs and outputs after the editor opens a file: from the node's definition, not from the file."""

from __future__ import annotations

from .graph import sockets
from .widgets import has_widget, input_specs


def socket_has_widget(node: dict, socket: dict, object_info: dict) -> bool:
    """Whether an input also has a widget."""
    specs, name = input_specs(object_info.get(node["type"]) or {}), socket.get("name")
    return has_widget(*specs[name]) if name in specs else bool(socket.get("widget"))


def input_type(node: dict, socket: dict, object_info: dict) -> object:
    """The type that an input takes."""
    specs, name = input_specs(object_info.get(node["type"]) or {}), socket.get("name")
    return specs[name][0] if name in specs else socket.get("type")


def bypass_input(node: dict, slot: int, target_type: object, object_info: dict, definition: dict) -> dict | None:
    """The input of a bypassed node that takes the place of its output `slot` for an input of type `target_type`.

    Args: ``definition``, that of the node if it is a subgraph, else empty.
    """
    schema = object_info.get(node["type"]) or {}
    inputs = _all_inputs(node, input_specs(schema), definition)
    opposite = inputs[slot] if 0 <= slot < len(inputs) else None
    if _is_any(target_type):
        return opposite or next(iter(inputs), None)
    declared, saved = schema.get("output"), sockets(node, "outputs")
    if isinstance(declared, list) and 0 <= slot < len(declared):
        output_type = "COMBO" if isinstance(declared[slot], list) else declared[slot]
    else:
        output_type = saved[slot].get("type") if 0 <= slot < len(saved) else None
    fitting = [
        s for s in inputs if _types_match(s.get("type"), output_type) and _types_match(s.get("type"), target_type)
    ]
    if opposite in fitting:
        return opposite
    same = [socket for socket in inputs if socket.get("type") == target_type]
    return next(iter(same or fitting), None)


def _all_inputs(node: dict, specs: dict[str, tuple[str, dict]], definition: dict) -> list[dict]:
    """Link inputs before widgets, and last those that only the file has."""
    saved = {socket.get("name"): socket for socket in sockets(node, "inputs")}
    declared = {name: specs[name][0] for name in sorted(specs, key=lambda name: has_widget(*specs[name]))}
    declared = declared or {socket.get("name"): socket.get("type") for socket in sockets(definition, "inputs")}
    others = [socket for name, socket in saved.items() if name not in declared]
    return [{**saved.get(name, {}), "name": name, "type": kind} for name, kind in declared.items()] + others


def _is_any(kind: object) -> bool:
    return kind in ("*", "", 0, None)


def _types_match(first: object, second: object) -> bool:
    """Whether the editor would draw a link between sockets of these types."""
    if _is_any(first) or _is_any(second):
        return True
    one, other = ({part.strip() for part in str(kind).lower().split(",")} for kind in (first, second))
    return bool(one & other) or "*" in one | other
