"""models/rembg.py and models/background_models.py: the same masks as rembg's own, from cached sessions.

Most tests need rembg, onnxruntime and onnx, and are skipped if one of them is missing. They write tiny models; nothing
is downloaded.
"""

from __future__ import annotations

import inspect
import logging
import re
import shutil
import sys
import types
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_onnx
import torch
from fake_host import FakeHost
from maskwright.core import tensors
from maskwright.core.cutout import matting
from maskwright.core.errors import DependencyError, InputError, ModelError
from maskwright.models import background_models, catalog, modnet, modnet_network, onnx_runtime, rembg
from maskwright.models.background_models import DEMO, BackgroundStore
from maskwright.models.store import ModelCache
from PIL import Image

CPU = torch.device("cpu")
# A model that sees four classes: nothing, red, green and blue, whichever is the strongest.
CLASSES = {"weights": [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "bias": [0.5, 0, 0, 0]}


@pytest.fixture(scope="session")
def plain() -> types.ModuleType:
    """rembg itself. Importing it takes a second, and once for each installation up to a minute."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    return pytest.importorskip("rembg")


@pytest.fixture(autouse=True)
def alone(isolated_model_dirs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sessions from other tests."""
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "u2net home"))
    monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")  # for rembg's own way, which checks what it finds
    monkeypatch.setattr(background_models, "_loaded", ModelCache(2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ComfyUI's models/rembg."""
    folder = tmp_path / "models" / "rembg"
    folder.mkdir(parents=True)
    return folder


def make_image(height: int = 60, width: int = 90, channels: int = 3) -> torch.Tensor:
    """Smooth colors, with a bright square."""
    small = torch.rand((1, 4, 5, channels), generator=torch.Generator().manual_seed(0))
    image = tensors.resize_image(small, height, width)[0].clone()
    image[height // 3 : height // 2, width // 3 : width // 2] = 1
    return image


def load(name: str, folder: Path) -> rembg.RembgMasks:
    return background_models.load(name, BackgroundStore([folder]))


def needs(name: str) -> None:
    """Skip where the installed rembg is too old for a model."""
    if name not in rembg._session_classes():
        pytest.skip(f"the installed rembg does not know {name}")


def levels(masks: torch.Tensor) -> np.ndarray:
    return (masks * 255).round().numpy().astype(np.uint8)


# The same as rembg's


@pytest.mark.parametrize("name", [name for name in catalog.REMBG if name != rembg.CLOTHES])
def test_masks_equal_those_of_rembg(
    plain: types.ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import pooch

    model = catalog.REMBG[name]
    known_as = catalog.rembg_name(model)
    needs(known_as)
    file = tiny_onnx.write(folder / f"{known_as}.onnx", model.input_size)
    shutil.copy(file, tmp_path / "copy.onnx")
    (tmp_path / "u2net home").mkdir()
    shutil.copy(file, tmp_path / "u2net home")
    image = make_image()

    with monkeypatch.context() as patched:
        patched.setattr(pooch, "retrieve", lambda *_, **__: pytest.fail("rembg downloads behind our back"))
        found = load(name, folder).predict_masks(image)
    session = plain.new_session(known_as)  # the long way, through its own folders
    expected = plain.remove(tensors.to_pil(image), session=session, only_mask=True)
    assert found.shape == (1, 60, 90)
    assert np.array_equal(levels(found[0]), np.array(expected))
    assert found.max() == 1 and found.std() > 0.1


def test_masks_of_clothes_do_not_mix_classes(plain: types.ModuleType, folder: Path) -> None:
    tiny_onnx.write(folder / "u2net_cloth_seg.onnx", 768, **CLASSES)
    image = torch.zeros(90, 300, 3)
    for part in range(3):  # red, green and blue beside each other, on black
        image[20:70, 60 + 60 * part : 120 + 60 * part, part] = 1
    source = load("u2net_cloth_seg", folder)
    assert source.masks_per_image == 3
    masks = source.predict_masks(image)
    assert masks.shape == (3, 90, 300)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert (masks.sum(0) <= 1).all()
    # In uniform areas they are the colors; rembg's own adds other clothes between blue ones and the background.
    for part in range(3):
        assert torch.equal(masks[part, 25:65, 65:235], image[25:65, 65:235, part])
    theirs = source._session.predict(tensors.to_pil(image))
    assert any(np.array(mask)[:, 190:].any() for mask in theirs[:2])
    assert not masks[:2, :, 190:].any()


def test_masks_of_a_constant_output_are_empty(
    plain: types.ModuleType, folder: Path, recwarn: pytest.WarningsRecorder
) -> None:
    tiny_onnx.write(folder / "u2net.onnx", weights=[[0.0, 0.0, 0.0]])
    masks = load("u2net", folder).predict_masks(make_image())
    assert (masks == 0).all()
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (700, 3)])
@pytest.mark.parametrize("channels", [3, 4])
def test_masks_of_images_of_any_size(
    plain: types.ModuleType, folder: Path, height: int, width: int, channels: int
) -> None:
    tiny_onnx.write(folder / "u2net.onnx")
    image = torch.rand(height, width, channels, generator=torch.Generator().manual_seed(1))
    masks = load("u2net", folder).predict_masks(image)
    assert masks.shape == (1, height, width) and masks.isfinite().all()
    assert torch.equal(masks, load("u2net", folder).predict_masks(image[..., :3]))


def test_masks_of_a_black_image(plain: types.ModuleType, folder: Path) -> None:
    tiny_onnx.write(folder / "u2net.onnx")
    assert (load("u2net", folder).predict_masks(torch.zeros(5, 5, 3)) == 0).all()


# What rembg knows


def test_catalog_agrees_with_rembgs_source(plain: types.ModuleType) -> None:
    kinds = rembg._session_classes()
    for name, model in catalog.REMBG.items():
        kind = kinds.get(catalog.rembg_name(model))
        if kind is None:
            continue  # an older rembg
        source = inspect.getsource(kind.download_models)
        assert re.search(r'"(https://[^"]+)"', source)[1] == model.files[0].url, name
        algorithm, digest = re.search(r'"(md5|sha256):([0-9a-f]+)"', source).groups()
        assert getattr(model.files[0], algorithm) == digest, name


def test_catalog_has_all_local_models_of_rembg(plain: types.ModuleType) -> None:
    kinds = rembg._session_classes()
    ours = {catalog.rembg_name(model) for model in catalog.REMBG.values()}
    local = {name for name, kind in kinds.items() if getattr(kind, "is_local", lambda: True)()}
    # Needs a point as input; the user's own files; needs extra packages.
    not_for_us = {"sam", "u2net_custom", "dis_custom", "ben_custom", "birefnet-general-fp16"}
    assert local - not_for_us <= ours
    assert not ours & (set(kinds) - local)


def test_load_does_not_download_what_this_rembg_cannot_run(
    plain: types.ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = rembg._session_classes()
    monkeypatch.setattr(rembg, "_session_classes", lambda: {"u2net": kinds["u2net"]})
    with pytest.raises(DependencyError, match="does not know the model birefnet-general.*--upgrade rembg"):
        load("birefnet-general", folder)


# Files of the user's own

OWN: dict[str, tuple[str, int | str, str, int]] = {
    "u2net's size": ("mine", 320, "u2net", 320),
    "another size": ("mine", 256, "u2net", 256),
    "IS-Net's size": ("mine", 1024, "isnet-general-use", 1024),
    "any size": ("mine", "side", "u2net", 320),
    "BiRefNet by name": ("my_BiRefNet_v3", 64, "birefnet-general", 64),
    "IS-Net by name": ("isnet-finetuned", 64, "isnet-general-use", 64),
    "the start of a known name": ("u2netp-quantized", 320, "u2netp", 320),
    "half precision of BiRefNet": ("birefnet-general-fp16", 1024, "birefnet-general", 1024),
}


@pytest.mark.parametrize(("name", "side", "like", "seen"), OWN.values(), ids=OWN)
def test_load_runs_own_files_like_the_nearest_model(
    plain: types.ModuleType, folder: Path, name: str, side: int | str, like: str, seen: int
) -> None:
    needs(like)
    tiny_onnx.write(folder / f"{name}.onnx", side)
    image = make_image(50, 40)
    found = load(f"{name}.onnx", folder).predict_masks(image)

    model = catalog.REMBG[like]
    shown = np.array(tensors.to_pil(image).resize((seen, seen), Image.Resampling.LANCZOS)) / 255.0
    red = (shown[..., 0] - model.mean[0]) / model.std[0]
    if like.startswith("birefnet"):
        red = 1 / (1 + np.exp(-red))
    expected = (255 * (red - red.min()) / (red.max() - red.min())).astype(np.uint8)
    expected = Image.fromarray(expected).resize((40, 50), Image.Resampling.LANCZOS)
    assert np.abs(levels(found[0]).astype(int) - np.array(expected).astype(int)).max() <= 2


@pytest.mark.parametrize("size", [64, (48, 96)])
def test_load_recognises_clothes_by_name(plain: types.ModuleType, folder: Path, size: int | tuple[int, int]) -> None:
    tiny_onnx.write(folder / "my cloth model.onnx", size, **CLASSES)
    image = torch.zeros(60, 90, 3)
    image[:, 30:60, 0] = image[:, 60:, 2] = 1  # nothing, red and blue, side by side
    masks = load("my cloth model.onnx", folder).predict_masks(image)
    assert masks.shape == (3, 60, 90)
    assert set(masks.unique().tolist()) == {0.0, 1.0} and not masks[1].any()
    assert masks[0, :, 33:57].all() and masks[2, :, 63:].all() and not masks[:, :, :27].any()


def test_load_rejects_unknown_names_without_importing_rembg(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rembg, "_session_classes", lambda: pytest.fail("rembg was imported"))
    with pytest.raises(InputError, match="model is 'withoutbg'"):
        load("withoutbg", folder)


# Sessions


def test_load_caches_sessions(plain: types.ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_files = []
    opened = onnx_runtime.open_session
    monkeypatch.setattr(onnx_runtime, "open_session", lambda *args: opened_files.append(args[0].name) or opened(*args))
    for name in ("u2net", "u2netp", "silueta"):
        tiny_onnx.write(folder / f"{name}.onnx")
    first = load("u2net", folder)
    assert load("u2net", folder) is first
    load("u2netp", folder)
    assert load("u2net", folder) is first
    load("silueta", folder)
    assert load("u2net", folder) is first
    load("u2netp", folder)  # was dropped: two are kept
    assert opened_files == ["u2net.onnx", "u2netp.onnx", "silueta.onnx", "u2netp.onnx"]


def test_load_reads_a_replaced_file(plain: types.ModuleType, folder: Path) -> None:
    tiny_onnx.write(folder / "u2net.onnx")
    before = load("u2net", folder).predict_masks(make_image())
    tiny_onnx.write(folder / "u2net.onnx", weights=[[0.0, 0.0, -1.0]])
    import os

    os.utime(folder / "u2net.onnx", (1, 1))
    assert not torch.equal(load("u2net", folder).predict_masks(make_image()), before)


def test_load_logs_file_and_provider_once(
    plain: types.ModuleType, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tiny_onnx.write(folder / "u2net.onnx")
    with caplog.at_level(logging.INFO, logger="maskwright"):
        for _ in range(3):
            assert load("u2net", folder).providers == ["CPUExecutionProvider"]
    loaded = [message for message in caplog.messages if message.startswith("Loaded")]
    assert loaded == [f"Loaded u2net for background removal from {file}, running on CPUExecutionProvider"]


def test_release_frees_sessions(plain: types.ModuleType, folder: Path) -> None:
    tiny_onnx.write(folder / "u2net.onnx")
    in_use = load("u2net", folder)
    expected = in_use.predict_masks(make_image())
    inner = weakref.ref(in_use._session.inner_session._session)
    background_models.release()
    assert torch.equal(in_use.predict_masks(make_image()), expected), "a run can go on using its session"
    second = load("u2net", folder)
    assert second is not in_use
    del in_use
    assert inner() is None

    inner = weakref.ref(second._session.inner_session._session)
    del second
    assert inner() is not None
    background_models.release()
    assert inner() is None


# Files that cannot be used

RED_AND_GREEN = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


def cut_short(path: Path) -> None:
    path.write_bytes(tiny_onnx.write(path).read_bytes()[:-60])


FAULTY: dict[str, tuple[Callable[[Path], object], str]] = {
    "not ONNX": (lambda path: path.write_bytes(b"<html>Please log in</html>"), "not an ONNX model, or is incomplete"),
    "cut short": (cut_short, "not an ONNX model, or is incomplete"),
    "empty": (lambda path: path.write_bytes(b""), r"\(0 bytes\)"),
    "another size": (lambda path: tiny_onnx.write(path, 256), "it takes images of 256 x 256, but u2net takes 320"),
    "five channels": (lambda path: tiny_onnx.write(path, 320, [[1.0] * 5]), r"its input is \[1, 5, 320, 320\]"),
    "half precision": (lambda path: tiny_onnx.write(path, half=True), r"its input is tensor\(float16\)"),
    "two maps": (
        lambda path: tiny_onnx.write(path, 320, RED_AND_GREEN),
        "its output has 2 channels, but that of u2net has 1",
    ),
}


@pytest.mark.parametrize(("make", "reason"), FAULTY.values(), ids=FAULTY)
def test_load_names_an_unusable_file_and_the_address_of_a_good_one(
    plain: types.ModuleType, folder: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = folder / "u2net.onnx"
    make(path)
    with pytest.raises(ModelError, match=reason) as caught:
        load("u2net", folder)
    assert str(path) in caught.value.problem
    assert "Delete it and run again" in caught.value.remedy
    assert "releases/download/v0.0.0/u2net.onnx, 175997641 bytes" in caught.value.remedy


@pytest.mark.parametrize(("make", "reason"), [FAULTY["not ONNX"], FAULTY["five channels"]])
def test_load_names_an_unusable_own_file_without_an_address(
    plain: types.ModuleType, folder: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(folder / "mine.onnx")
    with pytest.raises(ModelError, match=reason) as caught:
        load("mine.onnx", folder)
    assert "Replace it with a complete ONNX model" in caught.value.remedy and "https" not in str(caught.value)


def test_load_rejects_clothes_without_four_classes(plain: types.ModuleType, folder: Path) -> None:
    tiny_onnx.write(folder / "u2net_cloth_seg.onnx", 768)
    with pytest.raises(ModelError, match="its output has 1 channels, but that of u2net_cloth_seg has 4"):
        load("u2net_cloth_seg", folder)


@pytest.mark.parametrize("change", [{"ir_version": 99}, {"opset": 99}], ids=str)
def test_load_does_not_call_a_newer_file_broken(plain: types.ModuleType, folder: Path, change: dict[str, int]) -> None:
    import onnx

    path = tiny_onnx.write(folder / "u2net.onnx")
    model = onnx.load(path)
    model.ir_version = change.get("ir_version", model.ir_version)
    model.opset_import[0].version = change.get("opset", 11)
    onnx.save(model, path)
    with pytest.raises(ModelError, match="it needs a newer ONNX Runtime than") as caught:
        load("u2net", folder)
    # In quotes, with a version, if torch uses a GPU.
    assert re.search('pip install --upgrade "?onnxruntime', caught.value.remedy) and "Delete" not in str(caught.value)


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
@pytest.mark.parametrize("name", ["u2net", "birefnet-general"])  # whose sigmoid would hide infinity
def test_masks_rejects_nan_and_infinity(
    plain: types.ModuleType, folder: Path, name: str, value: float, kind: str
) -> None:
    """A single pixel that is not finite is an error, not a mask."""
    needs(name)
    tiny_onnx.write(folder / f"{name}.onnx", catalog.REMBG[name].input_size)
    source = load(name, folder)
    inner = source._session.inner_session._session
    answer = inner.run

    def spoil(*args: object) -> list[np.ndarray]:
        (maps,) = answer(*args)
        maps[0, 0, 5, 7] = value
        return [maps]

    inner.run = spoil
    with pytest.raises(ModelError, match=rf"{name}\.onnx failed .*it returned {kind}"):
        source.predict_masks(make_image())


def test_masks_of_large_logits(plain: types.ModuleType, folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    needs("birefnet-general")
    tiny_onnx.write(folder / "birefnet-general.onnx", 1024, [[1e6, 0.0, 0.0]])
    masks = load("birefnet-general", folder).predict_masks(make_image())
    assert masks.min() == 0 and masks.max() == 1
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_masks_names_the_model_that_fails(
    plain: types.ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_onnx.write(folder / "u2net.onnx")
    source = load("u2net", folder)

    def fail(image: Image.Image) -> None:
        raise ValueError("shapes do not fit")

    monkeypatch.setattr(source._session, "predict", fail, raising=False)
    with pytest.raises(ModelError, match=r"u2net\.onnx failed on an image of 90 x 60 \(shapes do not fit\)"):
        source.predict_masks(make_image())


def numpy_error() -> None:
    np.empty(1 << 58)


def runtime_error() -> None:
    raise RuntimeError("Failed to allocate memory for requested buffer of size 1234")


def pillow_error() -> None:
    raise MemoryError


@pytest.mark.parametrize("fail", [numpy_error, runtime_error, pillow_error])
def test_masks_retries_after_releasing_memory(
    plain: types.ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], None]
) -> None:
    """If the retry fails too, the file is not blamed."""
    tiny_onnx.write(folder / "u2net.onnx")
    source, images = load("u2net", folder), make_image()[None]
    expected = matting.remove_background(images, source)[1]
    predict, failures, host = source._session.predict, [True, False], FakeHost()

    def run_short(image: Image.Image) -> list[Image.Image]:
        if not failures or failures.pop(0):
            fail()
        return predict(image)

    monkeypatch.setattr(source._session, "predict", run_short, raising=False)
    assert torch.equal(matting.remove_background(images, source, host=host)[1], expected)
    assert host.freed == 1
    with pytest.raises(MemoryError, match=r"not enough memory to run .*u2net\.onnx") as caught:
        matting.remove_background(images, source)
    assert "delete" not in str(caught.value).lower()


def test_masks_prints_and_warns_nothing(
    plain: types.ModuleType, folder: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """ONNX Runtime prints to stderr, bypassing Python: oddities of a file, and each error that it also raises."""
    import onnx
    from onnx import TensorProto, helper

    path = folder / "mine.onnx"
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["image", "shape"], ["map"])],
        "fails when it runs",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("shape", TensorProto.INT64, [4], [1, 1, 7, 1]),
            helper.make_tensor("unused", TensorProto.FLOAT, [1], [0.0]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), str(path))
    source = load("mine.onnx", folder)
    with pytest.raises(ModelError, match="cannot be reshaped"):
        source.predict_masks(make_image())
    load(DEMO, folder).predict_masks(make_image())
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


# Without rembg


@pytest.fixture
def broken_rembg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a package `rembg` before the real one, and an onnxruntime that is never asked."""

    def install(source: str) -> None:
        package = tmp_path / "packages" / "rembg"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(source, encoding="utf-8")
        for name in [name for name in sys.modules if name.split(".")[0] == "rembg"]:
            monkeypatch.delitem(sys.modules, name)
        runtime = types.ModuleType("onnxruntime")
        runtime.InferenceSession = object
        monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
        monkeypatch.syspath_prepend(package.parent)

    return install


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys\nsys.exit(1)", "its import calls sys.exit"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise AttributeError('_ARRAY_API not found')", "_ARRAY_API not found"),
        ("raise OSError('libgomp.so.1: cannot open')", "OSError: libgomp.so.1"),
        ("raise RuntimeError('cannot cache function')", "RuntimeError: cannot cache function"),
    ],
    ids=["it exits", "it lacks something", "it is broken", "it lacks a library", "it cannot compile"],
)
def test_load_with_a_broken_rembg_says_what_to_install(
    broken_rembg: Callable[[str], None], folder: Path, source: str, reason: str
) -> None:
    broken_rembg(source)
    with pytest.raises(DependencyError, match=re.escape(reason)) as caught:
        load("u2net", folder)
    assert "-m pip install --upgrade rembg " in caught.value.remedy and "onnxruntime" in caught.value.remedy


def test_load_without_scipy_does_not_blame_rembg(
    broken_rembg: Callable[[str], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_rembg("import scipy.ndimage")
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)  # as if it could not be imported
    with pytest.raises(DependencyError, match="package scipy is missing.*pip install --upgrade scipy") as caught:
        load("u2net", folder)
    assert "rembg" not in str(caught.value)


def test_load_passes_on_an_interrupt_during_the_import(broken_rembg: Callable[[str], None], folder: Path) -> None:
    broken_rembg("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("u2net", folder)


# MODNet


def test_load_of_modnet_needs_no_rembg_and_caches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rembg, "_session_classes", lambda: pytest.fail("rembg was imported"))
    torch.manual_seed(0)
    model = modnet_network.MODNet().eval()
    file = catalog.MODNET["modnet-p"].files[0].name
    torch.save({f"module.{name}": weight for name, weight in model.state_dict().items()}, folder / file)
    image = make_image()
    placed, shown = [], []

    class Host(FakeHost):
        def on_device(self, model: torch.nn.Module, copy_as: Callable) -> torch.nn.Module:
            placed.append(model)
            return copy_as(model, torch.float16)

    def predict(used: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        shown.append(used)
        return images[..., 0]

    monkeypatch.setattr(modnet, "predict", predict)  # what it does has tests of its own
    source = background_models.load("modnet-p", BackgroundStore([folder]), host=Host())
    assert source.masks_per_image == 1
    assert torch.equal(source.predict_masks(image), image[..., 0].unsqueeze(0))
    assert torch.equal(source.predict_masks(image), image[..., 0].unsqueeze(0))
    background_models.load("modnet-p", BackgroundStore([folder]), host=Host()).predict_masks(image)
    assert placed[0] is placed[1] is placed[2], "placed again for each image, and loaded once"
    for (name, weight), used in zip(model.state_dict().items(), shown[0].state_dict().values()):
        assert torch.equal(weight, used), name  # in full precision


def test_release_frees_modnet(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    file = folder / catalog.MODNET["modnet-p"].files[0].name
    torch.save(modnet_network.MODNet().state_dict(), file)
    with caplog.at_level(logging.INFO, logger="maskwright"):
        for _ in range(2):
            source = background_models.load("modnet-p", BackgroundStore([folder]), "cuda")
    assert caplog.messages == [f"Loaded modnet-p for background removal from {file}, running on cuda"]
    model = weakref.ref(source._model)
    del source
    assert model() is not None
    background_models.release()
    assert model() is None


def test_load_names_a_missing_checkpoint(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"modnet_webcam_portrait_matting\.ckpt"):
        load("modnet-w", folder)


def test_masks_of_the_demo_model(plain: types.ModuleType) -> None:
    image = torch.full((200, 200, 3), 0.1)
    image[60:140, 60:140] = torch.tensor([0.9, 0.3, 0.2])
    source = background_models.load(DEMO, BackgroundStore())
    mask = source.predict_masks(image)[0]
    inside = mask[70:130, 70:130].mean()
    assert inside > 0.8 and mask[:40].mean() < 0.2
