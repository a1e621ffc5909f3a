"""What a run leaves to the user: which of its files are results, and copying them to where they are wanted."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .engine_interface import OutputFile, WorkflowError


def is_result(file: OutputFile, prompt: dict, info: dict) -> bool:
    """Saved files, and previews of preview nodes; not the thumbnails that other nodes show on themselves."""
    kind = prompt.get(file.node_id, {}).get("class_type")
    return file.kind == "output" or bool((info.get(kind) or {}).get("output_node"))


def prepare_folder(folder: Path) -> None:
    """Make the folder for results, and see that files can be written there.

    Raises: `WorkflowError` with the reason; asked before a run, so that its results are not lost after it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        in_the_way = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
        reason = f"{in_the_way} is a file, not a folder" if in_the_way else error.strerror or error
        raise WorkflowError(f"--output {folder}: {reason}") from error


def save_results(files: Sequence[OutputFile], folder: Path) -> list[Path]:
    """Copy a run's files into `folder` under names that are free there, and give the paths.

    `<prefix>_00001_.png` counts on from the highest number that the prefix has there; previews become
    `preview-<node id>_00001_.png`. Raises: `OSError` when the folder cannot be written.
    """
    saved = []
    for file in files:
        target = folder / file.subfolder if file.kind == "output" else folder
        target.mkdir(parents=True, exist_ok=True)
        match = re.fullmatch(r"(.*)_(\d+)_?", file.path.stem)
        prefix = match.group(1) if match else file.path.stem
        if file.kind != "output":
            prefix = "preview-" + re.sub(r"[^\w.-]", "-", file.node_id)
        saved.append(_copy_numbered(file.path, target, prefix))
    return saved


def _copy_numbered(source: Path, folder: Path, prefix: str) -> Path:
    number = next_number(folder, prefix)
    while True:
        target = folder / f"{prefix}_{number:05}_{source.suffix}"
        try:
            with open(target, "xb") as out, open(source, "rb") as data:  # x: never over a file that is there
                shutil.copyfileobj(data, out)
            return target
        except FileExistsError:
            number += 1  # another run took it


def next_number(folder: Path, prefix: str) -> int:
    """One more than the highest number among the files `<prefix>_<number>_...` of a folder, as ComfyUI counts."""
    highest = 0
    for file in os.listdir(folder):
        head, mark, rest = file[: len(prefix)], file[len(prefix) : len(prefix) + 1], file[len(prefix) + 1 :]
        if mark == "_" and os.path.normcase(head) == os.path.normcase(prefix):
            digits = rest.split("_")[0]
            highest = max(highest, int(digits) if digits.isdecimal() else 0)
    return highest + 1
