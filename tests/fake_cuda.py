"""A CUDA device that is only pretended, for computers without one.

Its tensors say that they lie on ``cuda:0``, are computed on the CPU, and are as strict as a GPU's: whoever mixes
devices gets an error. So a test finds the step that forgot to move a tensor, and sees the arithmetic that is written
for accelerators alone. It knows nothing of a GPU's rounding, its memory, its kernels or its speed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_CPU = torch.device("cpu")
_aten = torch.ops.aten

# What takes tensors of both devices: copies, and indexing on the device with indices that lie on the CPU.
_COPIES = {_aten._to_copy, _aten.copy_, _aten.to}
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_}

# Questions that the CPU would answer otherwise: what attention is computed with (0: plain products, which every device
# has), and whether a moved tensor may take an older one's place.
_ANSWERS = {_aten._fused_sdp_choice.default: 0, _aten._has_compatible_shallow_copy_type.default: False}

# What Python asks the driver for before anything of ours is asked, and there is none.
_INDEX = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)
_SINGLE = (torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__index__, torch.Tensor.__float__)
_ASK_THE_DRIVER = {*_INDEX, *_SINGLE, torch.Tensor.item, torch.Tensor.contiguous, torch.Tensor.nonzero}


class _OnDevice(torch.Tensor):
    """A tensor that says it lies on the device; ``values`` is the one that is computed with."""

    where = torch.device("cuda", 0)
    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> _OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls, values.shape, values.stride(), values.storage_offset(), dtype=values.dtype, device=cls.where
        )
        made.values = values
        return made

    @classmethod
    def __torch_function__(cls, function: Callable, _: object, args: tuple = (), kwargs: dict | None = None) -> object:
        kwargs = kwargs or {}
        if function is torch.Tensor.copy_:
            function(*map(_values, args), **kwargs)
            return args[0]
        if function in _ASK_THE_DRIVER:
            if function in _INDEX and not isinstance(args[0], _OnDevice) and _any_on_device(args[1]):
                raise RuntimeError(
                    f"indices should be on the device of the indexed tensor, the CPU, not on {_OnDevice.where}"
                )
            args, kwargs = tree_map_only(_OnDevice, _values, (args, kwargs))
            return tree_map_only(torch.Tensor, _OnDevice, function(*args, **kwargs))
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, operator: Callable, _: object, args: tuple = (), kwargs: dict | None = None) -> object:
        return _run(operator, args, kwargs or {})

    def __repr__(self) -> str:
        return f"{self.values!r} on {self.where}"


class _Device(TorchDispatchMode):
    def __torch_dispatch__(self, operator: Callable, _: object, args: tuple = (), kwargs: dict | None = None) -> object:
        return _run(operator, args, kwargs or {})


@contextlib.contextmanager
def fake_device(kind: str = "cuda") -> Iterator[torch.device]:
    """Within it the device can be used. Another kind is as strict, and knows no more of what that kind lacks."""
    # As torch's own pretended tensors (FakeTensorMode) do it where there is no driver: torch.tensor() makes its values
    # on the CPU first, and a module that moves gets new parameters.
    made_on_cpu = torch._C._only_lift_cpu_tensors()
    new_parameters = torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        where = mock.patch.object(_OnDevice, "where", torch.device(kind, 0))
        with where, mock.patch.object(torch.cuda, "_lazy_init"), _Device():
            yield _OnDevice.where
    finally:
        torch._C._set_only_lift_cpu_tensors(made_on_cpu)
        torch.__future__.set_overwrite_module_params_on_conversion(new_parameters)


def _run(operator: Callable, args: tuple, kwargs: dict) -> object:
    if operator in _ANSWERS:
        return _ANSWERS[operator]
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = _any_on_device(given)
    if there:
        _check_devices(operator, args, given)
    if operator is _aten.copy_.default:
        there = isinstance(args[0], _OnDevice)
    elif operator is _aten.to.other:
        there = isinstance(args[1], _OnDevice)
    asked = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
    if asked:
        there = asked[0].type == _OnDevice.where.type
        args, kwargs = tree_map_only(torch.device, lambda device: _CPU if there else device, (args, kwargs))

    inputs = {id(_values(tensor)): tensor for tensor in given}
    args, kwargs = tree_map_only(torch.Tensor, _values, (args, kwargs))

    def placed(made: torch.Tensor) -> torch.Tensor:
        same = inputs.get(id(made))
        if same is not None and isinstance(same, _OnDevice) == there:
            return same  # changed in place, or written to, or left as it was
        made = made if same is None else made.clone()  # moved, and the two devices share no memory
        return _OnDevice(made) if there else made

    return tree_map_only(torch.Tensor, placed, operator(*args, **kwargs))


def _values(tensor: object) -> object:
    return tensor.values if isinstance(tensor, _OnDevice) else tensor


def _any_on_device(value: object) -> bool:
    return any(isinstance(leaf, _OnDevice) for leaf in tree_leaves(value))


def _check_devices(operator: Callable, args: tuple, tensors: list[torch.Tensor]) -> None:
    if operator.overloadpacket in _COPIES:
        return
    if operator.overloadpacket in _INDEXING and isinstance(args[0], _OnDevice):
        tensors = [args[0], *args[2:3]]
    for tensor in tensors:
        # A single number may lie on the CPU where every pixel is computed by itself.
        if not isinstance(tensor, _OnDevice) and (tensor.ndim or torch.Tag.pointwise not in operator.tags):
            raise RuntimeError(
                f"Expected all tensors to be on the same device: {operator} got some of {_OnDevice.where}, "
                f"and one of the CPU of shape {list(tensor.shape)}"
            )
