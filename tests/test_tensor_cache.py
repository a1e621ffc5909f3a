"""What is kept of a model's tensors: those used last, within the limit, while the model lives."""

from __future__ import annotations

import gc

import torch
from maskwright.core.text.tensor_cache import TensorCache


def test_those_used_last_stay_within_the_limit() -> None:
    model, kept = torch.nn.Identity(), TensorCache(80)
    two = {key: torch.full((10,), float(ord(key))) for key in "ab"}  # 40 bytes each
    for key, tensor in two.items():
        kept.put(model, key, tensor)
    assert kept.get(model, "a") is two["a"]  # so "b" was used longest ago
    kept.put(model, "c", torch.zeros(10))
    assert kept.get(model, "b") is None
    assert kept.get(model, "a") is two["a"] and kept.get(model, "c") is not None


def test_what_does_not_fit_is_not_kept() -> None:
    model, kept = torch.nn.Identity(), TensorCache(10)
    kept.put(model, 1, torch.zeros(100))
    assert kept.get(model, 1) is None and len(kept) == 0


def test_models_share_nothing_and_nothing_outlives_its_model() -> None:
    one, other, kept = torch.nn.Identity(), torch.nn.Identity(), TensorCache(1000)
    kept.put(one, 1, torch.zeros(3))
    assert kept.get(other, 1) is None
    kept.put(other, 1, torch.ones(3))
    del one
    gc.collect()
    assert len(kept) == 1
    assert torch.equal(kept.get(other, 1), torch.ones(3))
