"""Reduces the editor's graph to plain nodes and links, as the editor does when it queues.

Subgraphs, reroutes, primitives, Set and Get nodes, muted and bypassed nodes exist only in the editor. comfy-cli's
converter resolves them differently: it loses links from a SetNode's own output and values of primitives that feed a
subgraph, bypasses a node through an input of any type, and ignores ``proxyWidgets``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

from .engine_interface import BadWorkflow
from .graph import BYPASSED, MUTED, definitions_of, editor_label, entries
from .widgets import has_widget, input_specs, pair_values, saved_values, wrap

PRIMITIVE = "PrimitiveNode"
SETTERS = frozenset({"SetNode", "easy setNode"})
GETTERS = frozenset({"GetNode", "easy getNode"})
REROUTES = frozenset({"Reroute", "Reroute (rgthree)"})
EDITOR_ONLY_TYPES = frozenset({"Note", "MarkdownNote", PRIMITIVE}) | SETTERS | GETTERS | REROUTES
# Editor add-ons that pass no data to other nodes, although they may be linked to the nodes that they switch.
ADD_ONS = re.compile(r"(Bookmark|Label|Fast .*|Mute / Bypass .*|Node Collector|Random Unmuter) \(rgthree\)")

SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = -10, -20  # ids of a subgraph definition's inputs and outputs
MAX_DEPTH = 100  # of subgraphs in subgraphs
MAX_NODES = 100_000  # after unfolding: ten levels of ten subgraphs each would be 10^10


class Link(NamedTuple):
    """A link of the editor's format."""

    id: int | str
    source: object
    source_slot: object
    target: object


def read_links(graph: dict) -> list[Link]:
    """The well-formed links of a graph, in the older form, lists of six, or in the newer one, objects."""
    rows = []
    for entry in entries(graph, "links"):
        if isinstance(entry, dict):
            entry = [entry.get(key) for key in ("id", "origin_id", "origin_slot", "target_id")]
        if isinstance(entry, list) and len(entry) >= 4:
            rows.append(Link(*entry[:4]))
    # The ends of a leftover link may be None.
    ends = (int, str, type(None))
    return [row for row in rows if isinstance(row.id, (int, str)) and isinstance(row.source, ends)]


class FlatGraph:
    """The nodes of an editor's file, with those in subgraphs under ids such as ``10:3``, once per subgraph node."""

    def __init__(self, data: dict, object_info: dict) -> None:
        """Args: ``data``, checked by `check_structure`. Raises: `BadWorkflow` for too many nodes in subgraphs."""
        self._info, self._definitions = object_info, definitions_of(data)
        self.nodes: dict[str, dict] = {}
        self._values: dict[str, dict] = defaultdict(dict)  # from subgraph nodes, by node id and widget or input
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
            for key, node in nodes.items():
                # As in the editor, only top-level subgraphs can be off.
                if self.definition(node) and (":" in key or node.get("mode") not in (MUTED, BYPASSED)):
                    todo.append((f"{key}:", self.definition(node)))

    def definition(self, node: dict) -> dict:
        """The definition of a subgraph node; empty for other nodes."""
        return {} if node["type"] in self._info else self._definitions.get(node["type"], {})

    def place_of(self, node_id: str) -> str:
        """The end of a node's name in messages, if it is in a subgraph."""
        prefix = _prefix_of(node_id)
        return f' in subgraph "{self._graphs[prefix].get("name")}"' if prefix else ""

    def linked_nodes(self) -> set[str]:
        """The ids of the nodes at the ends of links. The editor leaves links in its files that no input names."""
        linked = set()
        for (prefix, name), link in self._links.items():
            target = f"{prefix}{link.target}"
            used = any(socket.get("link") == name for socket in entries(self.nodes.get(target), "inputs"))
            if used or link.target == SUBGRAPH_OUTPUT:
                linked |= {f"{prefix}{link.source}", target}
        return linked

    def prompt(self) -> dict:
        """The nodes that an engine runs, in the API format. Raises: `BadWorkflow` for links in a loop."""
        prompt = {}
        for node_id, node in self.nodes.items():
            schema = self._info.get(node["type"])
            if schema is not None and node.get("mode") not in (MUTED, BYPASSED):
                title = node.get("title", schema.get("display_name") or node["type"])
                inputs = self._inputs_of(node_id, schema)
                prompt[node_id] = {"inputs": inputs, "class_type": node["type"], "_meta": {"title": title}}
        return prompt

    def _inputs_of(self, node_id: str, schema: dict) -> dict:
        node, linked = self.nodes[node_id], {}
        values = saved_values(node, schema)
        for name, value in self._values[node_id].items():
            if _has_widget(schema, {"name": name}):
                values[name] = value
        for socket in entries(node, "inputs"):
            source, value = self._find_source(node_id, socket)
            if source:
                linked[socket.get("name")] = list(source)
            elif value:
                values[socket.get("name")] = value[0]
        return {name: wrap(value) for name, value in values.items()} | linked

    def _read_values(self, prefix: str) -> None:
        """Read a subgraph node's values for its inner widgets. Those of an outer subgraph node are read before."""
        instance_id = prefix[:-1]
        instance = self.nodes.get(instance_id, {})
        saved = entries(instance, "widgets_values")
        promoted = [socket for socket in entries(instance, "inputs") if socket.get("widget")]
        specs = {}
        for socket, following in zip(promoted, [*(each.get("type") for each in promoted[1:]), None]):
            # Some files store the word after a seed, which only the inner node has, where no other widget can hold it.
            control = socket.get("type") == "INT" and following in ("INT", "FLOAT", "BOOLEAN", None)
            specs[socket.get("name")] = socket.get("type"), {"socketless": True, "control_after_generate": control}
        self._values[instance_id] = pair_values(specs, list(saved)) | self._values[instance_id]
        # Older editors list the inner widgets, in the order of the values.
        for entry, value in zip(entries(instance.get("properties"), "proxyWidgets"), saved):
            if isinstance(entry, list) and len(entry) >= 2 and all(isinstance(part, str) for part in entry):
                key, widget = entry[:2]
                place, name = (instance_id, widget) if key == "-1" else self._widget_place(f"{prefix}{key}", widget)
                self._values[place][name] = self._values[instance_id].get(widget, value)

    def _widget_place(self, node_id: str, widget: str) -> tuple[str, str]:
        """Where the value of an inner widget belongs: to the subgraph's input that it is linked to, or to itself."""
        prefix = _prefix_of(node_id)
        for socket in entries(self.nodes.get(node_id), "inputs"):
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
        declared = entries(self._graphs[prefix], "inputs")
        inside = declared[slot] if isinstance(slot, int) and 0 <= slot < len(declared) else {}
        name, kind = inside.get("name"), inside.get("type")
        same = (socket for socket in entries(self.nodes[prefix[:-1]], "inputs") if socket.get("name") == name)
        return {**next(same, {}), "name": name, "type": kind}

    def _output_link(self, prefix: str, slot: int) -> Link | None:
        """The link inside a subgraph that ends at its output ``slot``."""
        outputs = entries(self._graphs[prefix], "outputs")
        names = entries(outputs[slot], "linkIds") if 0 <= slot < len(outputs) else []
        links = (self._link(prefix, {"link": name}) for name in names)
        return next((link for link in links if link and link.target == SUBGRAPH_OUTPUT), None)

    def _find_source(self, node_id: str, socket: dict) -> tuple[tuple[str, int] | None, list | None]:
        """Find what feeds a node's input: an output of another node, as (id, slot), or a value, as a list of one."""
        node, prefix = self.nodes[node_id], _prefix_of(node_id)
        schema = self._info[node["type"]]
        link, kind = self._link(prefix, socket), input_specs(schema).get(socket.get("name"), (socket.get("type"),))[0]
        value, visited, is_direct, has_crossed = None, set(), True, False
        while link is not None:
            if (prefix, link.id) in visited:
                raise BadWorkflow([f"{editor_label(node)}: its input {socket.get('name')} is linked in a loop"])
            visited.add((prefix, link.id))
            if link.source == SUBGRAPH_INPUT and prefix:
                outer = self._outer_socket(prefix, link.source_slot)
                if outer["name"] in self._values[prefix[:-1]]:
                    value = [self._values[prefix[:-1]][outer["name"]]]
                prefix, kind, has_crossed = _prefix_of(prefix[:-1]), outer["type"], True
                link = self._link(prefix, outer)
                if link is None:
                    return None, value
                continue
            source_id, slot = f"{prefix}{link.source}", link.source_slot
            source = self.nodes[source_id]
            if source["type"] == PRIMITIVE:
                # As in editors before 1.49; later ones lose the value of a primitive that feeds a subgraph.
                reaches = _has_widget(schema, socket) and (is_direct or has_crossed)
                outer_values = self._values[source_id]
                own = [outer_values["value"]] if "value" in outer_values else entries(source, "widgets_values")[:1]
                return None, own if reaches else None
            is_direct = False
            if source.get("mode") == MUTED:
                return None, None
            if source.get("mode") == BYPASSED:
                socket_inside = self._bypass_input(source, slot, kind)
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
        if node["type"] in GETTERS:  # its SetNode is in this graph or in one around it
            name, graphs = entries(node, "widgets_values")[:1], [prefix]
            while graphs[-1]:
                graphs.append(_prefix_of(graphs[-1][:-1]))
            for graph in graphs if name and name[0] else ():
                for each in entries(self._graphs[graph], "nodes"):
                    if each["type"] in SETTERS and entries(each, "widgets_values")[:1] == name:
                        return graph, self._link(graph, next(iter(entries(each, "inputs")), None))
        elif node["type"] in SETTERS | REROUTES:
            return prefix, self._link(prefix, next(iter(entries(node, "inputs")), None))
        return prefix, None

    def _bypass_input(self, node: dict, slot: int, target_type: object) -> dict | None:
        """The input of a bypassed node that takes the place of its output `slot` for an input of `target_type`.

        Like the editor, this looks at the node's definition: link inputs before widgets, last those only in the file.
        """
        schema = self._info.get(node["type"]) or {}
        specs, saved = input_specs(schema), {socket.get("name"): socket for socket in entries(node, "inputs")}
        declared = {name: specs[name][0] for name in sorted(specs, key=lambda name: has_widget(*specs[name]))}
        if not declared:
            declared = {each.get("name"): each.get("type") for each in entries(self.definition(node), "inputs")}
        inputs = [{**saved.get(name, {}), "name": name, "type": kind} for name, kind in declared.items()]
        inputs += [socket for name, socket in saved.items() if name not in declared]
        opposite = inputs[slot] if 0 <= slot < len(inputs) else None
        if _is_any(target_type):
            return opposite or next(iter(inputs), None)
        outputs = schema.get("output") or [socket.get("type") for socket in entries(node, "outputs")]
        output_type = outputs[slot] if 0 <= slot < len(outputs) else None
        if isinstance(output_type, list):
            output_type = "COMBO"
        fitting = [each for each in inputs if _match(each.get("type"), output_type)]
        fitting = [each for each in fitting if _match(each.get("type"), target_type)]
        if opposite in fitting:
            return opposite
        same = [socket for socket in inputs if socket.get("type") == target_type]
        return next(iter(same or fitting), None)


def _has_widget(schema: dict, socket: dict) -> bool:
    """Whether an input also has a widget."""
    specs, name = input_specs(schema), socket.get("name")
    return has_widget(*specs[name]) if name in specs else bool(socket.get("widget"))


def _prefix_of(node_id: str) -> str:
    """The prefix of the graph that a node is in."""
    return "".join(node_id.rpartition(":")[:2])


def _is_any(kind: object) -> bool:
    return kind in ("*", "", 0, None)


def _match(first: object, second: object) -> bool:
    """Whether the editor would draw a link between sockets of these types."""
    if _is_any(first) or _is_any(second):
        return True
    one, other = ({part.strip() for part in str(kind).lower().split(",")} for kind in (first, second))
    return bool(one & other) or "*" in one | other
