"""Processes several items in parallel on the CPU."""

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
    """Wrap ``work`` to process the rows of a slice in parallel. ``work`` returns tensors with one row per entry."""

    def work_on_rows(entries: slice) -> tuple[torch.Tensor, ...]:
        rows = parallel_map(work, [slice(i, i + 1) for i in range(entries.start, entries.stop)])
        return rows[0] if len(rows) == 1 else tuple(torch.cat(parts) for parts in zip(*rows))

    return work_on_rows


def parallel_map(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``[work(item) for item in items]``, with torch's threads divided among the items.

    Torch's own threads share every operation and synchronize after it. Threads that each process a whole item
    synchronize only once, which is faster, especially while other programs use the cores.

    ``work`` runs without gradients. If items fail, the exception of the first one propagates after all have ended.
    """
    cores = torch.get_num_threads()
    workers = min(len(items), cores)
    if workers < 2:
        with torch.no_grad():
            return [work(item) for item in items]

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

    with ThreadPoolExecutor(workers, initializer=start) as pool:
        try:
            # Workers block in the initializer, so each of the first items starts a new thread.
            results = [pool.submit(without_gradients, item) for item in items]
            all_started.wait()
        except BaseException:
            all_started.abort()
            raise
        finally:
            # The last count set in any thread is the default of new threads: restore it.
            torch.set_num_threads(cores)
        return [result.result() for result in results]
