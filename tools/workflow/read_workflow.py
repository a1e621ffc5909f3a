"""Reads a workflow file in either format, and checks that it is well-formed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from comfy_cli.link_integrity import broken_link_findings
from PIL import Image

from .engine_interface import BadWorkflow, WorkflowError
from .graph import definitions_of, entries, prompt_label, short


@dataclass(frozen=True)
class Workflow:
    """The content of a workflow file, in the editor's format or the API format."""

    data: dict
    is_editor: bool


def read_workflow(path: Path) -> Workflow:
    """Read a workflow file in either format, or the workflow inside a PNG that ComfyUI saved.

    Raises: `WorkflowError` if the file is missing, is not JSON or contains no workflow.
    """
    try:
        raw = path.read_bytes()
        text = _read_png(path) if raw.startswith(b"\x89PNG") else raw.decode("utf-8-sig")
        data = json.loads(text, parse_constant=lambda name: None)  # NaN and infinity are not valid JSON
    except OSError as error:
        raise WorkflowError(f"cannot read the workflow file {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise WorkflowError(f"{path} is neither text nor a PNG: save the workflow as JSON") from None
    except RecursionError:
        raise WorkflowError(f"{path} is not a workflow: it is nested too deeply") from None
    except ValueError as error:
        raise WorkflowError(f"{path} is not JSON, or is incomplete: {error}") from None
    if not isinstance(data, dict):
        raise WorkflowError(f"{path} contains no workflow: it is not a JSON object")
    if isinstance(data.get("nodes"), list) and isinstance(data.get("links"), list):
        return Workflow(data, is_editor=True)
    if "nodes" not in data and any(isinstance(node, dict) and "class_type" in node for node in data.values()):
        return Workflow(data, is_editor=False)
    raise WorkflowError(
        f"{path} contains no workflow: neither the editor's lists of nodes and links, nor nodes with a class_type"
    )


def _read_png(path: Path) -> str:
    """Prefers the editor's format: it has titles and notes, and the prompt may have outdated values."""
    with Image.open(path) as image:
        text = image.info.get("workflow") or image.info.get("prompt")  # stored before the pixels
    if not isinstance(text, str):
        raise WorkflowError(f"{path} is an image without a workflow in it (ComfyUI's SaveImage writes one)")
    return text


def check_structure(workflow: Workflow) -> None:
    """Check the nodes of a file and its links. Raises: `BadWorkflow` naming every fault of these."""
    problems = _editor_problems(workflow.data) if workflow.is_editor else _prompt_problems(workflow.data)
    if problems:
        raise BadWorkflow(problems)


def _prompt_problems(prompt: dict) -> list[str]:
    problems = []
    for node_id, node in prompt.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            problems.append(f"node {node_id} has no class_type")
        elif not isinstance(node.setdefault("inputs", {}), dict):
            problems.append(f"{prompt_label(node_id, node)}: inputs is not an object")
    return problems


def _editor_problems(data: dict) -> list[str]:
    problems = []
    for graph in (data, *definitions_of(data).values()):
        place = "" if graph is data else f' in subgraph "{graph.get("name", graph["id"])}"'
        for node in entries(graph, "nodes"):
            if not isinstance(node, dict) or node.get("id") is None:
                problems.append(f"an entry of nodes{place} is not a node with an id: {short(node)}")
            elif not isinstance(node.get("type"), str):
                problems.append(f"node {node['id']}{place} has no type")
    if not problems:
        findings, _ = broken_link_findings(data)
        # A link that no input names is a leftover, which the editor ignores.
        problems = [finding["message"] for finding in findings if finding["field"] is not None]
    return problems
