"""Tiny ONNX models with the interface of u2net: a single 1 x 1 convolution from an image to maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

RED = ((1.0, 0.0, 0.0),)
"""Weights of a model whose map is the red channel of its input."""


def write(
    path: Path,
    side: int | str | tuple[int, int] = 320,
    weights: Sequence[Sequence[float]] = RED,
    bias: Sequence[float] | None = None,
    half: bool = False,
) -> Path:
    """Write a model and return its path.

    Args:
        side: Input size: ``side`` x ``side``, or (height, width), or any size if it is a name.
        weights: Weights of the input channels, for each map.
        bias: Bias of each map.
        half: Whether inputs and outputs are in half precision.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    maps, channels = len(weights), len(weights[0])
    size = side if isinstance(side, tuple) else (side, side)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input.1", "weights", "bias"], ["1959"])],
        "tiny",
        [helper.make_tensor_value_info("input.1", kind, [1, channels, *size])],
        [helper.make_tensor_value_info("1959", kind, [1, maps, *size])],
        [
            helper.make_tensor("weights", kind, [maps, channels, 1, 1], [w for row in weights for w in row]),
            helper.make_tensor("bias", kind, [maps], list(bias or [0.0] * maps)),
        ],
    )
    # The oldest possible versions, so that every ONNX Runtime can load it.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path
