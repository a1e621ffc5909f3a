"""Text to mask for a batch of images: masks and heat maps from the probabilities of a query.

The editor's preview mirrors the arithmetic in JavaScript.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch

from .. import filters, morphology, tensors
from ..batching import STANDALONE_HOST, iterate_chunks
from ..checks import Settings, check_choice, check_number, check_whole_number, setting
from ..engine import Host, TextMaskEngine
from .query import Query, TiledInference

NORMALIZATIONS = ("stretch", "none")


@dataclass(frozen=True)
class Selection(Settings):
    """How to turn probabilities into a soft selection.

    Attributes:
        blur: Sigma of the Gaussian blur, 0 to 100, in pixels at the model's native size.
        threshold: 0 to 1. Probabilities at or below it are dropped.
        dilation_factor: How far to grow the selection in every direction, at least 0, in pixels at the native size.
    """

    blur: float = setting(3.0, check_number, low=0, high=100)
    threshold: float = setting(0.3, check_number, low=0, high=1)
    dilation_factor: int = setting(4, check_whole_number, low=0)


class Scores(NamedTuple):
    """How well each pixel matches the query.

    Attributes:
        masks: ``[B,H,W]``, on the image's device.
        probabilities: For each of the first ``keep`` images ``[r,r]``, at the model's resolution.
    """

    masks: torch.Tensor
    probabilities: list[torch.Tensor]


class Segments(NamedTuple):
    """A soft selection of what the query describes.

    Attributes:
        masks: ``[B,H,W]``, on the image's device; 0 for images with nothing above the threshold.
        heat_maps: ``[B,H,W,3]``, the images overlaid with the selection's colors; unchanged if nothing is selected.
        probabilities: As in `Scores`.
    """

    masks: torch.Tensor
    heat_maps: torch.Tensor
    probabilities: list[torch.Tensor]


def score(
    image: torch.Tensor,
    engine: TextMaskEngine,
    query: Query,
    normalization: str = "stretch",
    host: Host = STANDALONE_HOST,
    keep: int = 0,
) -> Scores:
    """Score how well each pixel matches the query.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is ignored.
        normalization: ``stretch`` scales each mask (see `stretch`); ``none`` returns raw probabilities.
        keep: Number of images whose probabilities are also returned.

    Raises:
        InputError: ``normalization`` is unknown.
    """
    check_choice(normalization, "normalization", NORMALIZATIONS)
    height, width = image.shape[1:3]
    progress = host.progress(len(image))
    inference = TiledInference(engine, query, progress)
    result = Scores(tensors.empty(image.shape[:3], image.device), [])

    def find(rows: slice) -> torch.Tensor:
        probabilities = inference.predict(image[rows])
        if normalization == "stretch":
            result.masks[rows] = stretch(probabilities, height, width)
        else:
            result.masks[rows] = tensors.resize_mask(probabilities, height, width, "bicubic")
        return probabilities

    for chunk in iterate_chunks(len(image), inference.batch_size, host, progress, inference.shrink_tiles):
        with chunk as entries:
            result.probabilities[entries] = inference.map_rows(find, entries)
            del result.probabilities[keep:]
    return result


def segment(
    image: torch.Tensor,
    engine: TextMaskEngine,
    query: Query,
    selection: Selection | None = None,
    host: Host = STANDALONE_HOST,
    keep: int = 0,
) -> Segments:
    """Select what the query describes, at the model's resolution (see `select`), and resize it to the image.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is ignored.
        keep: Number of images whose probabilities are also returned.
    """
    selection = selection or Selection()
    progress = host.progress(len(image))
    inference = TiledInference(engine, query, progress)
    shape = image.shape[:3]
    result = Segments(tensors.empty(shape, image.device), tensors.empty((*shape, 3), image.device), [])

    def find(rows: slice) -> torch.Tensor:
        probabilities = inference.predict(image[rows])
        selected = select(probabilities, selection, query.scale)
        result.masks[rows], result.heat_maps[rows] = render_selection(image[rows].to(selected.device), selected)
        return probabilities

    for chunk in iterate_chunks(len(image), inference.batch_size, host, progress, inference.shrink_tiles):
        with chunk as entries:
            result.probabilities[entries] = inference.map_rows(find, entries)
            del result.probabilities[keep:]
    return result


def stretch(probabilities: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Scale each mask by its extremes, (p - min) / max, and resize it with Pillow's bicubic filter in 8 bits.

    Args:
        probabilities: ``[B,h,w]``.
        height, width: The new size in pixels.

    Returns:
        ``[B,height,width]``.
    """
    low, high = probabilities.amin((1, 2), keepdim=True), probabilities.amax((1, 2), keepdim=True)
    mask = torch.where(high > 0, (probabilities - low) / high, torch.zeros_like(probabilities))
    return tensors.resize_8bit(mask, height, width, "bicubic")


def select(probabilities: torch.Tensor, selection: Selection, scale: float = 1.0) -> torch.Tensor:
    """Turn probabilities into a soft selection at the same resolution: threshold, blur, stretch to 0..1, dilate.

    Args:
        probabilities: ``[B,h,w]``.
        scale: Size of ``probabilities`` relative to the model's native size.

    Returns:
        ``[B,h,w]``. All 0 if nothing is above the threshold, and all 1 if the mask is uniform above it.
    """
    above_threshold = torch.where(probabilities > selection.threshold, probabilities, 0.0)
    mask = filters.truncated_blur(above_threshold, selection.blur * scale)  # like the original node
    low, high = mask.amin((1, 2), keepdim=True), mask.amax((1, 2), keepdim=True)
    # Blurring equal values adds rounding noise, which must not be stretched.
    uniform = high - low <= 1e-5 * high
    mask = torch.where(uniform, (high > 0).to(mask.dtype), (mask - low) / torch.where(uniform, 1, high - low))
    grow = min(round(selection.dilation_factor * scale), max(mask.shape[1:]))
    return morphology.dilate(mask, 2 * grow + 1)


def render_selection(image: torch.Tensor, selection: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Render a selection at the size of its image. It is colored first and then resized by bilinear sampling.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is dropped.
        selection: ``[B,h,w]`` of any size.

    Returns:
        A mask ``[B,H,W]``, and a heat map ``[B,H,W,3]``, half image and half viridis. Where the selection is empty, the
        heat map is the image.
    """
    height, width = image.shape[1:3]
    brightness = apply_color_map(selection, "greys")[..., 0]
    mask = tensors.resize_mask(brightness, height, width, "bilinear", antialias=False)
    colors = tensors.resize_image(apply_color_map(selection, "viridis"), height, width, "bilinear", antialias=False)
    image = tensors.drop_alpha(image)
    is_empty = (selection.amax((1, 2)) == 0).view(-1, 1, 1, 1)
    return mask, torch.where(is_empty, image, torch.lerp(image, colors, 0.5).clamp(0, 1))


# Both color maps equal matplotlib's: 256 steps of 8-bit colors.
COLOR_MAPS = ("viridis", "greys")

# viridis by Stéfan van der Walt and Nathaniel Smith (CC0): dark blue, green, yellow, perceptually uniform.
# RGB of its 256 steps in hexadecimal.
_VIRIDIS = bytes.fromhex(
    "44015444025544035745055845065a45085b46095c460b5e460c5f460e61470f62471163471265471466471567471669"
    "47186a48196b481a6c481c6e481d6f481e70482071482172482273482374472575472676472777472878472a79472b7a"
    "472c7b462d7c462f7c46307d46317e45327f45347f453580453681443781443982433a83433b83433c84423d84423e85"
    "4240854141864142864043874044873f45873f47883e48883e49893d4a893d4b893d4c893c4d8a3c4e8a3b508a3b518a"
    "3a528b3a538b39548b39558b38568b38578c37588c37598c365a8c365b8c355c8c355d8c345e8d345f8d33608d33618d"
    "32628d32638d31648d31658d31668d30678d30688d2f698d2f6a8d2e6b8e2e6c8e2e6d8e2d6e8e2d6f8e2c708e2c718e"
    "2c728e2b738e2b748e2a758e2a768e2a778e29788e29798e287a8e287a8e287b8e277c8e277d8e277e8e267f8e26808e"
    "26818e25828e25838d24848d24858d24868d23878d23888d23898d22898d228a8d228b8d218c8d218d8c218e8c208f8c"
    "20908c20918c1f928c1f938b1f948b1f958b1f968b1e978a1e988a1e998a1e998a1e9a891e9b891e9c891e9d881e9e88"
    "1e9f881ea0871fa1871fa2861fa38620a48520a58521a68521a78422a78423a88323a98224aa8225ab8126ac8127ad80"
    "28ae7f29af7f2ab07e2bb17d2cb17d2eb27c2fb37b30b47a32b57a33b67935b77836b87738b97639b9763bba753dbb74"
    "3ebc7340bd7242be7144be7045bf6f47c06e49c16d4bc26c4dc26b4fc36951c46853c56755c66657c66559c7645bc862"
    "5ec96160c96062ca5f64cb5d67cc5c69cc5b6bcd596dce5870ce5672cf5574d05477d05279d1517cd24f7ed24e81d34c"
    "83d34b86d44988d5478bd5468dd64490d64392d74195d73f97d83e9ad83c9dd93a9fd938a2da37a5da35a7db33aadb32"
    "addc30afdc2eb2dd2cb5dd2bb7dd29bade27bdde26bfdf24c2df22c5df21c7e01fcae01ecde01dcfe11cd2e11bd4e11a"
    "d7e219dae218dce218dfe318e1e318e4e318e7e419e9e419ece41aeee51bf1e51cf3e51ef6e61ff8e621fae622fde724"
)
# ColorBrewer's nine grays from black to white, interpolated linearly. The map as a whole is not linear: it brightens
# dark grays.
_GREYS = (0, 37, 82, 115, 150, 189, 217, 240, 255)


@lru_cache
def color_table(name: str) -> torch.Tensor:
    """RGB of the 256 steps of a color map: ``[256,3]``, float32 in 0..1, multiples of 1/255."""
    if name == "viridis":
        return torch.tensor(list(_VIRIDIS), dtype=torch.float32).view(256, 3) / 255
    intervals = len(_GREYS) - 1
    levels = []
    for step in range(256):
        # The position is step * intervals / 255. Integers make the rounding to 8 bits exact.
        low = min(step * intervals // 255, intervals - 1)
        rest = step * intervals - low * 255
        levels.append((_GREYS[low] * 255 + (_GREYS[low + 1] - _GREYS[low]) * rest) // 255)
    return (torch.tensor(levels, dtype=torch.float32) / 255).unsqueeze(1).expand(256, 3)


def apply_color_map(mask: torch.Tensor, name: str) -> torch.Tensor:
    """Color a mask.

    Args:
        mask: ``[B,H,W]``, 0..1.
        name: One of `COLOR_MAPS`: ``viridis`` from dark blue through green to yellow, ``greys`` from black to white.

    Returns:
        ``[B,H,W,3]``.

    Raises:
        InputError: ``name`` is unknown.
    """
    # Step n is for n/256 <= value < (n + 1)/256; the last step includes 1.
    steps = (mask * 256).clamp(0, 255).to(torch.int64)
    return color_table(check_choice(name, "color map", COLOR_MAPS)).to(mask.device)[steps]
