"""Turn the editor's graph into plain nodes and links, as the editor does when it queues.

Subgraphs, reroutes, primitives, Set and Get nodes, muted and bypassed nodes exist only in the editor. comfy-cli 1.23
resolves them differently: it loses links from a SetNode's own output and values of primitives that feed a subgraph,
bypasses a node through an input of any type, and ignores ``proxyWidgets``. So all are resolved before it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .editor_sockets import EditorSockets
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
    read_link,
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
EDITOR_ONLY_TYPES = frozenset({"Note", "MarkdownNote", PRIMITIVE}) | SETTERS | GETTERS | REROUTES | ADD_ONS

MAX_DEPTH = 100  # of subgraphs in subgraphs
MAX_NODES = 100_000  # after unfolding: ten levels of ten subgraphs each would be 10^10
_CONTROL_WORDS = ("fixed", "increment", "decrement", "randomize")


@dataclass(frozen=True)
class _Output:
    node: str
    slot: int


@dataclass(frozen=True)
class _Value:
    value: object


@dataclass
class _Scope:
    """The root graph, or the graph of one subgraph node: a definition has as many scopes as nodes that use it."""

    graph: dict
    outer: _Scope | None = None
    instance: dict | None = None
    host: dict[str, object] = field(default_factory=dict)  # values that the subgraph node has for its inputs
    proxied: dict[tuple[str, str], object] = field(default_factory=dict)  # the same for inner widgets, in older files

    def __post_init__(self) -> None:
        self.prefix: str = f"{self.outer.prefix}{self.instance['id']}:" if self.outer else ""
        self.nodes = {str(node["id"]): node for node in entries(self.graph, "nodes")}
        self.links = {link.id: link for link in map(read_link, entries(self.graph, "links")) if link}
        self.inner: dict[str, _Scope] = {}

    def link_of(self, socket: dict | None) -> Link | None:
        """The link that an input names. Links that appear only elsewhere in a file are leftovers."""
        name = (socket or {}).get("link")
        return self.links.get(name) if isinstance(name, (int, str)) else None

    def output_link(self, slot: int) -> Link | None:
        """The link inside a subgraph that ends at its output ``slot``."""
        outputs = entries(self.graph, "outputs")
        for name in entries(outputs[slot], "linkIds") if 0 <= slot < len(outputs) else ():
            link = self.links.get(name) if isinstance(name, (int, str)) else None
            if link and link.target == SUBGRAPH_OUTPUT:
                return link
        return None


def flatten(data: dict, object_info: dict) -> tuple[dict, dict[tuple[str, str], object]]:
    """Turn an editor's file into one with only the nodes that an engine runs, and links between these.

    Args: ``data``, checked by `check_structure`, whose active nodes are all known; ``object_info`` of the engine.
    Returns: the nodes and links, nodes in subgraphs with ids such as ``10:3``; and the widget values that come from
    primitives and subgraph nodes instead of the node itself, as ``{(node id, widget): value}``.
    Raises: `BadWorkflow` for links in a loop, and for subgraphs that unfold to too many nodes.
    """
    return _Flattener(data, object_info).run()


class _Flattener:
    def __init__(self, data: dict, object_info: dict) -> None:
        self._info = object_info
        self._definitions = definitions_of(data)
        self._sockets = EditorSockets(object_info, self._definitions)
        self._promoted_names: dict[str, list[tuple[str, str]]] = {}
        self._scopes = list(self._unfold(_Scope(data)))

    def run(self) -> tuple[dict, dict[tuple[str, str], object]]:
        nodes: list[dict] = []
        links: list[list] = []
        values: dict[tuple[str, str], object] = {}
        for scope in self._scopes:
            for key, node in scope.nodes.items():
                if node["type"] not in self._info or node.get("mode") in (MUTED, BYPASSED):
                    continue
                name = scope.prefix + key
                for (at, widget), value in scope.proxied.items():
                    if at == key and self._sockets.is_widget(node, {"name": widget}):
                        values[name, widget] = value
                inputs = []
                for slot, socket in enumerate(sockets(node, "inputs")):
                    source = self._source(scope, node, socket)
                    if isinstance(source, _Output):
                        links.append([len(links) + 1, source.node, source.slot, name, slot, socket.get("type", "*")])
                    elif isinstance(source, _Value):
                        values[name, socket.get("name")] = source.value
                    inputs.append({**socket, "link": len(links) if isinstance(source, _Output) else None})
                nodes.append({**node, "id": name, "inputs": inputs})
        return {"nodes": nodes, "links": links}, values

    # -- unfolding subgraphs -----------------------------------------------------------------------------------

    def _unfold(self, root: _Scope) -> Iterator[_Scope]:
        todo, count = [(root, 0)], 0
        while todo:
            scope, depth = todo.pop()
            yield scope
            count += len(scope.nodes)
            if depth > MAX_DEPTH or count > MAX_NODES:
                raise BadWorkflow(
                    [f"its subgraphs unfold to more than {MAX_NODES} nodes, or are nested more than {MAX_DEPTH} deep"]
                )
            for key, node in scope.nodes.items():
                definition = self._definitions.get(node["type"])
                # As in the editor, only top-level subgraphs can be off.
                off = node.get("mode") in (MUTED, BYPASSED) and scope.outer is None
                if definition and node["type"] not in self._info and not off:
                    inner = _Scope(definition, scope, node)
                    self._read_values(inner)
                    scope.inner[key] = inner
                    todo.append((inner, depth + 1))
            for (key, widget), value in scope.proxied.items():
                if key in scope.inner:
                    _pass_on(scope.inner[key], widget, value)

    def _read_values(self, scope: _Scope) -> None:
        """Read a subgraph node's values for its inner widgets."""
        instance = scope.instance
        promoted = self._promoted(scope.graph)
        values = _remove_control_words(entries(instance, "widgets_values"), [kind for _, kind in promoted])
        scope.host = {name: value for (name, _), value in zip(promoted, values)}
        properties = instance.get("properties")
        proxies = entries(properties if isinstance(properties, dict) else {}, "proxyWidgets")
        for entry, value in zip(proxies, entries(instance, "widgets_values")):
            if not (isinstance(entry, list) and len(entry) >= 2 and all(isinstance(part, str) for part in entry)):
                continue
            key, widget = entry[:2]
            names = [name for name, _ in promoted if key == "-1" and name == widget] or self._inputs_of(scope, entry)
            if names:
                scope.host[names[0]] = value
            elif key in scope.nodes:
                scope.proxied[key, widget] = value

    def _inputs_of(self, scope: _Scope, entry: list) -> list[str]:
        """The subgraph inputs that are linked to the inner widget that a proxyWidgets entry names."""
        node = scope.nodes.get(entry[0])
        linked = [scope.link_of(s) for s in sockets(node, "inputs") if s.get("name") == entry[1]]
        slots = [link.source_slot for link in linked if link and link.source == SUBGRAPH_INPUT]
        inputs = sockets(scope.graph, "inputs")
        return [inputs[s]["name"] for s in slots if isinstance(s, int) and 0 <= s < len(inputs) and "name" in inputs[s]]

    def _promoted(self, definition: dict, depth: int = 0) -> list[tuple[str, str]]:
        """The names and types of a subgraph's inputs that end at a widget, in the order of the instance's values."""
        key = definition["id"]
        if key not in self._promoted_names and depth <= MAX_DEPTH:
            scope = _Scope(definition)
            self._promoted_names[key] = [
                (socket["name"], socket.get("type"))
                for socket in sockets(definition, "inputs")
                if isinstance(socket.get("name"), str)
                and any(self._ends_at_widget(scope, name, depth) for name in entries(socket, "linkIds"))
            ]
        return self._promoted_names.get(key, [])

    def _ends_at_widget(self, scope: _Scope, link_name: object, depth: int) -> bool:
        link = scope.links.get(link_name) if isinstance(link_name, (int, str)) else None
        target = scope.nodes.get(str(link.target)) if link else None
        for socket in sockets(target, "inputs"):
            if socket.get("link") == link.id:
                nested = self._definitions.get(target["type"])
                if nested and target["type"] not in self._info:
                    return socket.get("name") in dict(self._promoted(nested, depth + 1))
                return self._sockets.is_widget(target, socket)
        return False

    # -- following links ---------------------------------------------------------------------------------------

    def _source(self, scope: _Scope, node: dict, socket: dict) -> _Output | _Value | None:
        """Find what feeds a node's input: an output of another node, a value, or nothing."""
        link, target_type = scope.link_of(socket), self._sockets.input_type(node, socket)
        is_widget = link is not None and self._sockets.is_widget(node, socket)
        direct, entered, host, visited = True, False, None, set()
        while link is not None:
            if (scope.prefix, link.id) in visited:
                raise BadWorkflow([f"{editor_label(node)}: its input {socket.get('name')} is linked in a loop"])
            visited.add((scope.prefix, link.id))
            if link.source == SUBGRAPH_INPUT:
                if scope.outer is None:
                    return None
                entered, outside = True, self._outside(scope, link.source_slot)
                host = _Value(scope.host[outside["name"]]) if outside["name"] in scope.host else host
                scope, target_type = scope.outer, outside.get("type")
                link = scope.link_of(outside)
                if link is None:
                    return host
                continue
            source, slot = scope.nodes.get(str(link.source)), link.source_slot
            if source is None or not isinstance(slot, int):
                return None
            if source["type"] == PRIMITIVE:
                # As in editors before 1.49; later ones lose the value of a primitive that feeds a subgraph.
                return self._primitive(scope, source) if is_widget and (direct or entered) else None
            direct = False
            if source.get("mode") == MUTED:
                return None
            if source.get("mode") == BYPASSED:
                bypass = self._sockets.bypass_input(source, slot, target_type)
                link, target_type = scope.link_of(bypass), (bypass or {}).get("type")
            elif str(source["id"]) in scope.inner:
                scope = scope.inner[str(source["id"])]
                link = scope.output_link(slot)
            elif source["type"] in self._info:
                return _Output(scope.prefix + str(source["id"]), slot)
            else:
                scope, link = _follow(scope, source)
        return None

    def _outside(self, scope: _Scope, slot: object) -> dict:
        """The subgraph node's socket for input ``slot`` of its definition."""
        declared = entries(scope.graph, "inputs")
        inside = declared[slot] if isinstance(slot, int) and 0 <= slot < len(declared) else {}
        name, kind = inside.get("name"), inside.get("type")
        same = (socket for socket in sockets(scope.instance, "inputs") if socket.get("name") == name)
        return {**next(same, {}), "name": name, "type": kind}

    def _primitive(self, scope: _Scope, node: dict) -> _Value | None:
        values = entries(node, "widgets_values")
        proxied = scope.proxied.get((str(node["id"]), "value"))
        if proxied is not None:
            return _Value(proxied)
        return _Value(values[0]) if values else None


def _follow(scope: _Scope, node: dict) -> tuple[_Scope, Link | None]:
    """Follow a reroute, a SetNode or a GetNode to the link that feeds it."""
    if node["type"] in GETTERS:
        name = next(iter(entries(node, "widgets_values")), None)
        setter = _find_setter(scope, name)
        if setter is None:
            return scope, None
        scope, node = setter
    elif node["type"] not in SETTERS | REROUTES:
        return scope, None
    return scope, scope.link_of(next(iter(sockets(node, "inputs")), None))


def _find_setter(scope: _Scope | None, name: object) -> tuple[_Scope, dict] | None:
    """The SetNode of that name, in this graph or the ones around it."""
    while scope is not None and isinstance(name, str) and name:
        for node in scope.nodes.values():
            if node["type"] in SETTERS and entries(node, "widgets_values")[:1] == [name]:
                return scope, node
        scope = scope.outer
    return None


def _pass_on(scope: _Scope, widget: str, value: object) -> None:
    """Pass the value of an outer subgraph node's widget on to the inner subgraph node."""
    inner = [key for key in scope.proxied if key[1] == widget]
    if inner and widget not in scope.host:
        scope.proxied[inner[0]] = value
    else:
        scope.host[widget] = value


def _remove_control_words(values: list, kinds: list) -> list:
    """Drop the control words that some files store after a seed in a subgraph node: only the inner node has them."""
    result: list = []
    for value in values:
        kind = kinds[len(result)] if len(result) < len(kinds) else None
        is_after_seed = 0 < len(result) <= len(kinds) and kinds[len(result) - 1] == "INT"
        if not (value in _CONTROL_WORDS and is_after_seed and kind in ("INT", "FLOAT", "BOOLEAN", None)):
            result.append(value)
    return result
