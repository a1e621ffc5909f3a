"""Validates prompts with comfy-cli, and reports faults as sentences that name the node."""

from __future__ import annotations

import inspect
import math

from pack import own_class

from .graph import prompt_label, schema_of
from .import_comfy_cli import import_comfy_cli
from .widgets import input_specs

_UNKNOWN, _MISSING = "unknown_class_type", "required_input_missing"


def check_prompt(prompt: dict, object_info: dict, complete: bool = True) -> list[str]:
    """Check a prompt's nodes, values and links with comfy-cli's validator. Return a sentence per fault.

    Args: ``complete``, False if unknown nodes were left out, which makes missing inputs expected.
    """
    graph = import_comfy_cli("cql.engine").Graph.from_object_info(object_info)
    result = graph.validate_workflow(_truncate_integers(prompt, object_info))
    problems = []
    for fault in [*result["errors"], *filter(_is_text_for_a_switch, result["warnings"])]:
        node_id, name = fault.get("node_id"), fault.get("field")
        node = prompt.get(node_id) or {}
        own = _own_checks(schema_of(object_info, node))
        hidden = {_UNKNOWN} | ({"unknown_enum_value"} if name in own else set()) | (set() if complete else {_MISSING})
        if fault["code"] in hidden | ({"edge_type_mismatch"} if "input_types" in own else set()):
            continue
        label = f"{prompt_label(node_id, node, object_info)}: " if node else ""
        hint = f"; {fault['hint']}" if fault.get("hint") and "comfy " not in fault["hint"] else ""
        problems.append(_shorten(label + fault["message"].replace("catalog ", "") + hint))
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


def _is_text_for_a_switch(warning: dict) -> bool:
    """Whether a switch has a text: ComfyUI treats any text as true, even "false"."""
    return warning["code"] == "coercible_type" and isinstance(warning.get("coerced_value"), bool)


def _own_checks(schema: dict) -> set[str]:
    """Inputs that may have values outside their list: files that a run provides, and inputs that the node checks
    itself, such as this pack's models."""
    uploads = {name for name, (_, options) in input_specs(schema).items() if is_upload(options)}
    validate = getattr(own_class(schema), "VALIDATE_INPUTS", None)
    return uploads | set(inspect.getfullargspec(validate).args if validate else ())


def is_upload(options: dict) -> bool:
    """Whether a widget with these options names a file in the input folder."""
    return any(key.endswith("_upload") and options[key] for key in options)


def _shorten(text: str) -> str:
    return text if len(text) <= 400 else f"{text[:397]}..."
