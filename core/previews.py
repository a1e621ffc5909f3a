"""Pictures that show a mask: colour maps and overlays.

The two colour maps have 256 steps of 8-bit colours, as matplotlib's maps of these names.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from . import tensors
from .checks import check_choice, check_number

COLOR_MAPS = ("viridis", "greys")

# viridis by Stéfan van der Walt and Nathaniel Smith (CC0): dark blue, green, yellow, evenly brighter to the eye.
# The red, green and blue of its 256 steps in hexadecimal.
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
# ColorBrewer's nine greys, from black to white; the map runs straight from one to the next. It is not a straight
# line from black to white: dark greys are brightened.
_GREYS = (0, 37, 82, 115, 150, 189, 217, 240, 255)


@lru_cache
def _table(name: str) -> torch.Tensor:
    """The colours of the 256 steps, ``[256,3]`` float32 0..1."""
    if name == "viridis":
        return torch.tensor(list(_VIRIDIS), dtype=torch.float32).view(256, 3) / 255
    between = len(_GREYS) - 1
    levels = []
    for step in range(256):
        # Whole numbers throughout, so that the cut to 8 bits is exact: the position is step * 8 / 255.
        low = min(step * between // 255, between - 1)
        rest = step * between - low * 255
        levels.append((_GREYS[low] * 255 + (_GREYS[low + 1] - _GREYS[low]) * rest) // 255)
    return (torch.tensor(levels, dtype=torch.float32) / 255).unsqueeze(1).expand(256, 3)


def _steps(values: torch.Tensor) -> torch.Tensor:
    """Which of the 256 steps a value 0..1 falls on: the n-th holds n/256 up to (n + 1)/256, the last also 1."""
    return (values * 256).clamp(0, 255).to(torch.int64)


def apply_color_map(mask: torch.Tensor, name: str = "viridis") -> torch.Tensor:
    """The colours of a mask.

    Args:
        mask: ``[B,H,W]``, 0..1.
        name: One of `COLOR_MAPS`: ``viridis`` from dark blue over green to yellow, ``greys`` from black to white.

    Returns:
        ``[B,H,W,3]``.

    Raises:
        InputError: ``name`` is unknown.
    """
    return _table(check_choice(name, "colour map", COLOR_MAPS)).to(mask.device)[_steps(mask)]


def map_to_greys(mask: torch.Tensor) -> torch.Tensor:
    """The brightness that `apply_color_map` gives a mask in ``greys``, as a mask ``[B,H,W]``."""
    return _table("greys")[:, 0].to(mask.device)[_steps(mask)]


def overlay(image: torch.Tensor, colours: torch.Tensor, opacity: float = 0.5) -> torch.Tensor:
    """Lay colours over a picture: ``image * (1 - opacity) + colours * opacity``.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is left out.
        colours: ``[B,H,W,3]``.
        opacity: 0..1.

    Returns:
        ``[B,H,W,3]``.

    Raises:
        InputError: ``opacity`` is not a number in 0..1.
    """
    return torch.lerp(tensors.drop_alpha(image), colours, check_number(opacity, "opacity", 0, 1)).clamp(0, 1)


def draw_heat_map(image: torch.Tensor, mask: torch.Tensor, opacity: float = 0.5) -> torch.Tensor:
    """The picture under the viridis colours of a mask; where a whole mask is empty, the picture as it is.

    Args:
        image: ``[B,H,W,3 or 4]``; alpha is left out.
        mask: ``[B,h,w]`` of any size: it is coloured first, then brought to the picture's size by bilinear sampling.
        opacity: Of the colours, 0..1.

    Returns:
        ``[B,H,W,3]``.
    """
    height, width = image.shape[1:3]
    colours = tensors.resize_image(apply_color_map(mask), height, width, "bilinear", antialias=False)
    empty = mask.amax((1, 2)) == 0
    return torch.where(empty.view(-1, 1, 1, 1), tensors.drop_alpha(image), overlay(image, colours, opacity))
