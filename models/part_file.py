"""A partial download: ``<name>.<8 hexadecimal digits>.part`` beside its target, locked by its writer.

The system releases the lock when the process ends, even if it is killed, and other computers that share the folder see
the lock too. So a part without a lock was left by an earlier run, and the next run resumes it.
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

_NAME = r"\.(\d+-)?[0-9a-f]{8}\.part"  # earlier versions of this pack added the process id
_LOCKED_BYTE = 1 << 40  # Windows locks single bytes; this one is beyond the end of every model
_CLOSE_FIRST = os.name == "nt"  # Windows neither renames nor removes an open file
_QUIET = 3600.0  # seconds without a write after which a part on a file system without locks is free
_OLD = 7 * 24 * 3600.0  # seconds after which an unfinished download is removed


class PartFile:
    """A part that only this process may write. Call `finish`, `keep` or `remove` at the end.

    Attributes:
        path: Its path.
        file: Open for reading and writing.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file

    @classmethod
    def open(cls, target: Path) -> PartFile:
        """Open the largest part of ``target`` that an earlier run left, or a new one. Other leftover parts are removed.

        Raises:
            OSError: The folder cannot be written to.
        """
        leftovers = [part for path in _largest_first(target) if (part := _take(path)) is not None]
        for part in leftovers[1:]:
            part.remove()
        return leftovers[0] if leftovers else _create(target)

    def finish(self, target: Path) -> None:
        """Sync it to disk and rename it to ``target``."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if _CLOSE_FIRST:
            self.file.close()
        os.replace(self.path, target)
        self.file.close()

    def keep(self) -> int:
        """Keep it for the next run, or remove it if it is empty. Returns its size in bytes."""
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
        with contextlib.suppress(OSError):  # a full disk: the buffered bytes no longer matter
            self.file.close()


def kept_bytes(target: Path) -> int:
    """The size of the largest part of ``target``, 0 if there is none."""
    return max((_size(path) for path in _parts(target.parent, re.escape(target.name))), default=0)


def remove_old_parts(folder: Path) -> None:
    """Remove the parts of any file in ``folder`` that were not written to for a week."""
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
    """Lock the part at ``path``; None if another process writes it, or it is gone or not writable."""
    try:
        file = path.open("r+b")
    except OSError:
        return None
    with contextlib.suppress(OSError):
        locked = _lock(file)
        if locked is None:
            locked = time.time() - os.fstat(file.fileno()).st_mtime > _QUIET
        # Another process may have finished or removed it before the lock.
        if locked and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return PartFile(path, file)
    file.close()
    return None


def _create(target: Path) -> PartFile:
    path = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    file = path.open("x+b")
    if _lock(file) is False:  # another process has just taken it for a leftover
        file.close()
        raise BlockingIOError(f"another process took {path}")
    return PartFile(path, file)


def _lock(file: BinaryIO) -> bool | None:
    """Lock ``file``. False if another process holds the lock, None if the file system has no locks."""
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
