"""Read saved workflow files, check them, and turn them into the prompt that an engine runs.

Two formats are in use: the editor's (`nodes` and `links`, what "Save" writes) and the API format (`{id: {class_type,
inputs}}`, what "Export (API)" writes and engines take). comfy-cli's converter leads from one to the other; it leaves
out what it does not understand, so everything is checked before it, and its result after it.

What engines give back (`RunResult`, `NodeFailed`) is defined here as well, so that both speak one language.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

MUTED, BYPASSED = 2, 4  # the editor's node modes that matter here; every other one runs
SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = -10, -20  # ids of the two ends inside a subgraph definition
EDITOR_ONLY_TYPES = frozenset({"Note", "MarkdownNote", "PrimitiveNode", "GetNode", "SetNode", "Reroute"})
CONVERTER_MISSING = (
    "{path} is in the editor's format, and the converter for it is not installed: run `{python} -m pip install "
    "comfy-cli`, or export the workflow with Workflow > Export (API) and run that file"
)
MAX_SHOWN = 20  # entries of a list in an error
MAX_DEPTH = 10  # of subgraphs in subgraphs, the converter's own bound


class WorkflowError(Exception):
    """The workflow, or what was asked of it, is wrong. The text names the place and the remedy."""


class BadWorkflow(WorkflowError):
    """A workflow with one or more faults; `problems` holds a sentence for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        head = "the workflow cannot run"
        if len(self.problems) == 1:
            super().__init__(f"{head}: {self.problems[0]}")
        else:
            super().__init__(
                f"{head}, for {len(self.problems)} reasons:\n" + "\n".join(f"  - {p}" for p in self.problems)
            )


# ---------------------------------------------------------------------------------------------------------------
# What an engine is told, and gives back

Progress = Callable[[str, "int | None", "int | None"], None]
"""Told what goes on: a text, and where there is a count, how much is done of how much."""


class NodeFailed(Exception):
    """A node raised an error while it ran. `trace` is the traceback's text, for those who want it."""

    def __init__(self, node_id: str, node_type: str, message: str, error_type: str = "", trace: str = "") -> None:
        self.node_id, self.node_type, self.message, self.trace = node_id, node_type, message, trace
        # This pack's own errors are whole sentences for the user; any other needs its type to make sense.
        name = error_type.rsplit(".", 1)[-1]
        own = ".core.errors." in f".{error_type}"
        text = message or "no message"
        super().__init__(f"node {node_id} ({node_type}) failed: {text if own or not name else f'{name}: {text}'}")


@dataclass(frozen=True)
class OutputFile:
    """One file that a node wrote: which node, where, and whether it is a "output" or only a "temp" preview."""

    node_id: str
    path: Path
    kind: str
    subfolder: str


@dataclass(frozen=True)
class RunResult:
    """What a run gave: each node's `ui` data by node id, and the files among it, in order of node id."""

    outputs: dict[str, dict]
    files: list[OutputFile] = field(default_factory=list)


def output_files(outputs: dict[str, dict], base: Path) -> list[OutputFile]:
    """The files named in nodes' `ui` data. Takes: that data by node id; the folder that holds output and temp."""
    files = []
    for node_id in sorted(outputs, key=id_order):
        for items in outputs[node_id].values():
            for item in items if isinstance(items, (list, tuple)) else []:
                if isinstance(item, dict) and item.get("filename"):
                    kind, subfolder = item.get("type", "output"), item.get("subfolder", "")
                    files.append(OutputFile(node_id, base / kind / subfolder / item["filename"], kind, subfolder))
    return files


def id_order(node_id: str) -> tuple:
    """A key that sorts node ids as people count ("2" before "10", "10:3" after "10"), whatever else they hold."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in str(node_id).split(":"))


# ---------------------------------------------------------------------------------------------------------------
# Reading


@dataclass(frozen=True)
class Workflow:
    """A workflow as read: `data`, and whether it is in the editor's format or the API format."""

    path: Path
    data: dict
    is_editor: bool


def read_workflow(path: Path) -> Workflow:
    """Read a workflow file in either format, or the workflow inside a PNG that ComfyUI saved.

    Raises: `WorkflowError` when there is no such file, it is cut short, is not JSON, or holds no workflow; the text
    names the line and column where there is one.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise WorkflowError(f"cannot read the workflow file {path}: {error.strerror or error}") from None
    if raw.startswith(b"\x89PNG"):
        return _from_png(path, raw)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkflowError(f"{path} is not a workflow file: not text (byte {error.start} is not UTF-8)") from None
    return _recognise(path, _parse(path, text))


def _parse(path: Path, text: str) -> object:
    if not text.strip():
        raise WorkflowError(f"{path} is empty")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise WorkflowError(f"{path} is cut short: it ends in the middle of the JSON, at {where}") from None
        raise WorkflowError(f"{path} is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise WorkflowError(f"{path} is not a workflow: its JSON is nested too deeply") from None


def _recognise(path: Path, data: object) -> Workflow:
    if not isinstance(data, dict):
        raise WorkflowError(f"{path} holds no workflow: it is a JSON {_json_kind(data)}, not an object")
    if isinstance(data.get("prompt"), dict) and _is_prompt(data["prompt"]):
        data = data["prompt"]  # the body of a call to /prompt
    if _is_prompt(data):
        return Workflow(path, data, is_editor=False)
    if "nodes" in data or "links" in data:
        for key in ("nodes", "links"):
            if not isinstance(data.get(key), list):
                found = f"{key} is a JSON {_json_kind(data[key])}" if key in data else f"it has no {key}"
                raise WorkflowError(f"{path} is in the editor's format, but {found}; a list is needed")
        return Workflow(path, data, is_editor=True)
    keys = ", ".join(list(map(str, data))[:5]) or "none"
    raise WorkflowError(
        f"{path} holds no workflow: neither the editor's nodes and links, nor nodes with a class_type (keys: {keys})"
    )


def _is_prompt(data: dict) -> bool:
    return "nodes" not in data and any(isinstance(node, dict) and "class_type" in node for node in data.values())


def _json_kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {dict: "object", list: "list", str: "string", bool: "true or false", int: "number", float: "number"}
    return kinds.get(type(value), type(value).__name__)


def _from_png(path: Path, raw: bytes) -> Workflow:
    """The editor's file is preferred: it holds titles and notes, and a prompt may hold values long since replaced."""
    texts = dict(_png_texts(raw))
    for key in ("workflow", "prompt"):
        if key in texts:
            return _recognise(path, _parse(path, texts[key]))
    raise WorkflowError(f"{path} is a picture without a workflow in it (ComfyUI's SaveImage writes one)")


def _png_texts(raw: bytes) -> Iterator[tuple[str, str]]:
    at = 8
    while at + 8 <= len(raw):
        length, kind = struct.unpack(">I4s", raw[at : at + 8])
        chunk = raw[at + 8 : at + 8 + length]
        at += length + 12
        if kind == b"tEXt":
            key, _, text = chunk.partition(b"\0")
            yield key.decode("latin-1"), text.decode("latin-1")
        elif kind == b"iTXt":
            key, _, rest = chunk.partition(b"\0")
            compressed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
            yield key.decode("latin-1"), (zlib.decompress(text) if compressed else text).decode("utf-8", "replace")


# ---------------------------------------------------------------------------------------------------------------
# Checks that need no engine: links and loops


def check_structure(workflow: Workflow) -> None:
    """Check that the nodes and links of a file fit together. Raises: `BadWorkflow` naming every fault."""
    problems = _editor_problems(workflow.data) if workflow.is_editor else _prompt_problems(workflow.data)
    if problems:
        raise BadWorkflow(problems)


def _prompt_problems(prompt: dict) -> list[str]:
    problems = []
    for node_id, node in prompt.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            problems.append(f"node {node_id} has no class_type")
        elif not isinstance(node.get("inputs", {}), dict):
            problems.append(f"{_prompt_label(node_id, node)}: inputs is not an object")
    if problems:
        return problems
    edges = []
    for node_id, node in prompt.items():
        for name, (source, _slot) in links_of(node):
            edges.append((source, node_id))
            if source not in prompt:
                problems.append(
                    f"{_prompt_label(node_id, node)}: input {name} comes from node {source}, which does not exist"
                )
    return problems or _loop_problems(edges)


def links_of(node: dict) -> list[tuple[str, tuple[str, int]]]:
    """The linked inputs of a prompt's node: [(input name, (source id, source slot)), ...]."""
    return [
        (name, (str(value[0]), value[1]))
        for name, value in (node.get("inputs") or {}).items()
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)
    ]


def _editor_problems(data: dict) -> list[str]:
    problems = _graph_problems(data, "")
    for definition in _definitions(data).values():
        problems += _graph_problems(definition, f' in subgraph "{definition.get("name", definition["id"])}"')
    return problems


def _definitions(data: dict) -> dict[str, dict]:
    holder = data.get("definitions")
    found = _entries(holder, "subgraphs") if isinstance(holder, dict) else []
    return {sub["id"]: sub for sub in found if isinstance(sub, dict) and isinstance(sub.get("id"), str)}


def _graph_problems(graph: dict, place: str) -> list[str]:
    nodes: dict[str, dict] = {}
    problems = []
    for node in _entries(graph, "nodes"):
        if not isinstance(node, dict) or node.get("id") is None:
            problems.append(f"an entry of nodes{place} is not a node with an id: {_short(node)}")
        elif not isinstance(node.get("type"), str):
            problems.append(f"node {node['id']}{place} has no type")
        elif str(node["id"]) in nodes:
            problems.append(f"two nodes{place} have the id {node['id']}")
        else:
            nodes[str(node["id"])] = node
    links: dict[object, _Link] = {}
    for entry in _entries(graph, "links"):
        link = _read_link(entry)
        if link is None:
            problems.append(f"an entry of links{place} is not a link: {_short(entry)}")
        else:
            links[link.id] = link
    if not problems:
        problems = [text for link in links.values() for text in _link_faults(link, nodes, place)]
        problems += _dangling_inputs(nodes, links, place)
    if problems:
        return problems
    alive = {node_id for node_id, node in nodes.items() if node.get("mode") != MUTED}
    ends = [(str(link.source), str(link.target)) for link in links.values() if _in_use(link, nodes)]
    return _loop_problems([(a, b) for a, b in ends if a in alive and b in alive], place)


@dataclass(frozen=True)
class _Link:
    id: object
    source: object
    source_slot: object
    target: object
    target_slot: object
    type: object

    def __str__(self) -> str:
        ends = f"node {self.source} output {self.source_slot} -> node {self.target} input {self.target_slot}"
        return f"link {self.id} ({ends})"


def _read_link(entry: object) -> _Link | None:
    """A link in the older form, a list of six, or in the newer one, an object; None when it is neither."""
    if isinstance(entry, list) and len(entry) >= 5:
        found = _Link(*entry[:5], entry[5] if len(entry) > 5 else "*")
    elif isinstance(entry, dict) and {"id", "origin_id", "origin_slot", "target_id", "target_slot"} <= entry.keys():
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
        found = _Link(*(entry[key] for key in keys), entry.get("type", "*"))
    else:
        return None
    return found if isinstance(found.id, (int, str)) else None


def _in_use(link: _Link, nodes: dict[str, dict]) -> bool:
    """False for a leftover that neither end knows of: the editor ignores these, and leaves some in its files."""
    for socket in _sockets(nodes.get(str(link.target)), "inputs"):
        if socket.get("link") == link.id:
            return True
    return any(link.id in _entries(socket, "links") for socket in _sockets(nodes.get(str(link.source)), "outputs"))


def _sockets(node: dict | None, which: str) -> list[dict]:
    return [socket for socket in _entries(node or {}, which) if isinstance(socket, dict)]


def _input_name(node: dict, slot: object) -> str | None:
    socket = _entries(node, "inputs")[slot] if _has_slot(node, "inputs", slot) else None
    name = socket.get("name") if isinstance(socket, dict) else None
    return name if isinstance(name, str) else None


def _entries(holder: dict, key: str) -> list:
    """The list under a key, or an empty one where there is something else: files are edited by hand."""
    found = holder.get(key)
    return found if isinstance(found, list) else []


def _link_faults(link: _Link, nodes: dict[str, dict], place: str) -> list[str]:
    target = nodes.get(str(link.target))
    if not _in_use(link, nodes) or (target or {}).get("mode") == MUTED:
        return []
    faults = []
    ends = ((link.source, link.source_slot, "output"), (link.target, link.target_slot, "input"))
    for node_id, slot, which in ends:
        if node_id in (SUBGRAPH_INPUT, SUBGRAPH_OUTPUT) and place:
            continue
        node = nodes.get(str(node_id))
        if node is None:
            faults.append(f"{link}{place} is broken: there is no node {node_id}")
        elif not _has_slot(node, f"{which}s", slot):
            faults.append(f"{link}{place} is broken: {_node_label(node)} has no {which} {slot}")
    return faults


def _has_slot(node: dict, which: str, slot: object) -> bool:
    return isinstance(slot, int) and 0 <= slot < len(_entries(node, which))


def _dangling_inputs(nodes: dict[str, dict], links: dict[object, _Link], place: str) -> list[str]:
    return [
        f"{_node_label(node)}{place}: input {socket.get('name')} names link {socket['link']}, which does not exist"
        for node in nodes.values()
        if node.get("mode") != MUTED
        for socket in _sockets(node, "inputs")
        if isinstance(socket.get("link"), (int, str)) and socket["link"] not in links
    ]


def _loop_problems(edges: list[tuple[str, str]], place: str = "") -> list[str]:
    loop = _find_loop(edges)
    return (
        [f"the nodes {' -> '.join(loop)}{place} feed each other in a loop, so none of them can run first"]
        if loop
        else []
    )


def _find_loop(edges: list[tuple[str, str]]) -> list[str]:
    """A loop in the graph as the ids along it, the first again at the end; empty when there is none."""
    onward: dict[str, list[str]] = {}
    for source, target in edges:
        onward.setdefault(source, []).append(target)
    done: set[str] = set()
    for start in onward:
        path, on_path = [], set()
        stack = [(start, False)]  # not recursive: graphs of thousands of nodes in a row exist
        while stack:
            node, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.discard(node)
                done.add(node)
            elif node in on_path:
                return [*path[path.index(node) :], node]
            elif node not in done:
                path.append(node)
                on_path.add(node)
                stack.append((node, True))
                stack.extend((after, False) for after in onward.get(node, []))
    return []


def _node_label(node: dict) -> str:
    title = node.get("title")
    kind = node.get("type", "unknown")
    return f"node {node.get('id')} ({kind}{_title(title, kind)})"


def _prompt_label(node_id: str, node: dict, object_info: dict | None = None) -> str:
    kind = node.get("class_type", "unknown")
    title = _saved_title(node)
    shown = ((object_info or {}).get(kind) or {}).get("display_name")
    return f"node {node_id} ({kind}{_title(None if title == shown else title, kind)})"


def _saved_title(node: dict) -> str | None:
    """The title that a prompt's node was saved with, or None."""
    meta = node.get("_meta")
    return meta.get("title") if isinstance(meta, dict) else None


def _title(title: object, kind: str) -> str:
    return f' "{title}"' if title and title != kind else ""


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


# ---------------------------------------------------------------------------------------------------------------
# From either format to a prompt


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
    if workflow.is_editor:
        data = _for_converter(workflow.data)
        _drop_or_refuse_unknown(data, object_info, unknown, note)
        prompt = _convert(data, object_info)
    else:
        prompt = json.loads(json.dumps(workflow.data))
        for node in prompt.values():
            node.setdefault("inputs", {})
            for name, value in node["inputs"].items():  # ids typed as numbers, as people do by hand
                if (
                    isinstance(value, list)
                    and len(value) == 2
                    and isinstance(value[0], int)
                    and str(value[0]) in prompt
                ):
                    node["inputs"][name] = [str(value[0]), value[1]]
        strange = [(key, node) for key, node in prompt.items() if node["class_type"] not in object_info]
        if strange:
            raise BadWorkflow(f"{_prompt_label(key, node)} {unknown(node['class_type'])}" for key, node in strange)
    problems = _prompt_problems(prompt) + _slot_problems(prompt, object_info)
    if workflow.is_editor and not problems:
        problems = _muted_sources(data, prompt, object_info)
    if problems:
        raise BadWorkflow(problems)
    if not any(_schema(object_info, node).get("output_node") for node in prompt.values()):
        raise BadWorkflow(["it has no active node that saves or shows anything, such as SaveImage"])
    return prompt


def _for_converter(data: dict) -> dict:
    """A copy in the older form that the converter reads: links as lists of six."""
    copy = json.loads(json.dumps(data))
    links = [_read_link(entry) for entry in copy["links"]]
    copy["links"] = [[k.id, k.source, k.source_slot, k.target, k.target_slot, k.type] for k in links]
    return copy


def _drop_or_refuse_unknown(
    data: dict, object_info: dict, unknown: Callable[[str], str], note: Callable[[str], None]
) -> None:
    """Refuse active nodes of unknown type, but for those wired to nothing: labels and switches of editor add-ons."""
    definitions = _definitions(data)
    problems = []
    for graph, place in [(data, ""), *((sub, f' in subgraph "{sub.get("name")}"') for sub in _used(data, definitions))]:
        kept = []
        for node in _entries(graph, "nodes"):
            known = node["type"] in object_info or node["type"] in EDITOR_ONLY_TYPES or node["type"] in definitions
            if known or node.get("mode") in (MUTED, BYPASSED):
                kept.append(node)
            elif not _is_wired(node):
                note(f"{_node_label(node)}{place} is left out: it is connected to nothing, and {unknown(node['type'])}")
            else:
                problems.append(f"{_node_label(node)}{place} {_why_unknown(node, unknown)}")
        graph["nodes"] = kept
    if problems:
        raise BadWorkflow(problems)


def _used(graph: dict, definitions: dict[str, dict]) -> list[dict]:
    """The subgraph definitions that active nodes of a graph use, and those that these use in turn."""
    found: dict[str, dict] = {}
    todo = [graph]
    while todo:
        for node in _entries(todo.pop(), "nodes"):
            kind = node.get("type")
            if kind in definitions and kind not in found and node.get("mode") not in (MUTED, BYPASSED):
                found[kind] = definitions[kind]
                todo.append(definitions[kind])
    return list(found.values())


def _is_wired(node: dict) -> bool:
    return any(socket.get("link") is not None for socket in _sockets(node, "inputs")) or any(
        _entries(socket, "links") for socket in _sockets(node, "outputs")
    )


def _why_unknown(node: dict, unknown: Callable[[str], str]) -> str:
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
    from comfy_cli.workflow_to_api import WorkflowConversionError, convert_ui_to_api

    logger = logging.getLogger("comfy_cli.workflow_to_api")
    heard = _Listener()
    logger.addHandler(heard)
    propagate, logger.propagate = logger.propagate, False  # it logs tracebacks; ours are sentences
    try:
        prompt = convert_ui_to_api(data, object_info)
    except WorkflowConversionError as error:
        raise BadWorkflow([str(error)]) from error
    except Exception as error:  # it stumbles over malformed nodes in many ways; none of them is the user's to read
        raise BadWorkflow([f"comfy-cli's converter cannot read it ({type(error).__name__}: {error})"]) from error
    finally:
        logger.removeHandler(heard)
        logger.propagate = propagate
    problems = list(heard.errors)
    for node in data["nodes"]:
        active = node.get("mode") not in (MUTED, BYPASSED) and node["type"] in object_info
        if active and str(node["id"]) not in prompt and not problems:
            problems.append(f"{_node_label(node)} was left out by comfy-cli's converter, which cannot convert it")
    if problems:
        raise BadWorkflow(problems)
    _let_primitives_rule(data, prompt)
    return prompt


def _let_primitives_rule(data: dict, prompt: dict) -> None:
    """Give widgets fed by a PrimitiveNode its value, in place, as the editor does when it queues.

    The converter prefers the value saved with the fed node, which is out of date when the file was saved, or edited
    by hand, after the primitive's value had changed.
    """
    definitions = _definitions(data)
    todo = [(data, "", 0)]
    while todo:
        graph, prefix, depth = todo.pop()
        nodes = {str(node["id"]): node for node in _entries(graph, "nodes")}
        for link in filter(None, map(_read_link, _entries(graph, "links"))):
            source, target = nodes.get(str(link.source), {}), nodes.get(str(link.target), {})
            values = source.get("widgets_values")
            fed = prompt.get(f"{prefix}{link.target}")
            is_primitive = source.get("type") == "PrimitiveNode" and isinstance(values, list) and values
            if is_primitive and fed and _in_use(link, nodes):
                name = _input_name(target, link.target_slot)
                if name in fed["inputs"]:
                    fed["inputs"][name] = {"__value__": values[0]} if isinstance(values[0], list) else values[0]
        if depth < MAX_DEPTH:
            inner = [
                (definitions[n["type"]], f"{prefix}{n['id']}:") for n in nodes.values() if n["type"] in definitions
            ]
            todo += [(definition, path, depth + 1) for definition, path in inner]


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
            outputs = _schema(object_info, prompt.get(source, {})).get("output")
            if outputs is not None and not 0 <= slot < len(outputs):
                label = _prompt_label(source, prompt[source], object_info)
                problems.append(
                    f"{_prompt_label(node_id, node, object_info)}: input {name} is linked to output {slot} of "
                    f"{label}, which has {len(outputs)} (numbered from 0)"
                )
    return problems


def _muted_sources(data: dict, prompt: dict, object_info: dict) -> list[str]:
    """Required inputs that are wired to a muted node: the prompt cannot show why they are empty, the file can."""
    nodes = {str(node["id"]): node for node in data["nodes"]}
    needed = needed_nodes(prompt, object_info)
    problems = []
    for link in filter(None, map(_read_link, data["links"])):
        source, target = nodes.get(str(link.source), {}), nodes.get(str(link.target), {})
        if source.get("mode") != MUTED or str(link.target) not in needed or not _in_use(link, nodes):
            continue
        name = _input_name(target, link.target_slot)
        required = (_schema(object_info, prompt[str(link.target)]).get("input") or {}).get("required") or {}
        if name in required and name not in prompt[str(link.target)]["inputs"]:
            problems.append(f"{_node_label(target)}: input {name} comes from {_node_label(source)}, which is muted")
    return problems


def needed_nodes(prompt: dict, object_info: dict) -> set[str]:
    """The ids of the nodes that take part: the output nodes, and all that these draw on."""
    todo = [key for key, node in prompt.items() if _schema(object_info, node).get("output_node")]
    needed: set[str] = set()
    while todo:
        node_id = todo.pop()
        if node_id not in needed and node_id in prompt:
            needed.add(node_id)
            todo += [source for _name, (source, _slot) in links_of(prompt[node_id])]
    return needed


def _schema(object_info: dict, node: dict) -> dict:
    return object_info.get(node.get("class_type")) or {}


# ---------------------------------------------------------------------------------------------------------------
# Widgets: what a schema says of them, and --set


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


def apply_settings(prompt: dict, settings: Iterable[str], object_info: dict) -> None:
    """Carry out `--set NODE.WIDGET=VALUE` on a prompt, in place.

    NODE is an id, or a type or title that only one node has. VALUE is read as JSON where it is JSON, else as text;
    where the widget takes text, or lists the text as a choice, it is taken as it stands. Raises: `WorkflowError`
    for a setting that cannot be read, and for an unknown node or widget, listing those there are.
    """
    for setting in settings:
        target, equals, text = setting.partition("=")
        name, dot, widget = target.rpartition(".")
        if not equals or not dot or not name or not widget:
            raise WorkflowError(f"--set {setting}: write it as NODE.WIDGET=VALUE, for example 4.kernel_size=5")
        node_id = _find_node(prompt, name, setting, object_info)
        kind, options = _find_widget(prompt, node_id, widget, setting, object_info)
        prompt[node_id]["inputs"][widget] = _value(text, kind, options)


def _find_node(prompt: dict, name: str, setting: str, object_info: dict) -> str:
    if name in prompt:
        return name
    by_type = [key for key, node in prompt.items() if node["class_type"] == name]
    by_title = [key for key, node in prompt.items() if _saved_title(node) == name]
    found = by_type or by_title
    if len(found) == 1:
        return found[0]
    if found:
        raise WorkflowError(f"--set {setting}: {len(found)} nodes are called {name}; take an id: {', '.join(found)}")
    there = "; ".join(_prompt_label(key, prompt[key], object_info) for key in sorted(prompt, key=id_order))
    raise WorkflowError(f"--set {setting}: no node has the id, type or title {name}. There are: {there}")


def _find_widget(prompt: dict, node_id: str, widget: str, setting: str, object_info: dict) -> tuple[str, dict]:
    node = prompt[node_id]
    specs = input_specs(_schema(object_info, node))
    if widget in specs and is_widget(*specs[widget]):
        return specs[widget]
    if widget not in specs and widget in node["inputs"]:
        return "*", {}  # a sub-widget that exists only for the present choice of another
    there = ", ".join(name for name, spec in specs.items() if is_widget(*spec)) or "none"
    label = _prompt_label(node_id, node, object_info)
    kind = f"is a link that carries {specs[widget][0]}, not a widget" if widget in specs else "is not there"
    raise WorkflowError(f"--set {setting}: {widget} {kind} in {label}. Its widgets: {there}")


def _value(text: str, kind: str, options: dict) -> object:
    if kind == "STRING" or (kind == "COMBO" and text in (options.get("options") or [])):
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    # A bare list in a prompt is a link; ComfyUI takes a list that is a value in this wrapping.
    return {"__value__": value} if isinstance(value, list) else value


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
        if name in (node["class_type"], _saved_title(node)) and widget in node["inputs"]:
            return re.sub(r'[/?<>\\:*|"\x00-\x1f\x7f]', "_", str(node["inputs"][widget]))
    return match.group()


# ---------------------------------------------------------------------------------------------------------------
# Input files


@dataclass(frozen=True)
class FileWidget:
    """A widget that names a file in the input folder, such as LoadImage's."""

    node_id: str
    widget: str
    value: str
    label: str


def file_widgets(prompt: dict, object_info: dict) -> list[FileWidget]:
    """The file widgets of the nodes that take part, in order of node id."""
    found = []
    for node_id in sorted(needed_nodes(prompt, object_info), key=id_order):
        node = prompt[node_id]
        for name, (_kind, options) in input_specs(_schema(object_info, node)).items():
            value = node["inputs"].get(name)
            if isinstance(value, str) and any(key.endswith("_upload") and options[key] for key in options):
                found.append(FileWidget(node_id, name, value, _prompt_label(node_id, node, object_info)))
    return found


def assign_inputs(prompt: dict, files: list[Path], names: list[str], object_info: dict) -> None:
    """Put the files given with `--input` into the file widgets of a prompt, in place.

    Takes: `files`, as the user gave them; `names`, what each is called in the input folder. A widget whose saved
    file name is that of a given file takes that file. The other files go to the other widgets in order of node id:
    one each when there are as many, or one for each distinct file name when there are as many of those.
    Raises: `WorkflowError` when neither fits, listing the widgets.
    """
    widgets = file_widgets(prompt, object_info)
    left_files = list(range(len(files)))
    left_widgets = []
    for place in widgets:
        wanted = PurePosixPath(_without_mark(place.value)).name
        same = next((index for index, file in enumerate(files) if file.name == wanted), None)
        if same is None:
            left_widgets.append(place)
        else:
            prompt[place.node_id]["inputs"][place.widget] = names[same]
            left_files = [index for index in left_files if index != same]
    if not left_files:
        return
    saved = list(dict.fromkeys(place.value for place in left_widgets))
    if len(left_files) == len(left_widgets):
        chosen = dict(zip(left_widgets, left_files, strict=True))
    elif len(left_files) == len(saved):
        chosen = {place: left_files[saved.index(place.value)] for place in left_widgets}
    else:
        raise WorkflowError(_misfit(files, left_files, left_widgets))
    for place, index in chosen.items():
        prompt[place.node_id]["inputs"][place.widget] = names[index]


def _misfit(files: list[Path], left_files: list[int], left_widgets: list[FileWidget]) -> str:
    names = ", ".join(files[index].name for index in left_files)
    if not left_widgets:
        return f"--input: there is no node left that loads a file, so nothing can take {names}"
    there = "; ".join(f"{place.label} {place.widget}={place.value}" for place in left_widgets)
    return (
        f"--input: {len(left_files)} file(s) ({names}) for {len(left_widgets)} nodes that load a file: {there}. "
        f"Give as many files as nodes, or name a node's file with --set, for example "
        f"--set {left_widgets[0].node_id}.{left_widgets[0].widget}={files[left_files[0]].name}"
    )


def _without_mark(value: str) -> str:
    """A file widget's value without the folder mark that the editor may put behind it."""
    return re.sub(r" \[(input|output|temp)\]$", "", value)


def provide_files(prompt: dict, object_info: dict, folder: Path, elsewhere: Iterable[Path]) -> None:
    """See that every file that a prompt names lies in the input folder, copying it from `elsewhere` where need be.

    Takes: `folder`, the engine's input folder; `elsewhere`, folders to look in, in order. Raises: `BadWorkflow`
    naming each file that is in none of them.
    """
    places = list(elsewhere)
    problems = []
    for item in file_widgets(prompt, object_info):
        name = _without_mark(item.value)
        target = (folder / name).resolve()
        if not name or not target.is_relative_to(folder.resolve()):
            problems.append(
                f'{item.label}, widget {item.widget}: "{item.value}" is not a file name in the input folder'
            )
            continue
        source = next((place / name for place in places if (place / name).is_file()), None)
        if not target.is_file() and source is not None:
            copy_into(folder, source, name)
        if not target.is_file() or item.value.endswith((" [output]", " [temp]")):
            looked = ", ".join(map(str, places)) or "no folder"
            problems.append(
                f'{item.label}, widget {item.widget}: there is no file "{item.value}" (looked in {looked}); '
                f"give the file to use with --input FILE"
            )
    if problems:
        raise BadWorkflow(problems)


def copy_into(folder: Path, file: Path, name: str | None = None) -> str:
    """Copy `file` to `folder`/`name` (default: its own name) and give that name with forward slashes.

    Raises: `OSError` when `file` cannot be read; `ValueError` when `name` leads out of the folder.
    """
    folder = folder.resolve()
    target = (folder / (name or file.name)).resolve()
    if not target.is_relative_to(folder):
        raise ValueError(f"{name} leads out of the folder {folder}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    return target.relative_to(folder).as_posix()


# ---------------------------------------------------------------------------------------------------------------
# ComfyUI's validation errors, in words


def explain_node_errors(node_errors: dict, object_info: dict, prompt: dict) -> list[str]:
    """A sentence for each fault in the `node_errors` of ComfyUI's /prompt: node, widget, value, what is allowed."""
    sentences = []
    for node_id in sorted(node_errors, key=id_order):
        node = prompt.get(node_id) or {"class_type": node_errors[node_id].get("class_type", "unknown")}
        label = _prompt_label(node_id, node, object_info)
        specs = input_specs(_schema(object_info, node))
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
    shown = json.dumps(value, ensure_ascii=False, default=str)
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
