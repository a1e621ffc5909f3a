"""The nodes CLIPSeg, CLIPSegMasking and CLIPSegModelLoader, as ComfyUI, saved files and other packs call them."""

from __future__ import annotations

import gc
import shutil
import sys
import types
import weakref
from pathlib import Path

import maskwright
import pytest
import tiny_clipseg
import torch
from maskwright.core.errors import InputError, PackError
from maskwright.core.text import clipseg_engine
from maskwright.core.text.clipseg_engine import TensorCache
from maskwright.core.text.query import Query
from maskwright.core.text.segment import score
from maskwright.models import clipseg_loader
from maskwright.models.clipseg_store import DEFAULT, DEMO, ClipsegStore
from maskwright.nodes import _host as host
from maskwright.nodes import _text

CLIPSeg, CLIPSegMasking, CLIPSegModelLoader = (
    maskwright.NODE_CLASS_MAPPINGS[name] for name in ("CLIPSeg", "CLIPSegMasking", "CLIPSegModelLoader")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("transformers")
    return tiny_clipseg.write(tmp_path_factory.mktemp("clipseg") / "tiny")


@pytest.fixture(scope="module")
def pair(folder) -> tuple:
    return clipseg_loader.load("tiny", ClipsegStore([folder.parent]))


@pytest.fixture
def loads(pair: tuple, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are loaded; each gives the tiny model."""
    names: list[str] = []

    def load(name: str, folders: object, progress: object = None) -> tuple:
        names.append(name)
        return pair

    monkeypatch.setattr(clipseg_loader, "load", load)
    return names


@pytest.fixture(autouse=True)
def clear_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipseg_engine, "_IMAGE_CACHE", TensorCache(0))


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "device", lambda: torch.device("cpu"))


def make_random_image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def list_widgets(node: type) -> list[tuple[str, object]]:
    """Names and defaults in the order in which saved files hold their values."""
    inputs = node.INPUT_TYPES()
    found = []
    for name, (kind, *options) in [*inputs["required"].items(), *inputs.get("optional", {}).items()]:
        if isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN"):
            found.append((name, options[0].get("default")))
    return found


def test_nodes_keep_saved_widget_order(loads: list[str]) -> None:
    assert list_widgets(CLIPSegMasking) == [
        ("text", ""),
        ("negative_text", ""),
        ("resolution", 352),
        ("normalization", "stretch"),
    ]
    assert list_widgets(CLIPSeg) == [
        ("text", ""),
        ("blur", 3.0),
        ("threshold", 0.3),
        ("dilation_factor", 4),
        ("negative_text", ""),
        ("resolution", 352),
    ]
    assert list_widgets(CLIPSegModelLoader) == [("model", "CIDAS/clipseg-rd64-refined")]
    assert CLIPSegMasking.RETURN_NAMES == ("masks", "mask_images")
    assert CLIPSeg.RETURN_NAMES == ("Mask", "Heatmap Mask", "BW Mask")


def test_segment_image_called_by_other_packs(loads: list[str]) -> None:
    image = make_random_image(1, 40, 50, 3)
    mask, heat_map, black_and_white = CLIPSeg().segment_image(image, "cat", 7, 0.1, 30)
    assert (mask.shape, heat_map.shape, black_and_white.shape) == ((1, 40, 50), (1, 40, 50, 3), (1, 40, 50, 3))
    assert torch.equal(black_and_white, mask.unsqueeze(-1).expand(-1, -1, -1, 3))
    assert loads == ["CIDAS/clipseg-rd64-refined"]
    for one, other in zip(CLIPSeg().segment_image(image, "cat"), CLIPSeg().segment_image(image, "cat", 3.0, 0.3, 4)):
        assert torch.equal(one, other)


def test_clipseg_masking_outputs(loads: list[str]) -> None:
    image = make_random_image(3, 40, 50, 4)
    masks, mask_images = CLIPSegMasking().CLIPSeg_image(image, "cat")
    assert (masks.shape, mask_images.shape) == ((3, 40, 50), (3, 40, 50, 3))
    assert masks.dtype == mask_images.dtype == torch.float32
    assert torch.equal(mask_images, masks.unsqueeze(-1).expand(-1, -1, -1, 3))
    assert torch.equal(CLIPSegMasking().CLIPSeg_image(image)[0], CLIPSegMasking().CLIPSeg_image(image, "")[0])
    assert loads == ["CIDAS/clipseg-rd64-refined"] * 3


def test_nodes_use_linked_model(pair: tuple, loads: list[str]) -> None:
    image = make_random_image(1, 20, 30, 3)
    expected = score(image, clipseg_engine.Segmenter(*pair), Query("cat")).masks
    assert torch.equal(CLIPSegMasking().CLIPSeg_image(image, "cat", pair)[0], expected)
    assert torch.equal(CLIPSegMasking().CLIPSeg_image(image, "cat", list(pair))[0], expected)
    other = (pair[0], tiny_clipseg.model(seed=1))
    assert not torch.allclose(CLIPSegMasking().CLIPSeg_image(image, "cat", other)[0], expected)
    CLIPSeg().segment_image(image, "cat", clipseg_model=pair)
    assert loads == []


def test_segment_image_half_precision_and_grey(pair: tuple) -> None:
    image = make_random_image(1, 20, 30, 1)
    gray = CLIPSeg().segment_image(image, "cat", clipseg_model=pair)
    color = CLIPSeg().segment_image(image.expand(-1, -1, -1, 3), "cat", clipseg_model=pair)
    half = CLIPSeg().segment_image(image.half(), "cat", clipseg_model=pair)
    for one, other, rough in zip(gray, color, half):
        assert torch.equal(one, other)
        assert rough.dtype == torch.float32 and rough.shape == one.shape


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((1, 4, 4, 3), float("nan")), "NaN or infinity in 48 of 48 values"),
        (torch.zeros(0, 4, 4, 3), "is empty"),
        (torch.zeros(1, 4, 5), "not an image"),
        (None, "is missing"),
    ],
)
def test_nodes_check_image_before_loading(image: object, message: str, loads: list[str]) -> None:
    with pytest.raises(InputError, match=f"images.*{message}"):
        CLIPSegMasking().CLIPSeg_image(image, "cat")
    with pytest.raises(InputError, match=f"image .*{message}"):
        CLIPSeg().segment_image(image, "cat")
    assert loads == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"blur": -1}, "blur is -1"),
        ({"threshold": 2}, "threshold is 2"),
        ({"dilation_factor": -1}, r"dilation \(dilation_factor\) is -1"),
        ({"resolution": 353}, "resolution is 353"),
        ({"text": 5}, "text is of type int"),
        ({"negative_text": 5}, "negative_text is of type int"),
        ({"clipseg_model": "CIDAS"}, "clipseg_model is of type str"),
    ],
)
def test_segment_image_names_invalid_input(changed: dict, message: str, loads: list[str]) -> None:
    arguments = {"image": make_random_image(1, 8, 8, 3), "text": "cat"} | changed
    with pytest.raises(InputError, match=message):
        CLIPSeg().segment_image(**arguments)
    assert loads == []


def test_model_loader_outputs_and_names(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_text, "folders", lambda: [folder.parent])
    names, _ = CLIPSegModelLoader.INPUT_TYPES()["required"]["model"]
    assert names[0] == "CIDAS/clipseg-rd64-refined" and "tiny" in names
    ((processor, model),) = CLIPSegModelLoader().clipseg_model("tiny")
    clipseg_engine.make_segmenter((processor, model))
    assert CLIPSegModelLoader().clipseg_model("tiny")[0][1] is model
    assert CLIPSegModelLoader.VALIDATE_INPUTS(model="a name that is not in the list") is True
    # What ComfyUI asks where the name comes through a link from a node that gives text.
    assert CLIPSegModelLoader.VALIDATE_INPUTS(input_types={"model": "STRING"}) is True
    with pytest.raises(PackError, match="unknown/missing"):
        CLIPSegModelLoader().clipseg_model("unknown/missing")


def test_model_loader_option_labels(folder, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def labels(models_folder: Path) -> dict[str, str]:
        monkeypatch.setattr(_text, "folders", lambda: [models_folder])
        return CLIPSegModelLoader.INPUT_TYPES()["required"]["model"][1]["option_labels"]

    assert labels(tmp_path / "not there")[DEFAULT] == "clipseg-rd64-refined \u2193 605 MB"
    shutil.copytree(folder, tmp_path / "models" / "CIDAS--clipseg-rd64-refined")
    assert labels(tmp_path / "models") == {DEMO: "demo (shapes only)"}


# On the device


class _FakeManagement(types.SimpleNamespace):
    """What of ComfyUI's model management the pack calls, with a device that holds no numbers."""

    def __init__(self) -> None:
        super().__init__(OOM_EXCEPTION=torch.cuda.OutOfMemoryError, loaded=[], emptied=0, half=True)

    def should_use_fp16(self, device: torch.device) -> bool:
        return self.half

    def unet_offload_device(self) -> torch.device:
        return torch.device("cpu")

    def load_models_gpu(self, patchers: list, force_full_load: bool = False) -> None:
        assert force_full_load
        for patcher in patchers:
            patcher.model.device = patcher.load_device
            patcher.model.to(patcher.load_device)
            self.loaded.append(weakref.ref(patcher))

    def soft_empty_cache(self) -> None:
        self.emptied += 1


class _FakePatcher:
    def __init__(self, model: torch.nn.Module, load_device: torch.device, offload_device: torch.device) -> None:
        self.model, self.load_device, self.offload_device = model, load_device, offload_device


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch) -> _FakeManagement:
    management = _FakeManagement()
    comfy = types.ModuleType("comfy")
    comfy.model_management = management
    comfy.model_patcher = types.SimpleNamespace(ModelPatcher=_FakePatcher)
    for name in ("model_management", "model_patcher"):
        monkeypatch.setitem(sys.modules, f"comfy.{name}", getattr(comfy, name))
    monkeypatch.setitem(sys.modules, "comfy", comfy)
    monkeypatch.setattr(host, "device", lambda: torch.device("meta"))
    return management


def test_on_device_moves_half_precision_copy(pair: tuple, comfyui) -> None:
    model = clipseg_engine.copy_with_dtype(pair[1], torch.float32)
    copy_on_device = host.on_device(model, clipseg_engine.copy_with_dtype)
    assert {parameter.device.type for parameter in copy_on_device.parameters()} == {"meta"}
    assert next(copy_on_device.clip.parameters()).dtype == torch.float16
    assert next(copy_on_device.decoder.parameters()).dtype == torch.float32
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("cpu", torch.float32)}

    assert host.on_device(model, clipseg_engine.copy_with_dtype) is copy_on_device
    assert len(comfyui.loaded) == 2 and comfyui.loaded[0]() is comfyui.loaded[1]()
    copy_alive = weakref.ref(copy_on_device)
    del model, copy_on_device
    gc.collect()
    assert copy_alive() is None and comfyui.loaded[0]() is None


def test_on_device_without_half_precision(pair: tuple, comfyui) -> None:
    comfyui.half = False
    copy_on_device = host.on_device(
        clipseg_engine.copy_with_dtype(pair[1], torch.float32), clipseg_engine.copy_with_dtype
    )
    assert {parameter.dtype for parameter in copy_on_device.parameters()} == {torch.float32}


def test_on_device_same_device_returns_model(pair: tuple, comfyui, monkeypatch) -> None:
    monkeypatch.setattr(host, "device", lambda: torch.device("cpu"))
    assert host.on_device(pair[1], clipseg_engine.copy_with_dtype) is pair[1]
    assert comfyui.loaded == []


def test_is_out_of_memory_with_host_exception(comfyui) -> None:
    assert host.is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert not host.is_out_of_memory(ValueError())
    comfyui.OOM_EXCEPTION = Exception  # what old hosts have where torch has no such exception
    assert not host.is_out_of_memory(ValueError())
    host.release_memory()
    assert comfyui.emptied == 1


def test_nodes_on_cuda_match_cpu(cuda: torch.device, pair: tuple, monkeypatch) -> None:
    # Of the model's own size: the random weights would enlarge what resizing in 8 bits rounds otherwise on a GPU.
    image = make_random_image(5, tiny_clipseg.IMAGE_SIZE, tiny_clipseg.IMAGE_SIZE, 3)
    monkeypatch.setattr(host, "device", lambda: cuda)
    for call in (
        lambda: CLIPSegMasking().CLIPSeg_image(image, "cat|dog", pair, "sky"),
        lambda: CLIPSeg().segment_image(image, "cat", 3.0, 0.1, 4, clipseg_model=pair),
    ):
        on_cuda = call()
        with monkeypatch.context() as patch:
            patch.setattr(host, "device", lambda: torch.device("cpu"))
            on_cpu = call()
        for one, other in zip(on_cuda, on_cpu):
            assert one.device.type == "cpu"
            # A step of a color map here and there: the mean tells whether they are the same.
            assert (one - other).abs().mean() < 1e-3
    assert next(pair[1].parameters()).device.type == "cpu"
