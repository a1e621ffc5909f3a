"""Reports on a file without running it: unknown nodes, faults that comfy-cli's validator finds, and models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

from comfy_cli.cql.engine import Graph
from pack import load_pack, own_class

from .engine_interface import BadWorkflow
from .graph import id_order, prompt_label, schema_of
from .read_workflow import Workflow
from .to_prompt import Unknown, convert, find_unknown
from .widgets import input_specs, is_upload

Folders = Callable[[str], list[Path]]  # for a kind of model, such as clipseg
Report = tuple[list[str], list[str]]  # notes and problems: sentences, each naming its node


def report(workflow: Workflow, object_info: dict, unknown: Unknown, model_folders: Folders) -> Report:
    """Report on a workflow that `check_structure` accepts. For the other arguments see `to_prompt`."""
    notes, problems = [], []
    for sentence, needed in find_unknown(workflow, object_info, unknown):
        (problems if needed else notes).append(sentence)
    try:
        prompt = convert(workflow, object_info, notes.append)
    except BadWorkflow as error:
        return notes, [*problems, *error.problems]
    problems += check_prompt(prompt, object_info, complete=not problems)
    for text, fine in model_notes(prompt, object_info, model_folders):
        (notes if fine else problems).append(text)
    return notes, problems


def model_notes(prompt: dict, object_info: dict, model_folders: Folders) -> Iterator[tuple[str, bool]]:
    """Yield a sentence for each model that a node of this pack needs, and whether the node can run."""
    load_pack()
    from maskwright.core.errors import PackError  # found through the pack

    for node_id in sorted(prompt, key=id_order):
        node = prompt[node_id]
        kind = own_class(schema_of(object_info, node))
        try:
            note = _find_model(kind, node["inputs"], model_folders) if kind else None
        except PackError as error:
            note = str(error), False
        if note:
            yield f"{prompt_label(node_id, node, object_info)}: {note[0]}", note[1]


def _find_model(kind: type, inputs: dict, model_folders: Folders) -> tuple[str, bool] | None:
    from maskwright.models import catalog
    from maskwright.models.background_models import OTHER_KINDS, BackgroundStore, published_model
    from maskwright.models.clipseg_store import DEFAULT, ClipsegStore, full_name
    from maskwright.nodes import clipseg_model_loader, image_segmentation

    def folders(*kinds: str) -> list[Path]:
        return [folder for each in kinds for folder in model_folders(each)]

    is_background = issubclass(kind, image_segmentation.ImageSegmentation)
    if is_background:
        name = inputs.get("model", "u2net")
    elif issubclass(kind, clipseg_model_loader.CLIPSegModelLoader):
        name = inputs.get("model", DEFAULT)
    elif "clipseg_model" in kind.INPUT_TYPES().get("optional", {}):
        name = inputs.get("clipseg_model", DEFAULT)
    else:
        return None
    if isinstance(name, list):  # a link
        return None
    if is_background:
        store = BackgroundStore(folders(*BackgroundStore.KINDS), folders(*OTHER_KINDS))
        local, published = store.locate(name), published_model(name)
    else:
        local = ClipsegStore(folders(*ClipsegStore.KINDS)).locate(name)
        published = catalog.CLIPSEG if full_name(name) == DEFAULT else None
    if local is not None:
        return f"the model {name} is in {local.path}", True
    if published is None:
        return f"the model {name} is not on this computer", False
    size = f" ({catalog.download_size(published)})" if published.size else ""
    return f"the model {name} is not on this computer; a run downloads it from {published.page}{size}", True


def check_prompt(prompt: dict, object_info: dict, complete: bool = True) -> list[str]:
    """Check a prompt's nodes, values and links with comfy-cli's validator. Return a sentence per fault.

    Args: ``complete``, False if unknown nodes were left out, which makes missing inputs expected.
    """
    result = Graph.from_object_info(object_info).validate_workflow(prompt)
    # ComfyUI treats any text for a switch as true, even "false".
    texts = [each for each in result["warnings"] if isinstance(each.get("coerced_value"), bool)]
    problems = []
    for fault in result["errors"] + [each for each in texts if each["code"] == "coercible_type"]:
        node_id = fault.get("node_id")
        node = prompt.get(node_id) or {}
        own = _own_checks(schema_of(object_info, node))
        expected = {"unknown_class_type"} | (set() if complete else {"required_input_missing"})
        expected |= {"unknown_enum_value"} if fault.get("field") in own else set()
        expected |= {"edge_type_mismatch"} if "input_types" in own else set()
        if fault["code"] not in expected:
            label = f"{prompt_label(node_id, node, object_info)}: " if node else ""
            hint = f"; {fault['hint']}" if fault.get("hint") and "comfy " not in fault["hint"] else ""
            text = label + fault["message"].replace("catalog ", "") + hint
            problems.append(text if len(text) <= 400 else f"{text[:397]}...")
    return problems


def _own_checks(schema: dict) -> set[str]:
    """Inputs that may have values outside their list: files that a run provides, and inputs that the node checks
    itself, such as this pack's models."""
    uploads = {name for name, (_, options) in input_specs(schema).items() if is_upload(options)}
    validate = getattr(own_class(schema), "VALIDATE_INPUTS", None)
    return uploads | set(inspect.getfullargspec(validate).args if validate else ())
