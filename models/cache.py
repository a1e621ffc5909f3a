"""A bounded, thread-safe cache for loaded models, and the keys for their files."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, TypeVar

from ..core.errors import ModelError
from .files import machine_error

T = TypeVar("T")


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
