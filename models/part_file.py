"""A file while it is downloaded: ``<name>.<8 hexadecimal digits>.part`` beside its place, locked by its writer.

The system ends the lock with the process, also with one that is killed, on this computer or on another one that shares
the folder. So what a run left is told from what another process is writing, and the next run goes on with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

_NAME = r"\.(\d+-)?[0-9a-f]{8}\.part"  # the number is a process of an earlier version of this pack
_LOCKED_BYTE = 1 << 40  # Windows locks single bytes; this one is beyond the end of every model
_CLOSE_FIRST = os.name == "nt"  # Windows neither renames nor removes a file that is open
_QUIET = 3600.0  # seconds without a byte after which, on a file system without locks, nobody writes any more
_OLD = 7 * 24 * 3600.0  # seconds after which nobody is going to finish a download


class PartFile:
    """A part that this process alone may write. One of `finish`, `keep` and `remove` ends its use.

    Attributes:
        path: Where it is.
        file: Open for reading and writing.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file

    @classmethod
    def open(cls, target: Path) -> PartFile:
        """The largest part of ``target`` that a run left and nobody writes, else a new one. The others are removed.

        Raises:
            OSError: The folder cannot be written to.
        """
        left = [part for path in _largest_first(target) if (part := _take(path)) is not None]
        for part in left[1:]:
            part.remove()
        return left[0] if left else _create(target)

    def finish(self, target: Path) -> None:
        """Move it to its place, on the disk for good."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if _CLOSE_FIRST:
            self.file.close()
        os.replace(self.path, target)
        self.file.close()

    def keep(self) -> int:
        """Leave it for the next run. Returns how many bytes that finds; where there are none it is removed."""
        self.file.flush()
        size = os.fstat(self.file.fileno()).st_size
        if size:
            self.file.close()
        else:
            self.remove()
        return size

    def remove(self) -> None:
        if _CLOSE_FIRST:
            self._close()
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: what is buffered does not matter any more
            self.file.close()


def kept_bytes(target: Path) -> int:
    """The size of the largest part of ``target``, 0 where there is none."""
    return max((_size(path) for path in _parts(target.parent, re.escape(target.name))), default=0)


def remove_old_parts(folder: Path) -> None:
    """Remove the parts of any file in ``folder`` that nobody finished for a week."""
    for path in _parts(folder, ".+"):
        with contextlib.suppress(OSError):  # another process removed it
            if time.time() - path.stat().st_mtime > _OLD and (part := _take(path)) is not None:
                part.remove()


def _parts(folder: Path, name: str) -> Iterator[Path]:
    """The parts in ``folder`` of the files whose names match the regular expression ``name``."""
    for path in folder.glob("*.part"):
        if re.fullmatch(name + _NAME, path.name) and not path.is_symlink() and os.path.isfile(path):
            yield path


def _largest_first(target: Path) -> list[Path]:
    return sorted(_parts(target.parent, re.escape(target.name)), key=_size, reverse=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # another process finished or removed it
        return 0


def _take(path: Path) -> PartFile | None:
    """The part at ``path``; None where somebody writes it, or it is gone, or this user may not write it."""
    try:
        file = path.open("r+b")
    except OSError:
        return None
    with contextlib.suppress(OSError):
        locked = _lock(file)
        if locked is None:
            locked = time.time() - os.fstat(file.fileno()).st_mtime > _QUIET
        # Between the opening and the lock another process may have finished or removed it.
        if locked and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return PartFile(path, file)
    file.close()
    return None


def _create(target: Path) -> PartFile:
    path = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    file = path.open("x+b")
    if _lock(file) is False:  # in this instant another process took it for one that a run left
        file.close()
        raise BlockingIOError(f"another process took {path}")
    return PartFile(path, file)


def _lock(file: BinaryIO) -> bool | None:
    """Whether this process alone may write ``file``; None where the file system has no locks."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True
