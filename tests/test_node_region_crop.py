"""The nodes RegionCrop and RegionStitch: what ComfyUI sees of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from maskwright.core.errors import InputError
from maskwright.nodes import _view
from maskwright.nodes.region_crop import RegionCrop
from maskwright.nodes.region_stitch import RegionStitch
from pack import ROOT

SMALL = {"size": "keep", "context_factor": 1.0, "context_pixels": 2, "blend": 2, "multiple_of": 1}
DEFAULTS = {
    name: spec[1].get("default", spec[0][0] if isinstance(spec[0], list) else None)
    for name, spec in RegionCrop.INPUT_TYPES()["required"].items()
    if name != "image"
}
EDITOR_INFO = {"workflow": {"nodes": []}}


def make_image(count: int = 1) -> torch.Tensor:
    return torch.rand(count, 40, 50, 3, generator=torch.Generator().manual_seed(count))


def make_mask(*squares: tuple[int, int]) -> torch.Tensor:
    mask = torch.zeros(1, 40, 50)
    for x, y in squares:
        mask[:, y : y + 8, x : x + 8] = 1
    return mask


MASK = make_mask((3, 3), (30, 20))


def crop(image: torch.Tensor, mask: torch.Tensor | None = None, **inputs: object) -> tuple | dict:
    return RegionCrop().crop(**{**DEFAULTS, **SMALL, "image": image, "mask": mask, **inputs})


def stitch(stitch: object, crops: list, **inputs: object) -> tuple | dict:
    """With INPUT_IS_LIST, every value is in a list."""
    values = {"stitch": [stitch], "crops": crops, "color_match": [0.0], "blend": [-1], **inputs}
    return RegionStitch().stitch(**values)


def test_nodes_round_trip() -> None:
    image = make_image()
    crops, masks, data, boxes, count = crop(image, MASK)
    assert count == len(crops) == len(masks) == 2
    assert [each.shape for each in crops] == [(1, 14, 14, 3)] * 2
    assert boxes == [[{"x": 0, "y": 0, "width": 14, "height": 14}, {"x": 27, "y": 17, "width": 14, "height": 14}]]
    (result,), (weights,) = stitch(data, crops)
    assert torch.equal(result, image) and weights.max() == 1


def test_default_widgets_scale_to_the_area_of_a_model() -> None:
    crops, *_ = RegionCrop().crop(make_image(), **DEFAULTS, mask=make_mask((10, 10)))
    height, width = crops[0].shape[1:3]
    assert height % 8 == width % 8 == 0 and abs(height * width / 1024**2 - 1) < 0.03


@pytest.mark.parametrize(
    ("boxes", "images", "expected"),
    [
        ({"x": 10, "y": 5, "width": 20, "height": 10}, 1, [(0, 8, 3)]),
        ([[{"x": 10, "y": 5, "width": 20, "height": 10}]], 2, [(0, 8, 3), (1, 8, 3)]),
        ([[], [{"x": 10, "y": 5, "width": 20, "height": 10, "label": "cat"}]], 2, [(1, 8, 3)]),
        ([], 1, []),
    ],
)
def test_boxes_without_mask_are_regions(boxes: object, images: int, expected: list) -> None:
    _, _, data, windows, count = crop(make_image(images), bounding_boxes=boxes, blend=0, context_pixels=2)
    corners = [(i, box["x"], box["y"]) for i, frame in enumerate(windows) for box in frame]
    assert corners == expected and count == len(expected) and len(windows) == images
    assert all(box.get("label", "cat") == "cat" for frame in windows for box in frame)
    assert len(data.regions) == count


def test_scores_of_boxes_give_the_order() -> None:
    masks = torch.cat([make_mask((3, 3)), make_mask((30, 20))])
    boxes = [
        {"x": 3, "y": 3, "width": 8, "height": 8, "score": 0.2},
        {"x": 30, "y": 20, "width": 8, "height": 8, "score": 0.9},
    ]
    _, _, _, windows, _ = crop(make_image(), masks, bounding_boxes=boxes, order="highest score")
    assert [box["score"] for box in windows[0]] == [0.9, 0.2] and windows[0][0]["x"] == 27


def test_boxes_follow_the_order_of_the_crops() -> None:
    """Crops of one size come together, and so do their boxes."""
    mask = make_mask((3, 3), (30, 20))
    mask[:, 12:14, 20:40] = 1  # another size, between both
    crops, _, data, windows, _ = crop(make_image(), mask, batching="together where sizes are equal")
    assert [len(batch) for batch in crops] == [2, 1]
    sizes = [(box["height"], box["width"]) for box in windows[0]]
    assert sizes == [tuple(row.shape[:2]) for batch in crops for row in batch]
    assert [region.number for region in data.regions] == [0, 2, 1]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "neither mask nor bounding_boxes is connected"),
        ({"mask": MASK, "regions": "some"}, "regions is 'some'"),
        ({"mask": MASK, "multiple_of": 0}, "multiple_of is 0"),
        ({"mask": MASK[:, :, :, None].expand(-1, -1, -1, 3)}, "mask has shape"),
        ({"mask": MASK * float("nan")}, "mask contains NaN"),
        ({"bounding_boxes": "box"}, "bounding_boxes is of type str"),
        ({"bounding_boxes": [[{"x": 1, "y": 2, "width": 3}]]}, "height of box 0 of bounding_boxes is None"),
    ],
)
def test_crop_names_wrong_input(inputs: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        crop(make_image(), **inputs)


def test_crop_warns_of_a_stretched_mask(caplog: pytest.LogCaptureFixture) -> None:
    crop(make_image(), torch.ones(1, 30, 30))
    assert "stretched to fit the image" in caplog.text
    caplog.clear()
    crop(make_image(), torch.ones(1, 80, 100))
    crop(make_image(), torch.zeros(1, 64, 64))  # ComfyUI's mask of an image without alpha
    assert not caplog.text


# -- lazy inputs: ComfyUI gives (None,) for a linked input that was not evaluated, and nothing for one without a link


@pytest.mark.parametrize(
    ("masks", "linked", "needed"),
    [
        ([MASK], {"crops": (None,)}, ["crops"]),
        ([MASK], {"crops": (None,), "crop_masks": (None,)}, ["crops", "crop_masks"]),
        ([MASK[:0]], {"crops": (None,)}, []),
        ([MASK * 0], {"crops": (None,), "crop_masks": (None,)}, []),
        ([MASK * 0, MASK], {"crops": (None,)}, ["crops"]),
    ],
)
def test_check_lazy_status(masks: list[torch.Tensor], linked: dict, needed: list[str]) -> None:
    stitches = [crop(make_image(), mask)[2] for mask in masks]
    requested = RegionStitch().check_lazy_status(
        stitch=stitches, color_match=[0.0], blend=[-1], extra_pnginfo=[None], **linked
    )
    assert requested == needed


def test_lazy_inputs_are_marked() -> None:
    inputs = RegionStitch.INPUT_TYPES()
    assert inputs["required"]["crops"][1]["lazy"] and inputs["optional"]["crop_masks"][1]["lazy"]
    assert not inputs["required"]["stitch"][1].get("lazy")


def test_stitch_of_something_else_is_an_error() -> None:
    assert RegionStitch().check_lazy_status(stitch=[{"x": 1}], crops=(None,)) == ["crops"]
    with pytest.raises(InputError, match="stitch is of type dict, not the stitch of Region Crop"):
        stitch({"x": 1}, [torch.zeros(1, 8, 8, 3)])


# -- ComfyUI's StartLoop and EndLoop (0.38): StartLoop gives the loop's nodes one entry of the list of crops at a time;
# EndLoop joins the lists that they return, in order


@pytest.mark.parametrize("batching", ["one by one", "together where sizes are equal"])
def test_loop_over_crops(batching: str) -> None:
    image = make_image()
    crops, _, data, _, _ = crop(image, make_mask((3, 3), (30, 20), (30, 3)), batching=batching)
    outputs = []
    for list_item in crops:  # LoopIteration's list_item
        outputs.append([1 - list_item])  # each of the loop's outputs is a list
    (result,), (weights,) = stitch(data, [value for output in outputs for value in output])
    assert torch.equal(result[weights == 0], image[weights == 0])
    torch.testing.assert_close(result[weights == 1], 1 - image[weights == 1])


def test_loop_that_splits_batches() -> None:
    """The loop's nodes may return several images for one entry, as a list or as a batch."""
    image = make_image()
    crops, _, data, _, _ = crop(image, make_mask((3, 3), (30, 20), (30, 3)), batching="together where sizes are equal")
    whole = stitch(data, [1 - batch for batch in crops])[0][0]
    single = [1 - row for batch in crops for row in batch.split(1)]
    assert torch.equal(stitch(data, single)[0][0], whole)


# -- help


def test_comparisons_with_other_nodes_are_equal() -> None:
    """The help page, whose panel is too narrow for a table, and docs/ use the same words."""
    table = (ROOT / "docs" / "crop_and_stitch.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("|")][2:]
    page = (ROOT / "web" / "docs" / "RegionCrop.md").read_text(encoding="utf-8")
    others = ("this pair", "CropAndStitch", "KJNodes by mask", "KJNodes advanced")
    for what, *cells in rows:
        assert f"- **{what}**\n" + "".join(f"  - {name}: {cell}\n" for name, cell in zip(others, cells)) in f"{page}\n"
    assert len(rows) > 20


# -- previews


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's temp folder."""
    monkeypatch.setattr(_view.host, "temp_folder", lambda: tmp_path)
    return tmp_path


def test_previews_of_crop_have_windows_and_regions(temp: Path) -> None:
    sent = crop(make_image(2), torch.cat([MASK, MASK * 0]), extra_pnginfo=EDITOR_INFO)
    first, second = sent["ui"]["maskwright"]
    assert first["kind"] == "crops" and first["size"] == [50, 40]
    assert first["boxes"] == [[0, 0, 14, 14], [27, 17, 41, 31]]
    assert first["regions"] == [[3, 3, 11, 11], [30, 20, 38, 28]]
    assert second["boxes"] == second["regions"] == []
    assert (temp / "maskwright" / first["image"]["filename"]).exists()
    assert len(sent["result"][0]) == 2 and torch.equal(sent["result"][0][0], crop(make_image(2), MASK)[0][0])


def test_previews_of_stitch_compare_all_images(temp: Path) -> None:
    stitches, crops = [], []
    for image, mask in ((make_image(), MASK), (make_image(2), MASK * 0)):
        batches, _, data, _, _ = crop(image, mask)
        stitches.append(data)
        crops += [1 - batch for batch in batches]
    sent = RegionStitch().stitch(stitches, crops, [0.0], [-1], extra_pnginfo=[EDITOR_INFO])
    entries = sent["ui"]["maskwright"]
    assert [entry["kind"] for entry in entries] == ["comparison"] * 3
    assert [len(entry["boxes"]) for entry in entries] == [2, 0, 0]
    images, masks = sent["result"]
    assert [len(batch) for batch in images] == [1, 2] and [len(batch) for batch in masks] == [1, 2]
    assert torch.equal(images[1], make_image(2))


def test_no_editor_no_previews(temp: Path) -> None:
    assert isinstance(crop(make_image(), MASK), tuple)
    assert list(temp.iterdir()) == []
