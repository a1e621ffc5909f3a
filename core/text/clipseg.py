"""CLIPSeg (Lüddecke and Ecker, *Image Segmentation Using Text and Image Prompts*, CVPR 2022) in transformers.

CLIPSeg looks at a square picture with CLIP's vision tower, reads three of its layers, and lets a small decoder say for
every pixel whether it belongs to what a text names: a *logit*, and after the sigmoid a *probability*.

The vision tower is nearly all of the work, so it runs once a picture however many prompts there are. On a CPU what it
saw in the last pictures is kept: whoever changes the text or the threshold waits for the decoder alone. A prompt is
encoded once for as long as its model lives. What differs between versions of transformers is inside `Segmenter`.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import logging
import textwrap
from collections.abc import Hashable
from dataclasses import dataclass
from numbers import Real

import torch

from .. import tensors
from ..checks import describe
from ..errors import InputError
from .query import RESOLUTION
from .tensor_cache import TensorCache

# Limits of an image processor's settings. Values beyond them are mistakes, and larger sides would exhaust memory.
_LARGEST_SIDE = 8192
_LARGEST_SETTING = 1e6
_SMALLEST_DIVISOR = 1e-6
# The most that a chunk has, in pictures of the model's own size. On a CPU, one for each core.
_PICTURES_AT_ONCE = 8
# For each model: some hundreds of texts, and what the published one sees in about a dozen pictures.
_TEXTS = TensorCache(1_000_000)
_PICTURES = TensorCache(64_000_000)
_log = logging.getLogger(__name__)


def _unusable(problem: str) -> InputError:
    return InputError(problem, "Give a CLIPSeg processor and model as transformers loads them", code="CLIPSeg model")


def check_clipseg_model(value: object, name: str = "clipseg_model") -> tuple:
    """Return ``value`` if it is a CLIPSEG_MODEL, the pair ``(processor, model)``.

    Raises:
        InputError: Something else.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        held = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
        raise _unusable(f"{name} is a {type(value).__name__}{held}, not a pair (processor, model)")
    processor, model = value
    for part, role, needed in (
        (processor, "processor", ("tokenizer", "image_processor")),
        (model, "model", ("clip", "decoder", "extract_layers", "get_conditional_embeddings")),
    ):
        if not all(hasattr(part, attribute) for attribute in needed):
            raise _unusable(f"{name} holds a {type(part).__name__} where the CLIPSeg {role} should be")
    return processor, model


def copy_with_dtype(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """A copy of a CLIPSeg model that computes in ``dtype``; its decoder stays in float32, since logits are its sums."""
    made = copy.deepcopy(model).to(dtype)
    made.decoder.to(torch.float32)
    return made


@dataclass(frozen=True)
class ImageSettings:
    """How an image is preprocessed for the model.

    Attributes:
        size: Side of the model's square input, in pixels.
        filter: Resize filter: ``nearest``, ``bilinear`` or ``bicubic``.
        factor: Multiplier of 8-bit values.
        mean, std: Of red, green and blue; the model sees (value - mean) / std.
    """

    size: int
    filter: str
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_processor(cls, processor: object, model_size: int = RESOLUTION) -> ImageSettings:
        """Read them from an image processor of transformers; ``model_size`` is used if it has no size.

        Raises:
            InputError: A setting cannot be used; names it.
        """
        size = getattr(processor, "size", None) or model_size
        size = size if isinstance(size, Real) else _first(size, "height", "shortest_edge")
        resample = getattr(processor, "resample", 2)
        resample = getattr(resample, "value", resample)
        if not isinstance(resample, Hashable):
            raise _unusable(f"the CLIPSeg processor's resample is {describe(resample)}, not a resize filter")
        # Pillow's numbers, or torchvision's names.
        names = {0: "nearest", "nearest": "nearest", 2: "bilinear", "bilinear": "bilinear"}
        normalizes = getattr(processor, "do_normalize", True)
        mean, std = (processor.image_mean, processor.image_std) if normalizes else ((0.0,) * 3, (1.0,) * 3)
        return cls(
            size=int(_setting(size, "size", 1, _LARGEST_SIDE)),
            filter=names.get(resample, "bicubic"),
            factor=_setting(getattr(processor, "rescale_factor", None) or 1 / 255, "rescale_factor", _SMALLEST_DIVISOR),
            mean=_three_settings(mean, "image_mean"),
            std=_three_settings(std, "image_std", _SMALLEST_DIVISOR),
        )


def _setting(value: object, name: str, low: float = -_LARGEST_SETTING, high: float = _LARGEST_SETTING) -> float:
    if isinstance(value, Real) and low <= value <= high:
        return float(value)
    raise _unusable(f"the CLIPSeg processor's {name} is {describe(value)}, not a number from {low:g} to {high:g}")


def _three_settings(values: object, name: str, low: float = -_LARGEST_SETTING) -> tuple[float, ...]:
    if not hasattr(values, "__len__") or len(values) != 3:
        raise _unusable(f"the CLIPSeg processor's {name} is {describe(values)}, not three numbers")
    return tuple(_setting(value, name, low) for value in values)


class Segmenter:
    """A CLIPSeg processor and model, ready to be asked. The model runs where its weights lie and is not changed.

    The only code that knows how transformers 4.50 to 5.x spell CLIPSeg.

    Args:
        processor: A ``CLIPSegProcessor``: its tokenizer, and the size, filter and normalisation of its image processor.
        model: A ``CLIPSegForImageSegmentation``. Vision layers after the last one that the decoder reads may be left
            out.
    """

    def __init__(self, processor: object, model: torch.nn.Module) -> None:
        self._processor, self._model = processor, model
        self._model_device = next(model.parameters()).device
        self.on_cpu = self._model_device.type == "cpu"
        # Not every accelerator has the filters that resizing needs; what is done around the model is cheap on a CPU.
        self.device = self._model_device if self._model_device.type == "cuda" else torch.device("cpu")
        self._vision = model.clip.vision_model
        layers = len(self._vision.encoder.layers)
        if not all(0 <= layer < layers for layer in model.extract_layers):
            raise _unusable(
                f"clipseg_model reads the vision layers {list(model.extract_layers)}, counted from 0, and has {layers}"
            )
        self.patch = int(self._vision.embeddings.patch_embedding.stride[0])

        settings = ImageSettings.from_processor(processor.image_processor, model.config.vision_config.image_size)
        self.native_size, self._filter, self._rescale = settings.size, settings.filter, 255.0 * settings.factor
        self._mean = torch.tensor(settings.mean).view(3, 1, 1)
        self._std = torch.tensor(settings.std).view(3, 1, 1)

    def input_side(self, scale: float) -> int:
        """The model's own size times ``scale``, in whole patches."""
        return max(1, round(self.native_size * scale / self.patch)) * self.patch

    def batch_size(self, side: int) -> int:
        """How many images of ``side`` pixels to try at once."""
        pictures = min(_PICTURES_AT_ONCE, torch.get_num_threads()) if self.on_cpu else _PICTURES_AT_ONCE
        return max(1, pictures * self.native_size**2 // side**2)

    def preprocess(self, image: torch.Tensor, side: int) -> torch.Tensor:
        """Pictures as the model sees them: ``[B,H,W,C]`` 0..1 -> ``[B,3,side,side]``, normalised.

        The same arithmetic as the image processor's, which takes 8-bit pictures: not a float more exact, so that a
        mask does not depend on which of the two was used.
        """
        # One at a time: a picture of 8192 x 8192 already takes 800 MB in float.
        squares = [tensors.resize_8bit(tensors.drop_alpha(each), side, side, self._filter) for each in image.split(1)]
        bchw = tensors.image_to_bchw(torch.cat(squares))
        return (bchw * self._rescale - self._mean.to(bchw.device)) / self._std.to(bchw.device)

    def encode_text(self, prompt: str) -> torch.Tensor:
        """What the decoder is asked for, ``[1,projection]``. Encoded once for each text while the model lives.

        A prompt that is longer than the model's text length (77 tokens, with its start and end) is cut, with a
        warning in the log.
        """
        tokens = self._tokens(prompt)
        embedding = _TEXTS.get(self._model, tokens)
        if embedding is None:
            input_ids = torch.tensor([tokens], device=self._model_device)
            embedding = self._model.get_conditional_embeddings(
                batch_size=1, input_ids=input_ids, attention_mask=torch.ones_like(input_ids)
            )
            _TEXTS.put(self._model, tokens, embedding)
        return embedding

    def _tokens(self, prompt: str) -> tuple[int, ...]:
        tokenizer = self._processor.tokenizer
        # Asked for whole, so that what is cut can be told; verbose=False spares the tokenizer's own, vaguer, warning.
        tokens = list(tokenizer(prompt, verbose=False)["input_ids"])
        longest = self._model.config.text_config.max_position_embeddings
        if len(tokens) > longest:
            cut = textwrap.shorten(tokenizer.decode(tokens[longest - 1 : -1]), 200, placeholder=" ...")
            _log.warning(
                "CLIPSeg reads %d tokens of a text and this one has %d: cut at the end, without %r",
                longest,
                len(tokens),
                cut,
            )
            tokens = tokens[: longest - 1] + tokens[-1:]
        return tuple(tokens)

    def encode_image(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """What the decoder reads of the vision tower, ``[B,1 + patches,hidden]`` for each of its extract layers.

        On a CPU the tower runs only for pictures that are not among the last ones it saw. On a GPU it takes
        milliseconds, and the memory is worth more.
        """
        if not self.on_cpu:
            return list(self._run_tower(pixel_values))
        keys = [hashlib.sha256(row.numpy()).digest() for row in pixel_values.contiguous()]
        kept = [_PICTURES.get(self._model, key) for key in keys]
        new = [number for number, row in enumerate(kept) if row is None]
        if new:
            rows = self._run_tower(pixel_values[new]).split(1, dim=1)
            for number, row in zip(new, rows):
                kept[number] = row
                _PICTURES.put(self._model, keys[number], row)
        return list(torch.cat(kept, dim=1)) if len(kept) > 1 else list(kept[0])

    def _run_tower(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """As `activations`, stacked: ``[layers,B,1 + patches,hidden]``, by the tower itself."""
        dtype = self._vision.embeddings.patch_embedding.weight.dtype
        seen = self._vision.embeddings(pixel_values.to(self._model_device, dtype), interpolate_pos_encoding=True)
        seen = self._vision.pre_layrnorm(seen)
        # Layer by layer, not through the tower's own forward: nothing is run or kept that the decoder does not read,
        # and several threads may do it at once, whatever a version of transformers does to record hidden states.
        read = {}
        for number, layer in enumerate(self._vision.encoder.layers[: max(self._model.extract_layers) + 1]):
            seen = _run_layer(layer, seen)
            if number in self._model.extract_layers:
                read[number] = seen.to(next(self._model.decoder.parameters()).dtype)
        return torch.stack([read[number] for number in self._model.extract_layers])

    def decode(self, activations: list[torch.Tensor], embedding: torch.Tensor) -> torch.Tensor:
        """The decoder's answer to one prompt, ``[B,side,side]`` float32, on `device`."""
        embedding = embedding.to(activations[0].dtype).expand(len(activations[0]), -1)
        return self._model.decoder(activations, embedding).logits.to(self.device, torch.float32)


def _run_layer(layer: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """One layer of the vision tower. Before transformers 5 it wants a second mask, and gives a tuple."""
    masks_wanted = {"attention_mask", "causal_attention_mask"} & inspect.signature(layer.forward).parameters.keys()
    result = layer(hidden, **dict.fromkeys(masks_wanted))
    return result[0] if isinstance(result, tuple) else result


def _first(size: object, *names: str) -> int:
    """The first of ``names`` that a size, a dict or an object of transformers that acts as one, has."""
    for name in names:
        found = size.get(name) if isinstance(size, dict) else getattr(size, name, None)
        if found:
            return found
    raise InputError(f"the CLIPSeg processor's size is {describe(size)}", f"Give it one of: {', '.join(names)}")
