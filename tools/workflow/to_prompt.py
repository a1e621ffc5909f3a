"""Converts either format to a prompt."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from comfy_cli.workflow_to_api import is_subgraph_uuid

from .engine_interface import BadWorkflow
from .flatten import ADD_ONS, EDITOR_ONLY_TYPES, FlatGraph
from .graph import BYPASSED, MUTED, editor_label, prompt_label, schema_of
from .read_workflow import Workflow
from .widgets import input_specs

Unknown, Note = Callable[[str], str], Callable[[str], None]


def to_prompt(workflow: Workflow, object_info: dict, unknown: Unknown, note: Note = lambda text: None) -> dict:
    """Convert a workflow to the API format that engines take. The result is a copy.

    Args: ``workflow``, checked by `check_structure`; ``object_info`` of the engine; ``unknown``, which returns the end
    of the sentence "node 7 (KSampler) ..." for an unknown type; ``note``, called about nodes that are left out.
    Raises: `BadWorkflow` for unknown nodes, links in a loop and other failures of the conversion.
    """
    problems, notes = find_unknown(workflow, object_info, unknown)
    for sentence in notes:
        note(sentence)
    if problems:
        raise BadWorkflow(problems)
    return convert(workflow, object_info, note)


def convert(workflow: Workflow, object_info: dict, note: Note) -> dict:
    """As `to_prompt`, leaving out unknown nodes of an editor's file and the links from them."""
    if workflow.is_editor:
        prompt = FlatGraph(workflow.data, object_info).prompt()
    else:
        prompt = json.loads(json.dumps(workflow.data))
    for node_id, node in prompt.items():
        specs = input_specs(schema_of(object_info, node))
        for name, value in node.setdefault("inputs", {}).items():
            kind, options = specs.get(name, ("", {}))
            if kind == "INT" and isinstance(value, float) and math.isfinite(value):
                node["inputs"][name] = int(value)  # as in ComfyUI: 2.7 becomes 2
            if kind != "BOOLEAN" or not isinstance(value, str):
                continue
            # A switch saved as text, in one of its own words or as a boolean: ComfyUI treats any text as true.
            text = value.strip().lower()
            on, off = (str(options.get(key, "")).lower() for key in ("label_on", "label_off"))
            if text and text in ("true", "false", on, off):
                node["inputs"][name] = text in ("true", on)
                label, state = prompt_label(node_id, node, object_info), json.dumps(node["inputs"][name])
                note(f"{label}, widget {name}: the text {text} is read as {state}")
    return prompt


def find_unknown(workflow: Workflow, object_info: dict, unknown: Unknown) -> tuple[list[str], list[str]]:
    """A sentence for each node of unknown type, except muted ones: those that a run needs, and the others.

    Args: ``unknown`` as in `to_prompt`.
    """
    if not workflow.is_editor:
        nodes = [(key, node) for key, node in workflow.data.items() if node["class_type"] not in object_info]
        return [f"{prompt_label(key, node)} {unknown(node['class_type'])}" for key, node in nodes], []
    graph = FlatGraph(workflow.data, object_info)
    linked, needed, others = graph.linked_nodes(), [], []
    for node_id, node in graph.nodes.items():
        is_known = node["type"] in object_info or node["type"] in EDITOR_ONLY_TYPES or graph.definition(node)
        if is_known or node.get("mode") == MUTED:
            continue
        label, why = editor_label(node) + graph.place_of(node_id), _explain_unknown(node, unknown)
        if ADD_ONS.fullmatch(node["type"]):
            others.append(f"{label} is left out: it works only in the editor")
        elif node.get("mode") == BYPASSED:
            others.append(f"{label} is left out: it is bypassed, and {why}")
        elif node_id not in linked:
            others.append(f"{label} is left out: it is connected to nothing, and {why}")
        else:
            needed.append(f"{label} {why}")
    # A subgraph that is used several times has the same nodes each time.
    return list(dict.fromkeys(needed)), list(dict.fromkeys(others))


def _explain_unknown(node: dict, unknown: Unknown) -> str:
    """The end of the sentence "node 7 (KSampler) ..." for a node of the editor's format."""
    if node["type"].startswith(("workflow>", "workflow/")):
        return "is an old group node; open the workflow in the editor, convert it to a subgraph and save again"
    if is_subgraph_uuid(node["type"]):
        return "is a subgraph whose definition is missing from the file; save the workflow again in the editor"
    properties = node.get("properties") if isinstance(node.get("properties"), dict) else {}
    source = properties.get("aux_id") or properties.get("cnr_id")
    hint = f" (the file says that it comes from {source})" if source and source != "comfy-core" else ""
    return unknown(node["type"]) + hint
