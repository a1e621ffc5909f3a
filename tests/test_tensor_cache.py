"""The cache of model tensors: least recently used, bounded, and tied to the model's life."""

from __future__ import annotations

import gc

import torch
from maskwright.core.text.tensor_cache import TensorCache


def test_put_evicts_least_recently_used() -> None:
    model, cache = torch.nn.Identity(), TensorCache(80)
    tensors = {key: torch.full((10,), float(ord(key))) for key in "ab"}  # 40 bytes each
    for key, tensor in tensors.items():
        cache.put(model, key, tensor)
    assert cache.get(model, "a") is tensors["a"]  # so "b" is the least recently used
    cache.put(model, "c", torch.zeros(10))
    assert cache.get(model, "b") is None
    assert cache.get(model, "a") is tensors["a"] and cache.get(model, "c") is not None


def test_put_drops_tensors_above_limit() -> None:
    model, cache = torch.nn.Identity(), TensorCache(10)
    cache.put(model, 1, torch.zeros(100))
    assert cache.get(model, 1) is None and len(cache) == 0


def test_entries_belong_to_one_model() -> None:
    one, other, cache = torch.nn.Identity(), torch.nn.Identity(), TensorCache(1000)
    cache.put(one, 1, torch.zeros(3))
    assert cache.get(other, 1) is None
    cache.put(other, 1, torch.ones(3))
    del one
    gc.collect()
    assert len(cache) == 1
    assert torch.equal(cache.get(other, 1), torch.ones(3))
