"""Which models this pack's nodes in a prompt will need, and whether they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pack import load_pack, own_class

from .engine_interface import id_order
from .graph import links_of, prompt_label, schema_of


def model_notes(
    prompt: dict, object_info: dict, model_folders: Callable[[str], list[Path]]
) -> Iterator[tuple[str, bool]]:
    """A sentence for each model that a node of this pack needs, and whether the node could run with what there is.

    Takes: `model_folders`, which gives the folders where the engine keeps models of a kind (``clipseg``, ...).
    """
    load_pack()
    from maskwright.core.errors import PackError  # found through the pack

    for node_id in sorted(prompt, key=id_order):
        node = prompt[node_id]
        kind = own_class(schema_of(object_info, node))
        try:
            told = _needed(kind, node, model_folders) if kind else None
        except PackError as error:
            told = str(error), False
        if told:
            text, fine = told
            yield f"{prompt_label(node_id, node, object_info)}: {text}", fine


def _needed(kind: type, node: dict, model_folders: Callable[[str], list[Path]]) -> tuple[str, bool] | None:
    from maskwright.models import background_store, catalog, clipseg_loader
    from maskwright.nodes import clipseg_model_loader, image_segmentation

    def folders(*kinds: str) -> list[Path]:
        return [folder for each in kinds for folder in model_folders(each)]

    linked = dict(links_of(node))
    if issubclass(kind, image_segmentation.ImageSegmentation) and "model" not in linked:
        name = node["inputs"].get("model", "u2net")
        elsewhere = folders(*background_store.OTHER_FOLDER_KINDS)
        place = background_store.where(name, folders(background_store.FOLDER_KIND), elsewhere)
        return _told(name, place, background_store.known(name))
    is_loader = issubclass(kind, clipseg_model_loader.CLIPSegModelLoader)
    asks = any("CLIPSEG_MODEL" in spec for spec in kind.INPUT_TYPES().get("optional", {}).values())
    if is_loader and "model" not in linked:
        name = node["inputs"].get("model", clipseg_loader.DEFAULT)
    elif asks and "clipseg_model" not in linked:
        name = clipseg_loader.DEFAULT
    else:
        return None
    place = clipseg_loader.where(name, folders(*clipseg_loader.FOLDER_KINDS))
    return _told(name, place, catalog.CLIPSEG if clipseg_loader.full_name(name) == clipseg_loader.DEFAULT else None)


def _told(name: str, place: Path | None, model: object) -> tuple[str, bool]:
    if place is not None:
        return f"the model {name} is in {place}", True
    if model is None:
        return f"the model {name} is not on this computer", False
    size = sum(file.size or 0 for file in model.files)
    much = f" ({size / 1e6:.0f} MB)" if size else ""
    return f"the model {name} is not on this computer; a run downloads it from {model.page}{much}", True
