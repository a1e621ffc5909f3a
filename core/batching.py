"""The one loop over a batch: chunk by chunk, with smaller chunks when memory runs out."""

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
    """Yield ``(entries, work(entries))`` for the entries 0..total in order, ``size`` of them at a time.

    When memory runs out, the chunk and all later ones halve, and ``work`` is called again for the same entries.
    Finished entries are not repeated.

    Args:
        total: Number of entries.
        size: Entries in the first chunk, 1 or more.
        work: Computes one chunk.
        host: Detects that memory ran out, and frees memory before the next try.
        progress: Gets one step for each entry that the caller has dealt with.
        shrink: Called when memory runs out for a single entry. Returns True if it made ``work`` need less memory;
            otherwise ``work`` gets one last try, and its out-of-memory error is raised.
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
            del result  # before the next chunk needs the memory
            progress.step(count)
            start = entries.stop
            continue
        host.free_memory()  # here the exception is gone, and with it the tensors that its frames held
        if count > 1:
            size = count // 2
        else:
            last_try = not shrink()
