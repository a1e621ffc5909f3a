"""The detailer's settings, checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..checks import check_number, check_switch, check_text, check_whole_number, describe
from ..errors import InputError

SEEDS = 1 << 64  # seeds are 0 .. 2^64 - 1, and wrap around
LEAST_DENOISE = 1e-4  # anything lower changes nothing visible and needs an extremely long schedule
_MOST = 1_000_000  # of steps, cycles, versions: more would never end, or could not be counted


def _setting(default: Any, check: Callable[[object, str], Any], **limits: float) -> Any:
    """A field whose value becomes ``check(value, name, **limits)``."""
    return dataclasses.field(default=default, metadata={"check": partial(check, **limits)})


def _check_texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        problem = f"{name} is {describe(value)}, which is not a list of texts"
        raise InputError(problem, "Give a list with one text per region, or an empty list")
    return tuple(check_text(text, f"{name}[{i}]") for i, text in enumerate(value))


@dataclass(frozen=True)
class DetailerSettings:
    """The node's widgets, with the same names and defaults.

    Attributes:
        guide_size: Target for the shorter side at which a region is sampled, pixels.
        guide_size_for: Whose shorter side that is: the bbox's (true) or the crop region's (false).
        max_size: Limit of the longer side at which a region is sampled, pixels.
        mask_mode: Denoise inside the mask (true) or in the whole crop (false).
        seed: 0 .. 2^64 - 1. Region ``i`` of version ``v`` uses ``seed + v + i``, and each further cycle 1 more.
        steps: Steps that are really run.
        cfg: Guidance scale.
        sampler_name, scheduler: As in the host's lists.
        denoise: Share of the schedule that is run, from `LEAST_DENOISE` to 1.
        feather: Width of the blend from the refined crop to the image, pixels.
        crop_factor: Width and height of a crop, in multiples of those of its bbox; 1 or more.
        drop_size: Regions whose width or height is at most this are dropped, pixels of the mask.
        refiner_ratio: The refiner's share of the steps, 0..1.
        batch_size: Number of versions of each image.
        cycle: How many times each region is sampled.
        inpaint_model: Whether the model is an inpainting model.
        noise_mask_feather: Blur of the noise mask, pixels.
        bbox_fill, contour_fill: See `regions.find_regions`.
        region_batch: How many regions are sampled together at most.
        color_match: How far colors move towards those around the mask, 0..1.
        tiled_vae: Encode and decode in tiles.
        region_prompts: Text for each region, added to the positive prompt.

    Raises:
        InputError: A value is out of range or of the wrong type.
    """

    guide_size: float = _setting(384.0, check_number, low=1)
    guide_size_for: bool = _setting(True, check_switch)
    max_size: float = _setting(1024.0, check_number, low=1)
    mask_mode: bool = _setting(True, check_switch)
    seed: int = _setting(0, check_whole_number, low=0, high=SEEDS - 1)
    steps: int = _setting(20, check_whole_number, low=1, high=_MOST)
    cfg: float = _setting(8.0, check_number, low=0)
    sampler_name: str = _setting("euler", check_text)
    scheduler: str = _setting("normal", check_text)
    denoise: float = _setting(0.5, check_number, low=LEAST_DENOISE, high=1)
    feather: int = _setting(5, check_whole_number, low=0)
    crop_factor: float = _setting(3.0, check_number, low=1)
    drop_size: int = _setting(10, check_whole_number, low=1)
    refiner_ratio: float = _setting(0.2, check_number, low=0, high=1)
    batch_size: int = _setting(1, check_whole_number, low=1, high=_MOST)
    cycle: int = _setting(1, check_whole_number, low=1, high=_MOST)
    inpaint_model: bool = _setting(False, check_switch)
    noise_mask_feather: int = _setting(20, check_whole_number, low=0)
    bbox_fill: bool = _setting(False, check_switch)
    contour_fill: bool = _setting(True, check_switch)
    region_batch: int = _setting(4, check_whole_number, low=1)
    color_match: float = _setting(0.0, check_number, low=0, high=1)
    tiled_vae: bool = _setting(False, check_switch)
    region_prompts: tuple[str, ...] = _setting((), _check_texts)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = each.metadata["check"](getattr(self, each.name), each.name)
            object.__setattr__(self, each.name, value)

    @property
    def has_soft_noise_mask(self) -> bool:
        """Whether the noise mask is blurred, which needs differential diffusion."""
        return self.mask_mode and self.noise_mask_feather > 0


def schedule(steps: int, denoise: float, refiner_ratio: float) -> tuple[int, int, int]:
    """The steps that are run: the base model runs those from the first number to the second, the refiner those from
    the second to the third, which is the length of the whole schedule.

    The share ``denoise`` of the whole schedule has ``steps`` steps. The base model runs
    floor(steps x (1 - refiner_ratio)) of them.
    """
    total = math.floor(steps / min(denoise, 1.0))
    start = total - steps
    base = math.floor(round(steps * (1.0 - refiner_ratio), 6))  # 10 * (1 - 0.9) is a little less than 1
    return start, start + base, total
