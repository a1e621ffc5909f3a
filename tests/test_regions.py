"""Regions and boxes against the original node, OpenCV and their definitions; sizes as tables."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core.errors import DependencyError, InputError
from maskwright.core.geometry import Box, compute_crop_region, fit_sampling_frame, nearest_multiple, sampling_scale
from maskwright.core.regions import embed_mask, find_regions, scale_region
from scipy import ndimage

FOLDER = Path(__file__).parent / "golden"
GOLDEN = np.load(FOLDER / "regions.npz")
CASES = json.loads((FOLDER / "regions.json").read_text())


def corners(box: Box) -> list[int]:
    return [box.x1, box.y1, box.x2, box.y2]


def draw_mask(*rows: str) -> torch.Tensor:
    """A mask from rows of digits, from 0 (unselected) to 9 (selected)."""
    return torch.tensor([[int(pixel) / 9 for pixel in row] for row in rows]).unsqueeze(0)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_find_regions_matches_original_node(number: int) -> None:
    case = CASES[number]
    mask = torch.from_numpy(GOLDEN[case["mask"]].astype(np.float32) / 255)
    regions = find_regions(
        mask, case["crop_factor"], case["drop_size"], case["bbox_fill"], case["contour_fill"]
    )  # fmt: skip
    assert [corners(region.bbox) for region in regions] == [expected["bbox"] for expected in case["regions"]]
    assert [corners(region.crop_region) for region in regions] == [
        expected["crop_region"] for expected in case["regions"]
    ]
    for i, region in enumerate(regions):
        np.testing.assert_allclose(region.mask[0].numpy() * 255, GOLDEN[f"crop_{number}_{i}"], atol=1e-4)


@pytest.mark.parametrize("seed", range(40))
def test_find_regions_matches_opencv(seed: int) -> None:
    """Order, boxes and filled outlines, also for thin lines, nested parts and parts at the border."""
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(seed)
    selected = random.random(random.integers(1, 30, 2)) < random.random()
    selected = selected.repeat(1 + seed % 3, axis=0).repeat(1 + seed % 3, axis=1)
    contours, tree = cv2.findContours(selected.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2:]
    regions = iter(find_regions(torch.from_numpy(selected).float(), crop_factor=1, drop_size=1))
    for i, contour in enumerate(contours):
        x, y, width, height = cv2.boundingRect(contour)
        if tree[0][i][3] != -1 or width <= 1 or height <= 1:
            continue
        filled = np.zeros((height, width), np.uint8)
        cv2.drawContours(filled, [contour], 0, 1, cv2.FILLED, offset=(-x, -y))
        region = next(regions)
        assert corners(region.bbox) == [x, y, x + width, y + height]
        np.testing.assert_array_equal(region.bbox.relative_to(region.crop_region).crop(region.mask)[0], filled)
    assert next(regions, None) is None


def find_outlines_by_definition(selected: np.ndarray) -> list[tuple[Box, np.ndarray]]:
    """Every connected part from the bottom up, with filled holes, without parts inside holes of others."""
    parts, _ = ndimage.label(selected, np.ones((3, 3)))
    filled = []
    for number, (rows, columns) in reversed([*enumerate(ndimage.find_objects(parts), 1)]):
        whole = ndimage.binary_fill_holes(parts == number)
        filled.append((Box(columns.start, rows.start, columns.stop, rows.stop), whole))
    return [
        (box, box.crop(torch.from_numpy(whole)[None])[0].numpy())
        for box, whole in filled
        if not any((whole < other).sum() and (whole <= other).all() for _, other in filled)
    ]


@given(
    size=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    share=st.floats(0.02, 0.98),
    scale=st.integers(1, 3),
    seed=st.integers(0, 10_000),
)
def test_find_regions_matches_definition(size: tuple, share: float, scale: int, seed: int) -> None:
    selected = np.random.default_rng(seed).random(size) < share
    selected = selected.repeat(scale, axis=0).repeat(scale, axis=1)
    regions = find_regions(torch.from_numpy(selected).float(), crop_factor=1, drop_size=1)
    expected = [
        (box, outline) for box, outline in find_outlines_by_definition(selected) if min(box.width, box.height) > 1
    ]
    assert [region.bbox for region in regions] == [box for box, _ in expected]
    for region, (_, outline) in zip(regions, expected):
        np.testing.assert_array_equal(region.mask[0].numpy(), outline)


def test_find_regions_of_nested_rings() -> None:
    rings = torch.zeros(41, 41)
    for inset in range(0, 20, 4):
        rings[inset : 41 - inset, inset : 41 - inset] = 1
        rings[inset + 2 : 39 - inset, inset + 2 : 39 - inset] = 0
    beside = torch.cat([rings, torch.zeros(41, 3), rings], dim=1)
    (region,) = find_regions(rings)
    assert region.bbox == Box(0, 0, 41, 41) and region.mask.min() == 1
    assert [corners(region.bbox) for region in find_regions(beside)] == [[44, 0, 85, 41], [0, 0, 41, 41]]
    (soft,) = find_regions(rings * 0.5, contour_fill=False)
    assert torch.equal(soft.mask[0], rings * 0.5), "nested parts stay selected"


def test_find_regions_passes_do_not_grow_with_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass per part, or comparing all pairs, would take minutes for thousands of parts."""
    passes = 0

    def count_calls(work: Callable) -> Callable:
        def count(*args: Any, **kwargs: Any) -> Any:
            nonlocal passes
            passes += 1
            return work(*args, **kwargs)

        return count

    for name in ("label", "find_objects", "binary_fill_holes", "binary_dilation", "binary_propagation"):
        monkeypatch.setattr(ndimage, name, count_calls(getattr(ndimage, name)))
    passes_for = {}
    for parts in (1, 12):
        mask = torch.zeros(5 * parts, 5 * parts)
        for y, x in itertools.product(range(0, 5 * parts, 5), repeat=2):
            mask[y : y + 3, x : x + 3] = 1
        passes = 0
        assert len(find_regions(mask, 1, 1)) == parts**2
        passes_for[parts] = passes
    assert passes_for[1] == passes_for[12]


@pytest.mark.parametrize("factor", [1e3, 1e300, 1e308])
def test_find_regions_with_huge_crop_factor(factor: float) -> None:
    mask = torch.zeros(60, 80)
    mask[20:40, 30:50] = 1
    (region,) = find_regions(mask, factor)
    assert region.crop_region == Box(0, 0, 80, 60)
    assert region.mask.sum() == 400


def test_sampling_scale_with_huge_guide_size() -> None:
    box = Box(0, 0, 30, 20)
    assert sampling_scale(box, box, 1e308, True, 90) == pytest.approx(3)


def test_find_regions_without_scipy_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(DependencyError, match=r"scipy.*missing or does not work.*pip install"):
        find_regions(torch.ones(20, 20))


@pytest.mark.parametrize(
    "sides", [(3, 0, 3, 5), (0, 5, 4, 5), (5, 0, 3, 4), (-1, 0, 3, 4), (0, 0, 2.5, 4), (0, 0, "3", 4), (0, 0, None, 4)]
)
def test_box_rejects_invalid_coordinates(sides: tuple) -> None:
    with pytest.raises(InputError):
        Box(*sides)


def test_box_methods() -> None:
    box = Box(2, 3, 7, 5)
    assert (box.width, box.height) == (5, 2)
    assert box.intersection(Box(0, 0, 3, 4)) == Box(2, 3, 3, 4)
    assert box.intersection(Box(7, 3, 9, 5)) is None, "half-open boxes that only touch"
    assert not box.overlaps(Box(7, 3, 9, 5))
    assert box.expand(3, Box(0, 0, 9, 9)) == Box(0, 0, 9, 8)
    assert box.relative_to(Box(1, 1, 9, 9)) == Box(1, 2, 6, 4)
    assert box.crop(torch.zeros(2, 9, 9, 3)).shape == (2, 2, 5, 3)
    assert box.inner_sides(Box(0, 0, 7, 9)) == (True, True, False, True)


def test_find_regions_fills_or_keeps_holes() -> None:
    mask = draw_mask(
        "0000000",
        "0599900",
        "0900900",
        "0900900",
        "0999900",
        "0000000",
    )
    (filled,) = find_regions(mask, 1, 1)
    assert filled.mask.tolist() == torch.ones(1, 4, 4).tolist()
    (soft,) = find_regions(mask, 1, 1, contour_fill=False)
    assert torch.equal(soft.mask, mask[:, 1:5, 1:5])
    (whole,) = find_regions(mask, 1, 1, contour_fill=False, bbox_fill=True)
    assert whole.mask.min() == 1


def test_find_regions_merges_parts_in_holes() -> None:
    mask = torch.zeros(30, 30)
    mask[2:28, 2:28] = 1
    mask[6:24, 6:24] = 0
    mask[12:18, 12:18] = 1
    assert len(find_regions(mask, 1, 1)) == 1


@pytest.mark.parametrize(("drop_size", "count"), [(1, 3), (5, 2), (6, 1), (11, 1), (12, 0)])
def test_find_regions_drops_small_regions(drop_size: int, count: int) -> None:
    mask = torch.zeros(60, 60)
    mask[5:11, 5:35] = 1  # 30 x 6
    mask[20:25, 20:25] = 1  # 5 x 5
    mask[40:52, 10:22] = 1  # 12 x 12
    assert len(find_regions(mask, 3, drop_size)) == count


@pytest.mark.parametrize("mask", [torch.zeros(40, 40), torch.full((40, 40), 0.003)])
def test_find_regions_ignores_values_below_1_255th(mask: torch.Tensor) -> None:
    assert find_regions(mask) == []


def test_find_regions_of_single_pixel_and_full_mask() -> None:
    mask = torch.zeros(20, 20)
    mask[10, 10] = 1
    assert find_regions(mask, drop_size=1) == []
    (region,) = find_regions(torch.ones(20, 30))
    assert region.bbox == region.crop_region == Box(0, 0, 30, 20)
    assert region.mask.min() == 1


@pytest.mark.parametrize(
    ("bbox", "factor", "image", "crop"),
    [
        ((40, 40, 60, 50), 1, (100, 100), (40, 40, 60, 50)),
        ((40, 40, 60, 50), 3, (100, 100), (20, 30, 80, 60)),
        ((0, 0, 20, 20), 3, (100, 100), (0, 0, 60, 60)),
        ((80, 90, 100, 100), 3, (100, 100), (40, 70, 100, 100)),
        ((10, 10, 60, 60), 3, (100, 80), (0, 0, 100, 80)),
        ((40, 40, 51, 51), 1.1, (100, 100), (39, 39, 51, 51)),
        ((10, 10, 12, 12), 1.1, (100, 100), (9, 9, 11, 11)),  # rounding excludes a column of the bbox
    ],
)
def test_compute_crop_region(bbox: tuple, factor: float, image: tuple, crop: tuple) -> None:
    assert compute_crop_region(Box(*bbox), factor, *image) == Box(*crop)


@pytest.mark.parametrize(
    ("bbox", "crop", "guide_size", "for_bbox", "max_size", "scale"),
    [
        ((100, 50), (300, 150), 384, True, 4096, 7.68),  # the bbox's shorter side, 50, becomes 384
        ((100, 50), (300, 150), 384, False, 4096, 2.56),  # the crop's, 150
        ((100, 50), (300, 150), 384, True, 1024, 1024 / 300),  # 2304 is too wide
        ((400, 400), (500, 500), 384, True, 1024, 1),  # large enough already
        ((400, 400), (1024, 900), 384, True, 1024, 1),
        ((400, 400), (2048, 900), 384, True, 1024, 0.5),  # the original node did not reduce it
        ((30, 30), (2048, 900), 384, True, 1024, 0.5),
        ((10, 10), (64, 64), 64, False, 64, 1),
    ],
)
def test_sampling_scale(
    bbox: tuple, crop: tuple, guide_size: float, for_bbox: bool, max_size: float, scale: float
) -> None:
    result = sampling_scale(Box(0, 0, *bbox), Box(0, 0, *crop), guide_size, for_bbox, max_size)
    assert result == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize(
    ("length", "multiple", "max_size", "expected"),
    [(512, 8, 1024, 512), (515, 8, 1024, 512), (516, 8, 1024, 520), (3, 8, 1024, 8), (1023, 64, 1000, 960),
     (1020, 8, 1020, 1016), (40, 64, 50, 64)],
)  # fmt: skip
def test_nearest_multiple(length: int, multiple: int, max_size: float, expected: int) -> None:
    assert nearest_multiple(length, multiple, max_size) == expected


IMAGE = (0, 0, 400, 300)


@pytest.mark.parametrize(
    ("crop", "guide_size", "max_size", "multiple", "window", "size"),
    [
        # Scaled: the original node's size if it is a multiple, else the nearest multiple.
        ((10, 10, 74, 74), 128, 1024, 8, (10, 10, 74, 74), (128, 128)),
        ((10, 10, 74, 110), 128, 1024, 8, (10, 10, 74, 110), (128, 200)),
        ((10, 10, 74, 111), 128, 1024, 8, (10, 10, 74, 111), (128, 200)),
        ((10, 10, 74, 110), 128, 1024, 64, (10, 10, 74, 110), (128, 192)),
        ((0, 0, 400, 300), 64, 200, 8, (0, 0, 400, 300), (200, 152)),
        # Unscaled multiple: nothing is resized.
        ((10, 20, 74, 100), 64, 1024, 8, (10, 20, 74, 100), (64, 80)),
        # Unscaled, not a multiple: the window is expanded, on both sides or where there is room.
        ((10, 20, 73, 99), 63, 1024, 8, (10, 20, 74, 100), (64, 80)),
        ((10, 20, 71, 97), 61, 1024, 8, (9, 19, 73, 99), (64, 80)),
        ((0, 230, 61, 300), 61, 1024, 8, (0, 228, 64, 300), (64, 72)),
        ((10, 20, 110, 120), 64, 1024, 32, (0, 6, 128, 134), (128, 128)),
        # No room in the image (400 x 300) or within max_size: only this axis is resized.
        ((0, 0, 400, 300), 64, 1024, 8, (0, 0, 400, 300), (400, 304)),
        ((100, 0, 161, 299), 61, 1024, 8, (99, 0, 163, 299), (64, 296)),
        ((10, 20, 73, 120), 63, 100, 8, (10, 20, 74, 120), (64, 96)),
    ],
)
def test_fit_sampling_frame(
    crop: tuple, guide_size: float, max_size: float, multiple: int, window: tuple, size: tuple[int, int]
) -> None:
    frame = fit_sampling_frame(Box(*crop), Box(*crop), Box(*IMAGE), guide_size, True, max_size, multiple)
    assert corners(frame.window) == list(window)
    assert (frame.width, frame.height) == size


@given(data=st.data(), multiple=st.sampled_from((8, 16, 32, 64)), for_bbox=st.booleans())
def test_fit_sampling_frame_properties(data: st.DataObject, multiple: int, for_bbox: bool) -> None:
    width, height = data.draw(st.integers(2, 3000)), data.draw(st.integers(2, 3000))
    x1, y1 = data.draw(st.integers(0, width - 2)), data.draw(st.integers(0, height - 2))
    x2, y2 = data.draw(st.integers(x1 + 2, width)), data.draw(st.integers(y1 + 2, height))
    bbox, image = Box(x1, y1, x2, y2), Box(0, 0, width, height)
    crop = compute_crop_region(bbox, data.draw(st.floats(1, 10)), width, height)
    guide_size, max_size = data.draw(st.floats(64, 2048)), data.draw(st.floats(64, 2048))
    frame = fit_sampling_frame(bbox, crop, image, guide_size, for_bbox, max_size, multiple)
    assert frame.width % multiple == frame.height % multiple == 0
    assert max(frame.width, frame.height) <= max(max_size, multiple)
    assert frame.window.intersection(image) == frame.window
    assert frame.window.intersection(crop) == crop
    for size, window, cropped in (
        (frame.width, frame.window.width, crop.width),
        (frame.height, frame.window.height, crop.height),
    ):
        assert window == cropped or size == window, "expanded axes are not resized"

    # For crops within max_size: the original node's size, if the VAE accepts it.
    if max(crop.width, crop.height) <= max_size:
        measured = bbox if for_bbox else crop
        scale = guide_size / min(measured.width, measured.height)
        original_size = int(crop.width * scale), int(crop.height * scale)
        if max(original_size) > max_size:
            scale *= max_size / max(original_size)
            original_size = int(crop.width * scale), int(crop.height * scale)
        if scale <= 1 or 0 in original_size:
            original_size = crop.width, crop.height
        # Rounding could exceed max_size by a pixel.
        if max(original_size) <= max_size and original_size[0] % multiple == original_size[1] % multiple == 0:
            assert (frame.width, frame.height) == original_size
            assert frame.window == crop


def test_scale_region_scales_each_axis() -> None:
    mask = torch.zeros(50, 100)
    mask[10:20, 30:60] = 1
    (region,) = find_regions(mask, 1, 1)
    larger = scale_region(region, 4.0, 2.0, Box(0, 0, 400, 100))
    assert larger.bbox == larger.crop_region == Box(120, 20, 240, 40)
    assert larger.mask.shape == (1, 20, 120) and larger.mask.min() == 1
    tiny = scale_region(region, 0.01, 0.01, Box(0, 0, 1, 1))
    assert tiny.bbox == tiny.crop_region == Box(0, 0, 1, 1)


def test_embed_mask_crops_and_pads() -> None:
    mask = torch.ones(1, 3, 3)
    assert embed_mask(mask, Box(2, 2, 5, 5), Box(0, 0, 6, 6)).sum() == 9
    assert embed_mask(mask, Box(2, 2, 5, 5), Box(4, 0, 8, 8)).nonzero().tolist() == [[0, 2, 0], [0, 3, 0], [0, 4, 0]]
    assert embed_mask(mask, Box(2, 2, 5, 5), Box(6, 6, 8, 8)).sum() == 0


@given(
    size=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    crop_factor=st.floats(1, 5),
    fills=st.tuples(st.booleans(), st.booleans()),
    level=st.floats(0.3, 0.9),
    seed=st.integers(0, 1000),
)
def test_find_regions_properties(size: tuple, crop_factor: float, fills: tuple, level: float, seed: int) -> None:
    mask = (torch.rand(size, generator=torch.Generator().manual_seed(seed)) > level).float()
    original = mask.clone()
    image = Box(0, 0, size[1], size[0])
    for region in find_regions(mask, crop_factor, 1, *fills):
        assert region.bbox.intersection(image) == region.bbox
        assert region.crop_region.intersection(image) == region.crop_region
        assert region.mask.shape == (1, region.crop_region.height, region.crop_region.width)
        outside = embed_mask(region.mask, region.crop_region, image)[0].clone()
        region.bbox.crop(outside.unsqueeze(0)).zero_()
        assert not outside.any(), "selected outside of its bbox"
        if not any(fills):
            assert torch.all(region.mask <= region.crop_region.crop(mask.unsqueeze(0)))
    assert torch.equal(mask, original), "changed in place"


def test_find_regions_rejects_batches() -> None:
    with pytest.raises(InputError, match="contains 2 masks"):
        find_regions(torch.ones(2, 8, 8))
