"""Reduces the editor's graph to plain nodes and links, as the editor does when it queues.

Subgraphs, reroutes, primitives, Set and Get nodes, muted and bypassed nodes exist only in the editor. comfy-cli 1.23
resolves them differently: it loses links from a SetNode's own output and values of primitives that feed a subgraph,
bypasses a node through an input of any type, and ignores ``proxyWidgets``. So all are resolved before it runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from .editor_sockets import bypass_input, input_type, socket_has_widget
from .engine_interface import BadWorkflow
from .graph import (
    BYPASSED,
    MUTED,
    SUBGRAPH_INPUT,
    SUBGRAPH_OUTPUT,
    Link,
    definitions_of,
    editor_label,
    entries,
    read_links,
    sockets,
)

PRIMITIVE = "PrimitiveNode"
SETTERS = frozenset({"SetNode", "easy setNode"})
GETTERS = frozenset({"GetNode", "easy getNode"})
REROUTES = frozenset({"Reroute", "Reroute (rgthree)"})
# Editor add-ons that pass no data to other nodes, although they may be linked to the nodes that they switch.
ADD_ONS = frozenset(
    f"{name} (rgthree)"
    for name in (
        "Bookmark", "Label", "Fast Muter", "Fast Bypasser", "Fast Groups Muter", "Fast Groups Bypasser",
        "Mute / Bypass Relay", "Mute / Bypass Repeater", "Node Collector", "Random Unmuter", "Fast Actions Button",
    )
)  # fmt: skip
EDITOR_ONLY_TYPES = frozenset({"Note", "MarkdownNote", PRIMITIVE}) | SETTERS | GETTERS | REROUTES

MAX_DEPTH = 100  # of subgraphs in subgraphs
MAX_NODES = 100_000  # after unfolding: ten levels of ten subgraphs each would be 10^10
_CONTROL_WORDS = ("fixed", "increment", "decrement", "randomize")


class FlatGraph:
    """The nodes of an editor's file, with those in subgraphs under ids such as ``10:3``, once for each subgraph node.

    Attributes:
        nodes: All nodes, by id.
        values: Values that a node has from a subgraph node around it, by (id, widget or input).
    """

    def __init__(self, data: dict, object_info: dict) -> None:
        """Args: ``data``, checked by `check_structure`; ``object_info`` of the engine.

        Raises: `BadWorkflow` for subgraphs that unfold to too many nodes.
        """
        self._info, self._definitions = object_info, definitions_of(data)
        self.nodes: dict[str, dict] = {}
        self.values: dict[tuple[str, str], object] = {}
        self._graphs: dict[str, dict] = {}  # by prefix: "" or an id with a colon
        self._links: dict[tuple[str, int | str], Link] = {}
        todo = [("", data)]
        while todo:
            prefix, graph = todo.pop()
            self._graphs[prefix] = graph
            self._links |= {(prefix, link.id): link for link in read_links(graph)}
            nodes = {f"{prefix}{node['id']}": node for node in entries(graph, "nodes")}
            self.nodes |= nodes
            if prefix.count(":") > MAX_DEPTH or len(self.nodes) > MAX_NODES:
                limits = f"to more than {MAX_NODES} nodes, or are nested more than {MAX_DEPTH} deep"
                raise BadWorkflow([f"its subgraphs unfold {limits}"])
            self._read_values(prefix)
            todo += [(f"{key}:", self.definition(node)) for key, node in nodes.items() if self._is_unfolded(key)]

    def definition(self, node: dict) -> dict:
        """The definition of a subgraph node; empty for other nodes."""
        return {} if node["type"] in self._info else self._definitions.get(node["type"], {})

    def runs(self, node: dict) -> bool:
        """Whether an engine runs the node."""
        return node["type"] in self._info and node.get("mode") not in (MUTED, BYPASSED)

    def place_of(self, node_id: str) -> str:
        """The end of a node's name in messages, if it is in a subgraph."""
        prefix = _prefix_of(node_id)
        return f' in subgraph "{self._graphs[prefix].get("name")}"' if prefix else ""

    def linked_nodes(self) -> set[str]:
        """The ids of the nodes at the ends of links. The editor leaves links in its files that no input names."""
        linked = set()
        for (prefix, name), link in self._links.items():
            target = f"{prefix}{link.target}"
            used = any(socket.get("link") == name for socket in sockets(self.nodes.get(target), "inputs"))
            if used or link.target == SUBGRAPH_OUTPUT:
                linked |= {f"{prefix}{link.source}", target}
        return linked

    def resolve(self) -> tuple[dict, dict[tuple[str, str], object]]:
        """Reduce the graph to the nodes that run and the links between these.

        Returns: the nodes and links; and the widget values that come from primitives and subgraph nodes instead of the
        node itself, as ``{(node id, widget): value}``.
        Raises: `BadWorkflow` for links in a loop.
        """
        nodes, links, values = [], [], {}
        for (node_id, name), value in self.values.items():
            node = self.nodes.get(node_id)
            if node and self.runs(node) and socket_has_widget(node, {"name": name}, self._info):
                values[node_id, name] = value
        for node_id, node in self.nodes.items():
            if not self.runs(node):
                continue
            inputs = []
            for slot, socket in enumerate(sockets(node, "inputs")):
                source, value = self._find_source(node_id, socket)
                if source:
                    links.append([len(links) + 1, *source, node_id, slot, socket.get("type", "*")])
                elif value:
                    values[node_id, socket.get("name")] = value[0]
                inputs.append({**socket, "link": len(links) if source else None})
            nodes.append({**node, "id": node_id, "inputs": inputs})
        return {"nodes": nodes, "links": links}, values

    def _is_unfolded(self, node_id: str) -> bool:
        """Whether a node is a subgraph whose nodes count. As in the editor, only top-level ones can be off."""
        node = self.nodes[node_id]
        return bool(self.definition(node)) and (":" in node_id or node.get("mode") not in (MUTED, BYPASSED))

    def _read_values(self, prefix: str) -> None:
        """Read a subgraph node's values for its inner widgets. Those of an outer subgraph node are read before."""
        instance_id = prefix[:-1]
        instance = self.nodes.get(instance_id, {})
        saved = entries(instance, "widgets_values")
        promoted = [socket for socket in sockets(instance, "inputs") if socket.get("widget")]
        for socket, value in zip(promoted, _remove_control_words(saved, promoted)):
            self.values.setdefault((instance_id, socket.get("name")), value)
        # Older editors list the inner widgets, in the order of the values.
        for entry, value in zip(entries(instance.get("properties"), "proxyWidgets"), saved):
            if isinstance(entry, list) and len(entry) >= 2 and all(isinstance(part, str) for part in entry):
                key, widget = entry[:2]
                inner = (instance_id, widget) if key == "-1" else self._widget_place(f"{prefix}{key}", widget)
                self.values[inner] = self.values.get((instance_id, widget), value)

    def _widget_place(self, node_id: str, widget: str) -> tuple[str, str]:
        """Where the value of an inner widget belongs: to the subgraph's input that it is linked to, or to itself."""
        prefix = _prefix_of(node_id)
        for socket in sockets(self.nodes.get(node_id), "inputs"):
            link = self._link(prefix, socket) if socket.get("name") == widget else None
            if link and link.source == SUBGRAPH_INPUT:
                return prefix[:-1], self._outer_socket(prefix, link.source_slot)["name"]
        return node_id, widget

    def _link(self, prefix: str, socket: dict | None) -> Link | None:
        """The link that an input names. Links that appear only elsewhere in a file are leftovers."""
        name = (socket or {}).get("link")
        return self._links.get((prefix, name)) if isinstance(name, (int, str)) else None

    def _outer_socket(self, prefix: str, slot: object) -> dict:
        """The subgraph node's socket for input ``slot`` of its definition."""
        declared = sockets(self._graphs[prefix], "inputs")
        inside = declared[slot] if isinstance(slot, int) and 0 <= slot < len(declared) else {}
        name, kind = inside.get("name"), inside.get("type")
        same = (socket for socket in sockets(self.nodes[prefix[:-1]], "inputs") if socket.get("name") == name)
        return {**next(same, {}), "name": name, "type": kind}

    def _output_link(self, prefix: str, slot: int) -> Link | None:
        """The link inside a subgraph that ends at its output ``slot``."""
        outputs = entries(self._graphs[prefix], "outputs")
        for name in entries(outputs[slot], "linkIds") if 0 <= slot < len(outputs) else ():
            link = self._link(prefix, {"link": name})
            if link and link.target == SUBGRAPH_OUTPUT:
                return link
        return None

    def _find_source(self, node_id: str, socket: dict) -> tuple[tuple[str, int] | None, list | None]:
        """Find what feeds a node's input: an output of another node, as (id, slot), or a value, as a list of one."""
        node, prefix = self.nodes[node_id], _prefix_of(node_id)
        link, kind = self._link(prefix, socket), input_type(node, socket, self._info)
        value, visited, is_direct, has_crossed = None, set(), True, False
        while link is not None:
            if (prefix, link.id) in visited:
                raise BadWorkflow([f"{editor_label(node)}: its input {socket.get('name')} is linked in a loop"])
            visited.add((prefix, link.id))
            if link.source == SUBGRAPH_INPUT:
                if not prefix:
                    return None, None
                outer = self._outer_socket(prefix, link.source_slot)
                if (prefix[:-1], outer["name"]) in self.values:
                    value = [self.values[prefix[:-1], outer["name"]]]
                prefix, kind, has_crossed = _prefix_of(prefix[:-1]), outer["type"], True
                link = self._link(prefix, outer)
                if link is None:
                    return None, value
                continue
            source_id, slot = f"{prefix}{link.source}", link.source_slot
            source = self.nodes.get(source_id)
            if (
                source is None
                or not isinstance(slot, int)
                or (source.get("mode") == MUTED and not _is_primitive(source))
            ):
                return None, None
            if _is_primitive(source):
                # As in editors before 1.49; later ones lose the value of a primitive that feeds a subgraph.
                reaches = socket_has_widget(node, socket, self._info) and (is_direct or has_crossed)
                saved = entries(source, "widgets_values")
                own = [self.values[source_id, "value"]] if (source_id, "value") in self.values else saved[:1]
                return None, own if reaches and own else None
            is_direct = False
            if source.get("mode") == BYPASSED:
                socket_inside = bypass_input(source, slot, kind, self._info, self.definition(source))
                link, kind = self._link(prefix, socket_inside), (socket_inside or {}).get("type")
            elif source["type"] in self._info:
                return (source_id, slot), None
            elif f"{source_id}:" in self._graphs:
                prefix = f"{source_id}:"
                link = self._output_link(prefix, slot)
            else:
                prefix, link = self._follow(prefix, source)
        return None, None

    def _follow(self, prefix: str, node: dict) -> tuple[str, Link | None]:
        """Follow a reroute, a SetNode or a GetNode to the link that feeds it."""
        if node["type"] in GETTERS:
            prefix, node = next(self._find_setters(prefix, entries(node, "widgets_values")[:1]), (prefix, {}))
        elif node["type"] not in SETTERS | REROUTES:
            return prefix, None
        return prefix, self._link(prefix, next(iter(sockets(node, "inputs")), None))

    def _find_setters(self, prefix: str, name: list) -> Iterator[tuple[str, dict]]:
        """The SetNodes of that name, in this graph and then in the ones around it."""
        while name and name[0]:
            for node in entries(self._graphs[prefix], "nodes"):
                if node["type"] in SETTERS and entries(node, "widgets_values")[:1] == name:
                    yield prefix, node
            if not prefix:
                return
            prefix = _prefix_of(prefix[:-1])


def _is_primitive(node: dict) -> bool:
    return node["type"] == PRIMITIVE


def _prefix_of(node_id: str) -> str:
    """The prefix of the graph that a node is in."""
    return "".join(node_id.rpartition(":")[:2])


def _remove_control_words(values: list, promoted: list[dict]) -> list:
    """Drop the control words that some files store after a seed in a subgraph node: only the inner node has them."""
    kinds = [socket.get("type") for socket in promoted]
    result: list = []
    for value in values:
        before, kind = ([None, *kinds] + [None] * len(values))[len(result) :][:2]
        if not (value in _CONTROL_WORDS and before == "INT" and kind in ("INT", "FLOAT", "BOOLEAN", None)):
            result.append(value)
    return result
