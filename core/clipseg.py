"""Text to mask with CLIPSeg (Lüddecke and Ecker, *Image Segmentation Using Text and Image Prompts*, CVPR 2022).

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
import itertools
import logging
import math
import textwrap
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import TypeAlias

import torch

from . import masks, morphology, packed_layers, previews, tensors
from .checks import check_choice, check_number, check_whole_number, describe
from .chunks import WITHOUT_HOST, Chunks
from .engine import WITHOUT_PROGRESS, Progress
from .errors import InputError, ModelError
from .last_tensors import LastTensors
from .side_by_side import side_by_side

NORMALIZATIONS = ("stretch", "none")

# The published model looks at pictures of this size, and resolutions are given as if every model did.
RESOLUTION = 352
RESOLUTION_STEP = 32
LARGEST_RESOLUTION = 2048

# Position embeddings are learned at one size and interpolated for others. Up to this many times the model's own size
# the whole picture is looked at in one piece; above it, tile by tile.
_LARGEST_WHOLE = 2
# The part of a tile that the next one sees as well.
_OVERLAP = 1 / 4

# Limits of an image processor's settings. Values beyond them are mistakes, and larger sides would exhaust memory.
_LARGEST_SIDE = 8192
_LARGEST_SETTING = 1e6
_SMALLEST_DIVISOR = 1e-6

# The most that a chunk has, in pictures of the model's own size. On a CPU, one for each core.
_PICTURES_AT_ONCE = 8

# For each model: some hundreds of texts, and what the published one sees in about a dozen pictures.
_TEXTS = LastTensors(1_000_000)
_PICTURES = LastTensors(64_000_000)

_log = logging.getLogger(__name__)

# Told the probabilities ``[b,r,r]`` of a slice of the batch, in any order and from several threads; where memory ran
# out in between, once more for the same slice.
Listener: TypeAlias = Callable[[slice, torch.Tensor], None]


def _nobody(entries: slice, probabilities: torch.Tensor) -> None:
    """Nobody listens."""


def split_prompts(text: str | None, name: str = "text") -> list[str]:
    """The prompts of a text, which ``|`` separates; a comma is part of a prompt.

    Empty parts are left out. A text with nothing in it, or None, is one empty prompt.

    Raises:
        InputError: Not a text.
    """
    if text is None:
        return [""]
    if not isinstance(text, str):
        raise InputError(f"{name} is of type {type(text).__name__}, not a text", "Write a text, or connect a STRING")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a pair of code units, which JSON can carry
        raise InputError(
            f"{name} holds {text[error.start]!r}, which is no character", "Write the text anew without it"
        ) from error
    return [part.strip() for part in text.split("|") if part.strip()] or [""]


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        text: Prompts, separated by ``|``: what any of them names is selected (the largest probability).
        negative_text: Likewise; their probability is subtracted. Nothing is where the text is empty.
        resolution: At how many pixels a side the model looks at the picture, a multiple of 32 from 352 to 2048, for
            the published model, whose own size is 352. A model of another size looks at its own size times
            resolution / 352.
    """

    text: str | None
    negative_text: str | None = ""
    resolution: int = RESOLUTION

    def __post_init__(self) -> None:
        split_prompts(self.text)
        split_prompts(self.negative_text, "negative_text")
        resolution = check_whole_number(self.resolution, "resolution", RESOLUTION, LARGEST_RESOLUTION)
        if resolution % RESOLUTION_STEP:
            raise InputError(
                f"resolution is {resolution}, which is not a multiple of {RESOLUTION_STEP}",
                f"Give {round(resolution / RESOLUTION_STEP) * RESOLUTION_STEP}",
            )

    @property
    def prompts(self) -> list[str]:
        return split_prompts(self.text)

    @property
    def negative_prompts(self) -> list[str]:
        return [prompt for prompt in split_prompts(self.negative_text) if prompt]

    @property
    def scale(self) -> float:
        """How many times the model's own size the picture is looked at."""
        return self.resolution / RESOLUTION


@dataclass(frozen=True)
class Selection:
    """How probabilities become a soft selection.

    Attributes:
        blur: Sigma of the Gaussian, 0 to 100, in pixels of the model's own size.
        threshold: 0 to 1. Probabilities that are not above it count as 0.
        dilation_factor: By how many pixels of the model's own size the selection grows to every side, 0 or more.
    """

    blur: float = 3.0
    threshold: float = 0.3
    dilation_factor: int = 4

    def __post_init__(self) -> None:
        check_number(self.blur, "blur", 0, 100)
        check_number(self.threshold, "threshold", 0, 1)
        check_whole_number(self.dilation_factor, "dilation_factor", 0)


def check_pair(value: object, name: str = "clipseg_model") -> tuple:
    """Return ``value`` if it is a CLIPSEG_MODEL, the pair ``(processor, model)``.

    Raises:
        InputError: Something else.
    """
    remedy = "Connect the output of 'CLIPSeg Model Loader'"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        held = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
        raise InputError(f"{name} is a {type(value).__name__}{held}, not a pair (processor, model)", remedy)
    processor, model = value
    for part, role, needed in (
        (processor, "processor", ("tokenizer", "image_processor")),
        (model, "model", ("clip", "decoder", "extract_layers", "get_conditional_embeddings")),
    ):
        if not all(hasattr(part, attribute) for attribute in needed):
            raise InputError(f"{name} holds a {type(part).__name__} where the CLIPSeg {role} should be", remedy)
    return processor, model


def copy_as(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
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
    def of(cls, processor: object, model_size: int = RESOLUTION) -> ImageSettings:
        """Read them from an image processor of transformers; ``model_size`` is used if it has no size.

        Raises:
            InputError: A setting cannot be used; names it.
        """
        size = getattr(processor, "size", None) or model_size
        size = size if isinstance(size, Real) else _first(size, "height", "shortest_edge")
        resample = getattr(processor, "resample", 2)
        resample = getattr(resample, "value", resample)
        if not isinstance(resample, Hashable):
            raise InputError(
                f"the CLIPSeg processor's resample is {describe(resample)}, not a resize filter",
                "Connect the output of 'CLIPSeg Model Loader'",
            )
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
    raise InputError(
        f"the CLIPSeg processor's {name} is {describe(value)}, not a number from {low:g} to {high:g}",
        "Connect the output of 'CLIPSeg Model Loader'",
    )


def _three_settings(values: object, name: str, low: float = -_LARGEST_SETTING) -> tuple[float, ...]:
    if not hasattr(values, "__len__") or len(values) != 3:
        raise InputError(
            f"the CLIPSeg processor's {name} is {describe(values)}, not three numbers",
            "Connect the output of 'CLIPSeg Model Loader'",
        )
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
            raise InputError(
                f"clipseg_model reads the vision layers {list(model.extract_layers)}, counted from 0, and has {layers}",
                "Connect the output of 'CLIPSeg Model Loader'",
            )
        self.patch = int(self._vision.embeddings.patch_embedding.stride[0])

        settings = ImageSettings.of(processor.image_processor, model.config.vision_config.image_size)
        self.own_size, self._filter, self._rescale = settings.size, settings.filter, 255.0 * settings.factor
        self._mean = torch.tensor(settings.mean).view(3, 1, 1)
        self._std = torch.tensor(settings.std).view(3, 1, 1)

    def side(self, scale: float) -> int:
        """The model's own size times ``scale``, in whole patches."""
        return max(1, round(self.own_size * scale / self.patch)) * self.patch

    def at_once(self, side: int) -> int:
        """How many pictures of ``side`` pixels a chunk has at first."""
        pictures = min(_PICTURES_AT_ONCE, torch.get_num_threads()) if self.on_cpu else _PICTURES_AT_ONCE
        return max(1, pictures * self.own_size**2 // side**2)

    def pixel_values(self, image: torch.Tensor, side: int) -> torch.Tensor:
        """Pictures as the model sees them: ``[B,H,W,C]`` 0..1 -> ``[B,3,side,side]``, normalised.

        The same arithmetic as the image processor's, which takes 8-bit pictures: not a float more exact, so that a
        mask does not depend on which of the two was used.
        """
        # One at a time: a picture of 8192 x 8192 already takes 800 MB in float.
        squares = [tensors.resize_in_8_bits(tensors.rgb(each), side, side, self._filter) for each in image.split(1)]
        bchw = tensors.image_to_bchw(torch.cat(squares))
        return (bchw * self._rescale - self._mean.to(bchw.device)) / self._std.to(bchw.device)

    def text_embedding(self, prompt: str) -> torch.Tensor:
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

    def activations(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """What the decoder reads of the vision tower, ``[B,1 + patches,hidden]`` for each of its extract layers.

        On a CPU the tower runs only for pictures that are not among the last ones it saw. On a GPU it takes
        milliseconds, and the memory is worth more.
        """
        if not self.on_cpu:
            return list(self._look(pixel_values))
        keys = [hashlib.sha256(row.numpy()).digest() for row in pixel_values.contiguous()]
        kept = [_PICTURES.get(self._model, key) for key in keys]
        new = [number for number, row in enumerate(kept) if row is None]
        if new:
            rows = self._look(pixel_values[new]).split(1, dim=1)
            for number, row in zip(new, rows):
                kept[number] = row
                _PICTURES.put(self._model, keys[number], row)
        return list(torch.cat(kept, dim=1)) if len(kept) > 1 else list(kept[0])

    def _look(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """As `activations`, stacked: ``[layers,B,1 + patches,hidden]``, by the tower itself."""
        dtype = self._vision.embeddings.patch_embedding.weight.dtype
        seen = self._vision.embeddings(pixel_values.to(self._model_device, dtype), interpolate_pos_encoding=True)
        seen = self._vision.pre_layrnorm(seen)
        # Layer by layer, not through the tower's own forward: nothing is run or kept that the decoder does not read,
        # and several threads may do it at once, whatever a version of transformers does to record hidden states.
        read = {}
        for number, layer in enumerate(self._vision.encoder.layers[: max(self._model.extract_layers) + 1]):
            seen = _through(layer, seen)
            if number in self._model.extract_layers:
                read[number] = seen.to(next(self._model.decoder.parameters()).dtype)
        return torch.stack([read[number] for number in self._model.extract_layers])

    def logits(self, activations: list[torch.Tensor], embedding: torch.Tensor) -> torch.Tensor:
        """The decoder's answer to one prompt, ``[B,side,side]`` float32, on `device`."""
        embedding = embedding.to(activations[0].dtype).expand(len(activations[0]), -1)
        return self._model.decoder(activations, embedding).logits.to(self.device, torch.float32)


def _through(layer: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """One layer of the vision tower. Before transformers 5 it wants a second mask, and gives a tuple."""
    faster = packed_layers.packed(layer)
    if faster is not None:
        return faster(hidden)
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


class _Answers:
    """A query put to a model: probabilities for pictures, whole or tile by tile.

    ``progress`` may raise to stop after each encoded prompt, and after each prompt in each tile; the caller counts the
    steps.
    """

    def __init__(self, segmenter: Segmenter, query: Query, progress: Progress = WITHOUT_PROGRESS) -> None:
        self._segmenter, self._progress = segmenter, progress
        self._wanted = list(self._embeddings(query.prompts))
        self._unwanted = list(self._embeddings(query.negative_prompts))
        self.side = segmenter.side(query.scale)
        self.tile = min(self.side, segmenter.side(_LARGEST_WHOLE))

    def _embeddings(self, prompts: list[str]) -> Iterator[torch.Tensor]:
        for prompt in prompts:
            yield self._segmenter.text_embedding(prompt)
            self._progress.step(0)

    def shrink_tiles(self) -> bool:
        """Make tiles half as large, and at least the model's own size; False where they are no larger than that."""
        smallest = self._segmenter.side(1)
        if self.tile <= smallest:
            return False
        self.tile = max(smallest, self._segmenter.side(self.tile / self._segmenter.own_size / 2))
        return True

    def probabilities(self, image: torch.Tensor) -> torch.Tensor:
        """``[B,H,W,C]`` -> ``[B,r,r]`` in the resolution of the logits, which is `side` for patches of 16 pixels."""
        pixel_values = self._segmenter.pixel_values(image.to(self._segmenter.device), self.side)
        if self.tile == self.side:
            wanted, unwanted = self._logits(pixel_values)
        else:
            wanted, unwanted = self._tiled_logits(pixel_values)
        if not all(logits.isfinite().all() for logits in (wanted, unwanted) if logits is not None):
            raise ModelError(
                "the CLIPSeg model answered with NaN or infinite values",
                "Its weights may be damaged, or too large for half precision: start ComfyUI with --force-fp32, or "
                "fetch the model again",
            )
        if unwanted is None:
            return wanted.sigmoid()
        return masks.combine(wanted.sigmoid(), unwanted.sigmoid(), "difference")

    def _logits(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits of what is wanted and of what is not, the largest over the prompts, each ``[B,h,w]``.

        The sigmoid keeps order, so the largest logit is that of the largest probability.
        """
        activations = self._segmenter.activations(pixel_values)

        def largest(embeddings: list[torch.Tensor]) -> torch.Tensor | None:
            result = None
            for embedding in embeddings:
                logits = self._segmenter.logits(activations, embedding)
                result = logits if result is None else torch.maximum(result, logits)
                self._progress.step(0)
            return result

        return largest(self._wanted), largest(self._unwanted)

    def _tiled_logits(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `_logits`, from tiles that overlap, each faded into the next."""
        patch = self._segmenter.patch
        starts = _tile_starts(self.side // patch, self.tile // patch)  # in patches
        total, sums = None, []
        for y, x in itertools.product(starts, starts):
            seen = pixel_values[..., y * patch : y * patch + self.tile, x * patch : x * patch + self.tile]
            answers = [logits for logits in self._logits(seen) if logits is not None]
            if total is None:
                # A model whose patches are not 16 pixels has logits of another size than its picture.
                per_patch = answers[0].shape[-1] * patch // self.tile
                side, tile = (length // patch * per_patch for length in (self.side, self.tile))
                fade = _fade(tile, answers[0].device)
                total = fade.new_zeros(side, side)
                sums = [fade.new_zeros(len(pixel_values), side, side) for _ in answers]
            place = (..., *(slice(start * per_patch, start * per_patch + tile) for start in (y, x)))
            total[place] += fade
            for logits, whole in zip(answers, sums):
                whole[place] += logits * fade
        return sums[0] / total, sums[1] / total if self._unwanted else None


def _tile_starts(length: int, tile: int) -> list[int]:
    """Where tiles begin that cover ``length`` evenly, each overlapping the next by about `_OVERLAP` or more."""
    overlap = int(tile * _OVERLAP)
    gaps = math.ceil((length - tile) / (tile - overlap))
    return [round(i * (length - tile) / max(1, gaps)) for i in range(gaps + 1)]


def _fade(tile: int, device: torch.device) -> torch.Tensor:
    """Weights of a tile's pixels ``[tile,tile]``: 1 inside, falling to nearly 0 over the overlap at its borders."""
    from_border = torch.arange(tile, device=device) + 0.5
    row = torch.minimum(from_border, tile - from_border).div(tile * _OVERLAP).clamp(max=1)
    return row.view(-1, 1) * row


def stretched(probabilities: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Probabilities as masks whose brightest pixel is bright: (p - min) / max of each, cut to 8 bits and resized.

    Args:
        probabilities: ``[B,h,w]``.
        height, width: The size of the masks, which Pillow's bicubic filter in 8 bits brings them to.

    Returns:
        ``[B,height,width]``.
    """
    low, high = probabilities.amin((1, 2), keepdim=True), probabilities.amax((1, 2), keepdim=True)
    mask = torch.where(high > 0, (probabilities - low) / high, torch.zeros_like(probabilities))
    return tensors.resize_in_8_bits(mask, height, width, "bicubic")


def selected(probabilities: torch.Tensor, selection: Selection, scale: float = 1.0) -> torch.Tensor:
    """Probabilities as a soft selection, in their own resolution: threshold, blur, stretch to 0..1, dilate.

    Args:
        probabilities: ``[B,h,w]``.
        scale: How many times the model's own size ``probabilities`` have.

    Returns:
        ``[B,h,w]``. All zero where nothing is above the threshold, and all one where everything is alike above it.
    """
    mask = masks.gaussian_blur(masks.threshold(probabilities, selection.threshold), selection.blur * scale)
    low, high = mask.amin((1, 2), keepdim=True), mask.amax((1, 2), keepdim=True)
    # A blur of equal values differs in the last bit from pixel to pixel, and that is nothing to be stretched.
    alike = high - low <= 1e-5 * high
    mask = torch.where(alike, (high > 0).to(mask.dtype), (mask - low) / torch.where(alike, 1, high - low))
    grow = min(round(selection.dilation_factor * scale), max(mask.shape[1:]))
    return morphology.dilate(mask, 2 * grow + 1)


def _for_each_chunk(
    image: torch.Tensor,
    segmenter: Segmenter,
    query: Query,
    chunks: Chunks,
    finish: Callable[[slice, torch.Tensor], None],
) -> None:
    """Call ``finish`` with the probabilities ``[b,r,r]`` of the pictures of each slice of the batch, in any order."""
    with torch.no_grad():
        answers = _Answers(segmenter, query, chunks.progress)

        def work(entries: slice) -> None:
            finish(entries, answers.probabilities(image[entries]))

        def work_on_cores(entries: slice) -> None:
            side_by_side(work, [slice(i, i + 1) for i in range(entries.start, entries.stop)])

        chunks.run(
            len(image),
            segmenter.at_once(answers.side),
            work_on_cores if segmenter.on_cpu else work,
            answers.shrink_tiles,
        )


def masking(
    image: torch.Tensor,
    segmenter: Segmenter,
    query: Query,
    normalization: str = "stretch",
    chunks: Chunks = WITHOUT_HOST,
    listener: Listener = _nobody,
) -> torch.Tensor:
    """How likely each pixel is what the query names.

    Above twice the model's own size, or where a smaller one already needs more memory than there is, the picture is
    looked at in overlapping tiles whose logits are blended. That keeps fine detail, but a tile does not see what lies
    beyond it: large objects are better found at a lower resolution.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is left out.
        normalization: ``stretch`` spreads each mask as `stretched` does; ``none`` gives the probability itself.
        listener: Told the probabilities that the masks are made of.

    Returns:
        ``[B,H,W]``, on the image's device.

    Raises:
        InputError: ``normalization`` is unknown.
    """
    check_choice(normalization, "normalization", NORMALIZATIONS)
    result = tensors.empty(image.shape[:3], image.device)
    height, width = image.shape[1:3]

    def finish(entries: slice, probabilities: torch.Tensor) -> None:
        if normalization == "stretch":
            result[entries] = stretched(probabilities, height, width)
        else:
            result[entries] = tensors.resize_mask(probabilities, height, width, "bicubic")
        listener(entries, probabilities)

    _for_each_chunk(image, segmenter, query, chunks, finish)
    return result


def segment(
    image: torch.Tensor,
    segmenter: Segmenter,
    query: Query,
    selection: Selection = Selection(),
    chunks: Chunks = WITHOUT_HOST,
    listener: Listener = _nobody,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A soft selection of what the query names, and the picture under its heat map.

    `selected` in the resolution the model looks at, as brightness of the grey colour map, then brought to the
    picture's size by bilinear sampling. Tiles as in `masking`.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is left out.
        listener: Told the probabilities that are selected from.

    Returns:
        Mask ``[B,H,W]`` and heat map ``[B,H,W,3]``, on the image's device. Where nothing is above the threshold the
        mask is zero and the heat map is the picture.
    """
    mask = tensors.empty(image.shape[:3], image.device)
    heat_map = tensors.empty((*image.shape[:3], 3), image.device)

    def finish(entries: slice, probabilities: torch.Tensor) -> None:
        mask[entries], heat_map[entries] = pictures_of_selection(
            image[entries].to(probabilities.device),
            selected(probabilities, selection, query.scale),
        )
        listener(entries, probabilities)

    _for_each_chunk(image, segmenter, query, chunks, finish)
    return mask, heat_map


def pictures_of_selection(image: torch.Tensor, selection: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A selection ``[B,h,w]`` as a mask ``[B,H,W]`` and a heat map ``[B,H,W,3]`` of the size of the pictures."""
    height, width = image.shape[1:3]
    mask = tensors.resize_mask(previews.grey_levels(selection), height, width, "bilinear", antialias=False)
    return mask, previews.heat_map(image, selection)
