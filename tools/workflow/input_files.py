"""Input files: finds the widgets that name them, and copies them to an engine's input folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .check_prompt import is_upload
from .engine_interface import BadWorkflow, WorkflowError, id_order, short
from .graph import needed_nodes, prompt_label, schema_of
from .widgets import input_specs


@dataclass(frozen=True)
class FileWidget:
    """A widget that names a file in the input folder, such as LoadImage's. `value` may be something else by mistake."""

    node_id: str
    widget: str
    value: object
    label: str


def file_widgets(prompt: dict, object_info: dict) -> list[FileWidget]:
    """The file widgets of the nodes that a run needs, in order of node id."""
    result = []
    for node_id in sorted(needed_nodes(prompt, object_info), key=id_order):
        node = prompt[node_id]
        label = prompt_label(node_id, node, object_info)
        for name, (_kind, options) in input_specs(schema_of(object_info, node)).items():
            if is_upload(options) and not isinstance(node["inputs"].get(name, []), list):  # a list is a link
                result.append(FileWidget(node_id, name, node["inputs"][name], label))
    return result


def assign_inputs(prompt: dict, files: list[Path], names: list[str], object_info: dict) -> None:
    """Assign the files of `--input` to the file widgets of a prompt, in place.

    A widget whose saved file name matches a file gets that file. The other files go to the other widgets in order of
    node id: one per widget, or one per distinct file name, if the numbers match.

    Args: ``files``, the user's paths; ``names``, their names in the input folder.
    Raises: `WorkflowError` if no number matches, listing the widgets.
    """
    left_files, left_widgets = list(range(len(files))), []
    for place in file_widgets(prompt, object_info):
        saved_name = PurePosixPath(_remove_folder_mark(place.value)).name
        same = next((index for index, file in enumerate(files) if file.name == saved_name), None)
        if same is None:
            left_widgets.append(place)
        else:
            prompt[place.node_id]["inputs"][place.widget] = names[same]
            left_files = [index for index in left_files if index != same]
    saved_names = list(dict.fromkeys(str(place.value) for place in left_widgets))
    if len(left_files) == len(left_widgets):
        pairs = zip(left_widgets, left_files, strict=True)
    elif len(left_files) == len(saved_names):
        pairs = [(place, left_files[saved_names.index(str(place.value))]) for place in left_widgets]
    elif left_files:
        raise WorkflowError(_explain_mismatch(files, left_files, left_widgets))
    else:
        return
    for place, index in pairs:
        prompt[place.node_id]["inputs"][place.widget] = names[index]


def _explain_mismatch(files: list[Path], left_files: list[int], left_widgets: list[FileWidget]) -> str:
    names = ", ".join(files[index].name for index in left_files)
    if not left_widgets:
        return f"--input: no node is left that loads a file, so {names} cannot be used"
    widgets = "; ".join(f"{place.label} {place.widget}={place.value}" for place in left_widgets)
    return (
        f"--input: {len(left_files)} file(s) ({names}) for {len(left_widgets)} nodes that load a file: {widgets}. "
        f"Use as many files as nodes, or name a node's file with --set, for example "
        f"--set {left_widgets[0].node_id}.{left_widgets[0].widget}={files[left_files[0]].name}"
    )


def _remove_folder_mark(value: object) -> str:
    """A file name without the editor's folder suffix, such as " [output]"; "" if it is not text."""
    return re.sub(r" \[(input|output|temp)\]$", "", value) if isinstance(value, str) else ""


def provide_files(prompt: dict, object_info: dict, folder: Path, other_folders: Iterable[Path]) -> None:
    """Copy the files that a prompt names into the engine's input folder from ``other_folders``, searched in order.

    Raises: `BadWorkflow` naming each file that is in none of them.
    """
    places = list(other_folders)
    problems = []
    for item in file_widgets(prompt, object_info):
        name = _remove_folder_mark(item.value)
        label, target = f"{item.label}, widget {item.widget}", _inside(folder, name)
        if target is None:
            problems.append(f"{label}: {short(item.value)} is not a file name in the input folder")
            continue
        source = next((place / name for place in places if (place / name).is_file()), None)
        if not target.is_file() and source is not None:
            copy_into(folder, source, name)
        if not target.is_file() or str(item.value).endswith((" [output]", " [temp]")):
            searched = ", ".join(map(str, places)) or "no folder"
            problems.append(f'{label}: there is no file "{item.value}" in {searched}; name it with --input FILE')
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


def copy_into(folder: Path, file: Path, name: str | None = None) -> str:
    """Copy a file to ``folder / name`` (default: its own name). Returns that name with forward slashes.

    Raises: `OSError` if the file cannot be read; `ValueError` if the name leads out of the folder.
    """
    folder = folder.resolve()
    target = (folder / (name or file.name)).resolve()
    if not target.is_relative_to(folder):
        raise ValueError(f"{name} leads out of the folder {folder}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    return target.relative_to(folder).as_posix()
