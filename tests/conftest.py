"""Loads the pack once, as ComfyUI does, under the name ``maskwright``, so that tests can import its modules.

First, it isolates the tests, and the processes they start, from the machine: with an empty home folder, without
environment variables for models or servers, and offline for libraries that download models.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Jobs in a shell's background ignore Ctrl-C, and so do their child processes. Some tests interrupt theirs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
for folder in (TOOLS, ROOT / "tests"):  # for `pack`, and for the helper modules of the tests
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from find_comfyui import find_comfyui  # noqa: E402 - these two need the paths above
from pack import load_pack  # noqa: E402

HOME = Path(tempfile.mkdtemp(prefix="maskwright-test-home-"))
_MODEL_VARIABLES = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "U2NET_", "REMBG_", "MODEL_CHECKSUM_", "TORCH_HOME", "XDG_")


def _isolate_environment() -> None:
    """Hide the user's models and settings from this process and its children."""
    host = find_comfyui()
    if host.usable:  # it may be in the user's home folder
        os.environ["COMFYUI_PATH"], os.environ["COMFYUI_PYTHON"] = str(host.path), str(host.python)
    # For test_real_weights.py alone, which checks the SHA-256 of what it reads there.
    weights = os.environ.get("U2NET_HOME") or os.path.join("~", ".u2net")
    os.environ.setdefault("MASKWRIGHT_REAL_WEIGHTS", os.path.expanduser(weights))
    for name in [name for name in os.environ if name.startswith(_MODEL_VARIABLES)]:
        del os.environ[name]
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(HOME)
    os.environ["HF_HUB_OFFLINE"] = "1"


_isolate_environment()
load_pack(ROOT)
with contextlib.suppress(ImportError):  # tools/gpu_check.py runs tests without hypothesis, too
    import properties  # noqa: F401 - sets the number of examples


class _RootIsNotATestPackage:
    """Keeps pytest from importing the root's ``__init__.py``, which is ComfyUI's entry point, as a test package."""

    @staticmethod
    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


@pytest.fixture(autouse=True)
def forget_imports() -> None:
    """Let each test make the import of a package fail."""
    from maskwright.core import packages

    packages.import_scipy.cache_clear()
    packages.import_pymatting.cache_clear()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """A tiny CLIPSeg with random weights: (processor, model)."""
    pytest.importorskip("transformers")
    import tiny_clipseg

    return tiny_clipseg.make(tmp_path_factory.mktemp("tiny clipseg"))


@pytest.fixture(scope="module")
def segmenter(pair: tuple) -> object:
    from maskwright.core.text import clipseg_engine

    return clipseg_engine.Segmenter(*pair)


@pytest.fixture
def clear_clipseg_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty the text cache, and disable the image cache."""
    from maskwright.core.text import clipseg_engine

    monkeypatch.setattr(clipseg_engine, "_TEXT_CACHE", clipseg_engine.TensorCache(1_000_000))
    monkeypatch.setattr(clipseg_engine, "_IMAGE_CACHE", clipseg_engine.TensorCache(0))


needs_cuda = (pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


@pytest.fixture(params=["fake", pytest.param("real", marks=needs_cuda)])
def cuda(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A CUDA device: a fake one (see `fake_cuda`), and a real one if available."""
    if request.param == "real":
        with torch.backends.cudnn.flags(allow_tf32=False):  # for comparison with the CPU
            yield torch.device("cuda", 0)
    else:
        import fake_cuda  # skips on unknown versions of torch

        with fake_cuda.fake_device() as device:
            yield device


@pytest.fixture(scope="session")
def background_removal() -> None:
    """Skip if ComfyUI's Python lacks a package that ImageSegmentation needs."""
    names = ("rembg", "onnxruntime", "pymatting")
    code = f"import importlib.util as u, json; print(json.dumps([n for n in {names} if u.find_spec(n) is None]))"
    python = find_comfyui().python
    missing = json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)
    if missing:
        pytest.skip(f"ComfyUI's Python lacks {', '.join(missing)}")


@pytest.fixture
def isolated_model_dirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test a home folder of its own, and no variables that name model folders."""
    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_RootIsNotATestPackage())


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
