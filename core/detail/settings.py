"""The detailer's settings, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..checks import Settings, check_number, check_switch, check_text, check_whole_number, describe, setting
from ..errors import InputError

SEEDS = 1 << 64  # seeds are 0 .. 2^64 - 1, and wrap around
MIN_DENOISE = 1e-4  # anything lower changes nothing visible and needs an extremely long schedule
_MAX_COUNT = 1_000_000  # of steps, cycles, versions: more would never finish, or overflow


def _check_texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        problem = f"{name} is {describe(value)}, which is not a list of texts"
        raise InputError(problem, "Use a list with one text per region, or an empty list")
    return tuple(check_text(text, f"{name}[{i}]") for i, text in enumerate(value))


@dataclass(frozen=True)
class DetailerSettings(Settings):
    """The node's widgets, with the same names and defaults.

    Attributes:
        guide_size: Target length of a region's shorter side while it is sampled, pixels.
        guide_size_for: What guide_size measures: the bbox (true) or the crop region (false).
        max_size: Limit of a crop's longer side while it is sampled, pixels.
        mask_mode: Denoise inside the mask (true) or in the whole crop (false).
        seed: 0 .. 2^64 - 1. Region ``i`` of version ``v`` uses ``seed + v + i``, and each further cycle 1 more.
        steps: Number of steps actually run.
        cfg: Guidance scale.
        sampler_name, scheduler: Names from the host's lists.
        denoise: Fraction of the schedule to run, from `MIN_DENOISE` to 1.
        feather: Width of the blend from the refined crop to the image, pixels.
        crop_factor: Size of a crop relative to its bbox, at least 1.
        drop_size: Regions whose width or height is at most this are dropped, pixels of the mask.
        refiner_ratio: Fraction of the steps that the refiner runs, 0..1.
        batch_size: Number of versions of each image.
        cycle: How many times each region is sampled.
        inpaint_model: Whether the model is an inpainting model.
        noise_mask_feather: Blur of the noise mask, pixels.
        bbox_fill, contour_fill: See `regions.find_regions`.
        region_batch: Maximum number of regions sampled together.
        color_match: How strongly to match colors to those around the mask, 0..1.
        tiled_vae: Encode and decode in tiles.
        region_prompts: Text for each region, added to the positive prompt.

    Raises:
        InputError: A value is out of range or of the wrong type.
    """

    guide_size: float = setting(384.0, check_number, low=1)
    guide_size_for: bool = setting(True, check_switch)
    max_size: float = setting(1024.0, check_number, low=1)
    mask_mode: bool = setting(True, check_switch)
    seed: int = setting(0, check_whole_number, low=0, high=SEEDS - 1)
    steps: int = setting(20, check_whole_number, low=1, high=_MAX_COUNT)
    cfg: float = setting(8.0, check_number, low=0)
    sampler_name: str = setting("euler", check_text)
    scheduler: str = setting("normal", check_text)
    denoise: float = setting(0.5, check_number, low=MIN_DENOISE, high=1)
    feather: int = setting(5, check_whole_number, low=0)
    crop_factor: float = setting(3.0, check_number, low=1)
    drop_size: int = setting(10, check_whole_number, low=1)
    refiner_ratio: float = setting(0.2, check_number, low=0, high=1)
    batch_size: int = setting(1, check_whole_number, low=1, high=_MAX_COUNT)
    cycle: int = setting(1, check_whole_number, low=1, high=_MAX_COUNT)
    inpaint_model: bool = setting(False, check_switch)
    noise_mask_feather: int = setting(20, check_whole_number, low=0)
    bbox_fill: bool = setting(False, check_switch)
    contour_fill: bool = setting(True, check_switch)
    region_batch: int = setting(4, check_whole_number, low=1)
    color_match: float = setting(0.0, check_number, low=0, high=1)
    tiled_vae: bool = setting(False, check_switch)
    region_prompts: tuple[str, ...] = setting((), _check_texts)

    @property
    def has_soft_noise_mask(self) -> bool:
        """Whether the noise mask is blurred, which needs differential diffusion."""
        return self.mask_mode and self.noise_mask_feather > 0


def schedule(steps: int, denoise: float, refiner_ratio: float) -> tuple[int, int, int]:
    """Divide the steps between the base model and the refiner.

    ``steps`` are the fraction ``denoise`` of the whole schedule. The base model runs floor(steps x (1 - refiner_ratio))
    of them.

    Returns:
        First step of the base model, first step of the refiner, and length of the whole schedule.
    """
    total = math.floor(steps / min(denoise, 1.0))
    start = total - steps
    base = math.floor(round(steps * (1.0 - refiner_ratio), 6))  # 10 * (1 - 0.9) is a little less than 1
    return start, start + base, total
