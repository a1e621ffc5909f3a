"""Properties of the nodes on masks and of their core functions, for masks and images of any kind and size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core import distance, outline, parts
from maskwright.core.batching import STANDALONE_HOST
from maskwright.core.crop.crop_frames import BATCHING, REGIONS, SIZES
from maskwright.core.instances.instances import SPLITS, draw_masks, draw_union, find_instances
from maskwright.core.instances.label_map import draw_labels
from maskwright.core.instances.picking import ORDERS, Choice, Pick, merge_overlapping, sort_instances

pytest.importorskip("scipy.ndimage")

KINDS = ("hard", "soft", "faint", "few levels", "empty", "full", "blobs")
CPU = torch.device("cpu")


def make_masks(count: int, height: int, width: int, kind: str, seed: int) -> torch.Tensor:
    """``[count,height,width]`` of one kind."""
    random = np.random.default_rng(seed)
    values = random.random((count, height, width), np.float32)
    share = random.random()
    if kind == "hard":
        values = values < share
    elif kind == "faint":
        values = np.where(values < share, values / 100, 0)
    elif kind == "few levels":
        values = np.floor(values * 5) / 4
    elif kind == "blobs":
        values = (values[:, ::3, ::3] < share).repeat(3, axis=1).repeat(3, axis=2)[:, :height, :width]
    elif kind != "soft":
        values = np.full_like(values, kind == "full")
    return torch.from_numpy(np.ascontiguousarray(values).astype(np.float32)).clamp(0, 1)


def make_image(count: int, height: int, width: int, channels: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, height, width, channels, generator=generator)


def masks(most: int = 3, longest: int = 20, shortest: int = 1, kinds: tuple[str, ...] = KINDS) -> st.SearchStrategy:
    side = st.integers(shortest, longest)
    return st.builds(make_masks, st.integers(1, most), side, side, st.sampled_from(kinds), st.integers(0, 9999))


def run(name: str, *tensors: torch.Tensor, **inputs: object) -> tuple:
    """Run a node, and check that it does not change its inputs. ``tensors`` are all tensors in ``inputs``."""
    node = NODE_CLASS_MAPPINGS[name]()
    before = [each.clone() for each in tensors]
    result = getattr(node, node.FUNCTION)(**inputs)
    assert all(torch.equal(one, other) for one, other in zip(tensors, before))
    return result["result"] if isinstance(result, dict) else result


def assert_in_range(*tensors: torch.Tensor) -> None:
    for each in tensors:
        assert each.dtype == torch.float32 and bool(((each >= 0) & (each <= 1)).all())  # False for NaN


# -- EditMask, and the functions it calls

PIXELS = st.one_of(st.just(0.0), st.floats(0, 30))
EDITS = st.fixed_dictionaries(
    {
        "invert": st.booleans(),
        "threshold": st.one_of(st.just(0.0), st.floats(0, 1)),
        "fill_holes": st.booleans(),
        "remove_specks": st.integers(0, 40),
        "grow": st.one_of(st.just(0.0), st.floats(-20, 20)),
        "smooth": PIXELS,
        "feather_inside": PIXELS,
        "feather_outside": PIXELS,
        "blur": PIXELS,
    }
)


@given(mask=masks(), edits=EDITS)
def test_edit_mask_is_in_range_and_batch_equals_singles(mask: torch.Tensor, edits: dict) -> None:
    (edited,) = run("EditMask", mask, mask=mask, **edits)
    assert_in_range(edited)
    assert edited.shape == mask.shape
    assert torch.equal(edited, torch.cat([run("EditMask", mask=each, **edits)[0] for each in mask.split(1)]))


@given(mask=masks(), pixels=st.integers(0, 30))
def test_holes_and_specks_are_removed_once(mask: torch.Tensor, pixels: int) -> None:
    cleaned = parts.remove_specks(mask, pixels)
    assert torch.equal(parts.remove_specks(cleaned, pixels), cleaned)
    assert ((cleaned == mask) | (cleaned == 0)).all()
    filled = parts.fill_holes(mask)
    assert_in_range(cleaned, filled)
    assert (filled >= mask).all()
    if len(mask.unique()) <= 16:  # more are filled at 16 levels only
        assert torch.equal(parts.fill_holes(filled), filled)


@given(mask=masks(), one=st.floats(0, 15), other=st.floats(0, 15))
def test_grow_and_shrink_are_dual_and_monotonic(mask: torch.Tensor, one: float, other: float) -> None:
    grown, shrunk = distance.grow(mask, one), distance.grow(mask, -one)
    assert (shrunk <= mask).all() and (mask <= grown).all()
    assert torch.equal(distance.grow(1 - mask, one), 1 - shrunk)
    low, high = sorted((one, other))
    assert (distance.grow(mask, low) <= distance.grow(mask, high)).all()
    opened = distance.grow(shrunk, one)
    assert (opened <= mask).all()
    assert torch.equal(distance.grow(distance.grow(opened, -one), one), opened)


@given(mask=masks(), inside=st.floats(0, 20), outside=st.floats(0, 20))
def test_fade_edges_changes_each_side_one_way(mask: torch.Tensor, inside: float, outside: float) -> None:
    faded, selected = outline.fade_edges(mask, inside, outside), mask >= 0.5
    assert_in_range(faded)
    assert (faded <= mask)[selected].all() and (faded >= mask)[~selected].all()
    if not (mask == 0.5).any():  # which is selected in one of both
        opposite = outline.fade_edges(1 - mask, outside, inside)
        torch.testing.assert_close(opposite, 1 - faded, atol=1e-5, rtol=0)


@given(mask=masks(), size=st.integers(1, 25), shape=st.sampled_from(["rectangle", "ellipse", "cross"]))
def test_gradient_region_is_in_range_and_batch_equals_singles(mask: torch.Tensor, size: int, shape: str) -> None:
    (edges,) = run("GradientRegion", mask, masks=mask, kernel_size=size, shape=shape)
    assert_in_range(edges)
    assert size > 1 or not edges.any()
    singles = [run("GradientRegion", masks=each, kernel_size=size, shape=shape)[0] for each in mask.split(1)]
    assert torch.equal(edges, torch.cat(singles))


# -- MaskInstances, and the functions it calls

CHOICES = st.fixed_dictionaries(
    {
        "sort_by": st.sampled_from(ORDERS),
        "min_area": st.one_of(st.just(0.0), st.floats(0, 20)),
        "overlap": st.one_of(st.just(1.0), st.floats(0, 1)),
        "limit": st.integers(0, 4),
        "pick": st.sampled_from(["", "0", "-1", "1-3", "0, 2", "7", "0--1"]),
    }
)


@given(mask=masks(), split=st.sampled_from(SPLITS), choice=CHOICES)
def test_mask_instances_are_consistent(mask: torch.Tensor, split: str, choice: dict) -> None:
    kept, union, boxes, count = run("MaskInstances", mask, masks=mask, split=split, **choice)
    assert_in_range(kept, union)
    assert count == len(kept) == sum(map(len, boxes)) and union.shape == (1, *mask.shape[1:])
    assert torch.equal(union, kept.amax(0, keepdim=True) if count else torch.zeros_like(union))
    assert (union <= mask.amax(0, keepdim=True)).all()
    for each, box in zip(kept, boxes[0]):
        inside = torch.zeros_like(each)
        inside[box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"]] = 1
        assert not (each * 255).trunc()[inside == 0].any()


@given(mask=masks())
def test_mask_instances_of_batch_are_those_of_singles_and_do_not_split_again(mask: torch.Tensor) -> None:
    kept, *_ = run("MaskInstances", mask, masks=mask)
    assert torch.equal(kept, torch.cat([run("MaskInstances", masks=each)[0] for each in mask.split(1)]))
    if len(kept):
        again, *_ = run("MaskInstances", masks=kept)
        assert torch.equal(again, kept)


@given(mask=masks(most=1), order=st.sampled_from(ORDERS))
def test_find_instances_covers_selection_once(mask: torch.Tensor, order: str) -> None:
    found = sort_instances(find_instances(mask), order)
    selected = (mask * 255).trunc() > 0
    assert sum(each.area for each in found) == selected.sum()
    assert torch.equal(draw_union(found, mask.shape[1:], CPU), mask * selected)
    assert merge_overlapping(found, 0.0) == found  # parts of one mask never overlap
    height, width = mask.shape[1:]
    high, low = np.split(draw_labels(found, (height, width), (height, width)).astype(int), 2)
    labels = torch.from_numpy(high * 256 + low)
    drawn = draw_masks(found, (height, width), CPU, STANDALONE_HOST)
    for number, each in enumerate(drawn, 1):
        assert torch.equal(labels == number, each > 0)


@given(
    numbers=st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 5)), max_size=4),
    count=st.integers(0, 12),
    separator=st.sampled_from([",", ", ", "; ", "\u3001"]),
)
def test_pick_names_existing_instances_in_order(numbers: list, count: int, separator: str) -> None:
    ranges = [(first, first + more) for first, more in numbers if (first < 0) == (first + more < 0)]
    text = separator.join(f"{first}-{last}" if first != last else f"{first}" for first, last in ranges)
    every = {i + count if i < 0 else i for first, last in ranges for i in range(first, last + 1)}
    expected = sorted(every & set(range(count))) if ranges else list(range(count))
    assert Pick(text).indices(count) == expected
    assert Choice(pick=text).pick == text


# -- RegionCrop and RegionStitch

CROPS = st.fixed_dictionaries(
    {
        "regions": st.sampled_from(REGIONS),
        "order": st.sampled_from(ORDERS),
        "fill_holes": st.booleans(),
        "grow": st.one_of(st.just(0.0), st.floats(0, 12)),
        "context_factor": st.floats(1, 4),
        "context_pixels": st.integers(0, 12),
        "width": st.integers(1, 48),
        "height": st.integers(1, 48),
        "multiple_of": st.sampled_from([1, 2, 3, 8, 16]),
        "blend": st.integers(0, 12),
        "batching": st.sampled_from(BATCHING),
    }
)
FEW = ("blobs", "soft", "empty", "full")  # regions, since each is cropped


def crop_and_stitch(image: torch.Tensor, mask: torch.Tensor, change: bool = False, **inputs: object) -> tuple:
    """The images and weights after both nodes, with or without a change in between; and the crops."""
    inputs = {"bounding_boxes": None, "context_mask": None, "extra_pnginfo": None, **inputs}
    crops, crop_masks, stitch, _, count = run("RegionCrop", image, mask, image=image, mask=mask, **inputs)
    assert_in_range(*crops, *crop_masks)
    assert [each.shape[:3] for each in crops] == [each.shape for each in crop_masks]
    assert sum(map(len, crops)) == max(1, count)
    changed = [1 - each for each in crops] if change else crops
    inputs = {"stitch": [stitch], "crops": changed, "color_match": [0.0], "blend": [-1], "crop_masks": None}
    (images,), (weights,) = run("RegionStitch", image, *crops, **inputs, extra_pnginfo=None)
    return images, weights, crops


@given(mask=masks(2, 24, kinds=FEW), channels=st.sampled_from([3, 4]), inputs=CROPS)
def test_stitch_of_unscaled_crops_is_identity(mask: torch.Tensor, channels: int, inputs: dict) -> None:
    image = make_image(len(mask), *mask.shape[1:], channels, seed=1)
    images, weights, _ = crop_and_stitch(image, mask, size="keep", **inputs)
    assert torch.equal(images, image)
    assert_in_range(weights)


@given(mask=masks(2, 24, kinds=FEW), size=st.sampled_from(SIZES), inputs=CROPS)
def test_stitch_changes_only_where_weights_are_above_0(mask: torch.Tensor, size: str, inputs: dict) -> None:
    image = make_image(len(mask), *mask.shape[1:], 3, seed=2)
    images, weights, _ = crop_and_stitch(image, mask, change=True, size=size, **inputs)
    assert_in_range(images, weights)
    assert torch.equal(images[weights == 0], image[weights == 0])
    singles = [
        crop_and_stitch(one, each, change=True, size=size, **inputs)
        for one, each in zip(image.split(1), mask.split(1))
    ]  # fmt: skip
    assert torch.equal(weights, torch.cat([each[1] for each in singles]))
    torch.testing.assert_close(images, torch.cat([each[0] for each in singles]), atol=1e-6, rtol=0)


# -- RefineMask

REFINEMENTS = st.fixed_dictionaries(
    {
        "edge_width": st.one_of(st.just(0.0), st.floats(0, 12)),
        "keep_thin_parts": st.sampled_from([0.0, 0.2, 1.0]),
        "decontaminate": st.booleans(),
        "background": st.sampled_from(["transparent", "the image"]),
    }
)


def check_refinement(mask: torch.Tensor, channels: int, method: str, inputs: dict) -> None:
    image = make_image(len(mask), *mask.shape[1:], channels, seed=3)
    inputs = {"method": method, **inputs}
    refined, cutout, foreground = run("RefineMask", image, mask, image=image, mask=mask, **inputs)
    assert_in_range(refined, cutout, foreground)
    assert torch.equal(cutout[..., 3], refined) and foreground.shape[-1] == 3
    assert channels == 3 or (refined <= image[..., 3]).all()
    singles = [run("RefineMask", image=one, mask=each, **inputs) for one, each in zip(image.split(1), mask.split(1))]
    for batch, each in zip((refined, cutout, foreground), zip(*singles)):
        assert torch.equal(batch, torch.cat(each))


@given(mask=masks(2, 20), channels=st.sampled_from([3, 4]), inputs=REFINEMENTS)
def test_refine_mask_with_guided_filter_is_in_range(mask: torch.Tensor, channels: int, inputs: dict) -> None:
    check_refinement(mask, channels, "guided filter", inputs)


@given(mask=masks(2, 16), channels=st.sampled_from([3, 4]), inputs=REFINEMENTS)
def test_refine_mask_with_closed_form_is_in_range(mask: torch.Tensor, channels: int, inputs: dict) -> None:
    pytest.importorskip("pymatting")
    check_refinement(mask, channels, "closed form", inputs)


@given(trimap=masks(1, 16, 3, kinds=("few levels", "blobs")), mask=masks(1, 16, 3), method=st.sampled_from([0, 1]))
def test_refine_mask_keeps_what_trimap_knows(trimap: torch.Tensor, mask: torch.Tensor, method: int) -> None:
    pytest.importorskip("pymatting")
    image = make_image(1, *trimap.shape[1:], 3, seed=4)
    method = ("closed form", "guided filter")[method]
    refined, *_ = run("RefineMask", image, mask, trimap, image=image, mask=mask, trimap=trimap, method=method)
    assert_in_range(refined)
    if (trimap == 0).any() and (trimap == 1).any():
        assert torch.equal(refined[trimap == 1], trimap[trimap == 1]) and not refined[trimap == 0].any()
