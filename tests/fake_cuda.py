"""A fake CUDA device, for machines without one.

Its tensors claim to be on ``cuda:0`` but are computed on the CPU. Like a GPU, it rejects operations that mix devices.
Tests thus find steps that forget to move a tensor, and run the code for accelerators. It does not imitate a GPU's
rounding, memory, kernels or speed.

No other file in the project uses private functions of torch. They may change with any release, so on untested versions
the tests that import this file are skipped.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
import torch

FIRST_KNOWN, LAST_KNOWN = (2, 11), (2, 13)  # versions of torch
if not FIRST_KNOWN <= tuple(int(part) for part in torch.__version__.split(".")[:2]) <= LAST_KNOWN:
    pytest.skip(
        f"the fake CUDA device knows torch 2.{FIRST_KNOWN[1]} to 2.{LAST_KNOWN[1]}, not {torch.__version__}",
        allow_module_level=True,
    )

from torch.overrides import TorchFunctionMode  # noqa: E402 - after the check
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402 - private, so after the check
from torch.utils._pytree import tree_leaves, tree_map_only  # noqa: E402

_CPU = torch.device("cpu")
_aten = torch.ops.aten

# Operations that accept tensors of both devices: copies, and indexing on the device with indices on the CPU.
_COPIES = {_aten._to_copy, _aten.copy_, _aten.to}
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_}

# Queries whose results differ from the CPU's: the backend of attention (0 for plain products, which every device has),
# and whether a moved tensor may replace an older one.
_RESULTS = {_aten._fused_sdp_choice.default: 0, _aten._has_compatible_shallow_copy_type.default: False}

# For these, Python calls the missing driver before it calls this code.
_INDEX = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)
_SCALAR = (torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__index__, torch.Tensor.__float__)
_OTHERS = (torch.Tensor.item, torch.Tensor.contiguous, torch.Tensor.nonzero, torch.Tensor.__invert__)
_CALL_DRIVER = {*_INDEX, *_SCALAR, *_OTHERS}


class _FakeTensor(torch.Tensor):
    """A tensor that claims to be on the device; ``values`` is its tensor on the CPU."""

    fake_device = torch.device("cuda", 0)
    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> _FakeTensor:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, values.shape, values.stride(), values.storage_offset(), dtype=values.dtype, device=cls.fake_device
        )
        tensor.values = values
        return tensor

    @classmethod
    def __torch_function__(cls, function: Callable, _: object, args: tuple = (), kwargs: dict | None = None) -> object:
        kwargs = kwargs or {}
        if function is torch.Tensor.copy_:
            function(*map(_unwrap, args), **kwargs)
            return args[0]
        if function in _CALL_DRIVER:
            if function in _INDEX and not isinstance(args[0], _FakeTensor) and _any_fake(args[1]):
                raise RuntimeError(
                    f"indices should be on the device of the indexed tensor, the CPU, not on {_FakeTensor.fake_device}"
                )
            args, kwargs = tree_map_only(_FakeTensor, _unwrap, (args, kwargs))
            return tree_map_only(torch.Tensor, _FakeTensor, function(*args, **kwargs))
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, operator: Callable, _: object, args: tuple = (), kwargs: dict | None = None) -> object:
        return _run(operator, args, kwargs or {})

    def __repr__(self) -> str:
        return f"{self.values!r} on {self.fake_device}"


class _FakeDeviceMode(TorchDispatchMode):
    def __torch_dispatch__(self, operator: Callable, _: object, args: tuple = (), kwargs: dict | None = None) -> object:
        return _run(operator, args, kwargs or {})


class _IndexMode(TorchFunctionMode):
    """Adds the index to a device without one, for which torch would ask the driver."""

    def __torch_function__(self, function: Callable, _: object, args: tuple = (), kwargs: dict | None = None) -> object:
        def add_index(device: str | torch.device) -> str | torch.device:
            return _FakeTensor.fake_device if str(device) == _FakeTensor.fake_device.type else device

        args, kwargs = tree_map_only((str, torch.device), add_index, (args, kwargs or {}))
        return function(*args, **kwargs)


@contextlib.contextmanager
def fake_device(kind: str = "cuda") -> Iterator[torch.device]:
    """Make the device available inside the block. Other kinds are equally strict, but lack no operations."""
    # As for torch's FakeTensorMode: torch.tensor() first creates its values on the CPU, and modules get new parameters
    # when they move.
    lift_cpu_tensors = torch._C._only_lift_cpu_tensors()
    overwrite_parameters = torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        device = mock.patch.object(_FakeTensor, "fake_device", torch.device(kind, 0))
        memory = mock.patch.object(torch.cuda, "mem_get_info", lambda device=None: (1 << 33, 1 << 34))  # free, total
        with (
            device,
            memory,
            mock.patch.object(torch.cuda, "_lazy_init"),
            _in_new_threads(),
            _FakeDeviceMode(),
            _IndexMode(),
        ):
            yield _FakeTensor.fake_device
    finally:
        torch._C._set_only_lift_cpu_tensors(lift_cpu_tensors)
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite_parameters)


def _in_new_threads() -> contextlib.AbstractContextManager:
    """Make the device available in threads that start inside the block: torch's modes belong to one thread."""
    run = threading.Thread.run

    def run_in_modes(thread: threading.Thread) -> None:
        torch._C._set_only_lift_cpu_tensors(True)  # also one thread's
        with _FakeDeviceMode(), _IndexMode():
            run(thread)

    return mock.patch.object(threading.Thread, "run", run_in_modes)


def _run(operator: Callable, args: tuple, kwargs: dict) -> object:
    if operator in _RESULTS:
        return _RESULTS[operator]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    result_is_fake = _any_fake(tensors)
    if result_is_fake:
        _check_devices(operator, args, tensors)
    if operator is _aten.copy_.default:
        result_is_fake = isinstance(args[0], _FakeTensor)
    elif operator is _aten.to.other:
        result_is_fake = isinstance(args[1], _FakeTensor)
    devices = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
    if devices:
        result_is_fake = devices[0].type == _FakeTensor.fake_device.type
        args, kwargs = tree_map_only(torch.device, lambda device: _CPU if result_is_fake else device, (args, kwargs))

    inputs = {id(_unwrap(tensor)): tensor for tensor in tensors}
    args, kwargs = tree_map_only(torch.Tensor, _unwrap, (args, kwargs))

    def wrap(result: torch.Tensor) -> torch.Tensor:
        same = inputs.get(id(result))
        if same is not None and isinstance(same, _FakeTensor) == result_is_fake:
            return same  # changed in place, written to, or unchanged
        result = result if same is None else result.clone()  # moved: the two devices share no memory
        return _FakeTensor(result) if result_is_fake else result

    return tree_map_only(torch.Tensor, wrap, operator(*args, **kwargs))


def _unwrap(tensor: object) -> object:
    return tensor.values if isinstance(tensor, _FakeTensor) else tensor


def _any_fake(value: object) -> bool:
    return any(isinstance(leaf, _FakeTensor) for leaf in tree_leaves(value))


def _check_devices(operator: Callable, args: tuple, tensors: list[torch.Tensor]) -> None:
    if operator.overloadpacket in _COPIES:
        return
    if operator.overloadpacket in _INDEXING and isinstance(args[0], _FakeTensor):
        tensors = [args[0], *args[2:3]]
    for tensor in tensors:
        # Pointwise operations accept scalars on the CPU.
        if not isinstance(tensor, _FakeTensor) and (tensor.ndim or torch.Tag.pointwise not in operator.tags):
            raise RuntimeError(
                f"Expected all tensors to be on the same device: {operator} got some on {_FakeTensor.fake_device}, "
                f"and one on the CPU of shape {list(tensor.shape)}"
            )
