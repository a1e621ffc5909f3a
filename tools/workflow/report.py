"""What a file holds, told without running it: nodes known or not, values in or out of range, models there or not."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pack import own_class

from .engine_interface import BadWorkflow, id_order
from .graph import MUTED, definitions_of, entries, links_of, prompt_label, schema_of
from .models import model_notes
from .read_workflow import Workflow
from .to_prompt import Unknown, converted, find_unknown, misfits
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
    strangers = [each for each in find_unknown(workflow, object_info) if each.takes_part]
    problems += [each.sentence(unknown) for each in strangers]
    known = _without(workflow, strangers)
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


def _without(workflow: Workflow, strangers: list[Unknown]) -> Workflow:
    """A copy without these nodes: muted in the editor's format, removed from a prompt."""
    gone = {id(each.node) for each in strangers}
    if workflow.is_editor:

        def muted(graph: dict) -> dict:
            nodes = [{**node, "mode": MUTED} if id(node) in gone else node for node in entries(graph, "nodes")]
            return {**graph, "nodes": nodes}

        subgraphs = [muted(sub) for sub in definitions_of(workflow.data).values()]
        return replace(workflow, data={**muted(workflow.data), "definitions": {"subgraphs": subgraphs}})
    keys = {each.key for each in strangers}
    data = {}
    for key, node in workflow.data.items():
        if key not in keys:
            linked = {name for name, (source, _) in links_of(node) if source in keys}
            kept = {name: value for name, value in node.get("inputs", {}).items() if name not in linked}
            data[key] = {**node, "inputs": kept}
    return replace(workflow, data=data)


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
