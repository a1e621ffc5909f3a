"""A cache of tensors that models computed, bounded in bytes. Entries do not outlive their model."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable

import torch


class TensorCache:
    """For each model, the most recently used tensors, up to ``limit`` bytes. Thread-safe.

    Views are counted by their own size, although they keep their base alive.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._by_model: weakref.WeakKeyDictionary[torch.nn.Module, OrderedDict[Hashable, torch.Tensor]]
        self._by_model = weakref.WeakKeyDictionary()

    def get(self, model: torch.nn.Module, key: Hashable) -> torch.Tensor | None:
        """The tensor cached under ``key``, or None."""
        with self._lock:
            tensors = self._by_model.get(model, OrderedDict())
            if key not in tensors:
                return None
            tensors.move_to_end(key)
            return tensors[key]

    def put(self, model: torch.nn.Module, key: Hashable, tensor: torch.Tensor) -> None:
        """Cache ``tensor``, and evict the least recently used ones beyond the limit; ``tensor`` itself if too large."""
        with self._lock:
            tensors = self._by_model.setdefault(model, OrderedDict())
            tensors[key] = tensor
            while sum(each.nbytes for each in tensors.values()) > self._limit:
                tensors.popitem(last=False)

    def __len__(self) -> int:
        """The number of cached tensors of all models."""
        with self._lock:
            return sum(len(tensors) for tensors in self._by_model.values())
