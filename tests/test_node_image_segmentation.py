"""The node ImageSegmentation, as ComfyUI and saved files call it; the models are tiny ones that the tests make."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import maskwright
import numpy as np
import pytest
import tiny_onnx
import torch
from maskwright.core import tensors
from maskwright.core.batching import NoProgress
from maskwright.core.cutout import matting
from maskwright.core.errors import DependencyError, InputError, ModelError, PackError
from maskwright.models import background_models, catalog, rembg
from maskwright.models.background_models import DEMO, BackgroundStore
from maskwright.models.store import ModelCache
from maskwright.nodes import _host as host
from saved_layouts import SEGMENTATION

ImageSegmentation = maskwright.NODE_CLASS_MAPPINGS["ImageSegmentation"]
SAVED = ["isnet-general-use", "true", 230, 20, 10, "false"]  # as files in the wild hold it
PLAIN = ["false", 240, 20, 10, "false"]


@pytest.fixture(autouse=True)
def folder(isolated_model_dirs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's models/rembg, and nothing else where models could be."""
    monkeypatch.setattr(host, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(host, "model_folders", lambda kind: [tmp_path / "models" / kind])
    monkeypatch.setattr(background_models, "_loaded", ModelCache(2))
    return tmp_path / "models" / "rembg"


@pytest.fixture
def rembg_module() -> types.ModuleType:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    return pytest.importorskip("rembg")


class Red:
    """Selects each pixel as much as it is red."""

    masks_per_image = 1

    def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
        return image[..., 0].unsqueeze(0)  # [H,W] -> [1,H,W]


@pytest.fixture
def loaded_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every model selects red; the names that were asked for."""
    names: list[str] = []
    monkeypatch.setattr(background_models, "load", lambda name, *_: names.append(name) or Red())
    return names


def run(*values: object, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return ImageSegmentation().node(images, *values)


def make_portrait(height: int = 48, width: int = 40, batch: int = 1, channels: int = 3) -> torch.Tensor:
    """A red disc with a soft rim before a blue wall."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = ((y - height / 2) ** 2 + (x - width / 2) ** 2).sqrt()
    disc = ((min(height, width) / 3 - distance) / 4).clamp(0, 1)
    noise = torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(0)) * 0.1
    images = noise + 0.05
    images[..., 0] += 0.8 * disc
    images[..., 2] += 0.5 * (1 - disc)
    return images


# What saved files rely on


def test_node_keeps_saved_widget_order() -> None:
    widgets = [(name, spec) for name, spec in ImageSegmentation.INPUT_TYPES()["required"].items() if name != "images"]
    assert tuple(name for name, _ in widgets) == SEGMENTATION
    assert [spec[1]["default"] for _, spec in widgets] == ["u2net", "true", 240, 20, 10, "false"]
    options = dict(widgets)
    assert options["alpha_matting"][0] == ["true", "false"]
    assert options["post_process_mask"][0] == ["false", "true"]
    for name in ("alpha_matting_foreground_threshold", "alpha_matting_background_threshold"):
        assert (options[name][1]["min"], options[name][1]["max"], options[name][1]["step"]) == (0, 250, 5)
    assert (options["alpha_matting_erode_size"][1]["min"], options["alpha_matting_erode_size"][1]["step"]) == (0, 1)
    assert options["model"][0] == BackgroundStore().available()
    assert ImageSegmentation.RETURN_NAMES == ("IMAGE", "MASK") == ImageSegmentation.RETURN_TYPES
    assert ImageSegmentation.FUNCTION == "node"


def test_model_list_includes_user_files(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "mine.onnx").write_bytes(b"x")
    assert "mine.onnx" in ImageSegmentation.INPUT_TYPES()["required"]["model"][0]


def test_model_tooltip_names_non_free_model() -> None:
    tooltip = ImageSegmentation.INPUT_TYPES()["required"]["model"][1]["tooltip"]
    assert "bria-rmbg is not free for commercial use" in tooltip


def test_option_labels_show_download_size(folder: Path) -> None:
    labels = ImageSegmentation.INPUT_TYPES()["required"]["model"][1]["option_labels"]
    assert labels["silueta"] == "silueta \u2193 44 MB"
    assert labels["modnet-w"] == "modnet-w \u2193", "its size is not known"
    assert set(labels) == {*catalog.BACKGROUND, DEMO}
    folder.mkdir(parents=True)
    (folder / "silueta.onnx").write_bytes(b"x")
    (folder / "isnet-anime").mkdir()
    (folder / "isnet-anime" / "isnet-anime.onnx").write_bytes(b"x")
    labels = ImageSegmentation.INPUT_TYPES()["required"]["model"][1]["option_labels"]
    assert set(catalog.BACKGROUND) - set(labels) == {"silueta", "isnetis"}


def test_node_refuses_unknown_model() -> None:
    assert ImageSegmentation.VALIDATE_INPUTS("an old name") is True
    with pytest.raises(InputError, match="model is 'an old name'.*Choose one of: u2net, "):
        run("an old name", *PLAIN, images=make_portrait())


def test_node_runs_saved_values(loaded_names: list[str]) -> None:
    pytest.importorskip("pymatting")
    cutouts, masks = run(*SAVED, images=make_portrait(batch=2))
    assert cutouts.shape == (2, 48, 40, 4) and masks.shape == (2, 48, 40)
    assert loaded_names == ["isnet-general-use"]
    expected = matting.remove_background(make_portrait(batch=2), Red(), matting.MattingSettings(230, 20, 10))
    assert torch.equal(cutouts, expected[0]) and torch.equal(masks, expected[1])
    assert torch.equal(cutouts[..., 3], masks)


def test_switches_accept_text_and_bool(loaded_names: list[str]) -> None:
    images = make_portrait()
    off = run("u2net", "false", 240, 20, 10, "false", images=images)
    assert torch.equal(off[1], images[..., 0])
    hard = run("u2net", "false", 240, 20, 10, "true", images=images)
    assert torch.equal(hard[1], matting.post_process(images[..., 0]))
    for value, result in ((False, off), (True, hard)):
        assert torch.equal(run("u2net", False, 240, 20, 10, value, images=images)[0], result[0])
    with pytest.raises(InputError, match=r"clean mask \(post_process_mask\) is 'yes'"):
        run("u2net", "false", 240, 20, 10, "yes", images=images)


# Bad input


def test_node_grey_half_precision_and_transparent_images(loaded_names: list[str]) -> None:
    gray = torch.rand(1, 5, 6, 1, generator=torch.Generator().manual_seed(0))
    cutouts, masks = run("u2net", *PLAIN, images=gray.half())
    assert cutouts.dtype == masks.dtype == torch.float32
    assert torch.equal(masks, gray.half().float()[..., 0])
    see_through = make_portrait(channels=4)
    assert torch.equal(run("u2net", *PLAIN, images=see_through)[1], see_through[..., 0] * see_through[..., 3])


def test_node_one_pixel(loaded_names: list[str]) -> None:
    cutouts, masks = run("u2net", "true", 240, 20, 10, "true", images=torch.ones(1, 1, 1, 3))
    assert cutouts.shape == (1, 1, 1, 4) and masks.shape == (1, 1, 1) and cutouts.isfinite().all()


@pytest.mark.parametrize(
    ("values", "images", "reason"),
    [
        (["u2net", *PLAIN], torch.full((1, 2, 2, 3), torch.nan), "images contains NaN or infinity in 12 of 12 values"),
        (["u2net", *PLAIN], torch.zeros(1, 2, 2), "images has shape"),
        (["u2net", *PLAIN], torch.zeros(0, 2, 2, 3), "images is empty"),
        (
            ["u2net", "true", 240, 20, -1, "false"],
            torch.zeros(1, 2, 2, 3),
            r"edge width \(alpha_matting_erode_size\) is -1",
        ),
        (["u2net", "maybe", 240, 20, 10, "false"], torch.zeros(1, 2, 2, 3), r"matting \(alpha_matting\) is 'maybe'"),
    ],
)
def test_node_refuses_invalid_values(loaded_names: list[str], values: list, images: torch.Tensor, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        run(*values, images=images)


def test_node_offline_names_file_folder_and_address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rembg, "_session_classes", lambda: {"isnet-anime": object})
    with pytest.raises(ModelError) as caught:
        run("isnetis", *PLAIN, images=make_portrait())
    for words in ("releases/download/v0.0.0/isnet-anime.onnx", str(folder), "isnet-anime.onnx"):
        assert words in str(caught.value)


def test_node_without_rembg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it could not be imported
    with pytest.raises(DependencyError, match="pip install") as caught:
        run("u2net", *PLAIN, images=make_portrait())
    assert isinstance(caught.value, PackError)
    maskwright.NODE_CLASS_MAPPINGS["GradientRegion"]().gradient_region(torch.zeros(1, 4, 4))


# Progress


class Interrupt(BaseException):
    """As the host's own interrupt on new hosts: no Exception."""


def test_node_progress_and_interrupt(loaded_names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    totals, steps = [], []

    class Bar:
        def step(self, count: int = 1) -> None:
            steps.append(count)
            if len(steps) == 2:
                raise Interrupt

    monkeypatch.setattr(host.ComfyHost, "progress", lambda _, total: totals.append(total) or Bar())
    with pytest.raises(Interrupt):
        run("u2net", *PLAIN, images=make_portrait(batch=4))
    assert totals == [4] and steps == [1, 1]


def test_node_out_of_memory_unloads_host_models(monkeypatch: pytest.MonkeyPatch) -> None:
    events = []

    class Short(Red):
        def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
            events.append("mask")
            if "unload" not in events:
                raise MemoryError("u2net.onnx: Failed to allocate memory")
            return super().predict_masks(image)

    management = types.ModuleType("comfy.model_management")
    management.unload_all_models = lambda: events.append("unload")
    management.soft_empty_cache = lambda: events.append("empty")
    comfy = types.ModuleType("comfy")
    comfy.model_management = management
    monkeypatch.setitem(sys.modules, "comfy", comfy)
    monkeypatch.setitem(sys.modules, "comfy.model_management", management)
    monkeypatch.setattr(host.ComfyHost, "progress", lambda *_: NoProgress())
    monkeypatch.setattr(background_models, "load", lambda *_: Short())
    images = make_portrait(batch=2)
    assert torch.equal(run("u2net", *PLAIN, images=images)[1], images[..., 0])
    assert events == ["mask", "unload", "empty", "mask", "mask"]


# Beside rembg


def run_rembg(rembg_module: types.ModuleType, images: torch.Tensor, *values: object) -> np.ndarray:
    """What the earlier node made of the first image, as numbers 0..255."""
    matting_on, foreground, background_level, erode, clean = values
    (source,) = background_models._loaded._values.values()
    session = source._session
    cutout = rembg_module.remove(
        tensors.to_pil(images[0]),
        matting_on == "true",
        foreground,
        background_level,
        erode,
        session=session,
        post_process_mask=clean == "true",
    )
    return np.array(cutout).astype(int)


@pytest.mark.parametrize("clean", ["false", "true"])
def test_cutout_has_rembg_alpha_and_straight_colors(rembg_module: types.ModuleType, folder: Path, clean: str) -> None:
    if clean == "true" and not hasattr(rembg_module.bg, "gaussian_filter"):
        pytest.skip("this rembg is of the time when it cleaned masks in another way")
    tiny_onnx.write(folder / "u2net.onnx")
    images = make_portrait()
    cutouts, _ = run("u2net", "false", 240, 20, 10, clean, images=images)
    theirs = run_rembg(rembg_module, images, "false", 240, 20, 10, clean)
    ours = (cutouts[0] * 255).round().int().numpy()
    assert np.array_equal(ours[..., 3], theirs[..., 3])
    # Theirs are multiplied by alpha, which makes the dark rim.
    alpha = ours[..., 3:] / 255
    assert np.abs(ours[..., :3] * alpha - theirs[..., :3]).max() <= 2
    visible = ours[..., 3] > 0
    assert torch.equal(cutouts[0][torch.from_numpy(visible)][:, :3], images[0][torch.from_numpy(visible)])


@pytest.mark.parametrize("thresholds", [(200, 30), (100, 250), (60, 180)])
def test_alpha_matting_matches_rembg(rembg_module: types.ModuleType, folder: Path, thresholds: tuple[int, int]) -> None:
    tiny_onnx.write(folder / "u2net.onnx")
    images = tensors.from_8bit(tensors.to_8bit(make_portrait()))  # as rembg sees it
    values = ("true", *thresholds, 4, "false")
    cutouts, masks = run("u2net", *values, images=images)
    theirs = run_rembg(rembg_module, images, *values)
    ours = cutouts[0].numpy() * 255
    assert 0 < (masks > 0.5).float().mean() < 1
    assert np.abs(ours[..., 3] - theirs[..., 3]).max() <= 2
    visible = theirs[..., 3] > 0
    assert np.abs(ours[..., :3] - theirs[..., :3])[visible].max() <= 2


def test_node_prints_nothing_for_photos(
    rembg_module: types.ModuleType, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    data = pytest.importorskip("skimage.data")
    capfd.readouterr()
    for photograph in (data.chelsea(), data.coffee()[:, 100:500]):
        image = tensors.from_8bit(photograph.copy())[None]
        _, masks = run(DEMO, "true", 240, 20, 10, "false", images=image)
        assert (masks % 1 > 0).any(), "alpha matting solved nothing here"
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_cloth_model_stacks_parts_like_rembg(rembg_module: types.ModuleType, folder: Path) -> None:
    weights = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    tiny_onnx.write(folder / "u2net_cloth_seg.onnx", 768, weights, [0.5, 0, 0, 0])
    images = torch.zeros(2, 60, 90, 3)
    for part in range(3):
        images[:, 10:50, 30 * part : 30 * part + 30, part] = 1
    images[1] = images[1].flip(0)
    cutouts, masks = run("u2net_cloth_seg", *PLAIN, images=images)
    assert cutouts.shape == (2, 180, 90, 4) and masks.shape == (6, 60, 90)
    assert torch.equal(cutouts[..., 3].reshape(6, 60, 90), masks)
    theirs = run_rembg(rembg_module, images, *PLAIN)
    assert theirs.shape == (180, 90, 4)
    # The same but at borders, where theirs mixes classes.
    assert (np.abs((cutouts[0] * 255).numpy() - theirs).max(-1) > 2).mean() < 0.03
    assert masks.sum((1, 2)).min() > 800


def test_node_batch_equals_single_images(
    rembg_module: types.ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_onnx.write(folder / "u2net.onnx")
    images = torch.cat([make_portrait(), make_portrait().flip(2), make_portrait() * 0.5])
    wrap, sessions = rembg._wrap_session, []
    monkeypatch.setattr(rembg, "_wrap_session", lambda *args: sessions.append(args[1].name) or wrap(*args))
    together = run("u2net", *PLAIN, images=images)
    alone = [run("u2net", *PLAIN, images=image) for image in images.split(1)]
    for whole, parts in zip(together, zip(*alone)):
        assert torch.equal(whole, torch.cat(parts))
    assert sessions == ["u2net"]


# --- ComfyUI's own models, and backgrounds ----------------------------------------------------------------------------


class HostModel:
    """ComfyUI's BACKGROUND_REMOVAL up to 0.33: selects red, in half precision."""

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape[-1] == 3
        return image[..., 0].half()


class NewerHostModel(HostModel):
    """Since 0.38."""

    image_size = 2048

    def encode_image(self, image: torch.Tensor, image_size: int | None = None) -> torch.Tensor:
        self.sizes = [*getattr(self, "sizes", []), image_size]
        return super().encode_image(image)


@pytest.mark.parametrize("model", [HostModel(), NewerHostModel()], ids=["older", "newer"])
@pytest.mark.parametrize("channels", [3, 4])
def test_node_uses_comfyuis_model(loaded_names: list[str], model: HostModel, channels: int) -> None:
    images = (torch.arange(2 * 4 * 5 * channels).view(2, 4, 5, channels) % 3) / 2
    cutouts, masks = ImageSegmentation().node(images, "u2net", *PLAIN, background_removal=model)
    expected = images[..., 0] * (images[..., 3] if channels == 4 else 1)
    torch.testing.assert_close(masks, expected)
    assert torch.equal(cutouts[..., 3], masks) and masks.dtype == torch.float32
    assert loaded_names == []  # neither rembg nor its model is touched
    if isinstance(model, NewerHostModel):
        assert set(model.sizes) == {2048}


def test_node_mattes_the_mask_of_comfyuis_model(loaded_names: list[str]) -> None:
    pytest.importorskip("pymatting")
    ramp = (torch.arange(48) / 16 - 1).clamp(0, 1).expand(1, 40, 48)
    images = torch.stack((ramp, 1 - ramp, ramp), dim=-1)
    _, masks = ImageSegmentation().node(images, "u2net", "true", *PLAIN[1:], background_removal=HostModel())
    assert (masks - ramp).abs().max() < 0.02


@pytest.mark.parametrize(
    "model, problem",
    [
        ("u2net", "background_removal is of type str"),
        (types.SimpleNamespace(encode_image=lambda image: image * torch.nan), "mask of background_removal"),
        (types.SimpleNamespace(encode_image=lambda image: None), "mask of background_removal is missing"),
    ],
)
def test_node_names_a_model_that_is_none(model: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        ImageSegmentation().node(torch.rand(1, 4, 4, 3), "u2net", *PLAIN, background_removal=model)


@pytest.mark.parametrize("color", ["#ff0000", "red", " rgb(255, 0, 0) "])
def test_node_places_the_subject_over_a_color(loaded_names: list[str], color: str) -> None:
    images = torch.tensor([[0.0, 0.2, 0.4], [1.0, 0.6, 0.8], [0.5, 0.4, 0.0]]).view(1, 1, 3, 3)
    result, masks = ImageSegmentation().node(images, "u2net", *PLAIN, background=color)
    expected = torch.tensor([[1.0, 0, 0], [1.0, 0.6, 0.8], [0.75, 0.2, 0]]).view(1, 1, 3, 3)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(masks, torch.tensor([[[0, 1, 0.5]]]))


@pytest.mark.parametrize("height, width", [(4, 8), (16, 8), (40, 4)])
def test_node_fits_the_background(loaded_names: list[str], height: int, width: int) -> None:
    """Scaled to fill the frame, cropped in the center, without stretching."""
    background = torch.zeros(1, height, width, 3)
    background[:, height // 2 :] = 1
    background[..., 2] = 0.5
    result, _ = ImageSegmentation().node(torch.zeros(2, 6, 6, 3), "u2net", *PLAIN, background=background)
    assert result.shape == (2, 6, 6, 3)
    top, bottom = result[:, :2, :, 0].mean(), result[:, 4:, :, 0].mean()
    assert top < 0.1 and bottom > 0.9
    torch.testing.assert_close(result[..., 2], torch.full((2, 6, 6), 0.5))


@pytest.mark.parametrize(
    "background, problem",
    [
        ("no color", "not a color"),
        (torch.rand(2, 4, 4, 3), "background is a batch of 2, and images is a batch of 3"),
        (7, "background is of type"),
    ],
)
def test_node_names_a_bad_background(loaded_names: list[str], background: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        ImageSegmentation().node(torch.rand(3, 4, 4, 3), "u2net", *PLAIN, background=background)
    assert loaded_names == [], "checked before the model runs"
