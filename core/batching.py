"""Processes a batch in chunks, with smaller chunks when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from .engine import NO_PROGRESS, Host, Progress

Result = TypeVar("Result")


def run_in_chunks(
    total: int,
    size: int,
    work: Callable[[slice], Result],
    host: Host,
    progress: Progress = NO_PROGRESS,
    shrink: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[slice, Result]]:
    """Yield ``(entries, work(entries))`` for slices of 0..total, in order and ``size`` entries at a time.

    If memory runs out, this chunk and all later ones are halved, and ``work`` is called again for the same entries.
    Finished entries are not repeated.

    Args:
        total: Number of entries.
        size: Number of entries in the first chunk, at least 1.
        work: Computes one chunk.
        host: Detects out-of-memory errors, and frees memory before each retry.
        progress: Advances by one step per entry, after the caller has consumed it.
        shrink: Called if memory runs out for a single entry. Returns True if ``work`` now needs less memory. If not,
            ``work`` is tried one last time, and its out-of-memory error propagates.
    """
    start, last_try = 0, False
    while start < total:
        entries = slice(start, min(total, start + size))
        count = entries.stop - start
        try:
            result = work(entries)
        except Exception as error:
            if last_try or not host.is_out_of_memory(error):
                raise
            result = None
        else:
            yield entries, result
            del result  # free its memory before the next chunk
            progress.step(count)
            start = entries.stop
            continue
        host.free_memory()  # outside the except block: its traceback would keep tensors alive
        if count > 1:
            size = count // 2
        else:
            last_try = not shrink()
