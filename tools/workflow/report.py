"""Reports on a file without running it: unknown nodes, faults that comfy-cli's validator finds, and models."""

from __future__ import annotations

import inspect
from collections.abc import Callable
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
    problems, notes = find_unknown(workflow, object_info, unknown)
    try:
        prompt = convert(workflow, object_info, notes.append)
    except BadWorkflow as error:
        return notes, [*problems, *error.problems]
    problems += check_prompt(prompt, object_info, complete=not problems)
    load_pack()
    from maskwright.core.errors import PackError  # found through the pack

    for node_id in sorted(prompt, key=id_order):
        node = prompt[node_id]
        kind, label = own_class(schema_of(object_info, node)), prompt_label(node_id, node, object_info)
        try:
            if kind and (sentence := _describe_model(kind, node["inputs"], model_folders)):
                notes.append(f"{label}: {sentence}")
        except PackError as error:
            problems.append(f"{label}: {error}")
    return notes, problems


def _describe_model(kind: type, inputs: dict, model_folders: Folders) -> str:
    """Where a node's model is, or where a run downloads it from; "" for a node without one. Raises: `PackError`."""
    from maskwright.core.errors import ModelError
    from maskwright.models import background_models, catalog, clipseg_store
    from maskwright.nodes import clipseg_model_loader, image_segmentation

    def folders(*kinds: str) -> list[Path]:
        return [folder for each in kinds for folder in model_folders(each)]

    is_background = issubclass(kind, image_segmentation.ImageSegmentation)
    is_loader = is_background or issubclass(kind, clipseg_model_loader.CLIPSegModelLoader)
    if not is_loader and "clipseg_model" not in kind.INPUT_TYPES().get("optional", {}):
        return ""
    default = "u2net" if is_background else clipseg_store.DEFAULT
    name = inputs.get("model" if is_loader else "clipseg_model", default)
    if isinstance(name, list):  # a link
        return ""
    if is_background:
        store = background_models.BackgroundStore(folders("rembg"), folders(*background_models.OTHER_KINDS))
        local, published = store.locate(name), background_models.published_model(name)
    else:
        local = clipseg_store.ClipsegStore(folders(*clipseg_store.ClipsegStore.KINDS)).locate(name)
        published = catalog.CLIPSEG if clipseg_store.full_name(name) == clipseg_store.DEFAULT else None
    if local is not None:
        return f"the model {name} is in {local.path}"
    if published is None:
        raise ModelError(f"the model {name} is not on this computer", "Choose another model")
    size = f" ({catalog.download_size(published)})" if published.size else ""
    return f"the model {name} is not on this computer; a run downloads it from {published.page}{size}"


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
