"""A small engine that runs mask workflows without ComfyUI: this pack's nodes and a few of ComfyUI's own.

Its pixels equal ComfyUI's for 8-bit RGB and RGBA PNG files. comfy-cli validates its prompts.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import shutil
import tempfile
import traceback
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from host_nodes import HOST_NODES, Folders, HostNode
from pack import load_pack
from workflow.checks import check_prompt
from workflow.engine_interface import BadWorkflow, Engine, NodeFailed, Progress, RunResult
from workflow.graph import id_order, links_of, needed_nodes, node_label, prompt_label
from workflow.widgets import input_specs

if TYPE_CHECKING:
    from typing_extensions import Self

_CONVERTERS = {"INT": int, "FLOAT": float, "STRING": str}


class BuiltinEngine(Engine):
    """Runs API-format prompts in this process, for the duration of a `with` block, in its own scratch folder."""

    def __init__(
        self, node_classes: dict[str, type] | None = None, display_names: dict[str, str] | None = None
    ) -> None:
        """Args: node classes by type, and their display names; by default this pack's. Raises: as `load_pack`."""
        if node_classes is None:
            pack = load_pack()
            node_classes = pack.NODE_CLASS_MAPPINGS
            display_names = getattr(pack, "NODE_DISPLAY_NAME_MAPPINGS", {})
        self._pack_classes = {
            name: kind for name, kind in node_classes.items() if not getattr(kind, "NEEDS_COMFYUI", False)
        }
        self._titles = {name: kind.TITLE for name, kind in HOST_NODES.items()} | (display_names or {})
        self._classes: dict[str, type] = {}

    def __enter__(self) -> Self:
        self.base = Path(tempfile.mkdtemp(prefix="maskwright-builtin-")).resolve()
        folders = Folders(self.base / "input", self.base / "output", self.base / "temp")
        for folder in (folders.input, folders.output, folders.temp):
            folder.mkdir()
        host = {name: type(name, (kind,), {"folders": folders}) for name, kind in HOST_NODES.items()}
        self._classes = {**self._pack_classes, **host}  # as in ComfyUI, packs cannot replace the host's nodes
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    def object_info(self) -> dict:
        """All nodes of this engine, in the format of ComfyUI's /object_info: {type: schema}."""
        return {name: node_info(name, kind, self._titles.get(name, name)) for name, kind in self._classes.items()}

    def model_folders(self, kind: str) -> list[Path]:
        """Empty: without ComfyUI, the pack searches its own folders and the usual caches."""
        return []

    def unknown(self, node_type: str) -> str:
        """The end of the sentence "node 7 (KSampler) ..." for a node type that this engine cannot run."""
        return (
            "needs ComfyUI: the built-in engine runs only mask nodes; install ComfyUI with "
            "`python3 tools/dev.py run --comfyui` or set COMFYUI_PATH"
        )

    def queue(self, prompt: dict, *, extra_pnginfo: dict | None = None, progress: Progress | None = None) -> RunResult:
        """Run an API-format prompt.

        Args: ``extra_pnginfo``, metadata that SaveImage writes into its files along with the prompt.
        Returns: the results; the files are in the scratch folder.
        Raises: `BadWorkflow` for unknown nodes and invalid values; `NodeFailed` if a node fails.
        """
        unknown = [(key, node["class_type"]) for key, node in prompt.items() if node["class_type"] not in self._classes]
        if unknown:
            raise BadWorkflow(f"{node_label(key, kind)} {self.unknown(kind)}" for key, kind in unknown)
        prompt, info = json.loads(json.dumps(prompt)), self.object_info()
        problems = check_prompt(prompt, info) or self._convert_values(prompt, info)
        if problems:
            raise BadWorkflow(problems)
        sources = {key: {source for _, (source, _) in links_of(prompt[key])} for key in needed_nodes(prompt, info)}
        order = list(TopologicalSorter({key: sources[key] for key in sorted(sources, key=id_order)}).static_order())
        run = _Run(prompt, self._classes, extra_pnginfo)
        for number, node_id in enumerate(order):
            if progress:
                progress(node_label(node_id, prompt[node_id]["class_type"]), number, len(order))
            run.run_node(node_id)
        return RunResult(run.ui, self.base)

    def _convert_values(self, prompt: dict, info: dict) -> list[str]:
        """Convert literal values to their widgets' types, in place. Return the objections of VALIDATE_INPUTS."""
        problems = []
        for node_id in sorted(needed_nodes(prompt, info), key=id_order):
            node = prompt[node_id]
            kind, inputs = self._classes[node["class_type"]], node["inputs"]
            for name, (type_name, _) in input_specs(info[node["class_type"]]).items():
                if isinstance(inputs.get(name), dict) and "__value__" in inputs[name]:
                    inputs[name] = inputs[name]["__value__"]
                elif name in inputs and type_name in _CONVERTERS and not isinstance(inputs[name], list):
                    inputs[name] = _CONVERTERS[type_name](inputs[name])
            if objection := _validate(kind, inputs):
                problems.append(f"{prompt_label(node_id, node, info)} rejects its values: {objection}")
        return problems


def node_info(name: str, kind: type, title: str) -> dict:
    """A node class in the format of /object_info. Goes through JSON, so that both engines return the same types."""
    inputs = kind.INPUT_TYPES()
    outputs = list(kind.RETURN_TYPES)
    info = {
        "input": inputs,
        "input_order": {section: list(entries) for section, entries in inputs.items()},
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
    info |= {key.lower(): True for key in ("DEPRECATED", "EXPERIMENTAL") if getattr(kind, key, False)}
    return json.loads(json.dumps(info))


def _validate(kind: type, inputs: dict) -> str:
    """The objection of a node's VALIDATE_INPUTS, which sees only literal values (None for links); "" for none."""
    if not hasattr(kind, "VALIDATE_INPUTS"):
        return ""
    spec = inspect.getfullargspec(kind.VALIDATE_INPUTS)
    values = {name: None if isinstance(value, list) else value for name, value in inputs.items()}
    values["input_types"] = {}  # ComfyUI passes the types of links here; comfy-cli has already checked them
    try:
        result = kind.VALIDATE_INPUTS(**{name: values[name] for name in values if name in spec.args})
    except Exception as error:  # errors of any kind are reported with the node's name
        result = f"{type(error).__name__}: {error}"
    return "" if result is True else str(result or "it returned False")


class _Run:
    """One run of a prompt: every node's outputs, as lists like ComfyUI's, and the nodes' `ui` data."""

    def __init__(self, prompt: dict, classes: dict[str, type], extra_pnginfo: dict | None) -> None:
        self._prompt, self._classes, self._extra_pnginfo = prompt, classes, extra_pnginfo
        self._outputs: dict[str, list[list]] = {}
        self.ui: dict[str, dict] = {}

    def run_node(self, node_id: str) -> None:
        """Run one node whose sources have run. Raises: `NodeFailed`."""
        kind = self._classes[self._prompt[node_id]["class_type"]]
        try:
            ui, tuples = _split_results(_call(kind, self._arguments(node_id, kind)))
            self._outputs[node_id] = _merge(tuples, kind)
        except Exception as error:  # errors of any kind are reported with the node's name
            name = f"{type(error).__module__}.{type(error).__qualname__}"
            node_type = self._prompt[node_id]["class_type"]
            raise NodeFailed(node_id, node_type, str(error), name, traceback.format_exc()) from error
        if ui:
            self.ui[node_id] = ui

    def _arguments(self, node_id: str, kind: type) -> dict[str, list]:
        declared = kind.INPUT_TYPES()
        known = {*declared.get("required", {}), *declared.get("optional", {})}
        inputs = self._prompt[node_id]["inputs"]
        links = dict(links_of(self._prompt[node_id]))
        # As in ComfyUI, literal values that the node does not declare are dropped, and unknown links passed on.
        arguments = {name: [value] for name, value in inputs.items() if name in known and name not in links}
        for name, (source, slot) in links.items():
            outputs = self._outputs[source]
            arguments[name] = outputs[slot] if slot < len(outputs) else [None]
        values = {"UNIQUE_ID": node_id, "PROMPT": self._prompt, "EXTRA_PNGINFO": self._extra_pnginfo}
        for name, spec in declared.get("hidden", {}).items():
            kind_name = spec[0] if isinstance(spec, (list, tuple)) else spec
            if kind_name in values:
                arguments[name] = [values[kind_name]]
        return arguments


def _call(kind: type, arguments: dict[str, list]) -> list:
    """Call a node once for each entry of its longest list; shorter lists repeat their last entry."""
    method = getattr(kind(), kind.FUNCTION)
    if getattr(kind, "INPUT_IS_LIST", False):
        calls = [arguments]
    else:
        longest = max((len(values) for values in arguments.values()), default=1)
        calls = [
            {name: values[min(index, len(values) - 1)] for name, values in arguments.items()}
            for index in range(longest)
        ]
    results = [method(**call) for call in calls]
    return [asyncio.run(result) if inspect.iscoroutine(result) else result for result in results]


def _split_results(results: list) -> tuple[dict, list[tuple]]:
    """Split a node's results into its `ui` data and its output tuples."""
    ui: dict[str, list] = {}
    tuples = []
    for result in results:
        if not isinstance(result, dict):
            tuples.append(result)
            continue
        if "expand" in result:
            raise NotImplementedError("the node creates more nodes while it runs, which only ComfyUI supports")
        for key, values in result.get("ui", {}).items():
            ui.setdefault(key, []).extend(values)
        if "result" in result:
            tuples.append(result["result"])
    return ui, tuples


def _merge(tuples: list[tuple], kind: type) -> list[list]:
    """Merge the outputs of all calls: one list per output, flattened for outputs that are lists themselves."""
    if not tuples or tuples[0] is None:
        return []
    is_list = getattr(kind, "OUTPUT_IS_LIST", [False] * len(tuples[0]))
    return [
        [entry for result in tuples for entry in result[slot]] if listed else [result[slot] for result in tuples]
        for slot, listed in zip(range(len(tuples[0])), is_list, strict=False)
    ]
