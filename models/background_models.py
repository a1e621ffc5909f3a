"""Models for background removal by name: finds and loads them, on ONNX Runtime with rembg, or on PyTorch (MODNet).

Each is one file: ONNX for rembg, a checkpoint for MODNet.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ..core.batching import STANDALONE_HOST
from ..core.engine import Host, MaskSource
from ..core.errors import InputError, ModelError
from . import catalog, download, modnet, rembg
from .store import LocalModel, ModelCache, ModelStore, file_key, is_unicode, quote

DEMO = catalog.BACKGROUND_DEMO
DEMO_FILE = Path(__file__).resolve().parent / "demo" / "salient.onnx"
OTHER_KINDS = ("onnx",)  # ComfyUI's folders with models of all kinds: only published models are searched there
logger = logging.getLogger(__name__)

_loaded: ModelCache[MaskSource] = ModelCache(capacity=2)


def load(
    name: str, store: BackgroundStore, device: torch.device | str = "cpu", host: Host = STANDALONE_HOST
) -> MaskSource:
    """The model called ``name``, ready to run. It is loaded once and cached.

    Args:
        device: Device for ONNX Runtime. PyTorch models run where ``host`` moves them.
        host: Moves models to the device, and frees memory if a model does not fit.

    Raises:
        InputError: No such model.
        ModelError: Its file is missing and cannot be downloaded, is broken, or is not readable.
        MemoryError: Not enough memory for it.
        DependencyError: rembg or onnxruntime is missing, too old or does not work.
    """
    local = store.locate(name)
    if local is None:
        model = published_model(name)
        if model is not None and model.name in catalog.REMBG:
            rembg.check_support(model)  # before a download of up to 1 GB
        local = store.find(name)
    key = (*file_key(local.path), local.model, str(device))
    return _loaded.get(key, lambda: _load(local, torch.device(device), host))


def _load(local: LocalModel, device: torch.device, host: Host) -> MaskSource:
    if local.model is not None and local.model.name in catalog.MODNET:
        source, runs_on = modnet.ModnetMasks(modnet.load_modnet(local.path), host), str(device)
    else:
        source = rembg.load(local, device, host)
        runs_on = source.providers[0]
    logger.info("Loaded %s for background removal from %s, running on %s", local.name, local.path, runs_on)
    return source


def release() -> None:
    """Drop all cached models. A model in use stays valid; its memory is freed when the caller drops it."""
    _loaded.clear()


class BackgroundStore(ModelStore):
    """Models for background removal.

    Published models are searched in the folders and in rembg's own (``U2NET_HOME``, ``REMBG_HOME``,
    ``~/.u2net``, ``~/.rembg``), by rembg's name and by the name of the published file. The user's own ONNX files are
    searched in ``folders`` and below.
    """

    KINDS = ("rembg",)

    def available(self) -> list[str]:
        published = {name for model in catalog.BACKGROUND.values() for name in _file_names(model)}
        own = [name for name in _own_files(self.folders) if name not in published]
        return [*catalog.BACKGROUND, *sorted(own, key=str.casefold), *([DEMO] if DEMO_FILE.is_file() else [])]

    def locate(self, name: str) -> LocalModel | None:
        if name == DEMO:
            return LocalModel(name, DEMO_FILE, None) if os.path.isfile(DEMO_FILE) else None
        model = published_model(name)
        if model is None:
            return LocalModel(name, self._own_file(name), None)
        for folder, file in self._places(model):
            if os.path.isfile(folder / file):
                return LocalModel(name, folder / file, model)
        return None

    def find(self, name: str) -> LocalModel:
        local = self.locate(name)
        if local is not None:
            return local
        model = published_model(name)
        if model is None:
            raise ModelError(f"{DEMO} cannot be loaded: {DEMO_FILE} is missing", "Install this node pack again")
        folder = self.download_folder()
        download.download_missing(model, folder, self.progress)
        return LocalModel(name, folder / model.files[0].name, model)

    def not_on_disk(self) -> list[catalog.Model]:
        # Lists each folder once for all models: this runs whenever the editor asks for the node.
        listings: dict[Path, frozenset[str]] = {}

        def exists(folder: Path, file: str) -> bool:
            if folder not in listings:
                try:
                    listings[folder] = frozenset(os.listdir(folder))
                except OSError:  # missing or unreadable
                    listings[folder] = frozenset()
            return file.partition("/")[0] in listings[folder] and os.path.isfile(folder / file)

        models = catalog.BACKGROUND.values()
        return [model for model in models if not any(exists(*place) for place in self._places(model))]

    def _places(self, model: catalog.Model) -> Iterator[tuple[Path, str]]:
        """Where a published model may be, best first: a folder, and the file's name in it, written with ``/``."""
        for folder in (*self.folders, *self.other_folders):
            yield from ((folder, name) for name in _file_names(model))
        file = model.files[0].name
        for home in _rembg_homes():
            yield home, file
            yield home, f"models/{Path(file).stem}/{file}"

    def _own_file(self, name: object) -> Path:
        # Compared with existing names, never joined to a path, so no name leads out of the folders.
        for own_name, path in _own_files(self.folders).items():
            if name in (own_name, own_name.removesuffix(".onnx")):
                return path
        raise InputError(
            f"model is {quote(name)}, which is not a background removal model",
            f"Choose one of: {', '.join(self.available())}; or put an ONNX file of that name in "
            f"{self.folders[0] if self.folders else 'models/rembg'}",
        )


def published_model(name: object) -> catalog.Model | None:
    """The catalog's model with that name, ours or rembg's; None if there is none."""
    if not isinstance(name, str):
        return None
    if name in catalog.BACKGROUND:
        return catalog.BACKGROUND[name]
    return next((model for model in catalog.REMBG.values() if catalog.rembg_name(model) == name), None)


def _own_files(folders: Sequence[Path]) -> dict[str, Path]:
    """The ONNX files in ``folders`` and below, by their relative names with ``/``. The first file of each name wins."""
    own: dict[str, Path] = {}
    for top in folders:
        for folder, files in _folders_below(top):
            for file in files:
                path = folder / file
                name = path.relative_to(top).as_posix()
                if file.endswith(".onnx") and os.path.isfile(path) and is_unicode(name):
                    own.setdefault(name, path)
    return own


def _folders_below(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """``top`` and the folders below it, with their files: each folder once, since links may form a cycle.

    Folders reached without links come first, so that a new link does not change the names of files.
    """
    visited: set[str] = set()
    starts = [os.fspath(top)]
    while starts:
        inner: list[str] = []
        for folder, names, files in (each for start in starts for each in os.walk(start)):
            real = os.path.realpath(folder)
            if real in visited:
                names.clear()
                continue
            visited.add(real)
            names.sort()
            inner += [os.path.join(folder, name) for name in names]  # os.walk does not follow links
            yield Path(folder), sorted(files)
        starts = [each for each in inner if os.path.realpath(each) not in visited]


def _file_names(model: catalog.Model) -> list[str]:
    """The names that a model's file may have in a folder, best first."""
    file = model.files[0].name
    stem, dot, suffix = file.rpartition(".")
    published = model.files[0].url.rpartition("/")[2]
    names = [file, f"{stem}/{file}", published, f"{model.name}{dot}{suffix}"]
    return list(dict.fromkeys(names))


def _rembg_homes() -> list[Path]:
    """The folders where versions of rembg keep their files, in the order of its ``BaseSession``."""
    data = os.environ.get("XDG_DATA_HOME")
    homes = [
        os.environ.get("U2NET_HOME"),
        os.environ.get("REMBG_HOME"),
        *([os.path.join(data, "rembg"), os.path.join(data, ".u2net")] if data else []),
        os.path.join("~", ".u2net"),
        os.path.join("~", ".rembg"),
    ]
    return [Path(os.path.expanduser(home)) for home in homes if home]  # unchanged for a user without a home
