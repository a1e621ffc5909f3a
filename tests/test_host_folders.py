"""Model folders in each kind of ComfyUI."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from maskwright.nodes import _host as host


class Paths:
    """The pip-installable ComfyUI's replacement for a list."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    def __iter__(self):
        yield from self.paths


class Entry:
    """Its replacement for a tuple of folders and extensions."""

    def __init__(self, *paths: str) -> None:
        self.paths = Paths(*paths)

    def __getitem__(self, item: int) -> object:
        return (self.paths, {".safetensors"})[item]


class FolderNames:
    """Its replacement for a dict: `get` accepts no default, and ``[]`` registers missing keys."""

    def __init__(self, **entries: Entry) -> None:
        self.entries = entries

    def get(self, key: str, default: object = None) -> Entry | None:
        if key not in self.entries and default is not None:
            raise ValueError("get with default is not supported")
        return self.entries.get(key)

    def __getitem__(self, key: str) -> Entry:
        return self.entries.setdefault(key, Entry())


MAPPINGS = {
    "dict": lambda **kinds: {kind: ([*paths], {".safetensors"}) for kind, paths in kinds.items()},
    "pip-installable": lambda **kinds: FolderNames(**{kind: Entry(*paths) for kind, paths in kinds.items()}),
}


@pytest.fixture(params=MAPPINGS)
def set_folders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def set_mapping(**kinds: tuple[str, ...]) -> object:
        mapping = MAPPINGS[request.param](**kinds)
        module = SimpleNamespace(folder_names_and_paths=mapping, models_dir=str(tmp_path / "models"))
        monkeypatch.setitem(sys.modules, "folder_paths", module)
        return mapping

    monkeypatch.setattr(host, "running", lambda: True)
    return set_mapping


def test_model_folders_of_unregistered_kind(set_folders, tmp_path: Path) -> None:
    mapping = set_folders()
    assert host.model_folders("clipseg") == [tmp_path / "models" / "clipseg"]
    assert mapping.get("clipseg") is None, "reading must not register the kind"


def test_model_folders_registered_first_without_duplicates(set_folders, tmp_path: Path) -> None:
    default = tmp_path / "models" / "rembg"
    set_folders(clipseg=("/big/clipseg",), rembg=(str(default), "/big/rembg"))
    assert host.model_folders("clipseg") == [Path("/big/clipseg"), tmp_path / "models" / "clipseg"]
    assert host.model_folders("rembg") == [default, Path("/big/rembg")]
