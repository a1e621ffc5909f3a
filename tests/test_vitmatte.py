"""ViTMatte: a tiny random model against plain transformers, its files, tiles and errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from maskwright.core.batching import NO_STAGE_PROGRESS, StandaloneHost
from maskwright.core.errors import DependencyError, InputError, ModelError
from maskwright.models import catalog, vitmatte
from maskwright.models.store import ModelCache
from maskwright.models.vitmatte import VitMatter, VitMatteStore, prepare

transformers = pytest.importorskip("transformers")
Model = pytest.importorskip("transformers").VitMatteForImageMatting
FOLDER = "hustvl--vitmatte-small-composition-1k"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    backbone = transformers.VitDetConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, pretrain_image_size=32,
        patch_size=16, num_channels=4, window_size=2, window_block_indices=[0], out_features=["stage2"],
        use_relative_position_embeddings=True, residual_block_indices=[1],
    )  # fmt: skip
    config = transformers.VitMatteConfig(
        backbone_config=backbone, hidden_size=16, convstream_hidden_sizes=[4, 4, 4], fusion_hidden_sizes=[8, 8, 4, 4]
    )
    tiny = Model(config).eval()
    for parameter in tiny.parameters():  # larger than those of a fresh model, whose alpha is 0.5 everywhere
        torch.nn.init.normal_(parameter, std=0.3)
    return tiny.requires_grad_(False)


@pytest.fixture(autouse=True)
def no_models(isolated_model_dirs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitmatte, "_loaded", ModelCache(1))


def scene(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An 8-bit image and a trimap with all three values."""
    image = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(1)) / 255
    trimap = torch.full((height, width), 0.5)
    trimap[: height // 4], trimap[-(height // 4) :] = 1, 0
    return image, trimap


def predict_by_transformers(model: torch.nn.Module, image: torch.Tensor, trimap: torch.Tensor) -> torch.Tensor:
    pil = getattr(transformers, "VitMatteImageProcessorPil", None) or transformers.VitMatteImageProcessor
    levels = np.array([0, 128, 255], np.uint8)[(2 * trimap).long().numpy()]
    pixels = (255 * image).round().byte().numpy()
    processor = pil(image_mean=list(catalog.VITMATTE.mean), image_std=list(catalog.VITMATTE.std))
    inputs = processor(images=pixels, trimaps=levels, input_data_format="channels_last", return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).alphas[0, 0, : trimap.shape[0], : trimap.shape[1]]


@pytest.mark.parametrize("size", [(64, 96), (50, 71), (33, 31)])
def test_predict_alpha_equals_transformers(model: torch.nn.Module, size: tuple[int, int]) -> None:
    image, trimap = scene(*size)
    alpha = VitMatter(model, StandaloneHost()).predict_alpha(image, trimap, NO_STAGE_PROGRESS)
    expected = predict_by_transformers(model, image, trimap)
    assert expected.std() > 0.01, "the model gives the same alpha everywhere"
    torch.testing.assert_close(alpha, expected, atol=1e-4, rtol=0)


def test_prepare_pads_at_the_right_and_the_bottom() -> None:
    pixels = prepare(torch.ones(5, 40, 3), torch.full((5, 40), 0.5))
    assert pixels.shape == (1, 4, 32, 64)
    assert pixels[0, :, 4, 39].tolist() == pytest.approx([1, 1, 1, 128 / 255])
    assert pixels[0, :, 5:].abs().max() == 0 and pixels[0, :, :, 40:].abs().max() == 0


class Mean(torch.nn.Module):
    """Alpha is the red channel, whatever the tile; counts the calls, and has no memory for tiles above ``limit``."""

    def __init__(self, limit: int = 10**9) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.limit, self.sides = limit, []

    def forward(self, pixel_values: torch.Tensor) -> object:
        if max(pixel_values.shape[2:]) > self.limit:
            raise RuntimeError("CUDA out of memory")
        self.sides.append(max(pixel_values.shape[2:]))
        return type("Output", (), {"alphas": pixel_values[:, :1] / 2 + 0.5})()


def test_predict_alpha_tiles_join_without_a_seam() -> None:
    image, trimap = scene(150, 340)
    model = Mean()
    alpha = VitMatter(model, StandaloneHost(), tile=128).predict_alpha(image, trimap, NO_STAGE_PROGRESS)
    torch.testing.assert_close(alpha, image[..., 0])
    assert len(model.sides) == 6 and max(model.sides) == 128


def test_predict_alpha_skips_tiles_without_unknown_pixels() -> None:
    image, trimap = torch.rand(64, 640, 3), torch.zeros(64, 640)
    trimap[:, :20] = 0.5
    model = Mean()
    alpha = VitMatter(model, StandaloneHost(), tile=64).predict_alpha(image, trimap, NO_STAGE_PROGRESS)
    assert len(model.sides) == 1
    assert alpha[:, 100:].abs().max() == 0


def test_predict_alpha_uses_smaller_tiles_when_memory_runs_out() -> None:
    image, trimap = scene(300, 700)
    model = Mean(limit=256)
    matter = VitMatter(model, StandaloneHost())
    torch.testing.assert_close(matter.predict_alpha(image, trimap, NO_STAGE_PROGRESS), image[..., 0])
    assert max(model.sides) == 256
    with pytest.raises(RuntimeError, match="out of memory"):
        VitMatter(Mean(limit=100), StandaloneHost()).predict_alpha(image, trimap, NO_STAGE_PROGRESS)


def test_predict_alpha_rejects_nan() -> None:
    image, trimap = scene(40, 40)
    with pytest.raises(ModelError, match="NaN or infinity"):
        VitMatter(Mean(), StandaloneHost()).predict_alpha(image * torch.nan, trimap, NO_STAGE_PROGRESS)


@pytest.mark.parametrize(
    "place", [FOLDER, "vitmatte-small-composition-1k", "hustvl/vitmatte-small-composition-1k", "."]
)
def test_load_finds_the_model(model: torch.nn.Module, tmp_path: Path, place: str) -> None:
    model.save_pretrained(tmp_path / place)
    store = VitMatteStore([tmp_path])
    loaded = vitmatte.load(store, StandaloneHost())
    image, trimap = scene(40, 40)
    expected = VitMatter(model, StandaloneHost()).predict_alpha(image, trimap, NO_STAGE_PROGRESS)
    assert torch.equal(loaded.predict_alpha(image, trimap, NO_STAGE_PROGRESS), expected)
    assert store.not_on_disk() == []


def test_load_finds_a_hugging_face_cache(model: torch.nn.Module, tmp_path: Path) -> None:
    revision = catalog.VITMATTE.revision
    assert revision is not None
    model.save_pretrained(tmp_path / f"models--{FOLDER}" / "snapshots" / revision)
    local = VitMatteStore([tmp_path]).locate()
    assert local is not None and local.path.name == revision


def test_find_without_network_names_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    store = VitMatteStore([tmp_path])
    with pytest.raises(ModelError, match=r"vitmatte-small.* is not on this computer") as error:
        store.find()
    assert "config.json, model.safetensors" in str(error.value) and str(tmp_path / FOLDER) in str(error.value)
    assert store.not_on_disk() == [catalog.VITMATTE]
    with pytest.raises(InputError, match="no ViTMatte model"):
        store.locate("another")


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def point_config_elsewhere(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["backbone_config"] = {"model_type": "resnet"}
    (folder / "config.json").write_text(json.dumps(config))


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def drop_a_tensor(folder: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    weights = safetensors.load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if name.endswith("matting_convs.0.weight")))
    safetensors.save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("damage", [break_config, point_config_elsewhere, cut_weights, drop_a_tensor])
def test_load_names_the_folder_of_a_broken_model(model: torch.nn.Module, tmp_path: Path, damage) -> None:
    model.save_pretrained(tmp_path / FOLDER)
    damage(tmp_path / FOLDER)
    with pytest.raises(ModelError, match="cannot be loaded") as error:
        vitmatte.load(VitMatteStore([tmp_path]), StandaloneHost())
    assert str(tmp_path / FOLDER) in str(error.value)


def test_load_without_vitmatte_in_transformers(
    model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path / FOLDER)
    monkeypatch.setitem(__import__("sys").modules, "transformers", type("Old", (), {"__name__": "transformers"})())
    with pytest.raises(DependencyError, match="transformers is missing or does not work"):
        vitmatte.load(VitMatteStore([tmp_path]), StandaloneHost())
