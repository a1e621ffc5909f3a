"""Checks before any conversion: whether a file is well-formed and its links are valid."""

from __future__ import annotations

from .engine_interface import BadWorkflow, short
from .graph import definitions_of, editor_label, entries, prompt_label
from .import_comfy_cli import import_comfy_cli
from .read_workflow import Workflow


def check_structure(workflow: Workflow) -> None:
    """Check that a file is well-formed and its links are valid. Raises: `BadWorkflow` naming every fault."""
    problems = _editor_problems(workflow.data) if workflow.is_editor else _prompt_problems(workflow.data)
    if problems:
        raise BadWorkflow(problems)


def _prompt_problems(prompt: dict) -> list[str]:
    problems = []
    for node_id, node in prompt.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            problems.append(f"node {node_id} has no class_type")
        elif not isinstance(node.setdefault("inputs", {}), dict):
            problems.append(f"{prompt_label(node_id, node)}: inputs is not an object")
    return problems


def _editor_problems(data: dict) -> list[str]:
    problems = _graph_problems(data, "")
    for definition in definitions_of(data).values():
        place = f' in subgraph "{definition.get("name", definition["id"])}"'
        problems += [*_socket_problems(definition, place.strip()), *_graph_problems(definition, place)]
    if not problems:
        findings, _ = import_comfy_cli("link_integrity").broken_link_findings(data)
        # A link that no input names is a leftover, which the editor ignores.
        problems = [finding["message"] for finding in findings if finding["field"] is not None]
    return problems


def _graph_problems(graph: dict, place: str) -> list[str]:
    ids: set[str] = set()
    problems = []
    for node in entries(graph, "nodes"):
        if not isinstance(node, dict) or node.get("id") is None:
            problems.append(f"an entry of nodes{place} is not a node with an id: {short(node)}")
        elif not isinstance(node.get("type"), str):
            problems.append(f"node {node['id']}{place} has no type")
        elif str(node["id"]) in ids:
            problems.append(f"two nodes{place} have the id {node['id']}")
        else:
            ids.add(str(node["id"]))
            problems += _socket_problems(node, editor_label(node) + place)
    return problems


def _socket_problems(holder: dict, label: str) -> list[str]:
    problems = []
    for which in ("inputs", "outputs"):
        sockets = holder.get(which) or []
        if not isinstance(sockets, list):
            problems.append(f"{label}: {which} is not a list: {short(sockets)}")
        elif not all(isinstance(each, dict) and isinstance(each.get("name", ""), str) for each in sockets):
            problems.append(f"{label}: {which} contains something other than sockets with a name: {short(sockets)}")
    return problems
