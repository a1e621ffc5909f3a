"""Finds models on this computer, downloads published ones, and keeps loaded ones.

Each family of models has its own `ModelStore` for files, and its own `ModelCache` for loaded models.
"""

from __future__ import annotations

import os
import re
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from ..core.engine import Progress
from ..core.errors import InputError, ModelError
from . import catalog
from .files import machine_error

T = TypeVar("T")


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


def file_key(path: Path) -> tuple:
    """A cache key for a file. It changes when the file is replaced.

    Raises:
        ModelError: The file is gone or not readable.
        MemoryError: Not enough memory.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise machine_error(path, error) or ModelError(
            f"{path} cannot be read ({error.strerror or error})", "Put the file back, or choose another model"
        ) from error
    return path.resolve(), stat.st_mtime_ns, stat.st_size


class ModelCache(Generic[T]):
    """Keeps the ``capacity`` most recently used values, and loads each of them once.

    - If several threads ask for one key at the same time, one loads it and the others wait.
    - Different keys load at the same time, so there may briefly be more than ``capacity`` values in memory.
    - A failed load leaves nothing behind. Waiting threads get the same error; a later call starts a new load.
    - An interrupt (a ``BaseException`` that is not an ``Exception``) is meant for the thread that it hits: it
      propagates there, and one of the waiting threads starts the load again.

    Args:
        capacity: The number of values to keep, 1 or more.
        on_evict: Called as ``on_evict(key, value)``, outside the lock, for each dropped value. Callers that already
            have the value may still use it.

    Raises:
        ValueError: ``capacity`` is below 1.
    """

    def __init__(self, capacity: int, on_evict: Callable[[Hashable, T], None] | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; a cache keeps at least 1 value")
        self.capacity = capacity
        self._on_evict = on_evict
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, T] = OrderedDict()  # least recently used first
        self._loads: dict[Hashable, _Load] = {}

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """The value of ``key``, from ``load()`` if it is not cached.

        Raises:
            RuntimeError: ``load`` requests the key that it is loading.
            Exception: Any error of ``load``, in this thread or in the one that loads.
        """
        while True:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
                running = self._loads.get(key)
                if running is None:
                    new_load = self._loads[key] = _Load()
                    break
            if running.thread == threading.get_ident():
                raise RuntimeError(f"loading {key!r} requires {key!r} itself")
            try:
                return running.future.result()
            except _Abandoned:
                continue  # the loading thread was interrupted; this one may load instead
        return self._load(key, load, new_load)

    def clear(self) -> None:
        """Drop all values. Running loads go on, and their values are cached."""
        with self._lock:
            evicted = list(self._values.items())
            self._values.clear()
        self._report_evicted(evicted)

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values

    def __len__(self) -> int:
        with self._lock:
            return len(self._values)

    def _load(self, key: Hashable, load: Callable[[], T], new_load: _Load) -> T:
        try:
            value = load()
        except BaseException as error:
            with self._lock:
                del self._loads[key]
            new_load.future.set_exception(error if isinstance(error, Exception) else _Abandoned())
            raise
        evicted = []
        with self._lock:
            # Under one lock: no thread may find neither the load nor the value.
            del self._loads[key]
            self._values[key] = value
            while len(self._values) > self.capacity:
                evicted.append(self._values.popitem(last=False))
        new_load.future.set_result(value)
        self._report_evicted(evicted)
        return value

    def _report_evicted(self, evicted: list[tuple[Hashable, T]]) -> None:
        if self._on_evict is not None:
            for key, value in evicted:
                self._on_evict(key, value)


class _Load:
    """A running load: its thread, and its result."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.future: Future = Future()


class _Abandoned(Exception):
    """The load was interrupted; waiting threads may try again."""
