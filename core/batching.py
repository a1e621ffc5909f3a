"""Long work: a batch in chunks that fit into memory, its items in parallel, with progress and interrupts."""

from __future__ import annotations

import contextlib
import errno
import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import torch

from .engine import Host, Module, Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


class NoProgress:
    """A `Progress` that reports nothing and never interrupts."""

    def step(self, count: int = 1) -> None:
        return None


NO_PROGRESS = NoProgress()


class StageProgress:
    """Converts fractions of a stage to steps of a `Progress`.

    Args:
        progress: Receives the steps.
        steps: Number of steps of this stage, at least 0.
    """

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress, self._steps, self._done = progress, steps, 0

    def advance_to(self, fraction: float) -> None:
        """Report that ``fraction`` of the stage is done, and check for an interrupt.

        Args:
            fraction: 0..1; values below an earlier one have no effect.
        """
        done = max(self._done, int(self._steps * min(1.0, fraction)))
        count, self._done = done - self._done, done
        self._progress.step(count)


NO_STAGE_PROGRESS = StageProgress(NO_PROGRESS, 0)


@dataclass
class Chunk:
    """Some consecutive entries of a batch, for one ``with`` block of `iterate_chunks`.

    Attributes:
        may_fail: Whether the chunk is repeated if memory runs out.
        failed: Whether memory ran out, so that the chunk is to be repeated.
    """

    entries: slice
    host: Host
    may_fail: bool
    failed: bool = False

    def __enter__(self) -> slice:
        return self.entries

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        """Suppress an out-of-memory error if the chunk is repeated."""
        self.failed = self.may_fail and isinstance(error, Exception) and self.host.is_out_of_memory(error)
        return self.failed


def iterate_chunks(
    total: int,
    size: int,
    host: Host,
    progress: Progress = NO_PROGRESS,
    shrink: Callable[[], bool] = lambda: False,
) -> Iterator[Chunk]:
    """Yield chunks of 0..total in order, ``size`` entries each, to work on in a ``with`` block::

        for chunk in iterate_chunks(len(image), 8, host):
            with chunk as entries:
                mask[entries] = find_mask(image[entries])

    If memory runs out in the block, this chunk and all later ones are halved, and the same entries are yielded again.
    Finished entries are not. Large tensors belong in functions that the block calls: the block's own variables exist
    until the next assignment.

    Args:
        total: Number of entries.
        size: Number of entries in the first chunk, at least 1.
        host: Detects out-of-memory errors, and frees memory before each retry.
        progress: Advances by one step per entry, after its block.
        shrink: Called if memory runs out for a single entry. Returns True if the block now needs less memory. If not,
            the entry is tried one last time, and its out-of-memory error propagates.
    """
    start, last_try = 0, False
    while start < total:
        chunk = Chunk(slice(start, min(total, start + size)), host, may_fail=not last_try)
        yield chunk
        count = chunk.entries.stop - start
        if not chunk.failed:
            progress.step(count)
            start += count
            continue
        host.free_memory()
        if count > 1:
            size = count // 2
        else:
            last_try = not shrink()


def parallel_map(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``[work(item) for item in items]``, with torch's threads divided among the items.

    Torch's own threads share every operation and synchronize after it. Threads that each process a whole item
    synchronize only once, which is faster, especially while other programs use the cores.

    ``work`` runs without gradients. If items fail, the exception of the first one propagates when all
    running ones have ended; the others are not started.
    """
    cores = torch.get_num_threads()
    workers = min(len(items), cores)
    if workers < 2:
        with torch.no_grad():
            return list(map(work, items))

    all_started = threading.Barrier(workers + 1)

    def start() -> None:
        torch.get_num_threads()  # force lazy initialization now: later it would overwrite set_num_threads
        torch.set_num_threads(cores // workers)
        all_started.wait()

    # Both modes are per thread. ComfyUI runs nodes in inference mode, and inference tensors cannot be modified outside
    # of it.
    inference = torch.is_inference_mode_enabled()

    def without_gradients(item: Item) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return work(item)

    try:
        with ThreadPoolExecutor(workers, initializer=start) as pool:
            try:
                # Workers block in the initializer, so each of the first items starts a new thread.
                results = pool.map(without_gradients, items)
                all_started.wait()
            except BaseException:
                all_started.abort()
                raise
            finally:
                # The last count set in any thread is the default of new threads: restore it.
                torch.set_num_threads(cores)
            return list(results)
    finally:
        torch.set_num_threads(cores)  # ``work`` may have set it, too


@contextlib.contextmanager
def use_one_thread() -> Iterator[None]:
    """Let torch use one thread for operations on the CPU.

    For short operations: torch's threads wait for each other after each one, which takes several times as long as the
    operation if other programs use the cores.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def run_interruptibly(work: Callable[[], Result], stage: StageProgress) -> Result:
    """Call ``work`` without gradients in another thread, and check for an interrupt meanwhile. ``work`` must release
    the GIL.

    On interrupt, the thread ends in the background, and its result is dropped.
    """
    future: Future[Result] = Future()
    inference = torch.is_inference_mode_enabled()  # per thread, as are gradients

    def run() -> None:
        try:
            with torch.inference_mode(inference), torch.no_grad():
                future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not wait([future], timeout=0.2).done:
        stage.advance_to(0)
    return future.result()


# What messages of out-of-memory errors contain, in lower case.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",  # DefaultCPUAllocator; on Windows "not enough memory"
    "cannot allocate memory",  # the operating system
    "not enough memory",
    "alloc_failed",  # cuBLAS and cuDNN
    "out_of_device_memory",  # Level Zero (Intel)
    "out_of_host_memory",
    "bad_alloc",  # C++, and so ONNX Runtime; on Windows "bad allocation"
    "bad allocation",
    "failed to allocate memory",
)
_CUDA_MEMORY_ALLOCATION = 2  # cudaErrorMemoryAllocation
_ENOMEM = re.compile(r"system error number 12\b")  # ONNX Runtime, reading a file


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is an out-of-memory error of torch, ONNX Runtime or Python, for a GPU or the CPU."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # ONNX Runtime has a dozen exception classes without a common base class.
    if not isinstance(error, RuntimeError) and not type(error).__module__.startswith("onnxruntime"):
        return False
    # torch.AcceleratorError, since 2.8
    if getattr(error, "error_code", None) == _CUDA_MEMORY_ALLOCATION:
        return True
    message = str(error).lower()
    return any(phrase in message for phrase in _OUT_OF_MEMORY) or _ENOMEM.search(message) is not None


def available_memory(device: torch.device) -> float:
    """Bytes that can still be allocated on ``device``; infinity if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return math.inf
    try:
        import psutil  # ComfyUI requires it; other programs may not have it
    except ImportError:
        return math.inf
    return psutil.virtual_memory().available


class StandaloneHost:
    """A `Host` without progress bar, interrupts or shared memory management."""

    def progress(self, total: int) -> Progress:
        return NO_PROGRESS

    def is_out_of_memory(self, error: BaseException) -> bool:
        return is_out_of_memory(error)

    def is_interrupt(self, error: BaseException) -> bool:
        return False

    def free_memory(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def available_memory(self, device: torch.device) -> float:
        return available_memory(device)

    def on_device(self, model: Module, copy_as: Callable[[Module, torch.dtype], Module]) -> Module:
        return model


STANDALONE_HOST = StandaloneHost()
