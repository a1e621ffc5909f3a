"""The chunked loop: order, out-of-memory retries, interrupts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_host import FakeHost
from maskwright.core.batching import run_in_chunks


class Counter:
    def __init__(self) -> None:
        self.steps = 0

    def step(self, count: int = 1) -> None:
        self.steps += count


def run(total: int, size: int, work: Callable, host: FakeHost | None = None, shrink: Callable = lambda: False) -> None:
    """Run all chunks with the host's progress bar."""
    host = host or FakeHost()
    for entries, _ in run_in_chunks(total, size, work, host, host.bar, shrink):
        assert entries.stop <= total


class Work:
    """Records its chunks, and fails for more than ``capacity`` entries at a time."""

    def __init__(self, capacity: int = 1000, error: type[BaseException] = MemoryError) -> None:
        self.capacity, self.error = capacity, error
        self.entries_done: list[int] = []
        self.sizes_tried: list[int] = []

    def __call__(self, entries: slice) -> None:
        self.sizes_tried.append(entries.stop - entries.start)
        if entries.stop - entries.start > self.capacity:
            raise self.error("the device is full")
        self.entries_done += range(entries.start, entries.stop)


@pytest.mark.parametrize(("total", "size"), [(0, 4), (1, 4), (4, 4), (9, 4), (3, 1)])
def test_run_in_chunks_visits_entries_once_in_order(total: int, size: int) -> None:
    work, counter = Work(), Counter()
    run(total, size, work, FakeHost(counter))
    assert work.entries_done == list(range(total))
    assert max(work.sizes_tried, default=0) <= size
    assert counter.steps == total


def test_run_in_chunks_halves_chunks_when_out_of_memory() -> None:
    work, counter = Work(capacity=2), Counter()
    host = FakeHost(counter)
    run(11, 8, work, host)
    assert work.entries_done == list(range(11))
    assert work.sizes_tried == [8, 4, 2, 2, 2, 2, 2, 1]
    assert counter.steps == 11
    assert host.freed == 2


def test_run_in_chunks_shrinks_single_entries() -> None:
    work = Work(capacity=0)

    def shrink() -> bool:
        work.capacity = 1
        return True

    run(2, 1, work, shrink=shrink)
    assert work.entries_done == [0, 1]
    assert work.sizes_tried == [1, 1, 1]


def test_run_in_chunks_raises_if_single_entry_does_not_fit() -> None:
    counter = Counter()
    with pytest.raises(MemoryError, match="the device is full"):
        run(4, 4, Work(capacity=0), FakeHost(counter))
    assert counter.steps == 0


def test_run_in_chunks_propagates_other_errors() -> None:
    for error in (ValueError, KeyboardInterrupt):
        work, host = Work(capacity=0, error=error), FakeHost()
        with pytest.raises(error):
            run(4, 4, work, host)
        assert work.sizes_tried == [4]
        assert host.freed == 0


def test_run_in_chunks_interrupts_between_chunks() -> None:
    class Stopped(BaseException):
        pass

    class Interrupting:
        def step(self, count: int = 1) -> None:
            raise Stopped

    work = Work()
    with pytest.raises(Stopped):
        run(6, 2, work, FakeHost(Interrupting()))
    assert work.entries_done == [0, 1]


def test_run_in_chunks_frees_memory_of_failed_chunk() -> None:
    alive: list[int] = []

    class Allocation:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    alive_at_retry = []

    def work(entries: slice) -> None:
        allocation = Allocation()
        if entries.stop - entries.start > 1:
            raise MemoryError(allocation)

    run(2, 2, work, FakeHost(free=lambda: alive_at_retry.append(len(alive))))
    assert alive_at_retry == [0]
