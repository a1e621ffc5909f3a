"""Workarounds for faults of comfy-cli's converter (1.23) with widgets, until they are fixed there."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from .widgets import has_widget, input_specs

_EMPTY = {"INT": 0, "FLOAT": 0, "STRING": "", "BOOLEAN": False}
_BOX = {"x": 0, "y": 0, "width": 512, "height": 512}  # the editor's
_HIDDEN = "\0value {}"
_RENAMED = "LoadImageOutput"


def fix_schemas(object_info: dict, types: set[str]) -> dict:
    """Copy the schemas of these node types, adapted to the converter."""
    schemas = {kind: copy.deepcopy(object_info[kind]) for kind in types if kind in object_info}
    for schema in schemas.values():
        for section in ("required", "optional"):
            for name, spec in ((schema.get("input") or {}).get(section) or {}).items():
                _fix_default(spec, section, *input_specs({"input": {section: {name: spec}}})[name])
    if _RENAMED in schemas:  # comfy-cli mistakes this node for an editor-only one and drops it
        schemas[_renamed(_RENAMED)] = schemas[_RENAMED]
    return schemas


def _fix_default(spec: list, section: str, kind: str, options: dict) -> None:
    if not has_widget(kind, options) and (section == "optional" or options.get("forceInput")):
        # comfy-cli gives an input without a widget its default as a value; the editor leaves it empty.
        if len(spec) > 1 and isinstance(spec[1], dict):
            spec[1].pop("default", None)
    elif kind == "BOUNDING_BOX" and has_widget(kind, options):
        spec[1:] = [{"default": _BOX, **options, "socketless": True}]  # else comfy-cli sees no widget
    elif has_widget(kind, options) and kind in _EMPTY and "default" not in options:
        # comfy-cli gives a widget without a default no value; the editor gives it 0, false or an empty text.
        low = options.get("min")
        spec[1:] = [{**options, "default": low if kind in ("INT", "FLOAT") and low and low > 0 else _EMPTY[kind]}]


def fix_node(node: dict, schema: dict) -> tuple[dict, dict[str, object]]:
    """Copy a node, adapted to the converter. Also returns the values hidden from it, by the text that replaces them."""
    node = dict(node)
    properties = node.get("properties") if isinstance(node.get("properties"), dict) else {}
    # If this property names another node type, comfy-cli reads that type's widgets; the editor does not.
    node["properties"] = {key: value for key, value in properties.items() if key != "Node name for S&R"}
    if node["type"] == _RENAMED:
        node["type"] = _renamed(_RENAMED)
    specs = input_specs(schema)
    widgets = {name: spec for name, spec in specs.items() if has_widget(*spec)}
    values_by_name = node.get("widgets_values_named")
    if isinstance(values_by_name, dict) and not node.get("widgets_values"):
        # comfy-cli does not read values that the editor saved by name.
        node["widgets_values"] = {name: value for name, value in values_by_name.items() if name in specs}
    values = node.get("widgets_values")
    if not isinstance(values, list) or not widgets:
        return node, {}
    values = _add_control_words(values, widgets)
    # comfy-cli mistakes each object among the values for a row of LoRAs, and drops all other values.
    hidden = {_HIDDEN.format(at): value for at, value in enumerate(values) if isinstance(value, dict)}
    node["widgets_values"] = [
        _HIDDEN.format(at) if isinstance(value, dict) else value for at, value in enumerate(values)
    ]
    return node, hidden


def _add_control_words(values: list, widgets: dict[str, tuple[str, dict]]) -> list:
    """Replace true or false, which early packs saved after a seed, by control words; comfy-cli expects words."""
    values = list(values)
    for at, is_switch in _after_seeds(widgets):
        if at < len(values) and isinstance(values[at], bool) and not is_switch:
            values[at] = "randomize" if values[at] else "fixed"
    return values


def _after_seeds(widgets: dict[str, tuple[str, dict]]) -> Iterator[tuple[int, bool]]:
    """The positions of the control words after seeds, and whether the next widget is a switch."""
    at = 0
    specs = list(widgets.items())
    for number, (name, (kind, options)) in enumerate(specs):
        if kind not in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
            return  # such a widget may have any number of values
        at += 1
        control = options.get("control_after_generate")
        if kind == "INT" and (control if control is not None else name in ("seed", "noise_seed")):
            yield at, number + 1 < len(specs) and specs[number + 1][1][0] == "BOOLEAN"
            at += 1


def restore_values(prompt: dict, hidden: dict[str, dict[str, object]], values: dict[tuple[str, str], object]) -> None:
    """Restore the hidden values in the converter's prompt, in place.

    Args: ``hidden``, by node id, from `fix_node`; ``values``, from `flatten`.
    """
    for node_id, node in prompt.items():
        if node["class_type"] == _renamed(_RENAMED):
            node["class_type"] = _RENAMED
        texts = hidden.get(node_id) or {}
        for name, value in node["inputs"].items():
            if isinstance(value, str) and value in texts:
                node["inputs"][name] = texts[value]
    for (node_id, name), value in values.items():
        if node_id in prompt:
            prompt[node_id]["inputs"][name] = {"__value__": value} if isinstance(value, list) else value


def _renamed(kind: str) -> str:
    return f"{kind} "
