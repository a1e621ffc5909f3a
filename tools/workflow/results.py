"""What a run leaves to the user: which of its files are results, and copying them to where they are wanted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from .engine_interface import OutputFile


def is_result(file: OutputFile, prompt: dict, info: dict) -> bool:
    """Saved files, and previews of preview nodes; not the thumbnails that other nodes show on themselves."""
    kind = prompt.get(file.node_id, {}).get("class_type")
    return file.kind == "output" or bool((info.get(kind) or {}).get("output_node"))


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
    taken = [re.fullmatch(re.escape(prefix) + r"_(\d+)_?", path.stem) for path in folder.iterdir()]
    number = max((int(match.group(1)) for match in taken if match), default=0)
    while True:
        number += 1
        target = folder / f"{prefix}_{number:05}_{source.suffix}"
        try:
            with open(target, "xb") as out, open(source, "rb") as data:  # x: never over a file that is there
                shutil.copyfileobj(data, out)
            return target
        except FileExistsError:
            continue  # another run took the number
