"""Process several items at once on the cores of a CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_rows(
    work: Callable[[slice], tuple[torch.Tensor, ...]],
) -> Callable[[slice], tuple[torch.Tensor, ...]]:
    """``work`` for a slice of a batch, as `parallel_map` over its rows. It returns tensors with a row for each."""

    def split(entries: slice) -> tuple[torch.Tensor, ...]:
        rows = parallel_map(work, [slice(i, i + 1) for i in range(entries.start, entries.stop)])
        return rows[0] if len(rows) == 1 else tuple(torch.cat(parts) for parts in zip(*rows))

    return split


def parallel_map(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``[work(item) for item in items]``, with the cores that torch may use shared out among the items.

    Torch's own threads share each operation and wait for each other after it. Threads that each have an item to
    themselves wait once, at the end, which is faster, and much faster where other programs use the cores as well.

    ``work`` runs without gradients. An exception of the first item that raises one passes, after all have ended.
    """
    cores = torch.get_num_threads()
    workers = min(len(items), cores)
    if workers < 2:
        with torch.no_grad():
            return [work(item) for item in items]

    all_started = threading.Barrier(workers + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread takes over the common number when first asked, which must not come later
        torch.set_num_threads(cores // workers)
        all_started.wait()

    # Both modes hold for one thread only. ComfyUI runs its nodes in inference mode, and tensors that were made in it
    # cannot be written to outside.
    inference = torch.is_inference_mode_enabled()

    def without_gradients(item: Item) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return work(item)

    with ThreadPoolExecutor(workers, initializer=start) as pool:
        try:
            # A thread that waits for the others takes no work, so every one of the first items starts a new thread.
            results = [pool.submit(without_gradients, item) for item in items]
            all_started.wait()
        except BaseException:
            all_started.abort()
            raise
        finally:
            # A thread's number is also what threads begun later start with: put that back.
            torch.set_num_threads(cores)
        return [result.result() for result in results]
