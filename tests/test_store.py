"""models/store.py, the cache: how often values are loaded, by which thread, and which ones stay."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from maskwright.core.errors import ModelError
from maskwright.models.store import ModelCache, file_key

LONG = 20  # seconds; only ever waited for in full when a test fails


class Interrupt(BaseException):
    """As the host's own interrupt on new hosts: no Exception."""


class Loader:
    """Counts its loads; while ``hold`` is on, a load waits until `release`."""

    def __init__(self, hold: bool = False) -> None:
        self.count = 0
        self.started = threading.Event()
        self.released = threading.Event()
        if not hold:
            self.released.set()

    def __call__(self) -> object:
        self.count += 1
        self.started.set()
        assert self.released.wait(LONG)
        return object()

    def release(self) -> None:
        self.released.set()


def ask_while_loading(threads: ThreadPoolExecutor, cache: ModelCache, load: Loader, ask, count: int) -> list[Future]:
    """``ask()`` in one thread, and once its load has started in ``count - 1`` more; the load ends when all wait."""
    answers = [threads.submit(ask)]
    assert load.started.wait(LONG)
    future, waiting = cache._loads["a"].future, threading.Semaphore(0)
    result = future.result

    def announced_result() -> object:
        waiting.release()
        return result()

    future.result = announced_result
    answers += [threads.submit(ask) for _ in range(count - 1)]
    for _ in range(count - 1):
        assert waiting.acquire(timeout=LONG)
    load.release()
    return answers


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


def test_get_drops_the_least_recently_used() -> None:
    evicted = []
    cache = ModelCache(2, on_evict=lambda key, value: evicted.append((key, value)))
    cache.get("a", lambda: 1)
    cache.get("b", lambda: 2)
    cache.get("a", lambda: 0)  # used again: now b is the oldest
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


def test_clear_drops_everything() -> None:
    evicted = []
    cache = ModelCache(3, on_evict=lambda key, value: evicted.append(key))
    cache.get("a", lambda: 1)
    cache.get("b", lambda: 2)
    cache.clear()
    assert len(cache) == 0 and evicted == ["a", "b"]


def test_cache_rejects_a_capacity_below_1() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        ModelCache(0)


def test_get_from_many_threads_loads_once() -> None:
    cache, load = ModelCache(1), Loader(hold=True)
    with ThreadPoolExecutor(8) as threads:
        answers = ask_while_loading(threads, cache, load, lambda: cache.get("a", load), 8)
        values = {id(answer.result(LONG)) for answer in answers}
    assert load.count == 1 and len(values) == 1


def test_get_loads_different_keys_at_the_same_time() -> None:
    cache, meeting = ModelCache(2), threading.Barrier(2)  # each load ends only when the other has begun
    with ThreadPoolExecutor(2) as threads:
        for answer in [threads.submit(cache.get, key, lambda: meeting.wait(LONG)) for key in "ab"]:
            answer.result(LONG)
    assert len(cache) == 2


def test_get_returns_a_cached_value_while_another_loads() -> None:
    cache, load = ModelCache(2), Loader(hold=True)
    cache.get("a", lambda: 1)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(cache.get, "b", load)
        assert load.started.wait(LONG)
        assert cache.get("a", lambda: 0) == 1  # would hang if the lock were held during a load
        load.release()
        answer.result(LONG)


def test_get_retries_after_a_failed_load() -> None:
    cache = ModelCache(1)
    cache.get("kept", lambda: 1)

    def fail() -> None:
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        cache.get("a", fail)
    assert "a" not in cache and "kept" in cache  # nor was anything dropped for it
    assert cache.get("a", lambda: 2) == 2


def test_get_raises_the_error_in_waiting_threads() -> None:
    cache, load = ModelCache(1), Loader(hold=True)

    def fail() -> None:
        load()
        raise OSError("the disk is gone")

    with ThreadPoolExecutor(4) as threads:
        answers = ask_while_loading(threads, cache, load, lambda: cache.get("a", fail), 4)
        errors = [answer.exception(LONG) for answer in answers]
    assert load.count == 1
    assert [str(error) for error in errors] == ["the disk is gone"] * 4
    assert len(cache) == 0


def test_get_continues_in_another_thread_after_an_interrupt() -> None:
    cache, load = ModelCache(1), Loader(hold=True)

    def interrupted_at_first() -> object:
        value = load()
        if load.count == 1:
            raise Interrupt
        return value

    with ThreadPoolExecutor(4) as threads:
        answers = ask_while_loading(threads, cache, load, lambda: cache.get("a", interrupted_at_first), 4)
        errors = [answer.exception(LONG) for answer in answers]
        values = {id(answer.result()) for answer, error in zip(answers, errors) if error is None}
    assert sorted(type(error).__name__ for error in errors) == ["Interrupt"] + ["NoneType"] * 3
    assert load.count == 2 and len(values) == 1


def test_get_passes_on_interrupts() -> None:
    cache = ModelCache(1)

    def interrupt() -> None:
        raise Interrupt

    with pytest.raises(Interrupt):
        cache.get("a", interrupt)
    assert "a" not in cache
    assert cache.get("a", lambda: 1) == 1


def test_get_rejects_a_load_that_asks_for_itself() -> None:
    cache = ModelCache(1)
    with pytest.raises(RuntimeError, match="loading 'a' requires 'a'"):
        cache.get("a", lambda: cache.get("a", lambda: 1))
    assert cache.get("a", lambda: 2) == 2


def test_file_key_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"one")
    first = file_key(path)
    assert file_key(path) == first
    os.utime(path, (1, 1))
    touched = file_key(path)
    path.write_bytes(b"three")
    os.utime(path, (1, 1))
    assert len({first, touched, file_key(path)}) == 3
    (tmp_path / "link.onnx").symlink_to(path)
    assert file_key(tmp_path / "link.onnx") == file_key(path)


def test_file_key_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx cannot be read \(No such file"):
        file_key(tmp_path / "model.onnx")


def test_file_key_of_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ModelError, match=r"model\.onnx is not readable .*permission to read"):
        file_key(tmp_path / "model.onnx")
