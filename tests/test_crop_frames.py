"""Where regions are cropped: context, proportions, borders, multiples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core.crop.crop_frames import SIZES, CropSettings, fit_crop_frame, match_proportions
from maskwright.core.errors import InputError
from maskwright.core.geometry import Box

IMAGE = Box(0, 0, 200, 100)
KEEP = {"size": "keep", "context_factor": 1, "context_pixels": 0, "blend": 0, "multiple_of": 1}


def exact(width: int, height: int, multiple_of: int = 1) -> dict:
    return {"size": "exact", "width": width, "height": height, "multiple_of": multiple_of}


@pytest.mark.parametrize(
    ("bbox", "changes", "window", "extension", "size"),
    [
        # The seam needs a pixel more than its width on each side.
        ((50, 40, 60, 50), {}, (49, 39, 61, 51), (0, 0, 0, 0), (12, 12)),
        ((50, 40, 60, 50), {"blend": 4}, (45, 35, 65, 55), (0, 0, 0, 0), (20, 20)),
        ((50, 40, 60, 50), {"context_factor": 3}, (40, 30, 70, 60), (0, 0, 0, 0), (30, 30)),
        ((50, 40, 60, 50), {"context_pixels": 20}, (30, 20, 80, 70), (0, 0, 0, 0), (50, 50)),
        # At every border and corner the crop moves inside before it shrinks.
        ((0, 40, 10, 50), {"context_pixels": 5}, (0, 35, 20, 55), (0, 0, 0, 0), (20, 20)),
        ((190, 40, 200, 50), {"context_pixels": 5}, (180, 35, 200, 55), (0, 0, 0, 0), (20, 20)),
        ((50, 0, 60, 10), {"context_pixels": 5}, (45, 0, 65, 20), (0, 0, 0, 0), (20, 20)),
        ((50, 90, 60, 100), {"context_pixels": 5}, (45, 80, 65, 100), (0, 0, 0, 0), (20, 20)),
        ((0, 0, 1, 1), {"context_pixels": 5}, (0, 0, 11, 11), (0, 0, 0, 0), (11, 11)),
        ((199, 99, 200, 100), {"context_pixels": 5}, (189, 89, 200, 100), (0, 0, 0, 0), (11, 11)),
        ((50, 40, 60, 50), {"context_factor": 100}, (0, 0, 200, 100), (0, 0, 0, 0), (200, 100)),
        # Multiples take more of the image, and extend its edge where there is no more.
        ((50, 40, 60, 50), {"multiple_of": 16}, (47, 37, 63, 53), (0, 0, 0, 0), (16, 16)),
        ((0, 0, 200, 100), {"multiple_of": 7}, (0, 0, 200, 100), (2, 3, 1, 2), (203, 105)),
        ((0, 0, 200, 100), {"multiple_of": 64}, (0, 0, 200, 100), (28, 14, 28, 14), (256, 128)),
        # Proportions take more context, too.
        ((50, 40, 60, 50), exact(64, 32), (43, 39, 67, 51), (0, 0, 0, 0), (64, 32)),
        ((90, 0, 110, 100), exact(300, 100), (0, 0, 200, 100), (50, 0, 50, 0), (300, 100)),
        ((0, 0, 20, 100), exact(300, 100), (0, 0, 200, 100), (100, 0, 0, 0), (300, 100)),
        ((50, 40, 60, 50), exact(1000, 1000), (49, 39, 61, 51), (0, 0, 0, 0), (1000, 1000)),
        ((50, 40, 60, 50), exact(9, 9, 8), (49, 39, 61, 51), (0, 0, 0, 0), (16, 16)),
        ((50, 40, 68, 46), {"size": "same area", "width": 40, "height": 40}, (49, 39, 69, 47), (0, 0, 0, 0), (63, 25)),
        ((50, 40, 68, 46), {"size": "longer side", "width": 80}, (49, 39, 69, 47), (0, 0, 0, 0), (80, 32)),
        ((50, 40, 56, 58), {"size": "longer side", "width": 80}, (49, 39, 57, 59), (0, 0, 0, 0), (32, 80)),
    ],
)  # fmt: skip
def test_fit_crop_frame(bbox: tuple, changes: dict, window: tuple, extension: tuple, size: tuple) -> None:
    frame = fit_crop_frame(Box(*bbox), IMAGE, CropSettings(**{**KEEP, **changes}))
    assert (tuple(frame.window), tuple(frame.extension), (frame.width, frame.height)) == (window, extension, size)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Box, Box]:
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x2, y2 = draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))
    return Box(x1, y1, x2, y2), Box(0, 0, width, height)


@given(
    boxes(),
    st.builds(
        CropSettings,
        size=st.sampled_from(SIZES),
        width=st.integers(1, 300),
        height=st.integers(1, 300),
        multiple_of=st.integers(1, 128),
        context_factor=st.floats(1, 100),
        context_pixels=st.integers(0, 300),
        blend=st.integers(0, 100),
    ),
)
def test_fit_crop_frame_properties(pair: tuple[Box, Box], chosen: CropSettings) -> None:
    bbox, image = pair
    frame = fit_crop_frame(bbox, image, chosen)
    assert frame.window.intersection(bbox) == bbox and frame.window.intersection(image) == frame.window
    unscaled = frame.unscaled
    for length, inside, limit in (
        (unscaled.width, frame.window.width, image.width),
        (unscaled.height, frame.window.height, image.height),
    ):
        assert inside == min(length, limit), "moves before it shrinks, and extends only beyond the whole image"
    assert frame.width % chosen.multiple_of == frame.height % chosen.multiple_of == 0
    assert match_proportions(frame.width, frame.height, unscaled.width, unscaled.height)
    if chosen.size == "keep":
        assert (unscaled.width, unscaled.height) == (frame.width, frame.height)
    assert frame.locate(frame.window).relative_to(unscaled).intersection(unscaled) == frame.locate(frame.window)


@pytest.mark.parametrize(
    ("new", "matches"),
    [
        ((96, 64), True),
        ((192, 128), True),
        ((24, 16), True),
        ((144, 97), True),  # rounded to whole pixels
        ((1, 1), True),
        ((64, 96), False),
        ((96, 72), False),
        ((100, 64), False),
        ((192, 120), False),
    ],
)
def test_match_proportions(new: tuple[int, int], matches: bool) -> None:
    assert match_proportions(96, 64, *new) is matches


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "huge"}, "size is 'huge'"),
        ({"regions": "parts"}, "regions is 'parts'"),
        ({"order": "reversed"}, "order is 'reversed'"),
        ({"batching": "all"}, "batching is 'all'"),
        ({"multiple_of": 0}, "multiple_of is 0"),
        ({"context_factor": 0.5}, "context_factor is 0.5"),
        ({"context_factor": float("nan")}, "context_factor is nan"),
        ({"context_pixels": -1}, "context_pixels is -1"),
        ({"grow": -1}, "grow is -1"),
        ({"width": 0}, "width is 0"),
        ({"height": 100_000}, "height is 100000"),
        ({"blend": 1.5}, "blend is 1.5"),
        ({"fill_holes": "no"}, "fill_holes is 'no'"),
    ],
)
def test_settings_name_wrong_value(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CropSettings(**changes)
