"""Model files from the network: fetched whole and checked, or not at all. Used only while a workflow runs.

The user's environment decides where from: ``HF_HUB_OFFLINE`` forbids the network, ``HF_ENDPOINT`` names a mirror of
the Hugging Face hub, ``HF_TOKEN`` is shown to it, and the usual proxy variables (``https_proxy``, ...) are obeyed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from ..core.engine import NoProgress, Progress
from ..core.errors import InputError, ModelError
from .catalog import HUB, Model, RemoteFile
from .fetching import Download, WrongContent, reason
from .part_file import PartFile, kept_bytes, remove_old_parts
from .transfer import POLL_INTERVAL, TransferError

logger = logging.getLogger(__name__)

_folder_locks: dict[Path, threading.Lock] = {}
_folder_locks_guard = threading.Lock()


def offline() -> bool:
    """Whether the user forbids the network, by ``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE``."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def address(url: str) -> str:
    """The address to request for ``url``: on ``HF_ENDPOINT`` if that is set and ``url`` is on the hub.

    Raises:
        ModelError: ``HF_ENDPOINT`` is not an address.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    if not endpoint or not url.startswith(HUB + "/"):
        return url
    if not _is_address(endpoint):
        raise ModelError(
            f"the environment variable HF_ENDPOINT is {endpoint!r}, which is not an address",
            f"Set it to an address such as {HUB}, or remove it",
        )
    return endpoint + url.removeprefix(HUB)


def _is_address(text: str) -> bool:
    if not re.fullmatch(r"https?://[\x21-\x7e]+", text):
        return False
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port  # raises ValueError if it is not a number
    except ValueError:
        return False
    return bool(parts.hostname)


def default_folder(kind: str) -> Path:
    """The folder for models of ``kind`` without ComfyUI: in the user's cache folder.

    Raises:
        ModelError: The user has no home folder.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if cache.startswith("~"):
        raise ModelError("this user has no home folder to keep models in", "Set XDG_CACHE_HOME to a folder")
    return Path(cache) / "maskwright" / kind


def check_name(name: object, what: str) -> str:
    """``name`` if it is a plain relative name, ``folder`` or ``folder/folder``, that leads nowhere else.

    Raises:
        InputError: Not text, empty, an absolute path, a drive letter, ``..``, a backslash or a control character.
    """
    remedy = "Give the name of a model, such as org/model, or of a folder among the models; not a path"
    if not isinstance(name, str):
        raise InputError(f"{what} is of type {type(name).__name__}, not a name", remedy)
    problem = None
    if not name.strip():
        problem = "is not a name"
    elif re.search(r"[\x00-\x1f\\:]", name):
        problem = "contains a backslash, a colon or a control character"
    elif not is_unicode(name):
        problem = "contains an invalid character"
    elif name.startswith(("/", "~")):
        problem = "is an absolute path"
    elif any(part in ("", ".", "..") for part in name.split("/")):
        problem = "contains an empty part, '.' or '..'"
    if problem:
        raise InputError(f"{what} is {quote(name)}, which {problem}", remedy)
    return name


def quote(name: object) -> str:
    """Format a name for messages: long ones shortened, and only the type of a value that is not text."""
    if not isinstance(name, str):
        return f"of type {type(name).__name__}"
    return repr(name if len(name) <= 100 else f"{name[:97]}...")


def is_unicode(name: str) -> bool:
    """Whether a name can be sent to the editor and back: on Linux a file name may be arbitrary bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def download_missing(model: Model, folder: Path, progress: Callable[[int], Progress] | None = None) -> None:
    """Fetch those of ``model``'s files that are not in ``folder`` yet. Files that are there are never touched.

    A second thread that wants the same folder waits, and then finds the files there. Files that were complete before a
    failure stay, and so do the bytes of a file whose connection broke: the next run resumes there.

    Args:
        folder: Made if missing.
        progress: Called with the number of bytes to fetch (as far as known, at least 1) if any file is missing, before
            anything is requested or written. May raise a ModelError to forbid the download. ``step`` of its result
            gets the bytes as they arrive, and 0 several times a second while none arrive; it may raise to stop, which
            removes the unfinished file.

    Raises:
        ModelError: It cannot be done; says why, and how to do it by hand.
    """

    missing = _missing(model, folder)
    if not missing:
        return
    try:
        _check_not_offline(address(missing[0].url), "Run again without it")
        bar = NoProgress() if progress is None else progress(max(1, sum(file.size or 0 for file in missing)))
    except ModelError as error:
        raise _by_hand(model, folder, error.problem, error.remedy) from error
    with _folder_locked(folder, bar):
        missing = _missing(model, folder)
        _check_space(folder, missing)
        try:
            for file in missing:
                download(file, folder, bar)
        except ModelError as error:
            raise _by_hand(model, folder, error.problem, "Fix that and run again") from error


def _by_hand(model: Model, folder: Path, problem: str, remedy: str) -> ModelError:
    try:
        page = address(model.page)
    except ModelError:
        page = model.page
    names = ", ".join(file.name for file in _missing(model, folder))
    return ModelError(
        f"{model.name} is not on this computer, and {problem}",
        f"{remedy}, or download these files from {page} by hand and put them into {folder}: {names}",
    )


def download(file: RemoteFile, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch one file into ``folder`` and return its path. It appears there whole and checked, or not at all.

    It is written to a partial file (see `part_file`), which is renamed once size and checksums match. After a broken
    connection the download is resumed, twice; then the partial file is kept for the next run.

    Args:
        folder: Made if missing.
        progress: As the result of ``progress`` in `download_missing`.

    Raises:
        ModelError: Offline, not found, refused, interrupted for good, the wrong content, no room, no right to write.
    """
    url, target = address(file.url), folder / file.name
    by_hand = f"Fix that and run again, or download it by hand and save it as {target}"
    _check_not_offline(url, by_hand)
    if os.path.isdir(target):
        raise ModelError(f"{target} is a folder, but a file of that name is needed", "Move or rename that folder")
    secrets = _secrets(url)
    is_new = not os.path.exists(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_old_parts(folder)
        _fetch(url, file, target, secrets, progress or NoProgress())
    except WrongContent as error:
        raise ModelError(f"{url} is not the file that was expected: {error}", by_hand) from error
    except _Broken as error:
        raise ModelError(f"{url} could not be downloaded: {error}", by_hand) from error.__cause__
    except OSError as error:
        raise ModelError(f"{url} could not be downloaded: {_local_reason(error, folder)}", by_hand) from error
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # holds something, as it should
                folder.rmdir()
    return target


def _fetch(url: str, file: RemoteFile, target: Path, secrets: dict[str, str], progress: Progress) -> None:
    part = PartFile.open(target)
    try:
        size = f"{file.size / 1e6:.1f} MB" if file.size else "size unknown"
        logger.info("Downloading %s to %s (%s)", url, target, size)
        Download(url, file, part.file, secrets, progress).run()
        part.finish(target)
    except TransferError as error:
        kept = part.keep()
        note = f"; {kept / 1e6:.1f} MB are kept in {part.path} for the next run" if kept else ""
        raise _Broken(reason(error.cause) + note) from error.cause
    except ModelError:  # nothing was requested
        part.keep()
        raise
    except BaseException:  # the user's interrupt, a full disk, the wrong content
        part.remove()
        raise


def _secrets(url: str) -> dict[str, str]:
    """The header with the user's token if ``url`` is on the hub or its mirror, else no headers.

    Raises:
        ModelError: The token is malformed. The message does not show it.
    """
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token or not url.startswith(address(HUB + "/")):
        return {}
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ModelError(
            "the environment variable HF_TOKEN contains a line break, a space or another character that tokens never "
            "contain",
            "Set it to the token only, or remove it",
        )
    return {"Authorization": f"Bearer {token}"}


def _local_reason(error: OSError, folder: Path) -> str:
    """Explain a file system error to the user."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"there is no room left in {folder}"
    return f"{folder} cannot be written to ({error})"


def _check_not_offline(url: str, remedy: str) -> None:
    if offline():
        raise ModelError(f"{url} was not fetched, since HF_HUB_OFFLINE forbids the network", remedy)


def _missing(model: Model, folder: Path) -> list[RemoteFile]:
    return [file for file in model.files if not os.path.isfile(folder / file.name)]


def _check_space(folder: Path, files: list[RemoteFile]) -> None:
    """Say that there is no room before 600 MB are fetched, not after."""
    existing = next((parent for parent in (folder, *folder.absolute().parents) if os.path.isdir(parent)), None)
    try:
        free = shutil.disk_usage(existing or folder).free
        needed = sum(max(0, (file.size or 0) - kept_bytes(folder / file.name)) for file in files)
    except OSError:
        return  # the drive is missing or does not say; then writing to it raises the error
    if free < needed:
        raise ModelError(
            f"there is no room in {folder}: {needed / 1e6:.0f} MB are to be downloaded, {free / 1e6:.0f} MB are free",
            "Make room there and run again",
        )


@contextlib.contextmanager
def _folder_locked(folder: Path, bar: Progress) -> Iterator[None]:
    """Let one thread at a time download into ``folder``. Threads that wait react to the user's interrupt."""
    with _folder_locks_guard:
        lock = _folder_locks.setdefault(folder.absolute(), threading.Lock())
    while not lock.acquire(timeout=POLL_INTERVAL):
        bar.step(0)
    try:
        yield
    finally:
        lock.release()


class _Broken(Exception):
    """The network or the server failed. The message says why, and which bytes are kept."""
