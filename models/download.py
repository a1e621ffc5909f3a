"""Downloads model files with pooch: a file appears complete and with the right checksum, or not at all.

Used only while a workflow runs. Environment variables apply: ``HF_HUB_OFFLINE`` forbids network access, ``HF_ENDPOINT``
names a mirror of the Hugging Face hub, ``HF_TOKEN`` is sent to it, and ``https_proxy`` and the like name proxies.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from ..core.batching import NO_PROGRESS
from ..core.engine import Progress
from ..core.errors import ModelError
from ..core.packages import import_package
from .catalog import HUB, Model, RemoteFile
from .downloader import POLL_INTERVAL, Downloader, TransferError, WrongContent, part_size

logger = logging.getLogger(__name__)

_INSTALL = "Install it into ComfyUI's Python: python -m pip install pooch"


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE`` forbids network access."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def resolve_url(url: str) -> str:
    """The address to request for ``url``: on ``HF_ENDPOINT`` if that is set and ``url`` is on the hub.

    Raises:
        ModelError: ``HF_ENDPOINT`` is not a valid address.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    if not endpoint or not url.startswith(HUB + "/"):
        return url
    try:
        parts = urllib.parse.urlsplit(endpoint)
        _ = parts.port  # raises ValueError if it is not a number
        is_valid = bool(parts.hostname and re.fullmatch(r"https?://[\x21-\x7e]+", endpoint))
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ModelError(
            f"the environment variable HF_ENDPOINT is {endpoint!r}, which is not a valid address",
            f"Set it to an address such as {HUB}, or remove it",
        )
    return endpoint + url.removeprefix(HUB)


def download_missing(model: Model, folder: Path, progress: Callable[[int], Progress] | None = None) -> None:
    """Download the files of ``model`` that are not in ``folder``. Existing files are never changed.

    After a failure, complete files are kept. After a broken connection, so are the bytes of the unfinished file: the
    next run resumes there. An interrupt removes the unfinished file.

    Args:
        folder: Created if missing.
        progress: Called with the number of bytes to download (as far as known, at least 1) if any file is missing,
            before anything is requested or written. May raise a ModelError to forbid the download. ``step`` of its
            result is called with the number of bytes as they arrive, and with 0 several times a second while none
            arrive; it may raise to stop.

    Raises:
        ModelError: The download failed or is forbidden. The message says why, and how to do it by hand.
        DependencyError: pooch is missing or does not work.
    """
    missing = _missing_files(model, folder)
    if not missing:
        return
    try:
        _check_not_offline(resolve_url(missing[0].url), "Run again without it")
        bar = NO_PROGRESS if progress is None else progress(max(1, sum(file.size or 0 for file in missing)))
    except ModelError as error:
        raise _by_hand(model, folder, error.problem, error.remedy) from error
    _check_free_space(folder, missing)
    try:
        for file in missing:
            download(file, folder, bar)
    except ModelError as error:
        raise _by_hand(model, folder, error.problem, "Fix this and run again") from error


def _missing_files(model: Model, folder: Path) -> list[RemoteFile]:
    return [file for file in model.files if not os.path.isfile(folder / file.name)]


def _by_hand(model: Model, folder: Path, problem: str, remedy: str) -> ModelError:
    try:
        page = resolve_url(model.page)
    except ModelError:
        page = model.page
    names = ", ".join(file.name for file in _missing_files(model, folder))
    return ModelError(
        f"{model.name} is not on this computer, and {problem}",
        f"{remedy}, or download these files from {page} by hand and put them in {folder}: {names}",
    )


def download(file: RemoteFile, folder: Path, progress: Progress = NO_PROGRESS) -> Path:
    """Download one file into ``folder``, unless another process has done so meanwhile, and return its path.

    It is written to ``<name>.part``. A broken connection is resumed twice; then the part is kept for the next run.
    Other processes that need the same file wait.

    Args:
        folder: Created if missing.
        progress: Like the result of ``progress`` in `download_missing`.

    Raises:
        ModelError: Offline, not found, refused, broken, wrong content, no space, no permission to write.
        DependencyError: pooch is missing or does not work.
    """
    url, target = resolve_url(file.url), folder / file.name
    by_hand = f"Fix this and run again, or download it by hand and save it as {target}"
    _check_not_offline(url, by_hand)
    if os.path.isdir(target):
        raise ModelError(f"{target} is a folder, but must be a file", "Move or rename that folder")
    headers = _authorization(url)
    _check_certificates()
    is_new = not os.path.exists(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(_part(target), progress):
            if not os.path.isfile(target):
                _fetch(url, file, target, headers, progress)
    except WrongContent as error:
        raise ModelError(f"{url} is not the expected file: {error}", by_hand) from error
    except TransferError as error:
        size = part_size(_part(target))
        note = f"; {size / 1e6:.1f} MB are kept in {_part(target)} for the next run" if size else ""
        raise ModelError(f"{url} could not be downloaded: {error}{note}", by_hand) from error
    except OSError as error:
        raise ModelError(f"{url} could not be downloaded: {_local_reason(error, folder)}", by_hand) from error
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # not empty, as it should be
                folder.rmdir()
    return target


def _fetch(url: str, file: RemoteFile, target: Path, headers: dict[str, str], progress: Progress) -> None:
    """Let pooch download, check and store one file. Drop a damaged part of an earlier run and retry once."""
    pooch = import_package("pooch", _INSTALL, "retrieve", "get_logger")
    pooch.get_logger().setLevel(logging.WARNING)  # it would repeat on stderr what is logged here
    part = _part(target)
    is_resumed = part_size(part) > 0
    size = f"{file.size / 1e6:.1f} MB" if file.size else "size unknown"
    logger.info("Downloading %s to %s (%s)", url, target, size)
    try:
        downloader = Downloader(part, file.size, headers, progress)
        pooch.retrieve(url, file.checksum, target.name, target.parent, downloader=downloader)
    except TransferError:
        if not part_size(part):
            part.unlink(missing_ok=True)
        raise
    except (ValueError, WrongContent) as error:  # pooch raises ValueError for a wrong checksum
        part.unlink(missing_ok=True)
        if not is_resumed:
            raise WrongContent(str(error).partition(". Deleted")[0]) from error
    except BaseException:  # the user's interrupt, a full disk
        part.unlink(missing_ok=True)
        raise
    if not os.path.isfile(target):
        _fetch(url, file, target, headers, progress)


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


@contextlib.contextmanager
def _lock(part: Path, progress: Progress) -> Iterator[None]:
    """Let one thread of one process at a time write ``part``. Waiting threads can be interrupted.

    The lock file exists as long as the part: if it were removed earlier, two processes could each lock their own file
    of that name, and write the part together.
    """
    from filelock import FileLock, Timeout  # torch and ComfyUI require it

    lock = FileLock(f"{part}.lock")
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            progress.step(0)
            time.sleep(POLL_INTERVAL)
    try:
        yield
    finally:
        lock.release()
        if not os.path.lexists(part):
            with contextlib.suppress(OSError):  # another process waits for it, on Windows
                os.unlink(lock.lock_file)


def _authorization(url: str) -> dict[str, str]:
    """The header with the user's token if ``url`` is on the hub or its mirror, else no headers.

    Raises:
        ModelError: The token is malformed. The message does not show it.
    """
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token or not url.startswith(resolve_url(HUB + "/")):
        return {}
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ModelError(
            "the environment variable HF_TOKEN contains a line break, a space or another character that tokens never "
            "contain",
            "Set it to the token only, or remove it",
        )
    return {"Authorization": f"Bearer {token}"}


def _check_certificates() -> None:
    authorities = import_package("certifi", _INSTALL, "where").where()
    try:
        ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise ModelError(
            f"the file of certificate authorities {authorities}, which the Python package certifi names, cannot be "
            f"read ({error})",
            "Install that package again: python -m pip install --force-reinstall certifi",
        ) from error


def _check_not_offline(url: str, remedy: str) -> None:
    if is_offline():
        raise ModelError(f"{url} was not downloaded, because HF_HUB_OFFLINE forbids network access", remedy)


def _check_free_space(folder: Path, files: list[RemoteFile]) -> None:
    """Check for free space before downloading, rather than fail after 600 MB."""
    existing = next((parent for parent in (folder, *folder.absolute().parents) if os.path.isdir(parent)), None)
    try:
        free = shutil.disk_usage(existing or folder).free
        needed = sum(max(0, (file.size or 0) - part_size(_part(folder / file.name))) for file in files)
    except OSError:
        return  # missing drive or unknown free space: writing will raise the error
    if free < needed:
        raise ModelError(
            f"there is not enough space in {folder}: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free",
            "Free some space there and run again",
        )


def _local_reason(error: OSError, folder: Path) -> str:
    """Explain a file system error to the user."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"there is no space left in {folder}"
    return f"{folder} is not writable ({error})"
