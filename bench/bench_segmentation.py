"""ImageSegmentation: 8 pictures of 1024 x 1024 through a network of u2net's size, beside the earlier way.

The network has u2net's layers (Qin et al., *U2-Net*, 2020, table 1) with random weights, so its file has the size of
u2net's and a picture takes as long; it is made in a temporary folder. The earlier way makes a new session at every
run and goes picture by picture through Pillow. Without the session there is the bare `session.run` of the same
pictures, ready as the network takes them. What comes on top of that may be a tenth of it and 30 ms a picture.

    python3 tools/dev.py bench segmentation [--quick]
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _side_by_side import seconds
from maskwright.core import background, tensors
from maskwright.models import background as background_models
from maskwright.models import rembg as rembg_models

SIDE = 320


class Network:
    """Writes u2net's layers as ONNX. A value is its name, its channels and its side in pixels."""

    Value = tuple[str, int, int]

    def __init__(self, narrower: int) -> None:
        self._narrower = narrower
        self._random = np.random.default_rng(0)
        self._nodes, self._constants = [], []

    def write(self, path: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        outputs = self._u2net(("input.1", 3, SIDE))
        shape = [1, 3, SIDE, SIDE]
        graph = helper.make_graph(
            self._nodes,
            "u2net",
            [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, SIDE, SIDE]) for name, _, _ in outputs],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, str(path))

    def _u2net(self, picture: Value) -> list[Value]:
        """The encoder, the decoder on what it left, a map from each level, and all of them in one."""
        encoder = [(7, 32, 64), (6, 32, 128), (5, 64, 256), (4, 128, 512), (0, 256, 512), (0, 256, 512)]
        decoder = [(0, 256, 512), (4, 128, 256), (5, 64, 128), (6, 32, 64), (7, 16, 64)]
        levels, x = [], picture
        for number, (height, middle, channels) in enumerate(encoder):
            x = self._block(x if number == 0 else self._half(x), height, middle, channels)
            levels.append(x)
        ups = [x]
        for level, (height, middle, channels) in zip(reversed(levels[:-1]), decoder):
            x = self._block(self._join(self._like(x, level), level), height, middle, channels)
            ups.append(x)
        maps = [self._like(self._conv(each, 1, relu=False), picture) for each in reversed(ups)]
        fused = self._conv(self._join(*maps), 1, size=1, relu=False)
        return [self._node("Sigmoid", [each], 1, SIDE) for each in (fused, *maps)]

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

    def _conv(self, x: Value, channels: int, dilation: int = 1, size: int = 3, relu: bool = True) -> Value:
        scale = np.sqrt(2 / (x[1] * size * size))
        weights = self._random.standard_normal((channels, x[1], size, size), dtype=np.float32) * np.float32(scale)
        pad = dilation * (size // 2)
        inputs = [x, self._constant(weights), self._constant(np.zeros(channels, np.float32))]
        x = self._node("Conv", inputs, channels, x[2], dilations=[dilation] * 2, pads=[pad] * 4)
        return self._node("Relu", [x], channels, x[2]) if relu else x

    def _half(self, x: Value) -> Value:
        side = (x[2] + 1) // 2
        return self._node("MaxPool", [x], x[1], side, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)

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


def the_earlier_way(images: torch.Tensor) -> torch.Tensor:
    """A new session, then Pillow and back for each picture."""
    import rembg

    session = rembg.new_session("u2net")
    return torch.stack([tensors.from_pil(rembg.remove(tensors.to_pil(image), session=session)) for image in images])


def main(arguments: list[str]) -> int:
    quick = "--quick" in arguments
    count, side, rounds, narrower = (2, 256, 2, 8) if quick else (8, 1024, 3, 1)
    images = torch.rand(count, side // 8, side // 8, 3, generator=torch.Generator().manual_seed(0))
    images = tensors.resize_image(images, side, side)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "u2net.onnx"
        Network(narrower).write(file)
        size = file.stat().st_size
        os.environ["U2NET_HOME"], os.environ["MODEL_CHECKSUM_DISABLED"] = folder, "1"

        def now() -> torch.Tensor:
            return background.remove(images, background_models.load("u2net", [Path(folder)]))[0]

        source = background_models.load("u2net", [Path(folder)])
        assert isinstance(source, rembg_models.RembgMasks)
        session = source._session
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        shown = [session.normalize(tensors.to_pil(image), mean, std, (SIDE, SIDE)) for image in images]

        def bare() -> None:
            for each in shown:
                session.inner_session.run(None, each)

        print(
            f"ImageSegmentation, {count} pictures of {side} x {side}, a network of {size / 1e6:.0f} MB, "
            f"{torch.get_num_threads()} threads, {', '.join(source.providers)}"
        )
        ways = {"bare session.run": bare, "now": now, "earlier": lambda: the_earlier_way(images)}
        spent = seconds(ways, rounds)
        alike = (now()[..., 3] - the_earlier_way(images)[..., 3]).abs().max().item()
    allowed = 1.1 * spent["bare session.run"] + 0.03 * count
    for name, value in spent.items():
        print(f"{name:20}{value:>9.3f} s{value / count * 1e3:>10.1f} ms a picture")
    print(f"{'allowed':20}{allowed:>9.3f} s{allowed / count * 1e3:>10.1f} ms a picture")
    on_top = (spent["now"] - spent["bare session.run"]) / count * 1e3
    print(f"on top of session.run {on_top:.1f} ms a picture")
    print(f"{spent['earlier'] / spent['now']:.2f} times as fast as the earlier way")
    print(f"largest difference in alpha: {alike * 255:.0f} levels of 255")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
