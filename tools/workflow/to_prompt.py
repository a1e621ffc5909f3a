"""From either format to a prompt, with the converter of comfy-cli and with what it gets wrong put right."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .check_workflow import prompt_problems
from .converter_fixes import fix_node, fix_schemas, restore_values
from .engine_interface import BadWorkflow, short
from .flatten import ADD_ONS, EDITOR_ONLY_TYPES, flatten
from .graph import (
    BYPASSED,
    MUTED,
    definitions_of,
    editor_label,
    entries,
    in_use,
    input_name,
    links_of,
    needed_nodes,
    prompt_label,
    read_link,
    schema_of,
)
from .read_workflow import Workflow
from .values import fault
from .widgets import explain_node_errors, input_specs

CONVERTER_MISSING = (
    "{path} is in the editor's format, and the converter for it is not installed: run `{python} -m pip install "
    "comfy-cli`, or export the workflow with Workflow > Export (API) and run that file"
)


def to_prompt(
    workflow: Workflow,
    object_info: dict,
    unknown: Callable[[str], str],
    note: Callable[[str], None] = lambda text: None,
) -> dict:
    """Turn a workflow into the API format that an engine takes; the result is the caller's own copy.

    Takes: `workflow`, checked by `check_structure`; `object_info` of the engine; `unknown`, which gives a type the
    engine does not know the end of the sentence "node 7 (KSampler) ..."; `note`, told about nodes left out.
    Raises: `BadWorkflow` for unknown nodes, slots that do not exist and loops; `ModuleNotFoundError` (comfy_cli)
    when the editor's format is given and comfy-cli is not installed.
    """
    prompt = converted(workflow, object_info, unknown, note)
    problems = misfits(workflow, prompt, object_info) or unread_switches(prompt, object_info)
    if problems:
        raise BadWorkflow(problems)
    return prompt


def unread_switches(prompt: dict, object_info: dict) -> list[str]:
    """A sentence for each text that is saved for a switch and is neither on nor off: ComfyUI takes any for on."""
    errors = {}
    for node_id, name, _ in _text_switches(prompt, object_info):
        found = errors.setdefault(node_id, {"errors": []})
        found["errors"].append(fault("invalid_input_type", "Not a value of type BOOLEAN", name))
    return explain_node_errors(errors, object_info, prompt)


def _read_switches(prompt: dict, object_info: dict, note: Callable[[str], None]) -> None:
    """Make "true" and "false", or what the switch itself calls them, a switch's value, in place."""
    for node_id, name, options in _text_switches(prompt, object_info):
        node = prompt[node_id]
        text = node["inputs"][name].strip().lower()
        on, off = (str(options.get(key, "")).lower() for key in ("label_on", "label_off"))
        if text and text in ("true", "false", on, off):
            node["inputs"][name] = text in ("true", on)
            shown = json.dumps(node["inputs"][name])
            note(f"{prompt_label(node_id, node, object_info)}, widget {name}: the text {text} is taken as {shown}")


def _text_switches(prompt: dict, object_info: dict) -> Iterator[tuple[str, str, dict]]:
    """Of each switch whose value is text: its node's id, its name and its options."""
    for node_id, node in prompt.items():
        for name, (kind, options) in input_specs(schema_of(object_info, node)).items():
            if kind == "BOOLEAN" and isinstance(node["inputs"].get(name), str):
                yield node_id, name, options


def misfits(workflow: Workflow, prompt: dict, object_info: dict) -> list[str]:
    """What keeps the nodes of a converted prompt from running together: links, slots, loops, nothing to show."""
    problems = prompt_problems(prompt) + _slot_problems(prompt, object_info)
    if workflow.is_editor and not problems:
        problems = _muted_sources(workflow.data, prompt, object_info)
    if not problems and not any(schema_of(object_info, node).get("output_node") for node in prompt.values()):
        problems = ["it has no active node that saves or shows anything, such as SaveImage"]
    return problems


def converted(
    workflow: Workflow, object_info: dict, unknown: Callable[[str], str], note: Callable[[str], None]
) -> dict:
    """As `to_prompt`, whether the nodes fit together or not. Raises: `BadWorkflow` for unknown nodes."""
    strangers = find_unknown(workflow, object_info)
    for stranger in strangers:
        if not stranger.takes_part:
            note(stranger.sentence(unknown))
    problems = [stranger.sentence(unknown) for stranger in strangers if stranger.takes_part]
    if problems:
        raise BadWorkflow(problems)
    if workflow.is_editor:
        prompt = _convert(workflow.data, object_info)
    else:
        prompt = json.loads(json.dumps(workflow.data))
        for node in prompt.values():
            node.setdefault("inputs", {})
            for name, value in node["inputs"].items():  # ids typed as numbers, as people do by hand
                is_pair = isinstance(value, list) and len(value) == 2
                if is_pair and isinstance(value[0], int) and str(value[0]) in prompt:
                    node["inputs"][name] = [str(value[0]), value[1]]
    _read_switches(prompt, object_info, note)
    return prompt


@dataclass(frozen=True)
class Unknown:
    """A node of a type that the engine does not know: `key` is its id in a prompt, `node` its entry in the file."""

    key: str
    node: dict
    label: str
    why_not: str = ""  # why a run does not need it; empty if it does

    @property
    def takes_part(self) -> bool:
        return not self.why_not

    def sentence(self, unknown: Callable[[str], str]) -> str:
        """The message about this node; `unknown` as in `to_prompt`."""
        if "class_type" in self.node:
            return f"{self.label} {unknown(self.node['class_type'])}"
        if self.node["type"] in EDITOR_ONLY_TYPES:
            return f"{self.label} is left out: {self.why_not}"
        return f"{self.label} {self.why_not}{why_unknown(self.node, unknown)}"


def find_unknown(workflow: Workflow, object_info: dict) -> list[Unknown]:
    """The nodes of unknown type, except muted ones."""
    if not workflow.is_editor:
        strange = [(key, node) for key, node in workflow.data.items() if node["class_type"] not in object_info]
        return [Unknown(key, node, prompt_label(key, node)) for key, node in strange]
    definitions = definitions_of(workflow.data)
    known = {*object_info, *definitions, *EDITOR_ONLY_TYPES} - ADD_ONS
    found = []
    for graph in (workflow.data, *_used(workflow.data, definitions)):
        place = "" if graph is workflow.data else f' in subgraph "{graph.get("name")}"'
        wired = _wired(graph)
        for node in entries(graph, "nodes"):
            if node["type"] in known or node.get("mode") == MUTED:
                continue
            why_not = "" if str(node["id"]) in wired else "is left out: it is connected to nothing, and "
            if node["type"] in ADD_ONS:
                why_not = "it works only in the editor"
            elif node.get("mode") == BYPASSED:
                why_not = "is left out: it is bypassed, and "
            found.append(Unknown(str(node["id"]), node, editor_label(node) + place, why_not))
    return found


def _used(graph: dict, definitions: dict[str, dict]) -> list[dict]:
    """The subgraph definitions that active nodes of a graph use, and those that these use in turn."""
    found: dict[str, dict] = {}
    todo = [graph]
    while todo:
        for node in entries(todo.pop(), "nodes"):
            kind = node.get("type")
            if kind in definitions and kind not in found and node.get("mode") not in (MUTED, BYPASSED):
                found[kind] = definitions[kind]
                todo.append(definitions[kind])
    return list(found.values())


def _wired(graph: dict) -> set[str]:
    """The ids of the nodes at the ends of a graph's links."""
    nodes = {str(node["id"]): node for node in entries(graph, "nodes")}
    links = [link for link in map(read_link, entries(graph, "links")) if link and in_use(link, nodes)]
    return {str(end) for link in links for end in (link.source, link.target)}


def why_unknown(node: dict, unknown: Callable[[str], str]) -> str:
    """The end of the sentence "node 7 (KSampler) ..." for a node of either format whose type is not known."""
    kind = node["type"]
    if kind.startswith(("workflow>", "workflow/")):
        return (
            "is a group node of the old kind; open the workflow in the editor, convert it to a subgraph and save again"
        )
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", kind):
        return "is a subgraph whose definition is missing from the file; save the workflow again in the editor"
    properties = node.get("properties") if isinstance(node.get("properties"), dict) else {}
    source = properties.get("aux_id") or properties.get("cnr_id")
    hint = f" (the file says that it comes from {source})" if source and source != "comfy-core" else ""
    return unknown(kind) + hint


def _convert(data: dict, object_info: dict) -> dict:
    with _comfy_cli_without_traces():
        from comfy_cli.workflow_to_api import WorkflowConversionError, convert_ui_to_api

    graph, values = flatten(data, object_info)
    schemas = fix_schemas(object_info, {node["type"] for node in graph["nodes"]})
    hidden = {}
    for index, node in enumerate(graph["nodes"]):
        graph["nodes"][index], hidden[node["id"]] = fix_node(node, schemas[node["type"]])
    logger = logging.getLogger("comfy_cli.workflow_to_api")
    heard = _Listener()
    logger.addHandler(heard)
    propagate, logger.propagate = logger.propagate, False  # it logs tracebacks; ours are sentences
    try:
        prompt = convert_ui_to_api(graph, schemas)
    except WorkflowConversionError as error:
        raise BadWorkflow([str(error)]) from error
    except Exception as error:  # it stumbles over malformed nodes in many ways; none of them is the user's to read
        raise BadWorkflow([f"comfy-cli's converter cannot read it ({type(error).__name__}: {error})"]) from error
    finally:
        logger.removeHandler(heard)
        logger.propagate = propagate
    problems = list(heard.errors)
    for node in graph["nodes"]:
        if node["id"] not in prompt and not problems:
            problems.append(f"{editor_label(node)} was left out by comfy-cli's converter, which cannot convert it")
    if problems:
        raise BadWorkflow(problems)
    restore_values(prompt, hidden, values)
    return prompt


@contextlib.contextmanager
def _comfy_cli_without_traces() -> Iterator[None]:
    """Importing comfy-cli makes a folder for its settings in the user's home; in this block it makes one elsewhere."""
    from comfy_cli import constants

    with tempfile.TemporaryDirectory(prefix="maskwright-comfy-cli-") as folder:
        real = getattr(constants, "DEFAULT_CONFIG", {})
        constants.DEFAULT_CONFIG = dict.fromkeys(real, folder)
        try:
            yield
        finally:
            constants.DEFAULT_CONFIG = real


class _Listener(logging.Handler):
    """Collects what the converter skipped: it logs an error for a node it could not convert, and goes on."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        cause = f" ({record.exc_info[1]})" if record.exc_info else ""
        self.errors.append(f"comfy-cli's converter: {record.getMessage()}{cause}")


def _slot_problems(prompt: dict, object_info: dict) -> list[str]:
    problems = []
    for node_id, node in prompt.items():
        for name, (source, slot) in links_of(node):
            outputs = schema_of(object_info, prompt.get(source, {})).get("output")
            if outputs is not None and not 0 <= slot < len(outputs):
                label = prompt_label(source, prompt[source], object_info)
                problems.append(
                    f"{prompt_label(node_id, node, object_info)}: input {name} is linked to output {short(slot)} of "
                    f"{label}, which has {len(outputs)} (numbered from 0)"
                )
    return problems


def _muted_sources(data: dict, prompt: dict, object_info: dict) -> list[str]:
    """Required inputs that are wired to a muted node: the prompt cannot show why they are empty, the file can."""
    nodes = {str(node["id"]): node for node in data["nodes"]}
    needed = needed_nodes(prompt, object_info)
    problems = []
    for link in filter(None, map(read_link, data["links"])):
        source, target = nodes.get(str(link.source), {}), nodes.get(str(link.target), {})
        if source.get("mode") != MUTED or str(link.target) not in needed or not in_use(link, nodes):
            continue
        name = input_name(target, link.target_slot)
        required = (schema_of(object_info, prompt[str(link.target)]).get("input") or {}).get("required") or {}
        if name in required and name not in prompt[str(link.target)]["inputs"]:
            problems.append(f"{editor_label(target)}: input {name} comes from {editor_label(source)}, which is muted")
    return problems
