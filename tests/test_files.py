"""Identity of model files, and errors caused by the machine rather than the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from maskwright.core.errors import ModelError
from maskwright.models import files


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"one")
    first = files.identity(path)
    assert files.identity(path) == first
    os.utime(path, (1, 1))
    touched = files.identity(path)
    path.write_bytes(b"three")
    os.utime(path, (1, 1))
    assert len({first, touched, files.identity(path)}) == 3
    (tmp_path / "link.onnx").symlink_to(path)
    assert files.identity(tmp_path / "link.onnx") == files.identity(path)


def test_identity_of_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx cannot be read \(No such file"):
        files.identity(tmp_path / "model.onnx")


def test_identity_of_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ModelError, match=r"model\.onnx is not readable .*permission to read"):
        files.identity(tmp_path / "model.onnx")


posix_only = pytest.mark.skipif(os.name != "posix", reason="error numbers are those of POSIX")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (MemoryError(), MemoryError, "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), MemoryError, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError, "not enough memory"),
        (OSError(errno.EACCES, "Permission denied"), files.Unreadable, "is not readable"),
        (OSError(errno.EPERM, "Operation not permitted"), files.Unreadable, "is not readable"),
        (OSError(errno.EMFILE, "Too many open files"), files.Unreadable, "cannot be read now"),
        (OSError(errno.EIO, "Input/output error"), files.Unreadable, "cannot be read now"),
        pytest.param(
            Exception("Permission denied (os error 13)"), files.Unreadable, "is not readable", marks=posix_only
        ),
    ],
    ids=str,
)
def test_machine_error(error: Exception, kind: type[Exception], message: str) -> None:
    result = files.machine_error(Path("model.onnx"), error)
    assert type(result) is kind
    assert message in str(result) and "model.onnx" in str(result) and "delete" not in str(result).lower()


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file"),
        OSError(errno.EINVAL, "x"),
        ValueError("bad magic"),
        Exception("a longer number (os error 130)"),
    ],
)
def test_machine_error_ignores_faults_of_the_file(error: Exception) -> None:
    assert files.machine_error(Path("model.onnx"), error) is None
