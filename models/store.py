"""Finds models on this computer, and downloads published ones. Each family of models has its own `ModelStore`."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..core.engine import Progress
from ..core.errors import InputError, ModelError
from . import catalog


@dataclass(frozen=True)
class LocalModel:
    """A model on this computer.

    Attributes:
        name: The name that the user chose.
        path: Its file, or its folder if it has several files.
        model: Its entry in the catalog; None for the user's own model.
    """

    name: str
    path: Path
    model: catalog.Model | None


class ModelStore(ABC):
    """The models of one family: by name, on this computer or from the network.

    Args:
        folders: ComfyUI's folders for such models, searched first. Downloads go into the first; without any, into a
            folder in the user's cache.
        other_folders: Folders with models of all kinds, searched next.
        progress: Called with the number of bytes before a download. See `download.download_missing`.
    """

    KINDS: ClassVar[tuple[str, ...]]
    """ComfyUI's names of the ``folders``; the first is also the name of the folder in the user's cache."""

    def __init__(
        self,
        folders: Sequence[Path] = (),
        other_folders: Sequence[Path] = (),
        progress: Callable[[int], Progress] | None = None,
    ) -> None:
        self.folders = [Path(folder) for folder in folders] or _cache_folders(self.KINDS[0])
        self.other_folders = [Path(folder) for folder in other_folders]
        self.progress = progress

    @abstractmethod
    def available(self) -> list[str]:
        """Names to choose from: published models, the user's own, the demo model.

        Reads file names and settings only; loads and downloads nothing. Skips unreadable files.
        """

    @abstractmethod
    def locate(self, name: str) -> LocalModel | None:
        """The model called ``name``; None if it is not on this computer. Loads and downloads nothing.

        Raises:
            InputError: No model can have that name.
        """

    @abstractmethod
    def find(self, name: str) -> LocalModel:
        """As `locate`, but downloads a missing published model.

        Raises:
            InputError: No model can have that name.
            ModelError: Not on this computer, and not downloadable.
            DependencyError: A package needed for the download is missing or does not work.
        """

    @abstractmethod
    def not_on_disk(self) -> list[catalog.Model]:
        """The published models that `locate` does not find, in the catalog's order."""

    def download_folder(self) -> Path:
        """The folder for downloads.

        Raises:
            ModelError: There is none: no ComfyUI, and the user has no home folder.
        """
        if not self.folders:
            raise ModelError(
                "there is no folder for models: this user has no home folder", "Set XDG_CACHE_HOME to a folder"
            )
        return self.folders[0]


def _cache_folders(kind: str) -> list[Path]:
    """The folder for models without ComfyUI, in the user's cache; none for a user without a home folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [] if cache.startswith("~") else [Path(cache) / "maskwright" / kind]


def check_name(name: object, what: str) -> str:
    """Return ``name`` if it is a plain relative name: ``folder`` or ``folder/folder``.

    Raises:
        InputError: Not text, empty, an absolute path, a drive letter, ``..``, a backslash or a control character.
    """
    remedy = "Use the name of a model, such as org/model, or of a folder with a model; not a path"
    if not isinstance(name, str):
        raise InputError(f"{what} is of type {type(name).__name__}, not a name", remedy)
    problem = None
    if not name.strip():
        problem = "is not a name"
    elif re.search(r"[\x00-\x1f\\:]", name):
        problem = "contains a backslash, a colon or a control character"
    elif not is_unicode(name):
        problem = "contains an invalid character"
    elif name.startswith(("/", "~")):
        problem = "is an absolute path"
    elif any(part in ("", ".", "..") for part in name.split("/")):
        problem = "contains an empty part, '.' or '..'"
    if problem:
        raise InputError(f"{what} is {quote(name)}, which {problem}", remedy)
    return name


def quote(name: object) -> str:
    """Format a name for messages: long ones shortened, and only the type of a value that is not text."""
    if not isinstance(name, str):
        return f"of type {type(name).__name__}"
    return repr(name if len(name) <= 100 else f"{name[:97]}...")


def is_unicode(name: str) -> bool:
    """Whether a name can be sent to the editor and back: on Linux a file name may be arbitrary bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
