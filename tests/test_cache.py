"""The model cache: loads, eviction, threads, errors and interrupts."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from maskwright.models.cache import ModelCache

TIMEOUT = 20  # seconds; reached only if a test fails


class Interrupt(BaseException):
    """Not an `Exception`, like the interrupt of newer hosts."""


class Loader:
    """Counts its calls. If ``blocked``, they wait for `release`."""

    def __init__(self, blocked: bool = False) -> None:
        self.count = 0
        self.started = threading.Event()
        self.released = threading.Event()
        if not blocked:
            self.released.set()

    def __call__(self) -> object:
        self.count += 1
        self.started.set()
        assert self.released.wait(TIMEOUT)
        return object()

    def release(self) -> None:
        self.released.set()


def call_while_loading(threads: ThreadPoolExecutor, cache: ModelCache, load: Loader, call, count: int) -> list[Future]:
    """Call ``call()`` in one thread and, during its load, in ``count - 1`` more. The load ends once all are waiting."""
    futures = [threads.submit(call)]
    assert load.started.wait(TIMEOUT)
    future, waiting = cache._loads["a"].future, threading.Semaphore(0)
    result = future.result

    def signal_and_wait() -> object:
        waiting.release()
        return result()

    future.result = signal_and_wait
    futures += [threads.submit(call) for _ in range(count - 1)]
    for _ in range(count - 1):
        assert waiting.acquire(timeout=TIMEOUT)
    load.release()
    return futures


def test_get_loads_once() -> None:
    cache, load = ModelCache(2), Loader()
    first = cache.get("a", load)
    assert cache.get("a", load) is first
    assert load.count == 1
    assert "a" in cache and len(cache) == 1


def test_get_caches_none() -> None:
    cache, calls = ModelCache(1), []
    for _ in range(2):
        assert cache.get("a", lambda: calls.append(1)) is None
    assert len(calls) == 1


def test_get_evicts_least_recently_used() -> None:
    evicted = []
    cache = ModelCache(2, on_evict=lambda key, value: evicted.append((key, value)))
    cache.get("a", lambda: 1)
    cache.get("b", lambda: 2)
    cache.get("a", lambda: 0)  # now b is the least recently used
    cache.get("c", lambda: 3)
    assert evicted == [("b", 2)]
    assert ("a" in cache, "b" in cache, "c" in cache) == (True, False, True)
    assert cache.get("b", lambda: 4) == 4  # loaded again
    assert evicted == [("b", 2), ("a", 1)]


def test_on_evict_may_use_the_cache() -> None:
    cache = ModelCache(1, on_evict=lambda key, value: sizes.append(len(cache)))
    sizes: list[int] = []
    cache.get("a", lambda: 1)
    cache.get("b", lambda: 2)
    assert sizes == [1]


def test_clear_evicts_everything() -> None:
    evicted = []
    cache = ModelCache(3, on_evict=lambda key, value: evicted.append(key))
    cache.get("a", lambda: 1)
    cache.get("b", lambda: 2)
    cache.clear()
    assert len(cache) == 0 and evicted == ["a", "b"]


def test_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        ModelCache(0)


def test_get_loads_once_for_concurrent_threads() -> None:
    cache, load = ModelCache(1), Loader(blocked=True)
    with ThreadPoolExecutor(8) as threads:
        futures = call_while_loading(threads, cache, load, lambda: cache.get("a", load), 8)
        values = {id(future.result(TIMEOUT)) for future in futures}
    assert load.count == 1 and len(values) == 1


def test_get_loads_different_keys_concurrently() -> None:
    cache, meeting = ModelCache(2), threading.Barrier(2)  # each load ends only after the other has started
    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(cache.get, key, lambda: meeting.wait(TIMEOUT)) for key in "ab"]:
            future.result(TIMEOUT)
    assert len(cache) == 2


def test_get_returns_cached_value_during_other_load() -> None:
    cache, load = ModelCache(2), Loader(blocked=True)
    cache.get("a", lambda: 1)
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(cache.get, "b", load)
        assert load.started.wait(TIMEOUT)
        assert cache.get("a", lambda: 0) == 1  # would hang if the lock were held during a load
        load.release()
        future.result(TIMEOUT)


def test_get_retries_after_failed_load() -> None:
    cache = ModelCache(1)
    cache.get("kept", lambda: 1)

    def fail() -> None:
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        cache.get("a", fail)
    assert "a" not in cache and "kept" in cache  # and nothing was evicted for it
    assert cache.get("a", lambda: 2) == 2


def test_get_raises_failed_load_in_waiting_threads() -> None:
    cache, load = ModelCache(1), Loader(blocked=True)

    def fail() -> None:
        load()
        raise OSError("the disk is gone")

    with ThreadPoolExecutor(4) as threads:
        futures = call_while_loading(threads, cache, load, lambda: cache.get("a", fail), 4)
        errors = [future.exception(TIMEOUT) for future in futures]
    assert load.count == 1
    assert [str(error) for error in errors] == ["the disk is gone"] * 4
    assert len(cache) == 0


def test_get_interrupted_load_is_retried_by_another_thread() -> None:
    cache, load = ModelCache(1), Loader(blocked=True)

    def interrupted_at_first() -> object:
        value = load()
        if load.count == 1:
            raise Interrupt
        return value

    with ThreadPoolExecutor(4) as threads:
        futures = call_while_loading(threads, cache, load, lambda: cache.get("a", interrupted_at_first), 4)
        errors = [future.exception(TIMEOUT) for future in futures]
        values = {id(future.result()) for future, error in zip(futures, errors) if error is None}
    assert sorted(type(error).__name__ for error in errors) == ["Interrupt"] + ["NoneType"] * 3
    assert load.count == 2 and len(values) == 1


def test_get_propagates_interrupts() -> None:
    cache = ModelCache(1)

    def interrupt() -> None:
        raise Interrupt

    with pytest.raises(Interrupt):
        cache.get("a", interrupt)
    assert "a" not in cache
    assert cache.get("a", lambda: 1) == 1


def test_get_recursive_load_raises() -> None:
    cache = ModelCache(1)
    with pytest.raises(RuntimeError, match="'a' asks for 'a'"):
        cache.get("a", lambda: cache.get("a", lambda: 1))
    assert cache.get("a", lambda: 2) == 2
