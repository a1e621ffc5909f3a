"""Widgets: which inputs have one, their saved values, --set, and placeholders in file names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from comfy_cli.workflow_to_api import process_dynamic_prompt

from .engine_interface import WorkflowError
from .graph import id_order, prompt_label, saved_title, schema_of

_EMPTY = {"INT": 0, "FLOAT": 0, "STRING": "", "BOOLEAN": False}
_TYPES = {"INT": (int,), "FLOAT": (int, float), "BOOLEAN": (bool,)}
_WIDGETS = frozenset(_EMPTY) | {"COMBO"}
_VIEWERS = frozenset({"LOAD_3D", "LOAD_3D_ADVANCED", "PREVIEW_3D", "AUDIO_UI", "IMAGEUPLOAD", "AUDIOUPLOAD"})
_OTHER_WIDGETS = _VIEWERS | {"BOUNDING_BOX", "BOUNDING_BOXES", "COLORS", "COMFY_DYNAMICGROUP_V3"}
_DATE_CODES = {"y": "%Y", "M": "%m", "d": "%d", "h": "%H", "m": "%M", "s": "%S"}
_CONTROL_WORDS = ("fixed", "increment", "decrement", "randomize")


def input_specs(schema: dict) -> dict[str, tuple[str, dict]]:
    """The inputs of a node as {name: (type, options)}; both forms of a combo become ("COMBO", {"options"})."""
    specs = {}
    for section in ("required", "optional"):
        for name, spec in ((schema.get("input") or {}).get(section) or {}).items():
            kind = spec[0] if spec else "*"
            options = dict(spec[1]) if len(spec) > 1 and isinstance(spec[1], dict) else {}
            if isinstance(kind, (list, tuple)):
                kind, options = "COMBO", {**options, "options": list(kind)}
            specs[name] = (kind, options)
    return specs


def has_widget(kind: str, options: dict) -> bool:
    """Whether the editor gives an input of this type a widget; other inputs take only links."""
    if options.get("forceInput") or options.get("defaultInput"):
        return False
    is_combo = kind.startswith("COMFY_") and "COMBO" in kind
    return kind in _WIDGETS | _OTHER_WIDGETS or is_combo or bool(options.get("socketless") or options.get("widgetType"))


def saved_values(node: dict, schema: dict) -> dict[str, object]:
    """The values of a node's widgets by name, as the editor reads its file: those saved, else the defaults."""
    specs, values, named = input_specs(schema), node.get("widgets_values"), node.get("widgets_values_named")
    by_name = {}
    if isinstance(values, dict):  # video nodes also save widgets that depend on the format
        by_name = {name: value for name, value in values.items() if name not in ("videopreview", "preview")}
    elif not values and isinstance(named, dict):
        by_name = {name: value for name, value in named.items() if name in specs}
    values = list(values) if isinstance(values, list) else []
    result = pair_values(specs, values, with_defaults=True) | by_name
    if not any(has_widget(*spec) for spec in specs.values()):
        rows = [value for value in values if isinstance(value, dict) and "lora" in value]  # Power Lora Loader
        result |= {f"lora_{number}": row for number, row in enumerate(rows, 1)}
    for name, value in result.items():
        if isinstance(value, str) and specs.get(name, ("", {}))[1].get("dynamicPrompts"):
            result[name] = process_dynamic_prompt(value)
    return result


def pair_values(specs: dict[str, tuple[str, dict]], values: list, with_defaults: bool = False) -> dict[str, object]:
    """Pair widgets with the values that a file lists for them; the list loses these values."""
    widgets = [(name, *spec) for name, spec in specs.items() if has_widget(*spec)]
    result: dict[str, object] = {}
    for number, (name, kind, options) in enumerate(widgets, 1):
        if not values and not with_defaults:
            break
        result[name] = values.pop(0) if values else _default(kind, options)
        control = options.get("control_after_generate")
        if control is None:
            control = kind == "INT" and name in ("seed", "noise_seed")
        if values and control:
            # After a seed the editor saves a word; early packs saved true or false.
            is_switch = number < len(widgets) and widgets[number][1] == "BOOLEAN"
            if values[0] in _CONTROL_WORDS or (isinstance(values[0], bool) and not is_switch):
                values.pop(0)
        if kind == "COMFY_DYNAMICCOMBO_V3":  # the choice decides which widgets follow
            chosen = [each for each in options.get("options", ()) if each["key"] == result[name]]
            inner = input_specs({"input": chosen[0]["inputs"]}) if chosen else {}
            result |= pair_values({f"{name}.{key}": spec for key, spec in inner.items()}, values, with_defaults)
    return result


def _default(kind: str, options: dict) -> object:
    """The value that the editor gives a new widget."""
    if "default" in options:
        return options["default"]
    if kind in ("INT", "FLOAT"):
        return max(options.get("min") or 0, 0)
    first = next(iter(options.get("options") or [None]))
    return _EMPTY.get(kind, first["key"] if isinstance(first, dict) else first)


def is_upload(options: dict) -> bool:
    """Whether a widget with these options names a file in the input folder."""
    return any(key.endswith("_upload") and options[key] for key in options)


class Setting(NamedTuple):
    """One `--set NODE.WIDGET=VALUE`: its text and its parts."""

    text: str
    node: str
    widget: str
    value: str

    def error(self, what: str) -> WorkflowError:
        return WorkflowError(f"--set {self.text}: {what}")


def parse_settings(texts: Iterable[str]) -> list[Setting]:
    """Parse each `NODE.WIDGET=VALUE`. Raises: `WorkflowError` for a text that is not of this form."""
    settings = []
    for text in texts:
        match = re.fullmatch(r"([^=]+)\.([^.=]+)=(.*)", text, re.DOTALL)
        if not match:
            raise WorkflowError(f"--set {text}: write it as NODE.WIDGET=VALUE, for example 4.kernel_size=5")
        settings.append(Setting(text, *match.groups()))
    return settings


def apply_settings(prompt: dict, settings: Iterable[Setting], object_info: dict) -> None:
    """Apply settings to a prompt, in place.

    NODE is an id, or a type or title that only one node has. VALUE is parsed as JSON if it is JSON, else it is text;
    for a widget that takes text, or lists the text as a choice, it is always text.
    Raises: `WorkflowError` for an unknown node or widget, listing the known ones, and for a value of the wrong type:
    engines would truncate 2.7 to 2.
    """
    for setting in settings:
        node_id = _find_node(prompt, setting, object_info)
        label = prompt_label(node_id, prompt[node_id], object_info)
        kind, options = _find_widget(prompt[node_id], label, setting, object_info)
        value = _read_value(setting.value, kind, options)
        if type(value) not in _TYPES.get(kind, (type(value),)):
            text = json.dumps(value, ensure_ascii=False)
            raise setting.error(f"{label}, widget {setting.widget}: {text} is not of type {kind}")
        prompt[node_id]["inputs"][setting.widget] = wrap(value)


def wrap(value: object) -> object:
    """A widget's value in a prompt. A bare list would be a link; ComfyUI accepts list values in this form."""
    return {"__value__": value} if isinstance(value, list) else value


def _find_node(prompt: dict, setting: Setting, object_info: dict) -> str:
    name = setting.node
    if name in prompt:
        return name
    by_type = [key for key, node in prompt.items() if node["class_type"] == name]
    matches = by_type or [key for key, node in prompt.items() if saved_title(node) == name]
    if len(matches) > 1:
        raise setting.error(f"{len(matches)} nodes are called {name}; use an id: {', '.join(matches)}")
    if not matches:
        nodes = "; ".join(prompt_label(key, prompt[key], object_info) for key in sorted(prompt, key=id_order))
        raise setting.error(f"no node has the id, type or title {name}. The nodes: {nodes}")
    return matches[0]


def _find_widget(node: dict, label: str, setting: Setting, object_info: dict) -> tuple[str, dict]:
    specs, widget = input_specs(schema_of(object_info, node)), setting.widget
    settable = [name for name, spec in specs.items() if has_widget(*spec)]
    if widget in settable:
        return specs[widget]
    if widget not in specs and widget in node["inputs"]:
        return "*", {}  # a sub-widget that exists only for the current choice of another widget
    raise setting.error(f"{label} has no widget {widget}. Its widgets: {', '.join(settable) or 'none'}")


def _read_value(text: str, kind: str, options: dict) -> object:
    if kind == "STRING" or (kind == "COMBO" and text in (options.get("options") or [])):
        return text
    try:
        return json.loads(text, parse_constant=str)  # NaN and infinity are not valid JSON
    except ValueError:
        return text


def expand_prefixes(prompt: dict, now: datetime | None = None) -> None:
    """Expand, in place, the placeholders that the editor expands: %date:yyyy-MM-dd% and %Node.widget% in file names."""
    now = now or datetime.now()

    def format_part(part: re.Match) -> str:
        number = f"{now:{_DATE_CODES[part[0][0]]}}"
        return number[-len(part[0]) :] if len(part[0]) > 1 else str(int(number))

    def fill_in(placeholder: re.Match) -> str:
        inside = placeholder[1]
        if inside.startswith("date:"):
            return re.sub("yyyy|yy|MM?|dd?|hh?|mm?|ss?", format_part, inside.removeprefix("date:"))
        name, _, widget = inside.partition(".")
        for node in prompt.values():
            if name in (node["class_type"], saved_title(node)) and widget in node["inputs"]:
                return re.sub(r'[/?<>\\:*|"\x00-\x1f\x7f]', "_", str(node["inputs"][widget]))
        return placeholder[0]

    for node in prompt.values():
        text = node["inputs"].get("filename_prefix")
        if isinstance(text, str):
            node["inputs"]["filename_prefix"] = re.sub(r"%([^%]+)%", fill_in, text)
