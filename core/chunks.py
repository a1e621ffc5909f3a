"""Long work on a batch in chunks: progress, interrupt, and fewer at a time when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from .engine import NoProgress, Progress

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",  # DefaultCPUAllocator; on Windows "not enough memory"
    "cannot allocate memory",  # the operating system
    "not enough memory",
    "alloc_failed",  # cuBLAS and cuDNN
    "out_of_device_memory",  # Level Zero (Intel)
    "out_of_host_memory",
)
_CUDA_MEMORY_ALLOCATION = 2  # the code of cudaErrorMemoryAllocation


def is_torch_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on a GPU or on the CPU, as plain torch and Python say it."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    if not isinstance(error, RuntimeError):
        return False
    # torch.AcceleratorError, since 2.8
    if getattr(error, "error_code", None) == _CUDA_MEMORY_ALLOCATION:
        return True
    message = str(error).lower()
    return any(words in message for words in _OUT_OF_MEMORY)


@dataclass(frozen=True)
class Chunks:
    """How a batch is worked through.

    Attributes:
        progress: Told of every entry of the batch that is done. What it raises to stop the work passes, so an
            interrupt takes effect after at most one chunk.
        is_out_of_memory: Says of an exception whether memory ran out.
        release: Gives back memory that is only held for later, before the next try.
    """

    progress: Progress = field(default_factory=NoProgress)
    is_out_of_memory: Callable[[BaseException], bool] = is_torch_out_of_memory
    release: Callable[[], None] = lambda: None

    def run(
        self,
        total: int,
        at_once: int,
        work: Callable[[slice], None],
        shrink: Callable[[], bool] = lambda: False,
    ) -> None:
        """Call ``work(slice)`` for the entries 0..total in order, ``at_once`` of them at a time.

        When memory runs out the chunk halves, for all that is left, and the same entries are tried again; those
        that are done are not. Results that ``work`` wrote for a chunk that failed must be such that writing them
        again is right.

        Args:
            total: How many entries there are.
            at_once: How many of them a chunk has at first, 1 or more.
            work: Does the entries of one slice.
            shrink: Asked when memory runs out for a single entry. Makes ``work`` need less and says True, or
                says False where it cannot; then it is tried once more, and the out-of-memory error is raised.
        """
        start = 0
        while start < total:
            stop = min(total, start + at_once)
            if self._fits(work, slice(start, stop)):
                for _ in range(start, stop):
                    self.progress.step()
                start = stop
            elif stop - start > 1:
                at_once = (stop - start) // 2
            elif not shrink():
                work(slice(start, stop))  # once more, with all memory released: it fits, or raises as it should
                self.progress.step()
                start = stop

    def _fits(self, work: Callable[[slice], None], entries: slice) -> bool:
        try:
            work(entries)
            return True
        except Exception as error:
            if not self.is_out_of_memory(error):
                raise
        self.release()  # here the exception is gone, and with it the tensors that its frames held
        return False


WITHOUT_HOST = Chunks()
"""For callers that show no progress and cannot be interrupted."""
