"""Crops ComfyUI's objects that hold images: ControlNets, and patches of a MODEL."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import torch

from ...core.detail.host_objects import Cropper
from ...core.geometry import Box

# Of ControlNets: hints [B,C,h,w], masks [B,...,h,w], and lists of masks. All but the first hint are those of
# inpainting and of other packs.
_HINTS = ("cond_hint_original",)
_MASKS = ("mask_cond_hint_original",)
_MASK_LISTS = ("extra_concat_orig",)

# Of patches: images [B,h,w,C] that the patch encodes when it runs, masks [B,...,h,w], and caches to clear so that it
# encodes them again.
_PATCH_IMAGES = ("image", "inpaint_image", "render_video")
_PATCH_MASKS = ("mask",)
_PATCH_CACHES = ("encoded_image_size", "prepared_render", "temp_data")

logger = logging.getLogger(__name__)


class ComfyObjects:
    """A `host_objects.HostObjects` for ComfyUI, for one run of a node."""

    def __init__(self) -> None:
        self._clones: dict[int, tuple[Any, Any]] = {}  # by id of the model: the model and its clone
        self._warned: set[str] = set()

    def crop_control(self, control: Any, cropper: Cropper) -> Any:
        """Copy each ControlNet with its own ``copy``, so that strength, range and model are kept."""
        if control is None:
            return None
        if not callable(getattr(control, "copy", None)) or not hasattr(control, "cond_hint_original"):
            self._warn(f"The ControlNet {type(control).__name__} sees the whole image: its hint cannot be cropped")
            return control
        result = control.copy()
        for names, crop in ((_HINTS, cropper.crop_pixels), (_MASKS, cropper.crop_mask)):
            for name in names:
                value = getattr(control, name, None)
                if isinstance(value, torch.Tensor):
                    setattr(result, name, crop(value))
        for name in _MASK_LISTS:
            if getattr(control, name, None):
                setattr(result, name, [_crop_unless_constant(mask, cropper) for mask in getattr(control, name)])
        # Not through set_previous_controlnet, which controls of other packs may refuse.
        result.previous_controlnet = self.crop_control(getattr(control, "previous_controlnet", None), cropper)
        return result

    def holds_images(self, model: Any, image: Box, ratio: int) -> bool:
        """See `host_objects.HostObjects`."""
        sizes = {(image.height, image.width), (image.height // ratio, image.width // ratio)}
        croppable = {id(patch) for patch in _find_patches(_patches(model)) if _holds_images(patch)}
        for patch in _find_patches(getattr(model, "model_options", {})):
            if id(patch) not in croppable and _holds_size(patch, sizes):
                name = getattr(patch, "__qualname__", type(patch).__name__)
                self._warn(f"The model patch {name} was made for the whole image, and is used unchanged for every crop")
        return bool(croppable)

    def crop_model(self, model: Any, cropper: Cropper) -> Any:
        """A clone of the model, one per run, whose patches are replaced for each crop."""
        patches = _patches(model)
        if not any(_holds_images(patch) for patch in _find_patches(patches)):
            return model
        if id(model) not in self._clones:
            self._clones[id(model)] = model, model.clone()
        clone, copies = self._clones[id(model)][1], {}
        clone.model_options["transformer_options"] |= {
            name: _replace_patches(entries, cropper, copies) for name, entries in patches.items()
        }
        return clone

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            logger.warning(sentence)
            self._warned.add(sentence)


def _crop_unless_constant(mask: torch.Tensor, cropper: Cropper) -> torch.Tensor:
    return mask if mask.shape[-2:] == (1, 1) else cropper.crop_mask(mask)


def _patches(model: Any) -> dict[str, Any]:
    """The model's patches: nested dicts and lists by kind."""
    options = getattr(model, "model_options", {}).get("transformer_options", {})
    return {name: options[name] for name in ("patches", "patches_replace") if name in options}


def _find_patches(entries: Any) -> Iterator[Any]:
    """Yield all objects in nested dicts, lists and tuples that can be called."""
    if isinstance(entries, dict):
        entries = entries.values()
    elif not isinstance(entries, (list, tuple)):
        if callable(entries):
            yield entries
        return
    for entry in entries:
        yield from _find_patches(entry)


def _attributes(patch: Any) -> dict[str, Any]:
    return getattr(patch, "__dict__", {})


def _holds_images(patch: Any) -> bool:
    return any(_is_image(_attributes(patch).get(name)) for name in _PATCH_IMAGES)


def _is_image(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 4 and value.shape[-1] in (1, 3, 4)


def _holds_size(patch: Any, sizes: set[tuple[int, int]]) -> bool:
    """Whether an attribute, or a variable that a function has captured, is a tensor of one of these sizes."""
    captured = (cell.cell_contents for cell in getattr(patch, "__closure__", None) or () if _is_set(cell))
    values = (value for value in (*_attributes(patch).values(), *captured) if isinstance(value, torch.Tensor))
    return any({tuple(value.shape[-2:]), tuple(value.shape[-3:-1])} & sizes for value in values)


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a variable without a value yet
        return False


def _replace_patches(entries: Any, cropper: Cropper, copies: dict[int, Any]) -> Any:
    """The same nested entries with cropped copies of patches; ``copies`` are those made so far, by id."""
    if isinstance(entries, dict):
        return {name: _replace_patches(entry, cropper, copies) for name, entry in entries.items()}
    if isinstance(entries, (list, tuple)):
        return type(entries)(_replace_patches(entry, cropper, copies) for entry in entries)
    return _crop_patch(entries, cropper, copies)


def _crop_patch(patch: Any, cropper: Cropper, copies: dict[int, Any]) -> Any:
    """A copy with cropped images; a copy that refers to such copies; or the patch itself."""
    if id(patch) not in copies:
        inner = [(name, value) for name, value in _attributes(patch).items() if _holds_images(value)]
        if not inner and not _holds_images(patch):
            return patch
        copies[id(patch)] = result = copy.copy(patch)
        for name, value in inner:
            setattr(result, name, _crop_patch(value, cropper, copies))
        for names, crop in ((_PATCH_IMAGES, cropper.crop_image), (_PATCH_MASKS, cropper.crop_mask)):
            for name in names:
                if isinstance(_attributes(patch).get(name), torch.Tensor):
                    setattr(result, name, crop(_attributes(patch)[name]))
        for name in _PATCH_CACHES:
            if name in _attributes(patch):
                setattr(result, name, None)
    return copies[id(patch)]
