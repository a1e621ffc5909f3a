"""Detection of out-of-memory errors, and the `Host` for programs other than ComfyUI."""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Callable

import torch

from .engine import NO_PROGRESS, Module, Progress

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",  # DefaultCPUAllocator; on Windows "not enough memory"
    "cannot allocate memory",  # the operating system
    "not enough memory",
    "alloc_failed",  # cuBLAS and cuDNN
    "out_of_device_memory",  # Level Zero (Intel)
    "out_of_host_memory",
    "bad_alloc",  # C++, and so ONNX Runtime; on Windows "bad allocation"
    "bad allocation",
    "failed to allocate memory",
)
_CUDA_MEMORY_ALLOCATION = 2  # cudaErrorMemoryAllocation
_ENOMEM = re.compile(r"system error number 12\b")  # ONNX Runtime, reading a file


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is an out-of-memory error of torch, ONNX Runtime or Python, for a GPU or the CPU."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # ONNX Runtime has a dozen exception classes without a common base class.
    if not isinstance(error, RuntimeError) and not type(error).__module__.startswith("onnxruntime"):
        return False
    # torch.AcceleratorError, since 2.8
    if getattr(error, "error_code", None) == _CUDA_MEMORY_ALLOCATION:
        return True
    message = str(error).lower()
    return any(phrase in message for phrase in _OUT_OF_MEMORY) or _ENOMEM.search(message) is not None


def available_memory(device: torch.device) -> float:
    """Bytes that can still be allocated on ``device``; infinity if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return math.inf
    try:
        import psutil  # ComfyUI requires it; other programs may not have it
    except ImportError:
        return math.inf
    return psutil.virtual_memory().available


class StandaloneHost:
    """A `Host` without progress bar, interrupts or shared memory management."""

    def progress(self, total: int) -> Progress:
        return NO_PROGRESS

    def is_out_of_memory(self, error: BaseException) -> bool:
        return is_out_of_memory(error)

    def is_interrupt(self, error: BaseException) -> bool:
        return False

    def free_memory(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def available_memory(self, device: torch.device) -> float:
        return available_memory(device)

    def on_device(self, model: Module, copy_as: Callable[[Module, torch.dtype], Module]) -> Module:
        return model


STANDALONE_HOST = StandaloneHost()
