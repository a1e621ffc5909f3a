"""Loads the pack as ComfyUI does, once, under the name ``maskwright``, so that tests can import its modules.

Before that it isolates the tests from the machine: they and the processes they start get an empty home folder, no
variables that name models or servers, and no network for the libraries that fetch models.
"""

from __future__ import annotations

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
    # Begun in a shell's background, where Ctrl-C is ignored, also by all that is started from here: yet some tests
    # stop what they start with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
for folder in (TOOLS, ROOT / "tests"):  # for `pack`, and for the helpers beside the tests
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import comfyui  # noqa: E402 - these three are found through the lines above
import fake_cuda  # noqa: E402
from pack import load_pack  # noqa: E402

HOME = Path(tempfile.mkdtemp(prefix="maskwright-test-home-"))
_NAMES_OF_MODELS = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "U2NET_", "REMBG_", "MODEL_CHECKSUM_", "TORCH_HOME", "XDG_")


def _hide_the_machine() -> None:
    """Give this process, and those it starts, an environment without the user's models and settings."""
    host = comfyui.find_comfyui()
    if host.usable:  # it may be in the real home folder
        os.environ["COMFYUI_PATH"], os.environ["COMFYUI_PYTHON"] = str(host.path), str(host.python)
    # For test_real_weights.py alone, which checks the SHA-256 of what it reads there.
    weights = os.environ.get("U2NET_HOME") or os.path.join("~", ".u2net")
    os.environ.setdefault("MASKWRIGHT_REAL_WEIGHTS", os.path.expanduser(weights))
    for name in [name for name in os.environ if name.startswith(_NAMES_OF_MODELS)]:
        del os.environ[name]
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(HOME)
    os.environ["HF_HUB_OFFLINE"] = "1"


_hide_the_machine()
load_pack(ROOT)


class _RootIsNotATestPackage:
    """The root's ``__init__.py`` is ComfyUI's entry; pytest would import it as a package of tests and fail."""

    @staticmethod
    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


needs_cuda = (pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


@pytest.fixture(params=["fake", pytest.param("real", marks=needs_cuda)])
def cuda(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A CUDA device: one that is only pretended (see `fake_cuda`), and a real one where there is one."""
    if request.param == "real":
        with torch.backends.cudnn.flags(allow_tf32=False):  # as exact as a CPU, whose results it is compared with
            yield torch.device("cuda", 0)
    else:
        with fake_cuda.fake_device() as device:
            yield device


@pytest.fixture(scope="session")
def background_removal() -> None:
    """Skips where the Python of the ComfyUI found lacks a package that ImageSegmentation needs."""
    names = ("rembg", "onnxruntime", "pymatting")
    code = f"import importlib.util as u, json; print(json.dumps([n for n in {names} if u.find_spec(n) is None]))"
    python = comfyui.find_comfyui().python
    missing = json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)
    if missing:
        pytest.skip(f"ComfyUI's Python lacks {', '.join(missing)}")


@pytest.fixture
def isolated_model_dirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder for this test alone, for tests that write into it or name models by these variables."""
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
