"""A bounded, thread-safe cache for things that are slow to load and large to hold. It knows no model."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class ModelCache(Generic[T]):
    """Keeps the ``capacity`` values that were used last; loads each of them once.

    - Many threads that ask for one key at the same time cause one load; the others wait for it.
    - Different keys load at the same time. So for a moment there can be more values in memory than ``capacity``.
    - A load that fails leaves nothing behind. The threads that waited for it get the same error; whoever asks
      later starts a new load.
    - An interrupt (a ``BaseException`` that is no ``Exception``) is meant for the thread that it hits: it passes
      through there, and one of those that waited starts the load again.

    Args:
        capacity: How many values are kept, 1 or more.
        on_evict: Called as ``on_evict(key, value)``, outside the lock, for a value that was just dropped. Whoever
            got the value before may still use it.

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
        """The value of ``key``, from ``load()`` where it is not held.

        Raises:
            RuntimeError: ``load`` asks this cache for the very key that it is loading.
            Exception: Whatever ``load`` raises, here or in the thread that was waited for.
        """
        while True:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
                running = self._loads.get(key)
                if running is None:
                    mine = self._loads[key] = _Load()
                    break
            if running.thread == threading.get_ident():
                raise RuntimeError(f"the load of {key!r} asks for {key!r} itself")
            try:
                return running.future.result()
            except _Abandoned:
                continue  # the thread that loaded was interrupted; perhaps it is our turn now
        return self._load(key, load, mine)

    def clear(self) -> None:
        """Drop every value. Loads that are running go on, and their values are kept."""
        with self._lock:
            dropped = list(self._values.items())
            self._values.clear()
        self._evicted(dropped)

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values

    def __len__(self) -> int:
        with self._lock:
            return len(self._values)

    def _load(self, key: Hashable, load: Callable[[], T], mine: _Load) -> T:
        try:
            value = load()
        except BaseException as error:
            with self._lock:
                del self._loads[key]
            mine.future.set_exception(error if isinstance(error, Exception) else _Abandoned())
            raise
        dropped = []
        with self._lock:
            # In one step, so that nobody can come between and find neither the load nor the value.
            del self._loads[key]
            self._values[key] = value
            while len(self._values) > self.capacity:
                dropped.append(self._values.popitem(last=False))
        mine.future.set_result(value)
        self._evicted(dropped)
        return value

    def _evicted(self, dropped: list[tuple[Hashable, T]]) -> None:
        if self._on_evict is not None:
            for key, value in dropped:
                self._on_evict(key, value)


class _Load:
    """A load that is running: who runs it, and where its result will be."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.future: Future = Future()


class _Abandoned(Exception):
    """The load ended without a value and without an error that would concern those who wait."""
