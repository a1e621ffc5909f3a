"""Releasing CLIPSeg models; for background removal see test_models_rembg.py."""

from __future__ import annotations

import weakref

import pytest
import torch
from maskwright.models import clipseg_loader
from maskwright.models.cache import ModelCache


@pytest.mark.slow
def test_release_frees_clipseg(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(clipseg_loader, "_loaded", ModelCache(2))
    processor, model = clipseg_loader.load(clipseg_loader.DEMO)
    model_reference = weakref.ref(model)
    del model
    assert model_reference() is not None
    clipseg_loader.release()
    assert model_reference() is None

    processor, model = clipseg_loader.load(clipseg_loader.DEMO)
    clipseg_loader.release()
    assert next(model.parameters()).isfinite().all(), "runs can continue to use the model"
    with torch.no_grad():
        model.clip.get_text_features(**processor.tokenizer("red", return_tensors="pt"))
    assert clipseg_loader.load(clipseg_loader.DEMO)[1] is not model
