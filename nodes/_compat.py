"""Ids under which saved workflows know these nodes, besides their own.

`register` adds them where no other pack holds them: hidden from the menu, but they run. Most are the same node under
another name; the classes here are those whose inputs or outputs differ.
"""

from __future__ import annotations

import inspect
from functools import partial, reduce, wraps
from string import ascii_lowercase

from ..core import checks, masks, tensors
from ..core.errors import InputError
from ..core.text.query import Query, split_prompts
from ..core.text.segment import score
from ..core.text.selection import selection_images
from . import _clipseg
from . import _host as host
from ._host import registry
from .clipseg import CLIPSeg
from .clipseg_masking import CLIPSegMasking
from .clipseg_model_loader import CLIPSegModelLoader
from .from_basic_pipe import FromBasicPipeV2
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
    """Up to 24 images, each with its own text, as in the third version of the WAS suite; earlier versions had six."""

    DESCRIPTION = "Scores each of up to 24 images against a text of its own and returns the scores as soft masks."
    SEARCH_ALIASES = CLIPSegMasking.SEARCH_ALIASES
    CATEGORY = CLIPSegMasking.CATEGORY
    FUNCTION = "CLIPSeg_images"
    RETURN_TYPES = ("IMAGE", "MASK", "IMAGE", "INT")
    RETURN_NAMES = ("IMAGES_BATCH", "MASKS_BATCH", "MASK_IMAGES_BATCH", "count")
    OUTPUT_TOOLTIPS = (
        "The images as one batch.",
        "One soft mask per image.",
        "The same masks as grayscale images.",
        "Number of images in each batch.",
    )
    LETTERS = ascii_lowercase[:24]

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        kind, options = _clipseg.TEXT
        text = (kind, {**options, "multiline": False})  # there are 24

        def inputs(letters: str) -> dict:
            images = {f"image_{letter}": ("IMAGE", {"tooltip": "All must have the same size."}) for letter in letters}
            return {**images, **{f"text_{letter}": text for letter in letters}}

        # Inputs of the first version come first: positional calls and saved widget values depend on the order.
        added = {"clipseg_model": _clipseg.CLIPSEG_MODEL, **inputs(cls.LETTERS[6:])}
        return {"required": inputs("ab"), "optional": {**inputs("cdef"), **added}}

    def CLIPSeg_images(self, *args, **kwargs):
        values = inspect.signature(self.CLIPSeg_images).bind(*args, **kwargs)
        values.apply_defaults()
        values = values.arguments
        pairs = [
            (checks.as_image_batch(values[f"image_{letter}"], f"image_{letter}"), _query(values, f"text_{letter}"))
            for letter in self.LETTERS
            if values[f"image_{letter}"] is not None
        ]
        if not pairs:
            raise InputError("no image is connected", "Connect at least image_a")
        where = pairs[0][0].device
        images = tensors.joined([tensors.rgb(image).to(where) for image, _ in pairs], "the images")
        segmenter = _clipseg.segmenter(values["clipseg_model"])
        found = [score(image, segmenter, query, host=host.ComfyHost()).masks.to(where) for image, query in pairs]
        found = tensors.joined(found, "the masks")
        return (images, found, tensors.mask_to_image(found), len(images))


def _query(values: dict, name: str) -> Query:
    split_prompts(values[name], name)  # raises with the input's own name
    return Query(values[name])


def _signature_of(node: type) -> inspect.Signature:
    """The signature of a method that takes a node's inputs in order: images and models default to None, text to ""."""
    groups = node.INPUT_TYPES()
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("self", kind), *(inspect.Parameter(name, kind) for name in groups["required"])]
    for name, (_, options) in groups["optional"].items():
        parameters.append(inspect.Parameter(name, kind, default=options.get("default")))
    return inspect.Signature(parameters)


ClipsegBatchMaskingOfWas.CLIPSeg_images.__signature__ = _signature_of(ClipsegBatchMaskingOfWas)


class CombineSegMasks:
    """Masks added up, with their heat map."""

    DESCRIPTION = "Adds two or three masks and shows the sum as a heat map over an image."
    SEARCH_ALIASES = ["maskwright", "combine masks", "add masks"]
    CATEGORY = CLIPSeg.CATEGORY
    FUNCTION = "combine_masks"
    RETURN_TYPES = ("MASK", "IMAGE", "IMAGE")
    RETURN_NAMES = ("Combined Mask", "Heatmap Mask", "BW Mask")
    OUTPUT_TOOLTIPS = ("The sum of the masks.", "The image with the heat map on top.", "The sum as a grayscale image.")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        mask = ("MASK", {"tooltip": "All must have the same size."})
        image = ("IMAGE", {"tooltip": "The image under the heat map."})
        return {
            "required": {"input_image": image, "mask_1": mask, "mask_2": mask},
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
        grey, heat_map = selection_images(image, combined)
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
    "FromBasicPipe_v2": FromBasicPipeV2,
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

    for node in classes.values():
        _reject_unknown_inputs(node)


def _reject_unknown_inputs(node: type) -> None:
    """Make the node's method reject unknown inputs with a clear error, instead of Python's TypeError.

    ComfyUI drops unknown values of a prompt but passes on unknown links, as from another version of the node, or from
    another pack's node with the same id.
    """
    name = node.FUNCTION
    owner = next(each for each in node.__mro__ if name in vars(each))  # several ids may share a class
    method = vars(owner)[name]
    if hasattr(method, "rejects_unknown_inputs"):
        return
    known = inspect.signature(method).parameters

    @wraps(method)
    def checked(self, *args, **kwargs):
        unknown = [each for each in kwargs if each not in known]
        if unknown:
            raise InputError(
                f"this node has no input called {', '.join(unknown)}",
                "Remove that link. The workflow was made for another version of this node, or for another pack's node",
            )
        return method(self, *args, **kwargs)

    checked.rejects_unknown_inputs = True
    setattr(owner, name, checked)


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
