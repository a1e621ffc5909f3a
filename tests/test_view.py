"""What the nodes send the editor for their views: small files, and only where an editor asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_clipseg
import torch
from maskwright.core import tensors
from maskwright.models import clipseg as clipseg_models
from maskwright.nodes import _view
from maskwright.nodes.clipseg import CLIPSeg
from maskwright.nodes.clipseg_masking import CLIPSegMasking
from PIL import Image

EDITOR = {"workflow": {"nodes": []}}
MEGABYTE = 1_000_000


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that ComfyUI would give."""
    monkeypatch.setattr(_view.host, "temp_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    pytest.importorskip("transformers")
    folder = tiny_clipseg.write(tmp_path_factory.mktemp("clipseg") / "tiny")
    return clipseg_models.load("tiny", [folder.parent])


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def opened(folder: Path, file: dict) -> Image.Image:
    assert file["type"] == "temp"
    return Image.open(folder / file["subfolder"] / file["filename"])


def test_whoever_calls_by_hand_gets_the_plain_result(pair: tuple, temp: Path) -> None:
    image = random(2, 20, 30, 3)
    for result in (
        CLIPSeg().segment_image(image, "cat", clipseg_model=pair),
        CLIPSegMasking().CLIPSeg_image(image, "cat", pair),
        CLIPSeg().segment_image(image, "cat", clipseg_model=pair, extra_pnginfo={}),
    ):
        assert isinstance(result, tuple)
    assert list(temp.iterdir()) == []


@pytest.mark.parametrize("odd", [[{"workflow": {}}], "workflow", {"workflow": None}, {"workflow": ["nodes"]}])
def test_whatever_a_script_sends_as_a_workflow_costs_no_run(pair: tuple, temp: Path, odd: object) -> None:
    answer = CLIPSeg().segment_image(random(1, 20, 30, 3), "cat", clipseg_model=pair, extra_pnginfo=odd)
    assert isinstance(answer, (tuple, dict))


def test_what_is_sent_names_its_workflow(pair: tuple, temp: Path) -> None:
    for workflow, expected in (({"nodes": [], "id": "abc"}, "abc"), ({"nodes": []}, None)):
        sent = CLIPSeg().segment_image(
            random(1, 20, 30, 3), "cat", clipseg_model=pair, extra_pnginfo={"workflow": workflow}
        )
        assert [entry.get("workflow") for entry in sent["ui"]["maskwright"]] == [expected]


def test_without_comfyui_nothing_is_sent(pair: tuple) -> None:
    assert isinstance(
        CLIPSeg().segment_image(random(1, 20, 30, 3), "cat", clipseg_model=pair, extra_pnginfo=EDITOR), tuple
    )


def test_the_editor_gets_an_entry_a_picture_in_order_and_the_same_result(pair: tuple, temp: Path) -> None:
    image = random(3, 20, 30, 3)
    plain = CLIPSeg().segment_image(image, "cat", 1.0, 0.2, 3, clipseg_model=pair)
    sent = CLIPSeg().segment_image(image, "cat", 1.0, 0.2, 3, clipseg_model=pair, extra_pnginfo=EDITOR)
    for one, other in zip(plain, sent["result"]):
        assert torch.equal(one, other)
    entries = sent["ui"][_view.KEY]
    assert len(entries) == 3
    for entry, picture in zip(entries, image):
        assert (entry["kind"], entry["size"], entry["bits"], entry["scale"]) == ("selection", [30, 20], 16, 1.0)
        assert entry["settings"] == {
            "text": "cat", "negative_text": "", "resolution": 352, "blur": 1.0, "threshold": 0.2, "dilation_factor": 3,
        }  # fmt: skip
        shown = np.asarray(opened(temp, entry["picture"])).astype(float)
        assert np.abs(shown - tensors.to_8bit(picture)).mean() < 12  # JPEG, of noise
        halves = opened(temp, entry["probabilities"])
        assert halves.mode == "L" and halves.height == 2 * halves.width


def test_masking_sends_its_normalization(pair: tuple, temp: Path) -> None:
    sent = CLIPSegMasking().CLIPSeg_image(random(1, 20, 30, 3), "cat", pair, normalization="none", extra_pnginfo=EDITOR)
    (entry,) = sent["ui"][_view.KEY]
    assert entry["kind"] == "probabilities" and entry["settings"]["normalization"] == "none"


@pytest.mark.parametrize(("side", "bits", "shrunk"), [(352, 16, 1), (704, 8, 1), (1408, 8, 2)])
def test_the_worst_of_pictures_stays_under_a_megabyte(side: int, bits: int, shrunk: int, temp: Path) -> None:
    image, noise = random(1, 1500, 1200, 3), random(1, side, side)
    view = _view.View(EDITOR)
    view.listener(image, side / 352)(slice(0, 1), noise)
    (entry,) = view.answer(())["ui"][_view.KEY]
    files = [temp / entry[name]["subfolder"] / entry[name]["filename"] for name in ("picture", "probabilities")]
    assert sum(file.stat().st_size for file in files) < MEGABYTE
    assert entry["bits"] == bits and entry["scale"] == side / 352 / shrunk
    assert max(opened(temp, entry["picture"]).size) == _view.LONGEST_SIDE

    file = np.asarray(opened(temp, entry["probabilities"])).astype(float)
    values = entry["high"] * (file / 255 if bits == 8 else (file[:side] * 256 + file[side:]) / 65535)
    expected = tensors.resize_mask(noise, side // shrunk, side // shrunk, "area")[0].numpy()
    assert np.abs(values - expected).max() <= 0.5 / (255 if bits == 8 else 65535) + 1e-6


@pytest.mark.parametrize("high", [1e-5, 0.004, 0.0])
def test_small_probabilities_keep_their_steps(high: float, temp: Path) -> None:
    """`stretch` makes the best place bright, however small its probability is."""
    values = random(1, 352, 352) * high
    view = _view.View(EDITOR)
    view.listener(random(1, 40, 30, 3), 1.0)(slice(0, 1), values)
    (entry,) = view.answer(())["ui"][_view.KEY]
    file = np.asarray(opened(temp, entry["probabilities"])).astype(float)
    told = entry["high"] * (file[:352] * 256 + file[352:]) / 65535
    assert np.abs(told - values[0].numpy()).max() <= 1e-5 * high


def test_a_comparison_holds_before_after_and_alpha(temp: Path) -> None:
    before, after = random(2, 40, 50, 3), random(2, 40, 50, 4)
    after[:, :20] = 0
    view = _view.View(EDITOR)
    view.comparison(before, after, [[(1, 2, 30, 20)], []])
    first, second = view.answer((after,), kind="comparison")["ui"][_view.KEY]
    assert first["boxes"] == [[1.0, 2.0, 30.0, 20.0]] and second["boxes"] == []
    assert np.array_equal(np.asarray(opened(temp, first["alpha"])), tensors.to_8bit(after[0, ..., 3]))
    colours = np.asarray(opened(temp, first["after"])).astype(float)
    # What does not show has the colours of before, so that the edge is not darkened.
    assert np.abs(colours[:16] - tensors.to_8bit(before[0, :16])).mean() < 12
    assert np.abs(colours[24:] - tensors.to_8bit(after[0, 24:, :, :3])).mean() < 12


def test_several_cutouts_below_each_other_and_a_noisy_alpha(temp: Path) -> None:
    view = _view.View(EDITOR)
    view.comparison(random(1, 600, 900, 3), random(1, 1800, 900, 4))
    (entry,) = view.answer(())["ui"][_view.KEY]
    files = [temp / entry[name]["subfolder"] / entry[name]["filename"] for name in ("picture", "after", "alpha")]
    assert sum(file.stat().st_size for file in files) < MEGABYTE
    assert opened(temp, entry["after"]).size == opened(temp, entry["alpha"]).size == (512, 1024)


def test_one_pixel_and_one_channel(temp: Path) -> None:
    view = _view.View(EDITOR)
    view.listener(random(2, 1, 1, 1), 1.0)(slice(1, 2), random(1, 1, 1))
    (entry,) = view.answer(())["ui"][_view.KEY]
    assert opened(temp, entry["picture"]).size == (1, 1)
    assert opened(temp, entry["probabilities"]).size == (1, 2)


def test_of_a_film_the_first_pictures_are_shown(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_view, "MOST_PICTURES", 3)
    view = _view.View(EDITOR)
    listen = view.listener(random(5, 8, 8, 3), 1.0)
    for entries in (slice(0, 2), slice(2, 4), slice(4, 5)):
        listen(entries, random(entries.stop - entries.start, 8, 8))
    assert len(view.answer(())["ui"][_view.KEY]) == 3
    other = _view.View(EDITOR)
    other.comparison(random(5, 8, 8, 3), random(5, 8, 8, 3))
    assert len(other.answer(())["ui"][_view.KEY]) == 3
    files = [path.name for path in (temp / _view.SUBFOLDER).iterdir()]
    assert {name.split("-")[1] for name in files} == {"0000", "0001", "0002"}


def test_a_full_disk_costs_the_view_and_not_the_run(
    temp: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (temp / _view.SUBFOLDER).write_text("a file where the folder should be")
    view = _view.View(EDITOR)
    view.comparison(random(1, 8, 8, 3), random(1, 8, 8, 3))
    view.working("3", random(8, 8, 3), [], 0)
    assert view.answer((1, 2)) == (1, 2)
    assert "view of this node stays" in caplog.text


def test_work_in_progress_is_told_at_once(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(_view.host, "tell_editor", lambda *event: told.append(event))
    view = _view.View(EDITOR)
    boxes = [(0, 0, 8, 6), (8, 6, 16, 12)]
    view.working("3:5", random(12, 16, 3), boxes, 0)
    view.working("3:5", random(12, 16, 3), boxes, 1)
    _view.View(None).working("3", random(12, 16, 3), boxes, 0)
    (event, first), (_, second) = told
    assert event == "maskwright.regions" and first["node"] == "3:5" and first["size"] == [16, 12]
    assert first["boxes"] == second["boxes"] == [list(box) for box in boxes]
    assert opened(temp, first["picture"]).size == (16, 12)
    assert second["current"] == 1 and "picture" not in second
