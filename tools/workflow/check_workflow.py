"""Checks that need no engine: do the nodes and links of a file fit together, and do they form no loop."""

from __future__ import annotations

from .engine_interface import BadWorkflow, short
from .graph import (
    MUTED,
    SUBGRAPH_INPUT,
    SUBGRAPH_OUTPUT,
    Link,
    definitions_of,
    editor_label,
    entries,
    find_loop,
    has_slot,
    in_use,
    links_of,
    loop_problems,
    prompt_label,
    read_link,
    sockets,
)
from .read_workflow import Workflow


def check_structure(workflow: Workflow) -> None:
    """Check that the nodes and links of a file fit together. Raises: `BadWorkflow` naming every fault."""
    problems = _editor_problems(workflow.data) if workflow.is_editor else prompt_problems(workflow.data)
    if problems:
        raise BadWorkflow(problems)


def prompt_problems(prompt: dict) -> list[str]:
    problems = []
    for node_id, node in prompt.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            problems.append(f"node {node_id} has no class_type")
        elif not isinstance(node.get("inputs", {}), dict):
            problems.append(f"{prompt_label(node_id, node)}: inputs is not an object")
    if problems:
        return problems
    edges = []
    for node_id, node in prompt.items():
        proper = dict(links_of(node))
        for name, value in (node.get("inputs") or {}).items():
            # A bare list is a link to ComfyUI, whatever it holds; an id written as a number is put right later.
            if isinstance(value, list) and name not in proper and not _has_number_for_id(value, prompt):
                problems.append(
                    f"{prompt_label(node_id, node)}: input {name} holds {short(value)}, which is not a link: "
                    '["node id", output number]'
                )
        for name, (source, _slot) in links_of(node):
            edges.append((source, node_id))
            if source not in prompt:
                problems.append(
                    f"{prompt_label(node_id, node)}: input {name} comes from node {source}, which does not exist"
                )
    return problems or loop_problems(edges)


def _has_number_for_id(link: list, prompt: dict) -> bool:
    numbers = len(link) == 2 and all(isinstance(part, int) and not isinstance(part, bool) for part in link)
    return numbers and str(link[0]) in prompt


def _editor_problems(data: dict) -> list[str]:
    problems = _graph_problems(data, "")
    definitions = definitions_of(data)
    for definition in definitions.values():
        problems += _socket_problems(definition, f'subgraph "{definition.get("name", definition["id"])}"')
        problems += _graph_problems(definition, f' in subgraph "{definition.get("name", definition["id"])}"')
    return problems or _nested_in_themselves(definitions)


def _nested_in_themselves(definitions: dict[str, dict]) -> list[str]:
    edges = [
        (outer, node["type"])
        for outer, definition in definitions.items()
        for node in entries(definition, "nodes")
        if node["type"] in definitions
    ]
    names = [f'"{definitions[kind].get("name", kind)}"' for kind in find_loop(edges)]
    return [f"the subgraphs {' -> '.join(names)} hold each other in a loop, so none can be unfolded"] if names else []


def _graph_problems(graph: dict, place: str) -> list[str]:
    nodes: dict[str, dict] = {}
    problems = []
    for node in entries(graph, "nodes"):
        if not isinstance(node, dict) or node.get("id") is None:
            problems.append(f"an entry of nodes{place} is not a node with an id: {short(node)}")
        elif not isinstance(node.get("type"), str):
            problems.append(f"node {node['id']}{place} has no type")
        elif str(node["id"]) in nodes:
            problems.append(f"two nodes{place} have the id {node['id']}")
        else:
            nodes[str(node["id"])] = node
            problems += _socket_problems(node, editor_label(node) + place)
    links: dict[object, Link] = {}
    for entry in entries(graph, "links"):
        link = read_link(entry)
        if link is None:
            problems.append(f"an entry of links{place} is not a link: {short(entry)}")
        else:
            links[link.id] = link
    if not problems:
        problems = [text for link in links.values() for text in _link_faults(link, nodes, place)]
        problems += _dangling_inputs(nodes, links, place)
    if problems:
        return problems
    alive = {node_id for node_id, node in nodes.items() if node.get("mode") != MUTED}
    ends = [(str(link.source), str(link.target)) for link in links.values() if in_use(link, nodes)]
    return loop_problems([(a, b) for a, b in ends if a in alive and b in alive], place)


def _socket_problems(holder: dict, label: str) -> list[str]:
    problems = []
    for which in ("inputs", "outputs"):
        found = holder.get(which)
        if found is not None and not isinstance(found, list):
            problems.append(f"{label}: {which} is not a list: {short(found)}")
            continue
        for socket in found or []:
            named = isinstance(socket, dict) and isinstance(socket.get("name", ""), str)
            if not named or not isinstance(socket.get("linkIds") or [], list):
                problems.append(f"{label}: an entry of {which} is not a socket with a name: {short(socket)}")
    return problems


def _link_faults(link: Link, nodes: dict[str, dict], place: str) -> list[str]:
    target = nodes.get(str(link.target))
    if not in_use(link, nodes) or (target or {}).get("mode") == MUTED:
        return []
    faults = []
    ends = ((link.source, link.source_slot, "output"), (link.target, link.target_slot, "input"))
    for node_id, slot, which in ends:
        if node_id in (SUBGRAPH_INPUT, SUBGRAPH_OUTPUT) and place:
            continue
        node = nodes.get(str(node_id))
        if node is None:
            faults.append(f"{link}{place} is broken: there is no node {node_id}")
        elif not has_slot(node, f"{which}s", slot):
            number = slot if isinstance(slot, str) else short(slot)
            faults.append(f"{link}{place} is broken: {editor_label(node)} has no {which} {number}")
    return faults


def _dangling_inputs(nodes: dict[str, dict], links: dict[object, Link], place: str) -> list[str]:
    return [
        f"{editor_label(node)}{place}: input {socket.get('name')} names link {socket['link']}, which does not exist"
        for node in nodes.values()
        if node.get("mode") != MUTED
        for socket in sockets(node, "inputs")
        if isinstance(socket.get("link"), (int, str)) and socket["link"] not in links
    ]
