"""core/batching.py: what is done and in which order, when memory runs out, when the user stops it."""

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
    """All chunks; the host's bar gets the steps."""
    host = host or FakeHost()
    for entries, _ in run_in_chunks(total, size, work, host, host.bar, shrink):
        assert entries.stop <= total


class Work:
    """Remembers the slices it was given; has memory for ``fits`` entries at a time."""

    def __init__(self, fits: int = 1000, error: type[BaseException] = MemoryError) -> None:
        self.fits, self.error = fits, error
        self.done: list[int] = []
        self.tried: list[int] = []

    def __call__(self, entries: slice) -> None:
        self.tried.append(entries.stop - entries.start)
        if entries.stop - entries.start > self.fits:
            raise self.error("the device is full")
        self.done += range(entries.start, entries.stop)


@pytest.mark.parametrize(("total", "at_once"), [(0, 4), (1, 4), (4, 4), (9, 4), (3, 1)])
def test_every_entry_once_and_in_order(total: int, at_once: int) -> None:
    work, counter = Work(), Counter()
    run(total, at_once, work, FakeHost(counter))
    assert work.done == list(range(total))
    assert max(work.tried, default=0) <= at_once
    assert counter.steps == total


def test_the_chunk_halves_when_memory_runs_out_and_stays_small() -> None:
    work, counter = Work(fits=2), Counter()
    host = FakeHost(counter)
    run(11, 8, work, host)
    assert work.done == list(range(11))
    assert work.tried == [8, 4, 2, 2, 2, 2, 2, 1]
    assert counter.steps == 11
    assert host.freed == 2


def test_a_single_entry_that_does_not_fit_is_made_smaller() -> None:
    work = Work(fits=0)

    def shrink() -> bool:
        work.fits = 1
        return True

    run(2, 1, work, shrink=shrink)
    assert work.done == [0, 1]
    assert work.tried == [1, 1, 1]


def test_a_single_entry_that_cannot_be_made_smaller_raises_what_it_raised() -> None:
    counter = Counter()
    with pytest.raises(MemoryError, match="the device is full"):
        run(4, 4, Work(fits=0), FakeHost(counter))
    assert counter.steps == 0


def test_other_errors_and_interrupts_pass_at_once() -> None:
    for error in (ValueError, KeyboardInterrupt):
        work, host = Work(fits=0, error=error), FakeHost()
        with pytest.raises(error):
            run(4, 4, work, host)
        assert work.tried == [4]
        assert host.freed == 0


def test_an_interrupt_takes_effect_between_chunks() -> None:
    class Stopped(BaseException):
        pass

    class Stops:
        def step(self, count: int = 1) -> None:
            raise Stopped

    work = Work()
    with pytest.raises(Stopped):
        run(6, 2, work, FakeHost(Stops()))
    assert work.done == [0, 1]


def test_memory_of_a_failed_try_is_free_before_the_next() -> None:
    alive: list[int] = []

    class Held:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    seen = []

    def work(entries: slice) -> None:
        held = Held()
        if entries.stop - entries.start > 1:
            raise MemoryError(held)

    run(2, 2, work, FakeHost(free=lambda: seen.append(len(alive))))
    assert seen == [0]
