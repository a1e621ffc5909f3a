"""Reads a workflow file in either format, or the workflow inside a PNG that ComfyUI saved."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from .engine_interface import WorkflowError


@dataclass(frozen=True)
class Workflow:
    """The content of a workflow file, in the editor's format or the API format."""

    path: Path
    data: dict
    is_editor: bool


def read_workflow(path: Path) -> Workflow:
    """Read a workflow file in either format, or the workflow inside a PNG that ComfyUI saved.

    Raises: `WorkflowError` if the file is missing, is not JSON (with the line and column) or contains no workflow.
    """
    try:
        raw = path.read_bytes()
        text = _read_png(path) if raw.startswith(b"\x89PNG") else raw.decode("utf-8-sig")
        data = json.loads(text, parse_constant=_parse_finite, parse_float=_parse_finite)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise WorkflowError(f"{path} is not JSON, or is incomplete: {error.msg} at {where}") from None
    except UnicodeDecodeError as error:
        raise WorkflowError(f"{path} is not a workflow file: not text (byte {error.start} is not UTF-8)") from None
    except OSError as error:
        raise WorkflowError(f"cannot read the workflow file {path}: {error.strerror or error}") from None
    except ValueError as error:  # Python does not read integers of more than 4300 digits
        raise WorkflowError(f"{path} is not a workflow: it contains a number that is far too long") from error
    if not isinstance(data, dict):
        raise WorkflowError(f"{path} contains no workflow: it is not a JSON object")
    if isinstance(data.get("nodes"), list) and isinstance(data.get("links"), list):
        return Workflow(path, data, is_editor=True)
    if "nodes" not in data and any(isinstance(node, dict) and "class_type" in node for node in data.values()):
        return Workflow(path, data, is_editor=False)
    keys = ", ".join(list(data)[:5]) or "none"
    raise WorkflowError(
        f"{path} contains no workflow: neither the editor's lists of nodes and links, nor nodes with a class_type "
        f"(keys: {keys})"
    )


def _read_png(path: Path) -> str:
    """Prefers the editor's format: it has titles and notes, and the prompt may have outdated values."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            texts = image.info  # stored before the pixels, which may be damaged
    except (OSError, SyntaxError, ValueError) as error:
        raise WorkflowError(f"{path} is a damaged image: {error}") from None
    text = texts.get("workflow") or texts.get("prompt")
    if not isinstance(text, str):
        raise WorkflowError(f"{path} is an image without a workflow in it (ComfyUI's SaveImage writes one)")
    return text


def _parse_finite(text: str) -> float | None:
    """Parse a number; None for NaN and infinity, as in the editor, so that browsers can read the saved file."""
    return value if math.isfinite(value := float(text)) else None
