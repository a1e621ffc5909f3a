"""The node CLIPSegModelLoader: a CLIPSeg model for the CLIPSeg nodes."""

from __future__ import annotations

from ..models import catalog
from ..models.clipseg_store import DEFAULT, DEMO
from . import _text
from ._widgets import TableNode, choice


def _available() -> list[str]:
    return _text.store().available()


def _labels() -> dict[str, str]:
    """Labels for list entries whose name alone does not say enough."""
    downloads = {model.name: catalog.download_label(model) for model in _text.store().not_on_disk()}
    return {DEMO: "demo (shapes only)", **downloads}


class CLIPSegModelLoader(TableNode):
    """Loads a CLIPSeg model once and keeps it."""

    DESCRIPTION = (
        "Loads a CLIPSeg model from ComfyUI's models/clipseg folder or from the Hugging Face cache. The published "
        "model is downloaded on first use. A model is loaded once and kept."
    )
    SEARCH_ALIASES = [
        "maskwright",
        "load clipseg",
        "text segmentation model",
        "clipseg checkpoint",
        "text to mask model",
    ]
    CATEGORY = "model/loaders"
    FUNCTION = "clipseg_model"
    RETURN_TYPES = ("CLIPSEG_MODEL",)
    RETURN_NAMES = ("clipseg_model",)
    OUTPUT_TOOLTIPS = ("The model with its processor, for the two CLIPSeg nodes.",)

    INPUTS = {
        "required": {
            "model": choice(
                _available,
                default=DEFAULT,
                option_labels=_labels,
                tooltip="The published model, or one of the folders in models/clipseg. An arrow and a size mean that "
                "the model is downloaded on first use.",
            ),
        },
    }

    @classmethod
    def VALIDATE_INPUTS(cls, model=None, input_types=None) -> bool:
        """Accept any name: saved files may name models that are not in the list, and the widget was a text field in
        earlier nodes, so it may be linked. `_text.load` reports a missing model with more detail."""
        return True

    def clipseg_model(self, model):
        return (_text.load(model),)
