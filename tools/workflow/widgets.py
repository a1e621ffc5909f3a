"""Widgets: which inputs have one, their saved values, --set, and placeholders in file names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from .engine_interface import WorkflowError
from .graph import definitions_of, editor_label, entries, id_order, prompt_label, saved_title, schema_of
from .import_comfy_cli import import_comfy_cli
from .read_workflow import Workflow

_EMPTY = {"INT": 0, "FLOAT": 0, "STRING": "", "BOOLEAN": False}
_BOX = {"x": 0, "y": 0, "width": 512, "height": 512}  # the editor's
_WIDGETS = frozenset(_EMPTY) | {"COMBO"}
_VIEWERS = frozenset({"LOAD_3D", "LOAD_3D_ADVANCED", "PREVIEW_3D", "AUDIO_UI", "IMAGEUPLOAD", "AUDIOUPLOAD"})
_OTHER_WIDGETS = _VIEWERS | {"BOUNDING_BOX", "BOUNDING_BOXES", "COLORS", "COMFY_DYNAMICGROUP_V3"}
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


def is_widget(kind: str, options: dict) -> bool:
    """Whether an input of this type can have a value instead of a link."""
    return kind in _WIDGETS or kind.startswith("COMFY_") or "default" in options


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
            result[name] = import_comfy_cli("workflow_to_api").process_dynamic_prompt(value)
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
        if values and kind == "INT" and (name in ("seed", "noise_seed") if control is None else control):
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
    if kind == "BOUNDING_BOX":
        return _BOX
    return _EMPTY.get(kind, first["key"] if isinstance(first, dict) else first)


def is_upload(options: dict) -> bool:
    """Whether a widget with these options names a file in the input folder."""
    return any(key.endswith("_upload") and options[key] for key in options)


@dataclass(frozen=True)
class Setting:
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
        target, equals, value = text.partition("=")
        node, _dot, widget = target.rpartition(".")
        setting = Setting(text, node, widget, value)
        if not equals or not node or not widget:
            raise setting.error("write it as NODE.WIDGET=VALUE, for example 4.kernel_size=5")
        settings.append(setting)
    return settings


def check_settings(settings: Iterable[Setting], workflow: Workflow) -> None:
    """Check, before an engine starts, that the nodes of the settings are in the file.

    In the editor's format only ids can be checked: such a file omits default titles, which only the engine knows.
    Raises: `WorkflowError`, listing the nodes.
    """
    for setting in settings:
        if not workflow.is_editor:
            _find_node(workflow.data, setting)
        elif re.fullmatch(r"\d+(:\d+)*", setting.node) and not _in_editor_file(workflow.data, setting.node):
            nodes = "; ".join(map(editor_label, workflow.data["nodes"]))
            raise setting.error(f"no node has the id or title {setting.node}. The nodes: {nodes}")


def _in_editor_file(data: dict, name: str) -> bool:
    graphs = [data, *definitions_of(data).values()]
    if any(node.get("title") == name for graph in graphs for node in entries(graph, "nodes")):
        return True
    graph = data
    for part in name.split(":"):  # 10:3 is node 3 in the subgraph of node 10
        matches = [node for node in entries(graph, "nodes") if str(node["id"]) == part]
        if not matches:
            return False
        graph = definitions_of(data).get(matches[0]["type"], {})
    return True


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
        if not _is_of_type(value, kind):
            text = json.dumps(value, ensure_ascii=False)
            raise setting.error(f"{label}, widget {setting.widget}: {text} is not of type {kind}")
        # A bare list in a prompt is a link; ComfyUI accepts list values in this form.
        prompt[node_id]["inputs"][setting.widget] = {"__value__": value} if isinstance(value, list) else value


def _find_node(prompt: dict, setting: Setting, object_info: dict | None = None) -> str:
    name = setting.node
    if name in prompt:
        return name
    by_type = [key for key, node in prompt.items() if node["class_type"] == name]
    matches = by_type or [key for key, node in prompt.items() if saved_title(node) == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise setting.error(f"{len(matches)} nodes are called {name}; use an id: {', '.join(matches)}")
    nodes = "; ".join(prompt_label(key, prompt[key], object_info) for key in sorted(prompt, key=id_order))
    raise setting.error(f"no node has the id, type or title {name}. The nodes: {nodes}")


def _find_widget(node: dict, label: str, setting: Setting, object_info: dict) -> tuple[str, dict]:
    specs, widget = input_specs(schema_of(object_info, node)), setting.widget
    if widget in specs and is_widget(*specs[widget]):
        return specs[widget]
    if widget not in specs and widget in node["inputs"]:
        return "*", {}  # a sub-widget that exists only for the current choice of another widget
    widgets = ", ".join(name for name, spec in specs.items() if is_widget(*spec)) or "none"
    raise setting.error(f"{label} has no widget {widget}. Its widgets: {widgets}")


def _read_value(text: str, kind: str, options: dict) -> object:
    if kind == "STRING" or (kind == "COMBO" and text in (options.get("options") or [])):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return int(value) if kind == "INT" and isinstance(value, float) and value.is_integer() else value


def _is_of_type(value: object, kind: str) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    checks = {
        "BOOLEAN": isinstance(value, bool),
        "INT": is_number and isinstance(value, int),
        "FLOAT": is_number and math.isfinite(value),
    }
    return checks.get(kind, True)


def expand_prefixes(prompt: dict, now: datetime | None = None) -> None:
    """Expand, in place, the placeholders that the editor expands: %date:yyyy-MM-dd% and %Node.widget% in file names."""
    now = now or datetime.now()
    for node in prompt.values():
        text = node["inputs"].get("filename_prefix")
        if isinstance(text, str) and "%" in text:
            node["inputs"]["filename_prefix"] = re.sub(r"%([^%]+)%", lambda m: _fill_in(m, prompt, now), text)


def _fill_in(match: re.Match, prompt: dict, now: datetime) -> str:
    inside = match.group(1)
    if inside.startswith("date:"):
        parts = {"yyyy": f"{now:%Y}", "yy": f"{now:%y}", "MM": f"{now:%m}", "M": str(now.month), "dd": f"{now:%d}"}
        parts |= {"d": str(now.day), "hh": f"{now:%H}", "h": str(now.hour), "mm": f"{now:%M}", "m": str(now.minute)}
        parts |= {"ss": f"{now:%S}", "s": str(now.second)}
        return re.sub("yyyy|yy|MM?|dd?|hh?|mm?|ss?", lambda m: parts[m.group()], inside[len("date:") :])
    name, dot, widget = inside.partition(".")
    for node in prompt.values() if dot else ():
        if name in (node["class_type"], saved_title(node)) and widget in node["inputs"]:
            return re.sub(r'[/?<>\\:*|"\x00-\x1f\x7f]', "_", str(node["inputs"][widget]))
    return match.group()
