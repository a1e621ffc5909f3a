"""The chunked loop, parallel maps, and detection of out-of-memory errors."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from fake_host import FakeHost
from maskwright.core.batching import is_out_of_memory, iterate_chunks, parallel_map, use_one_thread


class Counter:
    def __init__(self) -> None:
        self.steps = 0

    def step(self, count: int = 1) -> None:
        self.steps += count


def run(total: int, size: int, work: Callable, host: FakeHost | None = None, shrink: Callable = lambda: False) -> None:
    """Run all chunks with the host's progress bar."""
    host = host or FakeHost()
    for chunk in iterate_chunks(total, size, host, host.bar, shrink):
        with chunk as entries:
            work(entries)


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
def test_iterate_chunks_visits_entries_once_in_order(total: int, size: int) -> None:
    work, counter = Work(), Counter()
    run(total, size, work, FakeHost(counter))
    assert work.entries_done == list(range(total))
    assert max(work.sizes_tried, default=0) <= size
    assert counter.steps == total


def test_iterate_chunks_halves_chunks_when_out_of_memory() -> None:
    work, counter = Work(capacity=2), Counter()
    host = FakeHost(counter)
    run(11, 8, work, host)
    assert work.entries_done == list(range(11))
    assert work.sizes_tried == [8, 4, 2, 2, 2, 2, 2, 1]
    assert counter.steps == 11
    assert host.freed == 2


def test_iterate_chunks_shrinks_single_entries() -> None:
    work = Work(capacity=0)

    def shrink() -> bool:
        work.capacity = 1
        return True

    run(2, 1, work, shrink=shrink)
    assert work.entries_done == [0, 1]
    assert work.sizes_tried == [1, 1, 1]


def test_iterate_chunks_raises_if_single_entry_does_not_fit() -> None:
    counter = Counter()
    with pytest.raises(MemoryError, match="the device is full"):
        run(4, 4, Work(capacity=0), FakeHost(counter))
    assert counter.steps == 0


def test_iterate_chunks_propagates_other_errors() -> None:
    for error in (ValueError, KeyboardInterrupt):
        work, host = Work(capacity=0, error=error), FakeHost()
        with pytest.raises(error):
            run(4, 4, work, host)
        assert work.sizes_tried == [4]
        assert host.freed == 0


def test_iterate_chunks_interrupts_between_chunks() -> None:
    class Stopped(BaseException):
        pass

    class Interrupting:
        def step(self, count: int = 1) -> None:
            raise Stopped

    work = Work()
    with pytest.raises(Stopped):
        run(6, 2, work, FakeHost(Interrupting()))
    assert work.entries_done == [0, 1]


def test_iterate_chunks_frees_memory_of_failed_chunk() -> None:
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


# Parallel maps


@pytest.fixture(params=[1, 2, 5])
def cores(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12])
def test_parallel_map_keeps_order_and_restores_threads(cores: int, count: int) -> None:
    assert parallel_map(lambda item: item * item, range(count)) == [item * item for item in range(count)]
    assert torch.get_num_threads() == cores
    inherited: list[int] = []
    thread = threading.Thread(target=lambda: inherited.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert inherited == [cores]


def test_parallel_map_restores_default_of_new_threads() -> None:
    """Although the work itself, on three threads of torch each, sets the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:

        def work(_: int) -> None:
            time.sleep(0.05)
            with use_one_thread():
                pass

        parallel_map(work, [1, 2])
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 6
    finally:
        torch.set_num_threads(before)


def test_parallel_map_divides_threads_and_disables_gradients(cores: int) -> None:
    modes = parallel_map(lambda _: (torch.get_num_threads(), torch.is_grad_enabled()), range(2))
    assert modes == [(max(1, cores // 2), False)] * 2
    assert torch.is_grad_enabled()


def test_parallel_map_propagates_exceptions_and_restores_threads(cores: int) -> None:
    class Stopped(BaseException):
        pass

    def work(item: int) -> None:
        if item == 1:
            raise Stopped

    with pytest.raises(Stopped):
        parallel_map(work, range(4))
    assert torch.get_num_threads() == cores


def test_parallel_map_writes_to_inference_tensors(cores: int) -> None:
    with torch.inference_mode():
        result = torch.zeros(4)

        def write(item: int) -> None:
            result[item] = item

        parallel_map(write, range(4))
    assert result.tolist() == [0, 1, 2, 3]


# Out-of-memory errors


def onnx_error(message: str) -> Exception:
    """An error of ONNX Runtime, whose classes derive directly from `Exception`."""
    kind = type("Fail", (Exception,), {"__module__": "onnxruntime.capi.onnxruntime_pybind11_state"})
    return kind(message)


def accelerator_error(code: int) -> RuntimeError:
    """An `AcceleratorError` as in torch 2.8, without CUDA's message."""
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
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (onnx_error("Failed to allocate memory for requested buffer of size 9"), True),
        (onnx_error("bad allocation"), True),
        (onnx_error("open file failed: system error number 12"), True),
        (onnx_error("system error number 13"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_is_out_of_memory(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
