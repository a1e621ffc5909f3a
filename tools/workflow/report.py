"""What a file holds, told without running it: nodes known or not, values in or out of range, models there or not."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

from pack import own_class

from .engine_interface import BadWorkflow, id_order
from .graph import MUTED, definitions_of, editor_label, entries, prompt_label, schema_of
from .models import model_notes
from .read_workflow import Workflow
from .to_prompt import EDITOR_ONLY_TYPES, converted, misfits, why_unknown
from .values import convert, fault, link_fault, range_fault
from .widgets import explain_node_errors, input_specs, is_widget


def report(
    workflow: Workflow,
    object_info: dict,
    unknown: Callable[[str], str],
    model_folders: Callable[[str], list[Path]],
) -> tuple[list[str], list[str]]:
    """What is to be known of a workflow, and what is wrong with it: two lists of sentences, each naming its node.

    Takes: `workflow`, checked by `check_structure`; the rest as `to_prompt` and `model_notes` take it.
    """
    notes, problems = [], []
    known, strangers = _without_unknown(workflow, object_info)
    problems += [f"{label} {why_unknown(node, unknown)}" for label, node in strangers]
    try:
        prompt = converted(known, object_info, unknown, notes.append)
    except BadWorkflow as error:
        return notes, [*problems, *error.problems]
    if not strangers:  # beside an unknown node much is missing, which is no news
        problems += misfits(known, prompt, object_info)
    for node_id in sorted(prompt, key=id_order):
        node = prompt[node_id]
        changed, wrong = _values(node_id, prompt, object_info, complete=not strangers)
        notes += changed
        problems += wrong
        if not changed and not wrong:
            notes.append(f"{prompt_label(node_id, node, object_info)}: its values are fine")
    for text, fine in model_notes(prompt, object_info, model_folders):
        (notes if fine else problems).append(text)
    return notes, problems


def _without_unknown(workflow: Workflow, object_info: dict) -> tuple[Workflow, list[tuple[str, dict]]]:
    """A copy whose unknown nodes take no part, and these with their labels."""
    data = json.loads(json.dumps(workflow.data))
    found = []
    if not workflow.is_editor:
        for node_id in [key for key, node in data.items() if node["class_type"] not in object_info]:
            node = data.pop(node_id)
            found.append((prompt_label(node_id, node), {**node, "type": node["class_type"]}))
        gone = set(workflow.data) - set(data)
        for node in data.values():
            inputs = node.get("inputs", {})
            node["inputs"] = {
                name: value
                for name, value in inputs.items()
                if not (isinstance(value, list) and value and str(value[0]) in gone)
            }
        return Workflow(workflow.path, data, is_editor=False), found
    definitions = definitions_of(data)
    for graph in (data, *definitions.values()):
        for node in entries(graph, "nodes"):
            kind = node["type"]
            if kind not in object_info and kind not in EDITOR_ONLY_TYPES and kind not in definitions:
                if node.get("mode") != MUTED:
                    found.append((editor_label(node), node))
                node["mode"] = MUTED
    return Workflow(workflow.path, data, is_editor=True), found


def _values(node_id: str, prompt: dict, object_info: dict, complete: bool) -> tuple[list[str], list[str]]:
    """What ComfyUI would change in a node's values, and which it would refuse; `complete`: missing ones, too."""
    changed, errors = [], []
    node = prompt[node_id]
    schema = schema_of(object_info, node)
    required = (schema.get("input") or {}).get("required") or {}
    own = _checked_by_the_node(schema)
    for name, (kind, options) in input_specs(schema).items():
        if name not in node["inputs"]:
            if complete and name in required:
                errors.append(fault("required_input_missing", "Required input is missing", name))
            continue
        saved = node["inputs"][name]
        if isinstance(saved, list):
            error = link_fault(name, kind, saved, prompt, object_info, any_type="input_types" in own)
            errors += [error] if error else []
            continue
        if not is_widget(kind, options) and kind in _CARRIED:
            if saved is not None or name in required:  # ComfyUI would hand it over, and the node stumble over it
                errors.append(fault("invalid_input_type", "Not a link", name, received_value=saved))
            continue
        if name in own or any(key.endswith("_upload") for key in options):  # a run brings the files along
            continue
        taken = {name: saved}
        error = convert(taken, name, kind) or range_fault(taken, name, kind, options)
        if error:
            errors.append(error)
        elif json.dumps(taken[name]) != json.dumps(saved) and taken[name] != saved:
            before, after = (json.dumps(each, ensure_ascii=False) for each in (saved, taken[name]))
            changed.append(f"{prompt_label(node_id, node, object_info)}, widget {name}: {before} is taken as {after}")
    found = {node_id: {"class_type": node["class_type"], "errors": errors}} if errors else {}
    return changed, explain_node_errors(found, object_info, prompt)


def _checked_by_the_node(schema: dict) -> list[str]:
    """Inputs that a node of this pack checks itself, such as its models: it looks for what is not in the list."""
    validate = getattr(own_class(schema), "VALIDATE_INPUTS", None)
    return inspect.getfullargspec(validate).args if validate else []


# What only links carry, of ComfyUI and of this pack; other packs' types may have widgets of their own.
_CARRIED = frozenset({"IMAGE", "MASK", "LATENT", "MODEL", "CLIP", "VAE", "CONDITIONING", "BASIC_PIPE", "CLIPSEG_MODEL"})
