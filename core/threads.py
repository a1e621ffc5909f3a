"""Torch's number of threads, and what other packages do to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def keep_torch_threads() -> Iterator[None]:
    """Puts the number of threads that torch uses in this thread back to what it is now.

    For the import of packages that run on numba (pymatting, and rembg which imports it): numba starts its threads then,
    and where it shares an OpenMP library with torch, torch uses as many from there on. That is one for each hardware
    thread, where torch had chosen one for each core or the user had chosen fewer. Not for work inside `parallel_map`:
    threads begun later start with the number of the thread that called this.
    """
    number = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != number:
            torch.set_num_threads(number)
