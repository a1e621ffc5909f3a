"""Reading a workflow file in either format, or the workflow inside a PNG that ComfyUI saved."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .engine_interface import WorkflowError

MAX_NESTING = 150  # levels of nested lists and objects; workflows have about ten


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
        data = json.loads(text, parse_constant=_finite, parse_float=_finite)
        if _is_deeper(data, MAX_NESTING):
            raise RecursionError
        return data
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise WorkflowError(f"{path} is cut short: it ends in the middle of the JSON, at {where}") from None
        raise WorkflowError(f"{path} is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise WorkflowError(f"{path} is not a workflow: its JSON is nested too deeply") from None
    except ValueError as error:  # Python does not read integers of more than 4300 digits
        raise WorkflowError(f"{path} is not a workflow: it holds a number that is far too long") from error


def _is_deeper(data: object, depth: int) -> bool:
    """Whether lists and objects are nested more than `depth` deep: other code copies and writes them recursively."""
    level = [data] if isinstance(data, (dict, list)) else []
    while level and depth >= 0:
        depth -= 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
    return bool(level)


def _finite(text: str) -> float | None:
    """A number, or None for NaN and infinity: as in the editor, and so that browsers can read the saved file."""
    return value if math.isfinite(value := float(text)) else None


def _recognise(path: Path, data: object) -> Workflow:
    if not isinstance(data, dict):
        raise WorkflowError(f"{path} holds no workflow: it is a JSON {_json_kind(data)}, not an object")
    data = _unpack(data)
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


def _unpack(data: dict) -> dict:
    """Find the workflow in what the server and the editor return: the body of a call to /prompt, a history entry, a
    history with a single entry, or both formats of one workflow side by side."""
    if _is_workflow(data):
        return data
    entry = next(iter(data.values())) if len(data) == 1 else None
    if isinstance(entry, dict) and "outputs" in entry:
        data = entry
    for key in ("prompt", "output", "workflow"):
        value = data.get(key)
        if isinstance(value, list) and len(value) > 2:
            value = value[2]  # a history entry: number, id, prompt, ...
        if isinstance(value, dict) and _is_workflow(value):
            return value
    return data


def _is_workflow(data: dict) -> bool:
    return _is_prompt(data) or isinstance(data.get("nodes"), list)


def _is_prompt(data: dict) -> bool:
    return "nodes" not in data and any(isinstance(node, dict) and "class_type" in node for node in data.values())


def _json_kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {dict: "object", list: "list", str: "string", bool: "true or false", int: "number", float: "number"}
    return kinds.get(type(value), type(value).__name__)


def _from_png(path: Path, raw: bytes) -> Workflow:
    """The editor's file is preferred: it holds titles and notes, and a prompt may hold values long since replaced."""
    try:
        texts = dict(_png_texts(raw))
    except zlib.error as error:
        raise WorkflowError(f"{path} is damaged: a text in it cannot be unpacked ({error})") from None
    for key in ("workflow", "prompt"):
        if key in texts:
            return _recognise(path, _parse(path, texts[key]))
    raise WorkflowError(f"{path} is an image without a workflow in it (ComfyUI's SaveImage writes one)")


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
            yield key.decode("latin-1"), (_unpacked(text) if compressed else text).decode("utf-8", "replace")


def _unpacked(data: bytes) -> bytes:
    """Of a file that is cut short, as much as there is."""
    return zlib.decompressobj().decompress(data)
