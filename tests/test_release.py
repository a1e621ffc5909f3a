"""Releasing CLIPSeg models; for background removal see test_rembg.py."""

from __future__ import annotations

import weakref

import pytest
import torch
from maskwright.models import clipseg_loader
from maskwright.models.clipseg_store import DEMO, ClipsegStore
from maskwright.models.store import ModelCache


@pytest.mark.slow
def test_release_frees_clipseg(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(clipseg_loader, "_loaded", ModelCache(2))
    processor, model = clipseg_loader.load(DEMO, ClipsegStore())
    freed = weakref.ref(model)
    del model
    assert freed() is not None
    clipseg_loader.release()
    assert freed() is None

    processor, model = clipseg_loader.load(DEMO, ClipsegStore())
    clipseg_loader.release()
    assert next(model.parameters()).isfinite().all(), "a run can go on using the model"
    with torch.no_grad():
        model.clip.get_text_features(**processor.tokenizer("red", return_tensors="pt"))
    assert clipseg_loader.load(DEMO, ClipsegStore())[1] is not model
