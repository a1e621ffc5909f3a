"""Distinguishes model files that the machine cannot read from files that are broken."""

from __future__ import annotations

import errno
from pathlib import Path

from ..core.chunks import is_torch_out_of_memory
from ..core.errors import ModelError


def identity(path: Path) -> tuple:
    """A cache key for what was loaded from a file: it changes when the file is replaced.

    Raises:
        ModelError: The file is gone or not readable.
        MemoryError: There is not enough memory.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise machine_error(path, error) or ModelError(
            f"{path} cannot be read ({error.strerror or error})", "Put the file back, or choose another model"
        ) from error
    return path.resolve(), stat.st_mtime_ns, stat.st_size


def machine_error(path: Path, error: BaseException) -> MemoryError | ModelError | None:
    """The error to raise if ``path`` was not read because of the machine, not because of the file's content; else None.

    The file may be intact, so no remedy says to delete it.
    """
    number = error.errno if isinstance(error, OSError) else None
    if is_torch_out_of_memory(error) or number == errno.ENOMEM:
        return MemoryError(f"not enough memory to read {path} ({error})")
    if number in (errno.EACCES, errno.EPERM):
        return ModelError(
            f"{path} is not readable by the user that runs ComfyUI ({error.strerror})",
            "Give that user permission to read the file and its folders, or close the program that locks it",
        )
    if number in (errno.EIO, errno.EMFILE, errno.ENFILE):
        return ModelError(
            f"{path} cannot be read now ({error.strerror})", "Check the disk, restart ComfyUI and run again"
        )
    return None
