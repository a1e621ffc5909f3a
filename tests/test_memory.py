"""Detection of out-of-memory errors."""

from __future__ import annotations

import errno

import pytest
import torch
from maskwright.core.memory import is_out_of_memory


def onnx_error(message: str) -> Exception:
    """An error of ONNX Runtime, whose classes derive directly from `Exception`."""
    kind = type("Fail", (Exception,), {"__module__": "onnxruntime.capi.onnxruntime_pybind11_state"})
    return kind(message)


def accelerator_error(code: int) -> RuntimeError:
    """An `AcceleratorError` as in torch 2.8, without CUDA's message."""
    error = getattr(torch, "AcceleratorError", RuntimeError)("CUDA error")
    error.error_code = code
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("unable to mmap 9 bytes: Cannot allocate memory (12)"), True),
        (RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"), True),
        (accelerator_error(code=2), True),
        (accelerator_error(code=700), False),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (onnx_error("Failed to allocate memory for requested buffer of size 9"), True),
        (onnx_error("bad allocation"), True),
        (onnx_error("open file failed: system error number 12"), True),
        (onnx_error("system error number 13"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_is_out_of_memory(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
