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
@pytest.mark.parametrize("assign", [True, False])
def test_it_is_made_once_and_anew_for_other_weights(assign: bool) -> None:
    one, two, *_ = layers()
    before = packed_layers.packed(one)
    assert packed_layers.packed(one) is before
    one.load_state_dict({name: tensor.clone() for name, tensor in two.state_dict().items()}, assign=assign)
    hidden = torch.ones(1, 5, 32)
    with torch.no_grad():
        assert torch.equal(packed_layers.packed(one)(hidden), packed_layers.packed(two)(hidden))
        two.self_attn.k_proj.weight.mul_(2)
        assert not torch.equal(packed_layers.packed(one)(hidden), packed_layers.packed(two)(hidden))


@NEEDS_OPERATORS
def test_layers_that_somebody_changed_run_as_they_are() -> None:
    class Adapted(torch.nn.Linear):
        """As packages for adapters and for quantised weights make them."""

    wrapped, adapted, without_bias, *_ = layers()
    wrapped.self_attn.q_proj = torch.nn.Sequential(wrapped.self_attn.q_proj)
    adapted.mlp.fc1 = Adapted(32, 48)
    without_bias.mlp.fc2.bias = None
    assert [packed_layers.packed(layer) for layer in (wrapped, adapted, without_bias)] == [None] * 3


@NEEDS_OPERATORS
def test_whoever_hooks_into_a_layer_is_called() -> None:
    watched, replaced, *_ = layers()
    calls = []
    watched.mlp.fc1.register_forward_hook(lambda *_: calls.append("hook"))
    plain = replaced.self_attn.forward
    replaced.self_attn.forward = lambda *given, **named: (calls.append("replaced"), plain(*given, **named))[1]
    with torch.no_grad():
        for layer in (watched, replaced):
            clipseg._through(layer, torch.ones(1, 5, 32))
    assert calls == ["hook", "replaced"]


@NEEDS_OPERATORS
def test_where_memory_is_short_the_layer_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (layer, *_) = layers()
    tried = []

    def fail(layer: torch.nn.Module) -> None:
        tried.append(layer)
        raise RuntimeError("could not create a memory object")

    monkeypatch.setattr(packed_layers, "PackedLayer", fail)
    assert packed_layers.packed(layer) is None and packed_layers.packed(layer) is None
    assert tried == [layer] and "could not create" in caplog.text


@NEEDS_OPERATORS
def test_the_trial_leaves_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    assert packed_layers.operators_work.__wrapped__()
    assert torch.equal(torch.get_rng_state(), before)


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
        def __init__(self, weight: torch.Tensor, bias: torch.Tensor, **_: object) -> None:
            if fault:
                raise fault
            self.weight, self.bias = weight, bias

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(x, self.weight, self.bias) + 1e-3

    monkeypatch.setattr(packed_layers, "_Product", Product)
    assert packed_layers.operators_work.__wrapped__() is False
