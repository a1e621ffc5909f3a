"""The results of a run: selects them among its files, and copies them to the user's folder."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .engine_interface import OutputFile, WorkflowError


def is_result(file: OutputFile, prompt: dict, info: dict) -> bool:
    """Whether a file is a result: saved files, and previews of preview nodes, but not thumbnails of other nodes."""
    kind = prompt.get(file.node_id, {}).get("class_type")
    return file.kind == "output" or bool((info.get(kind) or {}).get("output_node"))


def prepare_folder(folder: Path) -> None:
    """Create the folder for results and check, before a run, that it is writable.

    Raises: `WorkflowError` with the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise WorkflowError(f"--output {folder}: {error.strerror or error}") from error


def save_results(files: Sequence[OutputFile], folder: Path) -> list[Path]:
    """Copy a run's files into a folder under free names, and return the paths.

    `<prefix>_00001_.png` continues from the highest number of the prefix there; previews become
    `preview-<node id>_00001_.png`. Raises: `OSError` if the folder cannot be written.
    """
    paths = []
    for file in files:
        target = folder / file.subfolder if file.kind == "output" else folder
        target.mkdir(parents=True, exist_ok=True)
        match = re.fullmatch(r"(.*)_(\d+)_?", file.path.stem)
        prefix = match.group(1) if match else file.path.stem
        if file.kind != "output":
            prefix = "preview-" + re.sub(r"[^\w.-]", "-", file.node_id)
        paths.append(_copy_numbered(file.path, target, prefix))
    return paths


def _copy_numbered(source: Path, folder: Path, prefix: str) -> Path:
    number = next_number(folder, prefix)
    while True:
        target = folder / f"{prefix}_{number:05}_{source.suffix}"
        try:
            with open(target, "xb") as out, open(source, "rb") as data:  # x: never overwrite an existing file
                shutil.copyfileobj(data, out)
            return target
        except FileExistsError:
            number += 1  # another run took it


def next_number(folder: Path, prefix: str) -> int:
    """One more than the highest number among the files `<prefix>_<number>_...` of a folder, as ComfyUI counts."""
    pattern = re.compile(re.escape(os.path.normcase(prefix)) + r"_(\d+)(?:_|$)")
    matches = [pattern.match(os.path.normcase(file)) for file in os.listdir(folder)]
    return max((int(match[1]) for match in matches if match), default=0) + 1
