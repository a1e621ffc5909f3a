"""Legacy ids: other packs' ids for these nodes, as stored in saved workflows.

`register` adds those that no other pack has registered, hidden from the menu. Most are aliases; the classes here are
for legacy nodes whose inputs or outputs differ.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, reduce, wraps
from string import ascii_lowercase

from ..core import checks, masks, tensors
from ..core.errors import InputError, PackError
from ..core.text.clipseg_engine import make_segmenter
from ..core.text.query import Query, split_prompts
from ..core.text.segment import render_selection, score
from . import _host as host
from . import _messages, _text
from ._host import registry
from ._text import CLIPSEG_MODEL, TEXT
from ._widgets import TableNode, get_labels, socket, takes
from .clipseg import CLIPSeg
from .clipseg_masking import CLIPSegMasking
from .clipseg_model_loader import CLIPSegModelLoader
from .from_basic_pipe import FromBasicPipeV2
from .gradient_region import GradientRegion

FALLBACK_ID = "{} (Maskwright)"


class WasClipsegMasking(CLIPSegMasking):
    """CLIPSegMasking with the inputs and outputs of the WAS suite's node."""

    RETURN_NAMES = ("MASK", "MASK_IMAGE")

    INPUTS = {
        "required": {"image": CLIPSegMasking.INPUTS["required"]["images"], "text": TEXT},
        "optional": {"clipseg_model": CLIPSEG_MODEL},
        "hidden": CLIPSegMasking.INPUTS["hidden"],
    }

    def CLIPSeg_image(self, image, text=None, clipseg_model=None, extra_pnginfo=None):
        return super().CLIPSeg_image(image, text, clipseg_model, extra_pnginfo=extra_pnginfo)


def _image_text_pairs(letters: str) -> dict[str, tuple]:
    kind, options = TEXT
    text = (kind, {**options, "multiline": False})  # 24 multiline boxes would not fit
    images = {f"image_{letter}": socket("IMAGE", "All must have the same size.") for letter in letters}
    return {**images, **{f"text_{letter}": text for letter in letters}}


class WasClipsegBatchMasking(TableNode):
    """Up to 24 images, each with its own text, as in version 3 of the WAS suite. Earlier versions had six."""

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
    # Inputs of earlier versions come first: positional calls and saved widget values depend on the order.
    INPUTS = {
        "required": _image_text_pairs(LETTERS[:2]),
        "optional": {
            **_image_text_pairs(LETTERS[2:6]),
            "clipseg_model": CLIPSEG_MODEL,
            **_image_text_pairs(LETTERS[6:]),
        },
    }

    @takes(INPUTS)
    def CLIPSeg_images(self, clipseg_model, **inputs):
        pairs = [
            (checks.as_image_batch(inputs[f"image_{letter}"], f"image_{letter}"), _make_query(inputs, f"text_{letter}"))
            for letter in self.LETTERS
            if inputs[f"image_{letter}"] is not None
        ]
        if not pairs:
            raise InputError("no image is connected", "Connect at least image_a")
        device = pairs[0][0].device
        images = tensors.concatenate([tensors.drop_alpha(image).to(device) for image, _ in pairs], "the images")
        comfyui = host.ComfyHost()
        segmenter = make_segmenter(_text.load(_text.DEFAULT) if clipseg_model is None else clipseg_model, comfyui)
        scores = (score(image, segmenter, query, host=comfyui) for image, query in pairs)
        soft_masks = tensors.concatenate([each.masks.to(device) for each in scores], "the masks")
        return (images, soft_masks, tensors.mask_to_image(soft_masks), len(images))


def _make_query(inputs: dict, name: str) -> Query:
    split_prompts(inputs[name], name)  # so that errors name this input
    return Query(inputs[name])


class CombineSegMasks(TableNode):
    """Sum of masks, with its heat map."""

    DESCRIPTION = "Adds two or three masks and shows the sum as a heat map over an image."
    SEARCH_ALIASES = ["maskwright", "combine masks", "add masks"]
    CATEGORY = CLIPSeg.CATEGORY
    FUNCTION = "combine_masks"
    RETURN_TYPES = ("MASK", "IMAGE", "IMAGE")
    RETURN_NAMES = ("Combined Mask", "Heatmap Mask", "BW Mask")
    OUTPUT_TOOLTIPS = ("The sum of the masks.", "The image with the heat map on top.", "The sum as a grayscale image.")

    INPUTS = {
        "required": {
            "input_image": socket("IMAGE", "The image under the heat map."),
            "mask_1": socket("MASK", "All must have the same size."),
            "mask_2": socket("MASK", "All must have the same size."),
        },
        "optional": {"mask_3": socket("MASK", "All must have the same size.")},
    }

    def combine_masks(self, input_image, mask_1, mask_2, mask_3=None):
        image = checks.as_image_batch(input_image, "input_image")
        inputs = {"mask_1": mask_1, "mask_2": mask_2, "mask_3": mask_3}
        parts = [checks.as_mask_batch(mask, name).to(image.device) for name, mask in inputs.items() if mask is not None]
        parts = [part for part in parts if len(part)] or [image.new_zeros(image.shape[:3])]
        combined = reduce(lambda one, other: masks.combine(one, other, "sum"), parts)
        if len(combined) != len(image) and 1 not in (len(combined), len(image)):
            raise InputError(
                f"input_image is a batch of {len(image)}, and the masks are batches of {len(combined)}",
                "Connect batches of the same size, or a single image or mask",
            )
        gray, heat_map = render_selection(image, combined)
        return (combined, heat_map, tensors.mask_to_image(gray))


# Legacy id -> node class.
OLD_IDS: dict[str, type] = {
    "SaltMaskGradientRegion": GradientRegion,
    "SaltCLIPSegMasking": CLIPSegMasking,
    "SaltCLIPSegLoader": CLIPSegModelLoader,
    "CLIPSeg_": CLIPSeg,
    "CLIPSeg Model Loader": CLIPSegModelLoader,
    "CLIPSeg Masking": WasClipsegMasking,
    "CLIPSeg Batch Masking": WasClipsegBatchMasking,
    "CombineSegMasks": CombineSegMasks,
    "FromBasicPipe_v2": FromBasicPipeV2,
}
# Legacy id -> (current id, {current input: legacy input}), where input names differ.
RENAMED = {"CLIPSeg Masking": ("CLIPSegMasking", {"images": "image", "text": "text"})}


def register(classes: dict[str, type], display_names: dict[str, str]) -> None:
    """Avoid id clashes with other packs, and register legacy ids.

    A node whose id another pack has registered moves to "<id> (Maskwright)". The other nodes get that id as an alias:
    workflows saved with it open without the other pack, and a pack loaded later can still take the plain id.

    Args:
        classes, display_names: This pack's mappings for ComfyUI; changed in place.
    """
    for name, node in list(classes.items()):
        fallback = FALLBACK_ID.format(name)
        display_names[fallback] = FALLBACK_ID.format(display_names[name])
        if registry.is_foreign(name):
            del classes[name], display_names[name]
            classes[fallback] = node
        else:
            classes[fallback] = _FallbackAlias.of(node, name)
            registry.register_replacement(fallback, name, partial(_map_inputs, node))

    ids = {node: name for name, node in classes.items()}
    for old, node in OLD_IDS.items():
        new, inputs = RENAMED.get(old, (ids.get(node, ""), None))
        if not registry.is_foreign(old):
            classes[old] = _make_hidden(node)
            display_names[old] = display_names.get(new, old)
        if new in classes:
            registry.register_replacement(old, new, partial(_map_inputs, node, inputs))

    for node in classes.values():
        _reject_unknown_inputs(node)


_checked_methods: set[Callable] = set()


def _reject_unknown_inputs(node: type) -> None:
    """Make the node's method reject unknown inputs with a clear error, instead of Python's TypeError. Its errors get
    remedies and labels for users of ComfyUI.

    ComfyUI drops a prompt's unknown values but passes on its unknown links. A prompt has such links if it was saved for
    another version of the node, or for another pack's node with the same id.
    """
    name = node.FUNCTION
    owner = next(each for each in node.__mro__ if name in vars(each))  # several ids may share a class
    method = vars(owner)[name]
    if method in _checked_methods:
        return
    known = inspect.signature(method).parameters

    @wraps(method)
    def checked(self, *args, **kwargs):
        unknown = sorted(kwargs.keys() - known.keys())
        if unknown:
            raise InputError(
                f"this node has no input called {', '.join(unknown)}",
                "Remove that link. The workflow was made for another version of this node, or for another pack's node",
            )
        try:
            return method(self, *args, **kwargs)
        except PackError as error:
            _messages.replace_remedy(error)
            _messages.add_labels(error, get_labels(self.INPUT_TYPES()))
            raise

    _checked_methods.add(checked)
    setattr(owner, name, checked)


def _make_hidden(node: type) -> type:
    """A subclass of the node that is hidden from the menu."""
    return type(node.__name__, (node,), {"DEPRECATED": True, "__module__": __name__, "__doc__": node.__doc__})


class _FallbackAlias(type):
    """Metaclass of a node's alias: hidden from the menu unless a pack loaded later takes the node's own id."""

    own_id: str

    @classmethod
    def of(cls, node: type, own_id: str) -> type:
        return cls(node.__name__, (node,), {"own_id": own_id, "__module__": __name__, "__doc__": node.__doc__})

    @property
    def DEPRECATED(cls) -> bool:
        return not registry.is_foreign(cls.own_id)


def _map_inputs(node: type, renamed: dict[str, str] | None = None) -> tuple[dict[str, str], list[str]]:
    """Input mapping and widget names for `registry.register_replacement`."""
    groups = node.INPUT_TYPES()
    inputs = {**groups["required"], **groups.get("optional", {})}
    widgets = [name for name, spec in inputs.items() if isinstance(spec[0], list) or spec[0] in _WIDGET_TYPES]
    return renamed or {name: name for name in groups["required"]}, widgets


_WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN")
