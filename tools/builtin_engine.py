"""A small engine that runs mask workflows without ComfyUI: this pack's nodes and a few of ComfyUI's own.

It accepts the prompts that ComfyUI accepts, refuses what ComfyUI refuses, and computes the same pixels for 8-bit RGB
and RGBA PNG files.
"""

from __future__ import annotations

import inspect
import json
import shutil
import tempfile
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from host_nodes import HOST_NODES, HOST_TITLES, Folders, HostNode
from pack import load_pack
from workflow.engine_interface import BadWorkflow, NodeFailed, Progress, RunResult, id_order, node_label, output_files
from workflow.graph import links_of, needed_nodes
from workflow.input_files import copy_into
from workflow.values import convert, fault, link_fault, range_fault, type_given
from workflow.widgets import explain_node_errors

if TYPE_CHECKING:
    from typing_extensions import Self

HOW_TO_GET_COMFYUI = "install ComfyUI with `python3 tools/dev.py run --comfyui` or set COMFYUI_PATH"


class BuiltinEngine:
    """Runs API-format prompts in this process, for the length of a `with` block, in a scratch folder of its own."""

    name = "the built-in engine"

    def __init__(
        self, node_classes: dict[str, type] | None = None, display_names: dict[str, str] | None = None
    ) -> None:
        """Takes: node classes by type, and their display names; None for both: this pack's, through `load_pack`.

        Raises: what `load_pack` raises.
        """
        if node_classes is None:
            pack = load_pack()
            node_classes = pack.NODE_CLASS_MAPPINGS
            display_names = getattr(pack, "NODE_DISPLAY_NAME_MAPPINGS", {})
        self._given = {name: kind for name, kind in node_classes.items() if not getattr(kind, "NEEDS_COMFYUI", False)}
        self._titles = {**HOST_TITLES, **(display_names or {})}
        self._classes: dict[str, type] = {}
        self.base: Path | None = None

    def __enter__(self) -> Self:
        self.base = Path(tempfile.mkdtemp(prefix="maskwright-builtin-")).resolve()
        folders = Folders(self.base / "input", self.base / "output", self.base / "temp")
        try:
            for folder in (folders.input, folders.output, folders.temp):
                folder.mkdir()
        except BaseException:
            shutil.rmtree(self.base, ignore_errors=True)
            raise
        host = {name: type(name, (kind,), {"folders": folders}) for name, kind in HOST_NODES.items()}
        self._classes = {**self._given, **host}  # ComfyUI does not let a pack replace its own nodes either
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    @property
    def input_folder(self) -> Path:
        """The folder that LoadImage reads from."""
        return self.base / "input"

    def copy_input(self, file: Path, name: str | None = None) -> str:
        """Copy `file` into the input folder, as `name` (default: its own), and give the name a widget holds.

        Raises: `OSError` when it cannot be read; `ValueError` when `name` leads out of the folder.
        """
        return copy_into(self.input_folder, file, name)

    def object_info(self) -> dict:
        """Every node this engine knows, in the shape of ComfyUI's /object_info: {type: schema}."""
        return {name: _node_info(name, kind, self._titles.get(name, name)) for name, kind in self._classes.items()}

    def model_folders(self, kind: str) -> list[Path]:
        """None: this engine has no folder of models. The pack looks in its own and in the usual caches."""
        return []

    def unknown(self, node_type: str) -> str:
        """The end of the sentence "node 7 (KSampler) ..." for a type this engine cannot run."""
        return f"needs ComfyUI: the built-in engine runs only mask nodes; {HOW_TO_GET_COMFYUI}"

    def queue(self, prompt: dict, *, extra_pnginfo: dict | None = None, progress: Progress | None = None) -> RunResult:
        """Run an API-format prompt.

        Takes: `prompt`; `extra_pnginfo`, what SaveImage writes into its files beside the prompt; `progress`, told
        how far it is. Gives: a `RunResult`; its files lie in the scratch folder. Raises: `BadWorkflow` for unknown
        nodes and for every value that ComfyUI would refuse; `NodeFailed` when a node fails.
        """
        unknown = [(key, node["class_type"]) for key, node in prompt.items() if node["class_type"] not in self._classes]
        if unknown:
            raise BadWorkflow(f"{node_label(key, kind)} {self.unknown(kind)}" for key, kind in unknown)
        prompt = json.loads(json.dumps(prompt))  # validation turns values into their widgets' types, in place
        info = self.object_info()
        needed = needed_nodes(prompt, info)
        errors = {key: found for key in needed if (found := _node_errors(prompt, key, self._classes, info))}
        if errors:
            raise BadWorkflow(explain_node_errors(errors, info, prompt))
        run = _Run(prompt, self._classes, extra_pnginfo)
        order = _run_order(prompt, needed)
        for number, node_id in enumerate(order):
            if progress:
                progress(node_label(node_id, prompt[node_id]["class_type"]), number, len(order))
            run.node(node_id)
        if progress:
            progress("done", len(order), len(order))
        return RunResult(run.shown, output_files(run.shown, self.base))


def _node_info(name: str, kind: type, title: str) -> dict:
    """A node class as /object_info shows it. JSON and back, so that both engines hand out the very same types."""
    inputs = kind.INPUT_TYPES()
    outputs = list(kind.RETURN_TYPES)
    info = {
        "input": inputs,
        "input_order": {section: list(found) for section, found in inputs.items()},
        "output": outputs,
        "output_is_list": list(getattr(kind, "OUTPUT_IS_LIST", [False] * len(outputs))),
        "output_name": list(getattr(kind, "RETURN_NAMES", outputs)),
        "name": name,
        "display_name": title,
        "description": getattr(kind, "DESCRIPTION", ""),
        "python_module": "nodes" if issubclass(kind, HostNode) else "custom_nodes.maskwright",
        "category": getattr(kind, "CATEGORY", "sd"),
        "output_node": bool(getattr(kind, "OUTPUT_NODE", False)),
    }
    if hasattr(kind, "OUTPUT_TOOLTIPS"):
        info["output_tooltips"] = list(kind.OUTPUT_TOOLTIPS)
    for key in ("DEPRECATED", "EXPERIMENTAL"):
        if getattr(kind, key, False):
            info[key.lower()] = True
    return json.loads(json.dumps(info))


def _run_order(prompt: dict, needed: set[str]) -> list[str]:
    """The needed nodes, each after all it draws on, by id where that leaves a choice."""
    order: list[str] = []
    placed: set[str] = set()
    for start in sorted(needed, key=id_order):
        stack = [(start, False)]
        while stack:
            node_id, ready = stack.pop()
            if ready:
                order.append(node_id)
            elif node_id not in placed:
                placed.add(node_id)
                stack.append((node_id, True))
                stack += [(source, False) for _name, (source, _slot) in links_of(prompt[node_id])]
    return order


# -- checking values, with ComfyUI's own words for the faults ------------------------------------------------------


def _node_errors(prompt: dict, node_id: str, classes: dict[str, type], info: dict) -> dict | None:
    """A node's faults in the shape of /prompt's `node_errors`, or None. Converts literal values in place."""
    node = prompt[node_id]
    kind = classes[node["class_type"]]
    validate = getattr(kind, "VALIDATE_INPUTS", None)
    spec = inspect.getfullargspec(validate) if validate else None
    own = set(spec.args) if spec else set()  # what the node checks itself is not checked here
    errors, received = [], {}
    for section in ("required", "optional"):
        for name, declared in (kind.INPUT_TYPES().get(section) or {}).items():
            if name not in node["inputs"]:
                if section == "required":
                    errors.append(fault("required_input_missing", "Required input is missing", name))
                continue
            options = declared[1] if len(declared) > 1 else {}
            value = node["inputs"][name]
            if isinstance(value, list):
                error = link_fault(name, declared[0], value, prompt, info, any_type="input_types" in own)
                if error is None:
                    received[name] = type_given(value, prompt, info)
            else:
                unchecked = name in own or bool(spec and spec.varkw)
                error = convert(node["inputs"], name, declared[0])
                error = error or (None if unchecked else range_fault(node["inputs"], name, declared[0], options))
            if error:
                errors.append(error)
    if not errors and validate:
        errors = _custom_errors(kind, node["inputs"], spec, received)
    return {"class_type": node["class_type"], "errors": errors} if errors else None


def _custom_errors(kind: type, inputs: dict, spec: inspect.FullArgSpec, received: dict) -> list[dict]:
    """What the node's own VALIDATE_INPUTS says. It sees literal values only; links come as None."""
    wanted = {name for name in inputs if name in spec.args or spec.varkw}
    values = {name: None if isinstance(inputs[name], list) else inputs[name] for name in wanted}
    if "input_types" in spec.args:
        values["input_types"] = received
    if not values:
        return []
    first = next((name for name in spec.args if name in wanted), "")
    try:
        answer = kind.VALIDATE_INPUTS(**values)
    except Exception as error:  # whatever a node raises is reported with the node's name
        answer = f"{type(error).__name__}: {error}"
    if answer is True:
        return []
    reason = "" if answer is False else f" - {answer}"
    return [fault("custom_validation_failed", "The node refuses this value", first, f"{first}{reason}")]


# -- running -------------------------------------------------------------------------------------------------------


class _Run:
    """One run of a prompt: every node's outputs, each a list as ComfyUI keeps them, and what the nodes showed."""

    def __init__(self, prompt: dict, classes: dict[str, type], extra_pnginfo: dict | None) -> None:
        self._prompt, self._classes, self._extra_pnginfo = prompt, classes, extra_pnginfo
        self._outputs: dict[str, list[list]] = {}
        self.shown: dict[str, dict] = {}

    def node(self, node_id: str) -> None:
        """Run one node whose sources have run. Raises: `NodeFailed`."""
        kind = self._classes[self._prompt[node_id]["class_type"]]
        try:
            results = _call(kind(), kind, self._arguments(node_id, kind))
            shown, tuples = _take_apart(results)
            self._outputs[node_id] = _merge(tuples, kind)
        except Exception as error:  # whatever a node raises is reported with the node's name
            node_type = self._prompt[node_id]["class_type"]
            name = f"{type(error).__module__}.{type(error).__qualname__}"
            raise NodeFailed(node_id, node_type, str(error), name, traceback.format_exc()) from error
        if shown:
            self.shown[node_id] = shown

    def _arguments(self, node_id: str, kind: type) -> dict[str, list]:
        declared = kind.INPUT_TYPES()
        known = {*declared.get("required", {}), *declared.get("optional", {})}
        inputs = self._prompt[node_id]["inputs"]
        links = dict(links_of(self._prompt[node_id]))
        # Literal values that the node does not declare are dropped; unknown links are passed on: the host's way.
        arguments = {name: [value] for name, value in inputs.items() if name in known and name not in links}
        for name, (source, slot) in links.items():
            outputs = self._outputs[source]
            arguments[name] = outputs[slot] if slot < len(outputs) else [None]
        for name, wanted in declared.get("hidden", {}).items():
            values = {"UNIQUE_ID": node_id, "PROMPT": self._prompt, "EXTRA_PNGINFO": self._extra_pnginfo}
            wanted = wanted[0] if isinstance(wanted, (list, tuple)) else wanted
            if wanted in values:
                arguments[name] = [values[wanted]]
        return arguments


def _call(node: object, kind: type, arguments: dict[str, list]) -> list:
    """Call a node once for each entry of its longest list; shorter lists repeat their last entry."""
    method = getattr(node, kind.FUNCTION)
    if getattr(kind, "INPUT_IS_LIST", False):
        return [_finished(method(**arguments))]
    longest = max((len(values) for values in arguments.values()), default=0)
    if longest == 0:
        return [_finished(method())]
    return [
        _finished(method(**{name: values[min(index, len(values) - 1)] for name, values in arguments.items()}))
        for index in range(longest)
    ]


def _finished(result: Any) -> Any:
    if not inspect.iscoroutine(result):
        return result
    import asyncio  # here: it takes as long to import as all the rest

    return asyncio.run(result)


def _take_apart(results: list) -> tuple[dict, list[tuple]]:
    """Split what a node returned into what it shows and its output tuples."""
    shown: dict[str, list] = {}
    tuples = []
    for result in results:
        if not isinstance(result, dict):
            tuples.append(result)
            continue
        if "expand" in result:
            raise NotImplementedError("the node builds more nodes while it runs, which only ComfyUI can do")
        for key, values in result.get("ui", {}).items():
            shown.setdefault(key, []).extend(values)
        if "result" in result:
            tuples.append(result["result"])
    return shown, tuples


def _merge(tuples: list[tuple], kind: type) -> list[list]:
    """One list for each output: the entries of every call, or all their entries where the output is itself a list."""
    if not tuples or tuples[0] is None:
        return []
    is_list = getattr(kind, "OUTPUT_IS_LIST", [False] * len(tuples[0]))
    return [
        [entry for result in tuples for entry in result[slot]] if listed else [result[slot] for result in tuples]
        for slot, listed in zip(range(len(tuples[0])), is_list, strict=False)
    ]
