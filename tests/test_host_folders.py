"""Where ComfyUI keeps models, in each kind of ComfyUI."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from maskwright.nodes import _host as host


class Paths:
    """What the pip-installable ComfyUI has in place of a list."""

    def __init__(self, *paths: str) -> None:
        self.paths = paths

    def __iter__(self):
        yield from self.paths


class Entry:
    """What it has in place of a tuple of folders and extensions."""

    def __init__(self, *paths: str) -> None:
        self.paths = Paths(*paths)

    def __getitem__(self, item: int) -> object:
        return (self.paths, {".safetensors"})[item]


class FolderNames:
    """What it has in place of a dict: it takes no default, and asking for a key with [] registers it."""

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
def mapping_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def put(**kinds: tuple[str, ...]) -> object:
        mapping = MAPPINGS[request.param](**kinds)
        module = SimpleNamespace(folder_names_and_paths=mapping, models_dir=str(tmp_path / "models"))
        monkeypatch.setitem(sys.modules, "folder_paths", module)
        return mapping

    monkeypatch.setattr(host, "running", lambda: True)
    return put


def test_a_kind_that_nobody_registered_is_in_the_models_folder(mapping_of, tmp_path: Path) -> None:
    mapping = mapping_of()
    assert host.model_folders("clipseg") == [tmp_path / "models" / "clipseg"]
    assert mapping.get("clipseg") is None, "looking must not register"


def test_registered_folders_come_first_and_the_models_folder_once(mapping_of, tmp_path: Path) -> None:
    default = tmp_path / "models" / "rembg"
    mapping_of(clipseg=("/big/clipseg",), rembg=(str(default), "/big/rembg"))
    assert host.model_folders("clipseg") == [Path("/big/clipseg"), tmp_path / "models" / "clipseg"]
    assert host.model_folders("rembg") == [default, Path("/big/rembg")]
