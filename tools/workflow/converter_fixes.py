"""What comfy-cli's converter (1.23) gets wrong with widgets, put right before it: each until it does so itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from .widgets import has_widget, input_specs

_EMPTY = {"INT": 0, "FLOAT": 0, "STRING": "", "BOOLEAN": False}
_HIDDEN = "\0value {}"
_RENAMED = "LoadImageOutput"


def mended_schemas(object_info: dict, types: set[str]) -> dict:
    """The schemas of these node types, as the converter needs them."""
    schemas = {kind: copy.deepcopy(object_info[kind]) for kind in types if kind in object_info}
    for schema in schemas.values():
        for section in ("required", "optional"):
            for name, spec in ((schema.get("input") or {}).get(section) or {}).items():
                _mend_default(spec, section, *input_specs({"input": {section: {name: spec}}})[name])
    if _RENAMED in schemas:  # comfy-cli takes this node for one of the editor's own, and leaves it out
        schemas[_renamed(_RENAMED)] = schemas[_RENAMED]
    return schemas


def _mend_default(spec: list, section: str, kind: str, options: dict) -> None:
    if not has_widget(kind, options) and (section == "optional" or options.get("forceInput")):
        # comfy-cli gives an input that takes links alone its default as a value; the editor leaves it empty.
        if len(spec) > 1 and isinstance(spec[1], dict):
            spec[1].pop("default", None)
    elif has_widget(kind, options) and kind in _EMPTY and "default" not in options:
        # comfy-cli gives a widget without a default no value; the editor gives it 0, false or an empty text.
        low = options.get("min")
        spec[1:] = [{**options, "default": low if kind in ("INT", "FLOAT") and low and low > 0 else _EMPTY[kind]}]


def mended_node(node: dict, schema: dict) -> tuple[dict, dict[str, object]]:
    """A copy of a node as the converter needs it, and the values hidden from it, by the text in their place."""
    node = dict(node)
    properties = node.get("properties") if isinstance(node.get("properties"), dict) else {}
    # comfy-cli reads the widgets of another node type where this property names one; the editor does not.
    node["properties"] = {key: value for key, value in properties.items() if key != "Node name for S&R"}
    if node["type"] == _RENAMED:
        node["type"] = _renamed(_RENAMED)
    specs = input_specs(schema)
    widgets = {name: spec for name, spec in specs.items() if has_widget(*spec)}
    named = node.get("widgets_values_named")
    if isinstance(named, dict) and not node.get("widgets_values"):
        # comfy-cli does not know that editors save values by name, too.
        node["widgets_values"] = {name: value for name, value in named.items() if name in specs}
    values = node.get("widgets_values")
    if not isinstance(values, list) or not widgets:
        return node, {}
    values = _with_control_words(values, widgets)
    # comfy-cli takes each object among the values for a row of LoRAs, and all values beside it for none.
    hidden = {_HIDDEN.format(at): value for at, value in enumerate(values) if isinstance(value, dict)}
    node["widgets_values"] = [
        _HIDDEN.format(at) if isinstance(value, dict) else value for at, value in enumerate(values)
    ]
    return node, hidden


def _with_control_words(values: list, widgets: dict[str, tuple[str, dict]]) -> list:
    """Values with a word behind each seed where early packs saved true or false, which comfy-cli takes for a value."""
    values = list(values)
    for at, is_switch in _behind_seeds(widgets):
        if at < len(values) and isinstance(values[at], bool) and not is_switch:
            values[at] = "randomize" if values[at] else "fixed"
    return values


def _behind_seeds(widgets: dict[str, tuple[str, dict]]) -> Iterator[tuple[int, bool]]:
    """Where the words behind seeds are among the values, and whether the widget that follows is a switch."""
    at = 0
    specs = list(widgets.items())
    for number, (name, (kind, options)) in enumerate(specs):
        if kind not in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
            return  # it may hold any number of values
        at += 1
        control = options.get("control_after_generate")
        if kind == "INT" and (control if control is not None else name in ("seed", "noise_seed")):
            yield at, number + 1 < len(specs) and specs[number + 1][1][0] == "BOOLEAN"
            at += 1


def mended_prompt(prompt: dict, hidden: dict[str, dict[str, object]], values: dict[tuple[str, str], object]) -> None:
    """Put what the converter was not to see into its prompt, in place.

    Args: ``hidden``, by node id, as `mended_node` gives it; ``values``, as `flatten` gives them.
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
