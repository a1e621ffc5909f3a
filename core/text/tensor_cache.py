"""Tensors that a model made and may be asked for again. Bounded in bytes; nothing outlives its model."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable

import torch


class TensorCache:
    """For each model, the tensors that were used last, as many as fit into ``limit`` bytes.

    A row of a larger tensor counts as the row alone, but keeps the whole in memory. Any thread may ask.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._of: weakref.WeakKeyDictionary[torch.nn.Module, OrderedDict[Hashable, torch.Tensor]]
        self._of = weakref.WeakKeyDictionary()

    def get(self, model: torch.nn.Module, key: Hashable) -> torch.Tensor | None:
        """What was kept under ``key``, None where nothing is."""
        with self._lock:
            kept = self._of.get(model, {})
            if key not in kept:
                return None
            kept.move_to_end(key)
            return kept[key]

    def put(self, model: torch.nn.Module, key: Hashable, tensor: torch.Tensor) -> None:
        """Keep ``tensor`` and drop those that were used longest ago, until they fit; itself, too, where it does not."""
        with self._lock:
            kept = self._of.setdefault(model, OrderedDict())
            kept[key] = tensor
            while sum(each.nbytes for each in kept.values()) > self._limit:
                kept.popitem(last=False)

    def __len__(self) -> int:
        """How many tensors are kept, of all models."""
        with self._lock:
            return sum(len(kept) for kept in self._of.values())
