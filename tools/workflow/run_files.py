"""The files that a run reads, and the results that it saves."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .engine_interface import BadWorkflow, Engine, OutputFile, WorkflowError
from .graph import id_order, needed_nodes, prompt_label, schema_of, short
from .widgets import input_specs, is_upload


class FileWidget(NamedTuple):
    """A widget that names a file in the input folder, such as LoadImage's."""

    name: str
    value: object  # the file's name, or something else by mistake
    label: str  # of the node
    inputs: dict  # the node's, which hold the widget's value

    @property
    def file_name(self) -> str:
        """The value without the editor's folder suffix, such as " [output]"; "" if it is not text."""
        return re.sub(r" \[(input|output|temp)\]$", "", self.value) if isinstance(self.value, str) else ""


def file_widgets(prompt: dict, object_info: dict) -> Iterator[FileWidget]:
    """The file widgets of the nodes that a run needs, in order of node id."""
    for node_id in sorted(needed_nodes(prompt, object_info), key=id_order):
        inputs, label = prompt[node_id]["inputs"], prompt_label(node_id, prompt[node_id], object_info)
        for name, (_, options) in input_specs(schema_of(object_info, prompt[node_id])).items():
            if is_upload(options) and not isinstance(inputs.get(name, []), list):  # a list is a link
                yield FileWidget(name, inputs[name], label, inputs)


def assign_inputs(prompt: dict, names: list[str], object_info: dict) -> None:
    """Assign files in the input folder to the file widgets of a prompt, in place.

    A widget whose saved file name is one of `names` gets that file. The other files go to the other widgets in order
    of node id: one per widget, or one per distinct file name, if the numbers match.

    Raises: `WorkflowError` if no number matches, listing the widgets.
    """
    left, widgets = list(names), []
    for widget in file_widgets(prompt, object_info):
        saved_name = PurePosixPath(widget.file_name).name
        if saved_name in names:
            widget.inputs[widget.name] = saved_name
            left = [name for name in left if name != saved_name]
        else:
            widgets.append(widget)
    saved_names = list(dict.fromkeys(str(widget.value) for widget in widgets))
    if len(left) not in (0, len(widgets), len(saved_names)):
        if not widgets:
            raise WorkflowError(f"--input: no node is left that loads a file, for {', '.join(left)}")
        nodes = "; ".join(f"{widget.label} {widget.name}={widget.value}" for widget in widgets)
        files = f"{len(left)} file(s) ({', '.join(left)}) for {len(widgets)} nodes that load a file: {nodes}"
        raise WorkflowError(f"--input: {files}; --set NODE.WIDGET=FILE names one")
    by_saved_name = dict(zip(saved_names, left))
    if left and len(left) != len(widgets):
        left = [by_saved_name[str(widget.value)] for widget in widgets]
    for widget, name in zip(widgets, left):
        widget.inputs[widget.name] = name


def provide_files(prompt: dict, object_info: dict, engine: Engine, places: list[Path]) -> None:
    """Copy the files that a prompt names into the engine's input folder from the folders `places`, searched in order.

    Raises: `BadWorkflow` naming each file that is in none of them.
    """
    problems = []
    for widget in file_widgets(prompt, object_info):
        label, target = f"{widget.label}, widget {widget.name}", _inside(engine.input_folder, widget.file_name)
        if target is None:
            problems.append(f"{label}: {short(widget.value)} is not a file name in the input folder")
            continue
        source = next((place / widget.file_name for place in places if (place / widget.file_name).is_file()), None)
        if not target.is_file() and source is not None:
            engine.copy_input(source, widget.file_name)
        if not target.is_file() or str(widget.value).endswith((" [output]", " [temp]")):
            searched = ", ".join(map(str, places))
            problems.append(f'{label}: there is no file "{widget.value}" in {searched}; name it with --input FILE')
    if problems:
        raise BadWorkflow(problems)


def _inside(folder: Path, name: str) -> Path | None:
    """The path of a file in a folder; None if the name leads out of it, or is not a valid file name."""
    try:
        target = (folder / name).resolve()
        target.is_file()
    except (OSError, ValueError):  # too long, a null byte, a lone surrogate
        return None
    return target if name and target.is_relative_to(folder.resolve()) else None


def save_results(files: Sequence[OutputFile], folder: Path) -> list[Path]:
    """Copy a run's files into a folder under free names, and return the paths.

    `<prefix>_00001_.png` continues from the highest number of the prefix there; previews become
    `preview-<node id>_00001_.png`. Raises: `OSError` if the folder cannot be written.
    """
    paths = []
    for file in files:
        target, prefix = folder, "preview-" + re.sub(r"[^\w.-]", "-", file.node_id)
        if file.kind == "output":
            target, prefix = folder / file.subfolder, re.sub(r"_\d+_?$", "", file.path.stem)
        target.mkdir(parents=True, exist_ok=True)
        paths.append(target / f"{prefix}_{next_number(target, prefix):05}_{file.path.suffix}")
        with open(file.path, "rb") as data, open(paths[-1], "xb") as out:  # x: never overwrite another run's file
            shutil.copyfileobj(data, out)
    return paths


def next_number(folder: Path, prefix: str) -> int:
    """One more than the highest number among the files `<prefix>_<number>_...` of a folder, as ComfyUI counts."""
    pattern = re.compile(re.escape(os.path.normcase(prefix)) + r"_(\d+)(?:_|$)")
    matches = [pattern.match(os.path.normcase(file)) for file in os.listdir(folder)]
    return max((int(match[1]) for match in matches if match), default=0) + 1
