"""CLIPSeg (Lüddecke and Ecker, *Image Segmentation Using Text and Image Prompts*, CVPR 2022) in transformers.

CLIPSeg encodes a square image with CLIP's vision tower. From the activations of three of its layers, a small decoder
computes a *logit* for every pixel: how well it matches a text. The sigmoid turns it into a *probability*.

The vision tower is nearly all of the work, so it runs once per image, regardless of the number of prompts. On the CPU,
the activations of recent images are cached: a new text or threshold runs only the decoder. Embeddings of prompts are
cached as long as the model lives. `Segmenter` handles the differences between versions of transformers.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import logging
import textwrap
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .. import tensors
from ..batching import STANDALONE_HOST
from ..checks import describe, is_real
from ..engine import Host
from ..errors import InputError
from .query import RESOLUTION

# Limits of an image processor's settings. Values beyond them are mistakes, and larger sides would exhaust memory.
_MAX_SIDE = 8192
_MAX_SETTING = 1e6
_MIN_DIVISOR = 1e-6
# Largest batch of images at the model's native size. On the CPU, at most one per core.
_MAX_BATCH_SIZE = 8
logger = logging.getLogger(__name__)


class TensorCache:
    """For each model, the most recently used tensors, up to ``limit`` bytes. Thread-safe.

    Tensors do not outlive their model.

    Views are counted by their own size, although they keep their base alive.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._by_model: weakref.WeakKeyDictionary[torch.nn.Module, OrderedDict[Hashable, torch.Tensor]]
        self._by_model = weakref.WeakKeyDictionary()

    def get(self, model: torch.nn.Module, key: Hashable) -> torch.Tensor | None:
        """The tensor cached under ``key``, or None."""
        with self._lock:
            tensors = self._by_model.get(model, OrderedDict())
            if key not in tensors:
                return None
            tensors.move_to_end(key)
            return tensors[key]

    def put(self, model: torch.nn.Module, key: Hashable, tensor: torch.Tensor) -> None:
        """Cache ``tensor``, and evict the least recently used ones beyond the limit; ``tensor`` itself if too large."""
        with self._lock:
            tensors = self._by_model.setdefault(model, OrderedDict())
            tensors[key] = tensor
            while sum(each.nbytes for each in tensors.values()) > self._limit:
                tensors.popitem(last=False)

    def __len__(self) -> int:
        """The number of cached tensors of all models."""
        with self._lock:
            return sum(len(tensors) for tensors in self._by_model.values())


# Per model: a few hundred texts, and activations of about a dozen images.
_TEXT_CACHE = TensorCache(1_000_000)
_IMAGE_CACHE = TensorCache(64_000_000)


def _invalid_model(problem: str) -> InputError:
    return InputError(problem, "Use a CLIPSeg processor and model as loaded by transformers", code="CLIPSeg model")


def copy_with_dtype(model: Any, dtype: torch.dtype) -> Any:
    """Copy a CLIPSeg model with weights in ``dtype``. The decoder stays in float32 for exact logits."""
    result = copy.deepcopy(model).to(dtype)
    result.decoder.to(torch.float32)
    return result


def make_segmenter(clipseg_model: object, host: Host = STANDALONE_HOST) -> Segmenter:
    """Make an engine of a CLIPSEG_MODEL, a pair ``(processor, model)``. ``host`` moves the model to its device.

    KJNodes' CLIPSEGMODEL, a dict of the two, is also accepted.

    Raises:
        InputError: It is neither.
    """
    if isinstance(clipseg_model, Mapping) and {"processor", "model"} <= clipseg_model.keys():
        clipseg_model = clipseg_model["processor"], clipseg_model["model"]
    kind = type(clipseg_model).__name__
    if not isinstance(clipseg_model, (tuple, list)):
        raise _invalid_model(f"clipseg_model is of type {kind}, not a pair (processor, model)")
    if len(clipseg_model) != 2:
        length = len(clipseg_model)
        raise _invalid_model(f"clipseg_model is of type {kind} of length {length}, not a pair (processor, model)")
    processor, model = clipseg_model
    for part, role, attributes in (
        (processor, "processor", ("tokenizer", "image_processor")),
        (model, "model", ("clip", "decoder", "extract_layers", "get_conditional_embeddings")),
    ):
        for attribute in attributes:
            if not hasattr(part, attribute):
                raise _invalid_model(
                    f"the {role} in clipseg_model is of type {type(part).__name__}, not a CLIPSeg {role}"
                )
    return Segmenter(processor, host.on_device(model, copy_with_dtype))


@dataclass(frozen=True)
class ImageSettings:
    """How images are preprocessed for the model.

    Attributes:
        size: Side of the model's square input, in pixels.
        filter: Resize filter: ``nearest``, ``bilinear`` or ``bicubic``.
        factor: Scale factor for 8-bit values.
        mean, std: Per RGB channel; the model's input is (value - mean) / std.
    """

    size: int
    filter: str
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_processor(cls, processor: Any, model_size: int = RESOLUTION) -> ImageSettings:
        """Read the settings of a transformers image processor. Without a size, ``model_size`` is used.

        Raises:
            InputError: A setting is invalid.
        """
        size = getattr(processor, "size", None) or model_size
        if not is_real(size):
            side = None
            for name in ("height", "shortest_edge"):  # of a dict, or of a dict-like object of transformers
                side = side or (size.get(name) if isinstance(size, dict) else getattr(size, name, None))
            if not side:
                remedy = "It needs one of: height, shortest_edge"
                raise InputError(f"the CLIPSeg processor's size is {describe(size)}", remedy)
            size = side
        resample = getattr(processor, "resample", 2)
        resample = getattr(resample, "value", resample)
        if not isinstance(resample, Hashable):
            raise _invalid_model(f"the CLIPSeg processor's resample is {describe(resample)}, not a resize filter")
        # Pillow's numbers or torchvision's names
        filters = {0: "nearest", "nearest": "nearest", 2: "bilinear", "bilinear": "bilinear"}
        normalizes = getattr(processor, "do_normalize", True)
        mean, std = (processor.image_mean, processor.image_std) if normalizes else ((0.0,) * 3, (1.0,) * 3)
        factor = getattr(processor, "rescale_factor", None) or 1 / 255
        return cls(
            size=int(*_parse_setting([size], "size", 1, _MAX_SIDE)),
            filter=filters.get(resample, "bicubic"),
            factor=_parse_setting([factor], "rescale_factor", _MIN_DIVISOR)[0],
            mean=_parse_setting(mean, "image_mean", count=3),
            std=_parse_setting(std, "image_std", _MIN_DIVISOR, count=3),
        )


def _parse_setting(
    values: Any, name: str, low: float = -_MAX_SETTING, high: float = _MAX_SETTING, count: int = 1
) -> tuple[float, ...]:
    """Check the ``count`` numbers of a setting."""
    if not hasattr(values, "__len__") or len(values) != count:
        raise _invalid_model(f"the CLIPSeg processor's {name} is {describe(values)}, not {count} numbers")
    for value in values:
        if not is_real(value) or not low <= value <= high:
            problem = f"the CLIPSeg processor's {name} is {describe(value)}, not a number from {low:g} to {high:g}"
            raise _invalid_model(problem)
    return tuple(map(float, values))


class Segmenter:
    """An `engine.TextMaskEngine` from a CLIPSeg processor and model, for transformers 4.50 to 5.x.

    Runs on the device of the model's weights, and never modifies the model.

    Args:
        processor: A ``CLIPSegProcessor``. Only the tokenizer and the image processor's settings are used.
        model: A ``CLIPSegForImageSegmentation``. Vision layers that the decoder does not need may be missing.
    """

    def __init__(self, processor: Any, model: Any) -> None:
        self._processor, self._model = processor, model
        self._model_device = next(model.parameters()).device
        self.on_cpu = self._model_device.type == "cpu"
        # Not every accelerator supports the resize filters, and pre- and postprocessing are cheap on the CPU.
        self.device = self._model_device if self._model_device.type == "cuda" else torch.device("cpu")
        self._vision = model.clip.vision_model
        layers = len(self._vision.encoder.layers)
        if min(model.extract_layers) < 0 or max(model.extract_layers) >= layers:
            raise _invalid_model(
                f"clipseg_model reads the vision layers {list(model.extract_layers)} (from 0) but has only {layers}"
            )
        self.patch = int(self._vision.embeddings.patch_embedding.stride[0])

        settings = ImageSettings.from_processor(processor.image_processor, model.config.vision_config.image_size)
        self.native_size, self._filter, self._rescale = settings.size, settings.filter, 255.0 * settings.factor
        self._mean = torch.tensor(settings.mean).view(3, 1, 1)
        self._std = torch.tensor(settings.std).view(3, 1, 1)

    def input_side(self, scale: float) -> int:
        """The native size times ``scale`` in pixels, rounded to whole patches."""
        return max(1, round(self.native_size * scale / self.patch)) * self.patch

    def batch_size(self, side: int) -> int:
        """Number of inputs of ``side`` x ``side`` pixels to try in one batch."""
        images = min(_MAX_BATCH_SIZE, torch.get_num_threads()) if self.on_cpu else _MAX_BATCH_SIZE
        return max(1, images * self.native_size**2 // side**2)

    def preprocess(self, image: torch.Tensor, side: int) -> torch.Tensor:
        """``[B,H,W,C]`` in 0..1 -> normalized model input ``[B,3,side,side]``.

        Quantized to 8 bits like the processor's own preprocessing, so that both give the same mask.
        """
        # One at a time: a single image of 8192 x 8192 takes 800 MB in float.
        squares = tensors.empty((len(image), side, side, 3), image.device)
        for i, each in enumerate(tensors.drop_alpha(image).split(1)):
            squares[i : i + 1] = tensors.resize_8bit(each, side, side, self._filter)
        bchw = tensors.image_to_bchw(squares)
        return (bchw * self._rescale - self._mean.to(bchw.device)) / self._std.to(bchw.device)

    def encode_text(self, prompt: str) -> torch.Tensor:
        """The embedding of a prompt, ``[1,projection]``, cached as long as the model lives.

        Prompts longer than the model's limit (77 tokens including start and end) are truncated, with a warning.
        """
        # Tokenize without truncation to log what is cut; verbose=False silences the tokenizer's vaguer warning.
        tokenizer, limit = self._processor.tokenizer, self._model.config.text_config.max_position_embeddings
        tokens = tuple(tokenizer(prompt, verbose=False)["input_ids"])
        if len(tokens) > limit:
            rest = textwrap.shorten(tokenizer.decode(tokens[limit - 1 : -1]), 200, placeholder=" ...")
            logger.warning(
                "The text has %d tokens, but CLIPSeg reads only the first %d: ignored %r", len(tokens), limit, rest
            )
            tokens = tokens[: limit - 1] + tokens[-1:]
        embedding = _TEXT_CACHE.get(self._model, tokens)
        if embedding is None:
            input_ids = torch.tensor([tokens], device=self._model_device)
            embedding = self._model.get_conditional_embeddings(
                batch_size=1, input_ids=input_ids, attention_mask=torch.ones_like(input_ids)
            )
            _TEXT_CACHE.put(self._model, tokens, embedding)
        return embedding

    def encode_image(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Activations of the vision tower, ``[B,1 + patches,hidden]`` for each layer that the decoder reads.

        On the CPU, activations of recent images are cached. On a GPU the tower takes milliseconds, so caching would
        waste memory.
        """
        if not self.on_cpu:
            return list(self._run_tower(pixel_values))
        rows: list[Any] = []
        missing: dict[int, bytes] = {}
        for i, row in enumerate(pixel_values.contiguous()):
            key = hashlib.sha256(row.numpy().data).digest()
            rows.append(_IMAGE_CACHE.get(self._model, key))
            if rows[i] is None:
                missing[i] = key
        if missing:
            computed = self._run_tower(pixel_values[list(missing)]).split(1, dim=1)
            for (i, key), rows[i] in zip(missing.items(), computed):
                _IMAGE_CACHE.put(self._model, key, rows[i])
        return list(torch.cat(rows, dim=1)) if len(rows) > 1 else list(rows[0])

    def _run_tower(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`encode_image` without the cache, stacked: ``[layers,B,1 + patches,hidden]``."""
        dtype = self._vision.embeddings.patch_embedding.weight.dtype
        hidden = self._vision.embeddings(pixel_values.to(self._model_device, dtype), interpolate_pos_encoding=True)
        hidden = self._vision.pre_layrnorm(hidden)
        # Layer by layer instead of the tower's forward: this skips layers that the decoder does not read, and is
        # thread-safe however transformers records hidden states.
        extracted = {}
        for i, layer in enumerate(self._vision.encoder.layers[: max(self._model.extract_layers) + 1]):
            hidden = _run_layer(layer, hidden)
            if i in self._model.extract_layers:
                extracted[i] = hidden.to(next(self._model.decoder.parameters()).dtype)
        return torch.stack([extracted[i] for i in self._model.extract_layers])

    def decode(self, activations: list[torch.Tensor], embedding: torch.Tensor) -> torch.Tensor:
        """The logits of one prompt, ``[B,side,side]`` float32, on `device`."""
        embedding = embedding.to(activations[0].dtype).expand(len(activations[0]), -1)
        return self._model.decoder(activations, embedding).logits.to(self.device, torch.float32)


def _run_layer(layer: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Run one layer of the vision tower. Before transformers 5, it takes a second mask and returns a tuple."""
    masks = {"attention_mask", "causal_attention_mask"} & inspect.signature(layer.forward).parameters.keys()
    result = layer(hidden, **dict.fromkeys(masks))
    return result[0] if isinstance(result, tuple) else result
