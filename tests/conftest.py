"""Loads the pack as ComfyUI does, once, under the name ``maskwright``, so that tests can import its modules."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network behind our back
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in a shell's background, where Ctrl-C is ignored, also by all that is started from here: yet some tests
    # stop what they start with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
for folder in (TOOLS, ROOT / "tests"):  # for `pack`, and for the helpers beside the tests
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from pack import load_pack  # noqa: E402 - found through the lines above

load_pack(ROOT)


class _RootIsNotATestPackage:
    """The root's ``__init__.py`` is ComfyUI's entry; pytest would import it as a package of tests and fail."""

    @staticmethod
    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


@pytest.fixture
def nobodys_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and none of the models that lie on this computer."""
    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_RootIsNotATestPackage())
