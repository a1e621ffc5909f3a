"""Work in chunks: what is done and in which order, when memory runs out, when the user stops it."""

from __future__ import annotations

import pytest
import torch
from maskwright.core.chunks import Chunks, is_torch_out_of_memory


class Counter:
    def __init__(self) -> None:
        self.steps = 0

    def step(self, count: int = 1) -> None:
        self.steps += count


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
    Chunks(counter).run(total, at_once, work)
    assert work.done == list(range(total))
    assert max(work.tried, default=0) <= at_once
    assert counter.steps == total


def test_the_chunk_halves_when_memory_runs_out_and_stays_small() -> None:
    work, counter, released = Work(fits=2), Counter(), []
    Chunks(counter, release=lambda: released.append(1)).run(11, 8, work)
    assert work.done == list(range(11))
    assert work.tried == [8, 4, 2, 2, 2, 2, 2, 1]
    assert counter.steps == 11
    assert len(released) == 2


def test_a_single_entry_that_does_not_fit_is_made_smaller() -> None:
    work = Work(fits=0)

    def shrink() -> bool:
        work.fits = 1
        return True

    Chunks().run(2, 1, work, shrink)
    assert work.done == [0, 1]
    assert work.tried == [1, 1, 1]


def test_a_single_entry_that_cannot_be_made_smaller_raises_what_it_raised() -> None:
    counter = Counter()
    with pytest.raises(MemoryError, match="the device is full"):
        Chunks(counter).run(4, 4, Work(fits=0))
    assert counter.steps == 0


def test_other_errors_and_interrupts_pass_at_once() -> None:
    for error in (ValueError, KeyboardInterrupt):
        work, released = Work(fits=0, error=error), []
        with pytest.raises(error):
            Chunks(release=lambda: released.append(1)).run(4, 4, work)  # noqa: B023 - used within this turn
        assert work.tried == [4]
        assert not released


def test_an_interrupt_takes_effect_between_chunks() -> None:
    class Stopped(BaseException):
        pass

    class Stops:
        def step(self, count: int = 1) -> None:
            raise Stopped

    work = Work()
    with pytest.raises(Stopped):
        Chunks(Stops()).run(6, 2, work)
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

    Chunks(release=lambda: seen.append(len(alive))).run(2, 2, work)
    assert seen == [0]


def accelerator_error(code: int) -> RuntimeError:
    """What torch raises since 2.8, without CUDA's message."""
    error = getattr(torch, "AcceleratorError", RuntimeError)("CUDA error")
    error.error_code = code
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("unable to mmap 9 bytes: Cannot allocate memory (12)"), True),
        (RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"), True),
        (accelerator_error(code=2), True),
        (accelerator_error(code=700), False),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_which_errors_mean_that_memory_ran_out(error: BaseException, expected: bool) -> None:
    assert is_torch_out_of_memory(error) is expected
