"""Widgets: what a node's schema says of them, setting them, and ComfyUI's complaints about them in words."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from .engine_interface import WorkflowError, id_order, short
from .graph import definitions_of, editor_label, entries, prompt_label, saved_title, schema_of
from .read_workflow import Workflow

MAX_SHOWN = 20  # entries of a list in an error


def input_specs(schema: dict) -> dict[str, tuple[str, dict]]:
    """The inputs of a node as {name: (type, options)}; both forms of a combo come out as ("COMBO", {"options"})."""
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
    """Whether an input of this type can hold a value of its own, not only a link."""
    return kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO") or kind.startswith("COMFY_") or "default" in options


def has_widget(kind: str, options: dict) -> bool:
    """Whether the editor gives an input of this type a widget; other inputs take only links."""
    if options.get("forceInput") or options.get("defaultInput"):
        return False
    if kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO") or kind in _OTHER_WIDGETS:
        return True
    return bool(options.get("socketless") or options.get("widgetType")) or (
        kind.startswith("COMFY_") and "COMBO" in kind
    )


_OTHER_WIDGETS = frozenset(
    {"COMFY_DYNAMICGROUP_V3", "LOAD_3D", "LOAD_3D_ADVANCED", "PREVIEW_3D", "AUDIO_UI", "IMAGEUPLOAD", "AUDIOUPLOAD"}
)


def allowed_text(kind: str, options: dict, value: object = None) -> str:
    """What a widget takes, in words; for a long list, the entries most like `value`."""
    if kind == "COMBO":
        choices = list(options.get("options") or [])
        if not choices:
            return "nothing: the list is empty"
        if len(choices) <= MAX_SHOWN:
            return ", ".join(map(str, choices))
        near = (
            difflib.get_close_matches(str(value), list(map(str, choices)), MAX_SHOWN // 4, 0.4)
            or choices[: MAX_SHOWN // 4]
        )
        return f"one of {len(choices)}, such as {', '.join(map(str, near))}"
    if kind in ("INT", "FLOAT"):
        low, high, step = options.get("min"), options.get("max"), options.get("step")
        noun = "a whole number" if kind == "INT" else "a number"
        if low is not None and high is not None:
            noun += f" from {low} to {high}"
        elif low is not None:
            noun += f" from {low}"
        elif high is not None:
            noun += f" up to {high}"
        return noun + (f" in steps of {step}" if step not in (None, 0, 1) else "")
    return {"BOOLEAN": "true or false", "STRING": "text"}.get(kind, f"a link that carries {kind}")


@dataclass(frozen=True)
class Setting:
    """One `--set NODE.WIDGET=VALUE`, as it was written (`text`) and taken apart."""

    text: str
    node: str
    widget: str
    value: str

    def fault(self, what: str) -> WorkflowError:
        """The error that says what is wrong with it."""
        return WorkflowError(f"--set {self.text}: {what}")


def parse_settings(texts: Iterable[str]) -> list[Setting]:
    """Take each `NODE.WIDGET=VALUE` apart. Raises: `WorkflowError` for a text that is not of this form."""
    settings = []
    for text in texts:
        target, equals, value = text.partition("=")
        node, _dot, widget = target.rpartition(".")
        setting = Setting(text, node, widget, value)
        if not equals or not node or not widget:
            raise setting.fault("write it as NODE.WIDGET=VALUE, for example 4.kernel_size=5")
        settings.append(setting)
    return settings


def check_settings(settings: Iterable[Setting], workflow: Workflow) -> None:
    """Check, while there is no engine yet, that the nodes of the settings are in the file.

    In the editor's format only ids can be told to be missing: the titles that such a file leaves out come from the
    engine. Raises: `WorkflowError`, listing the nodes there are.
    """
    for setting in settings:
        if not workflow.is_editor:
            _find_node(workflow.data, setting)
        elif re.fullmatch(r"\d+(:\d+)*", setting.node) and not _in_editor_file(workflow.data, setting.node):
            there = "; ".join(map(editor_label, workflow.data["nodes"]))
            raise setting.fault(f"no node has the id or title {setting.node}. There are: {there}")


def _in_editor_file(data: dict, name: str) -> bool:
    graphs = [data, *definitions_of(data).values()]
    if any(node.get("title") == name for graph in graphs for node in entries(graph, "nodes")):
        return True
    graph = data
    for part in name.split(":"):  # 10:3 is node 3 in the subgraph that node 10 stands for
        found = [node for node in entries(graph, "nodes") if str(node["id"]) == part]
        if not found:
            return False
        graph = definitions_of(data).get(found[0]["type"], {})
    return True


def apply_settings(prompt: dict, settings: Iterable[Setting], object_info: dict) -> None:
    """Carry out settings on a prompt, in place.

    NODE is an id, or a type or title that only one node has. VALUE is read as JSON where it is JSON, else as text;
    where the widget takes text, or lists the text as a choice, it is taken as it stands. Raises: `WorkflowError`
    for an unknown node or widget, listing those there are, and for a value that is not of the widget's type:
    engines would cut 2.7 to 2, and take "no" for true.
    """
    for setting in settings:
        node_id = _find_node(prompt, setting, object_info)
        label = prompt_label(node_id, prompt[node_id], object_info)
        kind, options = _find_widget(prompt[node_id], label, setting, object_info)
        value = _read_value(setting.value, kind, options)
        if not _is_of_type(value, kind):
            shown, allowed = json.dumps(value, ensure_ascii=False), allowed_text(kind, options)
            raise setting.fault(f"{label}, widget {setting.widget}: {shown} is of the wrong type; allowed: {allowed}")
        # A bare list in a prompt is a link; ComfyUI takes a list that is a value in this wrapping.
        prompt[node_id]["inputs"][setting.widget] = {"__value__": value} if isinstance(value, list) else value


def _find_node(prompt: dict, setting: Setting, object_info: dict | None = None) -> str:
    name = setting.node
    if name in prompt:
        return name
    by_type = [key for key, node in prompt.items() if node["class_type"] == name]
    by_title = [key for key, node in prompt.items() if saved_title(node) == name]
    found = by_type or by_title
    if len(found) == 1:
        return found[0]
    if found:
        raise setting.fault(f"{len(found)} nodes are called {name}; take an id: {', '.join(found)}")
    there = "; ".join(prompt_label(key, prompt[key], object_info) for key in sorted(prompt, key=id_order))
    raise setting.fault(f"no node has the id, type or title {name}. There are: {there}")


def _find_widget(node: dict, label: str, setting: Setting, object_info: dict) -> tuple[str, dict]:
    specs, widget = input_specs(schema_of(object_info, node)), setting.widget
    if widget in specs and is_widget(*specs[widget]):
        return specs[widget]
    if widget not in specs and widget in node["inputs"]:
        return "*", {}  # a sub-widget that exists only for the present choice of another
    there = ", ".join(name for name, spec in specs.items() if is_widget(*spec)) or "none"
    kind = f"is a link that carries {specs[widget][0]}, not a widget" if widget in specs else "is not there"
    raise setting.fault(f"{widget} {kind} in {label}. Its widgets: {there}")


def _read_value(text: str, kind: str, options: dict) -> object:
    if kind == "STRING" or (kind == "COMBO" and text in (options.get("options") or [])):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return int(value) if kind == "INT" and isinstance(value, float) and value.is_integer() else value


def _is_of_type(value: object, kind: str) -> bool:
    if kind == "BOOLEAN":
        return isinstance(value, bool)
    if kind == "INT":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "FLOAT":
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return True


def expand_prefixes(prompt: dict, now: datetime | None = None) -> None:
    """Fill in, in place, what the editor fills in when it queues: %date:yyyy-MM-dd% and %Node.widget% in file names."""
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


# ---------------------------------------------------------------------------------------------------------------
# ComfyUI's validation errors, in words


def explain_node_errors(node_errors: dict, object_info: dict, prompt: dict) -> list[str]:
    """A sentence for each fault in the `node_errors` of ComfyUI's /prompt: node, widget, value, what is allowed."""
    sentences = []
    for node_id in sorted(node_errors, key=id_order):
        node = prompt.get(node_id) or {"class_type": node_errors[node_id].get("class_type", "unknown")}
        label = prompt_label(node_id, node, object_info)
        specs = input_specs(schema_of(object_info, node))
        for error in node_errors[node_id].get("errors", []):
            extra = error.get("extra_info") or {}
            name = extra.get("input_name")
            sentences.append(f"{label}{_place(name, specs)}: {_fault(error, extra, name, specs, node)}")
    return list(dict.fromkeys(sentences))


def _place(name: str | None, specs: dict) -> str:
    if not name:
        return ""
    return f", {'widget' if name in specs and is_widget(*specs[name]) else 'input'} {name}"


def _fault(error: dict, extra: dict, name: str | None, specs: dict, node: dict) -> str:
    kind, options = specs.get(name, ("*", {}))
    value = extra.get("received_value", (node.get("inputs") or {}).get(name))
    shown = short(value)
    allowed = f"; allowed: {allowed_text(kind, options, value)}"
    fault = error.get("type")
    if fault == "value_smaller_than_min":
        return f"{shown} is too small{allowed}"
    if fault == "value_bigger_than_max":
        return f"{shown} is too large{allowed}"
    if fault == "value_not_in_list":
        return f"{shown} is not in the list{allowed}"
    if fault == "invalid_input_type":
        return f"{shown} is of the wrong type{allowed}"
    if fault == "required_input_missing":
        return (
            f"it is required and not given; {'allowed: ' if is_widget(kind, options) else 'it needs '}"
            + allowed_text(kind, options)
        )
    if fault == "return_type_mismatch":
        source = extra.get("linked_node") or ["?"]
        return f"it is linked to node {source[0]}, which gives {extra.get('received_type')}; it takes {kind}"
    details = str(error.get("details") or "")
    details = details[len(f"{name} - ") :] if name and details.startswith(f"{name} - ") else details
    return " - ".join(dict.fromkeys(text for text in (error.get("message"), details) if text and text != name)) + (
        f" (value {shown})" if name and value is not None and shown not in details else ""
    )
