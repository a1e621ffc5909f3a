"""Previews of masks: color maps and overlays.

Both color maps equal matplotlib's: 256 steps of 8-bit colors.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from . import tensors
from .checks import check_choice, check_number

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


def _quantize(values: torch.Tensor) -> torch.Tensor:
    """The step of each value in 0..1: n/256 <= value < (n + 1)/256 for step n; the last step includes 1."""
    return (values * 256).clamp(0, 255).to(torch.int64)


def apply_color_map(mask: torch.Tensor, name: str = "viridis") -> torch.Tensor:
    """Color a mask.

    Args:
        mask: ``[B,H,W]``, 0..1.
        name: One of `COLOR_MAPS`: ``viridis`` from dark blue through green to yellow, ``greys`` from black to white.

    Returns:
        ``[B,H,W,3]``.

    Raises:
        InputError: ``name`` is unknown.
    """
    return color_table(check_choice(name, "color map", COLOR_MAPS)).to(mask.device)[_quantize(mask)]


def map_to_greys(mask: torch.Tensor) -> torch.Tensor:
    """Map a mask ``[B,H,W]`` to its brightness in the color map ``greys``, as a mask ``[B,H,W]``."""
    return color_table("greys")[:, 0].to(mask.device)[_quantize(mask)]


def overlay(image: torch.Tensor, colors: torch.Tensor, opacity: float = 0.5) -> torch.Tensor:
    """Blend colors over an image: ``image * (1 - opacity) + colors * opacity``.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is dropped.
        colors: ``[B,H,W,3]``.
        opacity: 0..1.

    Returns:
        ``[B,H,W,3]``.

    Raises:
        InputError: ``opacity`` is not a number in 0..1.
    """
    return torch.lerp(tensors.drop_alpha(image), colors, check_number(opacity, "opacity", 0, 1)).clamp(0, 1)


def draw_heat_map(image: torch.Tensor, mask: torch.Tensor, opacity: float = 0.5) -> torch.Tensor:
    """Overlay images with the viridis colors of their masks. Images whose mask is empty stay unchanged.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is dropped.
        mask: ``[B,h,w]`` of any size. It is colored first and then resized by bilinear sampling.
        opacity: Opacity of the colors, 0..1.

    Returns:
        ``[B,H,W,3]``.
    """
    height, width = image.shape[1:3]
    colors = tensors.resize_image(apply_color_map(mask), height, width, "bilinear", antialias=False)
    empty = mask.amax((1, 2)) == 0
    return torch.where(empty.view(-1, 1, 1, 1), tensors.drop_alpha(image), overlay(image, colors, opacity))
