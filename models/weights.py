"""Model files from the network: fetched whole and checked, or not at all. Used only while a workflow runs.

The user's environment decides where from: ``HF_HUB_OFFLINE`` forbids the network, ``HF_ENDPOINT`` names a mirror of
the Hugging Face hub, ``HF_TOKEN`` is shown to it, and the usual proxy variables (``https_proxy``, ...) are obeyed.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import http.client
import logging
import os
import re
import secrets
import shutil
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..core.errors import InputError, ModelError
from ..core.interfaces import NoProgress, Progress
from .catalog import HUB, Model, RemoteFile

logger = logging.getLogger(__name__)

ATTEMPTS = 3
RETRY_DELAYS = (1.0, 3.0)  # seconds before the second and the third attempt
TIMEOUT = 20.0  # seconds without a single byte
_CHUNK = 1 << 20  # bytes between two looks at the user's interrupt
_WORTH_RETRYING = {408, 429, 500, 502, 503, 504}  # HTTP: the server is busy or failed, and may not be next time
_STALE = 24 * 3600.0  # seconds after which a .part file is what a killed process left, not a download that runs

_folder_locks: dict[Path, threading.Lock] = {}
_folder_locks_guard = threading.Lock()


def offline() -> bool:
    """Whether the user forbids the network, by ``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE``."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def address(url: str) -> str:
    """``url`` as it is asked for: on ``HF_ENDPOINT`` where that is set and ``url`` is on the hub."""
    endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    if not endpoint or not url.startswith(HUB + "/"):
        return url
    if not endpoint.startswith(("https://", "http://")):
        raise ModelError(
            f"the environment variable HF_ENDPOINT is {endpoint!r}, which is no address",
            f"Set it to an address such as {HUB}, or remove it",
        )
    return endpoint + url.removeprefix(HUB)


def default_folder(kind: str) -> Path:
    """Where models of ``kind`` are kept when there is no ComfyUI to say where: the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maskwright" / kind


def check_name(name: object, what: str) -> str:
    """``name`` if it is a plain relative name, ``folder`` or ``folder/folder``, that leads nowhere else.

    Raises:
        InputError: Not text, empty, an absolute path, a drive letter, ``..``, a backslash or a control character.
    """
    remedy = "Give the name of a model, such as org/model, or of a folder among the models; not a path"
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{what} is {name!r}, which is no name", remedy)
    if re.search(r"[\x00-\x1f\\:]", name):
        raise InputError(f"{what} is {name!r}, which holds a backslash, a colon or a control character", remedy)
    if name.startswith(("/", "~")):
        raise InputError(f"{what} is {name!r}, which is an absolute path", remedy)
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise InputError(f"{what} is {name!r}, which holds an empty part, '.' or '..'", remedy)
    return name


def download_missing(model: Model, folder: Path, progress: Callable[[int], Progress] | None = None) -> None:
    """Fetch those of ``model``'s files that are not in ``folder`` yet. Files that are there are never touched.

    A second thread that wants the same folder waits, and then finds the files there. What was fetched completely
    before a failure stays, so that the next run goes on from there.

    Args:
        folder: Made if missing.
        progress: Called with the bytes to fetch (those that are known, and 1 at least), and only where there are any;
            the answer's ``step`` gets the bytes as they arrive, and may raise to stop.

    Raises:
        ModelError: It cannot be done; says why, and how to do it by hand.
    """
    with _lock_of(folder):
        missing = [file for file in model.files if not (folder / file.name).is_file()]
        if not missing:
            return
        if not offline():
            _check_space(folder, missing)
        try:
            bar = NoProgress() if progress is None or offline() else progress(max(1, _known_bytes(missing)))
            for file in missing:
                download(file, folder, bar)
        except ModelError as error:
            missing = [file.name for file in missing if not (folder / file.name).is_file()]
            raise ModelError(
                f"{model.name} is not on this computer, and {error.problem}",
                f"Run again when that is mended, or download these files from {address(model.page)} "
                f"by hand and put them into {folder}: {', '.join(missing)}",
            ) from error


def download(file: RemoteFile, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch one file into ``folder`` and return its path. It appears there whole and checked, or not at all.

    It is written beside its place under a name that ends in ``.part``, and renamed when size and checksums are right.
    A connection that breaks is taken up again where it broke, twice; one that cannot be made is not tried again.

    Args:
        folder: Made if missing.
        progress: ``step`` gets the bytes as they arrive, and may raise to stop.

    Raises:
        ModelError: Offline, not found, refused, interrupted for good, the wrong content, no room, no right to write.
    """
    url, target = address(file.url), folder / file.name
    by_hand = f"Run again when that is mended, or download it by hand and save it as {target}"
    if offline():
        raise ModelError(f"{url} was not fetched, since HF_HUB_OFFLINE forbids the network", by_hand)

    is_new = not folder.exists()
    part = folder / f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    logger.info("Downloading %s to %s (%s)", url, target, f"{file.size / 1e6:.1f} MB" if file.size else "size unknown")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale_parts(folder, file.name)
        with part.open("xb") as out:
            received = _receive(url, out, file, progress or NoProgress())
            out.flush()
            os.fsync(out.fileno())
        for algorithm, digest in file.checksums.items():
            if received[algorithm] != digest:
                kind = {"sha256": "SHA-256", "md5": "MD5"}[algorithm]
                raise ModelError(
                    f"{url} is not the file that was expected: its {kind} is {received[algorithm]}, not {digest}",
                    by_hand,
                )
        os.replace(part, target)
    except _WrongSize as error:
        raise ModelError(f"{url} is not the file that was expected: {error}", by_hand) from error
    except (OSError, http.client.HTTPException) as error:
        raise ModelError(f"{url} could not be downloaded: {_reason(error, folder)}", by_hand) from error
    finally:
        with contextlib.suppress(OSError):  # is gone already where all went well
            part.unlink()
        if is_new:
            with contextlib.suppress(OSError):  # holds something, as it should
                folder.rmdir()
    return target


def _receive(url: str, out: BinaryIO, file: RemoteFile, progress: Progress) -> dict[str, str]:
    """Write the bytes at ``url`` to ``out``, in several attempts if need be, and return the checksums that are known
    of ``file``. Where its size is not known, the server's word is taken for it."""
    digests, done, reported, size = _digests(file), 0, 0, file.size
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _open(url, done) as response:
                if done and response.status != http.HTTPStatus.PARTIAL_CONTENT:
                    out.seek(0)  # a server that always sends all of it
                    out.truncate()
                    digests, done = _digests(file), 0
                announced = response.length  # None where the server does not say
                if size is None and announced is not None:
                    size = done + announced
                if announced is not None and done + announced != size:
                    raise _WrongSize(f"it has {done + announced} bytes, not {size}")
                while chunk := response.read(_CHUNK):
                    done += len(chunk)
                    if size is not None and done > size:
                        raise _WrongSize(f"it has more than {size} bytes")
                    out.write(chunk)
                    for digest in digests.values():
                        digest.update(chunk)
                    progress.step(max(0, done - reported))
                    reported = max(done, reported)
            if size is None or done == size:
                return {algorithm: digest.hexdigest() for algorithm, digest in digests.items()}
            if announced is None:
                raise _WrongSize(f"it has {done} bytes, not {size}")
            raise http.client.IncompleteRead(b"", size - done)
        except (OSError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS or not _may_go_better(error):
                raise
            logger.warning("%s: %s after %d of %s bytes; trying again", url, _reason(error), done, size or "unknown")
            time.sleep(RETRY_DELAYS[attempt - 1])
    raise AssertionError("unreachable: the last attempt returns or raises")


def _digests(file: RemoteFile) -> dict[str, hashlib._Hash]:
    # MD5 tells a wrong file from the right one here and guards no secret; Pythons built for FIPS want to hear that.
    return {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in file.checksums}


def _open(url: str, start: int) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "maskwright"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    token = os.environ.get("HF_TOKEN", "").strip()
    if token and url.startswith(address(HUB + "/")):
        # Not for the servers that the hub sends us on to.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    # An opener of our own: another pack may have put one of its own behind urlopen.
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=_tls())).open(request, timeout=TIMEOUT)


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        import certifi  # some Pythons on macOS know no authorities of their own
    except ImportError:
        return context
    context.load_verify_locations(certifi.where())
    return context


def _may_go_better(error: Exception) -> bool:
    """Whether it is worth asking once more: the server is busy, or a connection that stood has broken."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _WORTH_RETRYING
    if isinstance(error, urllib.error.URLError):
        return False  # no connection at all
    return isinstance(error, (ConnectionError, TimeoutError, http.client.HTTPException))


def _reason(error: Exception, folder: Path | None = None) -> str:
    """What ``error`` means to the user."""
    if isinstance(error, urllib.error.HTTPError):
        meaning = {
            401: "the server wants to know who asks (set HF_TOKEN)",
            403: "the server refused it",
            404: "the server does not have it",
        }.get(error.code, "the server failed")
        return f"{meaning} (HTTP {error.code} {error.reason})"
    if isinstance(error, urllib.error.URLError):
        return f"there is no connection ({error.reason})"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended before the last byte"
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT:g} seconds"
    if isinstance(error, (ConnectionError, http.client.HTTPException, ssl.SSLError)):
        return f"the connection broke ({type(error).__name__}: {error})"
    if getattr(error, "errno", None) in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"there is no room left in {folder}"
    return f"{folder} cannot be written to ({error})"


def _known_bytes(files: list[RemoteFile]) -> int:
    return sum(file.size or 0 for file in files)


def _check_space(folder: Path, files: list[RemoteFile]) -> None:
    """Say that there is no room before 600 MB are fetched, not after."""
    existing = next((parent for parent in (folder, *folder.absolute().parents) if parent.is_dir()), None)
    if existing is None:
        return  # a drive that is not there; making the folder will say so
    free, needed = shutil.disk_usage(existing).free, _known_bytes(files)
    if free < needed:
        raise ModelError(
            f"there is no room in {folder}: {needed / 1e6:.0f} MB are to be downloaded, {free / 1e6:.0f} MB are free",
            "Make room there and run again",
        )


def _remove_stale_parts(folder: Path, name: str) -> None:
    for part in folder.glob(f"{glob.escape(name)}.*.part"):
        if time.time() - part.stat().st_mtime > _STALE:
            part.unlink(missing_ok=True)


def _lock_of(folder: Path) -> threading.Lock:
    with _folder_locks_guard:
        return _folder_locks.setdefault(folder.absolute(), threading.Lock())


class _WrongSize(Exception):
    """What the server has is not what was expected; asking again would not change that."""
