"""A small engine that runs mask workflows without ComfyUI: this pack's nodes and a few of ComfyUI's own.

Its pixels equal ComfyUI's for 8-bit RGB and RGBA PNG files. comfy-cli validates its prompts.
"""

from __future__ import annotations

import inspect
import json
import shutil
import tempfile
import traceback
from graphlib import TopologicalSorter
from pathlib import Path

from pack import load_pack
from workflow.engine_interface import BadWorkflow, Engine, NodeFailed, RunResult
from workflow.graph import id_order, links_of, needed_nodes, node_label, prompt_label
from workflow.report import check_prompt
from workflow.widgets import input_specs

_CONVERTERS = {"INT": int, "FLOAT": float, "STRING": str}


class BuiltinEngine(Engine):
    """Runs API-format prompts in this process, for the duration of a `with` block, in its own scratch folder."""

    def __init__(self, node_classes: dict | None = None, display_names: dict | None = None) -> None:
        """Args: node classes by type, and their display names; by default this pack's."""
        from host_nodes import HOST_NODES  # takes seconds to import

        if node_classes is None:
            pack = load_pack()
            node_classes, display_names = pack.NODE_CLASS_MAPPINGS, pack.NODE_DISPLAY_NAME_MAPPINGS
        own = {name: kind for name, kind in node_classes.items() if not getattr(kind, "NEEDS_COMFYUI", False)}
        self._classes = {**own, **HOST_NODES}  # as in ComfyUI, packs cannot replace the host's nodes
        self._titles = (display_names or {}) | {name: kind.TITLE for name, kind in HOST_NODES.items()}

    def __enter__(self) -> BuiltinEngine:
        self.base = Path(tempfile.mkdtemp(prefix="maskwright-builtin-")).resolve()
        folders = {name: self.base / name for name in ("input", "output", "temp")}
        for folder in folders.values():
            folder.mkdir()
        for name, kind in self._classes.items():
            if hasattr(kind, "locate"):
                self._classes[name] = type(name, (kind,), {"folders": folders})
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

    def queue(self, prompt: dict, extra_pnginfo: dict | None = None) -> RunResult:
        """Run an API-format prompt of this engine's nodes. SaveImage writes `extra_pnginfo` into its files, too.

        Raises: `BadWorkflow` for invalid values; `NodeFailed` if a node fails.
        """
        kinds = {key: node["class_type"] for key, node in prompt.items()}
        prompt, info = json.loads(json.dumps(prompt)), self.object_info()
        problems = check_prompt(prompt, info) or self._convert_values(prompt, info)
        if problems:
            raise BadWorkflow(problems)
        sources = {key: {source for _, (source, _) in links_of(prompt[key])} for key in needed_nodes(prompt, info)}
        order = list(TopologicalSorter({key: sources[key] for key in sorted(sources, key=id_order)}).static_order())
        outputs: dict[str, list[list]] = {}  # of each node, as lists like ComfyUI's
        ui: dict[str, dict] = {}
        for number, node_id in enumerate(order):
            self.progress(node_label(node_id, kinds[node_id]), number, len(order))
            kind = self._classes[kinds[node_id]]
            hidden = {"UNIQUE_ID": node_id, "PROMPT": prompt, "EXTRA_PNGINFO": extra_pnginfo}
            try:
                data, outputs[node_id] = _call(kind, _arguments(kind, prompt[node_id], hidden, outputs))
            except Exception as error:  # errors of any kind are reported with the node's name
                name = f"{type(error).__module__}.{type(error).__qualname__}"
                raise NodeFailed(node_id, kinds[node_id], str(error), name, traceback.format_exc()) from error
            if data:
                ui[node_id] = data
        return RunResult(ui, self.base)

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
            if hasattr(kind, "VALIDATE_INPUTS"):  # which sees None for links, and their types only in ComfyUI
                values = {name: None if isinstance(value, list) else value for name, value in inputs.items()}
                values["input_types"] = {}  # comfy-cli has checked them
                names = inspect.getfullargspec(kind.VALIDATE_INPUTS).args
                answer = kind.VALIDATE_INPUTS(**{name: values[name] for name in values if name in names})
                if answer is not True:
                    problems.append(f"{prompt_label(node_id, node, info)} rejects its values: {answer}")
        return problems


def node_info(name: str, kind: type, title: str) -> dict:
    """A node class in the format of /object_info. Goes through JSON, so that both engines return the same types."""
    inputs, outputs = kind.INPUT_TYPES(), list(kind.RETURN_TYPES)
    info = {
        "input": inputs,
        "input_order": {section: list(entries) for section, entries in inputs.items()},
        "output": outputs,
        "output_is_list": getattr(kind, "OUTPUT_IS_LIST", [False] * len(outputs)),
        "output_name": getattr(kind, "RETURN_NAMES", outputs),
        "name": name,
        "display_name": title,
        "description": getattr(kind, "DESCRIPTION", ""),
        "python_module": getattr(kind, "MODULE", "custom_nodes.maskwright"),
        "category": getattr(kind, "CATEGORY", "sd"),
        "output_node": getattr(kind, "OUTPUT_NODE", False),
    }
    return json.loads(json.dumps(info))


def _arguments(kind: type, node: dict, hidden: dict[str, object], outputs: dict[str, list[list]]) -> dict[str, list]:
    """A node's arguments, each as a list. As in ComfyUI, literal values that the node does not declare are dropped,
    and unknown links passed on."""
    declared, links = kind.INPUT_TYPES(), dict(links_of(node))
    known = {*declared.get("required", {}), *declared.get("optional", {})}
    arguments = {name: [value] for name, value in node["inputs"].items() if name in known}
    for name, (source, slot) in links.items():
        arguments[name] = outputs[source][slot] if slot < len(outputs[source]) else [None]
    for name, spec in declared.get("hidden", {}).items():
        source = spec[0] if isinstance(spec, (list, tuple)) else spec
        if source in hidden:
            arguments[name] = [hidden[source]]
    return arguments


def _call(kind: type, arguments: dict[str, list]) -> tuple[dict, list[list]]:
    """Call a node once for each entry of its longest list; shorter lists repeat their last entry.

    Returns: its `ui` data, and a list for each output, flattened for outputs that are lists themselves.
    """
    method = getattr(kind(), kind.FUNCTION)
    longest = max((len(values) for values in arguments.values()), default=1)
    calls = [{name: values[min(at, len(values) - 1)] for name, values in arguments.items()} for at in range(longest)]
    ui: dict[str, list] = {}
    tuples = []
    for call in [arguments] if getattr(kind, "INPUT_IS_LIST", False) else calls:
        result = method(**call)
        if isinstance(result, dict):
            for key, values in result.get("ui", {}).items():
                ui.setdefault(key, []).extend(values)
            result = result.get("result")
        tuples.append(result or ())
    outputs = [list(values) for values in zip(*tuples)]
    for slot, is_list in enumerate(getattr(kind, "OUTPUT_IS_LIST", ())):
        if is_list and slot < len(outputs):
            outputs[slot] = [entry for values in outputs[slot] for entry in values]
    return ui, outputs
