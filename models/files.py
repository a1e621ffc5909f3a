"""Distinguishes model files that the machine cannot read from files that are broken."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from ..core.batching import is_out_of_memory
from ..core.errors import ModelError


class Unreadable(ModelError):
    """A file cannot be read, but is not itself broken."""


def machine_error(path: Path, error: BaseException) -> MemoryError | Unreadable | None:
    """The error to raise if reading ``path`` failed because of the machine; None if its content is to blame.

    The file may be intact, so no remedy says to delete it.
    """
    number = _system_error(error)
    if is_out_of_memory(error) or number == errno.ENOMEM:
        return MemoryError(f"not enough memory to read {path} ({error})")
    if isinstance(error, PermissionError) or number in (errno.EACCES, errno.EPERM):
        return Unreadable(
            f"{path} is not readable by the user that runs ComfyUI ({error})",
            "Give that user permission to read the file and its folders, or close the program that locks it",
        )
    if number in (errno.EIO, errno.EMFILE, errno.ENFILE):
        return Unreadable(f"{path} cannot be read now ({error})", "Check the disk, restart ComfyUI and run again")
    return None


def _system_error(error: BaseException) -> int | None:
    """The system's error number, if any. Libraries written in Rust give it only in their message."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = re.search(r"\(os error (\d+)\)", str(error)) if os.name == "posix" else None  # Windows has other numbers
    return int(match[1]) if match else None
