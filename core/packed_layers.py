"""Layers of CLIP's vision tower on a CPU: weights laid out once as oneDNN reads them, activations in the same pass.

For products of float32 matrices PyTorch calls a BLAS, which lays out the weights anew at every call, and leaves the
activation to passes of its own. oneDNN, which PyTorch has for convolutions, can do without both. Its operators for
linear layers are those that `torch.compile` makes use of; since PyTorch documents them nowhere they are tried first,
and where one is missing, or gives something else, layers run as they are.
"""

from __future__ import annotations

import functools
import logging
import platform
import threading
import weakref
from collections.abc import Callable

import torch
import torch.nn.functional as F

_QUICK_GELU = 1.702  # x sigmoid(1.702 x) (Hendrycks and Gimpel, *Gaussian Error Linear Units*, 2016)

# For each layer the state of its weights when it was packed, and what was made of it: None where memory was short.
_MADE: weakref.WeakKeyDictionary[torch.nn.Module, tuple[list, PackedLayer | None]] = weakref.WeakKeyDictionary()
_ONE_AT_A_TIME = threading.Lock()

_log = logging.getLogger(__name__)


def packed(layer: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The same layer, faster: ``[B,tokens,width]`` float32 -> the same shape.

    It holds a copy of the layer's weights, is made once for the same weights, and lives as long as the layer. Any
    thread may ask and run.

    Args:
        layer: An encoder layer of transformers' CLIP or CLIPSeg.

    Returns:
        None where the layer must run as it is: it is not of ordinary linear layers in float32 on a CPU (somebody
        quantised it, put an adapter in, or hooked into its calls), this PyTorch on this processor lacks the operators,
        or memory is short.
    """
    products = _products_of(layer)
    if not all(map(_is_plain, products)) or any(map(_is_hooked, layer.modules())) or not operators_work():
        return None
    state = [_state(parameter) for product in products for parameter in (product.weight, product.bias)]
    with _ONE_AT_A_TIME:
        known, made = _MADE.get(layer, (None, None))
        if known != state:
            try:
                made = PackedLayer(layer)
            except (RuntimeError, MemoryError) as error:
                _log.warning("CLIPSeg runs without laying out its weights for this processor: %s", error)
                made = None
            _MADE[layer] = state, made
        return made


def _products_of(layer: torch.nn.Module) -> list[torch.nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj, mlp.fc1, mlp.fc2]


def _is_plain(product: torch.nn.Module) -> bool:
    return (
        type(product) is torch.nn.Linear
        and product.bias is not None
        and all(each.device.type == "cpu" and each.dtype == torch.float32 for each in product.parameters())
    )


def _is_hooked(part: torch.nn.Module) -> bool:
    """Whether a call of this part does more than its class says, as where a package moves weights when needed."""
    return bool(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))


def _state(parameter: torch.Tensor) -> tuple[int, int]:
    """Where a tensor lies, and how often it was written to. The latter is not counted in inference mode."""
    return parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version


class PackedLayer:
    """See `packed`."""

    def __init__(self, layer: torch.nn.Module) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._norm, self._second_norm = layer.layer_norm1, layer.layer_norm2
        self._heads = attention.num_heads
        self._attend_to = _Product(*_weight_and_bias(attention.q_proj, attention.k_proj, attention.v_proj))
        self._out = _Product(*_weight_and_bias(attention.out_proj))
        first, second = _weight_and_bias(mlp.fc1), _weight_and_bias(mlp.fc2)
        if mlp.config.hidden_act == "quick_gelu":
            # With y = 1.702 x the activation is y sigmoid(y) / 1.702, which oneDNN has: it calls it swish.
            self._first = _Product(*first, scaled=_QUICK_GELU, activation="swish")
            self._second, self._activation = _Product(*second, read_scaled=_QUICK_GELU), torch.nn.Identity()
        else:
            self._first, self._second, self._activation = _Product(*first), _Product(*second), mlp.activation_fn

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        # [B,tokens,3 width] -> [B,tokens,3,heads,width of a head] -> [3,B,heads,tokens,width of a head]
        qkv = self._attend_to(self._norm(hidden)).unflatten(-1, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*qkv)
        hidden = hidden + self._out(seen.transpose(1, 2).flatten(2))  # [B,heads,tokens,...] -> [B,tokens,width]
        return hidden + self._second(self._activation(self._first(self._second_norm(hidden))))


class _Product:
    """A linear layer, ``[...,in]`` -> ``[...,out]``.

    Args:
        weight: ``[out,in]``.
        bias: ``[out]``.
        read_scaled: How many times too large the input is.
        scaled: How many times too large the output is to be, before the activation.
        activation: As oneDNN calls it.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        read_scaled: float = 1.0,
        scaled: float = 1.0,
        activation: str = "none",
    ) -> None:
        if scaled != read_scaled:
            weight = weight * (scaled / read_scaled)
        rows = 512  # of the products to come; the layout is the same for all that are not very few
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        self._bias, self._activation = bias * scaled, activation

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, self._activation, [], "")


def _weight_and_bias(*layers: torch.nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of one layer, or of several with the same input as one."""
    weights, biases = ([getattr(layer, name).detach() for layer in layers] for name in ("weight", "bias"))
    return (torch.cat(weights), torch.cat(biases)) if len(layers) > 1 else (weights[0], biases[0])


@functools.cache
def operators_work() -> bool:
    """Whether this PyTorch has oneDNN's operators for linear layers, and they give what they should."""
    # Other kinds of processors have other libraries below PyTorch, with which nobody tried this.
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    with torch.no_grad():
        numbers = torch.linspace(-1, 1, 48, dtype=torch.float32, device="cpu")
        x, weight, bias = numbers.view(2, 3, 8), numbers[:32].view(4, 8), numbers[:4]
        expected = F.linear(x, weight, bias)
        try:
            plain, swish = _Product(weight, bias)(x), _Product(weight, bias, activation="swish")(x)
        except (AttributeError, RuntimeError, TypeError, ValueError):  # whatever they became
            return False
    return torch.allclose(plain, expected, atol=1e-5) and torch.allclose(swish, F.silu(expected), atol=1e-5)
