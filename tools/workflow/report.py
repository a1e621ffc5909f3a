"""Reports on a file without running it: unknown nodes, faults, and models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pack import load_pack, own_class

from .checks import check_prompt
from .engine_interface import BadWorkflow
from .graph import id_order, prompt_label, schema_of
from .read_workflow import Workflow
from .to_prompt import convert, find_unknown


def report(
    workflow: Workflow,
    object_info: dict,
    unknown: Callable[[str], str],
    model_folders: Callable[[str], list[Path]],
) -> tuple[list[str], list[str]]:
    """Return notes on a workflow and its problems: two lists of sentences, each naming its node.

    Args: ``workflow``, checked by `check_structure`; for the rest see `to_prompt` and `model_notes`.
    """
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


def model_notes(
    prompt: dict, object_info: dict, model_folders: Callable[[str], list[Path]]
) -> Iterator[tuple[str, bool]]:
    """Yield a sentence for each model that a node of this pack needs, and whether the node can run.

    Args: ``model_folders``, which returns the engine's folders for a kind of model (``clipseg``, ...).
    """
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


def _find_model(kind: type, inputs: dict, model_folders: Callable[[str], list[Path]]) -> tuple[str, bool] | None:
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
