"""Models for background removal: which there are, and where their files lie. What loads them is `background`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.engine import Progress
from ..core.errors import InputError, ModelError
from . import catalog, weights

DEMO = "demo: salient object (bundled)"
DEMO_FILE = Path(__file__).resolve().parent / "demo" / "salient.onnx"
FOLDER_KIND = "rembg"  # ComfyUI's models folder for these: listed, searched first, and where downloads go
OTHER_FOLDER_KINDS = ("onnx",)  # folders that hold models of all sorts: only known names are looked for


@dataclass(frozen=True)
class Found:
    """A model's file on this computer.

    Attributes:
        name: What the user chose.
        path: Where the file is.
        model: What the catalogue says of it; None for a file of the user's own.
    """

    name: str
    path: Path
    model: catalog.Model | None


def available(folders: Sequence[Path]) -> list[str]:
    """Names for a list to choose from: the known models, the user's own ONNX files in ``folders``, the demo model.

    Reads only the names of files; loads and fetches nothing. Skips what cannot be read.
    """
    known = {name for model in catalog.BACKGROUND.values() for name in _names_of(model)}
    own = {name for name in _own_files(folders) if name not in known}
    return [*catalog.BACKGROUND, *sorted(own, key=str.casefold), *([DEMO] if DEMO_FILE.is_file() else [])]


def known(name: object) -> catalog.Model | None:
    """The catalogue's model of that name, whether the name is ours or rembg's; None where it has none."""
    if not isinstance(name, str):
        return None
    if name in catalog.BACKGROUND:
        return catalog.BACKGROUND[name]
    return next((model for model in catalog.REMBG.values() if catalog.rembg_name(model) == name), None)


def where(name: str, folders: Sequence[Path] = (), elsewhere: Sequence[Path] = ()) -> Path | None:
    """The file of the model called ``name`` on this computer, None where it is not there. Fetches nothing.

    Raises:
        InputError: There is no model of that name.
    """
    if name == DEMO:
        return DEMO_FILE if os.path.isfile(DEMO_FILE) else None
    model = known(name)
    if model is None:
        return _own_file(name, [Path(folder) for folder in folders])
    paths = (folder / name for folder, name in _places(model, folders, elsewhere))
    return next((path for path in paths if os.path.isfile(path)), None)


def not_on_disk(folders: Sequence[Path] = (), elsewhere: Sequence[Path] = ()) -> list[catalog.Model]:
    """The known models of which `where` finds no file, in the catalogue's order.

    Lists each folder once, however many models there are: this runs whenever the editor asks for the node.
    """
    listed: dict[Path, frozenset[str]] = {}

    def is_there(folder: Path, name: str) -> bool:
        if folder not in listed:
            try:
                listed[folder] = frozenset(os.listdir(folder))
            except OSError:  # is not there, or may not be read
                listed[folder] = frozenset()
        return name.partition("/")[0] in listed[folder] and os.path.isfile(folder / name)

    return [
        model
        for model in catalog.BACKGROUND.values()
        if not any(is_there(folder, name) for folder, name in _places(model, folders, elsewhere))
    ]


def find(
    name: str,
    folders: Sequence[Path] = (),
    elsewhere: Sequence[Path] = (),
    progress: Callable[[int], Progress] | None = None,
) -> Found:
    """The file of the model called ``name``, downloaded where it is nowhere.

    Known models are looked for in ``folders``, in ``elsewhere``, and where rembg keeps its own (``U2NET_HOME``,
    ``REMBG_HOME``, ``~/.u2net``, ``~/.rembg``), under rembg's name and under the name of the published file.

    Args:
        name: One of `available`.
        folders: ComfyUI's ``models/rembg``. A download goes into the first, and into the user's cache folder where
            there are none.
        elsewhere: More folders to look in.
        progress: Called with the bytes of a download, where there is one. See `weights.download_missing`.

    Raises:
        InputError: There is no model of that name.
        ModelError: It is not on this computer and cannot be downloaded.
    """
    folders = [Path(folder) for folder in folders] or [weights.default_folder(FOLDER_KIND)]
    model, path = known(name), where(name, folders, elsewhere)
    if path is None and model is None:
        raise ModelError(f"{DEMO} is not there: {DEMO_FILE} is missing", "Install this node pack again")
    if path is None:
        weights.download_missing(model, folders[0], progress)
        path = folders[0] / model.files[0].name
    return Found(name, path, model)


def _own_file(name: object, folders: Sequence[Path]) -> Path:
    # Compared with what is there, never joined to a path, so no name leads out of the folders.
    for found, path in _own_files(folders).items():
        if name in (found, found.removesuffix(".onnx")):
            return path
    raise InputError(
        f"model is {weights.quote(name)}, which is not a background removal model",
        f"Choose one of: {', '.join(available(folders))}; or put an ONNX file of that name into "
        f"{folders[0] if folders else 'models/rembg'}",
    )


def _own_files(folders: Sequence[Path]) -> dict[str, Path]:
    """The ONNX files in ``folders`` and below, by their names there, written with ``/``; the first of a name counts."""
    own: dict[str, Path] = {}
    for folder in folders:
        for below, files in _folders_below(Path(folder)):
            for file in files:
                path = below / file
                name = path.relative_to(folder).as_posix()
                if file.endswith(".onnx") and os.path.isfile(path) and weights.is_unicode(name):
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


def _names_of(model: catalog.Model) -> list[str]:
    """The names under which a model's file may lie in a folder, best first."""
    file = model.files[0].name
    stem, dot, suffix = file.rpartition(".")
    published = model.files[0].url.rpartition("/")[2]
    names = [file, f"{stem}/{file}", published, f"{model.name}{dot}{suffix}"]
    return list(dict.fromkeys(names))


def _places(model: catalog.Model, folders: Sequence[Path], elsewhere: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Where a model's file may be, best first: a folder, and the file's name in it, written with ``/``."""
    for folder in (*folders, *elsewhere):
        yield from ((Path(folder), name) for name in _names_of(model))
    file = model.files[0].name
    for home in _rembg_homes():
        yield home, file
        yield home, f"models/{Path(file).stem}/{file}"


def _rembg_homes() -> list[Path]:
    """Where the versions of rembg keep their files, as its ``BaseSession`` works it out."""
    data = os.environ.get("XDG_DATA_HOME")
    homes = [
        os.environ.get("U2NET_HOME"),
        os.environ.get("REMBG_HOME"),
        *([os.path.join(data, "rembg"), os.path.join(data, ".u2net")] if data else []),
        os.path.join("~", ".u2net"),
        os.path.join("~", ".rembg"),
    ]
    return [Path(os.path.expanduser(home)) for home in homes if home]  # unchanged for a user without a home
