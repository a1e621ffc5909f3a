"""Protects torch's thread count from other packages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def keep_torch_threads() -> Iterator[None]:
    """Restore this thread's torch thread count on exit.

    For imports of packages based on numba (pymatting, and rembg, which imports it). numba starts its threads when
    imported, one per hardware thread. If it shares an OpenMP library with torch, torch then uses as many, although
    it chose one per core or the user chose fewer. Not for use inside `parallel_map`: new threads would inherit the
    count set here.
    """
    count = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
