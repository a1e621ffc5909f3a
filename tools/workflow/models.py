"""Which models this pack's nodes in a prompt need, and whether they exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pack import load_pack, own_class

from .engine_interface import id_order
from .graph import links_of, prompt_label, schema_of


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
            note = _find_model(kind, node, model_folders) if kind else None
        except PackError as error:
            note = str(error), False
        if note:
            yield f"{prompt_label(node_id, node, object_info)}: {note[0]}", note[1]


def _find_model(kind: type, node: dict, model_folders: Callable[[str], list[Path]]) -> tuple[str, bool] | None:
    from maskwright.models import catalog
    from maskwright.models.background_models import OTHER_KINDS, BackgroundStore, published_model
    from maskwright.models.clipseg_store import DEFAULT, ClipsegStore, full_name
    from maskwright.nodes import clipseg_model_loader, image_segmentation

    def folders(*kinds: str) -> list[Path]:
        return [folder for each in kinds for folder in model_folders(each)]

    linked = dict(links_of(node))
    if issubclass(kind, image_segmentation.ImageSegmentation) and "model" not in linked:
        name = node["inputs"].get("model", "u2net")
        local = BackgroundStore(folders(*BackgroundStore.KINDS), folders(*OTHER_KINDS)).locate(name)
        return _describe(name, local and local.path, published_model(name))
    is_loader = issubclass(kind, clipseg_model_loader.CLIPSegModelLoader)
    types = [spec[0] for spec in kind.INPUT_TYPES().get("optional", {}).values() if isinstance(spec[0], str)]
    takes_model = any("CLIPSEG_MODEL" in each.split(",") for each in types)
    if is_loader and "model" not in linked:
        name = node["inputs"].get("model", DEFAULT)
    elif takes_model and "clipseg_model" not in linked:
        name = DEFAULT
    else:
        return None
    local = ClipsegStore(folders(*ClipsegStore.KINDS)).locate(name)
    return _describe(name, local and local.path, catalog.CLIPSEG if full_name(name) == DEFAULT else None)


def _describe(name: str, place: Path | None, model: object) -> tuple[str, bool]:
    from maskwright.models import catalog

    if place is not None:
        return f"the model {name} is in {place}", True
    if model is None:
        return f"the model {name} is not on this computer", False
    size = f" ({catalog.download_size(model)})" if model.size else ""
    return f"the model {name} is not on this computer; a run downloads it from {model.page}{size}", True
