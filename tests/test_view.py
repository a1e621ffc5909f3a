"""Previews that the nodes send to the editor: small files, and only if an editor queued the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_clipseg
import torch
from maskwright.core import tensors
from maskwright.core.errors import ModelError
from maskwright.models import clipseg_loader
from maskwright.models.clipseg_store import ClipsegStore
from maskwright.nodes import _view, _view_files
from maskwright.nodes.clipseg import CLIPSeg
from maskwright.nodes.clipseg_masking import CLIPSegMasking
from maskwright.nodes.mask_instances import MaskInstances
from PIL import Image

EDITOR_INFO = {"workflow": {"nodes": []}}
MEGABYTE = 1_000_000


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's temp folder."""
    monkeypatch.setattr(_view.host, "temp_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    pytest.importorskip("transformers")
    folder = tiny_clipseg.write(tmp_path_factory.mktemp("clipseg") / "tiny")
    return clipseg_loader.load("tiny", ClipsegStore([folder.parent]))


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def open_file(folder: Path, file: dict) -> Image.Image:
    assert file["type"] == "temp"
    return Image.open(folder / file["subfolder"] / file["filename"])


def test_node_without_editor_returns_plain_result(pair: tuple, temp: Path) -> None:
    image = random(2, 20, 30, 3)
    for result in (
        CLIPSeg().segment_image(image, "cat", clipseg_model=pair),
        CLIPSegMasking().CLIPSeg_image(image, "cat", pair),
        CLIPSeg().segment_image(image, "cat", clipseg_model=pair, extra_pnginfo={}),
    ):
        assert isinstance(result, tuple)
    assert list(temp.iterdir()) == []


@pytest.mark.parametrize("workflow", [[{"workflow": {}}], "workflow", {"workflow": None}, {"workflow": ["nodes"]}])
def test_node_accepts_malformed_workflow(pair: tuple, temp: Path, workflow: object) -> None:
    result = CLIPSeg().segment_image(random(1, 20, 30, 3), "cat", clipseg_model=pair, extra_pnginfo=workflow)
    assert isinstance(result, (tuple, dict))


LONG_ID = "x" * (_view.LONGEST_ID + 1)


@pytest.mark.parametrize(
    ("workflow_id", "expected"), [("abc", "abc"), (None, None), (7, None), (LONG_ID[1:], LONG_ID[1:]), (LONG_ID, None)]
)
def test_entries_name_their_workflow(pair: tuple, temp: Path, workflow_id: object, expected: str | None) -> None:
    """Every entry repeats the id, so long ids are dropped."""
    workflow = {"nodes": []} if workflow_id is None else {"nodes": [], "id": workflow_id}
    sent = CLIPSeg().segment_image(
        random(1, 20, 30, 3), "cat", clipseg_model=pair, extra_pnginfo={"workflow": workflow}
    )
    assert [entry.get("workflow") for entry in sent["ui"]["maskwright"]] == [expected]


def test_entries_omit_long_texts(pair: tuple, temp: Path) -> None:
    for length, is_sent in ((_view.LONGEST_TEXT, True), (_view.LONGEST_TEXT + 1, False)):
        sent = CLIPSeg().segment_image(
            random(1, 20, 30, 3), "a" * length, clipseg_model=pair, extra_pnginfo=EDITOR_INFO
        )
        (entry,) = sent["ui"]["maskwright"]
        assert ("text" in entry["settings"]) is is_sent and entry["settings"]["threshold"] == 0.3


def test_node_without_comfyui_returns_plain_result(pair: tuple) -> None:
    assert isinstance(
        CLIPSeg().segment_image(random(1, 20, 30, 3), "cat", clipseg_model=pair, extra_pnginfo=EDITOR_INFO), tuple
    )


def test_clipseg_sends_one_entry_per_image(pair: tuple, temp: Path) -> None:
    image = random(3, 20, 30, 3)
    plain = CLIPSeg().segment_image(image, "cat", 1.0, 0.2, 3, clipseg_model=pair)
    sent = CLIPSeg().segment_image(image, "cat", 1.0, 0.2, 3, clipseg_model=pair, extra_pnginfo=EDITOR_INFO)
    for one, other in zip(plain, sent["result"]):
        assert torch.equal(one, other)
    entries = sent["ui"][_view.KEY]
    assert len(entries) == 3
    for entry, each_image in zip(entries, image):
        assert (entry["kind"], entry["size"], entry["bits"], entry["scale"]) == ("selection", [30, 20], 16, 1.0)
        assert entry["settings"] == {
            "text": "cat", "negative_text": "", "resolution": 352, "blur": 1.0, "threshold": 0.2, "dilation_factor": 3,
        }  # fmt: skip
        preview = np.asarray(open_file(temp, entry["image"])).astype(float)
        assert np.abs(preview - tensors.to_8bit(each_image)).mean() < 12  # JPEG, of noise
        halves = open_file(temp, entry["probabilities"])
        assert halves.mode == "L" and halves.height == 2 * halves.width


def test_clipseg_masking_sends_normalization(pair: tuple, temp: Path) -> None:
    sent = CLIPSegMasking().CLIPSeg_image(
        random(1, 20, 30, 3), "cat", pair, normalization="none", extra_pnginfo=EDITOR_INFO
    )
    (entry,) = sent["ui"][_view.KEY]
    assert entry["kind"] == "probabilities" and entry["settings"]["normalization"] == "none"


@pytest.mark.parametrize(("side", "bits", "divisor"), [(352, 16, 1), (704, 8, 1), (1408, 8, 2)])
def test_probabilities_of_noise_stay_below_a_megabyte(side: int, bits: int, divisor: int, temp: Path) -> None:
    image, noise = random(1, 1500, 1200, 3), random(1, side, side)
    view = _view.View(EDITOR_INFO)
    view.probabilities(image, noise, side / 352)
    (entry,) = view.with_previews(())["ui"][_view.KEY]
    files = [temp / entry[name]["subfolder"] / entry[name]["filename"] for name in ("image", "probabilities")]
    assert sum(file.stat().st_size for file in files) < MEGABYTE
    assert entry["bits"] == bits and entry["scale"] == side / 352 / divisor
    assert max(open_file(temp, entry["image"]).size) == _view.LONGEST_SIDE

    file = np.asarray(open_file(temp, entry["probabilities"])).astype(float)
    values = entry["high"] * (file / 255 if bits == 8 else (file[:side] * 256 + file[side:]) / 65535)
    expected = tensors.resize_mask(noise, side // divisor, side // divisor, "area")[0].numpy()
    assert np.abs(values - expected).max() <= 0.5 / (255 if bits == 8 else 65535) + 1e-6


@pytest.mark.parametrize("high", [1e-5, 0.004, 0.0])
def test_probabilities_keep_precision_of_small_values(high: float, temp: Path) -> None:
    """`stretch` scales even tiny probabilities to full brightness."""
    values = random(1, 352, 352) * high
    view = _view.View(EDITOR_INFO)
    view.probabilities(random(1, 40, 30, 3), values, 1.0)
    (entry,) = view.with_previews(())["ui"][_view.KEY]
    file = np.asarray(open_file(temp, entry["probabilities"])).astype(float)
    decoded = entry["high"] * (file[:352] * 256 + file[352:]) / 65535
    assert np.abs(decoded - values[0].numpy()).max() <= 1e-5 * high


def test_comparison_sends_before_after_and_alpha(temp: Path) -> None:
    before, after = random(2, 40, 50, 3), random(2, 40, 50, 4)
    after[:, :20] = 0
    view = _view.View(EDITOR_INFO)
    view.comparison(before, after, [[(1, 2, 30, 20)], []])
    first, second = view.with_previews((after,), kind="comparison")["ui"][_view.KEY]
    assert first["boxes"] == [[1.0, 2.0, 30.0, 20.0]] and second["boxes"] == []
    assert np.array_equal(np.asarray(open_file(temp, first["alpha"])), tensors.to_8bit(after[0, ..., 3]))
    colors = np.asarray(open_file(temp, first["after"])).astype(float)
    # Transparent pixels have the colors of `before`, so that edges are not darkened.
    assert np.abs(colors[:16] - tensors.to_8bit(before[0, :16])).mean() < 12
    assert np.abs(colors[24:] - tensors.to_8bit(after[0, 24:, :, :3])).mean() < 12


def test_comparison_of_stacked_cutouts_with_noisy_alpha(temp: Path) -> None:
    view = _view.View(EDITOR_INFO)
    view.comparison(random(1, 600, 900, 3), random(1, 1800, 900, 4))
    (entry,) = view.with_previews(())["ui"][_view.KEY]
    files = [temp / entry[name]["subfolder"] / entry[name]["filename"] for name in ("image", "after", "alpha")]
    assert sum(file.stat().st_size for file in files) < MEGABYTE
    assert open_file(temp, entry["after"]).size == open_file(temp, entry["alpha"]).size == (512, 1024)


def test_probabilities_of_one_pixel(temp: Path) -> None:
    view = _view.View(EDITOR_INFO)
    view.probabilities(random(2, 1, 1, 1), random(1, 1, 1), 1.0)
    (entry,) = view.with_previews(())["ui"][_view.KEY]
    assert open_file(temp, entry["image"]).size == (1, 1)
    assert open_file(temp, entry["probabilities"]).size == (1, 2)


def test_view_sends_only_first_images(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_view, "MAX_IMAGES", 3)
    view = _view.View(EDITOR_INFO)
    assert view.max_images == 3 and _view.View(None).max_images == 0
    view.probabilities(random(5, 8, 8, 3), random(5, 8, 8), 1.0)
    assert len(view.with_previews(())["ui"][_view.KEY]) == 3
    other = _view.View(EDITOR_INFO)
    other.comparison(random(5, 8, 8, 3), random(5, 8, 8, 3))
    assert len(other.with_previews(())["ui"][_view.KEY]) == 3
    files = [path.name for path in (temp / _view.SUBFOLDER).iterdir()]
    assert {name.split("-")[1] for name in files} == {"0000", "0001", "0002"}


def make_all_images(view: _view.View, image: torch.Tensor) -> None:
    """Call every method that makes images."""
    view.probabilities(image, image[..., 0], 1.0)
    view.comparison(image, image)
    view.on_region("3", image[0], [], 0)


@pytest.mark.parametrize("is_folder_a_file", [True, False])
def test_view_survives_unwritable_folder(
    temp: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_folder_a_file: bool
) -> None:
    def read_only(*_: object) -> None:
        raise PermissionError("read-only file system")

    if is_folder_a_file:
        (temp / _view.SUBFOLDER).write_text("a file where the folder should be")
    else:
        monkeypatch.setattr(Path, "write_bytes", read_only)
    view = _view.View(EDITOR_INFO)
    make_all_images(view, random(3, 8, 8, 3))
    assert view.with_previews((1, 2)) == (1, 2)
    assert caplog.text.count("Could not update the preview") == 1


def test_view_recreates_temp_folder(temp: Path) -> None:
    temp.rmdir()
    view = _view.View(EDITOR_INFO)
    make_all_images(view, random(1, 8, 8, 3))
    assert isinstance(view.with_previews((random(1),)), dict)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.cuda.OutOfMemoryError("full"), ValueError("bad"), OSError("no")]
)
def test_view_survives_errors_in_images(
    temp: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    calls = []

    def fail_at_the_second(*arguments: object) -> object:
        calls.append(1)
        if len(calls) > 1:
            raise error
        return small(*arguments)

    small = _view._shrink
    monkeypatch.setattr(_view, "_shrink", fail_at_the_second)
    view = _view.View(EDITOR_INFO)
    make_all_images(view, random(3, 8, 8, 3))
    assert view.with_previews((1, 2)) == (1, 2)
    assert caplog.text.count("Could not update the preview") == 1
    assert (str(error) or type(error).__name__) in caplog.text
    assert len(calls) == 2, "continues after an error"


@pytest.mark.parametrize("base", [Exception, BaseException])
def test_view_propagates_interrupts(temp: Path, monkeypatch: pytest.MonkeyPatch, base: type) -> None:
    """It is an `Exception` on old hosts."""
    interrupt = type("InterruptProcessingException", (base,), {})

    def stop(*_: object) -> None:
        raise interrupt

    monkeypatch.setattr(_view.host, "is_interrupt", lambda error: isinstance(error, interrupt))
    monkeypatch.setattr(_view, "_shrink", stop)
    with pytest.raises(interrupt):
        _view.View(EDITOR_INFO).comparison(random(1, 8, 8, 3), random(1, 8, 8, 3))


# Lifetime of the files


class Runs:
    """Runs of nodes in ComfyUI; ``results`` is its cache."""

    def __init__(self, temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch, self.results, self.count = temp / _view.SUBFOLDER, monkeypatch, [], 0

    def run(self, node: str = "5", workflow: str = "abc", calls: int = 1, answers: bool = True, cached: bool = False):
        """The names of the files of each call."""
        self.count += 1
        self.monkeypatch.setattr(_view.host, "executing", lambda: (f"run {self.count}", node))
        named = []
        for _ in range(calls):
            view = _view.View({"workflow": {"nodes": [], "id": workflow}})
            make_all_images(view, random(2, 8, 8, 3))
            if answers:
                sent = view.with_previews((random(1),))
                named.append({file["filename"] for entry in sent["ui"][_view.KEY] for file in _files_of(entry)})
                self.results.append(sent["result"])
        if not cached:
            self.results.clear()
        return named

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


def _files_of(entry: dict) -> list[dict]:
    return [value for value in entry.values() if isinstance(value, dict) and "filename" in value]


@pytest.fixture
def runs(temp: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(_view_files, "_files_by_node", {})
    return Runs(temp, monkeypatch)


def test_files_do_not_accumulate_over_runs(runs: Runs) -> None:
    runs.run()
    count = len(runs.names())
    for _ in range(99):
        (named,) = runs.run()
        assert named <= runs.names()
    assert len(runs.names()) == count
    assert len([name for name in runs.names() if "working" in name]) == 1


def test_files_stay_while_result_is_cached(runs: Runs) -> None:
    """With --cache-lru, returning to earlier settings does not run the node."""
    (first,) = runs.run(cached=True)
    (second,) = runs.run(cached=True)
    assert first | second <= runs.names()
    del runs.results[0]
    assert not first & runs.names() and second <= runs.names()


def test_files_of_the_last_run_stay_without_a_cache(runs: Runs) -> None:
    """With --cache-none, the page still fetches them, also after a reload."""
    (named,) = runs.run()
    assert named <= runs.names()


def test_files_of_all_calls_of_a_run_stay(runs: Runs) -> None:
    runs.run()
    named = runs.run(calls=3)
    assert set().union(*named) <= runs.names()
    (last,) = runs.run()
    assert not set().union(*named) & runs.names() and last <= runs.names()


def test_files_belong_to_node_and_workflow(runs: Runs) -> None:
    names = [runs.run(node, workflow)[0] for node in ("5", "2:5") for workflow in ("abc", "def", "")]
    assert set().union(*names) <= runs.names()


def test_files_stay_after_failed_runs(runs: Runs) -> None:
    (named,) = runs.run()
    count = len(runs.names())
    for _ in range(5):
        runs.run(answers=False)
        assert named <= runs.names()
    assert len(runs.names()) < 3 * count, "files of failed runs accumulate"
    runs.run()
    assert len(runs.names()) == count


def test_files_are_deleted_if_result_is_the_input(runs: Runs) -> None:
    image = random(1, 8, 8, 3)
    for number in range(3):
        runs.monkeypatch.setattr(_view.host, "executing", lambda number=number: (f"run {number}", "5"))
        view = _view.View(EDITOR_INFO)
        view.comparison(image, image)
        result = view.with_previews((image,))["result"]
        assert torch.equal(result[0], image)
        del result
    assert len(runs.names()) == 2


def test_files_stay_without_execution_context(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for _ in range(2):
        monkeypatch.setattr(_view.host, "executing", lambda: None)
        view = _view.View(EDITOR_INFO)
        view.comparison(random(1, 8, 8, 3), random(1, 8, 8, 3))
        view.with_previews((random(1),))
        names |= runs.names()
    assert names == runs.names()


def test_on_region_sends_immediately(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    monkeypatch.setattr(_view.host, "send_to_editor", lambda *event: events.append(event))
    view = _view.View(EDITOR_INFO)
    boxes = [(0, 0, 8, 6), (8, 6, 16, 12)]
    view.on_region("3:5", random(12, 16, 3), boxes, 0)
    view.on_region("3:5", random(12, 16, 3), boxes, 1)
    _view.View(None).on_region("3", random(12, 16, 3), boxes, 0)
    (event, first), (_, second) = events
    assert event == "maskwright.regions" and first["node"] == "3:5" and first["size"] == [16, 12]
    assert first["boxes"] == [list(box) for box in boxes] and first["count"] == 2
    assert second == {"node": "3:5", "current": 1}, "the boxes are sent once"
    assert open_file(temp, first["image"]).size == (16, 12)


def test_on_region_limits_boxes(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(_view.host, "send_to_editor", lambda _, message: sent.append(message))
    monkeypatch.setattr(_view, "MAX_BOXES", 3)
    boxes = [(0, 0, 1, 1)] * 5
    view = _view.View(EDITOR_INFO)
    view.on_region("3", random(12, 16, 3), boxes, 4)
    view.comparison(random(1, 12, 16, 3), random(1, 12, 16, 3), [boxes])
    (entry,) = view.with_previews(())["ui"][_view.KEY]
    assert len(sent[0]["boxes"]) == len(entry["boxes"]) == 3 and sent[0]["count"] == 5


# Phases


@pytest.fixture
def phases(temp: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The messages about phases that reach the editor."""
    sent = []
    monkeypatch.setattr(_view.host, "send_to_editor", lambda event, message: sent.append({"event": event, **message}))
    monkeypatch.setattr(_view.host, "executing", lambda: ("run", "3:5"))
    return sent


def test_begin_names_node_and_phase(phases: list[dict]) -> None:
    _view.View({"workflow": {"nodes": [], "id": "abc"}}).begin("edges")
    assert phases == [{"event": _view.PHASE_EVENT, "workflow": "abc", "node": "3:5", "phase": "edges"}]


def test_begin_without_editor_sends_nothing(phases: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    _view.View(None).begin("edges")
    monkeypatch.setattr(_view.host, "executing", lambda: None)
    _view.View(EDITOR_INFO).begin("edges")
    assert phases == []


def test_begin_limits_messages_of_long_batches(phases: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two phases per image of 50 ms, for 100 seconds."""
    now = [0.0]
    monkeypatch.setattr(_view.time, "monotonic", lambda: now[0])
    view = _view.View(EDITOR_INFO)
    for _ in range(2000):
        for phase in ("subject", "edges"):
            view.begin(phase)
            now[0] += 0.025
    assert [message["phase"] for message in phases[:2]] == ["subject", "edges"]
    assert 300 < len(phases) <= 400


def test_huge_workflow_id_is_not_sent(phases: list[dict]) -> None:
    view = _view.View({"workflow": {"nodes": [], "id": "x" * 2_000_000}})
    view.begin("edges")
    make_all_images(view, random(1, 8, 8, 3))
    assert len(str(view.with_previews((random(1),))["ui"])) < 1000
    assert all("workflow" not in message for message in phases) and len(phases) == 2


def test_clipseg_reports_phases(pair: tuple, phases: list[dict]) -> None:
    CLIPSeg().segment_image(random(1, 20, 30, 3), "cat", clipseg_model=pair, extra_pnginfo=EDITOR_INFO)
    assert [message["phase"] for message in phases] == ["loading", "work"]


def test_download_progress_reports_phase_once_allowed(phases: list[dict], monkeypatch: pytest.MonkeyPatch) -> None:
    _view.View(EDITOR_INFO).download_progress(7).step(7)
    assert [message["phase"] for message in phases] == ["download"]

    def refuse(total: int) -> None:
        raise ModelError("offline", "Connect")

    monkeypatch.setattr(_view.host, "download_progress", refuse)
    with pytest.raises(ModelError):
        _view.View(EDITOR_INFO).download_progress(7)
    assert len(phases) == 1


def test_mask_instances_sends_labels_and_boxes(temp: Path) -> None:
    masks = torch.zeros(2, 30, 40)
    masks[0, 2:8, 3:9], masks[0, 20:22, 30:38], masks[1, 5:9, 5:9] = 1, 0.5, 1
    image = random(2, 30, 40, 3)
    sent = MaskInstances().split_masks(masks, image=image, pick="0", extra_pnginfo=EDITOR_INFO)
    assert sent["result"][3] == 2 and sent["result"][0].shape == (2, 30, 40)
    entries = sent["ui"][_view.KEY]
    assert [(entry["kind"], entry["size"], entry["count"]) for entry in entries] == [
        ("instances", [40, 30], 2), ("instances", [40, 30], 1),
    ]  # fmt: skip
    assert entries[0]["boxes"] == [[3, 2, 9, 8], [30, 20, 38, 22]], "all, picked or not"
    assert (
        entries[0]["has_image"]
        and entries[0]["settings"]["pick"] == "0"
        and entries[0]["settings"]["split"] == "connected parts"
    )
    labels = np.asarray(open_file(temp, entries[0]["labels"]))
    assert labels.shape == (60, 40) and labels[30 + 4, 5] == 1 and labels[30 + 21, 32] == 2 and labels[:30].max() == 0


@pytest.mark.parametrize("masks", [torch.zeros(0, 30, 40), torch.zeros(1, 30, 40)], ids=["no mask", "empty mask"])
def test_mask_instances_without_an_image_shows_the_masks(masks: torch.Tensor, temp: Path) -> None:
    (entry,) = MaskInstances().split_masks(masks, extra_pnginfo=EDITOR_INFO)["ui"][_view.KEY]
    assert entry["boxes"] == [] and entry["count"] == 0 and not entry["has_image"]
    assert np.asarray(open_file(temp, entry["image"])).max() == 0


def test_mask_instances_sends_many_instances_in_little_space(temp: Path) -> None:
    mask = torch.zeros(1, 512, 512)
    mask[:, ::8, ::8] = 1
    (entry,) = MaskInstances().split_masks(mask, limit=1500, extra_pnginfo=EDITOR_INFO)["ui"][_view.KEY]
    assert entry["count"] == 1500 and len(entry["boxes"]) == _view.MAX_BOXES
    assert (temp / entry["labels"]["subfolder"] / entry["labels"]["filename"]).stat().st_size < MEGABYTE
