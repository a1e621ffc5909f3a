"""rembg's published weights on photographs: the results are rembg's, or closer to the exact solution.

Nothing is downloaded here. `.venv/bin/python tools/fetch_weights.py u2netp u2net` puts the weights where these tests
find them; `MASKWRIGHT_REAL_WEIGHTS` names another folder.
"""

from __future__ import annotations

import functools
import hashlib
import os
import types
from pathlib import Path

import exact_matting
import numpy as np
import photographs
import pytest
import tiny_onnx
from maskwright.models import catalog
from PIL import Image

pytestmark = [pytest.mark.real_weights, pytest.mark.slow]

FOLDER = Path(os.environ["MASKWRIGHT_REAL_WEIGHTS"])
CAMERA = "camera"  # gray: its colors lie on a line


@pytest.fixture(scope="module")
def rembg() -> types.ModuleType:
    pytest.importorskip("onnxruntime", reason="rembg needs onnxruntime")
    return pytest.importorskip("rembg")


@pytest.fixture(params=("u2netp", "u2net"))
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a model whose weights are in `FOLDER`."""
    (file,) = catalog.BACKGROUND[request.param].files
    path = FOLDER / file.name
    if not path.is_file():
        pytest.skip(f"{path} is missing; .venv/bin/python tools/fetch_weights.py {request.param} fetches it")
    if hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
        pytest.skip(f"{path} holds other bytes than the published {file.name}")
    monkeypatch.setenv("U2NET_HOME", str(FOLDER))
    return request.param


@pytest.fixture
def photograph(request: pytest.FixtureRequest) -> np.ndarray:
    """The 8-bit image ``[H,W,3]`` that the parameter names."""
    try:
        return photographs.load(request.param)
    except (OSError, ImportError) as error:  # releases of scikit-image that do not ship it download it
        pytest.skip(f"scikit-image has no {request.param} here ({error})")


every_photograph = pytest.mark.parametrize("photograph", photographs.PHOTOGRAPHS, indirect=True)


def remove_background(photograph: np.ndarray, model: str, edge_width: int) -> np.ndarray:
    """The node's cutout ``[H,W,4]`` as 8-bit levels, rounded as rembg does it. An edge width of 0: without matting."""
    cutouts, _ = photographs.remove_background(photograph, model, edge_width)
    return photographs.round_down(255 * cutouts[0].double().numpy()).astype(np.uint8)


def by_rembg(rembg: types.ModuleType, photograph: np.ndarray, model: str, **settings: object) -> np.ndarray:
    return np.array(rembg.remove(Image.fromarray(photograph), session=session(rembg, model), **settings))


@functools.cache
def session(rembg: types.ModuleType, model: str) -> object:
    return rembg.new_session(model)


@every_photograph
def test_remove_background_equals_rembg(
    rembg: types.ModuleType, photograph: np.ndarray, model: str, capfd: pytest.CaptureFixture
) -> None:
    ours = remove_background(photograph, model, 0)
    assert capfd.readouterr() == ("", "")
    alpha = by_rembg(rembg, photograph, model, only_mask=True)
    assert np.array_equal(ours[..., 3], alpha)
    assert np.array_equal(ours[..., :3], photograph * (alpha > 0)[..., None])
    # rembg darkens the edges of its cutouts: their colors are multiplied by alpha.
    assert np.array_equal(by_rembg(rembg, photograph, model)[..., 3], alpha)


@pytest.mark.parametrize(
    ("photograph", "edge_width"),
    [*((name, 10) for name in photographs.PHOTOGRAPHS), (CAMERA, 40)],
    indirect=["photograph"],
)
def test_remove_background_with_matting_equals_rembg_or_the_exact_solution(
    rembg: types.ModuleType,
    photograph: np.ndarray,
    model: str,
    edge_width: int,
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours = remove_background(photograph, model, edge_width).astype(int)
    assert capfd.readouterr() == ("", "")
    assert "tolerance" not in caplog.text
    theirs = by_rembg(rembg, photograph, model, **photographs.rembg_settings(edge_width)).astype(int)
    if request.node.callspec.params["photograph"] == CAMERA:
        mask = by_rembg(rembg, photograph, model, only_mask=True)
        sure = exact_matting.rembg_trimap(mask, edge_width)
        exact = 255 * exact_matting.solve(photograph[..., 0] / 255, 3, sure)
        error, their_error = (np.abs(alpha[..., 3] - exact) for alpha in (ours, theirs))
        assert error.max() <= 1.5  # 1 of them by rounding down
        assert their_error.max() > 5
        return
    differ = np.abs(ours - theirs)
    assert differ[..., 3].max() <= 2
    if "Alpha matting was skipped" not in caplog.text:  # if it was, rembg darkens the edges again
        assert differ[ours[..., 3] > 0].max() <= 2


@pytest.mark.parametrize("photograph", ["lemur"], indirect=True)
def test_remove_background_comes_near_a_true_alpha(photograph: np.ndarray, model: str) -> None:
    """The numbers that rembg 2.0.86 reaches with the same settings."""
    at_most = {"u2netp": {0: 3.05, 10: 1.81, 20: 1.45}, "u2net": {0: 2.98, 10: 1.64, 20: 1.24}}[model]
    true = photographs.true_alpha()
    for edge_width, limit in at_most.items():
        sad, _ = photographs.sad_mse(remove_background(photograph, model, edge_width)[..., 3], true)
        assert round(sad, 2) <= limit


@pytest.mark.parametrize("photograph", ["lemur"], indirect=True)
def test_an_isnet_file_of_the_users_own_equals_rembg(
    rembg: types.ModuleType,
    photograph: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    """A real one if the folder holds any, else a tiny one with the same interface."""
    from maskwright.nodes import _host as host

    models, home = tmp_path / "models", tmp_path / "home"
    real = next(FOLDER.glob("isnet*.onnx"), None)
    for file in (models / "isnet-own.onnx", home / "isnet-general-use.onnx"):  # ours, and where rembg looks
        file.parent.mkdir()
        if real:
            file.symlink_to(real)
        else:
            tiny_onnx.write(file, 1024)
    monkeypatch.setattr(host, "model_folders", lambda kind: [models])
    ours = remove_background(photograph, "isnet-own.onnx", 0)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("U2NET_HOME", str(home))
    monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")
    alpha = by_rembg(rembg, photograph, "isnet-general-use", only_mask=True)
    assert np.array_equal(ours[..., 3], alpha)
    assert 0 < (alpha > 127).mean() < 1
