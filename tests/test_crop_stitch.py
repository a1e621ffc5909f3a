"""Crops out of images and back: exact outside the blend, and errors that say what does not match."""

from __future__ import annotations

import pytest
import torch
from maskwright.core.crop.crop_frames import BATCHING, TOGETHER, CropSettings
from maskwright.core.crop.crop_regions import choose_regions, find_context
from maskwright.core.crop.crop_stitch import Crops, Stitch, crop_regions
from maskwright.core.crop.stitch import stitch_crops
from maskwright.core.errors import InputError
from maskwright.core.geometry import Box
from maskwright.core.instances.instances import Detection
from maskwright.core.tensors import resize_image

HEIGHT, WIDTH = 60, 80
KEEP = {"size": "keep", "context_factor": 1.2, "context_pixels": 4, "blend": 3}


def random_image(count: int = 1, channels: int = 3) -> torch.Tensor:
    """Values beyond 0..1 and off the 8-bit grid."""
    return torch.randn(count, HEIGHT, WIDTH, channels, generator=torch.Generator().manual_seed(count + channels))


def draw_mask(*boxes: tuple[int, int, int, int], value: float = 1.0) -> torch.Tensor:
    mask = torch.zeros(1, HEIGHT, WIDTH)
    for x1, y1, x2, y2 in boxes:
        mask[:, y1:y2, x1:x2] = value
    return mask


# At every corner and border, of one pixel, soft, and large.
SPOTS = [(0, 0, 3, 3), (WIDTH - 2, 0, WIDTH, 5), (0, HEIGHT - 6, 4, HEIGHT), (WIDTH - 5, HEIGHT - 5, WIDTH, HEIGHT)]
SPOTS += [(30, 0, 40, 4), (30, HEIGHT - 3, 40, HEIGHT), (0, 25, 5, 35), (WIDTH - 4, 25, WIDTH, 35), (20, 12, 21, 13)]
SPOTS += [(25, 20, 55, 45)]
MASK = draw_mask(*SPOTS)
SQUARE = draw_mask((30, 20, 46, 36))


def crop(image: torch.Tensor, mask: torch.Tensor | None, detections=((),), **settings: object) -> Crops:
    crop_settings = CropSettings(**{**KEEP, **settings})
    return crop_regions(image, choose_regions(mask, detections, image, crop_settings), crop_settings)


def stitch_one(crops: Crops, images: list[torch.Tensor] | None = None, *args, **options) -> tuple:
    (result,) = stitch_crops([crops.stitch], crops.images if images is None else images, *args, **options)
    return result


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("mask", [MASK, 0.4 * MASK, torch.ones(1, HEIGHT, WIDTH)], ids=["hard", "soft", "everything"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batching": TOGETHER},
        {"regions": "all as one"},
        {"multiple_of": 37},
        {"multiple_of": 128},
        {"blend": 0},
        {"blend": 60},
        {"grow": 7.5},
    ],
)
def test_stitch_of_unchanged_crops_is_the_image(channels: int, mask: torch.Tensor, settings: dict) -> None:
    image = random_image(channels=channels)
    before = image.clone()
    crops = crop(image, mask, **settings)
    result, weights = stitch_one(crops)
    assert torch.equal(result, before) and torch.equal(image, before) and result is not image
    assert weights.shape == (1, HEIGHT, WIDTH) and 0 < weights.max() <= 1


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    "settings",
    [
        {"size": "exact", "width": 96, "height": 32},
        {"size": "exact", "width": 93, "height": 140, "multiple_of": 7},
        {"size": "same area", "width": 40, "height": 50},
        {"size": "longer side", "width": 24, "batching": TOGETHER},
    ],
)
def test_stitch_of_resized_crops_changes_nothing_outside(channels: int, settings: dict) -> None:
    image = random_image(channels=channels)
    crops = crop(image, MASK, **settings)
    result, weights = stitch_one(crops, [1 - batch for batch in crops.images])
    assert torch.equal(result[weights == 0], image[weights == 0])
    assert not torch.equal(result[weights == 1], image[weights == 1])
    assert all(batch.min() >= 0 and batch.max() <= 1 for batch in crops.images)


def test_stitch_of_resized_smooth_image_is_close() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij")
    image = torch.stack([x, y, x * y], dim=-1).unsqueeze(0)
    crops = crop(image, MASK, size="same area", width=160, height=120)
    result, _ = stitch_one(crops)
    torch.testing.assert_close(result, image, atol=2e-3, rtol=0)


def test_weights_are_1_inside_and_0_beyond_the_seam() -> None:
    crops = crop(random_image(), SQUARE, blend=4)
    result, weights = stitch_one(crops, [torch.full_like(crops.images[0], 0.25)])
    assert (weights[:, 24:32, 34:42] == 1).all() and (result[:, 24:32, 34:42] == 0.25).all()
    outside = torch.ones_like(weights)
    outside[:, 16:40, 26:50] = 0
    assert (weights * outside).sum() == 0
    assert 0 < weights[0, 28, 26] < weights[0, 28, 29] < 0.5 < weights[0, 28, 30] < 1


@pytest.mark.parametrize("corner", [(0, 0), (WIDTH - 10, HEIGHT - 10), (35, 25)])
def test_seam_does_not_depend_on_the_position(corner: tuple[int, int]) -> None:
    """The seam of a region at a corner is as wide as elsewhere."""
    x, y = corner
    crops = crop(random_image(), draw_mask((x, y, x + 10, y + 10)), blend=6, context_pixels=0)
    _, weights = stitch_one(crops)
    row, column = weights[0, y + 5], weights[0, :, x + 5]
    assert (row > 0).sum() == 10 + 6 * ((x > 0) + (x + 10 < WIDTH))
    assert (column > 0).sum() == 10 + 6 * ((y > 0) + (y + 10 < HEIGHT))


@pytest.mark.parametrize("batching", BATCHING)
@pytest.mark.parametrize("factor", [0.5, 1, 2, 3.25])
def test_crops_may_come_back_in_another_size(batching: str, factor: float) -> None:
    image = random_image().sigmoid()
    crops = crop(image, MASK, batching=batching, multiple_of=8)
    scaled = [
        resize_image(batch, round(batch.shape[1] * factor), round(batch.shape[2] * factor)) for batch in crops.images
    ]
    result, weights = stitch_one(crops, scaled)
    assert result.shape == image.shape
    assert torch.equal(result[weights == 0], image[weights == 0])


def test_batching_changes_no_pixel() -> None:
    image, results = random_image(), []
    for batching in BATCHING:
        crops = crop(image, MASK, batching=batching, context_pixels=12)  # so that crops overlap
        order = {region.number: i for i, region in enumerate(crops.stitch.regions)}
        values = torch.rand(len(order), generator=torch.Generator().manual_seed(0))
        rows = [row for batch in crops.images for row in batch.split(1)]
        for number, i in order.items():
            rows[i] = torch.full_like(rows[i], values[number])
        results.append(stitch_one(crops, rows)[0])
    assert torch.equal(*results)
    assert len(crop(image, MASK, batching=TOGETHER).images) < len(SPOTS)


@pytest.mark.parametrize("batching", BATCHING)
@pytest.mark.parametrize(("order", "expected"), [("as found", 0.8), ("largest first", 0.2)])
def test_later_regions_are_blended_over_earlier_ones(batching: str, order: str, expected: float) -> None:
    image = random_image()
    masks = torch.cat([draw_mask((20, 20, 40, 40)), draw_mask((30, 30, 58, 58))])  # the second one is larger
    crops = crop(image, masks, order=order, batching=batching, blend=0)
    values = {region.number: 0.2 if region.bbox.x1 == 20 else 0.8 for region in crops.stitch.regions}
    rows = [row for batch in crops.images for row in batch.split(1)]
    filled = [torch.full_like(row, values[region.number]) for row, region in zip(rows, crops.stitch.regions)]
    result, _ = stitch_one(crops, filled)
    assert (result[:, 31:39, 31:39] == expected).all()
    assert (result[:, 21:29, 21:29] == 0.2).all() and (result[:, 45:55, 45:55] == 0.8).all()


def test_many_regions_equal_few() -> None:
    """Regions are processed several at a time; the number of threads changes no pixel."""
    image = random_image()
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[:, 1::4, 1::4] = 1  # 300 regions whose crops overlap
    results = []
    threads = torch.get_num_threads()
    for count in (1, 4):
        torch.set_num_threads(count)
        try:
            crops = crop(image, mask, context_pixels=3, blend=1)
            results.append(stitch_one(crops, [1 - batch for batch in crops.images]))
        finally:
            torch.set_num_threads(threads)
    assert len(crops.stitch.regions) == 300
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_batch_equals_single_images() -> None:
    images, masks = random_image(3), torch.cat([MASK, torch.zeros_like(MASK), SQUARE])
    crops = crop(images, masks)
    whole, weights = stitch_one(crops, [1 - each for each in crops.images])
    for i in range(3):
        one = crop(images[i : i + 1], masks[i : i + 1])
        result, one_weights = stitch_one(one, [1 - each for each in one.images])
        assert torch.equal(result, whole[i : i + 1]) and torch.equal(one_weights, weights[i : i + 1])


@pytest.mark.parametrize("mask", [torch.zeros(0, HEIGHT, WIDTH), torch.zeros(1, HEIGHT, WIDTH)])
@pytest.mark.parametrize("channels", [3, 4])
def test_nothing_selected_gives_one_black_crop_and_the_same_image(mask: torch.Tensor, channels: int) -> None:
    image = random_image(2, channels)
    crops = crop(image, mask)
    assert [batch.shape for batch in crops.images] == [(1, 64, 64, channels)] and not crops.images[0].any()
    assert [batch.shape for batch in crops.masks] == [(1, 64, 64)] and not crops.masks[0].any()
    result, weights = stitch_one(crops, [None])
    assert result is image and not weights.any() and weights.shape == image.shape[:3]


def test_several_stitches_share_one_list_of_crops() -> None:
    """A list of images gives a list of stitches; those without a region have a placeholder in the list of crops."""
    images = [random_image(), random_image().flip(1), random_image().flip(2)]
    all_crops = [crop(images[0], MASK), crop(images[1], torch.zeros_like(MASK)), crop(images[2], SQUARE)]
    batches = [1 - batch for crops in all_crops for batch in crops.images]
    results = stitch_crops([crops.stitch for crops in all_crops], batches)
    for image, crops, (result, weights) in zip(images, all_crops, results):
        alone, alone_weights = stitch_one(crops, [1 - batch for batch in crops.images])
        assert torch.equal(result, alone) and torch.equal(weights, alone_weights)
        assert torch.equal(result[weights == 0], image[weights == 0])


# -- alpha


def test_rgb_crops_leave_alpha_unchanged() -> None:
    image = random_image(channels=4)
    crops = crop(image, SQUARE)
    result, _ = stitch_one(crops, [1 - batch[..., :3] for batch in crops.images])
    assert torch.equal(result[..., 3], image[..., 3]) and not torch.equal(result, image)


def test_transparent_parts_of_crops_leave_an_opaque_image_unchanged() -> None:
    image = random_image()
    crops = crop(image, SQUARE)
    cutout = torch.cat([crops.images[0] * 0, torch.zeros_like(crops.masks[0])[..., None]], dim=-1)
    cutout[:, :, cutout.shape[2] // 2 :, 3] = 1
    result, weights = stitch_one(crops, [cutout])
    assert torch.equal(result[..., :38, :], image[..., :38, :]) and not weights[..., :38].any()
    assert (result[:, 25:30, 40:43] == 0).all() and (weights[:, 25:30, 40:43] == 1).all()


# -- options of the stitch


def test_blend_width_replaces_that_of_the_crop() -> None:
    crops = crop(random_image(), SQUARE, blend=2, context_pixels=2)
    _, hard = stitch_one(crops, blend_width=0)
    assert torch.equal(hard, SQUARE)
    _, wide = stitch_one(crops, blend_width=40)
    window = crops.stitch.regions[0].frame.window
    assert wide[0, window.y1, window.x1 : window.x2].max() < 0.1, "reaches 0 at the edges of the crop"


@pytest.mark.parametrize("scale", [1, 2])
def test_crop_masks_replace_the_mask(scale: int) -> None:
    image = random_image()
    crops = crop(image, SQUARE, multiple_of=1)
    height, width = crops.masks[0].shape[1:]
    other = torch.zeros(1, height * scale, width * scale)
    other[:, :, : width * scale // 2] = 1
    result, weights = stitch_one(crops, [1 - crops.images[0]], [other], blend_width=0)
    window = crops.stitch.regions[0].frame.window
    middle = (window.x1 + window.x2) // 2
    assert (weights[:, window.y1 : window.y2, window.x1 : middle - 1] == 1).all()
    assert not weights[:, :, middle + 1 :].any()
    assert torch.equal(result[weights == 0], image[weights == 0])
    own, same = (stitch_one(crops, [1 - crops.images[0]], masks) for masks in (None, crops.masks))
    assert torch.allclose(own[1], same[1], atol=1e-6)


def test_crop_masks_may_be_a_batch_of_0() -> None:
    crops = crop(random_image(), MASK)
    masks = [crops.masks[0], torch.zeros(0, 5, 7), *crops.masks[2:]]
    black = [crops.masks[0], torch.zeros_like(crops.masks[1]), *crops.masks[2:]]
    changed = [1 - each for each in crops.images]
    for result, expected in zip(stitch_one(crops, changed, masks), stitch_one(crops, changed, black)):
        assert torch.equal(result, expected)


def test_color_match_moves_colors_to_the_surroundings() -> None:
    image = 0.5 + 0.1 * random_image().clamp(-1, 1)
    crops = crop(image, SQUARE)
    plain, weights = stitch_one(crops, [crops.images[0] * 0.5])
    matched, _ = stitch_one(crops, [crops.images[0] * 0.5], color_match=1.0)
    inside = weights == 1
    assert (plain[inside].mean() - image[inside].mean()).abs() > 0.2
    assert (matched[inside].mean() - image[inside].mean()).abs() < 0.02
    assert torch.equal(matched[weights == 0], image[weights == 0])


# -- regions


@pytest.mark.parametrize(
    ("masks", "images", "regions", "counts"),
    [
        (torch.cat([MASK] * 3), 1, "each mask", [3]),
        (torch.cat([MASK, SQUARE]), 1, "connected parts", [len(SPOTS) + 1]),
        (torch.cat([MASK, SQUARE]), 1, "all as one", [1]),
        (MASK, 2, "connected parts", [len(SPOTS)] * 2),
        (MASK, 2, "all as one", [1, 1]),
        (torch.cat([MASK, SQUARE]), 2, "connected parts", [len(SPOTS), 1]),
        (torch.cat([MASK * 0, SQUARE]), 2, "each mask", [0, 1]),
        (torch.ones(1, 4 * HEIGHT, 4 * WIDTH), 1, "connected parts", [1]),  # larger than the image
        (torch.ones(1, 7, 9), 1, "connected parts", [1]),
    ],
)
def test_regions_by_image(masks: torch.Tensor, images: int, regions: str, counts: list[int]) -> None:
    crops = crop(random_image(images), masks, regions=regions)
    indices = [region.image for region in crops.stitch.regions]
    assert [indices.count(i) for i in range(images)] == counts and indices == sorted(indices)


@pytest.mark.parametrize("count", [1, 2])
def test_context_mask_extends_every_crop(count: int) -> None:
    image, crop_settings = random_image(count), CropSettings(**KEEP)
    mask = draw_mask((10, 10, 14, 14), (60, 40, 66, 46))
    context = torch.cat([draw_mask((30, 20, 40, 24)), torch.zeros(1, HEIGHT, WIDTH)])[:count]
    crops = crop_regions(
        image, choose_regions(mask, ((),), image, crop_settings), crop_settings, find_context(context, image)
    )
    for region in crops.stitch.regions:
        expected = region.bbox if region.image else region.bbox.union(Box(30, 20, 40, 24))
        assert region.frame.window.intersection(expected) == expected
        assert (region.frame.window.intersection(Box(30, 20, 40, 24)) is not None) is (region.image == 0)
    result, weights = stitch_one(crops, [1 - batch for batch in crops.images])
    assert torch.equal(result[weights == 0], image[weights == 0])
    assert not weights[:, 24:36, 30:40].any(), "the context itself does not change"


def test_context_masks_that_match_no_image_are_an_error() -> None:
    with pytest.raises(InputError, match="image is a batch of 3, and context_mask is a batch of 2"):
        find_context(torch.cat([MASK, MASK]), random_image(3))
    assert find_context(None, random_image(2)) == find_context(MASK[:0], random_image(2)) == [None, None]


def test_fill_holes_also_selects_what_is_inside() -> None:
    ring = SQUARE.clone()
    ring[:, 24:32, 34:42] = 0
    ring[:, 27:29, 37:39] = 1
    assert len(crop(random_image(), ring).stitch.regions) == 2
    (region,) = crop(random_image(), ring, fill_holes=True).stitch.regions
    assert region.mask.min() == 1


def test_grow_expands_each_region_by_a_distance() -> None:
    (region,) = crop(random_image(), draw_mask((40, 30, 41, 31)), grow=5).stitch.regions
    assert region.bbox == Box(35, 25, 46, 36)
    y, x = torch.meshgrid(torch.arange(-5, 6), torch.arange(-5, 6), indexing="ij")
    assert torch.equal(region.mask[0], (x**2 + y**2 <= 25).float())


def test_boxes_are_regions_without_a_mask() -> None:
    boxes = [Detection(Box(5, 6, 15, 20), 0.5), Detection(None), Detection(Box(40, 10, 60, 30), 0.9)]
    crops = crop(random_image(2), None, [boxes], order="highest score")
    regions = [(region.image, region.bbox) for region in crops.stitch.regions]
    assert regions == [(i, box) for i in (0, 1) for box in (Box(40, 10, 60, 30), Box(5, 6, 15, 20))]
    crops = crop(random_image(2), None, [[], boxes])
    assert [region.image for region in crops.stitch.regions] == [1, 1]


@pytest.mark.parametrize(
    ("masks", "boxes", "expected"),
    [
        (1, [1], [0, 1, 2]),
        (1, [1, 0, 0], [0]),
        (1, [0, 1, 0], [1]),
        (1, [0, 0, 0], [0, 1, 2]),
        (2, [2], [0, 0, 1, 1, 2, 2]),
        (2, [0, 2, 0], [1, 1]),
        (2, [0, 1, 1], [1, 2]),
        (3, [3], [0, 1, 2]),
        (3, [1, 0, 2], [0, 2, 2]),
        (3, [0, 0, 0], [0, 1, 2]),
    ],
)
def test_boxes_tell_which_image_a_mask_belongs_to(masks: int, boxes: list[int], expected: list[int]) -> None:
    lists = [[Detection(Box(30, 20, 46, 36))] * number for number in boxes]
    crops = crop(random_image(3), SQUARE.repeat(masks, 1, 1), lists)
    assert [region.image for region in crops.stitch.regions] == expected


@pytest.mark.parametrize("masks", [0, 1, 2])
@pytest.mark.parametrize(("images", "lists"), [(1, 2), (2, 3)])
def test_crop_rejects_boxes_of_other_images(masks: int, images: int, lists: int) -> None:
    boxes = [[Detection(Box(5, 6, 15, 20))]] * lists
    with pytest.raises(InputError, match=f"image is a batch of {images}, and bounding_boxes has {lists} lists"):
        crop(random_image(images), MASK.repeat(masks, 1, 1), boxes)


def test_crop_masks_have_the_region_only_and_nothing_in_the_extension() -> None:
    crops = crop(random_image(), torch.ones(1, HEIGHT, WIDTH), multiple_of=64)
    (frame,) = (region.frame for region in crops.stitch.regions)
    mask = crops.masks[0]
    assert mask.shape == (1, 64, 128) and mask.sum() == HEIGHT * WIDTH
    assert frame.locate(frame.window).crop(mask).min() == 1
    assert torch.equal(crops.images[0][:, 0, 24], random_image()[:, 0, 0]), "the edge is repeated"


# -- what does not match


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda crops: crops[:1], "the number of crops is 1, but stitch needs 2"),
        (lambda crops: [*crops, crops[0]], "the number of crops is 3, but stitch needs 2"),
        (lambda crops: crops[::-1], "crop 1 of crops is 48 x 24, but was 16 x 32"),
        (lambda crops: [crops[0].transpose(1, 2), crops[1]], "crop 1 of crops is 32 x 16, but was 16 x 32"),
        (lambda crops: [crops[0], crops[1] * float("nan")], r"crops\[1\] contains NaN"),
        (lambda crops: [crops[0], "image"], r"crops\[1\] is of type str"),
        (lambda crops: [crops[0], None], r"crops\[1\] is missing"),
        (lambda crops: [crops[0], crops[1][..., :2]], r"crops\[1\] has shape"),
    ],
)
def test_stitch_names_what_does_not_match(change, message: str) -> None:
    crops = crop(random_image(), draw_mask((5, 5, 12, 25), (30, 20, 65, 35)))
    with pytest.raises(InputError, match=message):
        stitch_one(crops, change(crops.images))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([torch.ones(2, 24, 24)], "the number of crop_masks is 2, but stitch needs 1"),
        ([torch.ones(1, 10, 24)], "mask 1 of crop_masks is 24 x 10, but was 24 x 24"),
        ([torch.full((1, 24, 24), float("inf"))], "NaN or infinity"),
    ],
)
def test_stitch_names_crop_masks_that_do_not_match(masks: list[torch.Tensor], message: str) -> None:
    crops = crop(random_image(), SQUARE)
    with pytest.raises(InputError, match=message):
        stitch_one(crops, None, masks)


@pytest.mark.parametrize("options", [{"color_match": 2}, {"color_match": float("nan")}, {"blend_width": -2}])
def test_stitch_checks_its_numbers(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options)).removesuffix("_width")):
        stitch_one(crop(random_image(), SQUARE), **options)


def test_masks_that_match_no_image_are_an_error() -> None:
    with pytest.raises(InputError, match="^image is a batch of 3, and mask is a batch of 2"):
        crop(random_image(3), torch.cat([MASK, SQUARE]))


def test_stitch_counts_as_tensors_in_tuples() -> None:
    """ComfyUI's cache looks for tensors in lists and tuples only."""

    def count_bytes(values: object) -> int:
        if isinstance(values, torch.Tensor):
            return values.numel() * values.element_size()
        return sum(map(count_bytes, values)) if isinstance(values, (tuple, list)) else 0

    image = random_image()
    stitch: Stitch = crop(image, SQUARE).stitch
    assert stitch.images is image
    assert count_bytes(stitch) == 4 * (HEIGHT * WIDTH * 3 + 16 * 16)
