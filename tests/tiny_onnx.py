"""Tiny ONNX models with the interface of u2net and its relatives: a picture in, maps out, one 1 x 1 convolution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

RED = ((1.0, 0.0, 0.0),)
"""Weights of a model whose map is the red channel of what it is shown."""


def write(
    path: Path,
    side: int | str | tuple[int, int] = 320,
    weights: Sequence[Sequence[float]] = RED,
    bias: Sequence[float] | None = None,
    half: bool = False,
) -> Path:
    """Write a model and return its path.

    Args:
        side: It takes pictures of ``side`` x ``side``, of height and width if these are two, of any size if it is a
            name.
        weights: For each map the weights of the channels it is made of.
        bias: For each map what is added to it.
        half: Whether it takes and gives half precision.
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
    # As old as it may be, so that every ONNX Runtime reads it.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path
