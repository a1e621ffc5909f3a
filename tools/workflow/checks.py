"""Checks: before any conversion, whether a file is well-formed; then a prompt, with comfy-cli's validator."""

from __future__ import annotations

import inspect
import math

from pack import own_class

from .engine_interface import BadWorkflow
from .graph import definitions_of, editor_label, entries, prompt_label, schema_of, short
from .import_comfy_cli import import_comfy_cli
from .read_workflow import Workflow
from .widgets import input_specs, is_upload


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
    problems = []
    for graph in (data, *definitions_of(data).values()):
        place = "" if graph is data else f' in subgraph "{graph.get("name", graph["id"])}"'
        problems += _socket_problems(graph, place.strip())
        ids: set[str] = set()
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
    if not problems:
        findings, _ = import_comfy_cli("link_integrity").broken_link_findings(data)
        # A link that no input names is a leftover, which the editor ignores.
        problems = [finding["message"] for finding in findings if finding["field"] is not None]
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


def check_prompt(prompt: dict, object_info: dict, complete: bool = True) -> list[str]:
    """Check a prompt's nodes, values and links with comfy-cli's validator. Return a sentence per fault.

    Args: ``complete``, False if unknown nodes were left out, which makes missing inputs expected.
    """
    graph = import_comfy_cli("cql.engine").Graph.from_object_info(object_info)
    result = graph.validate_workflow(_truncate_integers(prompt, object_info))
    # ComfyUI treats any text for a switch as true, even "false".
    texts = [each for each in result["warnings"] if isinstance(each.get("coerced_value"), bool)]
    problems = []
    for fault in result["errors"] + [each for each in texts if each["code"] == "coercible_type"]:
        node_id = fault.get("node_id")
        node = prompt.get(node_id) or {}
        own = _own_checks(schema_of(object_info, node))
        expected = {"unknown_class_type"} | (set() if complete else {"required_input_missing"})
        expected |= {"unknown_enum_value"} if fault.get("field") in own else set()
        expected |= {"edge_type_mismatch"} if "input_types" in own else set()
        if fault["code"] not in expected:
            label = f"{prompt_label(node_id, node, object_info)}: " if node else ""
            hint = f"; {fault['hint']}" if fault.get("hint") and "comfy " not in fault["hint"] else ""
            text = label + fault["message"].replace("catalog ", "") + hint
            problems.append(text if len(text) <= 400 else f"{text[:397]}...")
    return problems


def _truncate_integers(prompt: dict, object_info: dict) -> dict:
    """Copy a prompt, with values of INT widgets truncated as in ComfyUI: 2.7 becomes 2."""
    copy = {}
    for node_id, node in prompt.items():
        inputs = dict(node.get("inputs", {}))
        for name, (kind, _) in input_specs(schema_of(object_info, node)).items():
            if kind == "INT" and isinstance(inputs.get(name), float) and math.isfinite(inputs[name]):
                inputs[name] = int(inputs[name])
        copy[node_id] = {**node, "inputs": inputs}
    return copy


def _own_checks(schema: dict) -> set[str]:
    """Inputs that may have values outside their list: files that a run provides, and inputs that the node checks
    itself, such as this pack's models."""
    uploads = {name for name, (_, options) in input_specs(schema).items() if is_upload(options)}
    validate = getattr(own_class(schema), "VALIDATE_INPUTS", None)
    return uploads | set(inspect.getfullargspec(validate).args if validate else ())
