"""models/files.py: whether the machine is at fault instead of the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from maskwright.models import files

posix = pytest.mark.skipif(os.name != "posix", reason="the system's error numbers are those of POSIX")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (MemoryError(), MemoryError, "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), MemoryError, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError, "not enough memory"),
        (OSError(errno.EACCES, "Permission denied"), files.Unreadable, "is not readable"),
        (OSError(errno.EPERM, "Operation not permitted"), files.Unreadable, "is not readable"),
        (OSError(errno.EMFILE, "Too many open files"), files.Unreadable, "cannot be read now"),
        (OSError(errno.EIO, "Input/output error"), files.Unreadable, "cannot be read now"),
        pytest.param(Exception("Permission denied (os error 13)"), files.Unreadable, "is not readable", marks=posix),
    ],
    ids=str,
)
def test_machine_error(error: Exception, kind: type[Exception], words: str) -> None:
    result = files.machine_error(Path("model.onnx"), error)
    assert type(result) is kind
    assert words in str(result) and "model.onnx" in str(result) and "delete" not in str(result).lower()


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file"),
        OSError(errno.EINVAL, "x"),
        ValueError("bad magic"),
        Exception("a number that only begins like one (os error 130)"),
    ],
)
def test_machine_error_is_none_for_faults_of_the_file(error: Exception) -> None:
    assert files.machine_error(Path("model.onnx"), error) is None
