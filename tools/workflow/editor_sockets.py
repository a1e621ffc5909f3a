"""A node's inputs and outputs after the editor opens a file: from the node's definition, not from the file."""

from __future__ import annotations

from .graph import entries, sockets
from .widgets import has_widget, input_specs


class EditorSockets:
    """The sockets of a file's nodes."""

    def __init__(self, object_info: dict, definitions: dict[str, dict]) -> None:
        """Args: the engine's object_info, and the file's subgraphs from `definitions_of`."""
        self._info, self._definitions = object_info, definitions

    def is_widget(self, node: dict, socket: dict) -> bool:
        """Whether an input also has a widget."""
        specs, name = self._specs(node), socket.get("name")
        return has_widget(*specs[name]) if name in specs else bool(socket.get("widget"))

    def input_type(self, node: dict, socket: dict) -> object:
        """The type that an input takes."""
        specs, name = self._specs(node), socket.get("name")
        return specs[name][0] if name in specs else socket.get("type")

    def bypass_input(self, node: dict, slot: int, target_type: object) -> dict | None:
        """The input of a bypassed node that takes the place of its output `slot` for an input of type `target_type`."""
        inputs = self._inputs(node)
        opposite = inputs[slot] if 0 <= slot < len(inputs) else None
        if _is_any(target_type):
            return opposite or (inputs[0] if inputs else None)
        output_type = self._output_type(node, slot)

        def fits(socket: dict) -> bool:
            return _types_match(socket.get("type"), output_type) and _types_match(socket.get("type"), target_type)

        if opposite and fits(opposite):
            return opposite
        same = [socket for socket in inputs if socket.get("type") == target_type]
        return next(iter(same or filter(fits, inputs)), None)

    def _specs(self, node: dict) -> dict[str, tuple[str, dict]]:
        return input_specs(self._info.get(node["type"]) or {})

    def _inputs(self, node: dict) -> list[dict]:
        """Link inputs before widgets, and last those that only the file has."""
        saved_sockets = {socket.get("name"): socket for socket in sockets(node, "inputs")}
        specs = self._specs(node)
        declared = [(name, specs[name][0]) for name in sorted(specs, key=lambda name: has_widget(*specs[name]))]
        if node["type"] in self._definitions and not declared:
            inside = sockets(self._definitions[node["type"]], "inputs")
            declared = [(socket.get("name"), socket.get("type")) for socket in inside]
        known = {name for name, _ in declared}
        others = [socket for name, socket in saved_sockets.items() if name not in known]
        return [{**saved_sockets.get(name, {}), "name": name, "type": kind} for name, kind in declared] + others

    def _output_type(self, node: dict, slot: int) -> object:
        declared = (self._info.get(node["type"]) or {}).get("output")
        if isinstance(declared, list) and 0 <= slot < len(declared):
            return "COMBO" if isinstance(declared[slot], list) else declared[slot]
        outputs = entries(node, "outputs")
        return outputs[slot].get("type") if 0 <= slot < len(outputs) and isinstance(outputs[slot], dict) else None


def _is_any(kind: object) -> bool:
    return kind in ("*", "", 0, None)


def _types_match(first: object, second: object) -> bool:
    """Whether the editor would draw a link between sockets of these types."""
    if _is_any(first) or _is_any(second):
        return True
    one, other = ({part.strip() for part in str(kind).lower().split(",")} for kind in (first, second))
    return bool(one & other) or "*" in one | other
