"""Vision layers through oneDNN: as exact as the layers they are made of, made once, and gone with them."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import tiny_clipseg
import torch
from maskwright.core import clipseg, packed_layers

pytest.importorskip("transformers")
NEEDS_OPERATORS = pytest.mark.skipif(
    not packed_layers.operators_work(),
    reason="this PyTorch has no oneDNN operators for linear layers on this processor",
)


def layers(**options: object) -> torch.nn.ModuleList:
    return tiny_clipseg.model(**options).clip.vision_model.encoder.layers


@NEEDS_OPERATORS
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "relu"])
@pytest.mark.parametrize("shape", [(1, 1, 32), (1, 65, 32), (3, 17, 32)])
def test_as_exact_as_the_layer_itself(activation: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    (layer, *_) = layers()
    layer.mlp.config.hidden_act, layer.mlp.activation_fn = activation, activation_called(activation)
    hidden = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert packed_layers.packed(layer) is not None
    with torch.no_grad():
        packed = clipseg._through(layer, hidden)
        monkeypatch.setattr(packed_layers, "operators_work", lambda: False)
        plain, exact = clipseg._through(layer, hidden), clipseg._through(copy.deepcopy(layer).double(), hidden.double())
    errors = [(result - exact).abs().max() for result in (packed, plain)]
    assert errors[0] <= 3 * errors[1] + 1e-6
    assert errors[0] <= 1e-5 * exact.abs().max()


def activation_called(name: str) -> torch.nn.Module:
    from transformers.activations import ACT2FN

    return ACT2FN[name]


@NEEDS_OPERATORS
def test_it_is_made_once_and_anew_for_other_weights() -> None:
    one, two, *_ = layers()
    assert packed_layers.packed(one) is packed_layers.packed(one)
    before = packed_layers.packed(one)
    one.load_state_dict(two.state_dict(), assign=True)
    hidden = torch.ones(1, 5, 32)
    with torch.no_grad():
        assert torch.equal(packed_layers.packed(one)(hidden), packed_layers.packed(two)(hidden))
    assert packed_layers.packed(one) is not before


@NEEDS_OPERATORS
def test_it_lives_as_long_as_the_layer_and_stays_out_of_its_copies_and_files() -> None:
    (layer, *_) = layers()
    keys = list(layer.state_dict())
    made = weakref.ref(packed_layers.packed(layer))
    assert list(layer.state_dict()) == keys
    pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    del layer
    gc.collect()
    assert made() is None


def test_other_numbers_and_missing_operators_leave_the_layer_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    (layer, *_) = layers()
    assert packed_layers.packed(copy.deepcopy(layer).half()) is None
    assert packed_layers.packed(copy.deepcopy(layer).to("meta")) is None
    monkeypatch.setattr(packed_layers, "operators_work", lambda: False)
    assert packed_layers.packed(layer) is None


@pytest.mark.parametrize("fault", [AttributeError("gone"), RuntimeError("another schema"), None])
def test_operators_that_are_gone_or_wrong_are_not_used(
    fault: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Product:
        def __init__(self, layer: torch.nn.Linear, **_: object) -> None:
            if fault:
                raise fault
            self.layer = layer

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + 1e-3

    monkeypatch.setattr(packed_layers, "_Product", Product)
    assert packed_layers.operators_work.__wrapped__() is False
