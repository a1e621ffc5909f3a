"""Ids under which saved workflows know these nodes, besides their own.

`register` adds them where no other pack holds them: hidden from the menu, but they run. Most are the same node under
another name; the classes here are those whose inputs or outputs differ.
"""

from __future__ import annotations

from functools import partial, reduce

from ..core import checks, clipseg, masks, tensors
from ..core.errors import InputError
from . import _clipseg
from . import _host as host
from ._host import registry
from .clipseg import CLIPSeg
from .clipseg_masking import CLIPSegMasking
from .clipseg_model_loader import CLIPSegModelLoader
from .gradient_region import GradientRegion

OURS = "{} (Maskwright)"


class ClipsegMaskingOfWas(CLIPSegMasking):
    """CLIPSegMasking with the sockets of the WAS suite."""

    RETURN_NAMES = ("MASK", "MASK_IMAGE")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        inputs = CLIPSegMasking.INPUT_TYPES()
        required, optional = inputs["required"], inputs["optional"]
        return {
            "required": {"image": required["images"], "text": required["text"]},
            "optional": {"clipseg_model": optional["clipseg_model"]},
            "hidden": inputs["hidden"],
        }

    def CLIPSeg_image(self, image, text=None, clipseg_model=None, extra_pnginfo=None):
        return super().CLIPSeg_image(image, text, clipseg_model, extra_pnginfo=extra_pnginfo)


class ClipsegBatchMaskingOfWas:
    """Up to six pictures, each with a text of its own."""

    DESCRIPTION = "Finds in each of up to six pictures what its own text describes, as soft masks."
    SEARCH_ALIASES = CLIPSegMasking.SEARCH_ALIASES
    CATEGORY = CLIPSegMasking.CATEGORY
    FUNCTION = "CLIPSeg_images"
    RETURN_TYPES = ("IMAGE", "MASK", "IMAGE")
    RETURN_NAMES = ("IMAGES_BATCH", "MASKS_BATCH", "MASK_IMAGES_BATCH")
    OUTPUT_TOOLTIPS = ("The pictures as one batch.", "One soft mask for each.", "The same masks as grey pictures.")
    LETTERS = "abcdef"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        def inputs(letters: str) -> dict:
            pictures = {f"image_{letter}": ("IMAGE", {"tooltip": "All of one size."}) for letter in letters}
            return {**pictures, **{f"text_{letter}": _clipseg.TEXT for letter in letters}}

        return {"required": inputs("ab"), "optional": inputs("cdef")}

    def CLIPSeg_images(
        self,
        image_a,
        image_b,
        text_a,
        text_b,
        image_c=None,
        image_d=None,
        image_e=None,
        image_f=None,
        text_c="",
        text_d="",
        text_e="",
        text_f="",
    ):
        pictures = (image_a, image_b, image_c, image_d, image_e, image_f)
        texts = (text_a, text_b, text_c, text_d, text_e, text_f)
        given = [
            (checks.as_image_batch(picture, f"image_{letter}"), clipseg.Query(text))
            for letter, picture, text in zip(self.LETTERS, pictures, texts)
            if picture is not None
        ]
        where = given[0][0].device
        images = tensors.joined([tensors.rgb(picture).to(where) for picture, _ in given], "the images")
        segmenter = _clipseg.segmenter(None)
        found = [
            clipseg.masking(picture, segmenter, query, chunks=host.chunks(len(picture))).to(where)
            for picture, query in given
        ]
        found = tensors.joined(found, "the masks")
        return (images, found, tensors.mask_to_image(found))


class CombineSegMasks:
    """Masks added up, with their heat map."""

    DESCRIPTION = "Adds two or three masks and shows the sum as a heat map over a picture."
    SEARCH_ALIASES = ["combine masks", "add masks"]
    CATEGORY = CLIPSeg.CATEGORY
    FUNCTION = "combine_masks"
    RETURN_TYPES = ("MASK", "IMAGE", "IMAGE")
    RETURN_NAMES = ("Combined Mask", "Heatmap Mask", "BW Mask")
    OUTPUT_TOOLTIPS = ("The sum of the masks.", "The picture under its colours.", "The sum as a grey picture.")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        mask = ("MASK", {"tooltip": "All of one size."})
        picture = ("IMAGE", {"tooltip": "What lies under the heat map."})
        return {
            "required": {"input_image": picture, "mask_1": mask, "mask_2": mask},
            "optional": {"mask_3": mask},
        }

    def combine_masks(self, input_image, mask_1, mask_2, mask_3=None):
        image = checks.as_image_batch(input_image, "input_image")
        given = {"mask_1": mask_1, "mask_2": mask_2, "mask_3": mask_3}
        parts = [checks.as_mask_batch(mask, name).to(image.device) for name, mask in given.items() if mask is not None]
        combined = reduce(lambda one, other: masks.combine(one, other, "sum"), parts)
        if len(combined) != len(image) and 1 not in (len(combined), len(image)):
            raise InputError(
                f"input_image has {len(image)} pictures, and the masks are {len(combined)}",
                "Give as many of one as of the other, or a single one",
            )
        grey, heat_map = clipseg.pictures_of_selection(image, combined)
        return (combined, heat_map, tensors.mask_to_image(grey))


# Old id -> the node that it means.
OLD_IDS: dict[str, type] = {
    "SaltMaskGradientRegion": GradientRegion,
    "SaltCLIPSegMasking": CLIPSegMasking,
    "SaltCLIPSegLoader": CLIPSegModelLoader,
    "CLIPSeg_": CLIPSeg,
    "CLIPSeg Model Loader": CLIPSegModelLoader,
    "CLIPSeg Masking": ClipsegMaskingOfWas,
    "CLIPSeg Batch Masking": ClipsegBatchMaskingOfWas,
    "CombineSegMasks": CombineSegMasks,
}
# Where an old node's inputs have other names than those of the node with an id of its own: new name -> old name.
RENAMED = {"CLIPSeg Masking": ("CLIPSegMasking", {"images": "image", "text": "text"})}


def register(classes: dict[str, type], display_names: dict[str, str]) -> None:
    """Make way for other packs, and add the old ids.

    A node whose id another pack holds is moved to "<id> (Maskwright)"; that id works for the others, too, so that a
    file saved beside the other pack opens without it, and a pack that is loaded later may still take theirs.

    Args:
        classes, display_names: What the pack registers with ComfyUI; changed in place.
    """
    for name, node in list(classes.items()):
        ours = OURS.format(name)
        display_names[ours] = OURS.format(display_names[name])
        if registry.is_foreign(name):
            del classes[name], display_names[name]
            classes[ours] = node
        else:
            classes[ours] = _SecondId.of(node, name)
            registry.offer_replacement(ours, name, partial(_sockets, node))

    ids = {node: name for name, node in classes.items()}
    for old, node in OLD_IDS.items():
        new, inputs = RENAMED.get(old, (ids.get(node), None))
        if not registry.is_foreign(old):
            classes[old] = _hidden(node)
            display_names[old] = display_names.get(new, old)
        if new in classes:
            registry.offer_replacement(old, new, partial(_sockets, node, inputs))


def _hidden(node: type) -> type:
    """The same node, not in the menu."""
    return type(node.__name__, (node,), {"DEPRECATED": True, "__module__": __name__, "__doc__": node.__doc__})


class _SecondId(type):
    """Of nodes that are not in the menu unless a pack that is loaded later takes their first id."""

    @classmethod
    def of(cls, node: type, first_id: str) -> type:
        return cls(node.__name__, (node,), {"first_id": first_id, "__module__": __name__, "__doc__": node.__doc__})

    @property
    def DEPRECATED(cls) -> bool:
        return not registry.is_foreign(cls.first_id)


def _sockets(node: type, renamed: dict[str, str] | None = None) -> tuple[dict[str, str], list[str]]:
    """What `registry.offer_replacement` asks for."""
    groups = node.INPUT_TYPES()
    inputs = {**groups["required"], **groups.get("optional", {})}
    widgets = [name for name, spec in inputs.items() if isinstance(spec[0], list) or spec[0] in _WIDGET_TYPES]
    return renamed or {name: name for name in groups["required"]}, widgets


_WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN")
