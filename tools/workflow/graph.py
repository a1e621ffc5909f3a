"""Nodes and links of both formats: following them, finding loops among them, and naming them in messages."""

from __future__ import annotations

from dataclasses import dataclass

from .engine_interface import node_label, short

MAX_SHOWN = 20  # nodes of a loop in an error
MUTED, BYPASSED = 2, 4  # the editor's node modes that matter here; every other one runs
SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = -10, -20  # ids of the two ends inside a subgraph definition


def links_of(node: dict) -> list[tuple[str, tuple[str, int]]]:
    """The linked inputs of a prompt's node: [(input name, (source id, source slot)), ...]."""
    return [
        (name, (str(value[0]), value[1]))
        for name, value in (node.get("inputs") or {}).items()
        if isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    ]


def needed_nodes(prompt: dict, object_info: dict) -> set[str]:
    """The ids of the nodes that take part: the output nodes, and all that these draw on."""
    todo = [key for key, node in prompt.items() if schema_of(object_info, node).get("output_node")]
    needed: set[str] = set()
    while todo:
        node_id = todo.pop()
        if node_id not in needed and node_id in prompt:
            needed.add(node_id)
            todo += [source for _name, (source, _slot) in links_of(prompt[node_id])]
    return needed


def schema_of(object_info: dict, node: dict) -> dict:
    """What an engine's object_info says of the type of a prompt's node; empty for a type that it does not know."""
    return object_info.get(node.get("class_type")) or {}


def definitions_of(data: dict) -> dict[str, dict]:
    """The subgraphs that a file of the editor's defines, by the type that nodes have which stand for them."""
    holder = data.get("definitions")
    found = entries(holder, "subgraphs") if isinstance(holder, dict) else []
    return {sub["id"]: sub for sub in found if isinstance(sub, dict) and isinstance(sub.get("id"), str)}


@dataclass(frozen=True)
class Link:
    """A link of the editor's format, and in a message, with both its ends."""

    id: object
    source: object
    source_slot: object
    target: object
    target_slot: object
    type: object

    def __str__(self) -> str:
        slots = [slot if isinstance(slot, str) else short(slot) for slot in (self.source_slot, self.target_slot)]
        ends = f"node {self.source} output {slots[0]} -> node {self.target} input {slots[1]}"
        return f"link {self.id} ({ends})"


def read_link(entry: object) -> Link | None:
    """A link in the older form, a list of six, or in the newer one, an object; None when it is neither."""
    if isinstance(entry, list) and len(entry) >= 5:
        found = Link(*entry[:5], entry[5] if len(entry) > 5 else "*")
    elif isinstance(entry, dict) and {"id", "origin_id", "origin_slot", "target_id", "target_slot"} <= entry.keys():
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
        found = Link(*(entry[key] for key in keys), entry.get("type", "*"))
    else:
        return None
    # A leftover may have no ends.
    ends = all(isinstance(end, (int, str, type(None))) for end in (found.source, found.target))
    return found if ends and isinstance(found.id, (int, str)) else None


def in_use(link: Link, nodes: dict[str, dict]) -> bool:
    """Whether an input names the link. The editor ignores all others, but leaves some in its files."""
    if link.target == SUBGRAPH_OUTPUT and str(SUBGRAPH_OUTPUT) not in nodes:
        return True
    return any(socket.get("link") == link.id for socket in sockets(nodes.get(str(link.target)), "inputs"))


def sockets(node: dict | None, which: str) -> list[dict]:
    """The well-formed sockets of a node; `which` is "inputs" or "outputs"."""
    return [socket for socket in entries(node or {}, which) if isinstance(socket, dict)]


def input_name(node: dict, slot: object) -> str | None:
    """The name of the input at a slot, or None."""
    socket = entries(node, "inputs")[slot] if has_slot(node, "inputs", slot) else None
    name = socket.get("name") if isinstance(socket, dict) else None
    return name if isinstance(name, str) else None


def entries(holder: dict, key: str) -> list:
    """The list under a key, or an empty one where there is something else: files are edited by hand."""
    found = holder.get(key)
    return found if isinstance(found, list) else []


def has_slot(node: dict, which: str, slot: object) -> bool:
    """Whether `slot` numbers one of the node's sockets; `which` is "inputs" or "outputs"."""
    return isinstance(slot, int) and 0 <= slot < len(entries(node, which))


def loop_problems(edges: list[tuple[str, str]], place: str = "") -> list[str]:
    """A sentence about a loop in the graph, or nothing; `place` says which graph of the file it is."""
    loop = find_loop(edges)
    if not loop:
        return []
    shown = loop if len(loop) <= MAX_SHOWN else [*loop[: MAX_SHOWN // 2], "...", *loop[-MAX_SHOWN // 2 :]]
    return [f"the nodes {' -> '.join(shown)}{place} feed each other in a loop, so none of them can run first"]


def find_loop(edges: list[tuple[str, str]]) -> list[str]:
    """A loop in the graph as the ids along it, the first again at the end; empty when there is none."""
    onward: dict[str, list[str]] = {}
    for source, target in edges:
        onward.setdefault(source, []).append(target)
    done: set[str] = set()
    for start in onward:
        path, on_path = [], set()
        stack = [(start, False)]  # not recursive: graphs of thousands of nodes in a row exist
        while stack:
            node, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.discard(node)
                done.add(node)
            elif node in on_path:
                return [*path[path.index(node) :], node]
            elif node not in done:
                path.append(node)
                on_path.add(node)
                stack.append((node, True))
                stack.extend((after, False) for after in onward.get(node, []))
    return []


def editor_label(node: dict) -> str:
    """What messages call a node of the editor's format."""
    return node_label(node.get("id"), node.get("type", "unknown"), node.get("title"))


def prompt_label(node_id: str, node: dict, object_info: dict | None = None) -> str:
    """What messages call a node of a prompt; with `object_info`, without the title that every node of its type has."""
    kind, title = node.get("class_type", "unknown"), saved_title(node)
    shown = ((object_info or {}).get(kind) or {}).get("display_name")
    return node_label(node_id, kind, None if title == shown else title)


def saved_title(node: dict) -> str | None:
    """The title that a prompt's node was saved with, or None."""
    meta = node.get("_meta")
    return meta.get("title") if isinstance(meta, dict) else None
