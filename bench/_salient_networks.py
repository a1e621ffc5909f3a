"""Networks for background removal with random weights, as ONNX files: as large and as slow as the published ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Kind:
    """A network to write, and how rembg shows it a picture.

    Attributes:
        name: rembg's name for it.
        side: Of the square picture that it takes, in pixels.
        mean, std: What is taken from its colours, and what they are divided by.
        stem: Channels of a convolution with stride 2 before the first block; 0 where there is none.
        fused: Whether its answer is all levels' maps in one; else it is the finest level's map.
    """

    name: str
    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stem: int = 0
    fused: bool = True


KINDS = {
    # Qin et al., U2-Net, 2020, table 1.
    "u2net": Kind("u2net", 320, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # Qin et al., Highly Accurate Dichotomous Image Segmentation, 2022, figure 5: u2net's blocks at half the size.
    "isnet": Kind("isnet-general-use", 1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), stem=64, fused=False),
}

# Levels (0: dilation instead of them), channels inside and channels out of every residual U-block.
_ENCODER = [(7, 32, 64), (6, 32, 128), (5, 64, 256), (4, 128, 512), (0, 256, 512), (0, 256, 512)]
_DECODER = [(0, 256, 512), (4, 128, 256), (5, 64, 128), (6, 32, 64), (7, 16, 64)]


class Network:
    """One network as nodes of an ONNX graph. A value is its name, its channels and its side in pixels.

    Attributes:
        operations: Of all its convolutions on one picture; a product and its sum are two.
    """

    Value = tuple[str, int, int]

    def __init__(self, kind: Kind, narrower: int = 1) -> None:
        """``narrower``: by what all channels are divided, for a network that is small and quick."""
        self._kind, self._narrower = kind, narrower
        self._random = np.random.default_rng(0)
        self._nodes, self._constants = [], []
        self.operations = 0
        self._outputs = self._maps(("input.1", 3, kind.side))

    def write(self, folder: Path) -> Path:
        """Its file, under rembg's name."""
        import onnx
        from onnx import TensorProto, helper

        side = self._kind.side
        graph = helper.make_graph(
            self._nodes,
            self._kind.name,
            [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, side, side])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, side, side])
                for name, _, _ in self._outputs
            ],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        path = folder / f"{self._kind.name}.onnx"
        onnx.save(model, str(path))
        return path

    def _maps(self, picture: Value) -> list[Value]:
        """The encoder, the decoder on what it left, and a map from each level; the answer first."""
        levels, x = [], picture
        if self._kind.stem:
            x = self._conv(x, self._kind.stem // self._narrower, stride=2, relu=False)
        for number, block in enumerate(_ENCODER):
            x = self._block(x if number == 0 else self._half(x), *block)
            levels.append(x)
        ups = [x]
        for level, block in zip(reversed(levels[:-1]), _DECODER):
            x = self._block(self._join(self._like(x, level), level), *block)
            ups.append(x)
        maps = [self._like(self._conv(each, 1, relu=False), picture) for each in reversed(ups)]
        if self._kind.fused:
            maps.insert(0, self._conv(self._join(*maps), 1, size=1, relu=False))
        return [self._node("Sigmoid", [each], 1, picture[2]) for each in maps]

    def _block(self, x: Value, height: int, middle: int, channels: int) -> Value:
        """A residual U-block: with ``height`` levels, or with dilation instead of levels where that is 0."""
        middle, channels = middle // self._narrower, channels // self._narrower
        dilations = [1] * (height - 1) + [2] if height else [1, 2, 4, 8]
        entry = x = self._conv(x, channels)
        down = []
        for number, dilation in enumerate(dilations):
            if height and 0 < number < height - 1:
                x = self._half(x)
            x = self._conv(x, middle, dilation)
            down.append(x)
        x = down.pop()
        for number, (skip, dilation) in enumerate(zip(reversed(down), reversed(dilations[:-1]))):
            last = number == len(down) - 1
            x = self._conv(self._join(self._like(x, skip), skip), channels if last else middle, dilation)
        return self._node("Add", [x, entry], channels, entry[2])

    def _conv(
        self, x: Value, channels: int, dilation: int = 1, size: int = 3, stride: int = 1, relu: bool = True
    ) -> Value:
        scale = np.sqrt(2 / (x[1] * size * size))
        weights = self._random.standard_normal((channels, x[1], size, size), dtype=np.float32) * np.float32(scale)
        side = -(-x[2] // stride)
        inputs = [x, self._constant(weights), self._constant(np.zeros(channels, np.float32))]
        shape = {"dilations": [dilation] * 2, "pads": [dilation * (size // 2)] * 4, "strides": [stride] * 2}
        x = self._node("Conv", inputs, channels, side, **shape)
        self.operations += 2 * weights.size * side * side
        return self._node("Relu", [x], channels, side) if relu else x

    def _half(self, x: Value) -> Value:
        return self._node("MaxPool", [x], x[1], -(-x[2] // 2), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)

    def _like(self, x: Value, other: Value) -> Value:
        if x[2] == other[2]:
            return x
        sizes = self._constant(np.array([1, x[1], other[2], other[2]], np.int64))
        return self._node("Resize", [x, ("", 0, 0), ("", 0, 0), sizes], x[1], other[2], mode="linear")

    def _join(self, *values: Value) -> Value:
        return self._node("Concat", list(values), sum(each[1] for each in values), values[0][2], axis=1)

    def _constant(self, values: np.ndarray) -> Value:
        from onnx import numpy_helper

        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name, 0, 0

    def _node(self, kind: str, inputs: list[Value], channels: int, side: int, **attributes: object) -> Value:
        from onnx import helper

        name = f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, [each[0] for each in inputs], [name], **attributes))
        return name, channels, side
